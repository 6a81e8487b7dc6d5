"""Every promise notices the bug that breaks it: planted bugs are found within a few seeds.

JKCS_CORE_PLANTED_SEEDS changes how many may be needed; the bugs that take more than the default are left out
of an ordinary run.
"""

from __future__ import annotations

import os

import pytest

from tests.core_simulation.planted import PLANTED, Planted
from tests.core_simulation.run import run_seed

SEEDS = int(os.environ.get("JKCS_CORE_PLANTED_SEEDS") or "0")
QUICK = 80


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name.replace(" ", "_"))
def test_a_planted_bug_is_noticed(bug: Planted) -> None:
    """A checker that cannot fail is a defect."""
    if bug.rare and not SEEDS:
        pytest.skip("takes many seeds: set JKCS_CORE_PLANTED_SEEDS")
    noticed = []
    with bug.plant():
        for seed in range(1, (SEEDS or QUICK) + 1):
            outcome = run_seed(seed)
            if outcome.invariant in bug.caught_by:
                return
            if outcome.invariant:
                noticed.append((seed, outcome.invariant, outcome.detail))
    raise AssertionError(f"{bug.name}: nothing in {SEEDS or QUICK} seeds but {noticed}")


def test_a_planted_bug_is_gone_afterwards() -> None:
    """Else the next test would run against it."""
    before = run_seed(6).fingerprint
    with next(bug for bug in PLANTED if bug.name == "nobody campaigns").plant():
        assert run_seed(6).invariant == "liveness"
    assert run_seed(6).fingerprint == before
