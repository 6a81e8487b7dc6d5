"""What is refused before it is proposed."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.protocol.errors import BadArguments, BadPath, JkcsError, TooLarge, Unimplemented
from jkcs_client.protocol.messages import (
    CHECK,
    CLOSE,
    CREATE,
    DELETE,
    GET,
    GUARD,
    MULTI,
    MULTI_BYTES_MAX,
    MULTI_OPS_MAX,
    SET,
    VALUE_BYTES_MAX,
)
from jkcs_server.tree.checks import check_path, check_write
from jkcs_server.tree.commands import EXPIRE, OPEN

BIG = b"x" * (VALUE_BYTES_MAX + 1)

ALLOWED: list[tuple[int, list[Any]]] = [
    (CREATE, ["/a", b"", 0]),
    (CREATE, ["/a/", b"", 2]),
    (CREATE, ["/a/b", BIG[1:], 7]),
    (SET, ["/a", BIG[1:], -1]),
    (SET, ["/", b"", 2**63 - 1]),
    (DELETE, ["/a", 0]),
    (CHECK, ["/", -1]),
    (GUARD, ["/a", 12]),
    (MULTI, [[]]),
    (MULTI, [[[CREATE, "/a", b"", 0], [SET, "/a", b"", 0], [DELETE, "/a", 0], [CHECK, "/a", 0], [GUARD, "/a", 0]]]),
    (MULTI, [((CHECK, "/a", 0),)]),
    (CLOSE, []),
]

REFUSED: list[tuple[int, list[Any], type[JkcsError], str]] = [
    (GET, ["/a", 0], Unimplemented, "get is not a write"),
    (99, [], Unimplemented, "operation 99 is not a write"),
    (OPEN, [b"", 1], Unimplemented, "operation 64"),
    (EXPIRE, [1], Unimplemented, "operation 65"),
    (CREATE, ["/a", b""], BadArguments, "create takes path, data, flags, and perhaps acl, ttl, and got 2 arguments"),
    (CREATE, ["a", b"", 0], BadPath, "does not start"),
    (CREATE, ["/a/", b"", 0], BadPath, "ends with /"),
    (CREATE, [7, b"", 2], BadPath, "not int"),
    (CREATE, ["/a", "", 0], BadArguments, "data must be bytes, not str"),
    (CREATE, ["/a", BIG, 0], TooLarge, f"data of {len(BIG)} bytes, limit {VALUE_BYTES_MAX}"),
    (CREATE, ["/a", b"", 64], BadArguments, "flags must be an integer from 0 to 63, not 64"),
    (CREATE, ["/a", b"", True], BadArguments, "flags"),
    (SET, ["/a", b"", 0, 0], BadArguments, "set takes path, data, version, and got 4"),
    (SET, ["/a", None, 0], BadArguments, "data must be bytes, not NoneType"),
    (SET, ["/a", BIG, 0], TooLarge, "limit"),
    (SET, ["/a", b"", -(2**31) - 1], BadArguments, "version must be an integer from -2"),
    (SET, ["/a", b"", 2**63], BadArguments, "version"),
    (SET, ["/a", b"", 1.0], BadArguments, "version"),
    (SET, [["/a"], b"", 0], BadPath, "not list"),
    (DELETE, ["/a"], BadArguments, "delete takes path, version"),
    (DELETE, ["/", -1], BadPath, "the root cannot be deleted"),
    (DELETE, ["/a", "1"], BadArguments, "version"),
    (CHECK, [], BadArguments, "check takes path, version"),
    (GUARD, ["/a"], BadArguments, "guard takes path, czxid"),
    (GUARD, ["/a", -1], BadArguments, "czxid must be an integer from 0"),
    (CLOSE, [1], BadArguments, "close takes no more"),
    (MULTI, [], BadArguments, "multi takes a list of operations"),
    (MULTI, ["no"], BadArguments, "must be a list, not str"),
    (MULTI, [[7]], BadArguments, "0: an operation must be a list"),
    (MULTI, [[[]]], BadArguments, "0: an operation must be a list"),
    (MULTI, [[[CHECK, "/a", 0], [MULTI, []]]], Unimplemented, "1: multi is not allowed in a multi"),
    (MULTI, [[[CLOSE]]], Unimplemented, "0: close is not allowed in a multi"),
    (MULTI, [[[GET, "/a", 0]]], Unimplemented, "0: get is not allowed in a multi"),
    (MULTI, [[[{}]]], Unimplemented, "0: operation dict is not allowed in a multi"),
    (MULTI, [[[DELETE, "/", 0]]], BadPath, "0: the root"),
    (MULTI, [[[SET, "/a", BIG, 0]]], TooLarge, "0: data of"),
    (MULTI, [[[CHECK, "/a", 0]] * (MULTI_OPS_MAX + 1)], TooLarge, f"{MULTI_OPS_MAX + 1} operations"),
    (MULTI, [[[SET, "/a", BIG[1:], 0]] * 4], TooLarge, f"limit {MULTI_BYTES_MAX}"),
    (MULTI, [[[CHECK, "/" + "a" * 4000, 0]] * 1100], TooLarge, f"limit {MULTI_BYTES_MAX}"),
]


@pytest.mark.parametrize(("op", "arguments"), ALLOWED)
def test_write_is_allowed(op: int, arguments: list[Any]) -> None:
    """Up to and including each limit."""
    check_write(op, arguments)


@pytest.mark.parametrize(("op", "arguments", "error", "text"), REFUSED)
def test_write_is_refused_by_name(op: int, arguments: list[Any], error: type[JkcsError], text: str) -> None:
    """A client's mistake is answered with what is wrong, and never reaches the log."""
    with pytest.raises(error) as caught:
        check_write(op, arguments)
    assert type(caught.value) is error
    assert text in caught.value.detail
    assert len(caught.value.detail) < 400


def test_refusal_survives_any_depth() -> None:
    """What a client sends may be nested deeper than repr() can go."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for op, arguments in ((SET, ["/a", b"", deep]), (CREATE, [deep, b"", 0]), (MULTI, [[[deep]]]), (MULTI, [deep])):
        with pytest.raises((BadArguments, Unimplemented)):
            check_write(op, arguments)


def test_path_of_a_read_is_checked_alike() -> None:
    """Reads and watches ask the same question."""
    check_path("/a")
    with pytest.raises(BadPath):
        check_path("/a/")
