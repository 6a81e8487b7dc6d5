"""Makes a failing run small: takes away whatever it fails without, and prints what is left as a command.

First kinds of faults, then single events, then clients, servers and time. A step counts only if the very same
invariant fails. Knows nothing of what the things are; it asks for a run of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tests.simulation.plan import Narrowing, draw
from tests.simulation.run import Outcome, run_seed

T = TypeVar("T")
RUNS_MAX = 300
SECONDS_LEAST = 1.0

Run = Callable[[int, Narrowing], Outcome]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left of a failing run."""

    narrowing: Narrowing
    outcome: Outcome
    runs: int
    """How many were needed to find it."""


def shrink(failing: Outcome, narrowing: Narrowing, say: Callable[[str], None], run: Run = run_seed) -> Shrunk:
    """The smallest run found that breaks the same invariant as `failing`, which is the run of `narrowing`."""
    return _Shrinker(failing, narrowing, say, run).shrink()


class _Shrinker:
    def __init__(self, failing: Outcome, narrowing: Narrowing, say: Callable[[str], None], run: Run) -> None:
        assert failing.invariant, failing.seed
        self._seed = failing.seed
        self._invariant = failing.invariant
        self._best = narrowing
        self._outcome = failing
        self._say = say
        self._run = run
        self._runs = 0

    def shrink(self) -> Shrunk:
        self._shrink_faults()
        self._shrink_events()
        self._shrink_roles()
        self._shrink_servers()
        self._shrink_seconds()
        return Shrunk(self._best, self._outcome, self._runs)

    def _fails(self, narrowing: Narrowing) -> bool:
        """Whether what is left still breaks the same promise; if so it is the best so far."""
        if self._runs >= RUNS_MAX:
            return False
        self._runs += 1
        outcome = self._run(self._seed, narrowing)
        if outcome.invariant != self._invariant:
            return False
        self._best, self._outcome = narrowing, outcome
        self._say(f"still {self._invariant}: {narrowing.options() or 'everything'}")
        return True

    def _shrink_faults(self) -> None:
        kinds = draw(self._seed, self._best).faults
        minimize(kinds, lambda kept: self._fails(replace(self._best, faults=frozenset(kept))))

    def _shrink_events(self) -> None:
        skipped = self._best.skip_events
        numbers = [number for number in range(self._outcome.events) if number not in skipped]
        every = frozenset(range(self._outcome.events))
        minimize(numbers, lambda kept: self._fails(replace(self._best, skip_events=every - frozenset(kept))))

    def _shrink_roles(self) -> None:
        numbered = list(enumerate(draw(self._seed, self._best).roles))
        minimize(numbered, lambda kept: self._fails(replace(self._best, roles=tuple(role for _, role in kept))))

    def _shrink_servers(self) -> None:
        servers = draw(self._seed, self._best).servers
        for fewer in (1, 3):
            if fewer < servers and self._fails(replace(self._best, servers=fewer)):
                return

    def _shrink_seconds(self) -> None:
        seconds = draw(self._seed, self._best).chaos_seconds
        while seconds > SECONDS_LEAST:
            seconds = max(SECONDS_LEAST, round(seconds * 0.6, 1))
            if not self._fails(replace(self._best, seconds=seconds)):
                return


def minimize(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Delta debugging: a small part of `items`, in order, with which it still fails. All of them do."""
    kept = list(items)
    if kept and fails([]):
        return []
    pieces = 2
    while len(kept) >= 2:
        size = -(-len(kept) // pieces)
        for start in range(0, len(kept), size):
            fewer = kept[:start] + kept[start + size :]
            if fails(fewer):
                kept = fewer
                pieces = max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(pieces * 2, len(kept))
    return kept
