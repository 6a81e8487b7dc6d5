"""Records: the one envelope on disk and on the wire."""

from __future__ import annotations

import struct

import pytest
from crc32c import crc32c

from journal.errors import CorruptRecord
from journal.record import check_record, join_records, make_entry, read_entries, read_entry
from journal.values import INDEX_MAX, RECORD_HEADER_BYTES, Entry, EntryKind

LIMIT = 1000


def make(first: int = 5, payload: bytes = b"payload", previous_crc: int = 77, **more: int) -> Entry:
    return make_entry(first, 3, 1234, EntryKind.COMMANDS, payload, previous_crc, **more)


def chain(number: int) -> list[Entry]:
    entries: list[Entry] = []
    crc, first = 0, 1
    for n in range(number):
        entries.append(make(first, b"p" * n, crc, count=n + 1))
        crc, first = entries[-1].crc, entries[-1].last + 1
    return entries


def forge(**fields: int) -> bytes:
    """A record with impossible fields and right checksums."""
    values = {"count": 1, "first": 5, "term": 3, "stamp": 0, "kind": 1, "machine": 0, "partition": 0, **fields}
    body = struct.pack("<IQQQBBH", *(values[name] for name in values if name != "length"))
    payload = b"payload"
    length = fields.get("length", len(payload))
    crc = crc32c(payload, crc32c(body, 77))
    header_crc = crc32c(body, crc32c(struct.pack("<II", length, crc)))
    return struct.pack("<III", length, header_crc, crc) + body + payload


def test_an_entry_comes_back_as_it_was_made() -> None:
    """What is read from a disk or a peer must be equal in every field."""
    entry = make(count=9, machine=2, partition=300)
    assert read_entry(entry.record, 0, 77, LIMIT) == (entry, len(entry.record))
    assert (entry.first, entry.last, entry.count) == (5, 13, 9)
    assert bytes(entry.payload) == b"payload"
    assert len(entry.record) == RECORD_HEADER_BYTES + 7


def test_checking_and_reading_agree() -> None:
    """Recovery checks what replication will read later: one must not accept what the other refuses."""
    entry = make(count=4)
    data = b"before" + entry.record + b"after"
    assert check_record(data, 6, 77, LIMIT) == (5, 8, 3, 1234, entry.crc, entry.kind, 6 + len(entry.record))
    assert read_entry(memoryview(data), 6, 77, LIMIT)[0] == entry


@pytest.mark.parametrize("reader", [read_entry, check_record])
def test_every_flipped_bit_is_seen(reader) -> None:
    """R1: no part of a record is outside its checksums."""
    record = make().record
    for bit in range(8 * len(record)):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptRecord):
            reader(bytes(damaged), 0, 77, LIMIT)


@pytest.mark.parametrize("reader", [read_entry, check_record])
def test_a_record_cut_short_anywhere_is_seen(reader) -> None:
    """The tail of a file may end at any byte."""
    record = make().record
    for size in range(len(record)):
        with pytest.raises(CorruptRecord, match=r"short|checksum"):
            reader(record[:size], 0, 77, LIMIT)


@pytest.mark.parametrize("reader", [read_entry, check_record])
def test_a_record_follows_only_the_one_it_was_made_for(reader) -> None:
    """The chain tells a log that was mixed from two histories."""
    with pytest.raises(CorruptRecord, match="index 5, term 3"):
        reader(make(previous_crc=1).record, 0, 2, LIMIT)


def test_the_identity_of_a_damaged_record_is_still_known() -> None:
    """R4: repair needs to know which entry is bad, so the header has a checksum of its own."""
    record = bytearray(make().record)
    record[-1] ^= 1
    entry, _ = read_entry(bytes(record), 0, None, LIMIT)
    assert (entry.first, entry.term) == (5, 3)


@pytest.mark.parametrize(
    "fields",
    [{"count": 0}, {"first": 0}, {"kind": 200}, {"first": INDEX_MAX, "count": 2}, {"length": LIMIT + 1}],
    ids=lambda fields: next(iter(fields)),
)
def test_impossible_headers_are_refused_in_spite_of_good_checksums(fields: dict[str, int]) -> None:
    """A length is held against its limit before anything is allocated; an index must stay in range."""
    with pytest.raises(CorruptRecord, match=r"impossible|claims"):
        read_entry(forge(**fields), 0, 77, LIMIT)


def test_a_body_of_records_is_read_whole() -> None:
    """An append message carries records back to back, nothing else."""
    entries = chain(6)
    assert read_entries(join_records(entries), 0, LIMIT) == entries
    assert read_entries(b"", 0, LIMIT) == []


def test_a_body_with_trailing_bytes_is_refused() -> None:
    """Bytes that nobody understands are no padding."""
    with pytest.raises(CorruptRecord):
        read_entries(join_records(chain(3)) + b"\0", 0, LIMIT)


def test_a_body_with_a_gap_is_refused() -> None:
    """Good checksums do not make a missing entry good."""
    first = make(5)
    far = make(7, previous_crc=first.crc)
    with pytest.raises(CorruptRecord, match="7 follows 5"):
        read_entries(first.record + far.record, 77, LIMIT)
