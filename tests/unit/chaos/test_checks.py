"""The judge of the chaos runs, fed with histories made by hand: the good one passes, and each bad one is refused.

A judge that never refused anything would prove nothing about an hour without a complaint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from jkcs_client.protocol.messages import EventKind
from tests.chaos.checks import Key, check_round
from tests.chaos.history import (
    Added,
    Changed,
    Counted,
    Event,
    FencedWrite,
    Gap,
    History,
    LockHeld,
    Outcome,
    Owned,
    Record,
    RegisterCall,
    Seen,
    Watched,
)
from tests.simulation.trace import Violation

ACKNOWLEDGED, REFUSED, UNKNOWN, FAILED = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.FAILED
READ_AT = (100.0, 100.5)
REGISTER = "/register/7-0"
Tree = dict[str, Key]


def call(kind: str, argument: object, called: float, returned: float | None, result: object) -> RegisterCall:
    return RegisterCall("w0-register0", kind, REGISTER, argument, called, returned, result)


def good_records() -> list[Record]:
    """A round in which everything was as promised, and some calls were left open."""
    return [
        call("create", "a", 1.0, 1.1, "created"),
        call("set", (0, "b"), 1.2, 1.3, 1),
        call("get", None, 1.4, 1.5, ("b", 1)),
        call("set", (-1, "c"), 1.6, None, None),
        Added("w0-adder3-000001", ACKNOWLEDGED, ""),
        Added("w0-adder3-000002", UNKNOWN, "OutcomeUnknown"),
        Added("w0-adder3-000003", UNKNOWN, "OutcomeUnknown"),
        Added("w0-adder3-000004", FAILED, "RequestTimeout"),
        Counted("w0-counter5-000001", ACKNOWLEDGED),
        Counted("w1-counter5-000001", UNKNOWN),
        Counted("w1-counter5-000002", FAILED),
        LockHeld("w0-locker6", 10, 2.0, 3.0),
        LockHeld("w1-locker6", 20, 3.5, 4.0),
        FencedWrite("w0-locker6", 10, 11),
        FencedWrite("w0-locker6", 10, 15),
        FencedWrite("w1-locker6", 20, 21),
        Owned("/ephemeral/o1", 900, 5.0, 7.0),
        Seen("/ephemeral/o1", 900, 5.1, 5.2),
        Seen("/ephemeral/o1", 900, 6.9, 7.1),
        Seen("/ephemeral/o1", None, 7.5, 7.6),
        Changed("w0", EventKind.CREATED, "/watch/w0/1", 30, ACKNOWLEDGED),
        Changed("w0", EventKind.CHANGED, "/watch/w0/1", 31, ACKNOWLEDGED),
        Changed("w0", EventKind.CHANGED, "/watch/w0/1", 0, FAILED),
        Changed("w0", EventKind.DELETED, "/watch/w0/1", 0, ACKNOWLEDGED),
        Changed("w0", EventKind.CREATED, "/watch/w0/2", 0, UNKNOWN),
        Event("w0", EventKind.CREATED, "/watch/w0/1", 30),
        Event("w0", EventKind.CHANGED, "/watch/w0/1", 31),
        Event("w0", EventKind.DELETED, "/watch/w0/1", 32),
        Event("w0", EventKind.CREATED, "/watch/w0/2", 33),
        Watched("w0", 29, complete=True),
    ]


def good_tree() -> Tree:
    return {
        REGISTER: Key(b"c", 2, 1, 3),
        "/set": Key(b"", 0, 1, 1),
        "/set/w0-adder3-000001": Key(b"w0-adder3-000001", 0, 4, 4),
        "/set/w0-adder3-000002": Key(b"w0-adder3-000002", 0, 5, 5),
        "/counter": Key(b"2", 2, 1, 9),
        "/counter/by": Key(b"", 0, 1, 1),
        "/counter/by/w0-counter5-000001": Key(b"", 0, 8, 8),
        "/counter/by/w1-counter5-000001": Key(b"", 0, 9, 9),
        "/lock": Key(b"", 0, 1, 1),
    }


def judge(records: list[Record], tree: Tree, other: Tree | None = None) -> None:
    check_round(History(records), {"n1": tree, "n2": tree if other is None else other, "n3": tree}, READ_AT)


def test_a_good_round_passes() -> None:
    """Open calls may have happened or not; a look that began before the end of belief says nothing after it."""
    judge(good_records(), good_tree())


def test_a_gap_that_was_told_is_no_loss() -> None:
    """The watcher knows that it must read the state anew."""
    records = [record for record in good_records() if not isinstance(record, Event)]
    judge([*records, Gap("w0", 29, 33)], good_tree())


Bad = Callable[[list[Record], Tree], None]


def change(old: Record, new: Record) -> Bad:
    """One record was another one."""

    def bad(records: list[Record], _: Tree) -> None:
        records[records.index(old)] = new

    return bad


def missing(old: Record) -> Bad:
    """One record is not there."""
    return lambda records, _: records.remove(old)


def extra(new: Record, at: int | None = None) -> Bad:
    """There is one record more."""
    return lambda records, _: records.insert(len(records) if at is None else at, new)


def tree_without(path: str) -> Bad:
    return lambda _, tree: tree.__delitem__(path)


def tree_with(path: str, key: Key) -> Bad:
    return lambda _, tree: tree.__setitem__(path, key)


def both(first: Bad, second: Bad) -> Bad:
    def bad(records: list[Record], tree: Tree) -> None:
        first(records, tree)
        second(records, tree)

    return bad


E30 = Event("w0", EventKind.CREATED, "/watch/w0/1", 30)
E31 = Event("w0", EventKind.CHANGED, "/watch/w0/1", 31)
E32 = Event("w0", EventKind.DELETED, "/watch/w0/1", 32)
CREATE = call("create", "a", 1.0, 1.1, "created")
READ = call("get", None, 1.4, 1.5, ("b", 1))
SET = call("set", (0, "b"), 1.2, 1.3, 1)

BAD: dict[str, tuple[str, Bad]] = {
    "an acknowledged child is lost": ("SET", tree_without("/set/w0-adder3-000001")),
    "a child has another value": ("SET", tree_with("/set/w0-adder3-000001", Key(b"?", 0, 4, 4))),
    "a child appeared from nowhere": ("SET", tree_with("/set/w9-adder3-000001", Key(b"w9-adder3-000001", 0, 6, 6))),
    "a child is there whose creation surely failed": (
        "SET",
        tree_with("/set/w0-adder3-000004", Key(b"w0-adder3-000004", 0, 6, 6)),
    ),
    "a child was created twice": ("SET", extra(Added("w0-adder3-000005", REFUSED, "NodeExists"))),
    "an increment is lost, marker and all": (
        "COUNTER",
        both(tree_without("/counter/by/w0-counter5-000001"), tree_with("/counter", Key(b"1", 1, 1, 9))),
    ),
    "half a transaction happened: the marker is missing": ("COUNTER", tree_without("/counter/by/w1-counter5-000001")),
    "half a transaction happened: the counter is behind": ("COUNTER", tree_with("/counter", Key(b"1", 1, 1, 9))),
    "the counter was set twice by one increment": ("COUNTER", tree_with("/counter", Key(b"2", 3, 1, 9))),
    "an increment that surely failed is there": (
        "COUNTER",
        both(
            tree_with("/counter", Key(b"3", 3, 1, 9)),
            tree_with("/counter/by/w1-counter5-000002", Key(b"", 0, 9, 9)),
        ),
    ),
    "a read is stale": ("LINEARIZABILITY", change(READ, replace(READ, result=("a", 0)))),
    "a read saw a value from nowhere": ("LINEARIZABILITY", change(READ, replace(READ, result=("x", 1)))),
    "a set was applied twice": ("LINEARIZABILITY", change(READ, replace(READ, result=("b", 2)))),
    "a compare-and-set won against a newer version": (
        "LINEARIZABILITY",
        extra(call("set", (0, "d"), 1.35, 1.38, 1)),
    ),
    "a key was created twice": ("LINEARIZABILITY", extra(call("create", "z", 1.32, 1.34, "created"))),
    "an acknowledged set is lost at the end": ("LINEARIZABILITY", tree_with(REGISTER, Key(b"a", 0, 1, 1))),
    "a key is lost at the end": ("LINEARIZABILITY", tree_without(REGISTER)),
    "a token is lower than the one before": (
        "M2",
        change(LockHeld("w1-locker6", 20, 3.5, 4.0), LockHeld("w1-locker6", 9, 3.5, 4.0)),
    ),
    "a token was given twice": (
        "M2",
        change(LockHeld("w1-locker6", 20, 3.5, 4.0), LockHeld("w1-locker6", 10, 3.5, 4.0)),
    ),
    "two hold the lock at once": (
        "M3",
        change(LockHeld("w1-locker6", 20, 3.5, 4.0), LockHeld("w1-locker6", 20, 2.5, 4.0)),
    ),
    "a late write passed the fence": ("M1", extra(FencedWrite("w0-locker6", 10, 25))),
    "a dead contender still stands in the queue": ("M6", tree_with("/lock/0-1-lock-0000000001", Key(b"", 0, 9, 9))),
    "an ephemeral key is gone while its session lives": ("E1", extra(Seen("/ephemeral/o1", None, 6.0, 6.1))),
    "an ephemeral key came back": ("E3", extra(Seen("/ephemeral/o1", 900, 7.8, 7.9))),
    "an ephemeral key is somebody else's": ("E4", extra(Seen("/ephemeral/o1", 901, 5.5, 5.6))),
    "an event is missing": ("W", missing(E31)),
    "a deletion was never told": ("W", missing(E32)),
    "an event came twice": ("W", extra(E32)),
    "events came in the wrong order": ("W", both(missing(E30), extra(E30))),
    "an event of nothing": ("W", extra(Event("w0", EventKind.CREATED, "/watch/w0/7", 40))),
    "an event of a change that surely failed": (
        "W",
        both(
            extra(Changed("w0", EventKind.CREATED, "/watch/w0/8", 0, FAILED)),
            extra(Event("w0", EventKind.CREATED, "/watch/w0/8", 41)),
        ),
    ),
    "an event from before the watch": ("W", extra(Event("w0", EventKind.CREATED, "/watch/w0/2", 29), at=0)),
    "a key was deleted twice": ("W", extra(Event("w0", EventKind.DELETED, "/watch/w0/1", 50))),
    "the last event never came": (
        "W",
        change(Watched("w0", 29, complete=True), Watched("w0", 29, complete=False)),
    ),
    "a gap was told elsewhere than where the event is missing": (
        "W",
        both(missing(E31), extra(Gap("w0", 31, 33))),
    ),
}


@pytest.mark.parametrize("what", sorted(BAD))
def test_a_bad_round_is_refused(what: str) -> None:
    """By the check whose promise was broken."""
    check, spoil = BAD[what]
    records, tree = good_records(), good_tree()
    spoil(records, tree)
    with pytest.raises(Violation) as caught:
        judge(records, tree)
    assert caught.value.invariant == check


def test_nodes_that_differ_are_refused_and_the_keys_named() -> None:
    """Whichever of them is right: one is wrong."""
    other = {**good_tree(), "/counter": Key(b"2", 2, 1, 8)}
    with pytest.raises(Violation, match=r"DIVERGENCE: n1 and n2 differ in 1 keys: /counter"):
        judge(good_records(), good_tree(), other)
