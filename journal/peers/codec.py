"""Bytes <-> the messages of the Raft rules, one checksummed frame each.

    length of header u16 | check u16 | length of body u32 | crc u32 | header | body          (little-endian)

`check` is the exclusive or of the lengths and a constant: a damaged length is noticed before anything is
waited for, and does not swallow the frames behind it. `crc` is CRC-32C over all that and the header, so no
length is believed that was not meant. The
header is a msgpack array, `[number of the type, *fields]`, as the table below has them. The bulk of a
message is its body and never passes through msgpack: an Append's records lie there back to back as they
lie on disk, each checked by its own chained checksum; any other bulk is checked by a CRC-32C that is
the header's last field.

Knows nothing of sockets, and not what a message means. Called by `tcp.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import msgpack
from crc32c import crc32c

from journal.errors import CorruptRecord, PeerRefused
from journal.limits import Limits
from journal.raft.messages import (
    AdminReply,
    AdminRequest,
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    Proposal,
    ProposalReply,
    PullReply,
    PullRequest,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.record import read_entries
from journal.values import INDEX_MAX, Configuration, Entry, Index, Position, SnapshotMeta, Term

HEADER_BYTES_MAX = 64 * 1024 - 1
"""A header holds numbers and the names of members; what can grow large is body."""
DIGEST_BYTES_MAX = 64
MEMBERS_MAX = 1024

_PREFIX = struct.Struct("<HHII")
_LENGTHS = struct.Struct("<HHI")
_CHECK = 0x5AA5
"""Not 0, so that a row of zeros is no frame."""
PREFIX_BYTES = _PREFIX.size

_Kind = tuple[Any, int]
"""What a field must be: its exact type and, of a number, the most it may be."""

_NUMBER: _Kind = (int, INDEX_MAX)
_U32: _Kind = (int, 2**32 - 1)
_U64: _Kind = (int, 2**64 - 1)
_U16: _Kind = (int, 2**16 - 1)
_U8: _Kind = (int, 2**8 - 1)
_FLAG: _Kind = (bool, 0)
_NAME: _Kind = (str, 0)
_NAMES: _Kind = (list, 0)
_DIGEST: _Kind = (bytes, 0)


@dataclass(frozen=True, slots=True)
class _Type:
    """One type of message: how it is taken apart and put together."""

    number: int
    message: type
    fields: tuple[str, ...]
    """Attributes that travel in the header, in this order."""
    kinds: tuple[_Kind, ...]
    """What each field of the header must be; with a bulk, its checksum comes last."""
    take: Callable[[Any], tuple[Any, ...]]
    bulk: Callable[[Any], bytes] | None
    build: Callable[..., Message]


def _type(
    number: int,
    message: type,
    fields: dict[str, _Kind],
    bulk: str | None = None,
    build: Callable[..., Message] | None = None,
) -> _Type:
    getter = attrgetter(*fields)
    return _Type(
        number,
        message,
        tuple(fields),
        (*fields.values(), _U32) if bulk else tuple(fields.values()),
        getter if len(fields) > 1 else lambda value: (getter(value),),
        attrgetter(bulk) if bulk else None,
        build or message,
    )


def _build_chunk(
    term: int,
    index: int,
    at_term: int,
    crc: int,
    stamp: int,
    configuration_fields: list[object],
    size: int,
    digest: bytes,
    state_digest: int,
    offset: int,
    data: bytes,
) -> SnapshotChunk:
    try:
        configuration = Configuration.from_fields(configuration_fields)
    except ValueError as error:
        raise CorruptRecord(f"snapshot chunk of index {index}: {error}") from error
    if len(digest) > DIGEST_BYTES_MAX:
        raise CorruptRecord(f"snapshot chunk of index {index} has a digest of {len(digest)} bytes")
    if offset + len(data) > size:
        raise CorruptRecord(f"snapshot chunk of index {index} ends at {offset + len(data)}, beyond its size {size}")
    position = Position(Index(index), Term(at_term), crc, stamp)
    return SnapshotChunk(Term(term), SnapshotMeta(position, configuration, size, digest, state_digest), offset, data)


def _build_proposal(
    term: int, machine: int, partition: int, count: int, context: int, ack: int, payload: bytes
) -> Proposal:
    return Proposal(Term(term), machine, partition, count, payload, context, ack)


_APPEND_NUMBER = 3
_PULL_REPLY_NUMBER = 15
_WITH_ENTRIES = (_APPEND_NUMBER, _PULL_REPLY_NUMBER)
"""Their entries are the body; they carry their own checksums."""

_TYPES: tuple[_Type, ...] = (
    _type(
        1,
        VoteRequest,
        {"term": _NUMBER, "last_index": _NUMBER, "last_term": _NUMBER, "pre": _FLAG, "transfer": _FLAG},
    ),
    _type(2, VoteReply, {"term": _NUMBER, "granted": _FLAG, "pre": _FLAG}),
    _type(
        _APPEND_NUMBER,
        Append,
        {
            "term": _NUMBER,
            "previous_index": _NUMBER,
            "previous_term": _NUMBER,
            "previous_crc": _U32,
            "commit": _NUMBER,
        },
    ),
    _type(
        4,
        AppendReply,
        {
            "term": _NUMBER,
            "match": _NUMBER,
            "refused": _FLAG,
            "refused_previous": _NUMBER,
            "hint_index": _NUMBER,
            "hint_term": _NUMBER,
        },
    ),
    _type(
        5,
        Heartbeat,
        {
            "term": _NUMBER,
            "commit": _NUMBER,
            "round": _NUMBER,
            "checkpoint": _NUMBER,
            "attested": _NUMBER,
            "attested_digest": _NUMBER,
        },
    ),
    _type(
        6,
        HeartbeatReply,
        {"term": _NUMBER, "round": _NUMBER, "idle": _FLAG, "checkpoint": _NUMBER, "digest": _NUMBER},
    ),
    _type(7, TimeoutNow, {"term": _NUMBER}),
    _type(8, ReadRequest, {"term": _NUMBER, "context": _NUMBER, "floor": _NUMBER}, bulk="note"),
    _type(9, ReadReply, {"term": _NUMBER, "context": _NUMBER, "index": _NUMBER}),
    _type(
        10,
        SnapshotChunk,
        {
            "term": _NUMBER,
            "meta.position.index": _NUMBER,
            "meta.position.term": _NUMBER,
            "meta.position.crc": _U32,
            "meta.position.stamp": _NUMBER,
            "meta.configuration.fields": _NAMES,
            "meta.size": _NUMBER,
            "meta.digest": _DIGEST,
            "meta.state_digest": _U64,
            "offset": _NUMBER,
        },
        bulk="data",
        build=_build_chunk,
    ),
    _type(
        11,
        SnapshotReply,
        {"term": _NUMBER, "index": _NUMBER, "offset": _NUMBER, "installed": _FLAG, "damaged": _FLAG},
    ),
    _type(
        12,
        Proposal,
        {
            "term": _NUMBER,
            "machine": _U8,
            "partition": _U16,
            "count": _U32,
            "context": _NUMBER,
            "ack": _U8,
        },
        bulk="payload",
        build=_build_proposal,
    ),
    _type(13, ProposalReply, {"term": _NUMBER, "context": _NUMBER, "ack": _U8, "index": _NUMBER}),
    _type(14, PullRequest, {"term": _NUMBER, "after": _NUMBER, "wait": _FLAG}),
    _type(
        _PULL_REPLY_NUMBER,
        PullReply,
        {
            "term": _NUMBER,
            "leader": _NAME,
            "hops": _U8,
            "compacted": _FLAG,
            "attested": _NUMBER,
            "attested_digest": _NUMBER,
            "previous_index": _NUMBER,
            "previous_term": _NUMBER,
            "previous_crc": _U32,
            "commit": _NUMBER,
        },
    ),
    _type(16, AdminRequest, {"term": _NUMBER, "context": _NUMBER}, bulk="body"),
    _type(17, AdminReply, {"term": _NUMBER, "context": _NUMBER}, bulk="body"),
)
_BY_NUMBER = {row.number: row for row in _TYPES}
_BY_CLASS = {row.message: row for row in _TYPES}
_packer = msgpack.Packer(use_bin_type=True, autoreset=True)


def encode(message: Message) -> list[bytes]:
    """The frame of one message, in pieces to be written one after another.

    Not to be called from two threads at once.
    """
    row = _BY_CLASS[type(message)]
    body: list[bytes]
    if row.number in _WITH_ENTRIES:
        body = [entry.record for entry in cast("Append | PullReply", message).entries]
        header = _packer.pack((row.number, *row.take(message)))
    elif row.bulk is not None:
        bulk = row.bulk(message)
        body = [bulk] if bulk else []
        header = _packer.pack((row.number, *row.take(message), crc32c(bulk)))
    else:
        body = []
        header = _packer.pack((row.number, *row.take(message)))
    header_length = len(header)
    assert header_length <= HEADER_BYTES_MAX, (row.message.__name__, header_length)
    body_length = sum(map(len, body))
    check = header_length ^ (body_length & 0xFFFF) ^ (body_length >> 16) ^ _CHECK
    crc = crc32c(header, crc32c(_LENGTHS.pack(header_length, check, body_length)))
    return [_PREFIX.pack(header_length, check, body_length, crc) + header, *body]


class Decoder:
    """Turns one connection's bytes into messages. After an error it must not be fed again."""

    def __init__(self, limits: Limits) -> None:
        self._frame_bytes_max = limits.peer_frame_bytes_max
        self._record_bytes_max = limits.record_bytes_max
        self._unpacker = msgpack.Unpacker(
            use_list=True,
            raw=False,
            strict_map_key=True,
            max_buffer_size=HEADER_BYTES_MAX,
            max_str_len=1024,
            max_bin_len=HEADER_BYTES_MAX,
            max_array_len=MEMBERS_MAX,
            max_map_len=0,
            max_ext_len=0,
        )
        self._buffer = bytearray()
        self._wanted = PREFIX_BYTES
        """Bytes that `_buffer` must hold before anything can be read from it: a large frame that comes in
        pieces is looked at once, not once per piece."""

    def feed(self, data: bytes) -> list[Message]:
        """All messages that are complete, in order.

        Raises CorruptRecord for what is damaged, too large or misshapen, and PeerRefused for a message
        of an unknown type: then nothing more can be understood of this connection.
        """
        view: memoryview
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []
            view = memoryview(self._buffer)
            self._buffer = bytearray()
        else:
            view = memoryview(data)
        messages: list[Message] = []
        at, size = 0, len(view)
        wanted = PREFIX_BYTES
        while size - at >= PREFIX_BYTES:
            header_length, check, body_length, crc = _PREFIX.unpack_from(view, at)
            if check != header_length ^ (body_length & 0xFFFF) ^ (body_length >> 16) ^ _CHECK:
                raise CorruptRecord("peer frame's lengths do not match their check")
            wanted = PREFIX_BYTES + header_length + body_length
            if wanted > self._frame_bytes_max:
                raise CorruptRecord(f"peer frame claims {wanted} bytes, limit {self._frame_bytes_max}")
            if size - at < wanted:
                break
            body_at = at + PREFIX_BYTES + header_length
            header = view[at + PREFIX_BYTES : body_at]
            if crc32c(header, crc32c(view[at : at + _LENGTHS.size])) != crc:
                raise CorruptRecord("peer frame's header does not match its checksum")
            messages.append(self._message(header, view[body_at : at + wanted]))
            at += wanted
            wanted = PREFIX_BYTES
        if at < size:
            self._buffer += view[at:]
        self._wanted = wanted
        return messages

    def _message(self, header: memoryview, body: memoryview) -> Message:
        fields = self._unpack(header)
        number = fields.pop(0)
        row = _BY_NUMBER.get(number) if type(number) is int else None
        if row is None:
            raise PeerRefused(f"unknown type of peer message: {number!r}")
        if len(fields) != len(row.kinds):
            raise CorruptRecord(f"{row.message.__name__} has {len(fields)} fields, and should have {len(row.kinds)}")
        # The rules never meet a field of another type or range than its attribute promises.
        for value, (kind, bound) in zip(fields, row.kinds, strict=True):
            if type(value) is not kind or (kind is int and not 0 <= value <= bound):
                raise CorruptRecord(_complaint(row, fields))
        if row.number in _WITH_ENTRIES:
            return row.build(*fields, self._entries(row, fields, body))
        if row.bulk is None:
            if len(body):
                raise CorruptRecord(f"{row.message.__name__} has a body of {len(body)} bytes, and should have none")
            return row.build(*fields)
        if crc32c(body) != fields.pop():
            raise CorruptRecord(f"body of {row.message.__name__}, {len(body)} bytes, does not match its checksum")
        if row.message is Proposal and len(body) > self._record_bytes_max:
            raise CorruptRecord(f"Proposal of {len(body)} bytes, limit {self._record_bytes_max}")
        return row.build(*fields, bytes(body))

    def _entries(self, row: _Type, fields: list[Any], body: memoryview) -> list[Entry]:
        """The records that follow what the last fields of the header tell."""
        previous_index, _, previous_crc, _ = fields[-4:]
        entries = read_entries(body, previous_crc, self._record_bytes_max)
        if entries and entries[0].first != previous_index + 1:
            name = row.message.__name__
            raise CorruptRecord(f"{name} after index {previous_index} begins with index {entries[0].first}")
        return entries

    def _unpack(self, header: memoryview) -> list[Any]:
        unpacker = self._unpacker
        end = unpacker.tell() + len(header)
        try:
            unpacker.feed(header)
            fields = unpacker.unpack()
        except (ValueError, msgpack.UnpackException) as error:
            raise CorruptRecord(f"peer frame's header is not valid msgpack: {type(error).__name__}") from error
        if type(fields) is not list or not fields or unpacker.tell() != end:
            raise CorruptRecord("peer frame's header is not one array")
        return fields


def _complaint(row: _Type, fields: list[Any]) -> str:
    """Which field is not what its attribute promises. Apart from the check, which every message passes."""
    for name, value, (kind, bound) in zip((*row.fields, "checksum"), fields, row.kinds, strict=False):
        if type(value) is not kind:
            return f"{row.message.__name__}.{name} must be {kind.__name__}, not {type(value).__name__}"
        if kind is int and not 0 <= value <= bound:
            return f"{row.message.__name__}.{name} out of range: {value}"
    raise AssertionError((row.message.__name__, fields))
