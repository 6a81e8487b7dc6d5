"""Those who pull: what, from whom, and what it costs: observers all the time, others while they find no leader."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from journal.limits import Limits
from journal.raft.messages import Append, Heartbeat, Message, PullReply, PullRequest, ReadRequest, SnapshotChunk
from journal.raft.puller import SILENT_TIMEOUTS
from journal.raft.ready import Role
from journal.values import Configuration, HardState, Index, NodeId, Position, SnapshotMeta, Term
from tests.support.raft_cluster import Alone, Cluster, Node, chain, node_names

NAMES = node_names(6)
OBSERVED = Configuration(NAMES[:3], observers=NAMES[3:5])


def until(cluster: Cluster, fact: Callable[[], bool], seconds: float = 30.0) -> None:
    end = cluster.now + seconds
    while not fact():
        assert cluster.now < end, {node.name: (node.core.role, node.core.commit) for node in cluster.up()}
        cluster.wait(0.05)


def started(**options: Limits) -> tuple[Cluster, Node]:
    cluster = Cluster(configuration=OBSERVED, **options)
    return cluster, cluster.elect(1)


def write(cluster: Cluster, leader: Node, *payloads: bytes) -> None:
    for payload in payloads:
        assert leader.core.propose(payload, 1, 0, cluster.now) is not None
        cluster.settle()


def test_observers_take_in_what_is_committed_and_nothing_else() -> None:
    cluster, leader = started()
    write(cluster, leader, b"a", b"b")
    until(cluster, lambda: all(cluster[number].payloads() == [b"a", b"b"] for number in (4, 5)))
    assert cluster[4].core.role is Role.OBSERVER
    cluster.isolate(2)
    cluster.isolate(3)
    leader.core.propose(b"lonely", 1, 0, cluster.now)
    cluster.settle()
    cluster.wait(0.3)
    assert all(cluster[number].core.last_index <= leader.core.commit for number in (4, 5))


def test_an_observer_costs_the_leader_nothing_it_does_not_ask_for() -> None:
    """Any number of them may be there: neither entries nor heartbeats are sent to them unasked."""
    cluster, leader = started()
    write(cluster, leader, b"warm")
    cluster.wait(3)
    sources = {cluster[number].core._puller.source for number in (4, 5)}
    assert leader.name not in sources  # other voters are asked first
    sent: list[tuple[NodeId, object]] = []
    post = cluster.post
    cluster.post = lambda sender, to, message: (sent.append((to, message)), post(sender, to, message))[1]  # type: ignore[method-assign]
    write(cluster, leader, b"a", b"b")
    cluster.wait(1)
    assert not [message for to, message in sent if to in NAMES[3:5] and isinstance(message, Append | Heartbeat)]
    assert cluster[4].payloads()[-1] == b"b"


def test_an_observer_that_is_told_at_once_waits_with_its_next_question() -> None:
    """A question stays with its source until something is committed: no delay, and no polling in between."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    source = cluster.nodes[cluster[4].core._puller.source]
    until(cluster, lambda: source.core._source.has_observers)
    write(cluster, leader, b"b")
    cluster.wait(leader.core._state.timing.heartbeat_interval * 1.5)
    assert cluster[4].payloads() == [b"a", b"b"]


def test_observers_feed_observers() -> None:
    """They cascade: a whole site may hang on one of them."""
    cluster, leader = started()
    cluster[5].core.pull_from([NAMES[3]])
    for other in (1, 2, 3):
        cluster.cut |= {(NAMES[other - 1], NAMES[4]), (NAMES[4], NAMES[other - 1])}
    write(cluster, leader, b"a", b"b", b"c")
    until(cluster, lambda: cluster[5].payloads() == [b"a", b"b", b"c"])
    assert cluster[5].core._state.hops == 2 and cluster[5].core.leader == leader.name


