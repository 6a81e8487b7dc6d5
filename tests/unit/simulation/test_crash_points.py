"""The named places at which servers are ended."""

from __future__ import annotations

import pytest

from journal.raft.messages import Heartbeat, VoteReply, VoteRequest
from journal.values import Index, Term
from tests.simulation.crash_points import (
    AROUND_SNAPSHOTS,
    FIRST_START,
    HOOKS,
    NAMES,
    CrashPoints,
    DiskSteps,
    send_names,
)
from tests.simulation.plan import draw


def test_there_are_many_and_each_has_one_name() -> None:
    """What has no name is never aimed at."""
    assert len(NAMES) == len(set(NAMES)) >= 60
    assert set(FIRST_START) < set(NAMES)
    assert all(f"{name}.before" in NAMES for name in HOOKS)


@pytest.mark.parametrize(
    ("operation", "file", "step"),
    [
        ("write", "log-00000000000000000001", "wal.write"),
        ("sync", "log-00000000000000000001", "wal.sync"),
        ("remove", "log-00000000000000000001", "wal.remove"),
        ("names", "log-00000000000000000001", "wal.names"),
        ("create", "log.new", "segment.create"),
        ("write0", "log.new", "segment.write"),
        ("rename", "log.new", "segment.rename"),
        ("replace", "log.new", "segment.replace"),
        ("names", "log.new", "segment.names"),
        ("poke", "mark", "mark.poke"),
        ("sync", "mark", "mark.sync"),
        ("create", "meta.new", "meta.create"),
        ("rename", "meta.new", "meta.rename"),
        ("names", "", "names"),
    ],
)
def test_what_is_done_to_a_file_has_a_name(operation: str, file: str, step: str) -> None:
    """The names are the only thing that joins the table of counts to the product's files."""
    assert DiskSteps().name(operation, file, starting=False) == step


def test_the_two_slots_of_the_metadata_are_told_apart() -> None:
    """A crash between them leaves two that differ."""
    steps = DiskSteps()
    done = [steps.name(operation, "meta", starting=False) for operation in ("write0", "sync", "write", "sync")]
    assert done == ["meta.a.write", "meta.a.sync", "meta.b.write", "meta.b.sync"]


def test_writes_of_a_start_are_repairs() -> None:
    """A torn tail is cleared before the server takes part."""
    assert DiskSteps().name("write", "log-00000000000000000001", starting=True) == "wal.repair"


def test_pre_votes_and_votes_are_different_places() -> None:
    """Only one of the two has to be on the disk before it leaves."""
    term = Term(1)
    assert send_names(VoteRequest(term, Index(0), term, pre=True))[0] == "prevote.send.before"
    assert send_names(VoteRequest(term, Index(0), term))[1] == "vote.send.after"
    assert send_names(VoteReply(term, True))[0] == "vote.reply.send.before"
    assert send_names(Heartbeat(term, Index(0), 1))[0] == "heartbeat.send.before"


def test_an_armed_name_ends_the_first_who_comes_to_it_and_no_other() -> None:
    """One crash per arming, and both counted."""
    ended: list[tuple[str, str]] = []
    points = CrashPoints(lambda node, name: ended.append((node, name)))
    points.arm("wal.sync.before")
    for node in ("n1", "n2", "n1"):
        points.reach(node, "wal.write.before")
        points.reach(node, "wal.sync.before")
    assert ended == [("n1", "wal.sync.before")]
    assert points.reached["wal.sync.before"] == 3 and points.crashed["wal.sync.before"] == 1
    points.arm("wal.sync.before")
    points.disarm()
    points.reach("n1", "wal.sync.before")
    assert len(ended) == 1


def test_every_name_has_its_turn() -> None:
    """Each seed looks for a few of them; together they look for all."""
    plans = [draw(seed) for seed in range(1, 121)]
    assert {name for plan in plans if not plan.far_behind for name in plan.agenda} == set(NAMES)
    assert {name for plan in plans if plan.far_behind for name in plan.agenda} == set(AROUND_SNAPSHOTS)
