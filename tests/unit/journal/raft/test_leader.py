"""A leader: what it sends, what it commits, whom it believes, and when it steps down."""

from __future__ import annotations

import pytest

from journal.errors import Busy
from journal.limits import Limits
from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    SnapshotReply,
    TimeoutNow,
    VoteRequest,
)
from journal.raft.progress import ProgressState
from journal.raft.ready import ReadGrant, Role
from journal.values import Configuration, EntryKind, Index, NodeId, SnapshotMeta, Term
from tests.support.raft_cluster import Alone, node_names, position_after


def appends(sent: list[tuple[str, Message]], to: str) -> list[Append]:
    return [message for peer, message in sent if peer == to and isinstance(message, Append)]


def leader(*terms: int, **options: object) -> Alone:
    """A leader whose peers have its whole log, no-op included."""
    node = Alone(*terms, **options).lead()  # type: ignore[arg-type]  # the options are Alone's own
    node.acknowledge(*[str(peer) for peer in node.core._state.peers])
    return node


def states(node: Alone) -> dict[str, tuple[ProgressState, int, int]]:
    return {str(status.peer): (status.state, status.match, status.next) for status in node.core.progress()}


def test_a_leadership_opens_with_a_no_op_and_serves_when_it_is_applied() -> None:
    """Until then the commit index may be behind what the leader before has answered for (RELIABILITY 24)."""
    node = Alone(1, 1).lead()
    entry = node.disk.entries[-1]
    assert (entry.kind, entry.first, entry.term, entry.stamp) == (EntryKind.NOOP, 3, 2, 1)
    assert not node.core.serving
    node.acknowledge("n2")
    assert node.core.serving
    assert [(shown.role, shown.serving) for shown in node.node.leadership[-2:]] == [
        (Role.LEADER, False),
        (Role.LEADER, True),
    ]


def test_entries_leave_while_our_own_disk_still_writes_them() -> None:
    """The disks work in parallel (thesis 10.2.1)."""
    node = leader()
    node.propose()
    sent = node.sent(save=False)
    assert len(appends(sent, "n2")) == len(appends(sent, "n3")) == 1
    assert node.core.durable == 1


def test_the_leader_does_not_count_itself_before_its_disk_has_the_entry() -> None:
    """One acknowledgement and our memory are not a quorum of disks (RELIABILITY 19)."""
    node = leader()
    node.propose()
    node.sent(save=False)
    node.step("n2", AppendReply(Term(1), Index(2)), save=False)
    assert node.core.commit == 1
    node.sent()
    assert node.core.commit == 2


def test_a_commit_is_told_at_once_and_rides_on_the_next_append_if_there_is_one() -> None:
    """Followers have clients who wait for it; those who are sent entries anyway need no notice."""
    node = leader()
    node.propose()
    node.sent()
    notices = node.acknowledge("n2")
    assert [(to, message.commit, message.entries) for to, message in notices if isinstance(message, Append)] == [
        ("n2", 2, []),
        ("n3", 2, []),
    ]
    assert node.acknowledge("n3") == []
    node.propose()
    (first,) = appends(node.sent(), "n2")
    node.propose()
    node.core.step(NodeId("n2"), AppendReply(Term(1), Index(3)), node.cluster.now)
    (second,) = appends(node.sent(), "n2")
    assert (first.commit, second.commit, len(second.entries)) == (2, 3, 1)


def test_proposals_of_one_pass_share_one_message() -> None:
    """One append per peer and pass, whatever came in between."""
    node = leader()
    for count in (1, 2, 3):
        node.propose(count=count)
    sent = node.sent()
    assert [[entry.count for entry in message.entries] for message in appends(sent, "n2")] == [[1, 2, 3]]
    assert len(sent) == 2


def test_entries_of_older_terms_are_not_committed_by_counting() -> None:
    """Figure 8: a majority that has them does not make them safe; an entry of our term behind them does."""
    node = Alone(1, 2).lead()
    node.acknowledge("n2", "n3", match=2)
    assert node.core.commit == 0
    node.acknowledge("n2")
    assert node.core.commit == 3


def test_late_and_impossible_acknowledgements_move_nothing_back() -> None:
    """RELIABILITY 11, 18."""
    node = leader()
    node.propose()
    node.sent()
    node.acknowledge("n2")
    before = states(node)
    node.step("n2", AppendReply(Term(1), Index(1)))
    node.step("n2", AppendReply(Term(1), Index(0), True, Index(1), Index(0), Term(0)))
    node.step("n2", AppendReply(Term(1), Index(2**61)))
    assert states(node) == before
    assert node.core.commit == 2


