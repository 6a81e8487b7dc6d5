"""The peers' frames: what is sent arrives, and what is not a message is refused before it can do harm."""

from __future__ import annotations

import dataclasses
import random
import struct

import msgpack
import pytest
from crc32c import crc32c

from journal.errors import CorruptRecord, PeerRefused
from journal.limits import Limits
from journal.peers import codec
from journal.peers.codec import HEADER_BYTES_MAX, Decoder, encode
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
from journal.record import make_entry
from journal.values import INDEX_MAX, Configuration, EntryKind, Index, NodeId, Position, SnapshotMeta, Term

LIMITS = Limits()


def entries(count: int, first: int = 8, crc: int = 77, size: int = 100) -> list:
    made = []
    for _ in range(count):
        made.append(make_entry(first, 3, 1_700_000_000_000, EntryKind.COMMANDS, bytes(size), crc, count=5))
        first, crc = made[-1].last + 1, made[-1].crc
    return made


def chunk(data: bytes = b"piece", offset: int = 7, size: int = 4000) -> SnapshotChunk:
    configuration = Configuration(
        (NodeId("n1"), NodeId("n2")), (NodeId("n0"),), (NodeId("x"),), addresses=((NodeId("x"), "h:1"),)
    )
    meta = SnapshotMeta(Position(Index(90), Term(2), 0xFFFFFFFF, 5), configuration, size, b"d" * 32, 2**64 - 1)
    return SnapshotChunk(Term(3), meta, offset, data)


MESSAGES: list[Message] = [
    VoteRequest(Term(5), Index(9), Term(4), True, False),
    VoteReply(Term(5), True, True),
    Append(Term(3), Index(7), Term(3), 77, Index(7), entries(3)),
    Append(Term(3), Index(INDEX_MAX), Term(3), 0, Index(0), []),
    AppendReply(Term(3), Index(0), True, Index(7), Index(4), Term(2)),
    Heartbeat(Term(3), Index(7), 12),
    HeartbeatReply(Term(3), 12),
    HeartbeatReply(Term(3), 12, idle=True),
    TimeoutNow(Term(3)),
    ReadRequest(Term(3), 41, Index(6), b"note"),
    ReadRequest(Term(3), 42),
    ReadReply(Term(3), 41, Index(7)),
    chunk(),
    SnapshotReply(Term(3), Index(90), 4000, True),
    Proposal(Term(3), 1, 65535, 2, b"commands"),
    Proposal(Term(3), 1, 65535, 2, b"commands", 12, 1),
    ProposalReply(Term(3), 12, 1, Index(9)),
    Heartbeat(Term(3), Index(7), 12, Index(6), Index(5), 2**63 - 1),
    HeartbeatReply(Term(3), 12, True, Index(6), 77),
    PullRequest(Term(3), Index(7), True),
    PullReply(Term(3), "n1", 1, False, Index(5), 4, Index(7), Term(3), 77, Index(9), entries(2)),
    PullReply(Term(3), "", 0, True, Index(0), 0, Index(7), Term(0), 0, Index(9)),
    AdminRequest(Term(3), 4, b"what"),
    AdminReply(Term(3), 4, b"that"),
]


def prefix(header: int, body: int) -> bytes:
    """The lengths at the start of a frame, and their check."""
    return struct.pack("<HHI", header, header ^ (body & 0xFFFF) ^ (body >> 16) ^ codec._CHECK, body)


def frame(header: object, body: bytes = b"") -> bytes:
    """A frame with a right checksum around whatever the test wants to say."""
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    lengths = prefix(len(packed), len(body))
    return lengths + struct.pack("<I", crc32c(packed, crc32c(lengths))) + packed + body


def test_every_type_of_message_survives_the_way_there() -> None:
    """A field that is forgotten in the table would be lost in silence."""
    assert {type(message) for message in MESSAGES} == set(Message.__args__)
    decoder = Decoder(LIMITS)
    for message in MESSAGES:
        assert decoder.feed(b"".join(encode(message))) == [message]


