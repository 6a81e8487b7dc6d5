"""How requests leave and leave again, whom a round wakes, and what is told: the replica is moved by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgpack
import pytest

from journal.desk import STUCK_TURNS, TURN_SECONDS, WATCHERS_MAX, Desk
from journal.errors import Busy, JournalError, JournalStopped, UpdateUncertain
from journal.events import LeaderChanged, MachineEvent, RoleChanged, StateReplaced, VotersChanged
from journal.exactly_once import Results, request
from journal.levels import Response
from journal.limits import Limits
from journal.raft.messages import RECEIVED, STORED
from journal.raft.ready import Leadership, Role
from journal.record import make_entry
from journal.replica import Replica
from journal.values import Configuration, EntryKind, Index, NodeId, Term
from tests.support.machines import Ledger
from tests.unit.journal.test_replica import Scheduler

A, B = NodeId("a"), NodeId("b")
LIMITS = Limits(segment_bytes=1 << 20, record_bytes_max=1000, append_bytes_max=1000, reads_waiting_max=3)


class FakeReplica:
    """Takes proposals, and counts the rounds it is asked for."""

    def __init__(self) -> None:
        self.stopped = False
        self.applied = 0
        self.core = SimpleNamespace(configuration=Configuration((A, B)))
        self.proposed: list[tuple[list[Any], int, int, int]] = []
        self.wanted = 0

    def propose_asking(self, payload: bytes, count: int, context: int, ack: int, machine: int = 0) -> bool:
        unpacker = msgpack.Unpacker(use_list=False)
        unpacker.feed(payload)
        self.proposed.append((list(unpacker), count, context, ack))
        return True

    def want_read(self) -> None:
        self.wanted += 1


class Bench:
    """A member whose leader, log and time the test plays."""

    def __init__(self) -> None:
        self.replica = FakeReplica()
        self.scheduler = Scheduler()
        self.failures: list[BaseException] = []
        self.member = Desk(
            Ledger(), LIMITS, self.scheduler, bytes, on_room=lambda: None, on_failure=self.failures.append
        )
        self.member.bind(cast("Replica", self.replica))
        self.member.start()
        self.told: dict[str, Any] = {}
        self.index = 0

    def update(self, name: str, response: Response = Response.REPLICATION, size: int = 0) -> None:
        def tell(index: int, results: Results, error: JournalError | None) -> None:
            self.told[name] = results if error is None else type(error)

        self.member.update((name.encode().ljust(size),), response, tell)

    def turn(self) -> list[tuple[list[Any], int, int, int]]:
        """One turn of the loop; what was proposed in it."""
        self.scheduler.turn()
        proposed, self.replica.proposed = self.replica.proposed, []
        return proposed

    def apply(self, requests: list[Any]) -> None:
        payload = b"".join(request(*each) for each in requests)
        count = sum(len(each[3]) or 1 for each in requests)
        self.member.machine.apply(make_entry(self.index + 1, 1, 0, EntryKind.COMMANDS, payload, 0, count=count))
        self.index = self.replica.applied = self.index + count
        self.member.on_pass_end()

    def opened(self) -> int:
        """Go through the opening of an origin; returns it."""
        ((requests, count, _, _),) = self.turn()
        assert requests[0][:3] == (0, 0, 0) and count == 1
        self.apply(requests)
        return self.member.updates.origin

    def lead(self, leader: NodeId | None, term: int, role: Role = Role.FOLLOWER) -> None:
        self.member.on_leadership(Leadership(role, Term(term), leader))


def test_the_first_update_opens_an_origin_and_then_goes_under_it() -> None:
    bench = Bench()
    bench.update("a")
    origin = bench.opened()
    ((requests, count, context, ack),) = bench.turn()
    assert (requests, count, context, ack) == ([(origin, 1, 0, (b"a",))], 1, 0, 0)
    bench.apply(requests)
    assert bench.told == {"a": (b"2",)}


def test_updates_of_one_turn_share_a_record() -> None:
    bench = Bench()
    bench.update("a")
    bench.opened()
    bench.turn()
    for name in "bcd":
        bench.update(name)
    ((requests, count, _, _),) = bench.turn()
    assert [each[3] for each in requests] == [(b"b",), (b"c",), (b"d",)]
    assert count == 3


def test_a_record_has_one_level_and_its_limit_and_order_is_kept() -> None:
    """An update that left before an earlier one would find a gap before it, and have no effect."""
    bench = Bench()
    bench.update("a")
    bench.opened()
    bench.update("b", Response.RECEIVE)
    bench.update("c", Response.PERSISTENCE)
    bench.update("d", Response.ALL)
    bench.update("e", size=600)
    bench.update("f", size=600)
    proposed = [([each[1] for each in requests], context, ack) for requests, _, context, ack in bench.turn()]
    assert proposed == [([1], 0, 0), ([2], 1, RECEIVED), ([3, 4], 2, STORED), ([5], 0, 0), ([6], 0, 0)]
    bench.member.on_proposal_reply(1, Index(7))
    bench.member.on_proposal_reply(2, Index(0))
    assert bench.told == {"b": ()}, "0 says that the leader was too busy to take it"


def test_a_new_leader_gets_everything_that_waits() -> None:
    """What was proposed to the old one may be lost with it."""
    bench = Bench()
    bench.update("a")
    bench.opened()
    first = bench.turn()
    bench.lead(None, 2)
    assert bench.turn() == []
    bench.lead(B, 2)
    assert bench.turn() == first
    bench.lead(B, 2)
    assert bench.turn() == []


def test_an_opening_that_is_lost_is_sent_again() -> None:
    bench = Bench()
    bench.update("a")
    first = bench.turn()
    bench.lead(B, 2)
    assert bench.turn() == first
    bench.apply([(0, 0, 0, (b"another's nonce",))])
    assert bench.member.updates.origin == 0


def test_an_update_that_does_not_move_is_proposed_again() -> None:
    """A leader may drop a proposal without a word."""
    bench = Bench()
    bench.update("a")
    bench.opened()
    first = bench.turn()
    again = []
    for turn in range(1, 5 * STUCK_TURNS):
        bench.scheduler.advance(TURN_SECONDS)
        if bench.replica.proposed:
            assert bench.turn() == first
            again.append(turn)
    assert again == [STUCK_TURNS + 1, 3 * STUCK_TURNS + 1], "with growing patience"


def test_a_forgotten_origin_is_replaced_by_another_one() -> None:
    bench = Bench()
    bench.update("a")
    origin = bench.opened()
    ((requests, *_),) = bench.turn()
    bench.member.machine.origins.clear()
    bench.apply(requests)
    assert bench.told == {}
    second = bench.opened()
    assert second > origin
    ((requests, *_),) = bench.turn()
    bench.apply(requests)
    assert bench.told == {"a": (b"4",)}


def test_a_restored_state_answers_proposes_again_and_is_told() -> None:
    bench = Bench()
    heard: list[Any] = []
    bench.member.watch(heard.append)
    bench.update("a")
    bench.opened()
    first = bench.turn()
    bench.member.on_restored()
    assert bench.turn() == first
    assert heard == [StateReplaced(1)]
    bench.member.machine.origins.clear()
    bench.member.on_restored()
    assert bench.told == {"a": UpdateUncertain}


def test_a_read_waits_for_a_round_that_began_after_it() -> None:
    """One that was under way may have taken its index before an update that the reader knows of."""
    bench = Bench()
    woken: list[str] = []
    bench.member.join_round(lambda error: woken.append("early"))
    bench.member.on_read_start()
    bench.member.join_round(lambda error: woken.append("late"))
    bench.member.on_read_done()
    assert woken == ["early"]
    bench.member.on_read_start()
    bench.member.on_read_start()  # the first one was lost
    bench.member.on_read_done()
    assert woken == ["early", "late"]
    assert bench.replica.wanted == 2


def test_reads_that_wait_have_a_bound_and_one_that_left_makes_room() -> None:
    bench = Bench()
    wakes = [lambda error: None for _ in range(4)]
    for wake in wakes[:3]:
        bench.member.join_round(wake)
    with pytest.raises(Busy):
        bench.member.join_round(wakes[3])
    bench.member.leave_round(wakes[0])
    bench.member.join_round(wakes[3])


def test_whoever_waits_for_an_index_is_woken_when_it_is_applied() -> None:
    bench = Bench()
    woken: list[int] = []
    bench.member.when_applied(2, lambda error: woken.append(2))
    bench.member.when_applied(1, lambda error: woken.append(1))
    gone = bench.member.when_applied(1, lambda error: woken.append(-1))
    with pytest.raises(Busy):
        bench.member.when_applied(1, lambda error: None)
    bench.member.give_up(gone)
    bench.member.when_applied(3, lambda error: woken.append(3))
    bench.apply([(0, 0, 0, (b"n",))])
    assert woken == [1]
    bench.apply([(0, 0, 0, (b"n",)), (0, 0, 0, (b"n",))])
    assert woken == [1, 2, 3]


def test_the_end_is_told_to_everybody_who_waits() -> None:
    bench = Bench()
    errors: list[JournalError | None] = []
    bench.member.join_round(errors.append)
    bench.member.when_applied(5, errors.append)
    bench.member.when_following(errors.append)
    bench.update("a")
    bench.member.on_failed(OSError("disk"))
    assert [type(error) for error in errors] == [JournalStopped] * 3
    assert bench.told == {"a": JournalStopped}
    assert [str(error) for error in bench.failures] == ["disk"]
    bench.member.stop()
    assert bench.turn() == []


def test_changes_of_leader_role_and_voters_are_told_once_each() -> None:
    bench = Bench()
    heard: list[Any] = []
    bench.member.watch(heard.append)
    woken: list[Any] = []
    bench.lead(A, 2, Role.LEADER)
    bench.member.when_following(woken.append)
    bench.lead(A, 2, Role.LEADER)
    assert woken == []
    bench.lead(B, 3)
    assert woken == [None]
    bench.member.on_configuration(Configuration((A, B)))
    bench.member.on_configuration(Configuration((A,), (A, B)))
    bench.turn()
    assert heard == [
        RoleChanged("leader", 2),
        LeaderChanged("a", 2),
        RoleChanged("follower", 3),
        LeaderChanged("b", 3),
        VotersChanged(("a",), ("a", "b")),
    ]


def test_a_callback_is_called_outside_of_the_pass_and_no_more_when_it_is_unwatched() -> None:
    """What it raises must not stop the node, and what it calls must not find the machine in the middle of an entry."""
    bench = Bench()
    heard: list[Any] = []
    bench.member.watch(heard.append)
    bench.member.on_event(5, b"x")
    assert heard == []
    bench.turn()
    assert heard == [MachineEvent(5, b"x")]
    bench.member.unwatch(heard.append)
    bench.member.on_event(6, b"y")
    bench.turn()
    assert heard == [MachineEvent(5, b"x")]


def test_listeners_have_a_bound() -> None:
    bench = Bench()
    callbacks = [lambda event, number=number: None for number in range(WATCHERS_MAX)]
    for callback in callbacks:
        bench.member.watch(callback)
    with pytest.raises(Busy):
        bench.member.watch(print)
