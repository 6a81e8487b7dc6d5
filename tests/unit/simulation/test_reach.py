"""The rare states: each is looked for somewhere, and a run comes to some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.plan import Narrowing
from tests.simulation.reach import STATES, Reach
from tests.simulation.run import run_seed

FOLDER = Path(__file__).parents[2] / "simulation"


def test_every_state_is_looked_for() -> None:
    """One that nothing can ever see would fail every long run, or worse, be taken out of the list."""
    assert len(STATES) >= 40
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.py")))
    assert [state for state in STATES if code.count(f'"{state}"') < 2] == []


def test_a_state_must_be_in_the_list() -> None:
    """A misspelt one would be counted where nobody looks."""
    reach = Reach(dict)
    reach.see("split vote")
    assert reach.seen == {"split vote": 1}
    with pytest.raises(AssertionError):
        reach.see("split votes")


def test_runs_with_crashes_come_to_rare_states() -> None:
    """Else the counters would not be joined to anything."""
    seen = run_seed(5, Narrowing(frozenset({"crash_loop", "crash", "lost_names"}))).counts.states
    assert seen["proposal forwarded"] and seen["read asked by a follower"] and len(seen) > 5
