"""What becomes of an update, whatever is lost on its way: answered once, and never told more than is known."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from journal.errors import Busy, JournalError, JournalStopped, UpdateUncertain
from journal.exactly_once import Origin, Results
from journal.levels import Response
from journal.raft.messages import RECEIVED, STORED
from journal.updates import UPDATES_MAX, Update, Updates

ORIGIN = 9


class Desk:
    """Updates, and what was told to their callers, by name."""

    def __init__(self, origin: int = ORIGIN, bytes_max: int = 1000) -> None:
        self.room = 0
        self.updates = Updates(bytes_max, self._on_gone)
        self.updates.origin = origin
        self.told: dict[str, Any] = {}

    def _on_gone(self) -> None:
        self.room += 1

    def add(self, name: str, response: Response = Response.REPLICATION, *commands: bytes) -> Update:
        def tell(index: int, results: Results, error: JournalError | None) -> None:
            assert name not in self.told, "answered twice"
            self.told[name] = (index, results) if error is None else type(error)

        return self.updates.add(commands or (name.encode(),), response, tell)

    def requests(self) -> list[tuple[Any, ...]]:
        """What is proposed when everything is proposed again: (origin, serial, acked, commands)."""
        unpacked = (msgpack.unpackb(self.updates.request(update), use_list=False) for update in self.updates)
        return list(unpacked)


def origin_with(serial: int, *results: tuple[int, Results]) -> Origin:
    origin = Origin(ORIGIN, 0)
    origin.serial = serial
    origin.results.extend(results)
    return origin


def test_requests_are_numbered_in_the_order_in_which_they_were_asked_for() -> None:
    desk = Desk()
    desk.add("a")
    desk.add("b")
    assert desk.requests() == [(ORIGIN, 1, 0, (b"a",)), (ORIGIN, 2, 0, (b"b",))]


def test_what_was_answered_is_acknowledged_with_the_next_request() -> None:
    """The machines may then forget it."""
    desk = Desk()
    desk.add("a")
    desk.updates.on_results(1, 10, (b"r",))
    desk.add("b")
    assert desk.told == {"a": (10, (b"r",))}
    assert desk.requests() == [(ORIGIN, 2, 1, (b"b",))]
    assert desk.room == 1


def test_results_that_come_again_are_not_told_again() -> None:
    desk = Desk()
    desk.add("a")
    desk.updates.on_results(1, 10, (b"r",))
    desk.updates.on_results(1, 10, (b"r",))
    assert len(desk.updates) == 0


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        (Response.ONE_WAY, 0),
        (Response.RECEIVE, RECEIVED),
        (Response.PERSISTENCE, STORED),
        (Response.REPLICATION, 0),
        (Response.ALL, STORED),
    ],
)
def test_the_leader_is_asked_for_what_the_level_needs(response: Response, wanted: int) -> None:
    assert Desk().add("a", response).wanted == wanted


@pytest.mark.parametrize("response", [Response.RECEIVE, Response.PERSISTENCE])
def test_the_word_of_the_leader_answers_but_the_update_stays_until_it_is_applied(response: Response) -> None:
    """The leader may lose it with its memory, and then it must be proposed to the next one."""
    desk = Desk()
    update = desk.add("a", response)
    desk.updates.on_acknowledged(desk.updates.new_context([update]))
    assert desk.told == {"a": (0, ())}
    assert update.wanted == 0
    assert len(desk.requests()) == 1
    desk.updates.on_results(1, 10, (b"r",))
    assert len(desk.updates) == 0


@pytest.mark.parametrize("response", [Response.RECEIVE, Response.PERSISTENCE])
def test_an_update_that_is_applied_needs_no_word_of_the_leader(response: Response) -> None:
    """It is on the disks of a majority: any leader has it."""
    desk = Desk()
    desk.add("a", response)
    desk.updates.on_results(1, 10, (b"r",))
    assert desk.told == {"a": (0, ())}


@pytest.mark.parametrize("applied_first", [True, False])
def test_all_waits_for_the_majority_and_for_the_disk_of_the_leader(applied_first: bool) -> None:
    desk = Desk()
    context = desk.updates.new_context([desk.add("a", Response.ALL)])
    steps = [lambda: desk.updates.on_results(1, 10, (b"r",)), lambda: desk.updates.on_acknowledged(context)]
    if not applied_first:
        steps.reverse()
    steps[0]()
    assert desk.told == {}
    assert len(desk.updates) == 1
    steps[1]()
    assert desk.told == {"a": (10, (b"r",))}
    assert len(desk.updates) == 0


def test_the_word_of_an_earlier_leader_does_not_count() -> None:
    """What it had in memory may be gone with it."""
    desk = Desk()
    update = desk.add("a", Response.RECEIVE)
    old = desk.updates.new_context([update])
    new = desk.updates.new_context([update])
    desk.updates.on_acknowledged(old)
    assert desk.told == {}
    desk.updates.on_acknowledged(new)
    assert desk.told == {"a": (0, ())}


def test_updates_that_left_together_are_acknowledged_together() -> None:
    """They are in one record. One that is over by then is not told twice."""
    desk = Desk()
    updates = [desk.add(name, Response.RECEIVE) for name in "abc"]
    context = desk.updates.new_context(updates)
    desk.updates.on_results(1, 10, ())
    desk.updates.on_acknowledged(context)
    assert desk.told == {"a": (0, ()), "b": (0, ()), "c": (0, ())}


def test_an_update_that_was_given_up_is_proposed_without_its_commands() -> None:
    """Its serial must be taken, or nothing behind it would ever be applied."""
    desk = Desk()
    update = desk.add("a")
    desk.add("b")
    assert desk.updates.abandon(update) is False
    assert desk.requests() == [(ORIGIN, 1, 0, ()), (ORIGIN, 2, 0, (b"b",))]
    desk.updates.on_results(1, 10, ())
    desk.updates.on_results(2, 11, (b"r",))
    assert desk.told == {"b": (11, (b"r",))}


def test_an_update_given_up_before_it_could_be_proposed_has_no_effect() -> None:
    desk = Desk(origin=0)
    update = desk.add("a")
    desk.add("b")
    assert desk.updates.abandon(update) is True
    desk.updates.origin = ORIGIN
    assert desk.requests() == [(ORIGIN, 1, 0, (b"b",))]
    assert desk.room == 1


def test_an_applied_update_that_is_given_up_is_over() -> None:
    """It only waited for the disk of a leader."""
    desk = Desk()
    update = desk.add("a", Response.ALL)
    desk.updates.on_results(1, 10, (b"r",))
    assert desk.updates.abandon(update) is False
    assert len(desk.updates) == 0


def test_giving_up_what_was_answered_is_nothing() -> None:
    desk = Desk()
    update = desk.add("a")
    desk.updates.on_results(1, 10, (b"r",))
    assert desk.updates.abandon(update) is False
    assert desk.room == 1


def test_a_forgotten_origin_is_replaced_and_what_waits_goes_under_the_new_one() -> None:
    """Nothing of it was applied: that would have been told. Nothing ever will be under the old name."""
    desk = Desk()
    desk.add("a")
    desk.add("b")
    desk.updates.on_results(1, 10, (b"r",))
    desk.updates.on_forgotten()
    assert desk.updates.origin == 0
    desk.updates.origin = 20
    assert desk.requests() == [(20, 1, 0, (b"b",))]


def test_an_applied_update_is_not_applied_again_under_a_new_origin() -> None:
    desk = Desk()
    update = desk.add("a", Response.ALL)
    desk.updates.on_results(1, 10, (b"r",))
    desk.updates.on_forgotten()
    desk.updates.origin = 20
    assert desk.requests() == [(20, 1, 0, ())]
    desk.updates.on_results(1, 30, ())
    desk.updates.on_acknowledged(desk.updates.new_context([update]))
    assert desk.told == {"a": (10, (b"r",))}


def test_after_a_snapshot_what_is_remembered_answers_and_what_is_not_is_uncertain() -> None:
    """Results of the gap were never told here; the origin's part of the snapshot is all that is left of them."""
    desk = Desk()
    for name in "abc":
        desk.add(name)
    desk.updates.restored(origin_with(2, (11, (b"rb",))))
    assert desk.told == {"a": UpdateUncertain, "b": (11, (b"rb",))}
    assert desk.requests() == [(ORIGIN, 3, 2, (b"c",))]


