"""A follower's answers to its leader, and its patience with it."""

from __future__ import annotations

import pytest

from journal.errors import CorruptRecord
from journal.limits import Limits
from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.raft.ready import ReadGrant, Role
from journal.raft.state import CEILING, LAST_RESORT_TIMEOUTS
from journal.values import START, Configuration, Index, NodeId, Position, SnapshotMeta, Term
from tests.support.raft_cluster import Alone, append_after, chain, node_names, position_after


def meta(index: int, term: int, crc: int = 5) -> SnapshotMeta:
    return SnapshotMeta(Position(Index(index), Term(term), crc, 0), Configuration(node_names(3)), 8)


def test_an_acknowledgement_waits_for_the_disk() -> None:
    """The leader counts it towards a commit (RELIABILITY R2)."""
    follower = Alone()
    message = append_after(START, chain(1, 1), term=1)
    assert follower.step("n2", message, save=False) == []
    assert follower.sent() == [("n2", AppendReply(Term(1), Index(2)))]
    assert follower.disk.last.index == 2


def test_several_appends_of_one_pass_get_one_answer() -> None:
    """The last one says all that the earlier ones did."""
    follower = Alone()
    entries = chain(1, 1, 1)
    for at, before in ((0, START), (1, position_after(entries[0])), (2, position_after(entries[1]))):
        follower.core.step(NodeId("n2"), append_after(before, entries[at : at + 1], term=1), 0.0)
    assert follower.sent() == [("n2", AppendReply(Term(1), Index(3)))]


def test_a_refusal_names_the_last_place_where_the_logs_may_agree() -> None:
    """It skips all of a term that cannot agree, so that the leader finds the place in a few steps (Raft 5.3)."""
    follower = Alone(1, 1, 3, 3, 3)
    previous = Position(Index(5), Term(2), 0, 0)
    expected = AppendReply(Term(4), Index(0), True, Index(5), Index(2), Term(1))
    assert follower.one("n2", append_after(previous, [], term=4)) == expected
    previous = Position(Index(9), Term(3), 0, 0)
    expected = AppendReply(Term(4), Index(0), True, Index(9), Index(5), Term(3))
    assert follower.one("n2", append_after(previous, [], term=4)) == expected


def test_only_what_agrees_with_the_leader_is_committed() -> None:
    """The tail behind the checked place may be of another leader (RELIABILITY 16)."""
    follower = Alone(1, 1, 1, 1)
    follower.step("n2", append_after(follower.entries[1], [], term=2, commit=4))
    assert follower.core.commit == 2


def test_a_notice_of_the_commit_index_is_not_answered_but_a_probe_is() -> None:
    """The answer to a notice would cost the leader a wake-up for each write."""
    follower = Alone(1, 1)
    assert follower.step("n2", append_after(follower.entries[1], [], term=1, commit=2)) == []
    assert follower.core.applied == 2
    assert follower.one("n2", append_after(follower.entries[1], [], term=1)) == AppendReply(Term(1), Index(2))


def test_an_append_before_the_commit_index_is_answered_with_it() -> None:
    """Whatever it carries is known to agree; a cut log could not even check it (RELIABILITY 14)."""
    follower = Alone(1, 1, 1)
    follower.step("n2", append_after(follower.entries[2], [], term=1, commit=3))
    assert follower.one("n2", append_after(START, follower.entries[:1], term=1)) == AppendReply(Term(1), Index(3))


def test_a_damaged_log_stops_the_node() -> None:
    """Equal terms, different checksums: going on would spread or vote with wrong data."""
    follower = Alone(1, 1)
    wrong = Position(Index(2), Term(1), follower.entries[1].crc ^ 1, 0)
    with pytest.raises(CorruptRecord):
        follower.step("n2", append_after(wrong, [], term=1))


@pytest.mark.parametrize(
    "message",
    [
        append_after(START, chain(1, 1)[1:], term=1),  # a gap
        append_after(START, chain(1, 3), term=2),  # an entry of a term still to come
        Append(Term(1), Index(0), Term(0), 0, Index(0), chain(1, after=Position(Index(CEILING), Term(1)))),
    ],
)
def test_entries_that_cannot_be_a_leaders_are_dropped(message: Append) -> None:
    """They get no answer: an honest leader sends its entries again (RELIABILITY 11)."""
    follower = Alone()
    assert follower.step("n2", message) == []
    assert follower.core.last_index == 0