def test_a_window_bounds_what_is_in_flight_and_answers_reopen_it() -> None:
    """A slow peer must not pile up memory here or in the network."""
    node = leader(limits=Limits(appends_in_flight_max=2))
    for _ in range(2):
        node.propose()
        assert len(appends(node.sent(), "n2")) == 1
    for _ in range(3):
        node.propose()
        assert appends(node.sent(), "n2") == []
    (message,) = appends(node.acknowledge("n2", match=2), "n2")
    assert [entry.first for entry in message.entries] == [4, 5, 6]  # what gathered goes together


def test_an_append_is_cut_at_its_limit() -> None:
    """But a single larger entry still travels, alone."""
    node = leader(limits=Limits(append_bytes_max=200))
    for payload in (b"a" * 50, b"b" * 50, b"c" * 400, b"d"):
        node.propose(payload)
    assert [[bytes(entry.payload[:1]) for entry in m.entries] for m in appends(node.sent(), "n2")] == [
        [b"a", b"b"],
        [b"c"],
        [b"d"],
    ]


def test_a_refused_probe_skips_whole_terms() -> None:
    """Raft 5.3: one step per term in conflict, not one per entry."""
    node = Alone(1, 1, 1, 4, 4, 4, 4, term=4).lead()
    sent = node.step("n2", AppendReply(Term(5), Index(0), True, Index(7), Index(6), Term(3)))
    (probe,) = appends(sent, "n2")
    assert probe.previous_index == 3
    assert states(node)["n2"] == (ProgressState.PROBE, 0, 4)
    assert node.step("n2", AppendReply(Term(5), Index(0), True, Index(7), Index(1), Term(1))) == []  # again, late


def test_a_probe_waits_for_its_answer() -> None:
    """New entries do not make it sent again."""
    node = Alone(1).lead()
    for _ in range(3):
        node.propose()
        assert node.sent() == []
    (message,) = appends(node.acknowledge("n2", match=1), "n2")
    assert [entry.first for entry in message.entries] == [2, 3, 4, 5]


def test_an_empty_probe_cannot_be_taken_for_a_notice() -> None:
    """It needs its answer, and a notice gets none: it carries no commit index."""
    node = leader()
    node.core.peer_lost(NodeId("n2"), node.cluster.now)
    assert node.sent() == []
    (probe,) = appends(node.step("n2", HeartbeatReply(Term(1), 0)), "n2")
    assert (probe.entries, probe.commit, probe.previous_index) == ([], 0, 1)


def test_what_was_lost_is_sent_again_after_a_while() -> None:
    """A heartbeat is answered, an append is not: it got lost (RELIABILITY 22)."""
    node = leader()
    node.propose()
    node.sent()
    assert appends(node.step("n2", HeartbeatReply(Term(1), 0)), "n2") == []
    node.wait(0.1)
    (again,) = appends(node.step("n2", HeartbeatReply(Term(1), 1)), "n2")
    assert [entry.first for entry in again.entries] == [2]


def test_heartbeats_name_no_commit_index_beyond_what_the_peer_has() -> None:
    """Its log may still differ behind that (RELIABILITY 16)."""
    node = Alone(1, 1).lead()
    node.acknowledge("n2")
    beats = [(to, message) for to, message in node.wait(0.1) if isinstance(message, Heartbeat)]
    assert beats == [("n2", Heartbeat(Term(2), Index(3), 1)), ("n3", Heartbeat(Term(2), Index(0), 1))]


def test_too_much_uncommitted_is_refused_and_commits_make_room() -> None:
    """The count goes down by what went up, or proposals would stop for ever (RELIABILITY 22)."""
    limits = Limits(uncommitted_bytes_max=100, record_bytes_max=60, append_bytes_max=60)
    node = leader(limits=limits)
    for _ in range(50):
        assert node.propose(b"x" * 50) and node.propose(b"y" * 50)
        with pytest.raises(Busy, match="100 bytes wait"):
            node.propose(b"z")
        node.sent()
        node.acknowledge("n2", "n3")


