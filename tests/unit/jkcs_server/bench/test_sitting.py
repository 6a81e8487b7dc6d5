"""A sitting: turns, medians, and cells that fail or are skipped without taking the others with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jkcs_server.bench.cells import Pace, choose
from jkcs_server.bench.sitting import Plan, Sitting
from tests.unit.jkcs_server.bench.fake import FakeSubject, FakeTree

PACE = Pace(0.0, 0.05)


def test_clusters_take_turns_cell_by_cell(tmp_path: Path) -> None:
    """Only what ran side by side may be compared."""
    told: list[str] = []
    ours, theirs = FakeSubject(FakeTree()), FakeSubject(FakeTree())
    theirs.name = "other"
    plan = Plan(choose(["get-1x1", "set-1x1", "get-linearizable-64x1"]), PACE, rounds=2, keys=1)
    results = Sitting(plan, [lambda _: ours, lambda _: theirs], tmp_path, told.append).run()
    assert [(r.cell.name, r.subject, len(r.rounds), r.failed) for r in results] == [
        ("set-1x1", "jkcs", 2, False),
        ("set-1x1", "other", 2, False),
        ("get-1x1", "jkcs", 2, False),
        ("get-1x1", "other", 2, False),
        ("get-linearizable-64x1", "jkcs", 2, False),
        ("get-linearizable-64x1", "other", 2, False),
    ]
    rounds = [line.split(":")[0] for line in told if line.startswith("round 1")]
    assert rounds == [
        "round 1/2 set-1x1 jkcs",
        "round 1/2 set-1x1 other",
        "round 1/2 get-1x1 jkcs",
        "round 1/2 get-1x1 other",
        "round 1/2 get-linearizable-64x1 jkcs",
        "round 1/2 get-linearizable-64x1 other",
    ]


def test_a_cell_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    """Half a table is worth more than a traceback."""
    told: list[str] = []
    subject = FakeSubject(FakeTree())
    subject.tree.forgetful = True
    plan = Plan(choose(["get-1x1", "set-1x1"]), PACE, rounds=1, keys=1)
    results = Sitting(plan, [lambda _: subject], tmp_path, told.append).run()
    assert [result.failed for result in results] == [True, False]
    assert any("ERROR, 1 times" in line and "the keys have seen 0" in line for line in told)


def test_restart_and_memory_are_measured_on_many_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed and started once a round, and asked whether all keys are still there."""
    monkeypatch.setattr("jkcs_server.bench.sitting.SETTLE_SECONDS", 0.0)
    subject = FakeSubject(FakeTree())
    plan = Plan(choose(["restart", "memory"]), PACE, rounds=2, keys=200)
    restart, memory = Sitting(plan, [lambda _: subject], tmp_path, lambda _: None).run()
    assert subject.killed == subject.started == 2
    assert restart.figures.seconds is not None and len(restart.rounds) == 2 and not restart.failed
    figures = memory.figures
    assert figures.megabytes is not None and figures.megabytes > 1
    assert figures.megabytes_all == figures.megabytes  # of one server
    assert figures.bytes_per_key is not None and figures.load_seconds


def test_a_million_keys_have_a_cluster_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was filled before would be weighed with them."""
    monkeypatch.setattr("jkcs_server.bench.sitting.SETTLE_SECONDS", 0.0)
    subjects: list[FakeSubject] = []

    def starter(directory: Path) -> FakeSubject:
        subjects.append(FakeSubject(FakeTree()))
        return subjects[-1]

    million = replace(choose(["memory-1m"])[0], keys=300)
    plan = Plan([*choose(["memory"]), million], PACE, rounds=1, keys=200)
    results = Sitting(plan, [starter], tmp_path, lambda _: None).run()
    assert [result.failed for result in results] == [False, False]
    assert [len(subject.tree.keys) - 3 for subject in subjects] == [200, 300]  # the root and two folders


def test_keys_lost_in_a_restart_fail_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast start that forgets is no start."""
    subject = FakeSubject(FakeTree())
    forget = "/jkcs-bench-"

    def lose_one() -> None:
        folder = next(path for path in subject.tree.keys if path.startswith(forget) and path.endswith("/fill0"))
        subject.tree.keys[folder][2] -= 1

    monkeypatch.setattr(subject, "kill", lose_one)
    monkeypatch.setattr("jkcs_server.bench.sitting.SETTLE_SECONDS", 0.0)
    plan = Plan(choose(["restart"]), PACE, rounds=1, keys=50)
    [restart] = Sitting(plan, [lambda _: subject], tmp_path, lambda _: None).run()
    assert list(restart.errors) == ["50 keys were created, 49 are there after a restart"]


def test_what_would_kill_another_s_servers_is_skipped(tmp_path: Path) -> None:
    """On a running cluster only loads are measured, and the keys are deleted afterwards."""
    subject = FakeSubject(FakeTree())
    subject.ours = False
    plan = Plan(choose(["set-1x1", "restart", "memory"]), PACE, rounds=1, keys=50)
    results = Sitting(plan, [lambda _: subject], tmp_path, lambda _: None).run()
    assert [bool(result.skipped) for result in results] == [False, True, True]
    assert list(subject.tree.keys) == ["/"] and subject.killed == 0


def test_a_cluster_is_warmed_up_before_it_is_measured(tmp_path: Path) -> None:
    """Only the one that needs it."""
    told: list[str] = []
    subject = FakeSubject(FakeTree())
    plan = Plan(choose(["get-1x1"]), PACE, rounds=1, keys=1, warm_up=[("jkcs", 0.25), ("other", 9.0)])
    Sitting(plan, [lambda _: subject], tmp_path, told.append).run()
    assert [line for line in told if "warming" in line] == ["jkcs: warming up for 0 s"]
