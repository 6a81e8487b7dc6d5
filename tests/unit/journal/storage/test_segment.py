"""One file of the log."""

from __future__ import annotations

import pytest

from journal.errors import CorruptRecord, LogCompacted, StorageError
from journal.storage.segment import (
    BATCH_BYTES,
    END,
    HEADER_BYTES,
    POINT_SPACING_BYTES,
    SECTOR_BYTES,
    Segment,
    is_segment_name,
    segment_name,
)
from journal.values import START, Entry, Index, Position, Term
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import CLUSTER, end_of, make_entries

SIZE = 1 << 20
AFTER = Position(Index(41), Term(3), 99, 1000)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def make_segment(disk: MemoryDisk, start: Position = START, size: int = SIZE) -> Segment:
    disk.create("aside", size)
    segment = Segment.make(disk, "aside", start, CLUSTER, 1 << 16)
    disk.rename("aside", segment.name)
    return segment


def load(disk: MemoryDisk, name: str) -> Segment:
    return Segment.load(disk, name, CLUSTER, 1 << 16)


def append_in_batches(segment: Segment, entries: list[Entry], size: int) -> None:
    for at in range(0, len(entries), size):
        segment.append(entries[at : at + size])


def test_names_sort_as_indices_do() -> None:
    """Recovery takes the segments in the order of their names."""
    assert segment_name(7) < segment_name(10) < segment_name(2**63)
    assert is_segment_name(segment_name(7))
    assert not any(map(is_segment_name, ["log-7", "log.new", "log-0000000000000000000x", "snap-00000000000000000001"]))


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_a_segment_found_on_disk_is_like_the_one_that_was_written(disk: MemoryDisk, batch: int) -> None:
    """What a running node knows of its files and what a restarted one finds must be the same."""
    written = make_segment(disk, AFTER)
    append_in_batches(written, make_entries(AFTER, 50, size=5000), batch)
    found = load(disk, segment_name(42))
    scan = found.scan()
    assert scan.all_zero and not scan.later_batch and not scan.out_of_place
    assert (found.start, found.last, found.end) == (written.start, written.last, written.end)
    assert found._points == written._points
    assert len(found._points) > 3


@pytest.mark.parametrize("batch", [1, 3, 200])
@pytest.mark.parametrize("bytes_max", [1, 1000, POINT_SPACING_BYTES, SIZE])
def test_reading_may_start_at_any_index(disk: MemoryDisk, batch: int, bytes_max: int) -> None:
    """A peer may be behind by any number of entries, and asks from the middle of a record too."""
    segment = make_segment(disk, AFTER)
    entries = make_entries(AFTER, 200, size=1000, count=3)
    append_in_batches(segment, entries, batch)
    before = AFTER
    for number, entry in enumerate(entries):
        for index in (entry.first, entry.last):
            position, page = segment.read(index, bytes_max)
            assert position == before
            assert page == entries[number : number + len(page)]
            size = sum(len(each.record) for each in page)
            assert size - len(page[-1].record) < bytes_max or len(page) == 1
            assert size >= bytes_max or page[-1] == entries[-1]
        before = end_of(entry)


def test_reading_sees_rot_behind_the_open_file(disk: MemoryDisk) -> None:
    """A log is read long after it was checked at the start; every read checks again."""
    segment = make_segment(disk)
    entries = make_entries(START, 3)
    append_in_batches(segment, entries, 1)
    second_batch = HEADER_BYTES + BATCH_BYTES + len(entries[0].record) + len(END)
    for at in (second_batch + 5, second_batch + BATCH_BYTES + 60):
        rotten = disk.copy()
        rotten.write(segment.name, at, [b"\xff"])
        segment._disk = rotten
        with pytest.raises(CorruptRecord):
            segment.read(1, SIZE)


def test_reading_a_file_that_was_removed_says_compacted(disk: MemoryDisk) -> None:
    """The loop reads while another thread cuts the log."""
    segment = make_segment(disk)
    segment.append(make_entries(START, 1))
    disk.remove(segment.name)
    with pytest.raises(LogCompacted):
        segment.read(1, 100)


