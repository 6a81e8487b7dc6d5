"""One file of the log: a header, then batches of records back to back, then zeros to the reserved end.

    header: magic 8s | version u32 | cluster 8s | index u64 | term u64 | crc u32 | stamp u64 | header crc u32
    batch:  magic 4s | length u32 | first u64 | header crc u32 | records (`length` bytes) | END

The header's index, term, crc and stamp are the position right before the first record, so that a segment
can only follow the one it was made for. A batch is what one save wrote with one sync. Its header is good
only in this file (the checksum is seeded with the file's header) and says one thing more than its fields:
everything before it was durable when it was written. That is how recovery tells a torn write, which may
lose any sectors of the last batch, from rot in an acknowledged one. END is not zero, so that the last
sector of a batch that never arrived does not pass for one that holds zeros.

Knows one file; which files there are and which one is written is the business of `wal.py`, its only user.
"""

from __future__ import annotations

import contextlib
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from crc32c import crc32c

from journal.errors import CorruptRecord, DiskFull, LogCompacted, StorageError
from journal.record import check_record, read_entry
from journal.storage.disk import Disk
from journal.values import Entry, EntryKind, Index, Position, Term

VERSION = 1
MAGIC = b"JKCSLOG\n"
BATCH_MAGIC = b"\xb5JKb"
END = b"\xe5"
HEADER_BYTES = 64
SECTOR_BYTES = 512
BLOCK_BYTES = 1 << 20
POINT_SPACING_BYTES = 64 * 1024
"""About so much log lies between two places that can be found without reading."""

_HEADER = struct.Struct("<8sI8sQQIQ")
_CRC = struct.Struct("<I")
_BATCH = struct.Struct("<4sIQ")
BATCH_BYTES = _BATCH.size + _CRC.size
BATCH_OVERHEAD_BYTES = BATCH_BYTES + len(END)
_ZEROS = bytes(BLOCK_BYTES)
_CONFIGURATION = int(EntryKind.CONFIGURATION)
assert _HEADER.size + _CRC.size <= HEADER_BYTES


def segment_name(first: int) -> str:
    return f"log-{first:020d}"


def is_segment_name(name: str) -> bool:
    return len(name) == 24 and name.startswith("log-") and name[4:].isdigit()


@dataclass(slots=True)
class Point:
    """A record whose place is known. Never changed."""

    before: Position
    offset: int
    """Where the record starts."""
    batch_start: int
    """Where the header of its batch starts ..."""
    batch_end: int
    """... and where the batch's last record ends."""


@dataclass(slots=True)
class Scan:
    """What stands at the end of the good records of a segment."""

    all_zero: bool
    out_of_place: bool
    later_batch: bool
    missing_sector: bool
    damage_end: int
    """Behind this offset there are only zeros."""
    error: str
    """Which record is damaged and how, as far as its header tells."""


