"""One key, many sessions that watch it: how long until the last of them has heard of a change.

In each round all sessions read the key and leave a watch, then one more session sets it. Once all have been told,
the next round begins. Called by `measure.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from jkcs_server.bench.cells import Pace
from jkcs_server.bench.driver import Connection, Meter, errors_of
from jkcs_server.bench.figures import Latencies, Outcome, with_latencies
from jkcs_server.bench.usage import Stretch
from jkcs_server.bench.work import Kind, Work

ROUND_SECONDS = 30.0
"""How long the reads, or the events, of one round may take."""


class FanOut:
    """Sessions around one key: a writer and its watchers, all opened, all counted by one meter."""

    def __init__(self, writer: Connection, watchers: Sequence[Connection], meter: Meter, change: Work) -> None:
        """`change` sets one key that exists, once."""
        assert change.kind is Kind.SET and change.cycle == change.limit == 1, change
        self.rounds = 0
        self._writer = writer
        self._watchers = watchers
        self._meter = meter
        self._change = change
        self._watch = Work(Kind.WATCH, change.folder, change.value_bytes, cycle=1, limit=1, stem=change.stem)

    async def measure(self, pids: Sequence[int | None], pace: Pace) -> Outcome:
        """An operation is one session that was told. Raises LoadFailed."""
        warm = time.perf_counter() + pace.warmup
        while time.perf_counter() < warm:
            await self._round()
        latencies, stretch = Latencies(), Stretch(pids)
        while not latencies.count or stretch.seconds < pace.seconds:
            latencies.add(await self._round(), 1)
        figures = stretch.figures(latencies.count * len(self._watchers))
        return Outcome(with_latencies(figures, latencies), errors_of([self._writer, *self._watchers]))

    async def _round(self) -> float:
        """Seconds from sending the change until the last watcher has been told."""
        meter, count = self._meter, len(self._watchers)
        armed, told = meter.answered + count, meter.notified + count
        for watcher in self._watchers:
            watcher.run(self._watch, 1)
        await meter.until(lambda: meter.answered >= armed, ROUND_SECONDS)
        ended = 0.0

        def all_told() -> bool:
            nonlocal ended
            ended = time.perf_counter()
            return meter.notified >= told

        began = time.perf_counter()
        self._writer.run(self._change, 1)
        await meter.until(all_told, ROUND_SECONDS)
        await self._writer.drained()
        self.rounds += 1
        return ended - began
