"""The thesis on handing over leadership (3.10), on reading (6.4) and on membership's quorums (4.3)."""

from __future__ import annotations

from journal.raft.ready import Role
from journal.values import Configuration, Index, NodeId
from tests.support.raft_cluster import Cluster, node_names


def test_a_prior_leader_stops_accepting_brings_up_and_hands_over() -> None:
    """3.10: the prior leader stops accepting new client requests, fully updates the target's log to match its own, and
    sends a TimeoutNow request to the target."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    cluster.isolate(3)
    first.core.propose(b"behind", 1, 0, cluster.now)
    cluster.settle()
    cluster.heal()
    assert first.core.transfer(NodeId("n3"), cluster.now)
    assert first.core.propose(b"refused", 1, 0, cluster.now) is None
    cluster.wait(cluster.timing.election_timeout)
    assert [node.name for node in cluster.leaders()] == ["n3"]
    assert cluster[3].payloads() == [b"behind"]


def test_the_target_wins_although_everybody_still_hears_the_prior_leader() -> None:
    """3.10, 4.2.3: a campaign in the leader's own name is legitimate during the minimum election timeout."""
    cluster = Cluster(5)
    first = cluster.elect(1)
    cluster.wait(1)
    assert first.core.transfer(NodeId("n4"), cluster.now)
    cluster.settle()
    assert [node.name for node in cluster.leaders()] == ["n4"]
    assert cluster[4].core.term == 2


def test_a_transfer_that_does_not_complete_is_aborted() -> None:
    """3.10: if leadership transfer does not complete after about an election timeout, the prior leader aborts the
    transfer and resumes accepting client requests."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    cluster[3].crash()
    assert first.core.transfer(NodeId("n3"), cluster.now)
    assert first.core.propose(b"x", 1, 0, cluster.now) is None
    cluster.wait(cluster.timing.election_timeout * 1.01)
    assert first.core.propose(b"x", 1, 0, cluster.now) is not None


def test_a_read_waits_for_an_entry_of_the_leaders_term() -> None:
    """6.4: if the leader has not yet marked an entry from its current term committed, it waits until it has done so."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    first.core.propose(b"x", 1, 0, cluster.now)
    cluster.settle()
    first.crash()
    second = cluster.elect(2)
    second.reads.clear()
    assert second.core.read(5, cluster.now)
    cluster.settle()
    (grant,) = second.reads
    assert grant.index >= 3


def test_a_leader_that_was_replaced_unknowingly_answers_no_read() -> None:
    """6.4: the leader needs to make sure it has not been superseded by a newer leader of which it is unaware."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    cluster.isolate(1)
    first.paused = True  # it neither notices nor steps down
    cluster.wait(3)
    (second,) = [node for node in cluster.leaders() if node is not first]
    second.core.propose(b"new", 1, 0, cluster.now)
    cluster.settle()
    assert first.core.role is Role.LEADER
    assert first.core.read(1, cluster.now)
    cluster.settle()
    cluster.heal()
    cluster.settle()
    assert first.reads == []
    first.paused = False
    cluster.wait(1)
    assert first.reads == [] and first.core.role is Role.FOLLOWER


def test_followers_can_serve_reads_with_an_index_from_the_leader() -> None:
    """6.4: the follower could issue a request to the leader that just asks for a current readIndex."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    first.core.propose(b"x", 1, 0, cluster.now)
    cluster.settle()
    for number in (2, 3):
        assert cluster[number].core.read(number, cluster.now, floor=Index(1))
    cluster.settle()
    for number in (2, 3):
        (grant,) = cluster[number].reads
        assert (grant.context, grant.index) == (number, 2)
        assert cluster[number].core.applied >= grant.index


def test_agreement_in_a_joint_configuration_needs_majorities_of_both() -> None:
    """4.3: agreement (for elections and entry commitment) requires majorities from both the old and new
    configurations."""
    names = node_names(5)
    cluster = Cluster(configuration=Configuration(names[:3], outgoing=(names[0], *names[3:])))
    cluster.isolate(4)
    cluster.isolate(5)
    cluster.wait(3)
    assert not cluster.leaders()
    cluster.heal()
    first = cluster.elect(1)
    assert first.core.commit >= 1


def test_learners_receive_the_log_and_decide_nothing() -> None:
    """4.2.1: non-voting members receive log entries but are not counted for majorities."""
    names = node_names(4)
    cluster = Cluster(configuration=Configuration(names[:3], learners=names[3:]))
    first = cluster.elect(1)
    first.core.propose(b"x", 1, 0, cluster.now)
    cluster.settle()
    assert cluster[4].payloads() == [b"x"] and cluster[4].core.role is Role.LEARNER
    cluster[2].crash()
    cluster[3].crash()
    index = first.core.propose(b"y", 1, 0, cluster.now)
    cluster.settle()
    assert index is not None and first.core.commit < index
    cluster.wait(5)
    assert cluster.leaders() == [] and cluster[4].core.term == first.core.term
