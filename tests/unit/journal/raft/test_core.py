"""The façade: terms, roles, what may leave when, and what the driver is told."""

from __future__ import annotations

from random import Random

import pytest

from journal.raft.messages import (
    FROM_LEADERS,
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    Proposal,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.raft.ready import Leadership, Role
from journal.raft.state import CEILING
from journal.values import (
    START,
    Configuration,
    HardState,
    Index,
    NodeId,
    Position,
    SnapshotMeta,
    Term,
)
from tests.support.raft_cluster import Alone, Cluster, append_after, chain, node_names

META = SnapshotMeta(Position(Index(9), Term(1), 1, 0), Configuration(node_names(3)), 1)


def every_message(term: int) -> list[Message]:
    at = Term(term)
    return [
        VoteRequest(at, Index(0), Term(0)),
        VoteRequest(at, Index(0), Term(0), pre=True),
        VoteReply(at, True),
        VoteReply(at, False, True),
        Append(at, Index(0), Term(0), 0, Index(0)),
        AppendReply(at, Index(0)),
        AppendReply(at, Index(0), True),
        Heartbeat(at, Index(0), 1),
        HeartbeatReply(at, 1),
        TimeoutNow(at),
        ReadRequest(at, 1),
        ReadReply(at, 1, Index(0)),
        SnapshotChunk(at, META, 0, b""),
        SnapshotReply(at, Index(9), 0),
    ]


def test_nothing_to_do_gives_no_ready() -> None:
    """The driver asks until then; a Ready without effects would keep it busy for ever."""
    node = Alone(1)
    assert node.core.ready() is None
    node.step("n2", Heartbeat(Term(1), Index(0), 1))
    assert node.core.ready() is None


def test_numbers_of_readies_rise_by_one() -> None:
    """`saved` speaks of them."""
    node = Alone()
    numbers = [ready.number for _ in range(5) for ready in _drained(node)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 3


def _drained(node: Alone) -> list[object]:
    node.cluster.now = node.core.deadline
    node.core.tick(node.cluster.now)
    return list(node.node.run())


@pytest.mark.parametrize("number", range(14))
@pytest.mark.parametrize("role", ("follower", "candidate", "leader"))
def test_poisoned_terms_move_nobody(number: int, role: str) -> None:
    """The largest term wins everything, for ever (RELIABILITY 11)."""
    node = Alone(1)
    if role == "leader":
        node.lead()
    elif role == "candidate":
        node.expire()
        node.grant("n2")
    term, was = node.core.term, node.core.role
    assert node.step("n2", every_message(CEILING)[number]) == []
    assert (node.core.term, node.core.role) == (term, was)


@pytest.mark.parametrize("number", range(14))
@pytest.mark.parametrize("role", ("follower", "candidate", "leader"))
def test_messages_of_older_terms_change_nothing(number: int, role: str) -> None:
    """Raft 5.1. Their answers at most tell of the newer term."""
    node = Alone(1, term=5)
    if role == "leader":
        node.lead()
    elif role == "candidate":
        node.expire()
        node.grant("n2")
    before = (node.core.term, node.core.role, node.core.leader, node.core.last_index, node.core.commit)
    for _, answer in node.step("n2", every_message(3)[number]):
        assert answer.term == node.core.term
    assert before == (node.core.term, node.core.role, node.core.leader, node.core.last_index, node.core.commit)
    assert node.node.reads == []


def test_a_leader_of_an_older_term_is_told_so() -> None:
    """It may be all that the others hear, and this node could never join them (RELIABILITY 7)."""
    node = Alone(1, term=5)
    told = [HeartbeatReply(Term(5), 0)]
    assert [node.one("n2", every_message(3)[number]) for number in (4, 7, 12)] == told * 3


def test_news_of_a_newer_term_is_no_answer_to_a_question_of_that_term() -> None:
    """An echo of a round, or a refusal, sent to somebody's former self must not count for the new one.

    1. n1 leads term 1; its heartbeat of round 1 is slow. 2. n2, in term 3 by then, tells so. 3. n1 has
    meanwhile come to lead term 3 and is in round 1 of it, of which n2 has not heard.
    """
    other = Alone(term=3)
    news = [other.one("n2", every_message(1)[number]) for number in (4, 7, 12)]
    node = Alone(term=2).lead()
    assert node.core.term == 3
    node.acknowledge("n2")
    node.core.read(2, 0.0)
    node.sent()
    before = node.core.progress()
    for message in news:
        node.step("n2", message)
        node.step("n3", message)
    assert node.node.reads == []
    assert node.core.progress() == before


@pytest.mark.parametrize("role", ("follower", "candidate", "leader"))
def test_strangers_are_not_listened_to(role: str) -> None:
    """Only members have a say; a removed server's term is none of ours (RELIABILITY 8, 43). Leaders and candidates
    are heard: they may be in a configuration that is still on its way here (Raft 6)."""
    node = Alone(1)
    if role == "leader":
        node.lead()
    elif role == "candidate":
        node.expire()
    term = node.core.term
    for message in every_message(9):
        if not isinstance(message, FROM_LEADERS):
            assert node.step("stranger", message) == []
    assert node.core.term == term


def test_a_forwarded_proposal_is_a_mistake_of_the_driver() -> None:
    """It intercepts them: the core knows no clients."""
    node = Alone(1)
    with pytest.raises(AssertionError, match="driver"):
        node.step("n2", Proposal(Term(1), 0, 0, 1, b""))


def test_two_leaders_in_one_term_stop_the_node() -> None:
    """It cannot happen while every node keeps its votes; going on would only spread the damage (I1)."""
    node = Alone(1).lead()
    with pytest.raises(AssertionError):
        node.step("n2", Heartbeat(node.core.term, Index(0), 1))
    follower = Alone(1)
    follower.step("n2", Heartbeat(Term(1), Index(0), 1))
    with pytest.raises(AssertionError):
        follower.step("n3", Heartbeat(Term(1), Index(0), 1))


def test_a_new_term_and_its_entries_reach_the_disk_together_in_one_ready() -> None:
    """Hard state first, then entries, then the replies that speak of both."""
    node = Alone(1)
    node.core.step(NodeId("n2"), append_after(node.entries[0], chain(3, after=_end(node)), term=3), 0.0)
    ready = node.core.ready()
    assert ready is not None and ready.must_save
    assert ready.hard_state == HardState(Term(3), None)
    assert [entry.term for entry in ready.entries] == [3]
    assert [message for _, message in ready.replies] == [AppendReply(Term(3), Index(2))]
    assert ready.messages == []
    assert ready.leadership == Leadership(Role.FOLLOWER, Term(3), NodeId("n2"))


def _end(node: Alone) -> Position:
    return node.disk.last


def test_the_driver_hears_of_every_change_of_leadership_once() -> None:
    """It fails what waits and asks again what may be lost."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    assert [(shown.role.value, shown.leader) for shown in cluster[2].leadership] == [
        ("follower", None),
        ("follower", "n1"),
    ]
    cluster.wait(5)
    shown = len(first.leadership)
    assert first.leadership[-1] == Leadership(Role.LEADER, Term(1), NodeId("n1"), True)
    cluster.wait(5)
    assert len(first.leadership) == shown


def test_ticks_before_the_deadline_do_nothing() -> None:
    """The driver's timer may fire early, or for something else."""
    node = Alone(1)
    assert node.core.deadline > 0
    node.core.tick(node.core.deadline / 2)
    assert node.core.ready() is None


@pytest.mark.parametrize("chance", (0.0, 0.999))
def test_the_first_election_after_a_start_comes_soon(chance: float) -> None:
    """The pre-vote makes haste harmless, and a restarted cluster should not wait a whole timeout."""
    cluster = Cluster(1, chance=lambda: chance)
    timing = cluster.timing
    assert timing.reset_timeout <= cluster[1].core.deadline <= 5 * timing.reset_timeout


def test_a_node_that_does_not_lead_proposes_and_transfers_nothing() -> None:
    """None and False are answers, not errors: leadership may move at any time."""
    node = Alone(1)
    assert node.propose() is None
    assert not node.core.transfer(None, 0.0)
    assert node.core.progress() == () and node.core.peers_in_snapshot() == ()


def test_a_payload_beyond_the_limit_is_a_mistake_of_the_caller() -> None:
    """It could never be written as one record."""
    node = Alone(size=1).lead()
    with pytest.raises(AssertionError):
        node.propose(b"x" * (node.cluster.limits.record_bytes_max + 1))


def test_saves_and_applications_that_never_were_are_a_mistake_of_the_driver() -> None:
    """Believing them would acknowledge what is on no disk."""
    node = Alone(1)
    with pytest.raises(AssertionError):
        node.core.saved(1, 0.0)
    with pytest.raises(AssertionError):
        node.core.applied_to(Index(1))


def test_a_node_does_not_start_on_what_cannot_be() -> None:
    """A machine ahead of its log, a log ahead of its term, a configuration without voters."""
    with pytest.raises(AssertionError):
        Alone(2, term=1)
    with pytest.raises(ValueError, match="voter"):
        Cluster(configuration=Configuration((), learners=node_names(1)))


def test_a_restart_goes_on_from_snapshot_and_log() -> None:
    """What the machine holds is committed; what follows is found out again."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    for number in range(6):
        leader.core.propose(b"%d" % number, 1, 0, cluster.now)
    cluster.settle()
    leader.snapshot(keep=3)
    leader.core.propose(b"last", 1, 0, cluster.now)
    cluster.settle()
    leader.crash()
    leader.start(memory_entries=0)
    assert (leader.core.commit, leader.core.applied, leader.core.last_index) == (7, 7, 8)
    cluster.wait(2)
    assert leader.payloads() == [b"last"]
    assert leader.core.commit == cluster.leaders()[0].core.commit


def test_killing_the_leader_costs_far_less_than_an_election_timeout() -> None:
    """The reset connections tell; collisions of two quick followers are sorted out by short, random pauses."""
    took = []
    for seed in range(60):
        cluster = Cluster(3, chance=Random(seed).random)
        cluster.elect(1)
        cluster.wait(1.0)
        cluster[1].crash()
        for number in (2, 3):
            cluster[number].core.peer_lost(NodeId("n1"), cluster.now)
        before = cluster.now
        while not cluster.leaders():
            cluster.settle()
            cluster.advance(max(0.0, min(node.core.deadline for node in cluster.up()) - cluster.now))
            cluster.settle()
        took.append(cluster.now - before)
    assert max(took) < 0.3 and sorted(took)[30] < 0.05, (max(took), sorted(took)[30])


def test_nothing_of_the_core_depends_on_the_order_of_a_set() -> None:
    """Peers are served in the order of their names, whatever the hash seed."""
    node = Alone(1, size=5)
    assert [to for to, _ in node.expire()] == ["n2", "n3", "n4", "n5"]
    node.grant("n2", "n3")
    node.grant("n2", "n3")
    assert [to for to, _ in node.wait(0.1)] == ["n2", "n3", "n4", "n5"]


def test_the_log_starts_behind_what_was_compacted_only_when_it_is_applied() -> None:
    """Cutting what the machine does not hold loses it (RELIABILITY 35)."""
    node = Alone(1, 1)
    with pytest.raises(AssertionError):
        node.core.compacted(node.disk.last)
    assert node.core._state.log.start == START
