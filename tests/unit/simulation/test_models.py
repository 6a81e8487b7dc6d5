"""The model of a directory, and the full search over it: bad histories are rejected, and brute force agrees."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.checkers import models
from tests.simulation.checkers.linearizability import FOREVER, Operation, check_linearizable
from tests.simulation.checkers.models import ABSENT, check_full, directory_step
from tests.simulation.trace import Violation

Row = tuple[str, Any, float, float, Any]

MADE: Row = ("make", None, 0, 1, "created")
X: Row = ("create", ("x", b"1"), 2, 3, "created")
FIRST = "s-0000000000"
SECOND = "s-0000000001"

GOOD: dict[str, list[Row]] = {
    "filled and listed": [MADE, X, ("children", None, 4, 5, ("x",)), ("get", "x", 6, 7, (b"1", 0))],
    "nothing without the parent": [
        *[("children", None, 0, 1, None), ("get", "x", 2, 3, None), ("create", ("x", b""), 4, 5, "NoNode")],
        *[("sequential", ("s-", b""), 6, 7, "NoNode"), ("remove", None, 8, 9, "NoNode")],
    ],
    "listing overlaps a creation": [MADE, ("create", ("x", b"1"), 2, 5, "created"), ("children", None, 3, 4, ())],
    "numbers go on": [
        *[MADE, ("sequential", ("s-", b""), 2, 3, FIRST), ("delete", (FIRST, -1), 4, 5, "deleted")],
        ("sequential", ("s-", b""), 6, 7, SECOND),
    ],
    "a number taken by hand is passed over": [
        *[MADE, ("create", (FIRST, b""), 2, 3, "created"), ("sequential", ("s-", b""), 4, 5, SECOND)],
    ],
    "every creation counts": [MADE, X, ("sequential", ("s-", b""), 4, 5, SECOND)],
    "removed when it is empty": [
        *[MADE, X, ("remove", None, 4, 5, "NotEmpty"), ("delete", ("x", 0), 6, 7, "deleted")],
        *[("remove", None, 8, 9, "deleted"), ("make", None, 10, 11, "created")],
    ],
    "transaction": [
        *[MADE, ("multi", (("create", ("x", b"1")), ("create", ("y", b"2"))), 2, 3, ("created", "created"))],
        ("children", None, 4, 5, ("x", "y")),
    ],
    "transaction that failed": [
        *[MADE, ("multi", (("create", ("x", b"1")), ("set", ("y", -1, b"2"))), 2, 3, ("failed", 1, "NoNode"))],
        ("children", None, 4, 5, ()),
    ],
    "unanswered transaction seen": [
        *[MADE, ("multi", (("create", ("x", b"1")), ("create", ("y", b"2"))), 2, FOREVER, None)],
        *[("children", None, 3, 4, ()), ("children", None, 5, 6, ("x", "y"))],
    ],
}

BAD: dict[str, list[Row]] = {
    "created child not listed": [MADE, X, ("children", None, 4, 5, ())],
    "deleted child listed": [MADE, X, ("delete", ("x", -1), 4, 5, "deleted"), ("children", None, 6, 7, ("x",))],
    "child of nobody": [X],
    "same number twice": [MADE, ("sequential", ("s-", b""), 2, 3, FIRST), ("sequential", ("s-", b""), 4, 5, FIRST)],
    "number as if a creation had not counted": [MADE, X, ("sequential", ("s-", b""), 4, 5, FIRST)],
    "number given again after a deletion": [
        *[MADE, ("sequential", ("s-", b""), 2, 3, FIRST), ("delete", (FIRST, -1), 4, 5, "deleted")],
        ("sequential", ("s-", b""), 6, 7, FIRST),
    ],
    "parent removed over its children": [MADE, X, ("remove", None, 4, 5, "deleted")],
    "half of a transaction seen": [
        *[MADE, ("multi", (("create", ("x", b"1")), ("create", ("y", b"2"))), 2, FOREVER, None)],
        ("children", None, 3, 4, ("x",)),
    ],
    "failed transaction took effect": [
        *[MADE, ("multi", (("create", ("x", b"1")), ("set", ("y", -1, b"2"))), 2, 3, ("failed", 1, "NoNode"))],
        ("children", None, 4, 5, ("x",)),
    ],
    "transaction failed for nothing": [
        *[MADE, X, ("multi", (("set", ("x", 0, b"2")), ("delete", ("x", 1))), 4, 5, ("failed", 1, "BadVersion"))],
    ],
    "two keys torn between two readers": [
        *[MADE, X, ("create", ("y", b"1"), 4, 5, "created")],
        ("multi", (("set", ("x", -1, b"2")), ("set", ("y", -1, b"2"))), 6, 20, (1, 1)),
        *[("get", "x", 7, 8, (b"2", 1)), ("get", "y", 9, 10, (b"1", 0))],
    ],
    "listing goes back in time": [
        *[MADE, ("create", ("x", b"1"), 2, 9, "created"), ("children", None, 3, 4, ("x",))],
        ("children", None, 5, 6, ()),
    ],
    "refused for a version it had": [MADE, X, ("set", ("x", 0, b"2"), 4, 5, "BadVersion")],
}


def history(rows: list[Row]) -> list[Operation]:
    return [
        Operation(f"c{at}", kind, "/d", argument, called, returned, result)
        for at, (kind, argument, called, returned, result) in enumerate(rows)
    ]


@pytest.mark.parametrize("rows", GOOD.values(), ids=GOOD)
def test_good_directory_is_accepted(rows: list[Row]) -> None:
    """A checker that cries wolf is switched off."""
    check_full([], history(rows))


@pytest.mark.parametrize("rows", BAD.values(), ids=BAD)
def test_bad_directory_is_rejected(rows: list[Row]) -> None:
    """A checker that cannot fail proves nothing."""
    with pytest.raises(Violation, match="LINEARIZABILITY"):
        check_full([], history(rows))


def test_more_than_can_be_decided_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that was not made must not pass for one that found nothing."""
    monkeypatch.setattr(models, "OPERATIONS_MAX", 2)
    with pytest.raises(Violation, match="undecided"):
        check_full([], history([MADE, X, ("children", None, 4, 5, ("x",))]))


