"""The simulator as a test: some tens of seeds, each of which must keep every promise.

JKCS_SIM_SEEDS changes how many. What a seed finds is played again with the command that it prints.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.report import explain
from tests.simulation.run import run_seed

SEEDS = int(os.environ.get("JKCS_SIM_SEEDS", "60"))
CHUNK = 4
"""Seeds in one test: enough of them that the tests spread well over processes, and few enough to report soon."""


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_seeds_keep_every_promise(first: int) -> None:
    """Chaos, then healing: no checker may object, and everything must come right in time."""
    for seed in range(first, min(first + CHUNK, SEEDS + 1)):
        outcome = run_seed(seed)
        assert not outcome.invariant, explain(outcome)
