"""The Raft paper's sentences on the log: figure 2, sections 5.3, 5.4.2, 5.5 and 7."""

from __future__ import annotations

import pytest

from journal.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, Message, SnapshotChunk, VoteReply
from journal.raft.ready import Role
from journal.values import START, HardState, Index, NodeId, Position, SnapshotMeta, Term
from tests.support.raft_cluster import Alone, Cluster, append_after, chain, position_after


def appends(sent: list[tuple[str, Message]]) -> list[tuple[str, Append]]:
    return [(to, message) for to, message in sent if isinstance(message, Append)]


def leader(*terms: int, size: int = 3) -> Alone:
    node = Alone(*terms, size=size).lead()
    node.acknowledge(*[f"n{number}" for number in range(2, size + 1)])
    return node


def test_a_command_is_appended_and_sent_to_all_in_parallel() -> None:
    """5.3: the leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each
    of the other servers."""
    node = leader()
    assert node.propose(b"command") == 2
    sent = appends(node.sent(save=False))
    assert [to for to, _ in sent] == ["n2", "n3"]
    for _, message in sent:
        (entry,) = message.entries
        assert (entry.first, entry.term, bytes(entry.payload)) == (2, 1, b"command")


@pytest.mark.parametrize(("size", "acknowledged", "committed"), [(3, 0, 1), (3, 1, 2), (5, 1, 1), (5, 2, 2), (4, 2, 2)])
def test_an_entry_is_committed_once_a_majority_has_it(size: int, acknowledged: int, committed: int) -> None:
    """5.3: a log entry is committed once the leader that created the entry has replicated it on a majority."""
    node = leader(size=size)
    node.propose()
    node.sent()
    node.acknowledge(*[f"n{number}" for number in range(2, 2 + acknowledged)])
    assert node.core.commit == node.core.applied == committed


@pytest.mark.parametrize("terms", [(), (1,), (1, 1, 2), (2,)])
def test_a_commit_also_commits_all_preceding_entries_of_earlier_leaders(terms: tuple[int, ...]) -> None:
    """5.3: this also commits all preceding entries in the leader's log, including entries of previous leaders."""
    node = leader(*terms)
    assert node.core.applied == len(terms) + 1
    assert [entry.term for entry in node.node.applied[: len(terms)]] == list(terms)


def test_followers_learn_the_highest_committed_index_from_the_leader() -> None:
    """5.3: the leader keeps track of the highest index it knows to be committed, and it includes that index in future
    AppendEntries RPCs (including heartbeats) so that the other servers eventually find out."""
    node = leader()
    node.propose()
    node.sent()
    assert {message.commit for _, message in appends(node.acknowledge("n2"))} == {2}
    node.acknowledge("n3")
    beats = [message for _, message in node.wait(0.1) if isinstance(message, Heartbeat)]
    assert {beat.commit for beat in beats} == {2}


def test_a_follower_applies_what_it_learns_to_be_committed_in_log_order() -> None:
    """5.3: once a follower learns that a log entry is committed, it applies the entry to its local state machine (in
    log order)."""
    for commit in range(4):
        node = Alone()
        node.step("n2", append_after(START, chain(1, 1, 1), term=1, commit=commit))
        assert [entry.first for entry in node.node.applied] == list(range(1, commit + 1))


@pytest.mark.parametrize(
    ("index", "term", "accepted"),
    [(0, 0, True), (1, 1, True), (2, 2, True), (1, 2, False), (2, 1, False), (3, 3, False), (3, 2, False)],
)
def test_a_follower_refuses_entries_whose_predecessor_it_does_not_have(index: int, term: int, accepted: bool) -> None:
    """5.3: if the follower does not find an entry in its log with the same index and term, then it refuses the new
    entries."""
    node = Alone(1, 2)
    crcs = [0, *(entry.crc for entry in node.entries), 0]
    answer = node.one("n2", append_after(Position(Index(index), Term(term), crcs[index], 0), [], term=3))
    assert isinstance(answer, AppendReply)
    assert answer.refused is not accepted
    assert answer.match == (index if accepted else 0)