def test_a_ring_of_observers_is_left() -> None:
    """Two observers that pull from each other hear an answer to each question, and no news for ever."""
    cluster, leader = started()
    cluster[4].core.pull_from([NAMES[4]])
    cluster[5].core.pull_from([NAMES[3]])
    write(cluster, leader, b"a")
    cluster.wait(2)
    write(cluster, leader, b"b")
    until(cluster, lambda: all(cluster[number].payloads()[-1:] == [b"b"] for number in (4, 5)))


def test_a_silent_source_is_left_for_another() -> None:
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    source = cluster[4].core._puller.source
    assert source is not None
    cluster.isolate(int(source[1:]))
    until(cluster, lambda: any(node.core.serving for node in cluster.leaders() if node.name != source))
    leader = next(node for node in cluster.leaders() if node.name != source and node.core.serving)
    write(cluster, leader, b"b")
    until(cluster, lambda: cluster[4].payloads()[-1:] == [b"b"])


def test_an_observer_too_far_behind_starts_anew_from_its_source() -> None:
    """What it needs is only in a snapshot: the source sends its newest one, then the log behind it."""
    cluster, leader = started()
    cluster[4].crash()
    write(cluster, leader, b"a", b"b", b"c")
    cluster.wait(1)
    for number in (1, 2, 3, 5):
        cluster[number].snapshot()
    cluster[4].start()
    write(cluster, leader, b"d")
    until(cluster, lambda: cluster[4].payloads() == [b"d"])
    assert cluster[4].restores == 1


def test_an_observer_asks_the_leader_for_a_read_index() -> None:
    """It serves every kind of read: for a linearizable one the leader proves its office, as to any follower."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].core.leader == leader.name)
    assert cluster[4].core.read(7, cluster.now)
    cluster[4].run()
    assert any(isinstance(message, ReadRequest) for _, _, message in cluster.bag)
    until(cluster, lambda: [(grant.context, grant.index) for grant in cluster[4].reads] == [(7, leader.core.commit)])


def test_a_source_ignores_questions_that_no_copy_of_its_log_can_ask() -> None:
    """A position inside of a record is a mistake or a lie: it must not stop the source."""
    cluster, leader = started()
    assert leader.core.propose(b"abc", 3, 0, cluster.now) is not None
    cluster.settle()
    for after in (leader.core.commit - 1, 2**40):
        leader.core.step(NAMES[3], PullRequest(leader.core.term, after, True), cluster.now)
        leader.run()
    assert not [message for _, to, message in cluster.bag if to == NAMES[3] and isinstance(message, PullReply)]
    cluster.settle()


def test_an_observer_survives_a_restart_where_it_was() -> None:
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    cluster[4].crash()
    cluster[4].start()
    write(cluster, leader, b"b")
    until(cluster, lambda: cluster[4].payloads() == [b"a", b"b"])
    assert cluster[4].restores == 0


def test_an_answer_that_comes_twice_leads_to_one_question() -> None:
    """Each question brings an answer: were each answer to bring a question, what is doubled once stays doubled."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    observer = cluster[4]
    source = observer.core._puller.source
    assert source is not None
    entries = chain(leader.core.term, after=observer.disk.last)
    last = observer.disk.last
    reply = PullReply(
        leader.core.term, leader.name, 0, False, Index(0), 0, last.index, last.term, last.crc, entries[0].last, entries
    )
    cluster.bag.clear()
    for _ in range(3):
        observer.core.step(source, reply, cluster.now)
        observer.run()
    assert len([message for _, _, message in cluster.bag if isinstance(message, PullRequest)]) == 1


def test_one_that_led_does_not_believe_that_it_still_does() -> None:
    """It would ask itself for a read index."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    observer = cluster[4]
    source = observer.core._puller.source
    assert source is not None
    news = PullReply(leader.core.term, observer.name, 0, False, Index(0), 0, Index(0), Term(0), 0, observer.core.commit)
    observer.core.step(source, news, cluster.now)
    assert observer.core.leader is None
    assert not observer.core.read(1, cluster.now)


def test_a_source_that_knows_of_no_leader_is_left_for_another() -> None:
    """It may have been removed without learning of it, and would say for ever that there is no news."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    source = cluster[4].core._puller.source
    assert source is not None and source != leader.name
    for name in NAMES[:3]:
        if name != source:
            cluster.cut |= {(name, source), (source, name)}
    cluster.wait(2)
    write(cluster, leader, b"b")
    until(cluster, lambda: cluster[4].payloads()[-1:] == [b"b"])


