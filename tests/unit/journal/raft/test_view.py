"""What a core tells of itself for monitoring, in each role."""

from __future__ import annotations

from journal.raft.messages import Heartbeat
from journal.raft.ready import Role
from journal.raft.vitals import Vitals
from journal.values import Configuration, Index, NodeId, Term
from tests.support.raft_cluster import Alone, node_names


def vitals(node: Alone) -> Vitals:
    return node.core.vitals()


def test_a_node_that_hears_nobody_says_when_it_will_campaign() -> None:
    node = Alone(1)
    told = vitals(node)
    assert told.next_election_at == node.core._election_at()
    assert (told.heard_at, told.heartbeat_sent_at, told.transferring_to) == (None, None, None)


def test_a_follower_says_when_it_last_heard_its_leader() -> None:
    """The one figure that shows a bad link before the election does."""
    node = Alone(1)
    node.cluster.now += 0.125
    node.step("n2", Heartbeat(Term(1), Index(0), 1))
    told = vitals(node)
    assert told.heard_at == node.cluster.now
    assert told.next_election_at is not None and told.next_election_at > told.heard_at
    assert told.heartbeat_sent_at is None


def test_a_leader_says_what_it_has_sent_and_what_waits() -> None:
    """It has heard nobody and expects no election: those figures would only mislead."""
    node = Alone(1)
    node.lead()
    before = vitals(node)
    assert (before.next_election_at, before.heard_at, before.uncommitted_bytes) == (None, None, 0)
    assert before.heartbeat_sent_at is not None and before.heartbeat_sent_at <= node.cluster.now
    node.core.propose(b"12345", 1, 0, node.cluster.now)
    after = vitals(node)
    assert after.uncommitted_bytes >= 5
    assert after.log_memory_bytes > before.log_memory_bytes
    node.wait(node.cluster.timing.heartbeat_interval)
    assert vitals(node).heartbeat_sent_at == node.cluster.now


def test_a_leader_says_to_whom_it_hands_over() -> None:
    """Until then it takes no proposals, and whoever looks must see why."""
    node = Alone(1)
    node.lead()
    assert node.core.transfer(NodeId("n2"), node.cluster.now)
    assert vitals(node).transferring_to == "n2"


def test_who_has_no_vote_expects_no_election_of_its_own() -> None:
    names = node_names(4)
    node = Alone(configuration=Configuration(names[1:], observers=names[:1]))
    assert node.core.role is Role.OBSERVER
    assert vitals(node).next_election_at is None
