"""The Raft paper's sentences on terms and elections: figure 2, sections 5.1, 5.2 and 5.4.1; thesis 4.2.3, 6.2, 9.6.

Each test quotes or paraphrases one sentence. The node under test is n1; the test plays the others.
"""

from __future__ import annotations

from random import Random

import pytest

from journal.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, VoteReply, VoteRequest
from journal.raft.ready import Role
from journal.values import START, HardState, Index, NodeId, Term
from tests.support.raft_cluster import Alone, Cluster, append_after, position_after


def in_role(role: str, *terms: int) -> Alone:
    node = Alone(*(terms or (1,)))
    if role == "leader":
        node.lead()
    elif role == "candidate":
        node.expire()
        node.grant("n2")
    return node


ROLES = pytest.mark.parametrize("role", ("follower", "candidate", "leader"))


@ROLES
def test_a_larger_term_is_taken_over(role: str) -> None:
    """5.1: if one server's current term is smaller than the other's, it updates to the larger value; a candidate or
    leader that discovers that its term is out of date immediately reverts to follower state."""
    node = in_role(role)
    node.step("n2", append_after(START, [], term=9))
    assert (node.core.term, node.core.role, node.core.leader) == (9, Role.FOLLOWER, "n2")
    assert node.disk.hard_state == HardState(Term(9), None)


@ROLES
def test_a_request_with_a_stale_term_is_rejected(role: str) -> None:
    """5.1: if a server receives a request with a stale term number, it rejects the request."""
    node = in_role(role, 3)
    last = node.core.last_index
    answer = node.one("n2", VoteRequest(Term(2), Index(99), Term(2)))
    assert answer == VoteReply(node.core.term, False)
    node.step("n2", append_after(START, [], term=2))
    assert node.core.last_index == last and node.core.term >= 3


def test_servers_start_up_as_followers() -> None:
    """5.2: when servers start up, they begin as followers."""
    for vote in (None, "n1"):
        assert Alone(1, vote=vote).core.role is Role.FOLLOWER


def test_a_follower_stays_one_as_long_as_it_hears_a_leader() -> None:
    """5.2: a server remains in follower state as long as it receives valid RPCs from a leader."""
    node = Alone(1)
    for _ in range(100):
        node.step("n2", Heartbeat(Term(1), Index(0), 1))
        node.wait(node.cluster.timing.election_timeout * 0.99)
    assert node.core.role is Role.FOLLOWER


def test_a_leader_sends_periodic_heartbeats_to_all() -> None:
    """5.2: leaders send periodic heartbeats to all followers in order to maintain their authority."""
    node = Alone(1).lead()
    for _ in range(5):
        sent = node.wait(node.cluster.timing.heartbeat_interval)
        assert [to for to, message in sent if isinstance(message, Heartbeat)] == ["n2", "n3"]
        node.step("n2", HeartbeatReply(Term(2), 0))


def test_an_election_begins_with_a_new_term_an_own_vote_and_requests_to_all() -> None:
    """5.2: to begin an election, a follower increments its current term and transitions to candidate state. It then
    votes for itself and issues RequestVote RPCs in parallel to each of the other servers."""
    node = Alone(1, 1)
    node.expire()
    sent = node.step("n2", VoteReply(Term(2), True, True))
    request = VoteRequest(Term(2), Index(2), Term(1))
    assert sent == [("n2", request), ("n3", request)]
    assert node.disk.hard_state == HardState(Term(2), NodeId("n1"))