def change(cluster: Cluster, leader: Node, node: NodeId, role: str) -> None:
    """Give a node a role, and let the change go as far as it can."""
    leader.core.convert_role(node, role, "", cluster.now)
    leader.run()
    until(cluster, lambda: leader.core.committed_configuration == leader.core.configuration)
    until(cluster, lambda: not leader.core.configuration.changing)


def test_an_observer_that_was_removed_learns_it_from_its_source() -> None:
    """A source answers those whom it does not know any more: else one that is removed would ask for ever."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    change(cluster, leader, NAMES[3], "none")
    until(cluster, lambda: NAMES[3] not in cluster[4].core.committed_configuration.members, 2)


@pytest.mark.parametrize(("role", "becomes"), [("observer", Role.OBSERVER), ("none", Role.LEARNER)])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_voter_that_was_demoted_while_it_was_down_learns_it(role: str, becomes: Role, compacted: bool) -> None:
    """No leader sends it what says so, and nobody answers its pre-votes: it asks the others what is committed."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.wait(0.5)
    cluster[3].crash()
    change(cluster, leader, NAMES[2], role)
    write(cluster, leader, b"a")
    if compacted:
        for number in (1, 2):
            cluster[number].snapshot()
    cluster.wait(3)
    cluster[3].start()
    term = leader.core.term
    until(cluster, lambda: cluster[3].core.role is becomes, 3)
    until(cluster, lambda: cluster[3].core.commit == leader.core.commit, 3)
    assert cluster[3].payloads() == ([] if compacted else [b"a"])
    assert (leader.core.role, leader.core.term) == (Role.LEADER, term)


