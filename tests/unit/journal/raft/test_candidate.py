"""A candidate's two rounds: whom it asks, what it counts, and when it gives up."""

from __future__ import annotations

import pytest

from journal.raft.messages import Append, Heartbeat, VoteReply, VoteRequest
from journal.raft.ready import Role
from journal.values import START, Configuration, HardState, Index, NodeId, Term
from tests.support.raft_cluster import Alone, append_after, node_names


def pre_reply(term: int, granted: bool = True) -> VoteReply:
    return VoteReply(Term(term), granted, True)


def test_a_pre_vote_asks_for_the_next_term_without_entering_it() -> None:
    """A node that cannot win must not raise anybody's term, not even its own (thesis 9.6)."""
    node = Alone(1, 1)
    ask = VoteRequest(Term(2), Index(2), Term(1), True)
    assert node.expire() == [("n2", ask), ("n3", ask)]
    assert (node.core.role, node.core.term, node.disk.hard_state.vote) == (Role.CANDIDATE, 1, None)


def test_a_won_pre_vote_starts_the_vote_and_a_won_vote_the_leadership() -> None:
    """Both rounds need a quorum, the candidate included."""
    node = Alone(1)
    node.expire()
    ask = VoteRequest(Term(2), Index(1), Term(1))
    assert node.step("n2", pre_reply(2)) == [("n2", ask), ("n3", ask)]
    assert node.disk.hard_state == HardState(Term(2), NodeId("n1"))
    (to, first), (other, _) = node.step("n3", VoteReply(Term(2), True))
    assert (to, other) == ("n2", "n3")
    assert isinstance(first, Append) and len(first.entries) == 1
    assert node.core.role is Role.LEADER


def test_requests_for_votes_wait_until_the_own_vote_is_durable() -> None:
    """A candidate that forgot its term could vote for somebody else in it (RELIABILITY 1)."""
    node = Alone(1)
    node.expire()
    assert node.step("n2", pre_reply(2), save=False) == []
    assert len(node.node.writes) == 1
    assert len(node.sent()) == 2


def test_the_own_vote_counts_only_when_it_is_durable() -> None:
    """Two of three with one of them in memory only is one of three (RELIABILITY 1)."""
    node = Alone(1)
    node.expire()
    node.step("n2", pre_reply(2), save=False)
    node.step("n2", VoteReply(Term(2), True), save=False)
    assert node.core.role is Role.CANDIDATE
    node.sent()
    assert node.core.role is Role.LEADER


def test_an_older_hard_state_on_the_disk_is_not_the_own_vote() -> None:
    """A save of the term before may still be under way when the next election starts."""
    node = Alone(1)
    node.expire()
    node.step("n2", pre_reply(2), save=False)
    node.cluster.now = node.core.deadline
    node.core.tick(node.cluster.now)
    node.step("n2", pre_reply(3), save=False)
    assert (node.core.term, len(node.node.writes)) == (3, 2)
    node.node.save()
    node.step("n2", VoteReply(Term(3), True), save=False)
    assert node.core.role is Role.CANDIDATE
    node.sent()
    assert node.core.role is Role.LEADER


def test_a_lone_voter_elects_itself_but_only_when_its_disk_has_the_vote() -> None:
    """Nobody needs to be asked; the rules of the disk stay."""
    node = Alone(size=1)
    node.cluster.now = node.core.deadline
    node.core.tick(node.cluster.now)
    node.sent(save=False)
    assert node.core.role is Role.CANDIDATE and node.core.term == 1
    node.sent()
    assert node.core.role is Role.LEADER and node.core.serving


def test_voters_are_counted_not_answers() -> None:
    """A reply delivered twice is one vote (RELIABILITY 5)."""
    node = Alone(1, size=5)
    node.expire()
    node.grant("n2", "n3")
    for _ in range(3):
        node.step("n2", VoteReply(Term(2), True))
    assert node.core.role is Role.CANDIDATE
    node.step("n3", VoteReply(Term(2), True))
    assert node.core.role is Role.LEADER


def test_answers_to_another_round_or_term_count_nothing() -> None:
    """A word from the pre-vote is no vote, and an old term's vote none of this (RELIABILITY 5)."""
    node = Alone(1, size=5)
    node.expire()
    for voter in ("n2", "n3", "n4", "n5"):
        node.step(voter, pre_reply(9))
    assert node.core.term == 1
    node.grant("n2", "n3")
    assert node.core.term == 2
    for voter in ("n4", "n5"):
        node.step(voter, pre_reply(3))
        node.step(voter, pre_reply(2))
        node.step(voter, VoteReply(Term(1), True))
    assert node.core.role is Role.CANDIDATE and node.core.term == 2


