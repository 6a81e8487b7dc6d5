"""ZooKeeper's answers: outcomes and nodes in, frames out.

Knows nothing of connections and of what was asked beyond its operation. Called by `zookeeper` and
`zookeeper_reads`. On the path of every request, so the usual answers are one call of a Struct.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import BadPath, Fenced, TooLarge
from jkcs_client.protocol.jute import CONNECTED, EVENT, MULTI_END, MULTI_HEADER, REPLY, STAT, buffer, framed, text
from jkcs_server.tree.node import Node

_SET_ANSWER = struct.Struct(REPLY.format + STAT.format[1:])
_SET_BYTES = _SET_ANSWER.size - 4
_DATA_HEAD = struct.Struct(REPLY.format + "i")
_DATA_BYTES = _DATA_HEAD.size - 4 + STAT.size
_HEAD_BYTES = REPLY.size - 4
_INT32 = 0xFFFFFFFF
_CODES = {
    BadPath.code: zk.BAD_ARGUMENTS,
    TooLarge.code: zk.BAD_ARGUMENTS,
    Fenced.code: zk.BAD_VERSION,
}
_OWN_CODES_TO = -300
"""Codes from here down are the native protocol's own."""


def code_of(code: int) -> int:
    """ZooKeeper's code for one of ours."""
    if code > _OWN_CODES_TO:
        return code
    return _CODES.get(code, zk.SYSTEM_ERROR)


def stat_bytes(stat: Sequence[int]) -> bytes:
    """A stat in the order of `messages.STAT_FIELDS`, as ZooKeeper's record, which has no place for a lifetime."""
    czxid, mzxid, pzxid, ctime, mtime, version, cversion, owner, length, children, aversion, _ = stat
    return STAT.pack(
        czxid,
        mzxid,
        ctime,
        mtime,
        version & _INT32,
        cversion & _INT32,
        aversion & _INT32,
        owner,
        length,
        children,
        pzxid,
    )


def reply(xid: int, zxid: int, body: bytes) -> bytes:
    return REPLY.pack(_HEAD_BYTES + len(body), xid, zxid, 0) + body


def data(xid: int, zxid: int, node: Node) -> bytes:
    """The answer of getData."""
    value, children = node.data, node.children
    return (
        _DATA_HEAD.pack(_DATA_BYTES + len(value), xid, zxid, 0, len(value))
        + value
        + STAT.pack(
            node.czxid,
            node.mzxid,
            node.ctime,
            node.mtime,
            node.version & _INT32,
            node.cversion & _INT32,
            node.aversion & _INT32,
            node.owner,
            len(value),
            len(children) if children else 0,
            node.pzxid,
        )
    )


def error(xid: int, zxid: int, code: int) -> bytes:
    return REPLY.pack(_HEAD_BYTES, xid, zxid, code)


def outcome(op: int, xid: int, index: int, result: Sequence[Any]) -> bytes:
    """The answer of a write that was done, other than a multi."""
    if op == zk.SET_DATA or op == zk.SET_ACL:
        czxid, mzxid, pzxid, ctime, mtime, version, cversion, owner, length, children, aversion, _ = result[0]
        return _SET_ANSWER.pack(
            _SET_BYTES,
            xid,
            index,
            0,
            czxid,
            mzxid,
            ctime,
            mtime,
            version & _INT32,
            cversion & _INT32,
            aversion & _INT32,
            owner,
            length,
            children,
            pzxid,
        )
    if op == zk.CREATE:
        path: bytes = result[0].encode()
        return REPLY.pack(_HEAD_BYTES + 4 + len(path), xid, index, 0) + len(path).to_bytes(4, "big") + path
    if op in _CREATES_WITH_STAT:
        return reply(xid, index, text(result[0]) + stat_bytes(result[1]))
    return REPLY.pack(_HEAD_BYTES, xid, index, 0)


def multi(ops: Sequence[int], results: Sequence[Sequence[Any]]) -> bytes:
    """The body of the answer of a transaction that was done."""
    pieces: list[bytes] = []
    for op, result in zip(ops, results, strict=True):
        if op in (zk.CREATE, zk.CREATE2):
            # ZooKeeper makes the one of the other here.
            pieces += (_CREATE_HEADER, text(result[0]))
        elif op in _CREATES_WITH_STAT:
            pieces += (_CREATE2_HEADER, text(result[0]), stat_bytes(result[1]))
        else:
            pieces.append(MULTI_HEADER.pack(op, False, 0))
            if op == zk.SET_DATA:
                pieces.append(stat_bytes(result[0]))
    pieces.append(MULTI_END)
    return b"".join(pieces)


def failed_multi(count: int, place: int, code: int) -> bytes:
    """The body of the answer of a transaction whose operation at `place` failed."""
    before, behind = failed_operation(0), failed_operation(zk.RUNTIME_INCONSISTENCY)
    return before * place + failed_operation(code) + behind * (count - place - 1) + MULTI_END


def failed_operation(code: int) -> bytes:
    """The result of one operation inside a multi."""
    return MULTI_HEADER.pack(zk.ERROR, False, code) + code.to_bytes(4, "big", signed=True)


def event(kind: int, path: str, zxid: int) -> bytes:
    raw = path.encode()
    return EVENT.pack(EVENT.size - 4 + len(raw), -1, zxid, 0, kind, zk.SYNC_CONNECTED, len(raw)) + raw


def connected(session: int, timeout_ms: int, password: bytes, with_flag: bool) -> bytes:
    """The answer to a connect request; `with_flag`: the client knows of servers that only read."""
    body = CONNECTED.pack(0, timeout_ms, session) + buffer(password)
    return framed(body + b"\x00" if with_flag else body)


_CREATES_WITH_STAT = frozenset((zk.CREATE2, zk.CREATE_CONTAINER, zk.CREATE_TTL))
_CREATE_HEADER = MULTI_HEADER.pack(zk.CREATE, False, 0)
_CREATE2_HEADER = MULTI_HEADER.pack(zk.CREATE2, False, 0)