def test_a_demoted_voter_with_a_newer_term_finds_its_place() -> None:
    """It campaigned before it went down: what is committed remains so in every term, and its own must get about."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.wait(0.5)
    cluster[3].crash()
    change(cluster, leader, NAMES[2], "observer")
    cluster[3].disk.hard_state = HardState(Term(leader.core.term + 3), NAMES[2])
    cluster[3].start()
    until(cluster, lambda: any(node.core.serving for node in cluster.up()) and cluster[3].core.leader is not None, 5)
    (leader,) = cluster.leaders()
    assert (cluster[3].core.role, cluster[3].core.leader) == (Role.OBSERVER, leader.name)
    assert leader.core.term == cluster[3].core.term


def test_a_removed_voter_with_a_newer_term_learns_it_and_disturbs_nobody() -> None:
    """Whoever has left must not raise the terms of the others (RELIABILITY 8), and is told all the same."""
    cluster = Cluster(4)
    leader = cluster.elect(1)
    cluster.wait(0.5)
    cluster[4].crash()
    change(cluster, leader, NAMES[3], "none")
    cluster.wait(2)  # until then the leader itself still asks after it
    term = leader.core.term
    cluster[4].disk.hard_state = HardState(Term(term + 3), NAMES[3])
    cluster[4].start()
    until(cluster, lambda: NAMES[3] not in cluster[4].core.committed_configuration.members, 5)
    assert (leader.core.role, leader.core.term) == (Role.LEADER, term)


def test_a_learner_that_was_given_up_while_it_was_down_learns_it() -> None:
    """It never campaigns; without asking it would wait for a leader for ever."""
    cluster = Cluster(3, spare=1)
    leader = cluster.elect(1)
    cluster.wait(0.5)
    cluster.cut |= {(NAMES[3], NAMES[0])}
    leader.core.update_voters(NAMES[:3], NAMES[:4], {}, cluster.now)
    leader.run()
    until(cluster, lambda: NAMES[3] in cluster[4].core.configuration.learners)
    cluster[4].crash()
    leader.core.update_voters(NAMES[:3], NAMES[:3], {}, cluster.now)
    leader.run()
    cluster.wait(1)
    cluster.heal()
    cluster[4].start()
    until(cluster, lambda: NAMES[3] not in cluster[4].core.committed_configuration.members, 3)


def test_a_follower_of_a_leader_asks_nobody_else() -> None:
    """Its leader sends it everything."""
    cluster, _ = started()
    asked: list[NodeId] = []
    post = cluster.post

    def spy(sender: NodeId, to: NodeId, message: Message) -> None:
        if isinstance(message, PullRequest):
            asked.append(sender)
        post(sender, to, message)

    cluster.post = spy  # type: ignore[method-assign]
    cluster.wait(10)
    assert asked and not set(asked) & set(NAMES[:3])


def test_voters_without_a_leader_ask_one_member_per_election_timeout() -> None:
    """A cluster that has lost its majority must not be busy with questions."""
    node = Alone(1)
    timeout = node.cluster.timing.election_timeout
    asked = []
    while node.cluster.now < 20 * timeout:
        sent = node.wait(max(node.core.deadline - node.cluster.now, 0.0))
        asked += [to for to, message in sent if isinstance(message, PullRequest)]
    assert set(asked) == {"n2", "n3"} and 15 <= len(asked) <= 20


def test_what_was_asked_before_a_leader_came_is_not_taken_from_others() -> None:
    """From then on the leader sends the log, and its pace is the only one."""
    node = Alone(1)
    node.core.tick(100.0)
    source = node.core._puller.source
    assert source is not None
    node.step("n2", Heartbeat(Term(1), Index(0), 1))
    (entry,) = chain(1, after=node.disk.last)
    last = node.disk.last
    reply = PullReply(Term(1), "n2", 0, False, Index(0), 0, last.index, last.term, last.crc, entry.last, [entry])
    node.step(source, reply)
    assert node.core.last_index == 1


def test_a_candidate_that_took_in_entries_asks_anew() -> None:
    """Its votes were given to the log that it had (RELIABILITY 12)."""
    node = Alone()
    node.expire()
    node.core.tick(100.0)
    source = node.core._puller.source
    assert source is not None and node.core.role is Role.CANDIDATE
    entries = chain(1)
    reply = PullReply(Term(1), "", 0, False, Index(0), 0, Index(0), Term(0), 0, Index(1), entries)
    node.step(source, reply)
    assert (node.core.role, node.core.commit, node.core.leader) == (Role.FOLLOWER, 1, None)
    node.grant("n2", "n3")
    assert node.core.role is Role.FOLLOWER


def test_an_observer_that_became_a_voter_is_no_part_of_a_chain_any_more() -> None:
    """Else one that once stood far down a chain would be taken for a part of a ring, even as the leader."""
    cluster, leader = started()
    cluster[4].core._state.hops = 8
    change(cluster, leader, NAMES[3], "voter")
    write(cluster, leader, b"a")
    cluster[5].core.pull_from([NAMES[3]])
    until(cluster, lambda: cluster[5].payloads() == [b"a"], 3)
    assert cluster[4].core._state.hops == 0


def test_a_source_whose_disk_stands_still_is_left_for_another() -> None:
    """It hears its leader and answers every question; but others have what was long committed."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    source = cluster[4].core._puller.source
    assert source is not None and source != leader.name
    attested = Index(leader.core.commit + 10)
    timeout = cluster.timing.election_timeout
    for _ in range(4):
        if cluster[4].core._puller.source != source:
            break
        stale = PullReply(
            leader.core.term, leader.name, 0, False, attested, 1, Index(0), Term(0), 0, cluster[4].core.commit
        )
        cluster[4].core.step(source, stale, cluster.now)
        cluster[4].run()
        cluster.bag.clear()
        cluster.now += timeout / 2
        cluster[4].core.tick(cluster.now)
    assert cluster[4].core._puller.source != source