@pytest.mark.parametrize(
    ("size", "grants", "refusals", "role"),
    [
        (1, 0, 0, Role.LEADER),
        (3, 1, 0, Role.LEADER),
        (3, 2, 0, Role.LEADER),
        (5, 2, 0, Role.LEADER),
        (5, 3, 1, Role.LEADER),
        (5, 2, 2, Role.LEADER),
        (5, 1, 3, Role.FOLLOWER),
        (5, 0, 3, Role.FOLLOWER),
        (5, 1, 0, Role.CANDIDATE),
        (5, 1, 2, Role.CANDIDATE),
        (4, 2, 0, Role.LEADER),
        (4, 1, 0, Role.CANDIDATE),
        (4, 1, 2, Role.FOLLOWER),
    ],
)
def test_a_candidate_wins_with_a_majority_of_the_full_cluster(
    size: int, grants: int, refusals: int, role: Role
) -> None:
    """5.2: a candidate wins an election if it receives votes from a majority of the servers in the full cluster."""
    node = Alone(1, size=size)
    node.expire()
    others = [f"n{number}" for number in range(2, size + 1)]
    if size > 1:
        node.grant(*others[: size // 2])
    for voter in others[grants : grants + refusals]:
        node.step(voter, VoteReply(Term(2), False))
    for voter in others[:grants]:
        node.step(voter, VoteReply(Term(2), True))
    assert node.core.role is role


def test_a_vote_goes_to_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """5.2: each server will vote for at most one candidate in a given term, on a first-come-first-served basis."""
    for first, second in (("n2", "n3"), ("n3", "n2")):
        node = Alone(1)
        assert node.one(first, VoteRequest(Term(2), Index(1), Term(1))) == VoteReply(Term(2), True)
        assert node.one(second, VoteRequest(Term(2), Index(1), Term(1))) == VoteReply(Term(2), False)


def test_a_new_leader_tells_all_others_at_once() -> None:
    """5.2: once a candidate wins an election it sends messages to all of the other servers to establish its
    authority and prevent new elections."""
    node = Alone(1)
    node.expire()
    node.grant("n2")
    sent = node.step("n2", VoteReply(Term(2), True))
    assert [(to, type(message)) for to, message in sent] == [("n2", Append), ("n3", Append)]


@pytest.mark.parametrize("term", (2, 3))
def test_a_candidate_recognizes_a_legitimate_leader(term: int) -> None:
    """5.2: if the leader's term is at least as large as the candidate's current term, then the candidate recognizes
    the leader as legitimate and returns to follower state."""
    node = in_role("candidate")
    assert node.core.term == 2
    node.step("n3", append_after(START, [], term=term))
    assert (node.core.role, node.core.leader, node.core.term) == (Role.FOLLOWER, "n3", term)


def test_a_candidate_goes_on_in_spite_of_a_leader_of_an_older_term() -> None:
    """5.2: if the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC
    and continues in candidate state."""
    node = in_role("candidate")
    node.step("n3", append_after(START, [], term=1))
    assert (node.core.role, node.core.term) == (Role.CANDIDATE, 2)


def test_a_split_vote_is_followed_by_another_election() -> None:
    """5.2: when this happens, each candidate will time out and start a new election by incrementing its term."""
    node = in_role("candidate")
    node.expire()
    assert node.core.role is Role.CANDIDATE
    node.grant("n2")
    assert node.core.term == 3


def test_election_timeouts_are_random_within_a_fixed_interval() -> None:
    """5.2: election timeouts are chosen randomly from a fixed interval to prevent split votes in the first place."""
    draws = set()
    for seed in range(50):
        node = Alone(1)
        node.cluster.chance = Random(seed).random
        node.node.crash()
        node.node.start()
        node.core = node.node.core
        node.step("n2", Heartbeat(Term(1), Index(0), 1))
        timeout = node.cluster.timing.election_timeout
        assert timeout <= node.core.deadline < 2 * timeout
        draws.add(round(node.core.deadline, 3))
    assert len(draws) > 40


def test_each_candidate_restarts_its_randomized_timeout() -> None:
    """5.2: each candidate restarts its randomized election timeout at the start of an election, and it waits for that
    timeout to elapse before starting the next election."""
    waits = set()
    for seed in range(20):
        cluster = Cluster(3, chance=Random(seed).random)
        cluster[2].crash()
        cluster[3].crash()
        cluster.advance(1.0)
        waits.add(round(cluster[1].core.deadline, 6))
    assert len(waits) > 15


@pytest.mark.parametrize(
    ("own", "last_term", "last_index", "granted"),
    [
        ((1,), 1, 1, True),
        ((1,), 1, 2, True),
        ((1, 1), 1, 1, False),
        ((1,), 2, 1, True),
        ((1, 1), 2, 1, True),
        ((2,), 1, 1, False),
        ((2,), 1, 2, False),
        ((2, 2), 1, 3, False),
        ((1, 2), 2, 2, True),
        ((), 0, 0, True),
    ],
)
def test_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date(
    own: tuple[int, ...], last_term: int, last_index: int, granted: bool
) -> None:
    """5.4.1: if the logs have last entries with different terms, then the log with the later term is more up-to-date.
    If the logs end with the same term, then whichever log is longer is more up-to-date."""
    node = Alone(*own)
    answer = node.one("n2", VoteRequest(Term(5), Index(last_index), Term(last_term)))
    assert answer == VoteReply(Term(5), granted)


def test_term_and_vote_survive_a_restart() -> None:
    """Figure 2: persistent state on all servers, updated on stable storage before responding to RPCs."""
    node = Alone(1)
    node.step("n2", VoteRequest(Term(4), Index(1), Term(1)))
    node.node.crash()
    node.node.start()
    assert (node.node.core.term, node.node.core.vote) == (4, "n2")


def test_a_pre_vote_increments_no_term() -> None:
    """Thesis 9.6: in the Pre-Vote algorithm, a candidate only increments its term if it first learns from a majority of
    the cluster that they would be willing to grant the candidate their votes."""
    node = Alone(1, size=5)
    for _ in range(50):
        node.expire()
    assert node.core.term == 1
    node.step("n2", VoteReply(Term(2), True, True))
    assert node.core.term == 1
    node.step("n3", VoteReply(Term(2), True, True))
    assert node.core.term == 2


def test_a_pre_vote_is_granted_only_by_who_has_not_heard_a_leader() -> None:
    """Thesis 9.6: they would grant only if they have not received heartbeats from a valid leader for at least a
    baseline election timeout, and if the candidate's log is sufficiently up-to-date."""
    node = Alone(1, 1)
    ask = VoteRequest(Term(2), Index(2), Term(1), True)
    node.step("n3", Heartbeat(Term(1), Index(0), 1))
    assert node.step("n2", ask) == []
    node.cluster.now += node.cluster.timing.election_timeout
    assert node.one("n2", ask) == VoteReply(Term(2), True, True)
    assert node.one("n2", VoteRequest(Term(2), Index(1), Term(1), True)) == VoteReply(Term(1), False, True)


def test_a_server_that_was_cut_off_for_an_hour_disturbs_nobody_when_it_is_back() -> None:
    """Thesis 9.6: Pre-Vote solves the issue of a partitioned server disrupting the cluster when it rejoins."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.wait(3600)
    cluster.heal()
    cluster.wait(5)
    assert cluster.leaders() == [leader]
    assert [node.core.term for node in cluster.up()] == [1, 1, 1]


def test_a_request_within_the_minimum_timeout_of_hearing_a_leader_is_ignored() -> None:
    """Thesis 4.2.3: if a server receives a RequestVote request within the minimum election timeout of hearing from a
    current leader, it does not update its term or grant its vote."""
    node = Alone(1)
    node.step("n3", Heartbeat(Term(1), Index(0), 1))
    assert node.step("n2", VoteRequest(Term(7), Index(9), Term(6))) == []
    assert (node.core.term, node.core.vote) == (1, None)


def test_a_leader_steps_down_without_a_round_of_heartbeats_to_a_majority() -> None:
    """Thesis 6.2: a leader in Raft steps down if an election timeout elapses without a successful round of heartbeats
    to a majority of its cluster; this allows clients to retry their requests with another server."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.isolate(1)
    cluster.wait(cluster.timing.election_timeout + 2 * cluster.timing.heartbeat_interval)
    assert leader.core.role is not Role.LEADER
    cluster.wait(5)
    assert [node.name for node in cluster.leaders()] in (["n2"], ["n3"])


def test_a_cluster_elects_a_leader_again_and_again() -> None:
    """5.2: election safety, and an election whenever one is needed: each server leads when it is its turn."""
    cluster = Cluster(5)
    for round_number in range(3):
        for number in range(1, 6):
            leader = cluster.elect(number)
            leader.core.propose(b"%d" % round_number, 1, 0, cluster.now)
            cluster.settle()
    cluster.wait(1)
    assert len({node.disk.last.crc for node in cluster.up()}) == 1
    assert all(len(node.payloads()) == 15 for node in cluster.up())


def test_a_restarted_voter_makes_no_second_leader_of_a_term() -> None:
    """Figure 3, election safety: at most one leader can be elected in a given term, whoever crashes in between."""
    cluster = Cluster(3)
    first = cluster.elect(1)
    term = first.core.term
    cluster[1].crash()
    cluster[2].crash()
    cluster[2].start()
    cluster[2].core.step(NodeId("n3"), VoteRequest(term, Index(9), Term(term)), cluster.now)
    cluster[2].run()
    cluster.settle()
    cluster.hand(NodeId("n3"), NodeId("n2"), AppendReply(term, Index(1)))
    assert cluster[2].disk.hard_state.vote == "n1"
    assert position_after(cluster[2].disk.entries[-1]).term == term
