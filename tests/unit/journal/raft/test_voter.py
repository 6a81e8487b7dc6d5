"""Who gets a vote: a table of cases, and what a vote does to the voter."""

from __future__ import annotations

import pytest

from journal.raft.messages import Heartbeat, VoteReply, VoteRequest
from journal.raft.ready import Role
from journal.raft.state import CEILING
from journal.values import Configuration, HardState, Index, NodeId, Term
from tests.support.raft_cluster import Alone, node_names


def request(term: int, index: int, last_term: int, *, pre: bool = False, transfer: bool = False) -> VoteRequest:
    return VoteRequest(Term(term), Index(index), Term(last_term), pre, transfer)


@pytest.mark.parametrize(
    ("term", "index", "last_term", "granted"),
    [
        (3, 3, 2, True),  # equal logs
        (3, 4, 2, True),  # longer
        (3, 1, 3, True),  # shorter, of a later term
        (3, 2, 2, False),  # shorter
        (3, 9, 1, False),  # longer, of an earlier term
        (2, 3, 2, True),  # our own term, in which we have not voted
        (1, 9, 9, False),  # an earlier term
    ],
)
@pytest.mark.parametrize("pre", (False, True))
def test_a_vote_needs_a_log_that_is_not_behind(term: int, index: int, last_term: int, granted: bool, pre: bool) -> None:
    """Raft 5.4.1: any quorum then holds somebody who refuses a candidate without all committed entries."""
    voter = Alone(1, 2, 2)
    answer = voter.one("n2", request(term, index, last_term, pre=pre))
    assert isinstance(answer, VoteReply)
    assert (answer.granted, answer.pre) == (granted, pre)


def test_a_second_candidate_of_a_term_gets_nothing() -> None:
    """First come, first served, and the first may ask again (Raft 5.2)."""
    voter = Alone(1)
    assert voter.one("n2", request(2, 1, 1)) == VoteReply(Term(2), True)
    assert voter.one("n3", request(2, 9, 1)) == VoteReply(Term(2), False)
    assert voter.one("n2", request(2, 1, 1)) == VoteReply(Term(2), True)


def test_a_vote_is_remembered_across_a_restart() -> None:
    """A node that forgets its vote can give it twice, and two leaders follow (RELIABILITY 1)."""
    voter = Alone(1)
    voter.step("n2", request(2, 1, 1))
    voter.node.crash()
    voter.node.start()
    voter.core = voter.node.core
    assert voter.one("n3", request(2, 9, 1)) == VoteReply(Term(2), False)


def test_a_vote_does_not_leave_before_the_disk_has_it() -> None:
    """Term and vote go to the disk in one write, and the reply waits for it (RELIABILITY 1, 2)."""
    voter = Alone(1)
    assert voter.step("n2", request(2, 1, 1), save=False) == []
    (write,) = voter.node.writes
    assert write.hard_state == HardState(Term(2), NodeId("n2"))
    voter.node.save()
    assert voter.sent() == [("n2", VoteReply(Term(2), True))]


def test_a_vote_in_a_term_entered_before_is_written_too() -> None:
    """The term is on the disk already; the vote still has to get there."""
    voter = Alone(1, term=2)
    assert voter.one("n2", request(2, 1, 1)) == VoteReply(Term(2), True)
    assert voter.disk.hard_state == HardState(Term(2), NodeId("n2"))


def test_a_vote_lost_in_a_crash_was_never_given() -> None:
    """Neither disk nor anybody else knows of it: the node may vote anew (RELIABILITY 1)."""
    voter = Alone(1)
    assert voter.step("n2", request(2, 1, 1), save=False) == []
    voter.node.crash()
    voter.node.start()
    voter.core = voter.node.core
    assert voter.one("n3", request(2, 1, 1)) == VoteReply(Term(2), True)


def test_two_requests_in_one_pass_get_one_vote() -> None:
    """The vote is decided when it is asked for, not when it is saved (RELIABILITY 4)."""
    voter = Alone(1)
    voter.core.step(NodeId("n2"), request(2, 1, 1), 0.0)
    voter.core.step(NodeId("n3"), request(2, 1, 1), 0.0)
    replies = voter.sent()
    assert replies == [("n2", VoteReply(Term(2), True)), ("n3", VoteReply(Term(2), False))]


def test_a_pre_vote_changes_nothing_and_needs_no_disk() -> None:
    """It only tells what would be; term, vote and timer of the voter stay (thesis 9.6)."""
    voter = Alone(1)
    assert voter.step("n2", request(2, 1, 1, pre=True), save=False) == [("n2", VoteReply(Term(2), True, True))]
    assert (voter.core.term, voter.core.vote, len(voter.node.writes)) == (1, None, 0)
    assert voter.one("n3", request(2, 1, 1, pre=True)) == VoteReply(Term(2), True, True)


