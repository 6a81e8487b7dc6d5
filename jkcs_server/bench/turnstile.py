"""Sessions that come and go: connect, open, end, and the next one, so many at a time.

Called by `measure.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from jkcs_server.bench.cells import Pace
from jkcs_server.bench.driver import Address, Connection, Meter
from jkcs_server.bench.figures import Latencies, Outcome, with_latencies
from jkcs_server.bench.line import Line
from jkcs_server.bench.usage import Stretch

POLL_SECONDS = 0.01
"""Between two looks whether the first session has come and gone."""


class Turnstile:
    """Lets sessions through to the servers in turn."""

    def __init__(self, line: Callable[[], Line], addresses: Sequence[Address]) -> None:
        self._line = line
        self._addresses = addresses
        self._passed = 0
        """Sessions that were opened and ended, each confirmed by the server."""
        self._latencies: Latencies | None = None
        """From connecting until the session is open; None while it is not measured."""
        self._over = False

    async def measure(self, abreast: int, pids: Sequence[int | None], pace: Pace) -> Outcome:
        """An operation is one session. Raises LoadFailed when one could not be opened or ended."""
        lanes = [asyncio.ensure_future(self._pass(number)) for number in range(abreast)]
        try:
            await _unless_ended(lanes, pace.warmup)
            latencies = self._latencies = Latencies()
            stretch, passed = Stretch(pids), self._passed
            await _unless_ended(lanes, pace.seconds)
            while not latencies.count or self._passed == passed:
                await _unless_ended(lanes, POLL_SECONDS)  # ends: to open or end a session takes only so long
            figures = stretch.figures(self._passed - passed)
            self._latencies, self._over = None, True
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        return Outcome(with_latencies(figures, latencies))

    async def _pass(self, number: int) -> None:
        """One session after the other."""
        while not self._over:
            address = self._addresses[number % len(self._addresses)]
            number += 1
            connection = Connection(address, self._line(), Meter())
            began = time.perf_counter()
            try:
                await connection.open()
                if self._latencies is not None:
                    self._latencies.add(time.perf_counter() - began, 1)
                await connection.part()
            finally:
                connection.abort()
            self._passed += 1


async def _unless_ended(lanes: Sequence[asyncio.Future[None]], seconds: float) -> None:
    """Let them run for a while; one that ends has failed, and says why. Raises LoadFailed."""
    done, _ = await asyncio.wait(lanes, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        each.result()
