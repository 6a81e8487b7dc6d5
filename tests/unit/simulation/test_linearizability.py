"""The linearizability checker: bad histories are rejected, good ones accepted, and brute force agrees."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.checkers.linearizability import FOREVER, Operation, check_linearizable
from tests.simulation.checkers.models import ABSENT, check_registers, register_step
from tests.simulation.trace import Violation

Row = tuple[str, object, float, float, object]


def history(*rows: Row) -> list[Operation]:
    operations = []
    for at, (kind, argument, called, returned, result) in enumerate(rows):
        operations.append(Operation(f"c{at}", kind, "/k", argument, called, returned, result))
    return operations


CREATED: Row = ("create", b"a", 0, 1, "created")

GOOD = {
    "one after another": [CREATED, ("set", (-1, b"b"), 2, 3, 1), ("get", None, 4, 5, (b"b", 1))],
    "read overlaps a write and sees the old value": [
        CREATED,
        ("set", (-1, b"b"), 2, 5, 1),
        ("get", None, 3, 4, (b"a", 0)),
    ],
    "read overlaps a write and sees the new value": [
        CREATED,
        ("set", (-1, b"b"), 2, 5, 1),
        ("get", None, 3, 4, (b"b", 1)),
    ],
    "unanswered write seen": [CREATED, ("set", (-1, b"b"), 2, FOREVER, None), ("get", None, 3, 4, (b"b", 1))],
    "unanswered write never seen": [CREATED, ("set", (-1, b"b"), 2, FOREVER, None), ("get", None, 3, 4, (b"a", 0))],
    "unanswered write happens late": [
        CREATED,
        ("set", (-1, b"b"), 2, FOREVER, None),
        ("get", None, 3, 4, (b"a", 0)),
        ("get", None, 5, 6, (b"b", 1)),
    ],
    "one of two conditional writes wins": [
        CREATED,
        ("set", (0, b"b"), 2, 4, 1),
        ("set", (0, b"c"), 2, 4, "BadVersion"),
        ("get", None, 5, 6, (b"b", 1)),
    ],
    "deleted and made again": [
        CREATED,
        ("delete", -1, 2, 3, "deleted"),
        ("get", None, 4, 5, None),
        ("create", b"z", 6, 7, "created"),
        ("get", None, 8, 9, (b"z", 0)),
    ],
    "nothing there": [("get", None, 0, 1, None), ("set", (-1, b"x"), 2, 3, "NoNode"), ("delete", -1, 4, 5, "NoNode")],
}

BAD = {
    "stale read": [CREATED, ("set", (-1, b"b"), 2, 3, 1), ("get", None, 4, 5, (b"a", 0))],
    "read of a value nobody wrote": [CREATED, ("get", None, 2, 3, (b"x", 0))],
    "read before the write was called": [
        CREATED,
        ("get", None, 2, 3, (b"b", 1)),
        ("set", (-1, b"b"), 4, 5, 1),
    ],
    "back in time between two readers": [
        CREATED,
        ("set", (-1, b"b"), 2, 9, 1),
        ("get", None, 3, 4, (b"b", 1)),
        ("get", None, 5, 6, (b"a", 0)),
    ],
    "two conditional writes both win": [
        CREATED,
        ("set", (0, b"b"), 2, 4, 1),
        ("set", (0, b"c"), 2, 4, 1),
    ],
    "acknowledged write lost": [
        CREATED,
        ("set", (-1, b"b"), 2, 3, 1),
        ("set", (-1, b"c"), 4, 5, 2),
        ("get", None, 6, 7, (b"b", 1)),
    ],
    "write applied twice": [CREATED, ("set", (-1, b"b"), 2, 3, 1), ("get", None, 4, 5, (b"b", 2))],
    "unanswered write seen, then gone": [
        CREATED,
        ("set", (-1, b"b"), 2, FOREVER, None),
        ("get", None, 3, 4, (b"b", 1)),
        ("get", None, 5, 6, (b"a", 0)),
    ],
    "refused write took effect": [
        CREATED,
        ("set", (5, b"b"), 2, 3, "BadVersion"),
        ("get", None, 4, 5, (b"b", 1)),
    ],
    "created twice": [CREATED, ("create", b"b", 2, 3, "created")],
    "deleted key still read": [CREATED, ("delete", -1, 2, 3, "deleted"), ("get", None, 4, 5, (b"a", 0))],
    "refused for a version it had": [CREATED, ("set", (0, b"b"), 2, 3, "BadVersion")],
}


@pytest.mark.parametrize("rows", GOOD.values(), ids=GOOD)
def test_good_history_is_accepted(rows: list[Row]) -> None:
    """A checker that cries wolf is switched off."""
    check_registers(history(*rows))


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD)
def test_bad_history_is_rejected(rows: list[Row]) -> None:
    """A checker that cannot fail proves nothing."""
    with pytest.raises(Violation, match="LINEARIZABILITY"):
        check_registers(history(*rows))


def test_keys_are_judged_apart() -> None:
    """An anomaly on one key must not hide behind the good history of another."""
    fine = history(*GOOD["one after another"])
    broken = history(*BAD["stale read"])
    for operation in broken:
        operation.key = "/other"
    with pytest.raises(Violation, match="/other"):
        check_registers([*fine, *broken])


def test_long_history_is_decided_quickly() -> None:
    """Eight clients and a thousand operations must not explode."""
    operations = [Operation("c", "create", "/k", b"0", 0, 1, "created")]
    for at in range(1000):
        operations.append(Operation(f"c{at % 8}", "set", "/k", (-1, b"%d" % at), 2 + at, 9.5 + at, at + 1))
    check_registers(operations)


def brute_force(operations: list[Operation]) -> bool:
    """Try every order of every choice of unanswered operations."""
    answered = [one for one in operations if one.answered]
    open_ones = [one for one in operations if not one.answered]
    for chosen in range(1 << len(open_ones)):
        used = answered + [one for at, one in enumerate(open_ones) if chosen >> at & 1]
        for order in permutations(used):
            if any(later.returned < earlier.called for at, earlier in enumerate(order) for later in order[at + 1 :]):
                continue
            state = ABSENT
            for one in order:
                allowed, state = register_step(state, one)  # type: ignore[assignment]
                if not allowed:
                    break
            else:
                return True
    return False


versions = st.sampled_from([-1, 0, 1])
values = st.sampled_from([b"a", b"b"])
states = st.sampled_from([None, (b"a", 0), (b"b", 0), (b"a", 1), (b"b", 1), (b"a", 2)])
rows = st.one_of(
    st.tuples(st.just("get"), st.none(), states),
    st.tuples(st.just("create"), values, st.sampled_from(["created", "NodeExists"])),
    st.tuples(st.just("set"), st.tuples(versions, values), st.sampled_from([1, 2, "BadVersion", "NoNode"])),
    st.tuples(st.just("delete"), versions, st.sampled_from(["deleted", "BadVersion", "NoNode"])),
)
times = st.tuples(st.integers(0, 8), st.one_of(st.integers(0, 6), st.none()))


@settings(max_examples=400)
@given(st.lists(st.tuples(rows, times), min_size=1, max_size=5))
def test_agrees_with_brute_force(drawn: list[tuple[tuple[str, object, object], tuple[int, int | None]]]) -> None:
    """Two implementations as unlike as possible must not differ."""
    operations = []
    for at, ((kind, argument, result), (called, lasts)) in enumerate(drawn):
        # Every time differs, so that no two events are at one instant.
        start = called + at / 100
        end = FOREVER if lasts is None else start + lasts + 0.5 + at / 1000
        operations.append(Operation(f"c{at}", kind, "/k", argument, start, end, None if lasts is None else result))
    try:
        check_linearizable(operations, ABSENT, register_step)
        accepted = True
    except Violation:
        accepted = False
    assert accepted == brute_force(operations)
