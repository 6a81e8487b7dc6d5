"""What came out: latencies, rates, processor time, and how they compare with what was asked for.

Pure arithmetic. Filled by `measure.py` and what it calls, shown by `report.py`.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from itertools import accumulate


class Latencies:
    """Seconds from sending a request to having its answer, collected in batches."""

    def __init__(self) -> None:
        self._batches: list[tuple[float, int]] = []
        self.count = 0

    def add(self, seconds: float, count: int) -> None:
        self._batches.append((seconds, count))
        self.count += count

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """For each share (0.5 is the median), the smallest latency that this share of requests did not exceed."""
        if not self.count:
            return [0.0] * len(shares)
        ordered = sorted(self._batches)
        passed = list(accumulate(count for _, count in ordered))
        return [ordered[bisect_left(passed, share * self.count)][0] for share in shares]


@dataclass(frozen=True, slots=True)
class Figures:
    """One measured round of one cell, or the medians of several. None: does not apply, or cannot be known."""

    ops_per_second: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    worst_ms: float | None = None
    """Of several rounds, the worst of all."""
    server_us_per_op: float | None = None
    """Processor time, user and system, of all servers together."""
    load_percent: float | None = None
    """Processor time of the load generator, of one processor: near 100 it is the generator that was measured."""
    seconds: float | None = None
    """Of a restart: from starting the processes until the last of them answers."""
    megabytes: float | None = None
    """Of a memory cell: resident, of the largest server."""
    megabytes_all: float | None = None
    """Of a memory cell: resident, of all servers together."""
    bytes_per_key: float | None = None
    """Of a memory cell: by how much a server has grown for each key, on the average of all servers."""
    load_seconds: float | None = None
    """Of a memory cell: how long it took to create the keys."""


@dataclass(slots=True)
class Outcome:
    """One round of one cell."""

    figures: Figures = Figures()
    errors: Counter[str] = field(default_factory=Counter)
    """What went wrong, and how often. Anything here fails the cell."""


def with_latencies(figures: Figures, latencies: Latencies) -> Figures:
    """The same figures and how long it took."""
    p50, p95, p99, worst = (1000 * each for each in latencies.percentiles((0.5, 0.95, 0.99, 1.0)))
    return replace(figures, p50_ms=p50, p95_ms=p95, p99_ms=p99, worst_ms=worst)


def medians(rounds: Sequence[Figures]) -> Figures:
    """Figure by figure, but the worst of the worst; a round that lacks a figure does not count for it."""
    found: dict[str, float | None] = {}
    for each in fields(Figures):
        values = [value for value in (getattr(figures, each.name) for figures in rounds) if value is not None]
        if values:
            found[each.name] = max(values) if each.name == "worst_ms" else statistics.median(values)
    return Figures(**found)


class Mark(Enum):
    """How a figure compares with its targets."""

    AIM = "aim"  # as good as what is aimed at
    OK = "ok"  # as good as what must be
    SHORT = "short"
    NONE = "-"  # no target, or no figure


def mark(value: float | None, accept: float | None, aim: float | None, *, more_is_better: bool) -> Mark:
    """Compare a figure with what must be and with what is aimed at."""
    if value is None or accept is None:
        return Mark.NONE
    sign = -1 if more_is_better else 1
    if aim is not None and sign * value <= sign * aim:
        return Mark.AIM
    return Mark.OK if sign * value <= sign * accept else Mark.SHORT
