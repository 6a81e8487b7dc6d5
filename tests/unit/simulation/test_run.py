"""Whole runs: the same seed is the same run in any process, and the command says what it must."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import main
from tests.simulation.plan import ALL_FAULTS, Narrowing, draw
from tests.simulation.report import describe, explain
from tests.simulation.run import Counts, Outcome, run_seed

ROOT = Path(__file__).parents[3]
SEED = 5
"""A short run with crashes and crash points."""


SHORT = Narrowing(seconds=3.0)
VARIED_SEED = 21
"""A run with the codec, crash points, crashes of clients and clocks that differ."""


def fingerprint_in_a_process(hash_seed: str) -> str:
    script = (
        "from tests.simulation.run import run_seed; from tests.simulation.plan import Narrowing; "
        f"print(f'{{run_seed({VARIED_SEED}, Narrowing(seconds=3.0)).fingerprint:08x}}')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """A finding that cannot be played again is hardly a finding; sets and addresses are what breaks it."""
    here = f"{run_seed(VARIED_SEED, SHORT).fingerprint:08x}"
    assert [fingerprint_in_a_process(hash_seed) for hash_seed in ("0", "1", "4294967295")] == [here] * 3


def test_two_runs_in_one_process_do_not_touch_each_other() -> None:
    """Nothing may be left behind in a module: seeds run one after another."""
    first = run_seed(SEED, SHORT)
    other = run_seed(SEED + 1, SHORT)
    again = run_seed(SEED, SHORT)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_runs_do_real_work() -> None:
    """A run without calls, commits and grants would pass for nothing."""
    outcome = run_seed(SEED)
    assert outcome.calls > 50 and outcome.commits > 50 and outcome.grants > 3
    assert sum(outcome.counts.points_reached.values()) > 1000
    assert set(outcome.counts.faults) == set(outcome.plan.faults)


def test_seeds_differ_in_their_faults_and_some_have_none() -> None:
    """Swarm testing: what one run always does, another never does."""
    plans = [draw(seed) for seed in range(1, 201)]
    for fault in ALL_FAULTS:
        assert 10 < sum(fault in plan.faults for plan in plans) < 190
    assert 5 < sum(not plan.faults for plan in plans) < 60
    assert 15 < sum(plan.codec for plan in plans) < 150
    assert 40 < sum(plan.random_core for plan in plans) < 90
    assert {plan.servers for plan in plans} == {1, 3, 5}


def test_faults_can_be_narrowed() -> None:
    """To see which fault a failure needs."""
    plan = draw(1)
    assert len(plan.faults) > 2
    narrowed = draw(1, Narrowing(frozenset({plan.faults[0]})))
    assert narrowed.faults == plan.faults[:1] and narrowed.drawn == plan.drawn


def test_a_failure_says_how_to_play_it_again() -> None:
    """The line is what a person copies."""
    outcome = Outcome(
        7, draw(7), "I7", "I7: too few disks", 1.0, 1.0, 1, 1, 1, 0, 0xABC, 3, Counts.nothing(), ("a line",)
    )
    assert "seed 7: I7;" in describe(outcome)
    text = explain(outcome, Narrowing(frozenset({"crash"}), skip_events=frozenset({1, 2}), seconds=4.0))
    assert text.startswith(
        "SIMFAIL I7 seed=7 replay: python -m tests.simulation --seed 7 --faults crash --skip-events 1-2 --seconds 4\n"
    )
    assert "a line" in text and "too few disks" in text


def test_the_command_runs_a_range(capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with the score and the speed."""
    assert main(["--seeds", f"{SEED}-{SEED + 1}", "--seconds", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"seed {SEED}: ok;") and "2 seeds, 0 failed" in out
    assert "simulated seconds per second and core" in out
    assert "wal.sync.before" in out and "two leaders at once" in out and "clock_drift" in out


def test_the_counts_come_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """For whoever adds up the runs of a night."""
    assert main(["--seed", str(SEED), "--seconds", "2", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["seeds"] == 1 and not counts["failed"]
    assert set(counts["faults"]) == set(ALL_FAULTS)
    assert counts["crash_points_reached"]["wal.sync.after"] > 0


def test_a_short_range_does_not_pass_for_a_long_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A counter at zero says that nothing was proven there."""
    assert main(["--seed", str(SEED), "--seconds", "2", "--require-all"]) == 1
    assert "MISSING crash point" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "5"],
        ["--seeds", "9-3"],
        ["--faults", "earthquake"],
        ["--roles", "king"],
        ["--skip-events", "a-b"],
        ["--trace", "--jobs", "2"],
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A typo must not run something else."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert arguments[0] in capsys.readouterr().err
