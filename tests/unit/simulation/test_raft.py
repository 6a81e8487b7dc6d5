"""The Raft checker, on hand-made bad histories which it must reject, and on good ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from journal.raft.messages import Append, VoteReply, VoteRequest
from journal.record import make_entry
from journal.values import Configuration, EntryKind, Index, NodeId, Term
from tests.simulation.checkers.raft import Committed, RaftChecker
from tests.simulation.trace import Violation

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


@dataclass
class FakeCore:
    """A server as the Raft checker sees it: `terms[i]` is the term of index i + 1."""

    term: int = 0
    leads: bool = False
    commit: int = 0
    applied: int = 0
    terms: list[int] = field(default_factory=list)
    matches: dict[object, int] = field(default_factory=dict)

    @property
    def last_index(self) -> int:
        return len(self.terms)

    def term_at(self, index: int) -> int | None:
        return self.terms[index - 1] if 0 < index <= len(self.terms) else 0 if index == 0 else None


def started(*nodes: NodeId) -> RaftChecker:
    checker = RaftChecker()
    for node in nodes:
        checker.on_start(node, FakeCore())
    return checker


def test_an_ordinary_election_and_commit_are_accepted() -> None:
    """A checker that objects to the paper's own story is of no use."""
    checker = started(A, B)
    checker.on_send(A, B, VoteRequest(Term(1), Index(0), Term(0)))
    checker.on_send(B, A, VoteReply(Term(1), True))
    leader = FakeCore(1, True, terms=[1])
    assert checker.on_step(A, leader) is None
    leader.commit = leader.applied = 1
    assert checker.on_step(A, leader) == Committed(1, 1)
    follower = FakeCore(1, False, 1, 1, [1])
    assert checker.on_step(B, follower) is None
    # The next term's leader has what was committed.
    assert checker.on_step(B, FakeCore(2, True, 1, 1, [1, 2])) is None


def test_two_leaders_of_one_term_are_rejected() -> None:
    """I1."""
    checker = started(A, B)
    checker.on_step(A, FakeCore(3, True))
    with pytest.raises(Violation, match="I1: a and b both lead term 3"):
        checker.on_step(B, FakeCore(3, True))


def test_second_vote_in_a_term_is_rejected() -> None:
    """I2, for two candidates."""
    checker = started(A)
    checker.on_send(A, B, VoteReply(Term(2), True))
    checker.on_send(A, B, VoteReply(Term(2), True))
    checker.on_send(A, C, VoteReply(Term(2), True, pre=True))
    with pytest.raises(Violation, match="I2"):
        checker.on_send(A, C, VoteReply(Term(2), True))


def test_vote_for_another_after_a_candidacy_is_rejected() -> None:
    """I2: who asks for votes has voted for itself."""
    checker = started(A)
    checker.on_send(A, B, VoteRequest(Term(2), Index(0), Term(0)))
    with pytest.raises(Violation, match="I2"):
        checker.on_send(A, C, VoteReply(Term(2), True))


def test_two_records_of_one_index_and_term_are_rejected() -> None:
    """I3."""
    checker = started(A)
    for payload in (b"x", b"x"):
        entry = make_entry(1, 1, 0, EntryKind.COMMANDS, payload, 0)
        checker.on_send(A, B, Append(Term(1), Index(0), Term(0), 0, Index(0), [entry]))
    with pytest.raises(Violation, match="I3"):
        entry = make_entry(1, 1, 0, EntryKind.COMMANDS, b"y", 0)
        checker.on_send(A, B, Append(Term(1), Index(0), Term(0), 0, Index(0), [entry]))


@pytest.mark.parametrize("terms", [[], [1], [1, 2]], ids=["empty log", "too short", "another term there"])
def test_leader_without_a_committed_entry_is_rejected(terms: list[int]) -> None:
    """I4."""
    checker = started(A, B)
    checker.on_step(A, FakeCore(1, True, 2, 2, [1, 1]))
    with pytest.raises(Violation, match="I4"):
        checker.on_step(B, FakeCore(3, True, terms=terms))


def test_leader_that_learns_late_of_its_election_is_accepted() -> None:
    """It holds what was committed before its term; what a later term did it cannot know."""
    checker = started(A, B)
    checker.on_step(A, FakeCore(1, True, 1, 1, [1]))
    checker.on_step(A, FakeCore(3, True, 2, 2, [1, 3]))
    checker.on_step(B, FakeCore(2, True, terms=[1]))