def test_reading_a_file_that_lost_its_end_is_noticed(disk: MemoryDisk) -> None:
    """Less data than was written must never pass for fewer entries."""
    segment = make_segment(disk)
    segment.append(make_entries(START, 3))
    disk.put(segment.name, disk.read(segment.name, 0, segment.end - 1))
    with pytest.raises(CorruptRecord, match="ends at byte"):
        segment.read(1, SIZE)


@pytest.mark.parametrize("batch", [1, 4, 200])
def test_a_copy_ends_where_it_is_told(disk: MemoryDisk, batch: int) -> None:
    """A new leader may replace a log from any record on, also from the middle of what one save wrote."""
    segment = make_segment(disk, AFTER)
    entries = make_entries(AFTER, 200, size=1000)
    append_in_batches(segment, entries, batch)
    for kept in [0, 1, 2, 3, 4, 5, 64, 65, 66, 131, 198, 199]:
        disk.create("aside", SIZE)
        copy = segment.copy_before(entries[kept].first, "aside", CLUSTER)
        assert copy.last == (end_of(entries[kept - 1]) if kept else AFTER)
        disk.rename("aside", "copy")
        copy.name = "copy"
        other = make_entries(copy.last, 2, term=9)
        copy.append(other)
        read: list[Entry] = []
        while len(read) < kept + 2:
            read += copy.read(read[-1].last + 1 if read else 42, SIZE)[1]
        assert read == entries[:kept] + other


@pytest.mark.parametrize("field", range(0, 52, 4))
def test_a_damaged_header_is_refused(disk: MemoryDisk, field: int) -> None:
    """The header is written and synced before the file has its name: damage there is never a torn write."""
    name = make_segment(disk, AFTER).name
    byte = disk.read(name, field, 1)[0]
    disk.write(name, field, [bytes([byte ^ 4])])
    with pytest.raises(StorageError, match=name):
        load(disk, name)


def test_a_foreign_segment_is_refused_by_name(disk: MemoryDisk) -> None:
    """Each kind of stranger has its own message."""
    name = make_segment(disk, AFTER).name
    with pytest.raises(StorageError, match="another cluster"):
        Segment.load(disk, name, b"stranger", 100)
    disk.rename(name, segment_name(50))
    with pytest.raises(StorageError, match="starts at index 42"):
        load(disk, segment_name(50))
    disk.put(segment_name(50), b"short")
    with pytest.raises(StorageError, match="not a log segment"):
        load(disk, segment_name(50))