def test_stamps_never_go_back() -> None:
    """The wall clock may jump; what the machines see as time may not (RELIABILITY 45)."""
    node = leader()
    for stamp in (500, 400, 501):
        node.core.propose(b"", 1, stamp, 0.0)
    node.sent()
    assert [entry.stamp for entry in node.disk.entries[-3:]] == [500, 500, 501]


def test_a_leader_without_a_quorum_steps_down_within_a_timeout() -> None:
    """Its clients would hang, and its reads grow stale (RELIABILITY 10)."""
    node = leader(size=5)
    timing = node.cluster.timing
    lost_at = node.cluster.now
    while node.core.role is Role.LEADER:
        node.step("n2", HeartbeatReply(Term(1), 0))
        node.expire()
        assert node.cluster.now - lost_at < timing.election_timeout + 2 * timing.heartbeat_interval
    assert (node.core.role, node.core.term, node.core.leader) == (Role.FOLLOWER, 1, None)


def test_a_leader_with_a_quorum_stays() -> None:
    """Itself and two of five, whichever they are."""
    node = leader(size=5)
    for _ in range(40):
        node.step("n2", HeartbeatReply(Term(1), 0))
        node.step("n4", HeartbeatReply(Term(1), 0))
        node.expire()
    assert node.core.role is Role.LEADER


def test_a_leader_whose_disk_is_stuck_steps_down() -> None:
    """Its heartbeats do not wait for the disk, so nobody else would notice (RELIABILITY R13)."""
    node = leader()
    node.propose()
    for _ in range(30):
        node.core.step(NodeId("n2"), HeartbeatReply(Term(1), 0), node.cluster.now)
        node.cluster.now = node.core.deadline
        node.core.tick(node.cluster.now)
        node.sent(save=False)
        if node.core.role is not Role.LEADER:
            break
    assert node.core.role is Role.FOLLOWER
    assert 0.5 < node.cluster.now < 1.5


def test_reads_share_one_round_and_later_ones_the_next() -> None:
    """One exchange of heartbeats for all that wait (thesis 6.4)."""
    node = leader()
    for context in (1, 2):
        assert node.core.read(context, 0.0)
    sent = node.sent()
    assert [message for _, message in sent] == [Heartbeat(Term(1), Index(1), 1)] * 2
    node.core.read(3, 0.0, floor=Index(9))
    assert node.sent() == []
    sent = node.step("n3", HeartbeatReply(Term(1), 1))
    assert node.node.reads == [ReadGrant(1, Index(1)), ReadGrant(2, Index(1))]
    assert [message for _, message in sent] == [Heartbeat(Term(1), Index(1), 2)] * 2
    node.step("n3", HeartbeatReply(Term(1), 1))
    assert len(node.node.reads) == 2
    node.step("n2", HeartbeatReply(Term(1), 2))
    assert node.node.reads[2:] == [ReadGrant(3, Index(9))]


def test_a_read_needs_a_quorum_that_heard_of_it() -> None:
    """Without the round a deposed leader answers from its own, stale state (RELIABILITY 25)."""
    node = leader(size=5)
    node.core.read(1, 0.0)
    node.sent()
    node.step("n2", HeartbeatReply(Term(1), 1))
    node.step("n2", HeartbeatReply(Term(1), 1))
    node.step("n3", HeartbeatReply(Term(1), 0))  # an echo of an earlier round
    node.step("n4", HeartbeatReply(Term(1), 99))  # of a round that never was
    assert node.node.reads == []
    node.step("n3", HeartbeatReply(Term(1), 1))
    assert node.node.reads == [ReadGrant(1, Index(1))]


def test_a_lost_round_is_made_good_by_the_next_heartbeat() -> None:
    """Its echo proves the same, a little later."""
    node = leader()
    node.core.read(1, 0.0)
    node.sent()
    node.expire()
    node.step("n2", HeartbeatReply(Term(1), 2))
    assert node.node.reads == [ReadGrant(1, Index(1))]


def test_reads_wait_for_the_first_commit_of_the_term() -> None:
    """What earlier leaders committed may lie beyond what we know of (RELIABILITY 27)."""
    node = Alone(1, 1).lead()
    assert node.core.read(1, 0.0)
    assert node.sent() == []
    node.acknowledge("n2")
    node.step("n2", HeartbeatReply(Term(2), 1))
    assert node.node.reads == [ReadGrant(1, Index(3))]