def test_a_refused_pre_vote_names_the_voters_term() -> None:
    """A node with the longer log but the lower term learns from it which term to try (RELIABILITY 7)."""
    voter = Alone(1, term=8)
    assert voter.one("n2", request(6, 5, 5, pre=True)) == VoteReply(Term(8), False, True)


@pytest.mark.parametrize("pre", (False, True))
def test_who_hears_a_leader_passes_over_requests_without_taking_in_their_term(pre: bool) -> None:
    """A server that was cut off or removed must not depose a leader in office (RELIABILITY 8)."""
    voter = Alone(1)
    voter.step("n3", Heartbeat(Term(1), Index(0), 1))
    assert voter.step("n2", request(9, 9, 8, pre=pre)) == []
    assert voter.core.term == 1
    voter.cluster.now += voter.cluster.timing.election_timeout
    assert voter.one("n2", request(9, 9, 8, pre=pre)) == VoteReply(Term(9), True, pre)


def test_a_leader_passes_over_requests_too() -> None:
    """It steps down by itself when it loses its quorum, not because somebody asks."""
    leader = Alone(1).lead()
    assert leader.step("n2", request(9, 9, 8)) == []
    assert leader.core.role is Role.LEADER


def test_the_leaders_own_wish_overrides_that_it_is_heard() -> None:
    """Otherwise no transfer could ever succeed (RELIABILITY 9)."""
    voter = Alone(1)
    voter.step("n3", Heartbeat(Term(1), Index(0), 1))
    assert voter.one("n2", request(2, 1, 1, transfer=True)) == VoteReply(Term(2), True)


def test_a_leader_whose_connection_was_reset_is_no_longer_heard() -> None:
    """Its process is most likely dead; waiting a whole timeout would only prolong the gap."""
    voter = Alone(1)
    voter.step("n3", Heartbeat(Term(1), Index(0), 1))
    voter.core.peer_lost(NodeId("n3"), voter.cluster.now)
    assert voter.one("n2", request(2, 1, 1, pre=True)) == VoteReply(Term(2), True, True)


def test_a_node_that_lost_what_it_acknowledged_does_not_vote_until_it_is_back() -> None:
    """With its vote a leader without a committed entry could win (RELIABILITY R5)."""
    voter = Alone(1, 1, withheld=3)
    assert voter.core.withheld == 3
    assert voter.one("n2", request(2, 9, 1)) == VoteReply(Term(2), False)
    assert voter.one("n2", request(3, 9, 1, pre=True)) == VoteReply(Term(2), False, True)


@pytest.mark.parametrize("poisoned", [(CEILING, 1, 1), (2, CEILING, 1), (2, 1, CEILING)])
@pytest.mark.parametrize("pre", (False, True))
def test_absurd_numbers_are_not_even_answered(poisoned: tuple[int, int, int], pre: bool) -> None:
    """A poisoned term would be the highest for ever, a poisoned log the longest (RELIABILITY 11)."""
    voter = Alone(1)
    assert voter.step("n2", request(*poisoned, pre=pre)) == []
    assert voter.core.term == 1


def test_a_granted_vote_keeps_the_voter_quiet_while_the_winner_settles() -> None:
    """Raft 5.2: the timer starts anew; a refused vote leaves it as it was."""
    voter = Alone(1)
    before = voter.core.deadline
    voter.step("n2", request(2, 0, 0))
    assert voter.core.term == 2 and voter.core.deadline == before
    voter.step("n2", request(2, 1, 1))
    assert voter.core.deadline >= voter.cluster.timing.heartbeat_interval


def test_a_vote_for_another_ends_an_own_pre_vote() -> None:
    """Two rounds at once would split the next vote for nothing."""
    voter = Alone(1, term=2)
    voter.expire()
    assert voter.core.role is Role.CANDIDATE
    assert voter.one("n2", request(2, 1, 1)) == VoteReply(Term(2), True)
    assert voter.core.role is Role.FOLLOWER
    voter.step("n3", VoteReply(Term(3), True, True))
    assert (voter.core.role, voter.core.term) == (Role.FOLLOWER, 2)


def test_a_learner_answers_when_asked() -> None:
    """It may be a voter already without knowing it; whoever counts decides (RELIABILITY 41)."""
    names = node_names(3)
    learner = Alone(1, configuration=Configuration(names[1:], learners=names[:1]))
    assert learner.core.role is Role.LEARNER
    assert learner.one("n2", request(2, 1, 1)) == VoteReply(Term(2), True)
