"""ZooKeeper's writes made commands of the tree: records in, opcodes with arguments out.

Knows nothing of sessions, serials and connections, nor of the tree's state; looks at what ZooKeeper's server looks at
before it looks at its tree: paths, modes, lists of permissions, sizes. Called by `zookeeper` for every write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jkcs_client.protocol import messages
from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import BadArguments, BadPath, DefiniteError, NoNode, ProtocolError
from jkcs_client.protocol.jute import (
    INT,
    LONG,
    acl,
    read_acl,
    read_buffer,
    read_int,
    read_multi_header,
    read_text,
)
from jkcs_client.protocol.messages import CLOSE, MULTI, SET, SET_ACL, VALUE_BYTES_MAX, CreateFlag
from jkcs_server.serving import zookeeper_answers as answers
from jkcs_server.tree import paths
from jkcs_server.tree.acl import OPEN_ENTRIES, Ids, check_size, fix

Command = tuple[Any, ...]
"""An opcode of the native protocol and its arguments."""
Parse = Callable[[bytes, int, Ids], tuple[Command, int]]
"""Makes a command of the record at a place, and says what place is behind it. Raises one of `jute.FAULTS`, or the
DefiniteError that answers the request."""

_SEQUENTIAL = int(CreateFlag.SEQUENTIAL | CreateFlag.INT32)
_EPHEMERAL = int(CreateFlag.EPHEMERAL)
_TTL = int(CreateFlag.TTL)
_FLAGS = {
    zk.PERSISTENT: 0,
    zk.EPHEMERAL: _EPHEMERAL,
    zk.PERSISTENT_SEQUENTIAL: _SEQUENTIAL,
    zk.EPHEMERAL_SEQUENTIAL: _EPHEMERAL | _SEQUENTIAL,
    zk.CONTAINER: int(CreateFlag.CONTAINER),
    zk.PERSISTENT_TTL: _TTL,
    zk.PERSISTENT_SEQUENTIAL_TTL: _TTL | _SEQUENTIAL,
}
_OPEN_ACL = acl(OPEN_ENTRIES)
_OPEN_ACL_BYTES = len(_OPEN_ACL)
_NO_TTL = -1

_unpack_int = INT.unpack_from
# Plain integers, bound once.
_CREATE, _DELETE, _CHECK = messages.CREATE, messages.DELETE, messages.CHECK


def command_of(parse: Parse, body: bytes, ids: Ids) -> Command:
    """The command of a request whose head is eight bytes. What may follow the record is not looked at."""
    return parse(body, 8, ids)[0]


def _create(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    return _parse_create(body, at, ids, False)


def _create_ttl(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    return _parse_create(body, at, ids, True)


def _parse_create(body: bytes, at: int, ids: Ids, with_ttl: bool) -> tuple[Command, int]:
    path, at = read_text(body, at)
    data, at = read_buffer(body, at)
    entries = None
    if body.startswith(_OPEN_ACL, at):
        at += _OPEN_ACL_BYTES
    else:
        entries, at = read_acl(body, at)
    mode = INT.unpack_from(body, at)[0]
    at += 4
    ttl = _NO_TTL
    if with_ttl:
        ttl = LONG.unpack_from(body, at)[0]
        at += 8
    flags = _FLAGS.get(mode)
    if flags is None:
        raise BadArguments(f"mode {mode}")
    if len(data) > VALUE_BYTES_MAX:
        raise BadArguments(f"data of {len(data)} bytes")
    if flags & _TTL:
        if not 0 < ttl <= zk.TTL_MS_MAX:
            raise BadArguments(f"a TTL of {ttl} ms")
    elif ttl >= 0:
        raise BadArguments(f"mode {mode} has no TTL")
    fixed = None if entries is None else _fixed(entries, ids)
    if flags & _SEQUENTIAL:
        _check_new(path, path + "0" * paths.SEQUENCE_DIGITS)
    else:
        _check_new(path, path)
    if fixed is None and not flags & _TTL:
        return (_CREATE, path, data, flags), at
    return (_CREATE, path, data, flags, fixed, max(ttl, 0)), at


def _check_new(path: str, whole: str) -> None:
    """Raise what ZooKeeper answers to an illegal path: it looks for the parent first."""
    try:
        paths.check(whole)
    except BadArguments:
        parent, slash, _ = path.rpartition("/")
        if parent and slash and "\0" not in path:
            try:
                paths.check(parent)
            except BadPath:
                raise NoNode(parent[:100]) from None
        raise


def _fixed(entries: list[tuple[int, str, str]], ids: Ids) -> tuple[tuple[int, str, str], ...]:
    fixed = fix(tuple(entries), ids)
    check_size(fixed)
    return fixed


def _set_data(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    # The usual case without a call for each field: a text of `length`, a buffer of `size`, a version.
    length = _unpack_int(body, at)[0]
    cut = at + 4 + length
    size = _unpack_int(body, cut)[0] if 0 <= length < len(body) else -1
    end = cut + 4 + size
    if size >= 0 and end + 4 <= len(body):
        path, data, version = str(body[at + 4 : cut], "utf-8"), body[cut + 4 : end], _unpack_int(body, end)[0]
        at = end + 4
    else:
        path, at = read_text(body, at)
        data, at = read_buffer(body, at)
        version, at = read_int(body, at)
    paths.check(path)
    if len(data) > VALUE_BYTES_MAX:
        raise BadArguments(f"data of {len(data)} bytes")
    return (SET, path, data, version), at


def _delete(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    path, at = read_text(body, at)
    version, at = read_int(body, at)
    try:
        paths.check(path)
    except BadArguments:
        # ZooKeeper looks such a path up, unless nothing can be above it.
        if "/" in path and "\0" not in path:
            raise NoNode(path[:100]) from None
        raise
    return (_DELETE, path, version), at


def _check(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    path, at = read_text(body, at)
    version, at = read_int(body, at)
    paths.check(path)
    return (_CHECK, path, version), at


def _set_acl(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    path, at = read_text(body, at)
    entries, at = read_acl(body, at)
    version, at = read_int(body, at)
    paths.check(path)
    return (SET_ACL, path, _fixed(entries, ids), version), at


def _close(body: bytes, at: int, ids: Ids) -> tuple[Command, int]:
    return (CLOSE,), at


class Multi:
    """One transaction on its way: what its answer is made of beside the outcome."""

    __slots__ = ("code", "command", "ops", "steps")

    def __init__(self, body: bytes, at: int, ids: Ids) -> None:
        """Raises one of `jute.FAULTS`."""
        self.ops: list[int] = []
        """ZooKeeper's operations."""
        self.code = 0
        """Why the last step of the command was refused here; 0 when none was. That step then is one that the tree
        does not know, so that an earlier one that fails there is told first, and those behind it are left out."""
        steps: list[Command] = []
        while True:
            op, end, at = read_multi_header(body, at)
            if end:
                break
            parse = STEPS.get(op)
            if parse is None:
                raise ProtocolError(f"operation {op} in a multi")
            self.ops.append(op)
            if self.code:
                at = _SKIPS[op](body, at)
                continue
            try:
                step, at = parse(body, at, ids)
            except ProtocolError:
                raise
            except DefiniteError as error:
                self.code = error.code
                step, at = (_UNKNOWN,), _SKIPS[op](body, at)
            steps.append(step)
        self.steps = len(steps)
        """Of the command."""
        self.command: Command = (MULTI, tuple(steps))

    def answer(self, xid: int, code: int, index: int, result: Any) -> bytes:
        """Failures of its operations stand in the body; only what befell the whole is in the head."""
        if code == zk.OK:
            return answers.reply(xid, index, answers.multi(self.ops, result[0]))
        place, colon, _ = result.partition(":")
        if not colon or not place.isdigit() or int(place) >= len(self.ops):
            return answers.error(xid, index, answers.code_of(code))
        failed = int(place)
        if self.code and failed == self.steps - 1:
            code = self.code
        return answers.reply(xid, index, answers.failed_multi(len(self.ops), failed, answers.code_of(code)))