class Segment:
    """One file, open for appending and for reading.

    `read` may be called from another thread while `append` runs: it sees only what was durable when it began.
    """

    def __init__(self, disk: Disk, name: str, start: Position, salt: int, payload_bytes_max: int) -> None:
        self._disk = disk
        self.name = name
        self.start = start
        """Right before the first record."""
        self._salt = salt
        """The checksum of the file's header."""
        self._payload_bytes_max = payload_bytes_max
        self.last = start
        """The end of the last durable record."""
        self.end = HEADER_BYTES
        """Where the next batch goes. Invariant: everything before it is durable."""
        self._stale_end = 0
        """How far a write that met a full disk may have come; what it left behind `end` is to be zeroed."""
        self.configurations: list[int] = []
        """First index of each entry of kind CONFIGURATION that the scan found."""
        self._points: list[Point] = []
        """Sorted. Grows only at its end, and before `end` does."""

    @staticmethod
    def make(
        disk: Disk, file: str, start: Position, cluster: bytes, payload_bytes_max: int, body: bytes = b""
    ) -> Segment:
        """Write a header, and a body copied from elsewhere, into `file`, which is all zeros, and sync it.

        The caller then renames the file to the segment's name.
        """
        fields = _HEADER.pack(MAGIC, VERSION, cluster, start.index, start.term, start.crc, start.stamp)
        salt = crc32c(fields)
        disk.write(file, 0, [(fields + _CRC.pack(salt)).ljust(HEADER_BYTES, b"\0"), body])
        disk.sync(file)
        return Segment(disk, segment_name(start.index + 1), start, salt, payload_bytes_max)

    @staticmethod
    def load(disk: Disk, name: str, cluster: bytes, payload_bytes_max: int) -> Segment:
        """Read the header of an existing file. `scan` must follow. Raises StorageError."""
        data = disk.read(name, 0, HEADER_BYTES)
        if len(data) < HEADER_BYTES or data[:8] != MAGIC:
            raise StorageError(f"{name}: not a log segment, or its header is damaged")
        (salt,) = _CRC.unpack_from(data, _HEADER.size)
        if crc32c(data[: _HEADER.size]) != salt:
            raise StorageError(f"{name}: the segment's header does not match its checksum")
        _, version, owner, index, term, crc, stamp = _HEADER.unpack_from(data)
        if version != VERSION:
            raise StorageError(f"{name}: log format version {version}, this program knows version {VERSION}")
        if owner != cluster:
            raise StorageError(f"{name}: belongs to another cluster")
        if name != segment_name(index + 1):
            raise StorageError(f"{name}: the segment's header says that it starts at index {index + 1}")
        return Segment(disk, name, Position(Index(index), Term(term), crc, stamp), salt, payload_bytes_max)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write the entries as one batch and sync. The caller has seen to it that they follow and fit.

        Raises DiskFull; then the segment ends where it did.
        """
        records = [entry.record for entry in entries]
        length = sum(map(len, records))
        header = _BATCH.pack(BATCH_MAGIC, length, entries[0].first)
        start = self.end
        if self._stale_end:
            # Durably, before the next batch comes: a mixture of two writes would look like rot, not like a torn one.
            self.clear_behind(min(self._stale_end, self._disk.size(self.name)))
            self._stale_end = 0
        try:
            self._disk.write(self.name, start, [header, _CRC.pack(crc32c(header, self._salt)), *records, END])
        except DiskFull:
            self._stale_end = start + BATCH_OVERHEAD_BYTES + length
            raise
        self._disk.sync(self.name)
        first_record = start + BATCH_BYTES
        batch_end = first_record + length
        if not self._points or batch_end - self._points[-1].offset >= POINT_SPACING_BYTES:
            self._add_points(entries, start, batch_end)
        newest = entries[-1]
        self.end = batch_end + len(END)
        self.last = Position(newest.last, newest.term, newest.crc, newest.stamp)

    def read(self, first: int, bytes_max: int) -> tuple[Position, list[Entry]]:
        """The entries from the one that contains `first` on, at least one, and the position before them.

        Raises LogCompacted when the file is gone and CorruptRecord when it has rotted since it was opened.
        """
        end = self.end
        assert self.start.index < first <= self.last.index, (self.name, first, self.last.index)
        point = self._point_at(first)
        data = self._load(point, end, bytes_max)
        before, taken = point.before, 0
        entries: list[Entry] = []
        at, batch_end, base = 0, point.batch_end - point.offset, point.offset
        while at < len(data) and taken < bytes_max:
            if at == batch_end:
                at, batch_end = self._next_batch(data, at, base)
                continue
            entry, at = read_entry(data, at, entries[-1].crc if entries else before.crc, self._payload_bytes_max)
            if entry.last < first:
                before = Position(entry.last, entry.term, entry.crc, entry.stamp)
            else:
                entries.append(entry)
                taken += len(entry.record)
        assert entries, (self.name, first)
        return before, entries

    def check(self, first: int, bytes_max: int) -> Index:
        """Read like `read`, and the batch header before `first`, too. Returns the last index that is good.

        Raises CorruptRecord, or LogCompacted when the file is gone.
        """
        point = self._point_at(first)
        try:
            header = self._disk.read(self.name, point.batch_start, BATCH_BYTES)
        except FileNotFoundError:
            raise LogCompacted(f"{self.name} was cut away") from None
        if self._batch_header(header, 0) is None:
            raise CorruptRecord(f"{self.name}: batch header at byte {point.batch_start} does not match its checksum")
        return self.read(first, bytes_max)[1][-1].last

    def first_within(self, bytes_max: int) -> Index:
        """From which index on the rest of the file is at most `bytes_max` long, or about the last index."""
        within = bisect_left(self._points, self.end - bytes_max, key=lambda point: point.offset)
        assert self._points, self.name
        return Index(self._points[min(within, len(self._points) - 1)].before.index + 1)

    def copy_before(self, first: int, file: str, cluster: bytes) -> Segment:
        """Make, in `file`, a segment like this one that ends before the record that starts at `first`."""
        position, body = self._body_before(first)
        copy = Segment.make(self._disk, file, self.start, cluster, self._payload_bytes_max, body)
        copy.scan(file)
        assert copy.last == position, (copy.last, position)
        return copy

    def scan(self, file: str = "") -> Scan:
        """Check the whole file and find where its good batches end. Changes nothing on the disk.

        `file` is where the segment lies when it does not have its name yet.
        """
        file = file or self.name
        data = self._disk.read(file, 0, self._disk.size(file))
        content_end = max(_content_end(data), HEADER_BYTES)
        with memoryview(data) as view:
            stop = self._check_batch(view)
            while stop is None:
                stop = self._check_batch(view)
            # A header that is not good tells no length: then the batch is whatever is not zero.
            stop_end = stop.batch_end + len(END) if stop.batch_end else max(content_end, stop.at + BATCH_BYTES)
            return Scan(
                all_zero=content_end <= self.end,
                out_of_place=stop.out_of_place,
                later_batch=self._has_batch(data, stop.batch_end or self.end + 1),
                missing_sector=_has_missing_sector(view, stop.at, stop_end),
                damage_end=content_end,
                error=f"{self.name}: {stop.error}",
            )

    def highest_named(self) -> Index:
        """The highest index that a good batch or record header names, whatever else of the file is damaged.

        For what must be known of a log that no node would start on.
        """
        data = self._disk.read(self.name, 0, self._disk.size(self.name))
        highest = int(self.start.index)
        at = data.find(BATCH_MAGIC, HEADER_BYTES)
        while at >= 0:
            header = self._batch_header(data, at)
            if header is not None:
                highest = max(
                    highest, header[1], _last_named(data, at + BATCH_BYTES, header[0], self._payload_bytes_max)
                )
            at = data.find(BATCH_MAGIC, at + 1)
        return Index(highest)

    def clear_behind(self, damage_end: int) -> None:
        """Zero what is left behind the last good batch, and sync: nothing stale may ever follow a new batch (R3)."""
        if damage_end > self.end:
            self._disk.write(self.name, self.end, [bytes(damage_end - self.end)])
        self._disk.sync(self.name)

    def _check_batch(self, data: memoryview) -> _Stop | None:
        """Check the batch at `end` and step behind it; or say where and why it is not good.

        A batch counts whole or not at all: it was acknowledged whole or not at all.
        """
        start, index = self.end, int(self.last.index)
        header = self._batch_header(data, start)
        if header is None:
            return _Stop(start, 0, False, f"no batch at byte {start}, where index {index + 1} is due")
        length, first = header
        at = start + BATCH_BYTES
        batch_end = at + length
        if first != index + 1 or not length:
            return _Stop(start, batch_end, True, f"batch at byte {start} has index {first} where {index + 1} is due")
        term, crc, stamp = int(self.last.term), self.last.crc, self.last.stamp
        points: list[Point] = []
        configurations: list[int] = []
        spaced = self._points[-1].offset + POINT_SPACING_BYTES if self._points else 0
        while at < batch_end:
            try:
                first, last, its_term, its_stamp, its_crc, kind, after = check_record(
                    data, at, crc, self._payload_bytes_max
                )
            except CorruptRecord as error:
                return _Stop(at, batch_end, False, str(error))
            if first != index + 1 or its_term < term or after > batch_end:
                return _Stop(at, batch_end, True, f"record of index {first}, term {its_term} at byte {at} is misplaced")
            if kind == _CONFIGURATION:
                configurations.append(first)
            if at >= spaced:
                points.append(Point(Position(Index(index), Term(term), crc, stamp), at, start, batch_end))
                spaced = at + POINT_SPACING_BYTES
            index, term, crc, stamp, at = last, its_term, its_crc, its_stamp, after
        if batch_end == len(data):
            # Its value says nothing, but a file without it is shorter than every reader expects.
            return _Stop(batch_end, batch_end, False, f"the batch at byte {start} lacks its end, after index {index}")
        self._points += points
        self.configurations += configurations
        self.end = batch_end + len(END)
        self.last = Position(Index(index), Term(term), crc, stamp)
        return None

    def _batch_header(self, data: bytes | memoryview, at: int) -> tuple[int, int] | None:
        """Length and first index of the batch at `at`, if its header is good."""
        if at + BATCH_BYTES > len(data):
            return None
        magic, length, first = _BATCH.unpack_from(data, at)
        (crc,) = _CRC.unpack_from(data, at + _BATCH.size)
        if magic != BATCH_MAGIC or crc32c(data[at : at + _BATCH.size], self._salt) != crc:
            return None
        return length, first

    def _has_batch(self, data: bytes, at: int) -> bool:
        at = data.find(BATCH_MAGIC, at)
        while at >= 0:
            header = self._batch_header(data, at)
            if header is not None and header[1] > self.last.index:
                return True
            at = data.find(BATCH_MAGIC, at + 1)
        return False

    def _add_points(self, entries: Sequence[Entry], batch_start: int, batch_end: int) -> None:
        """Remember places in a batch that was just written. `last` is still the position before it."""
        before, at = self.last, batch_start + BATCH_BYTES
        for entry in entries:
            if not self._points or at - self._points[-1].offset >= POINT_SPACING_BYTES:
                self._points.append(Point(before, at, batch_start, batch_end))
            before = Position(entry.last, entry.term, entry.crc, entry.stamp)
            at += len(entry.record)

    def _point_at(self, first: int) -> Point:
        """The newest known place at or before the record that contains `first`."""
        return self._points[bisect_right(self._points, first - 1, key=lambda point: point.before.index) - 1]

    def _load(self, point: Point, end: int, bytes_max: int) -> bytes:
        """The bytes from `point` to another known place, or to `end`, behind `bytes_max` and the next known place.

        Both are starts of records, so no record is cut in two.
        """
        enough = point.offset + POINT_SPACING_BYTES + bytes_max
        following = bisect_left(self._points, enough, key=lambda point: point.offset)
        if following < len(self._points):
            end = min(end, self._points[following].offset)
        try:
            data = self._disk.read(self.name, point.offset, end - point.offset)
        except FileNotFoundError:
            raise LogCompacted(f"{self.name} was cut away") from None
        if len(data) < end - point.offset:
            raise CorruptRecord(f"{self.name} ends at byte {point.offset + len(data)}, expected {end}")
        return data

    def _next_batch(self, data: bytes, at: int, base: int) -> tuple[int, int]:
        """Step over the end of a batch: where the next one's first record starts, and where its last one ends."""
        at += len(END)
        if at >= len(data):
            return at, at
        header = self._batch_header(data, at)
        if header is None:
            raise CorruptRecord(f"{self.name}: batch header at byte {base + at} does not match its checksum")
        at += BATCH_BYTES
        return at, at + header[0]

    def _place(self, first: int) -> tuple[Position, int, int]:
        """The position before the record that starts exactly at `first`, its offset, and its batch's offset."""
        end = self.end
        assert self.start.index < first <= self.last.index, (self.name, first, self.last.index)
        point = self._point_at(first)
        data = self._load(point, end, 0)
        index, term, crc, stamp = point.before.index, point.before.term, point.before.crc, point.before.stamp
        at, batch_start, batch_end, base = 0, point.batch_start, point.batch_end - point.offset, point.offset
        while index + 1 < first:
            if at == batch_end:
                batch_start = base + at + len(END)
                at, batch_end = self._next_batch(data, at, base)
                continue
            _, last, its_term, stamp, crc, _, at = check_record(data, at, crc, self._payload_bytes_max)
            index, term = Index(last), Term(its_term)
        assert index + 1 == first, (self.name, index, first)
        if at == batch_end:
            batch_start = base + at + len(END)
            at += BATCH_OVERHEAD_BYTES
        return Position(index, term, crc, stamp), base + at, batch_start

    def _body_before(self, first: int) -> tuple[Position, bytes]:
        """The file's content between the header and the record that starts exactly at `first`, cleanly ended."""
        position, at, batch_start = self._place(first)
        data = self._disk.read(self.name, HEADER_BYTES, batch_start - HEADER_BYTES)
        length = at - batch_start - BATCH_BYTES
        if length:
            whole = self._disk.read(self.name, batch_start, at - batch_start)
            header = _BATCH.pack(BATCH_MAGIC, length, _BATCH.unpack_from(whole)[2])
            # The seed is the same in the file that this goes to: both headers say the same.
            data += header + _CRC.pack(crc32c(header, self._salt)) + whole[BATCH_BYTES:] + END
        return position, data


