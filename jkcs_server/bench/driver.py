"""The closed loop: connections that always have so many requests in flight, and a clock at each end.

Each connection keeps its window full: as many requests leave, in one write, as answers came in. Knows no
wire protocol; bytes come from and go to a `Line`. Driven by `measure.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from jkcs_server.bench.figures import Latencies
from jkcs_server.bench.line import Line, LoadFailed
from jkcs_server.bench.work import Work

Address = tuple[str, int]

CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 30.0
"""How long the answers to requests that are under way may take once the load has stopped."""
GOODBYE_SECONDS = 5.0


class Meter:
    """What all connections of one load have done; read by whoever measures."""

    def __init__(self) -> None:
        self.answered = 0
        self.latencies: Latencies | None = None
        """Where latencies go while it is measured; None otherwise."""


class Connection(asyncio.Protocol):
    """One connection of the load. After a failure, whoever waits for it is told."""

    def __init__(self, address: Address, line: Line, meter: Meter) -> None:
        self.address = address
        self.line = line
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self._leaving = False
        self._running = False
        self._unsent: int | None = None
        """Requests that the work still has to give; None: without end."""
        self._sent_at: deque[tuple[float, int]] = deque()
        """When the requests in flight left, and how many at a time; in the order in which they are answered."""
        self._idle: asyncio.Future[None] = self._loop.create_future()
        """Done while nothing is in flight and nothing is to be sent; fails with LoadFailed."""

    async def open(self) -> None:
        """Connect and open a session. Raises LoadFailed."""
        host, port = self.address
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._loop.create_connection(lambda: self, host, port)
                await asyncio.shield(self._idle)
        except TimeoutError:
            raise LoadFailed(f"{host}:{port} does not answer within {CONNECT_SECONDS:g} s") from None
        except OSError as error:
            raise LoadFailed(f"cannot connect to {host}:{port}: {error.strerror or error}") from None

    def run(self, work: Work, window: int) -> None:
        """Begin to work, with `window` requests in flight."""
        assert self._idle.done() and not self._sent_at, self.address
        self._idle.result()
        self.line.begin(work)
        self._idle = self._loop.create_future()
        self._running = True
        self._unsent = work.limit
        self._send(window)
        self._maybe_idle()

    def stop(self) -> None:
        """Send no more; what is in flight is still answered."""
        self._running = False
        self._maybe_idle()

    async def drained(self) -> None:
        """Wait until all that was sent is answered. Raises LoadFailed when the connection failed."""
        await asyncio.shield(self._idle)

    async def close(self) -> None:
        """End the session, and then the connection."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._leaving = True
        left = self._idle = self._loop.create_future()
        transport.write(self.line.goodbye())
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await left
        except (TimeoutError, LoadFailed):
            pass  # the session will expire by itself
        transport.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self, count: int) -> None:
        if self._unsent is not None:
            count = min(count, self._unsent)
            self._unsent -= count
        if count:
            assert self._transport is not None
            self._transport.write(self.line.requests(count))
            self._sent_at.append((time.perf_counter(), count))

    def _maybe_idle(self) -> None:
        finished = not self._running or self._unsent == 0
        if finished and not self._sent_at and not self._idle.done():
            self._idle.set_result(None)

    def _fail(self, reason: str) -> None:
        host, port = self.address
        if self._idle.done():
            # Nobody waits; the next to run or wait is told.
            self._idle = self._loop.create_future()
        self._idle.set_exception(LoadFailed(f"{host}:{port}: {reason}"))
        self._idle.exception()  # looked at: it may come after the last one who waits
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.line.hello())

    def data_received(self, data: bytes) -> None:
        try:
            if self._leaving:
                if not self._idle.done():
                    self._idle.set_result(None)
            elif not self._greeted:
                self._greeted = self.line.greeted(data)
                if self._greeted:
                    self._idle.set_result(None)
            else:
                self._on_answers(self.line.answers(data))
        except LoadFailed as error:
            self._fail(str(error))

    def _on_answers(self, count: int) -> None:
        if not count:
            return
        meter = self._meter
        meter.answered += count
        now = time.perf_counter()  # uvloop's own time counts whole milliseconds
        sent_at, latencies, left = self._sent_at, meter.latencies, count
        while left:
            if not sent_at:
                raise LoadFailed("more answers than requests")
            at, batch = sent_at[0]
            taken = min(left, batch)
            left -= taken
            if taken == batch:
                sent_at.popleft()
            else:
                sent_at[0] = (at, batch - taken)
            if latencies is not None:
                latencies.add(now - at, taken)
        if self._running:
            self._send(count)
        self._maybe_idle()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._leaving and not (self._idle.done() and self._idle.exception() is not None):
            self._fail(f"the connection was lost: {error or 'closed by the server'}")


async def open_all(connections: Sequence[Connection]) -> None:
    """Open them all at once. Raises LoadFailed; the caller then aborts those that are open."""
    await _each(connections, lambda connection: asyncio.ensure_future(connection.open()))


async def drain_all(connections: Sequence[Connection]) -> None:
    """Stop them all and wait for the last answers. Raises LoadFailed."""
    for connection in connections:
        connection.stop()
    await finish_all(connections, DRAIN_SECONDS)


async def finish_all(connections: Sequence[Connection], seconds: float) -> None:
    """Wait until the limited work of all connections is done. Raises LoadFailed."""
    try:
        async with asyncio.timeout(seconds):
            await _each(connections, lambda connection: asyncio.ensure_future(connection.drained()))
    except TimeoutError:
        raise LoadFailed(f"requests are still unanswered after {seconds:g} s") from None


async def close_all(connections: Sequence[Connection]) -> None:
    await _each(connections, lambda connection: asyncio.ensure_future(connection.close()))


async def _each(connections: Sequence[Connection], begin: Callable[[Connection], asyncio.Future[None]]) -> None:
    """Do it for all at once; when one fails, the others are given up and its reason is raised."""
    tasks = [begin(connection) for connection in connections]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