def test_a_followers_question_is_answered_by_message() -> None:
    """It joins the same rounds (thesis 6.4)."""
    node = leader()
    node.step("n3", ReadRequest(Term(1), 77, Index(5)))
    sent = node.step("n2", HeartbeatReply(Term(1), 1))
    assert ("n3", ReadReply(Term(1), 77, Index(5))) in sent


def test_reads_of_a_lost_leadership_are_never_answered() -> None:
    """Whoever asked asks again; an old answer must not meet a new question (RELIABILITY 28, 29)."""
    node = leader()
    node.core.read(1, 0.0)
    node.sent()
    node.step("n2", Heartbeat(Term(2), Index(1), 1))
    node.step("n3", HeartbeatReply(Term(1), 1))
    node.step("n3", HeartbeatReply(Term(2), 1))
    assert node.node.reads == []


def test_too_many_waiting_reads_are_refused() -> None:
    """The newest: a follower's question is dropped in silence, it asks again."""
    node = leader(limits=Limits(reads_waiting_max=1))
    node.core.read(1, 0.0)
    with pytest.raises(Busy, match="1 reads"):
        node.core.read(2, 0.0)
    node.step("n2", ReadRequest(Term(1), 3))
    assert node.step("n2", HeartbeatReply(Term(1), 1)) == []
    assert node.node.reads == [ReadGrant(1, Index(1))]


def test_a_lone_leader_reads_without_a_round() -> None:
    """Its own disk is the quorum."""
    node = Alone(size=1).lead()
    node.core.read(1, 0.0)
    assert node.sent() == []
    assert node.node.reads == [ReadGrant(1, Index(1))]


def lagging() -> Alone:
    """A leader in SNAPSHOT state towards n2."""
    node = Alone(1, 1).lead()
    node.acknowledge("n3")
    position = position_after(node.disk.entries[-1])
    node.disk.snapshot = SnapshotMeta(position, node.cluster.configuration, 1)
    node.disk.cut(position)
    node.core.compacted(position)
    refusal = AppendReply(Term(2), Index(0), True, Index(2), Index(0), Term(0))
    sent = node.step("n2", refusal)
    assert [(to, type(message).__name__) for to, message in sent] == [("n2", "SnapshotChunk")]
    assert node.core.peers_in_snapshot() == ("n2",)
    return node


def test_a_peer_behind_the_log_wants_a_snapshot_once_and_nothing_else_is_sent() -> None:
    """The driver sends it; appends would be refused all the way."""
    node = lagging()
    node.propose()
    assert appends(node.sent(), "n2") == []
    assert states(node)["n2"][0] is ProgressState.SNAPSHOT


def test_an_installed_snapshot_is_followed_by_the_log_behind_it() -> None:
    """Its index counts as acknowledged: it is durable there."""
    node = lagging()
    node.propose()
    node.sent()
    (probe,) = appends(node.step("n2", SnapshotReply(Term(2), Index(3), 1, True)), "n2")
    assert (probe.previous_index, [entry.first for entry in probe.entries]) == (3, [4])
    assert states(node)["n2"] == (ProgressState.PROBE, 3, 4)
    assert node.core.peers_in_snapshot() == ()


def test_an_acknowledgement_that_reaches_the_log_ends_the_wait_for_a_snapshot() -> None:
    """The peer got there another way, or its answer was late: the log is enough for it again."""
    node = lagging()
    node.step("n2", AppendReply(Term(2), Index(2)))
    assert states(node)["n2"][0] is ProgressState.SNAPSHOT
    node.step("n2", AppendReply(Term(2), Index(3)))
    assert states(node)["n2"][0] is ProgressState.PROBE


def test_a_snapshot_that_nobody_sent_is_not_believed() -> None:
    """What is beyond our commit index is in no snapshot of ours (RELIABILITY 11)."""
    node = lagging()
    node.propose()
    node.sent()
    node.step("n2", SnapshotReply(Term(2), Index(4), 1, True))
    assert states(node)["n2"] == (ProgressState.SNAPSHOT, 0, 1)
    assert node.core.commit == 3


def test_a_snapshot_that_makes_no_progress_is_asked_for_again() -> None:
    """Its pieces, or the word that it is installed, may all be lost."""
    node = lagging()
    wanted = 0
    for _ in range(10):
        node.step("n2", HeartbeatReply(Term(2), 0))
        node.step("n3", HeartbeatReply(Term(2), 0))
        node.cluster.now = node.core.deadline
        node.core.tick(node.cluster.now)
        while (ready := node.core.ready()) is not None:
            wanted += len(ready.snapshots_wanted)
    assert wanted == 1
    assert states(node)["n2"][0] is ProgressState.SNAPSHOT


