"""Changes of the configuration: the steps, the refusals, and what survives a crash in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.errors import Busy, ChangeRefused, NotLeader
from journal.raft.ready import Role
from journal.values import Configuration, NodeId
from tests.support.raft_cluster import Cluster, Node, node_names

NAMES = node_names(7)


def until(cluster: Cluster, fact: Callable[[], bool], seconds: float = 30.0) -> None:
    end = cluster.now + seconds
    while not fact():
        assert cluster.now < end, [node.core.configuration for node in cluster.up()]
        cluster.wait(0.05)


def change(cluster: Cluster, leader: Node, *numbers: int) -> None:
    """Make these the voters and wait until all of them know that it is done."""
    new = tuple(NAMES[number - 1] for number in numbers)
    leader.core.update_voters(leader.core.configuration.voters, new, {}, cluster.now)
    until(cluster, lambda: all(is_done(cluster[number], new) for number in numbers))


def is_done(node: Node, voters: tuple[NodeId, ...]) -> bool:
    return node.up and node.core.committed_configuration == Configuration(voters)


def propose(cluster: Cluster, payload: bytes) -> None:
    """Through whoever leads, and wait until it is committed there."""
    until(cluster, lambda: any(leader.core.serving for leader in cluster.leaders()))
    leader = next(node for node in cluster.leaders() if node.core.serving)
    index = leader.core.propose(payload, 1, 0, cluster.now)
    assert index is not None
    until(cluster, lambda: leader.core.commit >= index)


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, (1, 2, 3)), (3, (1, 2, 3, 4, 5)), (3, (4, 5, 6)), (3, (2,)), (5, (1, 2, 3)), (3, (1, 2, 4))],
)
def test_any_voters_may_become_any_others_in_one_change(before: int, after: tuple[int, ...]) -> None:
    """Joint consensus needs no sequence of single steps (Raft 6)."""
    cluster = Cluster(before, spare=7 - before)
    leader = cluster.elect(1)
    propose(cluster, b"before")
    change(cluster, leader, *after)
    propose(cluster, b"after")
    until(cluster, lambda: all(cluster[number].payloads() == [b"before", b"after"] for number in after))


def test_old_voters_that_are_not_the_present_ones_are_refused() -> None:
    """Whoever asks must know what he changes: two administrators at once would undo each other's work."""
    cluster = Cluster(3, spare=1)
    leader = cluster.elect(1)
    with pytest.raises(ChangeRefused, match="the voters are n1, n2, n3, not n1, n2"):
        leader.core.update_voters(NAMES[:2], NAMES[:4], {}, cluster.now)
    assert leader.core.configuration == Configuration(NAMES[:3])


def test_only_a_leader_that_has_committed_in_its_term_changes_anything() -> None:
    """Otherwise two changes that know nothing of each other may both be decided (RELIABILITY 37)."""
    cluster = Cluster(3, spare=1)
    leader = cluster.elect(1)
    with pytest.raises(NotLeader, match="n2 does not lead: n1 does"):
        cluster[2].core.update_voters(NAMES[:3], NAMES[:4], {}, cluster.now)
    leader.crash()
    leader.start()
    cluster.isolate(3)
    until(cluster, lambda: bool(cluster.leaders()))


def test_a_second_change_waits_for_the_first() -> None:
    cluster = Cluster(3, spare=2)
    leader = cluster.elect(1)
    cluster.isolate(4)
    leader.core.update_voters(NAMES[:3], NAMES[:4], {}, cluster.now)
    with pytest.raises(Busy, match="not committed"):
        leader.core.update_voters(NAMES[:3], NAMES[:5], {}, cluster.now)
    cluster.wait(1)
    with pytest.raises(ChangeRefused, match="a change to n1, n2, n3, n4 is under way"):
        leader.core.update_voters(NAMES[:3], NAMES[:5], {}, cluster.now)
    leader.core.update_voters(NAMES[:3], NAMES[:3], {}, cluster.now)  # given up
    cluster.wait(1)
    assert leader.core.committed_configuration == Configuration(NAMES[:3])


def test_a_newcomer_that_does_not_answer_never_gets_a_say() -> None:
    """Promoted before it has caught up, it would hold up every write (RELIABILITY 42)."""
    cluster = Cluster(3, spare=1)
    leader = cluster.elect(1)
    cluster.isolate(4)
    leader.core.update_voters(NAMES[:3], NAMES[:4], {}, cluster.now)
    cluster.wait(10)
    assert leader.core.configuration.voters == NAMES[:3]
    assert leader.core.configuration.learners == NAMES[3:4]
    propose(cluster, b"x")
    cluster.heal()
    until(cluster, lambda: is_done(leader, NAMES[:4]))


