"""The checker of the disks, on promises that were kept and on broken ones."""

from __future__ import annotations

import pytest

from journal.raft.messages import AppendReply, VoteReply, VoteRequest
from journal.raft.quorum import has_quorum
from journal.values import Configuration, HardState, Index, NodeId, Term
from tests.simulation.checkers.durability import DurabilityChecker, DurableLog
from tests.simulation.checkers.quorums import is_quorum, quorums_meet
from tests.simulation.checkers.raft import Committed
from tests.simulation.observer import newest_snapshot
from tests.simulation.trace import Violation

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
THREE = Configuration((A, B, C))


def disks(state: HardState | None = None) -> DurabilityChecker:
    return DurabilityChecker((A, B, C), lambda node: state or HardState())


def test_commit_on_a_quorum_of_disks_is_accepted() -> None:
    """Two of three is enough, and a snapshot counts as well as a record."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    checker.logs[B].snapshot = 4
    checker.on_commit(Committed(4, 1), THREE)
    checker.on_commit(Committed(2, 1), THREE)


@pytest.mark.parametrize("other", [None, (1, 3, 1), (1, 4, 2)], ids=["nothing", "too short", "another term"])
def test_commit_on_one_disk_is_rejected(other: tuple[int, int, int] | None) -> None:
    """I7."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    if other is not None:
        checker.logs[B].put(*other, 0)
    with pytest.raises(Violation, match="I7"):
        checker.on_commit(Committed(4, 1), THREE)


def test_what_a_disk_held_before_it_was_damaged_still_counts() -> None:
    """Its acknowledgement may be on its way; what it never held does not count."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    checker.logs[B].put(1, 3, 1, 0)
    for _ in range(2):
        checker.on_damaged(B, DurableLog())
    checker.on_commit(Committed(3, 1), THREE)
    with pytest.raises(Violation, match="I7"):
        checker.on_commit(Committed(4, 1), THREE)


def test_acknowledgement_before_the_disk_has_it_is_rejected() -> None:
    """R2; a refusal promises nothing."""
    checker = disks()
    checker.logs[B].put(1, 3, 1, 0)
    checker.on_send(B, A, AppendReply(Term(1), Index(3)))
    checker.on_send(B, A, AppendReply(Term(1), Index(0), refused=True, refused_previous=Index(9)))
    with pytest.raises(Violation, match="R2"):
        checker.on_send(B, A, AppendReply(Term(1), Index(4)))


@pytest.mark.parametrize(
    "state", [HardState(), HardState(Term(3)), HardState(Term(3), C)], ids=["old term", "no vote", "another vote"]
)
def test_vote_before_the_disk_has_it_is_rejected(state: HardState) -> None:
    """I2 on durable images."""
    with pytest.raises(Violation, match="I2"):
        disks(state).on_send(B, A, VoteReply(Term(3), True))
    with pytest.raises(Violation, match="I2"):
        disks(state).on_send(B, A, VoteRequest(Term(3), Index(0), Term(0)))
    disks(HardState(Term(3), A)).on_send(B, A, VoteReply(Term(3), True))
    disks(HardState(Term(4))).on_send(B, A, VoteReply(Term(3), True))


def test_committed_entry_lost_in_a_crash_is_rejected() -> None:
    """What was durable and committed must be found again; what was not committed may be cut."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    shorter = DurableLog()
    shorter.put(1, 3, 1, 0)
    checker.on_recovered(A, shorter, Committed(3, 1))
    checker.logs[A].put(4, 4, 1, 0)
    with pytest.raises(Violation, match="I7"):
        checker.on_recovered(A, shorter_copy(), Committed(4, 1))


def shorter_copy() -> DurableLog:
    log = DurableLog()
    log.put(1, 3, 1, 0)
    return log


def test_new_records_replace_old_ones() -> None:
    """A truncated tail must not count as durable."""
    log = DurableLog()
    log.put(1, 2, 1, 0)
    log.put(3, 6, 1, 0)
    log.put(3, 3, 2, 0)
    assert [log.term_at(index) for index in (1, 2, 3, 4)] == [1, 1, 2, None]


def test_disk_that_votes_twice_is_rejected() -> None:
    """I2 and I6, at the moment when a crash would leave it so, and not only when somebody hears of it."""
    state = HardState(Term(3), A)
    checker = DurabilityChecker((A, B, C), lambda node: state)
    checker.on_hard_state(B)
    for other in (HardState(Term(3), C), HardState(Term(3))):
        state = other
        with pytest.raises(Violation, match="I2"):
            checker.on_hard_state(B)
    state = HardState(Term(2), A)
    with pytest.raises(Violation, match="I6"):
        checker.on_hard_state(B)
    state = HardState(Term(4))
    checker.on_hard_state(B)


def test_acknowledgement_of_another_entry_is_rejected() -> None:
    """I3: as long a log is not the same log."""
    checker = disks()
    checker.logs[B].put(1, 3, 1, 0)
    checker.check_acknowledged_is(B, 3, A, 1)
    checker.check_acknowledged_is(B, 3, A, None)
    with pytest.raises(Violation, match="I3"):
        checker.check_acknowledged_is(B, 3, A, 2)


def test_configurations_that_share_nobody_are_rejected() -> None:
    """I9: between them both could decide. Step by step through a joint configuration all is well."""
    d, e, f = NodeId("d"), NodeId("e"), NodeId("f")
    six = (*(A, B, C), *(d, e, f))
    checker = DurabilityChecker(six, lambda node: HardState())
    for node in six:
        checker.logs[node].put(1, 9, 1, 0)
    checker.on_commit(Committed(1, 1), THREE)
    checker.on_commit(Committed(2, 1), Configuration((d, e, f), (A, B, C)))
    checker.on_commit(Committed(3, 1), Configuration((d, e, f)))
    with pytest.raises(Violation, match="I9"):
        checker.on_commit(Committed(4, 1), THREE)


def test_commit_in_one_half_of_a_joint_configuration_is_rejected() -> None:
    """I7: both halves must have it."""
    checker = DurabilityChecker((A, B, C, NodeId("d")), lambda node: HardState())
    for node in (A, B):
        checker.logs[node].put(1, 9, 1, 0)
    with pytest.raises(Violation, match="I7"):
        checker.on_commit(Committed(1, 1), Configuration((A, NodeId("d")), (A, B, C)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_quorums_agree_with_the_products_own(size: int) -> None:
    """Two ways to count a majority, over all sets."""
    voters = tuple(NodeId(name) for name in "abcde"[:size])
    for outgoing in ((), voters[:1], voters[1:]):
        configuration = Configuration(voters, outgoing)
        for number in range(1 << size):
            nodes = {node for at, node in enumerate(voters) if number >> at & 1}
            assert is_quorum(configuration, nodes) is has_quorum(configuration, nodes.__contains__)
    assert quorums_meet(Configuration(voters), Configuration(voters))


def test_snapshot_counts_when_it_is_whole() -> None:
    """Half of a received one vouches for nothing: a start goes on from the one before it."""
    names = ["log-00000000000000000001", "snap-00000000000000000055-00000000000000000017"]
    assert newest_snapshot(names) == 55
    assert newest_snapshot([*names, "snap-00000000000000000087-00000000000000000024.70b52e8dcf5e8469.received"]) == 55
    assert newest_snapshot([*names, "snap-00000000000000000087-00000000000000000024.new"]) == 55
    assert newest_snapshot([]) == 0