def _skip_create(body: bytes, at: int) -> int:
    _, at = read_text(body, at)
    _, at = read_buffer(body, at)
    _, at = read_acl(body, at)
    return at + 4


def _skip_create_ttl(body: bytes, at: int) -> int:
    return _skip_create(body, at) + 8


def _skip_set_data(body: bytes, at: int) -> int:
    _, at = read_text(body, at)
    _, at = read_buffer(body, at)
    return at + 4


def _skip_version(body: bytes, at: int) -> int:
    return read_text(body, at)[1] + 4


_UNKNOWN = 0
"""No operation of the tree."""

STEPS: dict[int, Parse] = {
    zk.CREATE: _create,
    zk.CREATE2: _create,
    zk.CREATE_CONTAINER: _create,
    zk.CREATE_TTL: _create_ttl,
    zk.SET_DATA: _set_data,
    zk.DELETE: _delete,
    zk.CHECK: _check,
}
"""The writes that a multi may be made of."""
_SKIPS: dict[int, Callable[[bytes, int], int]] = {
    zk.CREATE: _skip_create,
    zk.CREATE2: _skip_create,
    zk.CREATE_CONTAINER: _skip_create,
    zk.CREATE_TTL: _skip_create_ttl,
    zk.SET_DATA: _skip_set_data,
    zk.DELETE: _skip_version,
    zk.CHECK: _skip_version,
}
"""Where the record ends of a step that was refused."""

WRITES: dict[int, Parse] = {**STEPS, zk.SET_ACL: _set_acl, zk.CLOSE_SESSION: _close}
"""All writes but multi."""
