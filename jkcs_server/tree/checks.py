"""The full check of what a client sends, before it is proposed or looked up: types, paths, flags and sizes.

Knows nothing of the tree's state. Called by the serving side for every write, so the usual cases are short.
`apply` looks again at what would harm the tree, but at no limit: limits are kept here, where two releases
may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from jkcs_client.protocol import messages
from jkcs_client.protocol.errors import BadArguments, BadPath, DefiniteError, TooLarge, Unimplemented
from jkcs_client.protocol.messages import (
    CHECK,
    CLOSE,
    CREATE,
    DELETE,
    GUARD,
    MULTI,
    MULTI_BYTES_MAX,
    MULTI_OPS_MAX,
    SEQUENCE,
    SET,
    SET_ACL,
    VALUE_BYTES_MAX,
)
from jkcs_server.tree import acl as acls
from jkcs_server.tree import paths
from jkcs_server.tree.apply import SEQUENCE_MAX, check_lifetime
from jkcs_server.tree.keytree import CONTAINER, FLAGS_MAX, SEQUENTIAL

_VERSION_MIN = -(2**31)
_INTEGER_MAX = 2**63 - 1

Arguments = Sequence[object]


def check_path(path: object) -> None:
    """Raise BadPath, or TooLarge, naming the first fault of what a client gave as a path."""
    paths.check(path)


def check_write(op: int, arguments: Arguments) -> None:
    """Raise BadArguments (or BadPath, TooLarge) naming the argument, or Unimplemented.

    `arguments` are those of the message that come after `acked`.
    """
    check = _CHECKS.get(op)
    if check is None:
        raise Unimplemented(f"{_name(op)} is not a write")
    check(arguments)


def _check_set(arguments: Arguments) -> None:
    if len(arguments) != 3:
        _refuse_count(SET, "path, data, version", arguments)
    path, data, version = arguments
    paths.check(path)
    if type(data) is not bytes or len(data) > VALUE_BYTES_MAX:
        _refuse_data(data)
    _check_number("version", version)


def _check_create(arguments: Arguments) -> None:
    acl: object = None
    ttl: object = 0
    if len(arguments) == 3:
        path, data, flags = arguments
    elif len(arguments) == 5:
        path, data, flags, acl, ttl = arguments
        acls.check_size(acl)
    else:
        _refuse_count(CREATE, "path, data, flags, and perhaps acl, ttl", arguments)
    if type(flags) is not int or not 0 <= flags <= FLAGS_MAX:
        raise BadArguments(f"flags must be an integer from 0 to {FLAGS_MAX}, not {_show(flags)}")
    if flags >= CONTAINER or ttl != 0:
        check_lifetime(flags, ttl)
    if flags & SEQUENTIAL:
        paths.check_sequential(path)
    else:
        paths.check(path)
    if type(data) is not bytes or len(data) > VALUE_BYTES_MAX:
        _refuse_data(data)


def _check_delete(arguments: Arguments) -> None:
    _check_version(DELETE, arguments)
    if arguments[0] == paths.ROOT:
        raise BadPath("the root cannot be deleted")


def _check_check(arguments: Arguments) -> None:
    _check_version(CHECK, arguments)


def _check_version(op: int, arguments: Arguments) -> None:
    if len(arguments) != 2:
        _refuse_count(op, "path, version", arguments)
    path, version = arguments
    paths.check(path)
    _check_number("version", version)


def _check_guard(arguments: Arguments) -> None:
    if len(arguments) != 2:
        _refuse_count(GUARD, "path, czxid", arguments)
    path, czxid = arguments
    paths.check(path)
    if type(czxid) is not int or not 0 <= czxid <= _INTEGER_MAX:
        _refuse_integer("czxid", czxid, 0)


def _check_set_acl(arguments: Arguments) -> None:
    if len(arguments) != 3:
        _refuse_count(SET_ACL, "path, acl, aversion", arguments)
    path, acl, aversion = arguments
    paths.check(path)
    acls.check_size(acl)
    _check_number("aversion", aversion)


def _check_sequence(arguments: Arguments) -> None:
    if len(arguments) != 2:
        _refuse_count(SEQUENCE, "path, number", arguments)
    path, number = arguments
    paths.check(path)
    if type(number) is not int or not 0 <= number <= SEQUENCE_MAX:
        raise BadArguments(f"number must be an integer from 0 to {SEQUENCE_MAX}, not {_show(number)}")


def _check_close(arguments: Arguments) -> None:
    if arguments:
        _refuse_count(CLOSE, "no more than acked", arguments)


def _check_multi(arguments: Arguments) -> None:
    if len(arguments) != 1:
        _refuse_count(MULTI, "a list of operations", arguments)
    steps = arguments[0]
    if not isinstance(steps, list | tuple):
        raise BadArguments(f"the operations of a multi must be a list, not {type(steps).__name__}")
    if len(steps) > MULTI_OPS_MAX:
        raise TooLarge(f"a multi of {len(steps)} operations, limit {MULTI_OPS_MAX}")
    size = 0
    for place, step in enumerate(steps):
        try:
            size += _check_step(step)
        except DefiniteError as error:
            raise type(error)(f"{place}: {error.detail}") from None
    if size > MULTI_BYTES_MAX:
        raise TooLarge(f"the paths and values of a multi add up to {size} bytes, limit {MULTI_BYTES_MAX}")


def _check_step(step: object) -> int:
    """Check one operation of a multi; returns the bytes of its path and value."""
    if not isinstance(step, list | tuple) or not step:
        raise BadArguments(f"an operation must be a list that begins with its opcode, not {_show(step)}")
    op = step[0]
    check = _STEP_CHECKS.get(op) if type(op) is int else None
    if check is None:
        raise Unimplemented(f"{_name(op)} is not allowed in a multi")
    check(step[1:])
    path = step[1]
    size = len(path) if path.isascii() else len(path.encode())
    if op in (CREATE, SET):
        size += len(step[2])
    acl = step[2] if op == SET_ACL else step[4] if op == CREATE and len(step) > 4 else None
    return size + sum(len(scheme) + len(name) for _, scheme, name in acl or ())


def _check_number(name: str, version: object) -> None:
    # Below zero too: ZooKeeper's clients see 32 bits of a version.
    if type(version) is not int or not _VERSION_MIN <= version <= _INTEGER_MAX:
        raise BadArguments(f"{name} must be an integer from -2**31 to 2**63 - 1, not {_show(version)}")


def _refuse_count(op: int, expected: str, arguments: Arguments) -> NoReturn:
    raise BadArguments(f"{_name(op)} takes {expected}, and got {len(arguments)} arguments")


def _refuse_data(data: object) -> None:
    if type(data) is not bytes:
        raise BadArguments(f"data must be bytes, not {type(data).__name__}")
    raise TooLarge(f"data of {len(data)} bytes, limit {VALUE_BYTES_MAX}")


def _refuse_integer(name: str, value: object, least: int) -> None:
    raise BadArguments(f"{name} must be an integer from {least} to 2**63 - 1, not {_show(value)}")


def _show(value: object) -> str:
    # Not the repr of just anything: it may be long, or nested deeper than Python can follow.
    return str(value) if value is None or isinstance(value, int | float) else type(value).__name__


def _name(op: object) -> str:
    name = messages.OP_NAMES.get(op) if type(op) is int else None
    return name or f"operation {_show(op)}"


_STEP_CHECKS: dict[int, Callable[[Arguments], None]] = {
    CREATE: _check_create,
    SET: _check_set,
    DELETE: _check_delete,
    CHECK: _check_check,
    GUARD: _check_guard,
    SET_ACL: _check_set_acl,
    SEQUENCE: _check_sequence,
}
_CHECKS = {**_STEP_CHECKS, MULTI: _check_multi, CLOSE: _check_close}
