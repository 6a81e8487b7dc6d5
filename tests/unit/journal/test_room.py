"""A replica on a full disk (R12): it waits, it still votes, and it goes on by itself when there is room."""

from __future__ import annotations

from typing import Any

import pytest

from journal.errors import DiskFailed
from journal.raft.messages import Append, AppendReply, TimeoutNow, VoteReply, VoteRequest
from journal.raft.ready import Role
from journal.room import RETRY_SECONDS
from journal.saving import HELD_MAX
from journal.storage.wal import TEMPORARY
from journal.values import Index, Term
from tests.unit.journal.test_replica import LIMITS, A, B, World, entries_for, follower, leader

__all__ = ["follower", "leader"]  # the fixtures

BIG = bytes(60 * 1024)


def fill(world: World) -> None:
    """Let the log use up what is reserved; after this the next save of any size finds no room."""
    world.disk.full = True
    store = world.store
    while TEMPORARY in world.disk.names() or store._wal._segments[-1].end < LIMITS.segment_bytes - 32 * 1024:
        before = store.last
        _append(world, BIG)
        world.worker.run()
        if store.last == before:
            break
        world.network.sent.clear()


def _append(world: World, *payloads: bytes) -> None:
    """The leader `b` sends entries that follow the log."""
    log = world.replica.core._state.log
    entries = entries_for(world, 1, log.last_index + 1, *payloads)
    world.receive(B, Append(Term(1), log.last_index, log.last_term, log.last_crc, Index(0), entries))
    world.turn()


@pytest.fixture
def full(follower: World) -> World:
    """A follower whose last save has found no room."""
    fill(follower)
    while follower.replica.read_only is None:
        _append(follower, BIG)
        follower.worker.run()
    follower.turn()
    follower.network.sent.clear()
    return follower


def test_a_full_disk_does_not_stop_the_node(full: World) -> None:
    """It says why it takes no writes, and that it is the disk."""
    assert full.owner.failures == [] and not full.replica.stopped
    assert full.replica.read_only and full.replica.read_only.endswith("the disk is full")
    assert not full.replica.core.able, "it keeps out of elections"


def test_what_waited_is_saved_and_acknowledged_when_there_is_room(full: World) -> None:
    """Without an operator, at the next look."""
    last = full.replica.core.last_index
    _append(full, b"and one more")
    full.scheduler.advance(RETRY_SECONDS)
    full.worker.run()
    assert full.network.take(AppendReply) == [] and full.replica.read_only
    full.disk.full = False
    full.scheduler.advance(RETRY_SECONDS)
    full.worker.run()
    full.turn()
    assert full.network.take(AppendReply)[-1][1].match == last + 1 == full.store.last.index
    assert full.replica.read_only is None and full.replica.core.able


def test_between_two_looks_the_disk_is_left_alone(full: World) -> None:
    """No busy loop, however much arrives."""
    for _ in range(20):
        _append(full, b"x")
    assert full.worker.jobs == []
    full.scheduler.advance(RETRY_SECONDS)
    assert len(full.worker.jobs) == 1


def test_a_full_node_votes(full: World) -> None:
    """The others may need its vote; term and vote have their room. Acknowledgements before it still wait."""
    _append(full, b"x")
    last = full.replica.core.last_index
    full.scheduler.advance(10.0)
    while full.worker.jobs:
        full.worker.run()
    full.receive(B, VoteRequest(Term(5), last, Term(1)))
    full.turn()
    assert full.network.take(VoteReply) == []
    full.worker.run()
    assert full.network.take(VoteReply) == [(B, VoteReply(Term(5), granted=True))]
    assert full.store.hard_state.vote == B
    assert full.network.take(AppendReply) == []


def test_a_full_node_does_not_campaign(full: World) -> None:
    """It could not save the no-op of its term."""
    full.scheduler.advance(30.0)
    assert full.network.take(VoteRequest) == [] and full.replica.core.role is Role.FOLLOWER