def test_the_table_names_every_field_of_every_message() -> None:
    """A field added to a message must be added to the table, or peers never see it."""
    for row in codec._TYPES:
        roots = {name.partition(".")[0] for name in row.fields}
        bulk = {"entries"} if row.bulk is None else {"note", "data", "payload", "body"}
        for field in dataclasses.fields(row.message):
            assert field.name in roots | bulk, (row.message, field.name)


def test_messages_are_read_byte_by_byte_and_many_at_once() -> None:
    """TCP cuts where it likes."""
    stream = b"".join(b"".join(encode(message)) for message in MESSAGES)
    decoder = Decoder(LIMITS)
    assert decoder.feed(stream) == MESSAGES
    one_by_one = [message for i in range(len(stream)) for message in decoder.feed(stream[i : i + 1])]
    assert one_by_one == MESSAGES
    chance = random.Random(7)
    at, pieces = 0, []
    while at < len(stream):
        size = chance.randrange(1, 150)
        pieces += decoder.feed(stream[at : at + size])
        at += size
    assert pieces == MESSAGES


def test_entries_travel_as_the_very_records_of_the_log() -> None:
    """The follower's disk must hold the leader's bytes: nothing is packed anew."""
    batch = entries(2)
    pieces = encode(Append(Term(3), Index(7), Term(3), 77, Index(7), batch))
    assert pieces[1] is batch[0].record and pieces[2] is batch[1].record
    [message] = Decoder(LIMITS).feed(b"".join(pieces))
    assert isinstance(message, Append)
    assert [entry.record for entry in message.entries] == [entry.record for entry in batch]


def test_every_flipped_bit_is_found_at_once() -> None:
    """TCP's own checksum is weak: a damaged byte must never become a different message. Nor may it grow a length: the
    frames behind it, heartbeats too, would be swallowed until so many bytes have come."""
    for message in MESSAGES:
        whole = b"".join(encode(message))
        for place in range(len(whole)):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                with pytest.raises(CorruptRecord):
                    Decoder(LIMITS).feed(bytes(damaged))


def test_an_oversize_frame_is_refused_before_it_is_buffered() -> None:
    """Twelve bytes must not be enough to make a node reserve memory."""
    limits = dataclasses.replace(LIMITS, peer_frame_bytes_max=16 << 20)
    for header, body in ((10, limits.peer_frame_bytes_max), (HEADER_BYTES_MAX, 2**32 - 1)):
        with pytest.raises(CorruptRecord, match="limit"):
            Decoder(limits).feed(prefix(header, body) + bytes(4))


def test_a_record_over_the_limit_is_refused() -> None:
    """The limit holds for what peers bring as for what clients bring."""
    limits = dataclasses.replace(LIMITS, record_bytes_max=1 << 20)
    big = make_entry(1, 1, 0, EntryKind.COMMANDS, bytes((1 << 20) + 1), 0)
    for message in (
        Append(Term(1), Index(0), Term(0), 0, Index(0), [big]),
        Proposal(Term(1), 0, 0, 1, bytes((1 << 20) + 1)),
    ):
        with pytest.raises(CorruptRecord, match="limit"):
            Decoder(limits).feed(b"".join(encode(message)))


