"""What the simulator prints: a line for a run, a failure with its command, and the tables of a range of runs.

Decides nothing about runs, but which counters of a long range may not be zero.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from tests.simulation.crash_points import NAMES
from tests.simulation.plan import ALL_FAULTS, NOTHING_TAKEN, Narrowing
from tests.simulation.reach import STATES
from tests.simulation.run import Counts, Outcome

TRACE_LINES_SHOWN = 40
COLUMNS = 3


def describe(outcome: Outcome) -> str:
    """One line for one run."""
    return (
        f"seed {outcome.seed}: {outcome.invariant or 'ok'}; {outcome.plan.describe()}; {outcome.calls} calls, "
        f"{outcome.commits} commits, {outcome.grants} grants, {outcome.simulated_seconds:.1f} s simulated in "
        f"{outcome.cpu_seconds:.2f} s, trace {outcome.fingerprint:08x}"
    )


def replay(seed: int, narrowing: Narrowing) -> str:
    """The command that runs it again."""
    options = narrowing.options()
    return f"python -m tests.simulation --seed {seed}{' ' if options else ''}{options}"


def explain(outcome: Outcome, narrowing: Narrowing = NOTHING_TAKEN) -> str:
    """What is needed to understand a failure and to see it again."""
    return "\n".join(
        [
            f"SIMFAIL {outcome.invariant} seed={outcome.seed} replay: {replay(outcome.seed, narrowing)}",
            *outcome.lines[-TRACE_LINES_SHOWN:],
            outcome.detail,
        ]
    )


class Summary:
    """What a range of runs comes to."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failed: list[tuple[int, str]] = []
        """Seed and invariant."""
        self.simulated_seconds = 0.0
        self.cpu_seconds = 0.0
        self.calls = 0
        self.counts = Counts.nothing()

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        if outcome.invariant:
            self.failed.append((outcome.seed, outcome.invariant))
        self.simulated_seconds += outcome.simulated_seconds
        self.cpu_seconds += outcome.cpu_seconds
        self.calls += outcome.calls
        self.counts.add(outcome.counts)

    @property
    def speed(self) -> float:
        """Simulated seconds per second of one core."""
        return self.simulated_seconds / max(self.cpu_seconds, 0.001)

    def missing(self) -> list[str]:
        """What a long range must have come to and has not."""
        counts = self.counts
        return [
            *(f"fault {kind}: never happened" for kind in ALL_FAULTS if not counts.faults[kind]),
            *(f"crash point {name}: never reached" for name in NAMES if not counts.points_reached[name]),
            *(
                f"crash point {name}: no server was ended there"
                for name in NAMES
                if counts.points_reached[name] and not counts.points_crashed[name]
            ),
            *(f"state {name!r}: never seen" for name in STATES if not counts.states[name]),
        ]

    def tables(self) -> str:
        """All counters, for a reader."""
        counts = self.counts
        points = {name: f"{counts.points_reached[name]}/{counts.points_crashed[name]}" for name in NAMES}
        hit = sum(bool(counts.points_crashed[name]) for name in NAMES)
        seen = sum(bool(counts.states[name]) for name in STATES)
        return "\n".join(
            [
                f"faults ({sum(counts.faults.values())} in all):",
                *_columns((kind, str(counts.faults[kind])) for kind in ALL_FAULTS),
                f"crash points (reached/ended there; ended at {hit} of {len(NAMES)}):",
                *_columns(points.items()),
                f"rare states ({seen} of {len(STATES)} seen):",
                *_columns((name, str(counts.states[name])) for name in STATES),
            ]
        )

    def line(self) -> str:
        """The last line of a range."""
        return (
            f"{self.seeds} seeds, {len(self.failed)} failed; {self.calls} calls in {self.simulated_seconds:.0f} "
            f"simulated seconds, {self.cpu_seconds:.0f} seconds of CPU: {self.speed:.0f} simulated seconds per "
            "second and core"
        )

    def as_json(self) -> str:
        """All of it, for a program."""
        counts = self.counts
        return json.dumps(
            {
                "seeds": self.seeds,
                "failed": [{"seed": seed, "invariant": invariant} for seed, invariant in self.failed],
                "calls": self.calls,
                "simulated_seconds": round(self.simulated_seconds, 3),
                "cpu_seconds": round(self.cpu_seconds, 3),
                "simulated_seconds_per_cpu_second": round(self.speed, 1),
                "faults": _sorted(counts.faults, ALL_FAULTS),
                "crash_points_reached": _sorted(counts.points_reached, NAMES),
                "crash_points_ended": _sorted(counts.points_crashed, NAMES),
                "states": _sorted(counts.states, STATES),
            },
            indent=1,
        )


def _sorted(counter: Counter[str], names: Iterable[str]) -> dict[str, int]:
    return {name: counter[name] for name in names}


def _columns(cells: Iterable[tuple[str, str]]) -> list[str]:
    texts = [f"{value:>10} {name}" for name, value in cells]
    width = max(map(len, texts), default=0) + 1
    rows = -(-len(texts) // COLUMNS)
    return ["".join(text.ljust(width) for text in texts[row::rows]).rstrip() for row in range(rows)]
