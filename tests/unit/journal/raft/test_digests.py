"""What a node knows of its past states, and how a quorum agrees on one of them."""

from __future__ import annotations

import pytest

from journal.raft.digests import ASKED_MAX, KEPT, Digests, Poll
from journal.values import Configuration, Index, NodeId
from tests.support.raft_cluster import node_names

NAMES = node_names(5)
ME = NAMES[0]
THREE = Configuration(NAMES[:3])
RIGHT, WRONG = 7, 8


def digests_of(*states: tuple[int, int]) -> Digests:
    digests = Digests()
    for index, digest in states:
        digests.record(Index(index), digest)
    return digests


def test_a_state_is_known_at_the_end_of_its_record_only() -> None:
    """Nodes stop at the same places; between two of them nobody has anything to compare."""
    digests = digests_of((3, 30), (7, 70))
    assert [digests.at(Index(index)) for index in (0, 3, 5, 7, 9)] == [None, 30, None, 70, None]
    assert digests.newest == 7


def test_who_knows_nothing_says_so() -> None:
    """Index 0 is before every record: nobody takes it for a state."""
    digests = Digests()
    assert (digests.newest, digests.attested, digests.attested_digest, digests.divergence()) == (0, 0, 0, None)


def test_old_states_are_forgotten() -> None:
    """As many as are kept are enough for the slowest heartbeat."""
    digests = digests_of(*((index, index) for index in range(1, KEPT + 1)))
    assert digests.at(Index(1)) == 1
    digests.record(Index(KEPT + 1), 5)
    assert (digests.at(Index(1)), digests.at(Index(2)), digests.at(Index(KEPT + 1))) == (None, 2, 5)


def test_machines_that_were_replaced_have_no_past() -> None:
    """Their states before the snapshot were others'. What a quorum said of itself stays true."""
    digests = digests_of((3, WRONG))
    digests.attest(Index(3), RIGHT)
    digests.clear()
    assert (digests.at(Index(3)), digests.newest, digests.divergence()) == (None, 0, None)
    assert (digests.attested, digests.attested_digest) == (3, RIGHT)
    digests.record(Index(9), 90)
    assert digests.newest == 9


@pytest.mark.parametrize(
    ("mine", "at", "diverged"),
    [(RIGHT, 3, None), (WRONG, 3, 3), (WRONG, 2, None), (WRONG, 4, None)],
    ids=["equal", "different", "passed-by", "not-there-yet"],
)
def test_whoever_differs_from_a_quorum_knows_where(mine: int, at: int, diverged: int | None) -> None:
    """Only a state of the same index can differ."""
    digests = digests_of((at, mine))
    digests.attest(Index(3), RIGHT)
    assert digests.divergence() == diverged


def test_older_news_of_a_quorum_change_nothing() -> None:
    """Messages overtake one another."""
    digests = digests_of((3, RIGHT), (5, RIGHT))
    digests.attest(Index(5), RIGHT)
    digests.attest(Index(3), WRONG)
    digests.attest(Index(5), WRONG)
    assert (digests.attested, digests.attested_digest, digests.divergence()) == (5, RIGHT, None)


def poll_at(digests: Digests, configuration: Configuration = THREE) -> Poll:
    """A poll whose first round has named the newest state."""
    poll = Poll()
    assert poll.advance(digests, configuration, ME) == digests.newest
    return poll


def test_what_a_quorum_tells_is_attested_with_the_next_round() -> None:
    """And then the newest state of that moment is asked for."""
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests)
    digests.record(Index(5), 50)
    assert poll.advance(digests, THREE, ME) == 3, "one of three is no quorum"
    assert digests.attested == 0
    poll.tell(NAMES[1], Index(3), RIGHT)
    assert poll.advance(digests, THREE, ME) == 5
    assert (digests.attested, digests.attested_digest, digests.divergence()) == (3, RIGHT, None)


