"""The paper's section 6 and the thesis's chapter 4 on changes of members, sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.errors import Busy, NotLeader
from journal.raft.messages import Append, Heartbeat, VoteReply, VoteRequest
from journal.raft.ready import Role
from journal.record import encode_configuration, make_entry
from journal.values import Configuration, Entry, EntryKind, HardState, Index, NodeId, Term
from tests.support.raft_cluster import Alone, Cluster, Node, append_after, chain, node_names, position_after

N1, N2, N3, N4, N5, N6 = NAMES = node_names(6)
JOINT = Configuration((N1, N4, N5), outgoing=(N1, N2, N3))


def until(cluster: Cluster, fact: Callable[[], bool], seconds: float = 20.0) -> None:
    end = cluster.now + seconds
    while not fact():
        assert cluster.now < end, [node.core.configuration for node in cluster.up()]
        cluster.wait(0.02)


def started(size: int = 3, spare: int = 3) -> tuple[Cluster, Node]:
    cluster = Cluster(size, spare=spare)
    leader = cluster.elect(1)
    cluster.wait(0.5)
    return cluster, leader


def change(cluster: Cluster, leader: Node, *new: NodeId) -> None:
    leader.core.update_voters(leader.core.configuration.voters, new, {}, cluster.now)
    leader.run()


def alone(configuration: Configuration) -> Alone:
    """n1 in a fixed configuration; a change under way goes on as soon as this node leads and commits."""
    return Alone(1, configuration=configuration)


def test_log_entries_are_replicated_to_all_servers_in_both_configurations() -> None:
    """6: log entries are replicated to all servers in both configurations."""
    node = alone(JOINT).lead()
    node.acknowledge("n2", "n3", "n4", "n5", match=1)
    node.propose()
    assert {to for to, message in node.sent() if isinstance(message, Append)} == {N2, N3, N4, N5}


@pytest.mark.parametrize("leader", (N1, N2, N4))
def test_any_server_from_either_configuration_may_serve_as_leader(leader: NodeId) -> None:
    """6: any server from either configuration may serve as leader."""
    cluster = Cluster(configuration=JOINT)
    assert cluster.elect(int(leader[1:])).name == leader


@pytest.mark.parametrize(
    ("voters", "elected"),
    [
        (("n2", "n4"), True),
        (("n2", "n3"), False),
        (("n4", "n5"), False),
        (("n3", "n5"), True),
        (("n2", "n3", "n5"), True),
    ],
)
def test_an_election_needs_separate_majorities_of_both_configurations(voters: tuple[str, ...], elected: bool) -> None:
    """6: agreement (for elections and entry commitment) requires separate majorities from both configurations."""
    node = alone(JOINT)
    node.expire()
    node.grant("n2", "n4")
    for voter in voters:
        node.step(voter, VoteReply(Term(2), True))
    assert (node.core.role is Role.LEADER) is elected


@pytest.mark.parametrize(
    ("holders", "committed"),
    [(("n2", "n3"), False), (("n4", "n5"), False), (("n2", "n4"), True), (("n3", "n5"), True)],
)
def test_a_commit_needs_separate_majorities_of_both_configurations(holders: tuple[str, ...], committed: bool) -> None:
    """6: as for elections, so for entries."""
    node = alone(JOINT).lead()
    before = node.core.last_index
    node.acknowledge(*holders, match=before)
    assert (node.core.commit >= before) is committed


def test_a_server_uses_the_latest_configuration_in_its_log_whether_or_not_it_is_committed() -> None:
    """6: once a given server adds the new configuration entry to its log, it uses that configuration for all future
    decisions (a server always uses the latest configuration in its log, regardless of whether it is committed)."""
    cluster, leader = started()
    change(cluster, leader, N2, N3)
    joint = Configuration((N2, N3), outgoing=(N1, N2, N3))
    assert leader.core.configuration == joint and cluster[2].core.configuration == Configuration((N1, N2, N3))
    cluster.deliver()
    assert cluster[2].core.configuration == joint
    assert max(leader.core.commit, cluster[2].core.commit) < leader.core.configuration_index


def test_the_new_configuration_is_appended_only_when_the_joint_one_is_committed() -> None:
    """6: once C-old,new has been committed, neither can make decisions without approval of the other, and it is now
    safe for the leader to create a log entry describing C-new."""
    cluster, leader = started(5)
    change(cluster, leader, N1, N2, N3)
    joint = leader.core.configuration_index
    for node in (leader, cluster[2], cluster[3]):
        node.save(len(node.writes))
    while leader.core.configuration_index == joint:
        assert leader.core.configuration.outgoing and leader.core.commit < joint
        if not cluster.bag:
            cluster.wait(0.05)
            continue
        cluster.deliver()
        for node in cluster.up():
            node.save(len(node.writes))
            node.run()
    assert leader.core.commit >= joint


def test_new_servers_join_as_non_voting_members_and_are_not_counted() -> None:
    """6: new servers join the cluster as non-voting members (the leader replicates log entries to them, but they are
    not considered for majorities)."""
    cluster, leader = started()
    cluster.isolate(4)
    change(cluster, leader, N1, N2, N3, N4)
    assert leader.core.configuration.learners == (N4,)
    index = leader.core.propose(b"x", 1, 0, cluster.now)
    assert index is not None
    cluster.settle()
    assert leader.core.commit >= index and leader.core.configuration.learners == (N4,)


def test_the_change_proceeds_once_the_new_servers_have_caught_up() -> None:
    """6: once the new servers have caught up with the rest of the cluster, the reconfiguration can proceed."""
    cluster, leader = started()
    cluster.isolate(4)
    change(cluster, leader, N1, N2, N3, N4)
    cluster.wait(3)
    assert leader.core.configuration.target == (N1, N2, N3, N4)
    cluster.heal()
    until(cluster, lambda: cluster[4].core.committed_configuration == Configuration((N1, N2, N3, N4)))


def test_a_leader_that_is_not_in_the_new_configuration_does_not_count_itself() -> None:
    """6: there will be a period of time (while it is committing C-new) when the leader is managing a cluster that does
    not include itself; it replicates log entries but does not count itself in majorities."""
    cluster, leader = started()
    cluster.isolate(3)
    change(cluster, leader, N2, N3)
    until(cluster, lambda: leader.core.configuration.outgoing == (N1, N2, N3))
    cluster.wait(0.3)
    assert leader.core.commit < leader.core.configuration_index  # n1 and n2 have it: of {n2, n3} that is one
    cluster.heal()
    until(cluster, lambda: cluster[3].core.committed_configuration == Configuration((N2, N3)))


def test_a_leader_that_is_not_in_the_new_configuration_steps_down_once_it_is_committed() -> None:
    """6: the leader steps down (returns to follower state) once it has committed the C-new log entry."""
    cluster, leader = started()
    change(cluster, leader, N2, N3)
    until(cluster, lambda: leader.core.role is not Role.LEADER)
    assert leader.core.committed_configuration == Configuration((N2, N3))
    until(cluster, lambda: [node.name for node in cluster.leaders()] in ([N2], [N3]))


def test_a_removed_server_that_does_not_know_it_disrupts_nobody() -> None:
    """6 and thesis 4.2.3: if a server receives a RequestVote RPC within the minimum election timeout of hearing from a
    current leader, it does not update its term or grant its vote; so removed servers cannot disrupt the cluster."""
    cluster, leader = started(4, spare=0)
    cluster.isolate(4)
    change(cluster, leader, N1, N2, N3)
    until(cluster, lambda: leader.core.committed_configuration == Configuration((N1, N2, N3)))
    cluster.heal()
    term = leader.core.term
    for _ in range(20):
        cluster.wait(0.5)
        for member in (N1, N2, N3):
            cluster.hand(N4, member, VoteRequest(Term(term + 7), Index(99), Term(term)))
    assert (leader.core.role, leader.core.term) == (Role.LEADER, term)


def test_a_server_falls_back_when_its_newest_configuration_is_removed_from_its_log() -> None:
    """Thesis 4.1: if a configuration entry is removed from the log, a server must be prepared to fall back to the
    previous configuration in its log."""
    node = Alone(1)
    cluster, leader = started()
    cluster.isolate(2)
    cluster.isolate(3)
    change(cluster, leader, N1, N2)
    leader.save(len(leader.writes))
    assert leader.core.configuration.outgoing
    entries = chain(9, after=position_after(leader.disk.entries[0]))
    leader.core.step(N2, append_after(leader.disk.entries[0], entries, term=9), cluster.now)
    leader.run()
    assert leader.core.configuration == Configuration((N1, N2, N3)) == node.core.configuration


def test_no_change_begins_before_an_entry_of_the_leaders_own_term_is_committed() -> None:
    """The correction of 2015 to thesis 4.1: a leader may not append a new configuration until it has committed an entry
    of its current term; otherwise two configurations that can decide apart may both be in use."""
    node = Alone(1, 1, size=3).lead()
    with pytest.raises(NotLeader, match="has not committed an entry of its own term"):
        node.core.update_voters((N1, N2, N3), (N1, N2), {}, node.cluster.now)
    node.acknowledge("n2")
    assert node.core.update_voters((N1, N2, N3), (N1, N2), {}, node.cluster.now) == 4


def test_no_second_change_begins_before_the_first_is_committed() -> None:
    """Thesis 4.1: a server may not begin another change until the previous configuration's entry has committed."""
    cluster, leader = started()
    cluster.isolate(2)
    cluster.isolate(3)
    change(cluster, leader, N1, N2)
    with pytest.raises(Busy, match="is not committed yet"):
        leader.core.update_voters(leader.core.configuration.voters, (N1,), {}, cluster.now)