def test_the_next_leader_carries_a_change_on() -> None:
    """What is to become of the cluster stands in its log, not in its leader's memory (RELIABILITY 39)."""
    cluster = Cluster(3, spare=2)
    leader = cluster.elect(1)
    cluster.isolate(4)
    leader.core.update_voters(NAMES[:3], NAMES[:5], {}, cluster.now)
    cluster.wait(1)
    leader.crash()
    cluster.heal()
    until(cluster, lambda: all(is_done(cluster[number], NAMES[:5]) for number in (2, 3, 4, 5)))


def test_a_leader_that_removes_itself_goes_when_all_is_decided() -> None:
    """It leads the change to its end, without counting itself, and then hands over (Raft 6, thesis 4.2.2)."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(cluster, leader, 2, 3)
    until(cluster, lambda: leader.core.role is not Role.LEADER)
    until(cluster, lambda: any(node.core.serving for node in cluster.leaders()))
    assert leader.core.committed_configuration == Configuration(NAMES[1:3])
    propose(cluster, b"x")


def leader_on_its_way_out(cluster: Cluster) -> Node:
    """A leader of three that has just removed itself, and has not handed over yet."""
    leader = cluster.elect(1)
    cluster.wait(1)
    leader.core.update_voters(NAMES[:3], NAMES[1:3], {}, cluster.now)
    leader.run()
    while leader.core.committed_configuration != Configuration(NAMES[1:3]):
        for node in cluster.up():
            node.save(len(node.writes))
            node.run()
        cluster.deliver()
    assert leader.core.role is Role.LEADER
    return leader


def test_a_leader_on_its_way_out_may_be_taken_in_again() -> None:
    """It is then a newcomer to its own cluster."""
    cluster = Cluster(3)
    leader = leader_on_its_way_out(cluster)
    leader.core.update_voters(NAMES[1:3], NAMES[:3], {}, cluster.now)
    leader.run()
    until(cluster, lambda: all(is_done(node, NAMES[:3]) for node in cluster.up()))
    propose(cluster, b"x")


def test_a_leader_that_is_a_newcomer_catches_up_on_its_own_disk_first() -> None:
    """Its log has everything, its disk perhaps not: with a say for a disk that hangs the others would wait for it
    (thesis 4.2.1). Seeds 6062, 6277 and 7505 of the core simulator."""
    cluster = Cluster(3)
    leader = leader_on_its_way_out(cluster)
    leader.save(len(leader.writes))
    leader.core.update_voters(NAMES[1:3], NAMES[:3], {}, cluster.now)
    leader.run()
    index = leader.core.configuration_index
    while cluster.bag:
        cluster.deliver()
        for node in (cluster[2], cluster[3]):
            node.save(len(node.writes))
            node.run()
        leader.run()
    assert leader.core.commit >= index and leader.writes
    assert leader.core.configuration.learners == (leader.name,)
    leader.save(len(leader.writes))
    leader.run()
    assert leader.core.configuration == Configuration(NAMES[:3], outgoing=NAMES[1:3])


def test_a_removed_node_learns_of_it_and_disturbs_nobody() -> None:
    """The leader lets go of it only when it has the configuration that removes it (RELIABILITY 8, 40)."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    change(cluster, leader, 1, 2)
    cluster.wait(1)
    assert cluster[3].core.committed_configuration == Configuration(NAMES[:2])
    term = leader.core.term
    cluster.wait(60)
    assert (leader.core.role, leader.core.term) == (Role.LEADER, term)
    assert [status.peer for status in leader.core.progress()] == ["n2"]


def test_a_configuration_that_was_cut_away_with_its_entry_counts_no_more() -> None:
    """A node uses the newest configuration in its log; when the log loses it, the one before (Raft 6)."""
    cluster = Cluster(3, spare=2)
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.core.update_voters(NAMES[:3], NAMES[:5], {}, cluster.now)
    leader.run()
    leader.save(len(leader.writes))
    assert leader.core.configuration.target == NAMES[:5]
    until(cluster, lambda: any(node is not leader and node.core.serving for node in cluster.leaders()))
    propose_through = next(node for node in cluster.leaders() if node is not leader)
    propose_through.core.propose(b"x", 1, 0, cluster.now)
    cluster.heal()
    until(cluster, lambda: leader.payloads() == [b"x"])
    assert leader.core.configuration == Configuration(NAMES[:3])


def test_the_configuration_survives_a_restart_and_a_snapshot() -> None:
    cluster = Cluster(3, spare=2)
    leader = cluster.elect(1)
    change(cluster, leader, 1, 2, 3, 4)
    leader.snapshot()
    for node in cluster.nodes.values():
        node.crash()
        node.start()
        if node.name != "n5":
            assert node.core.configuration == Configuration(NAMES[:4])
    propose(cluster, b"x")


