"""The whole state as bytes and back: what a snapshot's file carries.

Knows nothing of files, checksums and entries. Called by `machine`.

A stream of msgpack arrays, cut into chunks anywhere:

    [FORMAT, VERSION, applied, number of sessions, number of keys]
    for each session   [id, password, timeout in ms, serial, index, ids, number of replies]
                       then each reply: [code, index, result]
    for each key       [path, data, czxid, mzxid, pzxid, ctime, mtime, version, cversion, owner, sequence,
                       aversion, ttl, acl (nil for the open one)]

Parents come before their children. What can be derived is left out: lists of children, and which keys a
session owns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgpack

from jkcs_client.protocol.errors import BadArguments
from jkcs_server.tree.acl import parse, parse_ids
from jkcs_server.tree.keytree import SYSTEM, KeyTree
from jkcs_server.tree.node import Node
from jkcs_server.tree.quotas import count_all
from jkcs_server.tree.sessions import REPLIES_KEPT_MAX, Session, Sessions
from journal.errors import CorruptRecord

FORMAT = "jkcs tree"
VERSION = 2
CHUNK_BYTES = 128 * 1024
"""A chunk is given out when it has grown to this; one record that is larger is a chunk of its own. To make one
takes about a millisecond of the loop."""
ARRAY_MAX = 1 << 17
"""The longest array that is believed, and made room for: more than the results of any transaction, which are part of a
kept reply, can be."""
_NIL = b"\xc0"


def encode(applied: int, sessions: Sequence[Session], nodes: list[Node]) -> Iterator[bytes]:
    """The image in chunks. No session or node may change before the end; the list of nodes is used up.

    For to drop a million references at once would stop the loop as long as to take them did.
    """
    parts: list[bytes] = []
    size = 0
    nodes.reverse()
    for record in _records(applied, sessions, nodes):
        if parts and size + len(record) > CHUNK_BYTES:
            yield b"".join(parts)
            parts.clear()
            size = 0
        parts.append(record)
        size += len(record)
    yield b"".join(parts)


def decode(chunks: Iterable[bytes]) -> tuple[int, Sessions, KeyTree]:
    """What `encode` was given, anew. Raises CorruptRecord."""
    records = _unpack(chunks)
    try:
        name, version, *counts = _next(records)
        if name != FORMAT:
            raise ValueError("it is not the image of a key tree")
        if version != VERSION:
            raise ValueError(f"it has version {version}, and this release reads version {VERSION}")
        applied, session_count, key_count = counts
        if type(applied) is not int or applied < 0:
            raise ValueError("its index is not one")
        sessions = _decode_sessions(records, session_count)
        tree = _decode_keys(records, key_count, sessions)
        for _ in records:
            raise ValueError("something follows the last key")
    except (ValueError, TypeError, BadArguments, msgpack.UnpackException) as error:
        raise CorruptRecord(f"snapshot cannot be read: {error}") from error
    return applied, sessions, tree


def _records(applied: int, sessions: Sequence[Session], nodes: list[Node]) -> Iterator[bytes]:
    """`nodes` from the last to the first."""
    pack = msgpack.Packer(use_bin_type=True).pack
    yield pack((FORMAT, VERSION, applied, len(sessions), len(nodes)))
    for session in sessions:
        replies = session.replies
        numbers = (session.timeout_ms, session.serial, session.index, session.ids, len(replies))
        yield pack((session.id, session.password, *numbers))
        for reply in replies:
            yield pack(reply)
    while nodes:
        node = nodes.pop()
        acl = node.acl
        yield pack(
            (
                node.path,
                node.data,
                node.czxid,
                node.mzxid,
                node.pzxid,
                node.ctime,
                node.mtime,
                node.version,
                node.cversion,
                node.owner,
                node.sequence,
                node.aversion,
                node.ttl,
                None if acl is None else acl.entries,
            )
        )


def _unpack(chunks: Iterable[bytes]) -> Iterator[tuple[Any, ...]]:
    # Tuples, not lists: a kept reply must come back as what it was.
    unpacker = msgpack.Unpacker(
        use_list=False, raw=False, max_buffer_size=0, max_array_len=ARRAY_MAX, max_map_len=0, max_ext_len=0
    )
    for chunk in chunks:
        unpacker.feed(chunk)
        yield from unpacker
    # A record cut short would swallow this, or make something else of it.
    unpacker.feed(_NIL)
    if list(unpacker) != [None]:
        raise ValueError("it ends in the middle of a record")


def _next(records: Iterator[tuple[Any, ...]]) -> tuple[Any, ...]:
    for record in records:
        return record
    raise ValueError("it ends before the last record")


def _decode_sessions(records: Iterator[tuple[Any, ...]], count: int) -> Sessions:
    sessions = Sessions()
    for _ in range(count):
        session_id, password, timeout_ms, serial, index, ids, reply_count = _next(records)
        if type(password) is not bytes or not 0 < session_id <= index or session_id in sessions.by_id:
            raise ValueError(f"session {len(sessions) + 1} of {count} makes no sense")
        if not 0 <= reply_count <= min(serial, REPLIES_KEPT_MAX):
            raise ValueError(f"session {session_id} has {reply_count} replies to {serial} requests")
        session = Session(session_id, password, timeout_ms, parse_ids(ids))
        session.serial = serial
        session.index = index
        for _ in range(reply_count):
            code, at, result = _next(records)
            session.replies.append((code, at, result))
        sessions.add(session)
    return sessions


def _decode_keys(records: Iterator[tuple[Any, ...]], count: int, sessions: Sessions) -> KeyTree:
    tree = KeyTree(bare=True)
    stamps: dict[int, int] = {}
    load = tree.load
    for _ in range(count):
        path, data, czxid, mzxid, pzxid, ctime, mtime, version, cversion, owner, sequence, *rare = _next(records)
        aversion, ttl, entries = rare
        if type(path) is not str or type(data) is not bytes:
            raise ValueError("a key has no path or no data")
        # One test for eight numbers: of integers only, and none with a sign. Three may be a little below zero.
        least = min(cversion + 2, aversion + 1, ttl + 1)
        if (czxid | mzxid | pzxid | ctime | mtime | version | owner | sequence | least) < 0:
            raise ValueError(f"a number of {path!r} is negative")
        if owner and owner not in sessions.by_id:
            raise ValueError(f"{path!r} belongs to session {owner}, which there is not")
        # Numbers that are equal become one object, as they were when the key was made.
        ctime = stamps.setdefault(ctime, ctime)
        node = Node(data, czxid, ctime, owner)
        if mzxid != czxid:
            node.mzxid = mzxid
        if pzxid != czxid:
            node.pzxid = pzxid
        if mtime != ctime:
            node.mtime = stamps.setdefault(mtime, mtime)
        node.version = version
        node.cversion = cversion
        node.sequence = sequence
        node.aversion = aversion
        node.ttl = ttl
        if entries is not None:
            node.acl = parse(entries)
        load(path, node)
    if not SYSTEM.keys() <= tree.nodes.keys():
        raise ValueError("a key is missing that is always there")
    count_all(tree)
    return tree