def test_a_leader_that_differs_from_the_others_is_the_one_that_is_wrong() -> None:
    """Nobody is right by office."""
    digests = digests_of((3, WRONG))
    poll = poll_at(digests)
    poll.tell(NAMES[1], Index(3), RIGHT)
    poll.advance(digests, THREE, ME)
    assert digests.divergence() is None, "one against one"
    poll.tell(NAMES[2], Index(3), RIGHT)
    poll.advance(digests, THREE, ME)
    assert (digests.attested_digest, digests.divergence()) == (RIGHT, 3)


def test_a_follower_that_differs_does_not_count_with_the_others() -> None:
    """Two different answers are no agreement, however many they are."""
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests)
    poll.tell(NAMES[1], Index(3), WRONG)
    assert poll.verdict(THREE) is None
    poll.tell(NAMES[2], Index(3), RIGHT)
    assert poll.verdict(THREE) == RIGHT


def test_while_voters_change_both_halves_must_agree() -> None:
    """As in all that they decide (Raft 6); those without a say are not asked."""
    joint = Configuration(NAMES[:3], outgoing=NAMES[2:5])
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests, joint)
    poll.tell(NAMES[1], Index(3), RIGHT)
    assert poll.verdict(joint) is None
    poll.tell(NAMES[3], Index(3), RIGHT)
    poll.tell(NodeId("observer"), Index(3), RIGHT)
    assert poll.verdict(joint) is None
    poll.tell(NAMES[4], Index(3), RIGHT)
    assert poll.verdict(joint) == RIGHT


@pytest.mark.parametrize("checkpoint", [0, 2, 4])
def test_an_answer_to_another_question_is_old_news(checkpoint: int) -> None:
    """Digests of two indices have nothing to do with each other. 0 says: that state is not known here."""
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests)
    poll.tell(NAMES[1], Index(checkpoint), RIGHT)
    assert poll.verdict(THREE) is None


def test_answers_do_not_outlive_their_question() -> None:
    """What was told of one checkpoint must not count for the next."""
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests)
    for name in NAMES[1:3]:
        poll.tell(name, Index(3), RIGHT)
    digests.record(Index(5), RIGHT)
    assert poll.advance(digests, THREE, ME) == 5
    assert poll.verdict(THREE) is None


def test_a_checkpoint_that_brings_no_agreement_is_given_up() -> None:
    """Those who could tell of it may have passed it by, on a snapshot: a poll that waited for them would never ask
    again, and damage would not be found any more."""
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests)
    digests.record(Index(5), RIGHT)
    named = [poll.advance(digests, THREE, ME) for _ in range(ASKED_MAX)]
    assert named == [3] * (ASKED_MAX - 1) + [5]
    assert digests.attested == 0
    digests.record(Index(8), RIGHT)
    named = [poll.advance(digests, THREE, ME) for _ in range(ASKED_MAX)]
    assert named == [5] * (ASKED_MAX - 1) + [8], "each has its rounds"


def test_a_leader_that_has_no_state_yet_asks_for_none() -> None:
    """Nor does one whose machines were just replaced; the first state that it knows is asked for at once."""
    digests, poll = Digests(), Poll()
    assert poll.advance(digests, THREE, ME) == 0
    for name in NAMES[1:3]:
        poll.tell(name, Index(0), 0)
    assert poll.verdict(THREE) is None, "that all know nothing is no agreement"
    digests.record(Index(2), RIGHT)
    assert poll.advance(digests, THREE, ME) == 2


def test_an_idle_cluster_keeps_its_last_checkpoint() -> None:
    """There is nothing newer to ask for; and it is agreed on once."""
    digests = digests_of((3, RIGHT))
    poll = poll_at(digests)
    poll.tell(NAMES[1], Index(3), RIGHT)
    assert [poll.advance(digests, THREE, ME) for _ in range(2 * ASKED_MAX)] == [3] * (2 * ASKED_MAX)
    assert digests.attested == 3