def brute_force(operations: list[Operation]) -> bool:
    """Try every order of every choice of unanswered operations."""
    answered = [one for one in operations if one.answered]
    open_ones = [one for one in operations if not one.answered]
    for chosen in range(1 << len(open_ones)):
        used = answered + [one for at, one in enumerate(open_ones) if chosen >> at & 1]
        for order in permutations(used):
            if any(later.returned < earlier.called for at, earlier in enumerate(order) for later in order[at + 1 :]):
                continue
            if _explains(order):
                return True
    return False


def _explains(order: tuple[Operation, ...]) -> bool:
    state: Any = ABSENT
    for one in order:
        allowed, state = directory_step(state, one)
        if not allowed:
            return False
    return True


names = st.sampled_from(["x", "y"])
versions = st.sampled_from([-1, 0])
errors = ["NoNode", "NodeExists", "BadVersion"]
rows = st.one_of(
    st.tuples(st.just("make"), st.none(), st.sampled_from(["created", "NodeExists"])),
    st.tuples(st.just("remove"), st.none(), st.sampled_from(["deleted", "NotEmpty", "NoNode"])),
    st.tuples(st.just("children"), st.none(), st.sampled_from([None, (), ("x",), ("x", "y")])),
    st.tuples(st.just("get"), names, st.sampled_from([None, (b"a", 0), (b"a", 1)])),
    st.tuples(st.just("create"), st.tuples(names, st.just(b"a")), st.sampled_from(["created", *errors])),
    st.tuples(st.just("set"), st.tuples(names, versions, st.just(b"a")), st.sampled_from([1, *errors])),
    st.tuples(st.just("delete"), st.tuples(names, versions), st.sampled_from(["deleted", *errors])),
)
times = st.tuples(st.integers(0, 6), st.one_of(st.integers(0, 5), st.none()))


@settings(max_examples=300)
@given(st.lists(st.tuples(rows, times), min_size=1, max_size=5))
def test_agrees_with_brute_force(drawn: list[tuple[tuple[str, Any, Any], tuple[int, int | None]]]) -> None:
    """Two implementations as unlike as possible must not differ."""
    operations = [Operation("c", "make", "/d", None, -2, -1, "created")]
    for at, ((kind, argument, result), (called, lasts)) in enumerate(drawn):
        # Every time differs, so that no two events are at one instant.
        start = called + at / 100
        end = FOREVER if lasts is None else start + lasts + 0.5 + at / 1000
        operations.append(Operation(f"c{at}", kind, "/d", argument, start, end, None if lasts is None else result))
    try:
        check_linearizable(operations, ABSENT, directory_step)
        accepted = True
    except Violation:
        accepted = False
    assert accepted == brute_force(operations)
