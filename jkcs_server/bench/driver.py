"""The closed loop: connections that always have so many requests in flight, and a clock at each end.

Each connection keeps its window full: as many requests leave, in one write, as answers came in. Knows no
wire protocol; bytes come from and go to a `Line`. Driven by `measure.py`, `fanout.py` and `turnstile.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import cast

from jkcs_server.bench.figures import Latencies
from jkcs_server.bench.line import Line, LoadFailed
from jkcs_server.bench.work import Work

Address = tuple[str, int]

CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 30.0
"""How long the answers to requests that are under way may take once the load has stopped."""
GOODBYE_SECONDS = 5.0
SETUP_SECONDS = 120.0
"""For preparing, checking and cleaning up, each."""


class Meter:
    """What all connections of one load have done; read by whoever measures."""

    def __init__(self) -> None:
        self.answered = 0
        self.notified = 0
        """Watches that have told of their change."""
        self.latencies: Latencies | None = None
        """Where latencies go while it is measured; None otherwise."""
        self.failure: LoadFailed | None = None
        """Of the first connection that failed."""
        self.on_progress: Callable[[], None] | None = None
        """Called whenever one of the above has changed."""

    def fail(self, failure: LoadFailed) -> None:
        self.failure = self.failure or failure
        self.progress()

    def progress(self) -> None:
        if self.on_progress is not None:
            self.on_progress()

    async def until(self, fact: Callable[[], bool], seconds: float) -> None:
        """Wait for what only the meter tells; one waits at a time. Raises LoadFailed, also when it takes too long.

        For many connections at once: no task is woken for each of them.
        """
        assert self.on_progress is None
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if done.done():
                return
            if self.failure is not None:
                done.set_exception(self.failure)
            elif fact():
                done.set_result(None)

        self.on_progress = look
        look()
        try:
            async with asyncio.timeout(seconds):
                await done
        except TimeoutError:
            raise LoadFailed(f"answers or events are still missing after {seconds:g} s") from None
        finally:
            self.on_progress = None


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
        """End the session if it can be ended, and then the connection."""
        with contextlib.suppress(LoadFailed):  # the session will expire by itself
            await self.part()

    async def part(self) -> None:
        """End the session, and then the connection. Raises LoadFailed when the server does not confirm it."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise LoadFailed("the connection was lost")
        self._leaving = True
        left = self._idle = self._loop.create_future()
        transport.write(self.line.goodbye())
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await left
        except TimeoutError:
            raise LoadFailed(f"the end of the session is not confirmed within {GOODBYE_SECONDS:g} s") from None
        finally:
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
        failure = LoadFailed(f"{host}:{port}: {reason}")
        self._idle.set_exception(failure)
        self._idle.exception()  # looked at: it may come after the last one who waits
        self._meter.fail(failure)
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.line.hello())

    def data_received(self, data: bytes) -> None:
        try:
            if self._leaving:
                if self.line.parted(data) and not self._idle.done():
                    self._idle.set_result(None)
            elif not self._greeted:
                self._greeted = self.line.greeted(data)
                if self._greeted:
                    self._idle.set_result(None)
            else:
                self._on_data(data)
        except LoadFailed as error:
            self._fail(str(error))

    def _on_data(self, data: bytes) -> None:
        line, meter = self.line, self._meter
        notified = line.notified
        count = line.answers(data)
        meter.notified += line.notified - notified
        if count:
            self._on_answers(count)
        meter.progress()

    def _on_answers(self, count: int) -> None:
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
        told = self._idle.done() and (self._leaving or self._idle.exception() is not None)
        if not told:
            self._fail(f"the connection was lost: {error or 'closed by the server'}")


@contextlib.asynccontextmanager
async def opened(connections: Sequence[Connection]) -> AsyncIterator[None]:
    """Open them for a while. Raises LoadFailed; none is left open however it ends."""
    try:
        await open_all(connections)
        yield
        await close_all(connections)
    finally:
        for connection in connections:
            connection.abort()


async def unless_lost(connections: Sequence[Connection], seconds: float) -> None:
    """Let the load run; when a connection fails meanwhile, say so at once. Raises LoadFailed."""
    waiting = [asyncio.ensure_future(connection.drained()) for connection in connections]
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for each in done:
            each.result()
    finally:
        for each in waiting:
            each.cancel()


async def limited(
    connections: Sequence[Connection], works: Sequence[Work], window: int, seconds: float = SETUP_SECONDS
) -> None:
    """Do works that have a limit, one on each connection, to their end. Raises LoadFailed also for any error."""
    for connection, work in zip(connections, works, strict=True):
        connection.line.errors.clear()
        connection.run(work, window)
    await finish_all(connections, seconds)
    for connection, work in zip(connections, works, strict=True):
        if connection.line.errors:
            reason, count = connection.line.errors.most_common(1)[0]
            raise LoadFailed(f"{work.kind.value} in {work.folder or '/'}: {reason} ({count} times)")


def errors_of(connections: Sequence[Connection]) -> Counter[str]:
    """What all their lines complain of, added up."""
    return sum((connection.line.errors for connection in connections), Counter[str]())


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
