"""The arguments of one write, and which operation of the tree they mean.

Called by `machine` with commands from the log. What comes from there was checked before it was proposed,
but a machine that stopped at a bad command would stop again at each start, on all nodes: so shapes and
types are looked at once more, and a fault is an answer like any other. No limit is looked at here, because
two releases with different limits would apply the same log differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from jkcs_client.protocol.errors import BadArguments, DefiniteError, Unimplemented
from jkcs_client.protocol.messages import (
    CHECK,
    CREATE,
    DELETE,
    GUARD,
    MULTI,
    OP_NAMES,
    SEQUENCE,
    SET,
    SET_ACL,
    TTL_MS_MAX,
)
from jkcs_server.tree import acl as acls
from jkcs_server.tree.acl import Ids
from jkcs_server.tree.keytree import CONTAINER, EPHEMERAL, FLAGS_MAX, TTL, KeyTree

Fields = tuple[object, ...]
"""The fields of an answer, as `messages` lists them."""
Write = Callable[[KeyTree, int, Sequence[object], int, int, Ids], Fields]
"""Applies one write, given the tree, the session, the arguments without `acked`, the index, the stamp, and who asks.
Raises a DefiniteError and has then changed nothing."""


SEQUENCE_MAX = 2**61
"""To where the number of sequential children can be raised: from there on 64 bits are enough for ever."""


def check_lifetime(flags: int, ttl: object) -> None:
    """Raise BadArguments for a create whose key cannot go as its flags and `ttl` say."""
    if (flags & (EPHEMERAL | CONTAINER | TTL)).bit_count() > 1:
        raise BadArguments("a key is ephemeral, a container, or has a ttl: not two of these")
    least, most = (1, TTL_MS_MAX) if flags & TTL else (0, 0)
    if type(ttl) is not int or not least <= ttl <= most:
        raise BadArguments(f"with these flags ttl must be an integer from {least} to {most}")


def _create(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    if len(arguments) != 3:
        return _create_rare(tree, session_id, arguments, index, stamp, ids)
    path, data, flags = arguments
    if type(path) is not str or type(data) is not bytes or type(flags) is not int or not 0 <= flags <= FLAGS_MAX:
        _refuse_shape(CREATE, "path, data, flags")
    if flags >= CONTAINER:
        check_lifetime(flags, 0)
    path, node = tree.create(path, data, flags, session_id, index, stamp, ids)
    return path, node.stat()


def _create_rare(
    tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids
) -> Fields:
    """With a list or a lifetime."""
    if len(arguments) != 5:
        _refuse_shape(CREATE, "path, data, flags, acl, ttl")
    path, data, flags, entries, ttl = arguments
    if type(path) is not str or type(data) is not bytes or type(flags) is not int or not 0 <= flags <= FLAGS_MAX:
        _refuse_shape(CREATE, "path, data, flags, acl, ttl")
    check_lifetime(flags, ttl)
    assert type(ttl) is int, ttl
    path, node = tree.create(path, data, flags, session_id, index, stamp, ids, acls.parse(entries), ttl)
    return path, node.stat()


def _set(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    if len(arguments) != 3:
        _refuse_shape(SET, "path, data, version")
    path, data, version = arguments
    if type(path) is not str or type(data) is not bytes or type(version) is not int:
        _refuse_shape(SET, "path, data, version")
    return (tree.set(path, data, version, index, stamp, ids).stat(),)


def _delete(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    path, version = _path_and_number(DELETE, arguments)
    tree.delete(path, version, index, ids)
    return ()


def _check(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    path, version = _path_and_number(CHECK, arguments)
    tree.check(path, version, ids)
    return ()


def _guard(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    path, czxid = _path_and_number(GUARD, arguments)
    tree.guard(path, czxid)
    return ()


def _set_acl(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    if len(arguments) != 3:
        _refuse_shape(SET_ACL, "path, acl, aversion")
    path, entries, aversion = arguments
    if type(path) is not str or type(aversion) is not int:
        _refuse_shape(SET_ACL, "path, acl, aversion")
    return (tree.set_acl(path, acls.parse(entries), aversion, index, ids).stat(),)


def _sequence(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    path, number = _path_and_number(SEQUENCE, arguments)
    if not 0 <= number <= SEQUENCE_MAX:
        _refuse_shape(SEQUENCE, f"a number from 0 to {SEQUENCE_MAX}")
    return (tree.raise_sequence(path, number, ids).stat(),)


def _multi(tree: KeyTree, session_id: int, arguments: Sequence[object], index: int, stamp: int, ids: Ids) -> Fields:
    if len(arguments) != 1 or type(arguments[0]) is not tuple:
        _refuse_shape(MULTI, "a list of operations")
    steps = arguments[0]
    results: list[Fields] = []
    tree.begin(index)
    try:
        for step in steps:
            results.append(_apply_step(tree, session_id, step, index, stamp, ids))
    except DefiniteError as error:
        tree.roll_back()
        raise type(error)(f"{len(results)}: {error.detail}") from None
    tree.commit()
    return (tuple(results),)


def _apply_step(tree: KeyTree, session_id: int, step: object, index: int, stamp: int, ids: Ids) -> Fields:
    if type(step) is not tuple or not step:
        raise BadArguments("an operation must be a list that begins with its opcode")
    op, *arguments = step
    write = STEPS.get(op) if type(op) is int else None
    if write is None:
        raise Unimplemented("no operation of a multi")
    return write(tree, session_id, arguments, index, stamp, ids)


def _path_and_number(op: int, arguments: Sequence[object]) -> tuple[str, int]:
    if len(arguments) == 2:
        path, number = arguments
        if type(path) is str and type(number) is int:
            return path, number
    _refuse_shape(op, f"path, {_NUMBERS.get(op, 'version')}")


def _refuse_shape(op: int, expected: str) -> NoReturn:
    raise BadArguments(f"{OP_NAMES[op]} takes {expected}")


_NUMBERS = {GUARD: "czxid", SEQUENCE: "number"}

STEPS: dict[int, Write] = {
    CREATE: _create,
    SET: _set,
    DELETE: _delete,
    CHECK: _check,
    GUARD: _guard,
    SET_ACL: _set_acl,
    SEQUENCE: _sequence,
}
"""The writes that a multi may be made of."""

WRITES: dict[int, Write] = {**STEPS, MULTI: _multi}
"""All writes but CLOSE, which is about the session, not about keys."""