def pulled(node: Node, *, commit: int, attested: int = 0, compacted: bool = False, now: float) -> int:
    """Hand an observer its source's answer without entries; returns how many questions follow at once."""
    source, cluster = node.core._puller.source, node.cluster
    assert source is not None
    leader = next(iter(cluster.leaders()))
    reply = PullReply(
        leader.core.term, leader.name, 0, compacted, Index(attested), 1, Index(0), Term(0), 0, Index(commit)
    )
    cluster.bag.clear()
    node.core.step(source, reply, now)
    node.run()
    asked = sum(isinstance(message, PullRequest) for _, _, message in cluster.bag)
    cluster.bag.clear()
    return asked


def test_a_source_that_has_all_that_a_quorum_agrees_on_is_kept() -> None:
    """On an idle cluster nothing comes for hours: that there is nothing is news enough from one that is up to date."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    observer = cluster[4]
    source, commit = observer.core._puller.source, observer.core.commit
    for _ in range(20):
        pulled(observer, commit=commit, attested=commit, now=cluster.now)
        cluster.now += cluster.timing.election_timeout / 2
        observer.core.tick(cluster.now)
        observer.run()
        assert observer.core._puller.source == source


def test_one_whose_snapshot_follows_asks_again_when_it_should_have_begun() -> None:
    """A question for each answer would keep both sides busy until the snapshot is there."""
    cluster, leader = started()
    write(cluster, leader, b"a")
    until(cluster, lambda: cluster[4].payloads() == [b"a"])
    observer = cluster[4]
    ahead = observer.core.commit + 100
    assert pulled(observer, commit=ahead, now=cluster.now) == 1, "there is more, and it is asked for"
    assert pulled(observer, commit=ahead, compacted=True, now=cluster.now) == 0
    assert observer.core._puller.deadline == cluster.now + cluster.timing.election_timeout


def test_a_voter_that_got_a_snapshot_without_a_leader_waits_for_one_again() -> None:
    """It is as far as its source was; most elections are over before it would have to ask around."""
    node = Alone(1)
    timeout = node.cluster.timing.election_timeout
    node.wait(node.core._puller.deadline)
    puller, position = node.core._puller, Position(Index(9), Term(1), 1, 0)
    assert puller.source is not None
    news = PullReply(Term(1), "", 0, True, Index(0), 0, Index(0), Term(0), 0, Index(9))
    node.step(puller.source, news)
    assert puller.deadline == node.cluster.now + timeout, "the snapshot should be on its way by then"
    node.cluster.now += timeout / 4
    node.step(puller.source, SnapshotChunk(Term(1), SnapshotMeta(position, Configuration(NAMES[:3]), 1), 0, b""))
    assert (node.node.restores, node.core.commit, node.core.leader) == (1, 9, None)
    assert puller.deadline == node.cluster.now + SILENT_TIMEOUTS * timeout


@pytest.mark.parametrize("arrives", [True, False])
def test_a_source_whose_snapshot_arrives_is_not_left_for_another(arrives: bool) -> None:
    """That would begin it anew, from the start, at each question; one that sends nothing is left."""
    node = Alone(1)
    node.wait(node.core._puller.deadline)
    puller = node.core._puller
    source = puller.source
    assert source is not None
    node.step(source, PullReply(Term(1), "", 0, True, Index(0), 0, Index(0), Term(0), 0, Index(9)))
    if arrives:
        node.cluster.now += node.cluster.timing.election_timeout / 2
        meta = SnapshotMeta(Position(Index(9), Term(1), 1, 0), Configuration(NAMES[:3]), 1000)
        node.core.step(source, SnapshotChunk(Term(1), meta, 0, b"the first of many"), node.cluster.now)
    node.core.tick(puller.deadline)
    assert (puller.source == source) is arrives
