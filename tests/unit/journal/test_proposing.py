"""Proposals that want an answer: who gets which, when, and from whom."""

from __future__ import annotations

import pytest

from journal.errors import Busy
from journal.raft.messages import RECEIVED, STORED, Heartbeat, Proposal, ProposalReply
from journal.values import Index, NodeId, Term
from tests.unit.journal.test_replica import B, C, World


@pytest.fixture
def leader() -> World:
    world = World()
    world.lead()
    world.network.sent.clear()
    return world


def from_b(world: World, payload: bytes = b"x", count: int = 1, context: int = 0, ack: int = 0) -> None:
    world.receive(B, Proposal(world.replica.core.term, 0, 0, count, payload, context, ack))
    world.turn()


def answers(world: World) -> list[tuple[NodeId, int, int, int]]:
    """To whom, of which question, what it says, and the first index."""
    return [(to, reply.context, reply.ack, reply.index) for to, reply in world.network.take(ProposalReply)]


def test_another_node_is_told_what_the_leader_has_received(leader: World) -> None:
    """At once, while the disk works: whoever asks for no more than that shall not wait for it."""
    first = leader.replica.core.last_index + 1
    from_b(leader, b"xyz", count=3, context=41, ack=RECEIVED)
    assert leader.worker.jobs, "the disk is not done"
    assert answers(leader) == [(B, 41, RECEIVED, first)]


def test_another_node_is_told_what_is_on_the_leaders_disk_and_not_earlier(leader: World) -> None:
    """All of it: the last command counts."""
    first = leader.replica.core.last_index + 1
    from_b(leader, b"xyz", count=3, context=41, ack=STORED)
    assert answers(leader) == []
    leader.worker.run()
    leader.turn()
    assert answers(leader) == [(B, 41, STORED, first)]
    leader.settle()
    assert answers(leader) == [], "once"


def test_answers_go_to_whom_they_belong(leader: World) -> None:
    """A node's own callers are told here, the others' through their nodes; what one save brings answers them all."""
    first = leader.replica.core.last_index + 1
    from_b(leader, b"1", context=1, ack=STORED)
    assert leader.replica.propose_asking(b"2", 1, 2, STORED)
    leader.receive(C, Proposal(leader.replica.core.term, 0, 0, 1, b"3", 1, STORED))
    leader.settle()
    assert answers(leader) == [(B, 1, STORED, first), (C, 1, STORED, first + 2)]
    assert leader.owner.answers == [(2, first + 1)]


def test_who_wants_no_answer_gets_none(leader: World) -> None:
    """Most do not: the outcome comes out of the log."""
    from_b(leader)
    leader.settle()
    assert leader.applied == [b"x"] and answers(leader) == []


def test_a_refused_proposal_is_answered_with_no_index(leader: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for the leader's word tries again at once, and not when it has lost patience."""

    def busy(*args: object, **options: object) -> None:
        raise Busy("too much is not committed yet")

    monkeypatch.setattr("journal.raft.core.Core.propose", busy)
    for context, ack in ((41, RECEIVED), (42, STORED), (43, 0)):
        from_b(leader, context=context, ack=ack)
    assert answers(leader) == [(B, 41, RECEIVED, 0), (B, 42, RECEIVED, 0)]


def test_a_promise_does_not_outlive_its_leadership(leader: World) -> None:
    """Another leader may cut away what was promised: it is not on disk at that index then."""
    from_b(leader, b"x", context=41, ack=STORED)
    term = Term(leader.replica.core.term + 1)
    leader.receive(C, Heartbeat(term, Index(0), 1))
    leader.turn()
    while leader.worker.jobs:
        leader.worker.run()
        leader.turn()
    assert answers(leader) == []


def test_a_node_that_does_not_lead_answers_nothing() -> None:
    """The asker thinks that it leads: it hears of the new leader soon, and asks that one."""
    world = World()
    world.receive(B, Heartbeat(Term(1), Index(0), 1))
    world.turn()
    from_b(world, context=41, ack=RECEIVED)
    world.settle()
    assert answers(world) == [] and world.replica.core.last_index == 0