def test_a_heartbeat_is_echoed_at_once_even_while_the_disk_works() -> None:
    """A slow disk must not look like a dead node, nor hold up reads."""
    follower = Alone(1)
    follower.step(
        "n2", append_after(follower.entries[0], chain(2, after=position_after(follower.entries[0])), term=2), save=False
    )
    assert follower.step("n2", Heartbeat(Term(2), Index(1), 7), save=False) == [("n2", HeartbeatReply(Term(2), 7))]
    assert follower.core.commit == 1


def test_a_heartbeat_commits_no_more_than_is_here() -> None:
    """A leader that believes a lost tail to be here must not make us claim it (RELIABILITY R5)."""
    follower = Alone(1, 1)
    follower.step("n2", Heartbeat(Term(1), Index(5), 1))
    assert follower.core.commit == 2


def test_committed_entries_wait_for_our_own_disk() -> None:
    """A snapshot of the machine can then never be ahead of the log beside it."""
    follower = Alone()
    entries = chain(1, 1, 1)
    follower.step("n2", append_after(START, entries[:1], term=1))
    follower.step("n2", append_after(entries[0], entries[1:2], term=1), save=False)
    follower.step("n2", append_after(entries[1], entries[2:], term=1, commit=3), save=False)
    assert (follower.core.commit, follower.core.applied) == (3, 1)
    follower.node.save()
    follower.sent(save=False)
    assert follower.core.applied == 2
    follower.sent()
    assert follower.core.applied == 3


def test_pages_of_committed_entries_follow_one_another() -> None:
    """Each waits until the machine has taken in the one before (RELIABILITY 21)."""
    follower = Alone(limits=Limits(apply_bytes_max=1))
    entries = chain(1, 1, 1, count=2)
    follower.core.step(NodeId("n2"), append_after(START, entries, term=1, commit=6), 0.0)
    ready = follower.core.ready()
    assert ready is not None and not ready.committed
    follower.core.saved(ready.number, 0.0)
    follower.disk.save(None, ready.entries)
    for entry in entries:
        ready = follower.core.ready()
        assert ready is not None and ready.committed == [entry]
        assert follower.core.ready() is None
        follower.core.applied_to(entry.last)
    assert follower.core.ready() is None


def test_a_silent_leader_is_replaced_after_one_to_two_timeouts() -> None:
    """Raft 5.2: the wait is random, so that not all campaign at once."""
    for chance in (0.0, 0.5, 0.999):
        follower = Alone(1)
        follower.cluster.chance = lambda chance=chance: chance
        follower.node.crash()
        follower.node.start()
        follower.core = follower.node.core
        follower.step("n2", Heartbeat(Term(1), Index(0), 1))
        timeout = follower.cluster.timing.election_timeout
        assert follower.core.deadline == pytest.approx(timeout * (1 + chance))


def test_a_reset_connection_of_the_leader_shortens_the_wait() -> None:
    """The system that noticed is faster than any timeout; nobody else's reset matters."""
    follower = Alone(1)
    follower.step("n2", Heartbeat(Term(1), Index(0), 1))
    before = follower.core.deadline
    follower.core.peer_lost(NodeId("n3"), 0.0)
    assert (follower.core.deadline, follower.core.leader) == (before, "n2")
    follower.core.peer_lost(NodeId("n2"), 0.0)
    assert follower.core.leader is None
    assert follower.core.deadline <= 1.5 * follower.cluster.timing.reset_timeout
    follower.step("n2", Heartbeat(Term(1), Index(0), 2))
    assert follower.core.leader == "n2"


def test_a_granted_pre_vote_defers_an_own_election_once() -> None:
    """Once, because somebody who can be heard but cannot hear would otherwise hold up everybody for ever."""
    follower = Alone(1)
    ask = VoteRequest(Term(2), Index(1), Term(1), pre=True)
    follower.cluster.now = follower.core.deadline - 0.001
    follower.step("n2", ask)
    deferred = follower.core.deadline
    assert deferred > follower.cluster.now + follower.cluster.timing.reset_timeout * 0.99
    follower.cluster.now = deferred - 0.001
    follower.step("n2", ask)
    assert follower.core.deadline == deferred