def test_an_unknown_version_is_refused_by_number(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that was upgraded and set back must not guess."""
    monkeypatch.setattr("journal.storage.segment.VERSION", 7)
    name = make_segment(disk).name
    monkeypatch.undo()
    with pytest.raises(StorageError, match="format version 7, this program knows version 1"):
        load(disk, name)


def scan_of(disk: MemoryDisk, name: str):
    segment = load(disk, name)
    return segment, segment.scan()


def test_a_missing_sector_is_seen_wherever_the_batch_lies_in_it(disk: MemoryDisk) -> None:
    """Recovery calls a write torn by this alone, so it must hold for the first, a middle and the last sector."""
    segment = make_segment(disk, size=8192)
    segment.append(make_entries(START, 1, size=300))
    start = segment.end
    segment.append(make_entries(segment.last, 3, size=700))
    whole = disk.read(segment.name, 0, SIZE)
    for sector in range(start - start % SECTOR_BYTES, segment.end, SECTOR_BYTES):
        torn = bytearray(whole)
        torn[max(start, sector) : sector + SECTOR_BYTES] = bytes(sector + SECTOR_BYTES - max(start, sector))
        disk.put(segment.name, bytes(torn))
        found, scan = scan_of(disk, segment.name)
        if sector + SECTOR_BYTES >= segment.end and segment.end - sector == len(END):
            continue
        assert scan.missing_sector and not scan.all_zero and not scan.later_batch, sector
        assert found.end == start
        found.clear_behind(scan.damage_end)
        assert not disk.read(segment.name, start, SIZE).strip(b"\0")


def test_rot_is_no_missing_sector(disk: MemoryDisk) -> None:
    """A flipped bit in a batch that arrived whole must never be taken for a torn write."""
    segment = make_segment(disk, size=8192)
    segment.append(make_entries(START, 1, size=300))
    start = segment.end
    segment.append(make_entries(segment.last, 2, size=600))
    whole = disk.read(segment.name, 0, SIZE)
    for at in range(start, segment.end - len(END), 3):
        rotten = bytearray(whole)
        rotten[at] ^= 16
        disk.put(segment.name, bytes(rotten))
        found, scan = scan_of(disk, segment.name)
        assert found.end == start, at
        assert not scan.missing_sector and not scan.all_zero and not scan.later_batch, at


def test_a_later_batch_is_found_behind_any_damage(disk: MemoryDisk) -> None:
    """It proves that the damage is rot: a save begins only when the one before it is durable."""
    segment = make_segment(disk, size=8192)
    entries = make_entries(START, 4, size=600)
    segment.append(entries[:1])
    start = segment.end
    segment.append(entries[1:3])
    end = segment.end
    segment.append(entries[3:])
    whole = disk.read(segment.name, 0, SIZE)
    for at in range(start, end - len(END), 7):
        stop = min(at + 40, end)
        disk.put(segment.name, whole[:at] + bytes(stop - at) + whole[stop:])
        found, scan = scan_of(disk, segment.name)
        assert found.end == start and scan.later_batch, at


def test_a_batch_of_another_file_does_not_count(disk: MemoryDisk) -> None:
    """A user may store a copy of a log in a key: found in a torn write it must not look like a later save."""
    other = make_segment(disk, AFTER)
    other.append(make_entries(AFTER, 1))
    foreign = disk.read(other.name, HEADER_BYTES, other.end - HEADER_BYTES)
    segment = make_segment(disk)
    segment.append(make_entries(START, 1))
    disk.write(segment.name, segment.end + 600, [foreign])
    scan = load(disk, segment.name).scan()
    assert not scan.later_batch and scan.missing_sector


def test_the_error_names_the_damaged_record(disk: MemoryDisk) -> None:
    """R4: an operator, and a later repair, needs to know which entry is bad."""
    segment = make_segment(disk)
    segment.append(make_entries(START, 1))
    start = segment.end
    segment.append(make_entries(segment.last, 1, term=6))
    disk.write(segment.name, start + BATCH_BYTES + 80, [b"\xff"])
    _, scan = scan_of(disk, segment.name)
    assert "index 2, term 6" in scan.error and segment.name in scan.error


def test_entries_that_do_not_follow_are_out_of_place(disk: MemoryDisk) -> None:
    """Good checksums in the wrong order are a mistake of a program, and no disk's."""
    segment = make_segment(disk)
    entries = make_entries(START, 2, term=5)
    segment.append(entries[:1])
    segment.append(make_entries(end_of(entries[0]), 1, term=4))
    found, scan = scan_of(disk, segment.name)
    assert scan.out_of_place and found.last == end_of(entries[0])
    gap = make_segment(disk, AFTER)
    gap.append(make_entries(end_of(make_entries(AFTER, 1)[0]), 1))
    found, scan = scan_of(disk, gap.name)
    assert scan.out_of_place and found.last == AFTER


def test_the_rest_of_a_file_is_measured_from_a_known_place(disk: MemoryDisk) -> None:
    """What a restarted node keeps in memory is bounded by bytes."""
    segment = make_segment(disk)
    append_in_batches(segment, make_entries(START, 300, size=1000), 1)
    assert segment.first_within(SIZE) == 1
    first = segment.first_within(100_000)
    assert 100_000 - POINT_SPACING_BYTES - 2000 < (300 - first + 1) * 1065 <= 100_000
    assert 0 < 300 - segment.first_within(1) < 70