@pytest.mark.parametrize(
    ("keep", "terms", "expected"),
    [(2, (3,), (1, 2, 3)), (1, (3, 4), (1, 3, 4)), (0, (1,), (1, 2)), (0, (3,), (3,)), (2, (), (1, 2))],
)
def test_conflicting_entries_are_overwritten(keep: int, terms: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """5.3, figure 2: if an existing entry conflicts with a new one (same index but different terms), delete the
    existing entry and all that follow it; append any new entries not already in the log."""
    node = Alone(1, 2)
    before = position_after(node.entries[keep - 1]) if keep else START
    new = node.entries[:1] if terms == (1,) else chain(*terms, after=before)
    node.step("n2", append_after(before, new, term=4))
    assert tuple(entry.term for entry in node.disk.entries) == expected


@pytest.mark.parametrize(
    "theirs",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),  # a: an entry is missing
        (1, 1, 1, 4),  # b: many are
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),  # c: one of term 6 is uncommitted here
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),  # d: two of term 7
        (1, 1, 1, 4, 4, 4, 4),  # e
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),  # f
    ],
)
def test_a_leader_brings_each_log_of_figure_7_into_line(theirs: tuple[int, ...]) -> None:
    """5.3: the leader handles inconsistencies by forcing the followers' logs to duplicate its own."""
    ours = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    cluster = Cluster(3)
    for number, terms in ((1, ours), (2, theirs)):
        node = cluster[number]
        node.crash()
        node.disk.entries = chain(*terms)
        node.disk.hard_state = HardState(Term(7), None)
        node.start()
    cluster[3].crash()
    cluster[3].disk.hard_state = HardState(Term(7), None)
    cluster[3].start()
    cluster.checks.watching = False
    # n3 is empty: with its vote n1 wins even where n2 has the later log.
    cluster.elect(1)
    cluster.wait(2)
    logs = [[entry.crc for entry in cluster[number].disk.entries] for number in (1, 2, 3)]
    assert logs[0] == logs[1] == logs[2]
    assert [entry.term for entry in cluster[1].disk.entries] == [*ours, 8]


def test_a_leader_never_overwrites_or_deletes_its_own_entries() -> None:
    """5.3, leader append-only."""
    node = leader(1, 1)
    before = [entry.crc for entry in node.disk.entries]
    for _ in range(3):
        node.step("n2", AppendReply(Term(2), Index(0), True, Index(3), Index(0), Term(0)))
        node.propose()
        node.sent()
    assert [entry.crc for entry in node.disk.entries][: len(before)] == before


def test_figure_8() -> None:
    """5.4.2: Raft never commits log entries from previous terms by counting replicas.

    (a) S1 leads term 2 and replicates index 2 to S2 only. (b) S5 wins term 3 with S3 and S4 and accepts another entry
    at index 2. (c) S1 leads again, in term 4, and index 2 of term 2 reaches a majority: were it committed now, (d) S5
    could still overwrite it.
    """
    one = chain(1)
    s1 = Alone(1, 2, size=5, term=3)
    assert s1.entries == one + chain(2, after=position_after(one[0]))
    s1.lead()
    assert (s1.core.term, s1.core.last_index) == (4, 3)
    s1.acknowledge("n2", "n3", match=2)  # (c)
    assert s1.core.commit == 0
    s1.acknowledge("n2", "n3", match=3)  # (e): an entry of its own term is on a majority: now both are safe
    assert s1.core.commit == 3


def test_figure_8_overwritten() -> None:
    """5.4.2: as (d) tells, what a majority holds of an older term can still be overwritten by a later leader."""
    cluster = Cluster(5)
    one = chain(1)
    two, three = chain(2, after=position_after(one[0])), chain(3, after=position_after(one[0]))
    for number, entries in ((1, two), (2, two), (3, two), (4, []), (5, three)):
        node = cluster[number]
        node.crash()
        node.disk.entries = one + entries
        node.disk.hard_state = HardState(Term(4), None)
        node.start()
    cluster.elect(5)
    cluster.wait(2)
    assert [[entry.term for entry in node.disk.entries] for node in cluster.up()] == [[1, 3, 5]] * 5