def test_a_withheld_node_never_campaigns() -> None:
    """It waits for a leader, however long (RELIABILITY R5)."""
    node = Alone(1, withheld=2)
    for _ in range(9):
        assert not [message for _, message in node.expire() if isinstance(message, VoteRequest)]
    assert node.step("n2", TimeoutNow(Term(1))) == []
    assert node.core.term == 1


def test_a_learner_campaigns_only_when_nobody_else_could_be_elected_for_long() -> None:
    """Voters come first. But it may hold the newest log of all that are left."""
    names = node_names(3)
    node = Alone(1, configuration=Configuration(names[1:], learners=names[:1]))
    assert node.step("n2", TimeoutNow(Term(1))) == []
    asked_at = 0.0
    while not asked_at:
        if [message for _, message in node.expire() if isinstance(message, VoteRequest)]:
            asked_at = node.cluster.now
    assert asked_at >= LAST_RESORT_TIMEOUTS * node.cluster.timing.election_timeout
    node.grant("n2")
    node.grant("n2")
    assert node.core.role is Role.CANDIDATE  # its own vote counts nothing
    node.grant("n3")
    node.grant("n2", "n3")
    assert node.core.role is Role.LEADER


def test_a_refilled_node_takes_part_again() -> None:
    """Its lost tail is back on its disk: its vote can no longer harm (RELIABILITY R5).

    It does not wait for the commit of that tail: with its leader gone it may hold the newest log of all, and
    nobody else could then be elected, for ever.
    """
    node = Alone(1, withheld=2)
    tail = chain(1, after=position_after(node.entries[0]))
    node.step("n2", append_after(node.entries[0], tail, term=1, commit=1), save=False)
    assert node.core.withheld == 2
    node.sent()
    assert node.core.withheld == 0
    node.expire()
    assert node.core.role is Role.CANDIDATE


def test_a_snapshot_ahead_of_the_log_is_handed_out_piece_by_piece() -> None:
    """The driver assembles it and answers each piece."""
    follower = Alone(1)
    follower.step("n2", Heartbeat(Term(2), Index(0), 1))
    chunk = SnapshotChunk(Term(2), meta(10, 2), 0, b"12345678")
    follower.core.step(NodeId("n2"), chunk, 0.0)
    ready = follower.core.ready()
    assert ready is not None and ready.chunks == [("n2", chunk)]


@pytest.mark.parametrize("leader", ("n1", "n3", None))
def test_a_chunk_of_a_snapshot_makes_nobody_a_leader(leader: str | None) -> None:
    """Whoever fed an observer may still be sending when that has become a voter, or even leads."""
    node = Alone(1, 1)
    if leader == "n1":
        node.lead()
    elif leader is not None:
        node.step(leader, Heartbeat(Term(1), Index(0), 1))
    node.core.step(NodeId("n2"), SnapshotChunk(node.core.term, meta(10, 1), 0, b"12345678"), node.cluster.now)
    ready = node.core.ready()
    assert node.core.leader == leader
    # With nobody in office its contents are as welcome as any: all of it is committed.
    assert (ready is not None and bool(ready.chunks)) is (leader is None)


def test_a_snapshot_that_the_log_already_holds_is_declined_as_installed() -> None:
    """Installing it would throw away what follows it and may be acknowledged (RELIABILITY 31, 33)."""
    follower = Alone(1, 2, 2)
    follower.step("n2", Heartbeat(Term(2), Index(0), 1))
    installed = SnapshotReply(Term(2), Index(2), 8, True)
    assert follower.one("n2", SnapshotChunk(Term(2), meta(2, 2), 0, b"")) == installed
    assert follower.core.commit == 2  # the leader has it committed
    assert follower.one("n2", SnapshotChunk(Term(2), meta(1, 1), 0, b"")).installed


