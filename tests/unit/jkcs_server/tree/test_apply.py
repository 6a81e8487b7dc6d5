"""The arguments of each write: what they become, and that no shape of them stops the machine."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.protocol.errors import (
    OK,
    BadArguments,
    BadPath,
    BadVersion,
    JkcsError,
    NodeExists,
    NoNode,
    Unimplemented,
)
from jkcs_client.protocol.messages import CHECK, CLOSE, CREATE, DELETE, GET, GUARD, MULTI, SET, SET_ACL
from jkcs_server.tree.commands import EXPIRE, IDENTIFIED, OPEN
from tests.unit.jkcs_server.tree.harness import Log, dump, events_in, outcome_in

RESULTS = [
    (CREATE, ("/new", b"abc", 0), ("/new", (3, 3, 3, 1700000000000, 1700000000000, 0, 0, 0, 3, 0, 0, 0))),
    (CREATE, ("/n-", b"", 3), ("/n-0000000001", (3, 3, 3, 1700000000000, 1700000000000, 0, 0, 1, 0, 0, 0, 0))),
    (SET, ("/a", b"xy", 0), ((2, 3, 2, 1700000000000, 1700000000000, 1, 0, 0, 2, 0, 0, 0),)),
    (DELETE, ("/a", 0), ()),
    (CHECK, ("/a", 0), ()),
    (GUARD, ("/a", 2), ()),
    (MULTI, ([],), ((),)),
    (
        MULTI,
        ([[CHECK, "/a", 0], [CREATE, "/b", b"", 0], [DELETE, "/b", 0]],),
        (((), ("/b", (3, 3, 3, 1700000000000, 1700000000000, 0, 0, 0, 0, 0, 0, 0)), ()),),
    ),
]

MALFORMED: list[tuple[Any, tuple[Any, ...], type[JkcsError]]] = [
    (CREATE, (), BadArguments),
    (CREATE, ("/x", b""), BadArguments),
    (CREATE, ("/x", b"", 0, 0), BadArguments),
    (CREATE, (b"/x", b"", 0), BadArguments),
    (CREATE, ({}, b"", 0), BadArguments),
    (CREATE, ("/x", "text", 0), BadArguments),
    (CREATE, ("/x", b"", 64), BadArguments),
    (CREATE, ("/x", b"", 9), BadArguments),
    (CREATE, ("/x", b"", 24, None, 5), BadArguments),
    (CREATE, ("/x", b"", 16), BadArguments),
    (CREATE, ("/x", b"", 16, None, 0), BadArguments),
    (CREATE, ("/x", b"", 16, None, 1 << 40), BadArguments),
    (CREATE, ("/x", b"", 16, None, "5"), BadArguments),
    (CREATE, ("/x", b"", 0, None, None), BadArguments),
    (CREATE, ("/x", b"", 0, None, 5), BadArguments),
    (CREATE, ("/x", b"", 0, [], 0), BadArguments),
    (CREATE, ("/x", b"", 0, [[32, "world", "anyone"]], 0), BadArguments),
    (CREATE, ("/x", b"", 0, [[1, b"world", "anyone"]], 0), BadArguments),
    (CREATE, ("/x", b"", 0, {}, 0), BadArguments),
    (SET_ACL, ("/a", None), BadArguments),
    (SET_ACL, ("/a", 7, -1), BadArguments),
    (SET_ACL, (7, None, -1), BadArguments),
    (SET_ACL, ("a", None, -1), BadPath),
    (SET + IDENTIFIED, ("/a", b"", -1), BadArguments),
    (SET + IDENTIFIED, (), BadArguments),
    (SET + IDENTIFIED, ("/a", b"", -1, [["ip"]]), BadArguments),
    (CLOSE + IDENTIFIED, ([],), Unimplemented),
    (CREATE, ("/x", b"", -1), BadArguments),
    (CREATE, ("/x", b"", "0"), BadArguments),
    (CREATE, ("x", b"", 0), BadPath),
    (CREATE, ("/x/../y", b"", 4), BadPath),
    (SET, ("/a", b""), BadArguments),
    (SET, (["/a"], b"", 0), BadArguments),
    (SET, ("/a", None, 0), BadArguments),
    (SET, ("/a", b"", 0.0), BadArguments),
    (SET, ("/a", b"", True), BadArguments),
    (SET, ("/a/", b"", 0), BadPath),
    (DELETE, ("/a",), BadArguments),
    (DELETE, ("/a", None), BadArguments),
    (DELETE, ("/", -1), BadPath),
    (CHECK, (7, 0), BadArguments),
    (GUARD, ("/a", "2"), BadArguments),
    (GUARD, ("", 2), BadPath),
    (MULTI, (), BadArguments),
    (MULTI, ("abc",), BadArguments),
    (MULTI, ({},), BadArguments),
    (MULTI, ([7],), BadArguments),
    (MULTI, ([[]],), BadArguments),
    (MULTI, ([[CREATE, "/x"]],), BadArguments),
    (MULTI, ([[{}, "/x"]],), Unimplemented),
    (MULTI, ([[MULTI, []]],), Unimplemented),
    (MULTI, ([[CLOSE]],), Unimplemented),
    (GET, ("/a", 0), Unimplemented),
    (99, (), Unimplemented),
    (OPEN, (b"p", 1000), Unimplemented),
    (EXPIRE, (3,), Unimplemented),
    ("create", ("/x", b"", 0), Unimplemented),
    ([CREATE], ("/x", b"", 0), Unimplemented),
    ({}, (), Unimplemented),
]


@pytest.fixture
def log() -> Log:
    """Session 1 has created /a at index 2."""
    log = Log()
    log.open()
    log.write(1, CREATE, "/a", b"", 0)
    return log


@pytest.mark.parametrize(("op", "arguments", "result"), RESULTS)
def test_result_has_the_fields_of_the_protocol(log: Log, op: int, arguments: tuple[Any, ...], result: Any) -> None:
    """The serving side packs them as they are."""
    assert log.write(1, op, *arguments) == (OK, result)


@pytest.mark.parametrize(("op", "arguments", "error"), MALFORMED)
def test_malformed_write_is_answered_and_takes_its_serial(
    log: Log, op: Any, arguments: tuple[Any, ...], error: type[JkcsError]
) -> None:
    """An exception here would stop every node, and again after each restart."""
    before = dump(log.machine)
    notes = log.apply(log.command(1, op, *arguments))
    code, detail = outcome_in(notes)
    assert code == error.code
    assert type(detail) is str and detail
    assert events_in(notes) == []
    assert dump(log.machine) == before
    assert log.machine.sessions[1].serial == 2


FAILING_MULTIS = [
    ([[SET, "/a", b"1", 0], [SET, "/a", b"2", 0]], BadVersion, "1: /a"),
    ([[CREATE, "/b", b"", 0], [CREATE, "/b/c", b"", 1], [CREATE, "/a", b"", 0]], NodeExists, "2: /a"),
    ([[DELETE, "/a", 0], [CHECK, "/a", 0]], NoNode, "1: /a"),
    ([[DELETE, "/x", 0], [CHECK, "/a", 0]], NoNode, "0: /x"),
    ([[CREATE, "/n-", b"", 2], [CHECK, "/x", 0]], NoNode, "1: /x"),
]


@pytest.mark.parametrize(("steps", "error", "detail"), FAILING_MULTIS)
def test_failed_multi_changes_nothing_and_names_the_operation(
    log: Log, steps: list[Any], error: type[NoNode], detail: str
) -> None:
    """All or nothing: no key, no counter, no event."""
    before = dump(log.machine)
    notes = log.apply(log.command(1, MULTI, steps))
    assert outcome_in(notes) == (error.code, detail)
    assert events_in(notes) == []
    assert dump(log.machine) == before


def test_operations_of_a_multi_see_those_before_them_and_share_an_index(log: Log) -> None:
    """That is what makes it a transaction."""
    code, ([created, changed],) = log.write(1, MULTI, [[CREATE, "/b", b"", 0], [SET, "/b", b"x", 0]])
    assert code == OK
    assert created[1][:3] == (3, 3, 3)
    assert changed[0][:3] == (3, 3, 3)
    assert changed[0][5] == 1