def test_the_preferred_leader_leads_once_it_can() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    with pytest.raises(ChangeRefused, match="n9 is not a voter"):
        leader.core.set_preferred_leader(NodeId("n9"), cluster.now)
    leader.core.set_preferred_leader(NAMES[1], cluster.now)
    until(cluster, lambda: cluster[2].core.serving)
    cluster.isolate(2)
    until(cluster, lambda: any(node.core.serving for node in cluster.leaders() if node.name != "n2"))
    propose(cluster, b"while it is away")
    cluster.heal()
    until(cluster, lambda: cluster[2].core.serving)
    assert cluster[2].payloads() == [b"while it is away"]


def test_a_preferred_leader_that_cannot_take_over_leaves_a_working_cluster() -> None:
    """It gets what it is sent, and is heard by the leader alone: its campaigns come to nothing."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.core.set_preferred_leader(NAMES[1], cluster.now)
    cluster.cut |= {(NAMES[1], NAMES[2]), (NAMES[0], NAMES[1])}
    for number in range(5):
        propose(cluster, b"%d" % number)
        cluster.wait(2)
    assert not cluster[2].core.serving


def test_a_voter_becomes_an_observer_and_a_voter_again() -> None:
    cluster = Cluster(3)
    leader = cluster.elect(1)
    leader.core.convert_role(NAMES[2], "observer", "", cluster.now)
    observed = Configuration(NAMES[:2], observers=NAMES[2:3])
    until(cluster, lambda: all(node.core.committed_configuration == observed for node in cluster.up()))
    assert cluster[3].core.role is Role.OBSERVER
    propose(cluster, b"x")
    until(cluster, lambda: cluster[3].payloads() == [b"x"])
    leader.core.convert_role(NAMES[2], "voter", "", cluster.now)
    until(cluster, lambda: all(is_done(node, NAMES[:3]) for node in cluster.up()))
    assert cluster[3].core.role is Role.FOLLOWER
    propose(cluster, b"y")
    until(cluster, lambda: cluster[3].payloads() == [b"x", b"y"])


def test_what_cannot_work_is_refused_by_name() -> None:
    cluster = Cluster(configuration=Configuration(NAMES[:1], addresses=((NAMES[0], "a:1"),)), spare=3)
    leader = cluster.elect(1)
    refusals = [
        (lambda: leader.core.update_voters(NAMES[:1], (), {}, cluster.now), "0 voters"),
        (lambda: leader.core.update_voters(NAMES[:1], NAMES[:2], {}, cluster.now), "no address is given for n2"),
        (lambda: leader.core.update_voters(NAMES[:1], NAMES[:2], {NAMES[1]: "a:1"}, cluster.now), "share the address"),
        (lambda: leader.core.update_voters(NAMES[:1], NAMES[:1], {}, cluster.now), "nothing to change"),
        (lambda: leader.core.convert_role(NAMES[0], "king", "", cluster.now), "'king' is no role"),
        (lambda: leader.core.convert_role(NAMES[1], "none", "", cluster.now), "n2 is not a member"),
        (lambda: leader.core.convert_role(NAMES[0], "observer", "", cluster.now), "0 voters"),
    ]
    for ask, why in refusals:
        with pytest.raises(ChangeRefused, match=why):
            ask()
    assert leader.core.configuration_index == 0


def test_an_observer_that_is_named_becomes_a_voter_and_the_others_stay_observers() -> None:
    """Nobody has two parts, and a change of voters takes nothing from those who are not in it."""
    observed = Configuration(NAMES[:3], observers=NAMES[3:5])
    cluster = Cluster(configuration=observed)
    leader = cluster.elect(1)
    leader.core.update_voters(NAMES[:3], (*NAMES[:2], NAMES[3]), {}, cluster.now)
    expected = Configuration((*NAMES[:2], NAMES[3]), observers=NAMES[4:5])
    until(cluster, lambda: all(cluster[number].core.committed_configuration == expected for number in (1, 2, 4, 5)))
    assert (cluster[4].core.role, cluster[5].core.role) == (Role.FOLLOWER, Role.OBSERVER)


def test_a_newcomer_has_its_first_benefit_from_the_moment_it_is_named() -> None:
    """Not from when the leader last looked at the clock: a short silence would already count against it."""
    cluster = Cluster(3, spare=1)
    leader = cluster.elect(1)
    cluster.now += 0.01
    leader.core.update_voters(NAMES[:3], NAMES[:4], {}, cluster.now)
    [newcomer] = [status for status in leader.core.progress() if status.peer == NAMES[3]]
    assert newcomer.heard_at == cluster.now