def test_learners_are_neither_asked_nor_counted() -> None:
    """Their disks make no quorum (RELIABILITY 41)."""
    names = node_names(5)
    node = Alone(1, configuration=Configuration(names[:3], learners=names[3:]))
    assert [to for to, _ in node.expire()] == ["n2", "n3"]
    node.step("n4", pre_reply(2))
    node.step("n5", pre_reply(2))
    assert node.core.term == 1


def test_a_joint_election_needs_both_halves() -> None:
    """RELIABILITY 38."""
    names = node_names(5)
    node = Alone(1, configuration=Configuration(names[:3], outgoing=(names[0], *names[3:])))
    assert [to for to, _ in node.expire()] == ["n2", "n3", "n4", "n5"]
    node.step("n2", pre_reply(2))
    node.step("n3", pre_reply(2))
    assert node.core.term == 1
    node.step("n4", pre_reply(2))
    assert node.core.term == 2


@pytest.mark.parametrize("pre", (True, False))
def test_a_lost_round_is_given_up_at_once_and_tried_again_soon(pre: bool) -> None:
    """A quorum refused; the pause is random, so that two candidates do not collide again."""
    node = Alone(1)
    node.expire()
    if not pre:
        node.grant("n2")
    node.step("n2", VoteReply(node.core.term, False, pre))
    node.step("n3", VoteReply(node.core.term, False, pre))
    assert node.core.role is Role.FOLLOWER
    pause = node.core.deadline - node.cluster.now
    assert 0 < pause <= 4 * node.cluster.timing.reset_timeout


def test_pauses_between_rounds_double_up_to_the_election_timeout() -> None:
    """A node that is cut off must not ask without end, and one that collided must not wait long."""
    node = Alone(1)
    node.expire()
    pauses = []
    for _ in range(9):
        pauses.append(node.core._election_at() - node.cluster.now)
        node.expire()
        assert node.core.role is Role.CANDIDATE and node.core.term == 1
    timing = node.cluster.timing
    for round_number, pause in enumerate(pauses):
        least = min(timing.reset_timeout * 2**round_number, timing.election_timeout)
        assert least <= pause < 2 * least
    node.step("n2", Heartbeat(Term(1), Index(0), 1))
    node.expire()
    assert node.core.deadline - node.cluster.now < 2 * timing.reset_timeout


def test_a_vote_waits_longer_than_a_pre_vote_unless_somebody_refuses() -> None:
    """Votes are written to disks; a refusal most likely means that another candidate split them."""
    node = Alone(1)
    node.expire()
    node.grant("n2")
    timing = node.cluster.timing
    assert node.core.deadline - node.cluster.now >= timing.heartbeat_interval
    node.step("n2", VoteReply(Term(2), False))
    assert node.core.deadline - node.cluster.now < 2 * timing.reset_timeout


def test_a_candidate_follows_a_leader_of_its_term() -> None:
    """Raft 5.2: somebody else has won; the own vote of the term stays where it is (RELIABILITY 3)."""
    node = Alone(1)
    node.expire()
    node.grant("n2")
    node.step("n3", append_after(START, [], term=2))
    assert (node.core.role, node.core.leader, node.core.vote) == (Role.FOLLOWER, "n3", "n1")
    # n3 is silent for so long that the request is considered: the vote is still given.
    node.cluster.now += 10
    assert node.one("n2", VoteRequest(Term(2), Index(9), Term(1))) == VoteReply(Term(2), False)


def test_a_pre_candidate_with_the_longer_log_learns_the_higher_term_and_wins() -> None:
    """Otherwise two nodes, each ahead in one respect, would refuse each other for ever (RELIABILITY 7)."""
    node = Alone(1, 1, 1)
    node.expire()
    node.step("n2", VoteReply(Term(8), False, True))
    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 8)
    (_, ask), _ = node.expire()
    assert ask == VoteRequest(Term(9), Index(3), Term(1), True)


def test_a_node_that_may_not_campaign_any_more_makes_nothing_of_a_won_pre_vote() -> None:
    """Its disk may have filled up between question and answer."""
    node = Alone(1)
    node.expire()
    node.core.set_able(False, node.cluster.now)
    node.grant("n2", "n3")
    assert (node.core.role, node.core.term) == (Role.FOLLOWER, 1)