def test_appends_are_idempotent() -> None:
    """5.5: if a follower receives an AppendEntries request that includes log entries already present in its log, it
    ignores those entries in the new request."""
    node = Alone()
    message = append_after(START, chain(1, 1), term=1, commit=1)
    for _ in range(3):
        answer = node.one("n2", message)
        assert isinstance(answer, AppendReply) and not answer.refused
    assert [entry.first for entry in node.disk.entries] == [1, 2]
    assert [entry.first for entry in node.node.applied] == [1]


def test_a_leader_repeats_its_appends_until_they_are_answered() -> None:
    """5.3: if followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs
    indefinitely, even after it has responded to the client."""
    node = leader()
    node.propose()
    node.sent()
    node.acknowledge("n2")
    repeated = 0
    for _ in range(40):
        node.wait(node.cluster.timing.heartbeat_interval)
        node.step("n2", HeartbeatReply(Term(1), 0))
        repeated += len([1 for to, _ in appends(node.step("n3", HeartbeatReply(Term(1), 0))) if to == "n3"])
    assert repeated >= 5
    assert node.core.commit == 2


def test_a_follower_far_behind_is_brought_up_by_a_snapshot() -> None:
    """7: the leader must occasionally send snapshots to followers that lag behind, when it has already discarded the
    next log entry that it needs to send."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    cluster[3].crash()
    for number in range(10):
        first.core.propose(b"%d" % number, 1, 0, cluster.now)
    cluster.settle()
    first.snapshot()
    cluster[3].start()
    cluster.wait(2)
    assert cluster[3].restores == 1
    first.core.propose(b"after", 1, 0, cluster.now)
    cluster.settle()
    assert cluster[3].core.applied == first.core.applied
    assert cluster[3].payloads() == [b"after"]


def test_a_follower_keeps_what_follows_a_snapshot_it_already_has() -> None:
    """7: if instead the follower receives a snapshot that describes a prefix of its log (due to retransmission or by
    mistake), then entries following the snapshot are still valid and must be retained."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    for number in range(5):
        first.core.propose(b"%d" % number, 1, 0, cluster.now)
    cluster.settle()
    follower = cluster[2]
    prefix = SnapshotMeta(position_after(follower.disk.entries[2]), cluster.configuration, 1)
    cluster.hand(first.name, follower.name, SnapshotChunk(first.core.term, prefix, 0, b""))
    cluster.settle()
    assert follower.restores == 0 and follower.core.last_index == 6


def test_committed_entries_are_in_the_logs_of_all_later_leaders() -> None:
    """Figure 3, leader completeness: whoever lacks one cannot win."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    cluster[3].crash()
    first.core.propose(b"kept", 1, 0, cluster.now)
    cluster.settle()
    first.crash()
    cluster[3].start()
    cluster.wait(5)
    (second,) = cluster.leaders()
    assert second.name == "n2"
    assert second.payloads() == [b"kept"] == cluster[3].payloads()


def test_an_uncommitted_entry_of_a_dead_leader_may_vanish_and_nobody_applied_it() -> None:
    """5.3, state machine safety from the other side: what no majority has is not applied anywhere."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    cluster.isolate(1)
    first.core.propose(b"lost", 1, 0, cluster.now)
    cluster.settle()
    cluster.wait(3)
    (second,) = cluster.leaders()
    second.core.propose(b"kept", 1, 0, cluster.now)
    cluster.settle()
    cluster.heal()
    cluster.wait(3)
    assert [node.payloads() for node in cluster.up()] == [[b"kept"]] * 3
    cluster.hand(NodeId("n1"), second.name, VoteReply(Term(1), True))
    assert second.core.role is Role.LEADER
