"""One checksummed envelope for an entry: the same bytes on disk and between peers.

    length u32 | header crc u32 | crc u32 | count u32 | first u64 | term u64 | stamp u64 |
    kind u8 | machine u8 | partition u16 | payload

`crc` is CRC-32C over everything from `count` on, seeded with the crc of the record before it. It is
therefore the same on every node that holds the same log, and a record can only follow the one it was
made for. `header crc` covers the header alone, so that a damaged payload still tells which entry it
was (RELIABILITY R1, R4). All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgpack
from crc32c import crc32c

from journal.errors import CorruptRecord
from journal.values import INDEX_MAX, RECORD_HEADER_BYTES, Configuration, Entry, EntryKind, Index, Partition, Term

_HEAD = struct.Struct("<IIII")  # length, header crc, crc, count
_BODY = struct.Struct("<IQQQBBH")  # count, first, term, stamp, kind, machine, partition
_FULL = struct.Struct("<IIIIQQQBBH")
assert _FULL.size == RECORD_HEADER_BYTES

_KINDS = tuple(EntryKind)


def make_entry(
    first: int,
    term: int,
    stamp: int,
    kind: EntryKind,
    payload: bytes,
    previous_crc: int,
    *,
    count: int = 1,
    machine: int = 0,
    partition: int = 0,
) -> Entry:
    """Build an entry together with its record."""
    body = _BODY.pack(count, first, term, stamp, kind, machine, partition)
    crc = crc32c(payload, crc32c(body, previous_crc))
    length = len(payload)
    header_crc = crc32c(body, crc32c(_pair(length, crc)))
    record = b"".join((_HEAD.pack(length, header_crc, crc, count), body[4:], payload))
    return Entry(
        Index(first), Index(first + count - 1), Term(term), kind, stamp, machine, Partition(partition), crc, record
    )


def read_entry(
    data: bytes | memoryview, at: int, previous_crc: int | None, payload_bytes_max: int
) -> tuple[Entry, int]:
    """Read the record that starts at `at`; returns it and where the next one starts.

    `previous_crc` None skips the check of the chain (the payload is then checked by nobody: only for
    tools that look for the identity of damaged records). Raises CorruptRecord.
    """
    crc, count, first, term, stamp, kind, machine, partition, end = _check_header(data, at, payload_bytes_max)
    record = bytes(data[at:end])
    if previous_crc is not None and crc32c(record[12:], previous_crc) != crc:
        raise CorruptRecord(f"record of index {first}, term {term} at byte {at} does not match its checksum")
    entry = Entry(
        Index(first),
        Index(first + count - 1),
        Term(term),
        _KINDS[kind],
        stamp,
        machine,
        Partition(partition),
        crc,
        record,
    )
    return entry, end


def check_record(
    data: bytes | memoryview, at: int, previous_crc: int, payload_bytes_max: int
) -> tuple[int, int, int, int, int, int, int]:
    """Check the record that starts at `at` as `read_entry` does, and build nothing.

    Returns its first and last index, term, stamp, crc, kind, and where the next record starts: all that the
    scan of a whole log needs. Raises CorruptRecord.
    """
    crc, count, first, term, stamp, kind, _, _, end = _check_header(data, at, payload_bytes_max)
    if crc32c(data[at + 12 : end], previous_crc) != crc:
        raise CorruptRecord(f"record of index {first}, term {term} at byte {at} does not match its checksum")
    return first, first + count - 1, term, stamp, crc, kind, end


def read_entries(data: bytes | memoryview, previous_crc: int, payload_bytes_max: int) -> list[Entry]:
    """Read a whole body of records that follow each other. Raises CorruptRecord."""
    entries: list[Entry] = []
    at, size = 0, len(data)
    while at < size:
        entry, at = read_entry(data, at, previous_crc, payload_bytes_max)
        if entries and entry.first != entries[-1].last + 1:
            raise CorruptRecord(f"index {entry.first} follows {entries[-1].last}")
        previous_crc = entry.crc
        entries.append(entry)
    return entries


def encode_configuration(configuration: Configuration) -> bytes:
    """The payload of an entry of kind CONFIGURATION."""
    payload: bytes = msgpack.packb(configuration.fields)
    return payload


def decode_configuration(entry: Entry) -> Configuration:
    """The configuration that an entry brings. Raises CorruptRecord."""
    try:
        return Configuration.from_fields(msgpack.unpackb(entry.payload))
    except (ValueError, msgpack.UnpackException) as error:
        raise CorruptRecord(f"entry {entry.first} is no configuration: {error}") from error


def join_records(entries: Iterable[Entry]) -> bytes:
    return b"".join([entry.record for entry in entries])


def _check_header(
    data: bytes | memoryview, at: int, payload_bytes_max: int
) -> tuple[int, int, int, int, int, int, int, int, int]:
    """The fields of a record's header from `crc` on, and where the record ends; all but the payload is checked."""
    end = at + RECORD_HEADER_BYTES
    if end > len(data):
        raise CorruptRecord(f"record header cut short at byte {at}")
    length, header_crc, crc, count, first, term, stamp, kind, machine, partition = _FULL.unpack_from(data, at)
    if crc32c(data[at + 12 : end], crc32c(_pair(length, crc))) != header_crc:
        raise CorruptRecord(f"record header at byte {at} does not match its checksum")
    if length > payload_bytes_max:
        raise CorruptRecord(f"record at byte {at} claims {length} bytes, limit {payload_bytes_max}")
    if kind >= len(_KINDS) or not count or not first or first + count > INDEX_MAX:
        raise CorruptRecord(f"record at byte {at} has an impossible header")
    if end + length > len(data):
        raise CorruptRecord(f"record of index {first}, term {term} at byte {at} cut short")
    return crc, count, first, term, stamp, kind, machine, partition, end + length


def _pair(length: int, crc: int) -> bytes:
    return length.to_bytes(4, "little") + crc.to_bytes(4, "little")