def test_servers_process_requests_of_leaders_and_candidates_they_do_not_know() -> None:
    """Thesis 4.2.2: a server accepts AppendEntries requests from a leader that is not part of the server's latest
    configuration; a server also grants its vote to a candidate that is not part of its latest configuration."""
    node = Alone(1)
    assert node.one("n6", VoteRequest(Term(2), Index(1), Term(1))) == VoteReply(Term(2), True)
    node.step("n6", Heartbeat(Term(2), Index(0), 1))
    assert node.core.leader == N6


def test_a_new_leader_carries_a_change_on() -> None:
    """6: if the leader crashes, a candidate may be chosen under either configuration; it completes the transition."""
    cluster, leader = started()
    cluster.isolate(4)
    change(cluster, leader, N1, N2, N4)
    cluster.settle()
    leader.crash()
    cluster.heal()
    until(cluster, lambda: cluster[4].core.committed_configuration == Configuration((N1, N2, N4)))


def test_a_server_that_is_not_in_its_latest_configuration_still_starts_elections() -> None:
    """Thesis 4.2.2: it should still start new elections, as it might be needed until the C-new entry is committed.

    n3 has begun the configuration without itself and nobody else has. A majority of the old voters is there only with
    n3, which votes for no log that is shorter than its own.
    """
    old, new = (N1, N2, N3, N4), (N1, N2, N4)
    cluster = Cluster(4)
    entries = chain(1)
    for configuration in (Configuration(new, outgoing=old), Configuration(new)):
        last = entries[-1]
        payload = encode_configuration(configuration)
        entries.append(make_entry(last.last + 1, 1, 1, EntryKind.CONFIGURATION, payload, last.crc))
    for number, length in ((1, 2), (2, 2), (3, 3), (4, 2)):
        node = cluster[number]
        node.crash()
        node.disk.save(HardState(Term(1)), entries[:length])
        if number > 1:
            node.start()
    cluster.wait(12)
    assert cluster.leaders()


