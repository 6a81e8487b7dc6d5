"""A failure made small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from journal.storage.segment import Segment
from tests.simulation.__main__ import main
from tests.simulation.plan import EVENT_FAULTS, NOTHING_TAKEN, Narrowing, draw, numbers_in, ranges_of
from tests.simulation.run import Counts, Outcome, run_seed
from tests.simulation.shrink import minimize, shrink

SEED = 1


def outcome_of(seed: int, narrowing: Narrowing, invariant: str) -> Outcome:
    plan = draw(seed, narrowing)
    return Outcome(seed, plan, invariant, "", 1.0, 1.0, 1, 1, 1, 0, 0, 20, Counts.nothing(), ())


def test_minimize_finds_the_two_things_that_it_takes() -> None:
    """Anything else in the command line would lead the reader astray."""
    runs: list[Sequence[int]] = []

    def fails(kept: Sequence[int]) -> bool:
        runs.append(kept)
        return {3, 17} <= set(kept)

    assert minimize(range(20), fails) == [3, 17]
    assert len(runs) < 60


def test_minimize_finds_out_that_nothing_is_needed() -> None:
    """Most bugs need no fault at all once they are there."""
    assert minimize(range(20), lambda kept: True) == []


def test_only_the_same_failure_counts() -> None:
    """Otherwise one bug would be shrunk into another."""
    kinds = draw(SEED).faults
    needed = {kinds[0], kinds[-1]}

    def run(seed: int, narrowing: Narrowing) -> Outcome:
        plan = draw(seed, narrowing)
        if not needed <= set(plan.faults):
            return outcome_of(seed, narrowing, "I14")
        fails = 7 not in narrowing.skip_events and "locker" in plan.roles and plan.chaos_seconds > 5
        return outcome_of(seed, narrowing, "I7" if fails else "")

    shrunk = shrink(outcome_of(SEED, NOTHING_TAKEN, "I7"), NOTHING_TAKEN, lambda line: None, run)
    left = shrunk.narrowing
    assert left.faults == needed
    assert frozenset(range(20)) - left.skip_events == {7}
    assert left.roles == ("locker",)
    assert left.servers == 1
    assert left.seconds is not None and 5 < left.seconds < 9


def test_a_planted_bug_is_shrunk_to_a_command_that_still_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log that is never synced breaks its promise with the first commit: no fault is needed, and hardly a client."""

    def append_without_sync(self: Segment, entries: Sequence[Any]) -> None:
        disk, self._disk = self._disk, _Forgetful(self._disk)
        try:
            append(self, entries)
        finally:
            self._disk = disk

    append = Segment.append
    monkeypatch.setattr(Segment, "append", append_without_sync)
    assert main(["--seed", str(SEED), "--shrink"]) == 1
    out = capsys.readouterr().out
    command = next(line for line in out.splitlines() if line.startswith("shrunk in "))
    assert "--faults none" in command and "--roles none" in command
    arguments = command.partition("python -m tests.simulation ")[2].split()
    invariant = out.partition("SIMFAIL ")[2].partition(" ")[0]
    assert main(arguments) == 1
    assert f"SIMFAIL {invariant} " in capsys.readouterr().out


class _Forgetful:
    """A disk whose syncs do nothing."""

    def __init__(self, disk: Any) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def sync(self, name: str) -> None:
        """Forgotten."""


def test_ranges_and_numbers_are_each_others_reverse() -> None:
    """What the shrinker prints, the command must read."""
    for numbers in (frozenset({4}), frozenset({0, 1, 2, 5, 9, 10}), frozenset(range(50))):
        assert numbers_in(ranges_of(numbers)) == numbers
    assert ranges_of(frozenset({0, 1, 2, 5})) == "0-2,5"


def test_leaving_one_event_out_leaves_the_others_what_they_were() -> None:
    """A shrinker that shifted every draw behind the event would search in other runs."""
    seed, narrowing = 1, Narrowing(seconds=4.0)
    whole = run_seed(seed, narrowing)
    less = run_seed(seed, Narrowing(seconds=4.0, skip_events=frozenset({1})))
    assert whole.events == less.events > 1
    happened, left = (sum(each.counts.faults[kind] for kind in EVENT_FAULTS) for each in (whole, less))
    assert happened > left
