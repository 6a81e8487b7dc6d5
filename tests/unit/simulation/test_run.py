"""Whole runs: the same seed is the same run in any process, and the command says what it must."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import describe, explain, main
from tests.simulation.plan import ALL_FAULTS, draw
from tests.simulation.run import Outcome, run_seed

ROOT = Path(__file__).parents[3]
SEED = 5
"""A short run with crashes and crash points."""


def fingerprint_in_a_process(hash_seed: str) -> str:
    script = f"from tests.simulation.run import run_seed; print(f'{{run_seed({SEED}).fingerprint:08x}}')"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """A finding that cannot be played again is hardly a finding; sets and addresses are what breaks it."""
    here = f"{run_seed(SEED).fingerprint:08x}"
    assert [fingerprint_in_a_process(hash_seed) for hash_seed in ("1", "2")] == [here, here]


def test_two_runs_in_one_process_do_not_touch_each_other() -> None:
    """Nothing may be left behind in a module: seeds run one after another."""
    first = run_seed(SEED)
    other = run_seed(SEED + 1)
    again = run_seed(SEED)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_runs_do_real_work() -> None:
    """A run without calls, commits and grants would pass for nothing."""
    outcome = run_seed(SEED)
    assert outcome.calls > 100 and outcome.commits > 100 and outcome.grants > 5


def test_seeds_differ_in_their_faults_and_some_have_none() -> None:
    """Swarm testing: what one run always does, another never does."""
    plans = [draw(seed) for seed in range(1, 201)]
    for fault in ALL_FAULTS:
        assert 10 < sum(fault in plan.faults for plan in plans) < 190
    assert 5 < sum(not plan.faults for plan in plans) < 60
    assert {plan.servers for plan in plans} == {1, 3, 5}


def test_faults_can_be_narrowed() -> None:
    """To see which fault a failure needs."""
    plan = draw(1)
    assert len(plan.faults) > 2
    assert draw(1, faults=frozenset({plan.faults[0]})).faults == plan.faults[:1]


def test_a_failure_says_how_to_play_it_again() -> None:
    """The line is what a person copies."""
    outcome = Outcome(7, draw(7), "I7", "I7: too few disks", 1.0, 1.0, 1, 1, 1, 0, 0xABC, ("a line",))
    assert "seed 7: I7;" in describe(outcome)
    text = explain(outcome, frozenset({"crash"}))
    assert text.startswith("SIMFAIL I7 seed=7 replay: python -m tests.simulation --seed 7 --faults crash\n")
    assert "a line" in text and "too few disks" in text


def test_the_command_runs_a_range(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with the score and the speed."""
    assert main(["--seeds", f"{SEED}-{SEED}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"seed {SEED}: ok;") and "1 seeds, 0 failed" in out and "to one" in out


@pytest.mark.parametrize(
    "arguments", [["--seeds", "5"], ["--seeds", "9-3"], ["--faults", "earthquake"], ["--trace", "--jobs", "2"]]
)
def test_wrong_arguments_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A typo must not run something else."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err