@pytest.mark.parametrize("position", [(CEILING, 1), (10, CEILING)])
def test_a_snapshot_with_absurd_numbers_is_dropped(position: tuple[int, int]) -> None:
    """It would be newer than everything for ever (RELIABILITY 11)."""
    follower = Alone(1)
    assert follower.step("n2", SnapshotChunk(Term(1), meta(*position), 0, b"")) == []
    assert follower.core.ready() is None


def test_while_a_snapshot_is_being_installed_nothing_else_happens_to_the_log() -> None:
    """An entry accepted meanwhile would be acknowledged and then thrown away (RELIABILITY 12, 32)."""
    follower = Alone(1, 1)
    follower.step("n2", Heartbeat(Term(2), Index(0), 1))
    snapshot = meta(10, 2)
    assert follower.core.begin_restore(snapshot)
    more = chain(2, after=position_after(follower.entries[1]))
    assert follower.step("n2", append_after(follower.entries[1], more, term=2, commit=3)) == []
    assert follower.step("n2", Heartbeat(Term(2), Index(2), 2)) == [("n2", HeartbeatReply(Term(2), 2))]
    assert follower.step("n2", SnapshotChunk(Term(2), snapshot, 0, b"")) == []
    assert (follower.core.last_index, follower.core.commit) == (2, 0)
    assert follower.expire() == [] and follower.core.role is Role.FOLLOWER
    follower.disk.entries, follower.disk.start = [], snapshot.position
    follower.core.restored(snapshot)
    assert (follower.core.last_index, follower.core.commit, follower.core.applied) == (10, 10, 10)
    more = chain(2, after=snapshot.position)
    follower.step("n2", append_after(snapshot.position, more, term=2, commit=11))
    assert follower.core.applied == 11


def test_a_snapshot_overtaken_by_the_log_is_not_installed() -> None:
    """While it was being received another leader's appends may have come (RELIABILITY 31)."""
    follower = Alone(1, 2)
    assert not follower.core.begin_restore(meta(2, 2))
    assert follower.core.commit == 2


def test_an_installation_ends_an_own_campaign() -> None:
    """A candidate with a pending snapshot could win with a log it is about to drop (RELIABILITY 12)."""
    node = Alone(1)
    node.expire()
    assert node.core.begin_restore(meta(10, 2))
    assert node.core.role is Role.FOLLOWER
    node.step("n2", VoteReply(Term(2), True, True))
    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 1)


def test_a_log_with_unsaved_entries_cannot_be_restarted() -> None:
    """They would reach the disk behind the snapshot: the driver has to save them first."""
    follower = Alone(1)
    more = chain(1, after=position_after(follower.entries[0]))
    follower.step("n2", append_after(follower.entries[0], more, term=1), save=False)
    assert follower.core.begin_restore(meta(10, 2))
    with pytest.raises(AssertionError):
        follower.core.restored(meta(10, 2))


def test_a_read_is_passed_on_to_the_leader_and_answered_by_it() -> None:
    """Thesis 6.4: a follower asks for a read index and waits for its own log to reach it."""
    follower = Alone(1)
    assert not follower.core.read(1, 0.0)
    follower.step("n2", Heartbeat(Term(1), Index(0), 1))
    assert follower.core.read(2, 0.0, floor=Index(4), note=b"note")
    assert follower.sent() == [("n2", ReadRequest(Term(1), 2, Index(4), b"note"))]
    follower.step("n2", ReadReply(Term(1), 2, Index(9)))
    assert follower.node.reads == [ReadGrant(2, Index(9))]
    follower.step("n2", ReadReply(Term(1), 3, Index(CEILING)))
    assert len(follower.node.reads) == 1


def test_a_conflict_found_on_the_disk_replaces_the_tail_there() -> None:
    """Entries that left memory long ago can still be cut, when they were never committed."""
    follower = Alone(1, 1, 1, 1)
    follower.node.crash()
    follower.node.start(memory_entries=0)
    follower.core = follower.node.core
    new = chain(2, after=position_after(follower.entries[0]))
    assert follower.one("n2", append_after(follower.entries[0], new, term=2)) == AppendReply(Term(2), Index(2))
    assert [entry.term for entry in follower.disk.entries] == [1, 2]