def test_a_snapshot_is_not_wanted_for_a_peer_that_does_not_answer() -> None:
    """It may be down for days; its first answer starts it."""
    node = lagging()
    for _ in range(20):
        node.step("n3", HeartbeatReply(Term(2), 0))
        assert all(isinstance(message, Heartbeat) for _, message in node.expire())
    assert states(node)["n2"][0] is ProgressState.PROBE
    sent = node.step("n2", HeartbeatReply(Term(2), 0))
    assert [type(message).__name__ for _, message in sent] == ["SnapshotChunk"]


def test_a_peer_that_lost_its_tail_is_filled_up_again() -> None:
    """It acknowledged what its disk then lost: probing must go back behind that (RELIABILITY R5)."""
    node = leader(1, 1)
    node.core.peer_lost(NodeId("n2"), node.cluster.now)
    (probe,) = appends(node.step("n2", HeartbeatReply(Term(2), 0)), "n2")
    assert probe.previous_index == 3
    (probe,) = appends(node.step("n2", AppendReply(Term(2), Index(0), True, Index(3), Index(1), Term(1))), "n2")
    assert (probe.previous_index, [entry.first for entry in probe.entries]) == (1, [2, 3])
    node.acknowledge("n2")
    assert states(node)["n2"] == (ProgressState.REPLICATE, 3, 4)


def test_a_transfer_brings_the_target_up_and_then_tells_it_to_campaign() -> None:
    """Its log then wins any comparison; no proposal may lengthen ours meanwhile (thesis 3.10)."""
    node = leader()
    node.propose()
    node.sent()
    assert node.core.transfer(NodeId("n3"), node.cluster.now)
    assert node.propose() is None
    assert node.sent() == []
    assert ("n3", TimeoutNow(Term(1))) in node.acknowledge("n3")
    node.step("n3", VoteRequest(Term(2), Index(2), Term(1), transfer=True))
    assert (node.core.role, node.core.vote) == (Role.FOLLOWER, "n3")


def test_a_transfer_that_fails_is_given_up_and_proposals_go_on() -> None:
    """The target may have died; the old leader must not be paralysed by it."""
    node = leader()
    assert node.core.transfer(NodeId("n3"), node.cluster.now)
    assert node.propose() is None
    for _ in range(10):
        node.step("n2", HeartbeatReply(Term(1), 0))
        node.expire()
    assert node.core.role is Role.LEADER
    assert node.propose() == 2


def test_a_transfer_without_a_name_takes_the_most_caught_up_voter_that_answers() -> None:
    """Never a learner, never ourselves, never a stranger."""
    names = node_names(4)
    node = Alone(configuration=Configuration(names[:3], learners=names[3:])).lead()
    node.acknowledge("n3")
    assert node.core.transfer(None, node.cluster.now)
    assert ("n3", TimeoutNow(Term(1))) in node.sent()
    for target in ("n1", "n4", "stranger"):
        assert not node.core.transfer(NodeId(target), node.cluster.now)
    lone = Alone(size=1).lead()
    assert not lone.core.transfer(None, 0.0)


def test_an_idle_peer_is_spared_the_notice_of_a_commit_until_it_acts_for_a_client() -> None:
    """Waking a node that has nobody to tell costs a tenth of a lone write; heartbeats tell it soon enough."""

    def noticed(node: Alone) -> list[str]:
        node.propose()
        node.sent()
        sent = node.acknowledge("n2", "n3")
        return sorted(peer for peer, message in sent if isinstance(message, Append) and not message.entries)

    node = leader()
    node.acknowledge("n2", "n3")
    assert noticed(node) == ["n2", "n3"]
    node.step("n2", HeartbeatReply(Term(1), 0, idle=True))
    assert noticed(node) == ["n3"]
    node.step("n2", ReadRequest(Term(1), 1))
    assert noticed(node) == ["n2", "n3"]
    node.step("n2", HeartbeatReply(Term(1), 0, idle=True))
    node.core.peer_has_clients(NodeId("n2"))
    assert noticed(node) == ["n2", "n3"]