def test_after_a_snapshot_without_the_origin_everything_is_uncertain() -> None:
    desk = Desk()
    desk.add("a")
    desk.updates.restored(None)
    assert desk.told == {"a": UpdateUncertain}
    assert desk.updates.origin == 0


def test_a_snapshot_does_not_touch_what_could_not_be_proposed_yet() -> None:
    desk = Desk(origin=0)
    desk.add("a")
    desk.updates.restored(None)
    assert desk.told == {}


@pytest.mark.parametrize(("origin", "error"), [(0, JournalStopped), (ORIGIN, UpdateUncertain)])
def test_a_stopped_journal_answers_everybody(origin: int, error: type[JournalError]) -> None:
    desk = Desk(origin)
    desk.add("a")
    desk.updates.stop(JournalStopped("over"))
    assert desk.told == {"a": error}
    assert desk.room == 1


def test_too_many_or_too_large_updates_are_turned_away() -> None:
    desk = Desk(bytes_max=10)
    desk.add("a", Response.REPLICATION, b"x" * 50)  # the only one, whatever its size
    with pytest.raises(Busy):
        desk.add("b")
    desk = Desk(bytes_max=1_000_000)
    for number in range(UPDATES_MAX):
        desk.add(str(number))
    with pytest.raises(Busy):
        desk.add("one more")