def test_an_unknown_type_is_refused_by_name() -> None:
    """A newer peer may say what this node does not know; guessing would be worse than parting."""
    for number in (0, 18, -1, "3", [3], None, True):
        with pytest.raises(PeerRefused, match="unknown type"):
            Decoder(LIMITS).feed(frame([number, 1, 2]))


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ([7], "TimeoutNow has 0 fields"),
        ([7, 3, 4], "TimeoutNow has 2 fields"),
        ([6, 3, -1, False, 0, 0], "HeartbeatReply.round out of range"),
        ([6, 2**63, 1, False, 0, 0], "HeartbeatReply.term out of range"),
        ([6, 3, 1.0, False, 0, 0], "HeartbeatReply.round must be int, not float"),
        ([6, True, 1, False, 0, 0], "HeartbeatReply.term must be int, not bool"),
        ([6, None, 1, False, 0, 0], "HeartbeatReply.term must be int, not NoneType"),
        ([2, 3, 1, False], "VoteReply.granted must be bool, not int"),
        ([12, 3, 256, 0, 1, 0, 0, 0], "Proposal.machine out of range"),
        ([12, 3, 0, 65536, 1, 0, 0, 0], "Proposal.partition out of range"),
        ([12, 3, 0, 0, 2**32, 0, 0, 0], "Proposal.count out of range"),
        ([12, 3, 0, 0, 1, 0, 0, 1], "body of Proposal, 0 bytes, does not match"),
        ([12, 3, 0, 0, 1, 0, 0, -1], "Proposal.checksum out of range"),
        ([3, 3, 7, 3, 2**32, 7], "Append.previous_crc out of range"),
        ([], "not one array"),
        ({}, "not one array"),
        (7, "not one array"),
        (msgpack.packb([7, 3]) + b"\x00", "not one array"),
        (b"\xc1", "not valid msgpack"),
        (b"", "not valid msgpack"),
        (b"\x93\x06", "not valid msgpack"),
        (b"\x91" * 5000, "not valid msgpack"),
        (msgpack.packb([7, {1: 2}]), "not valid msgpack"),
        (msgpack.packb([7, msgpack.ExtType(1, b"x")]), "not valid msgpack"),
    ],
)
def test_a_misshapen_header_is_refused_and_says_why(header: object, complaint: str) -> None:
    """The rules assert what they are given: nothing of the wrong type or range may reach them."""
    with pytest.raises(CorruptRecord, match=complaint):
        Decoder(LIMITS).feed(frame(header))


def test_a_body_where_none_belongs_is_refused() -> None:
    """Nothing on the wire goes unread."""
    with pytest.raises(CorruptRecord, match="should have none"):
        Decoder(LIMITS).feed(frame([7, 3], b"x"))


def test_records_that_do_not_follow_the_log_are_refused() -> None:
    """An append's records are chained to `previous_crc` and numbered from `previous_index` on."""
    batch = entries(2)
    for message in (
        Append(Term(3), Index(7), Term(3), 78, Index(7), batch),
        Append(Term(3), Index(6), Term(3), 77, Index(7), batch),
        Append(Term(3), Index(7), Term(3), 77, Index(7), batch[1:]),
        Append(Term(3), Index(7), Term(3), 77, Index(7), [batch[0], batch[0]]),
    ):
        with pytest.raises(CorruptRecord):
            Decoder(LIMITS).feed(b"".join(encode(message)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({6: [["n2", "n1"], [], [], [], [], [], None]}, "sorted"),
        ({6: [[], [], [], [], [], [], None]}, "voter"),
        ({6: [["n1", 7], [], [], [], [], [], None]}, "name must be text"),
        ({6: [["n1"], [], [], [], [], [["n1"]], None]}, "an address belongs to one member"),
        ({6: [["n1"], [], [], [], [], []]}, "a configuration has 7 fields"),
        ({8: b"d" * 65}, "digest"),
        ({10: 3999}, "beyond its size"),
    ],
)
def test_a_snapshot_chunk_that_makes_no_sense_is_refused(change: dict[int, object], complaint: str) -> None:
    """Its meta would become this node's configuration and the start of its log."""
    members = [["n1", "n2"], [], [], [], [], [], None]
    header = [10, 3, 90, 2, 1, 5, members, 4000, b"d" * 32, 2**64 - 1, 7, crc32c(b"piece")]
    assert Decoder(LIMITS).feed(frame(header, b"piece"))
    for place, value in change.items():
        header[place] = value
    with pytest.raises(CorruptRecord, match=complaint):
        Decoder(LIMITS).feed(frame(header, b"piece"))


def test_a_large_frame_in_small_pieces_is_looked_at_once() -> None:
    """Copying a frame again for every piece of it would make large snapshots quadratic."""
    data = random.Random(1).randbytes(1 << 20)
    whole = b"".join(encode(chunk(data, 0, len(data)))) + b"".join(encode(TimeoutNow(Term(1))))[:5]
    decoder = Decoder(LIMITS)
    looked_at = 0
    read: list[Message] = []
    for at in range(0, len(whole), 4096):
        before = decoder._buffer
        read += decoder.feed(whole[at : at + 4096])
        looked_at += decoder._buffer is not before
    assert read == [chunk(data, 0, len(data))]
    assert looked_at <= 2