@dataclass(slots=True)
class _Stop:
    """Where a scan stopped."""

    at: int
    """The batch or record that is not good."""
    batch_end: int
    """End of the records of its batch, 0 when its header does not tell."""
    out_of_place: bool
    error: str


def _last_named(data: bytes, at: int, length: int, payload_bytes_max: int) -> int:
    """The last index of the records of a batch, as far as their headers are good; 0 when none is."""
    last, end = 0, at + length
    with contextlib.suppress(CorruptRecord):
        while at < end:
            entry, at = read_entry(data, at, None, payload_bytes_max)
            last = entry.last
    return last


def _has_missing_sector(data: memoryview, start: int, end: int) -> bool:
    """Whether some sector's part of the range holds only zeros; what lies behind the end of the file is missing too."""
    while start < end:
        stop = min(start - start % SECTOR_BYTES + SECTOR_BYTES, end)
        if not any(data[start:stop]):
            return True
        start = stop
    return False


def _content_end(data: bytes) -> int:
    """Behind the last byte that is not zero. Most of a new segment is zeros, and comparing whole blocks is fast."""
    end = len(data)
    while end and data[max(0, end - BLOCK_BYTES) : end] == _ZEROS[:end]:
        end -= min(end, BLOCK_BYTES)
    start = max(0, end - BLOCK_BYTES)
    return start + len(data[start:end].rstrip(b"\0"))
