"""Commands on their way into the log: none lost here or done twice, in order; and who is told what of them, when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from journal.errors import Busy
from journal.limits import Limits
from journal.proposing import Proposing
from journal.raft.core import Core as RealCore
from journal.raft.messages import RECEIVED, STORED, Heartbeat, Proposal, ProposalReply
from journal.raft.ready import Role
from journal.values import Index, NodeId, Term
from tests.unit.journal.test_replica import B, C, Network, World


@pytest.fixture
def leader() -> World:
    world = World()
    world.lead()
    world.network.sent.clear()
    return world


def from_b(world: World, payload: bytes = b"x", count: int = 1, context: int = 0, ack: int = 0) -> None:
    world.receive(B, Proposal(world.replica.core.term, 0, 0, count, payload, context, ack))
    world.turn()


def answers_of(network: Network) -> list[tuple[NodeId, int, int, int]]:
    """To whom, of which question, what it says, and the first index."""
    return [(to, reply.context, reply.ack, reply.index) for to, reply in network.take(ProposalReply)]


def answers(world: World) -> list[tuple[NodeId, int, int, int]]:
    return answers_of(world.network)


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


class Core:
    """Takes so many records, then is busy, or, while it hands over, takes none without a word."""

    def __init__(self) -> None:
        self.role = Role.LEADER
        self.term = Term(1)
        self.leader: NodeId | None = None
        self.durable = Index(0)
        self.room = 1000
        self.handing_over = False
        self.records: list[tuple[int, int, bytes]] = []
        """Machine, number of commands, payload."""

    def propose(self, payload: bytes, count: int, stamp: int, now: float, *, machine: int) -> Index | None:
        if self.handing_over:
            return None
        if not self.room:
            raise Busy("too much is not committed yet")
        self.room -= 1
        self.records.append((machine, count, payload))
        return Index(sum(count for _, count, _ in self.records[:-1]) + 1)


class Desk:
    """Proposals of a replica of which only this much is there. A record holds 10 bytes, and 20 may wait."""

    def __init__(self) -> None:
        self.core = Core()
        self.network = Network()
        limits = SimpleNamespace(record_bytes_max=10, proposals_bytes_max=20)
        self.proposing = Proposing(
            cast("RealCore", self.core), self.network, cast("Limits", limits), lambda: 0, lambda context, index: None
        )

    def add(self, *commands: bytes, machine: int = 0) -> None:
        for command in commands:
            self.proposing.add(command, machine)

    def pass_on(self) -> None:
        self.proposing.hand_in(0.0)

    def sent(self) -> list[tuple[NodeId, int, int, bytes, int]]:
        return [(to, each.machine, each.count, each.payload, each.ack) for to, each in self.network.take(Proposal)]


RECORDS = [(0, 2, b"aaaabbbb"), (0, 2, b"ccccdddddd"), (0, 1, b"longer than all that"), (0, 1, b"e")]
COMMANDS = [b"aaaa", b"bbbb", b"cccc", b"dddddd", b"longer than all that", b"e"]


def test_commands_share_records_as_far_as_these_go() -> None:
    """Every command once, in order, and none in two parts; one that is larger than a record stands alone."""
    desk = Desk()
    desk.add(*COMMANDS)
    assert desk.proposing.waiting == (6, 39)
    desk.pass_on()
    assert desk.core.records == RECORDS
    assert desk.proposing.waiting == (0, 0)
    desk.pass_on()
    assert desk.core.records == RECORDS, "once"


def test_another_node_sends_its_commands_to_the_leader_in_the_same_records() -> None:
    """There each becomes an entry; nothing is left behind to be sent again."""
    desk = Desk()
    desk.core.role, desk.core.leader = Role.FOLLOWER, B
    desk.add(*COMMANDS)
    desk.add(b"2", machine=2)
    desk.add(b"1", machine=1)
    desk.pass_on()
    expected = [(B, *record, 0) for record in RECORDS]
    assert desk.sent() == [*expected, (B, 1, 1, b"1", 0), (B, 2, 1, b"2", 0)]
    assert desk.proposing.waiting == (0, 0)
    desk.pass_on()
    assert desk.sent() == []


@pytest.mark.parametrize("leader", [None, NodeId("far")])
def test_without_a_leader_that_can_be_reached_commands_wait(leader: NodeId | None) -> None:
    """Until there is one; they are then sent as they are."""
    desk = Desk()
    desk.core.role, desk.core.leader = Role.FOLLOWER, leader
    desk.add(b"x", b"yz")
    desk.pass_on()
    assert desk.sent() == [] and desk.proposing.waiting == (2, 3)
    assert not desk.proposing.ask(b"q", 1, 0, 5, STORED, 0.0)
    desk.core.leader = C
    desk.pass_on()
    assert desk.sent() == [(C, 0, 2, b"xyz", 0)]
    assert desk.proposing.ask(b"q", 1, 0, 5, STORED, 0.0)
    assert desk.sent() == [(C, 0, 1, b"q", STORED)]


def test_what_the_log_does_not_take_waits_and_the_rest_is_not_proposed_again() -> None:
    """Commits free room; each command of a session that went in twice would be one write done for nothing."""
    desk = Desk()
    desk.add(*COMMANDS)
    desk.add(b"other", machine=1)
    for room, left in ((1, (5, 36)), (0, (5, 36)), (1, (3, 26))):
        desk.core.room = room
        desk.pass_on()
        assert desk.proposing.waiting == left
    desk.core.room = 1000
    desk.pass_on()
    assert desk.core.records == [*RECORDS, (1, 1, b"other")]
    assert desk.proposing.waiting == (0, 0)


def test_the_bytes_of_one_machine_count_while_another_ones_went_in() -> None:
    """Whoever asks whether the server is overloaded gets the truth."""
    desk = Desk()
    desk.add(b"abc")
    desk.add(b"other", machine=1)
    desk.core.room = 1
    desk.pass_on()
    assert desk.core.records == [(0, 1, b"abc")] and desk.proposing.waiting == (1, 5)


def test_a_leader_that_hands_over_keeps_its_commands_for_the_next_one() -> None:
    """They go there with the next pass."""
    desk = Desk()
    desk.add(b"x")
    desk.core.handing_over = True
    desk.pass_on()
    assert desk.proposing.waiting == (1, 1)
    desk.core.role, desk.core.leader = Role.FOLLOWER, B
    desk.pass_on()
    assert desk.sent() == [(B, 0, 1, b"x", 0)]


def test_what_is_forgotten_does_not_leave() -> None:
    """The owner proposes all that it waits for again, these too."""
    desk = Desk()
    desk.add(b"x")
    desk.proposing.forget()
    assert desk.proposing.waiting == (0, 0)
    desk.pass_on()
    assert desk.core.records == []


def test_more_than_may_wait_is_too_much_and_commands_of_others_are_refused_then() -> None:
    """Its own callers come first: a node's own proposal that wants an answer was counted elsewhere."""
    desk = Desk()
    desk.core.room = 0
    desk.add(bytes(20))
    assert not desk.proposing.overloaded, "the limit itself is allowed"
    desk.add(b"x")
    assert desk.proposing.overloaded
    desk.core.room = 1000
    desk.proposing.take(B, Proposal(Term(1), 0, 0, 1, b"theirs", 5, RECEIVED), 0.0)
    assert answers_of(desk.network) == [(B, 5, RECEIVED, 0)] and desk.core.records == []
    desk.proposing.take(None, Proposal(Term(1), 0, 0, 1, b"mine", 6, RECEIVED), 0.0)
    assert desk.core.records == [(0, 1, b"mine")]
    desk.pass_on()
    assert not desk.proposing.overloaded


@pytest.mark.parametrize(("role", "term"), [(Role.LEADER, 2), (Role.FOLLOWER, 1), (Role.FOLLOWER, 2)])
def test_only_the_leadership_that_promised_answers(role: Role, term: int) -> None:
    """Not even the same node in its next term: what it had promised may have been cut away in between."""
    desk = Desk()
    for context in (1, 2):
        desk.proposing.take(B, Proposal(Term(1), 0, 0, 1, b"x", context, STORED), 0.0)
    desk.core.durable = Index(1)
    desk.proposing.on_saved()
    assert answers_of(desk.network) == [(B, 1, STORED, 1)], "the disk has one of them"
    desk.core.role, desk.core.term, desk.core.durable = role, Term(term), Index(2)
    desk.proposing.on_saved()
    assert answers_of(desk.network) == []