def test_a_learner_with_the_newest_log_starts_elections_when_nobody_else_can_win() -> None:
    """Beyond thesis 4.2.2: n4 was sent the log of a leader that is gone, while n3 holds the joint configuration, in
    which n4 has a say. n2 needs n3, n3 needs n4, and n4 votes for no log that is older than its own."""
    before = Configuration((N1, N2, N3), learners=(N4,), target=(N2, N4))
    joint = Configuration((N2, N4), outgoing=(N1, N2, N3))

    def grown(entries: list[Entry], term: int, configuration: Configuration) -> list[Entry]:
        last = entries[-1]
        payload = encode_configuration(configuration)
        return [*entries, make_entry(last.last + 1, term, 1, EntryKind.CONFIGURATION, payload, last.crc)]

    cluster = Cluster(3, spare=1)
    begun = grown(chain(1), 1, before)
    newest = [*begun, *chain(2, after=position_after(begun[-1]))]
    for number, entries in ((1, newest), (2, begun), (3, grown(begun, 1, joint)), (4, newest)):
        node = cluster[number]
        node.crash()
        node.disk.save(HardState(Term(2)), entries)
        if number > 1:
            node.start()
    until(cluster, lambda: any(node.core.serving for node in cluster.leaders()))
    until(cluster, lambda: cluster[2].core.committed_configuration == Configuration((N2, N4)))