def test_what_waits_for_a_full_disk_is_bounded(full: World) -> None:
    """Answers that nobody may hear yet are dropped in the end, as a network may drop them."""
    for _ in range(HELD_MAX + 100):
        _append(full)
    assert len(full.replica._saving._held) <= HELD_MAX


def test_a_sync_that_failed_meanwhile_is_final(full: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: only room comes back by itself."""

    def fail(*_: Any) -> None:
        raise DiskFailed("sync")

    monkeypatch.setattr(full.store, "save", fail)
    full.scheduler.advance(RETRY_SECONDS)
    full.worker.run()
    assert len(full.owner.failures) == 1 and full.replica.stopped


def test_a_stopped_node_tries_nothing_any_more(full: World) -> None:
    """Its workers are about to close."""
    full.replica.stop()
    full.scheduler.advance(RETRY_SECONDS * 3)
    assert full.worker.jobs == []


def test_a_save_that_ends_on_a_full_disk_after_the_stop_is_not_tried_again(follower: World) -> None:
    """The save was under way when the node was stopped."""
    fill(follower)
    _append(follower, BIG, BIG)
    follower.replica.stop()
    while follower.worker.jobs:
        follower.worker.run()
    follower.scheduler.advance(RETRY_SECONDS * 3)
    assert follower.worker.jobs == []


def test_a_leader_hands_over_at_once(leader: World) -> None:
    """Its followers need not wait for an election timeout."""
    leader.replica.propose(b"first")
    leader.turn()
    leader.settle()
    leader.disk.full = True
    while leader.replica.read_only is None:
        leader.replica.propose(BIG)
        leader.turn()
        leader.settle()
    for _ in range(3):
        leader.turn()
        leader.settle()
    assert leader.network.take(TimeoutNow)
    assert leader.replica.propose_now(b"no more") is None


def test_one_that_is_alone_goes_on_leading() -> None:
    """It has nobody to hand over to, and its reads need no disk."""
    world = World((A,))
    world.scheduler.advance(5.0)
    world.settle()
    assert world.replica.core.role is Role.LEADER
    world.disk.full = True
    for _ in range(60):
        world.replica.propose(BIG)
        world.turn()
        world.settle()
    assert world.replica.read_only
    world.scheduler.advance(5.0)
    world.turn()
    assert world.replica.core.role is Role.LEADER
    world.disk.full = False
    world.scheduler.advance(RETRY_SECONDS)
    world.settle()
    assert world.replica.read_only is None
    assert len(world.applied) > 0


def test_a_snapshot_without_room_is_given_up_and_the_node_goes_on(leader: World) -> None:
    """The next one that is due is the next try; what was written of this one is removed."""
    leader.disk.full = True
    leader.replica.take_snapshot()
    leader.turn()
    leader.settle()
    assert leader.background.jobs
    while leader.background.jobs:
        leader.background.run()
    assert leader.owner.failures == [] and leader.store.snapshot is None
    leader.disk.full = False
    leader.replica.take_snapshot()
    leader.turn()
    leader.settle()
    while leader.background.jobs:
        leader.background.run()
    assert leader.store.snapshot is not None


def test_a_full_node_that_is_stopped_ends_its_save_and_begins_no_other(full: World) -> None:
    """The disk's thread is being closed: nobody would take the vote that is queued, and it must not leave."""
    last = full.replica.core.last_index
    full.scheduler.advance(10.0)
    while full.worker.jobs:
        full.worker.run()
    for term in (5, 6):
        full.receive(B, VoteRequest(Term(term), last, Term(1)))
        full.turn()
    assert len(full.worker.jobs) == 1
    full.replica.stop()
    full.worker.run()
    assert full.worker.jobs == []
    assert full.network.take(VoteReply) in ([], [(B, VoteReply(Term(5), granted=True))])