def test_different_entries_at_one_index_are_rejected() -> None:
    """I5, by the chained checksum, so everything before counts too."""
    checker = started(A, B)
    assert checker.on_apply(A, make_entry(1, 1, 0, EntryKind.COMMANDS, b"x", 0))
    assert not checker.on_apply(B, make_entry(1, 1, 0, EntryKind.COMMANDS, b"x", 0))
    with pytest.raises(Violation, match="I5"):
        checker.on_apply(C, make_entry(1, 1, 0, EntryKind.COMMANDS, b"y", 0))


@pytest.mark.parametrize(
    "after",
    [FakeCore(1, False, 2, 2, [1, 1]), FakeCore(2, False, 1, 1, [1, 1]), FakeCore(2, False, 2, 1, [1, 1])],
    ids=["term fell", "commit fell", "applied fell"],
)
def test_falling_numbers_are_rejected(after: FakeCore) -> None:
    """I6."""
    checker = started(A)
    checker.on_step(A, FakeCore(2, False, 2, 2, [1, 1]))
    with pytest.raises(Violation, match="I6"):
        checker.on_step(A, after)


def test_applied_beyond_commit_is_rejected() -> None:
    """I6: nothing may be applied that could still be taken back."""
    checker = started(A)
    with pytest.raises(Violation, match="I6"):
        checker.on_step(A, FakeCore(1, False, 1, 2, [1, 1]))


def test_term_forgotten_in_a_crash_is_rejected() -> None:
    """I6 across restarts; commit and applied may fall then, because they are not kept."""
    checker = started(A)
    checker.on_step(A, FakeCore(2, False, 1, 1, [1]))
    checker.on_send(A, B, VoteReply(Term(2), True))
    checker.on_start(A, FakeCore(2))
    with pytest.raises(Violation, match="I6"):
        checker.on_start(A, FakeCore(1))


def test_older_term_committed_by_counting_is_rejected() -> None:
    """I8, figure 8."""
    checker = started(A)
    checker.on_step(A, FakeCore(4, True, terms=[2, 2, 4]))
    with pytest.raises(Violation, match="I8"):
        checker.on_step(A, FakeCore(4, True, 2, 0, [2, 2, 4]))


def test_follower_that_commits_beyond_its_log_is_rejected() -> None:
    """I4 again: what is not there cannot be committed there."""
    checker = started(A)
    with pytest.raises(Violation, match="I4"):
        checker.on_step(A, FakeCore(1, False, 5, 0, [1]))


def test_peer_taken_back_is_rejected() -> None:
    """I6: an acknowledgement that comes late may not undo one that came before it. A new term counts anew."""
    checker = started(A)
    checker.on_step(A, FakeCore(2, True, terms=[2, 2, 2], matches={B: 3, C: 1}))
    checker.on_step(A, FakeCore(2, True, terms=[2, 2, 2], matches={B: 3, C: 2}))
    checker.on_step(A, FakeCore(2, False, terms=[2, 2, 2]))
    checker.on_step(A, FakeCore(3, True, terms=[2, 2, 2], matches={B: 0, C: 0}))
    checker.on_step(A, FakeCore(3, True, terms=[2, 2, 2], matches={B: 2, C: 0}))
    checker.on_step(A, FakeCore(3, True, terms=[2, 2, 2], matches={C: 0}))
    checker.on_step(A, FakeCore(3, True, terms=[2, 2, 2], matches={B: 0, C: 2}))
    with pytest.raises(Violation, match="I6"):
        checker.on_step(A, FakeCore(3, True, terms=[2, 2, 2], matches={B: 3, C: 1}))


def test_leader_without_a_quorum_of_votes_is_rejected() -> None:
    """VOTES: two such would lead one term, be it now or in another run."""
    checker = started(A, B, C)
    three = Configuration((A, B, C))
    checker.on_send(B, A, VoteReply(Term(1), True))
    checker.check_elected(A, 1, three)
    checker.check_elected(A, 1, Configuration((A, B, C, NodeId("d"))))  # elected is elected
    checker.on_send(B, A, VoteReply(Term(2), True, pre=True))
    checker.on_send(C, B, VoteReply(Term(2), True))
    with pytest.raises(Violation, match="VOTES"):
        checker.check_elected(A, 2, three)
    checker.check_elected(A, 3, Configuration((A,)))
