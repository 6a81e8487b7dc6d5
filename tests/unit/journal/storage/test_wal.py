"""The row of segments: rolling, cutting at both ends, reading across."""

from __future__ import annotations

from dataclasses import replace

import pytest

from journal.errors import LogCompacted, StorageError
from journal.storage.segment import is_segment_name, segment_name
from journal.storage.wal import TEMPORARY, Wal
from journal.values import START, Entry, Index, Position
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import CLUSTER, LIMITS, end_of, make_entries


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def wal(disk: MemoryDisk) -> Wal:
    return Wal.create(disk, CLUSTER, LIMITS)


def reload(disk: MemoryDisk, snapshot: Position = START) -> Wal:
    wal = Wal.load(disk, CLUSTER, LIMITS, Index(0), snapshot)
    wal.repair()
    return wal


def segments(disk: MemoryDisk) -> list[str]:
    return [name for name in disk.names() if is_segment_name(name)]


def read_all(wal: Wal) -> list[Entry]:
    entries: list[Entry] = []
    while wal.start.index + len(entries) < wal.last.index:
        entries += wal.read(Index(wal.start.index + len(entries) + 1), 500)[1]
    return entries


def fill(wal: Wal, number: int, **how: int) -> list[Entry]:
    entries = make_entries(wal.last, number, **how)
    for entry in entries:
        wal.append([entry])
    return entries


def test_a_full_segment_is_followed_by_the_next(disk: MemoryDisk, wal: Wal) -> None:
    """The row has no hole, before and after a restart."""
    entries = fill(wal, 40)
    assert len(segments(disk)) > 2
    assert read_all(wal) == entries
    assert read_all(reload(disk)) == entries


def test_one_save_may_fill_several_segments(disk: MemoryDisk, wal: Wal) -> None:
    """A follower that was away gets more than a segment at once."""
    entries = make_entries(START, 60)
    wal.append(entries)
    assert len(segments(disk)) > 3
    assert read_all(reload(disk)) == read_all(wal) == entries


def test_an_entry_larger_than_a_segment_gets_one_of_its_own(disk: MemoryDisk) -> None:
    """Limits that allow it must not end in a loop that looks for room."""
    wal = Wal.create(disk, CLUSTER, replace(LIMITS, segment_bytes=200))
    entries = make_entries(START, 5, size=900)
    wal.append(entries[:2])
    wal.append(entries[2:])
    assert len(segments(disk)) == 5
    assert read_all(reload(disk)) == entries


def test_the_next_segment_is_reserved_from_the_first_append_on(disk: MemoryDisk, wal: Wal) -> None:
    """Rolling in the middle of a save must not wait for an allocation, nor find the disk full (R12)."""
    fill(wal, 1)
    assert disk.size(TEMPORARY) == LIMITS.segment_bytes
    ready = disk._names[TEMPORARY]
    fill(wal, 20)
    assert ready in [disk._names[name] for name in segments(disk)]
    assert TEMPORARY in disk.names()


def test_a_reserve_left_behind_is_made_anew(disk: MemoryDisk, wal: Wal) -> None:
    """Nobody knows what is in it."""
    disk.create(TEMPORARY, 10)
    disk.write(TEMPORARY, 0, [b"something"])
    reload(disk)
    assert disk.read(TEMPORARY, 0, LIMITS.segment_bytes + 1) == bytes(LIMITS.segment_bytes)


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_the_log_is_cut_at_any_record(batch: int) -> None:
    """A new leader's log may differ from any record on; the new entries take the old ones' place."""
    entries = make_entries(START, 60)
    for kept in range(60):
        disk = MemoryDisk()
        wal = Wal.create(disk, CLUSTER, LIMITS)
        for at in range(0, 60, batch):
            wal.append(entries[at : at + batch])
        wal.truncate(entries[kept].first)
        assert wal.last == (end_of(entries[kept - 1]) if kept else START)
        other = make_entries(wal.last, 3, term=2)
        wal.append(other)
        assert read_all(wal) == read_all(reload(disk)) == entries[:kept] + other


def test_old_segments_are_dropped_whole(disk: MemoryDisk, wal: Wal) -> None:
    """Only what ends at or before the snapshot goes; the segment being written stays."""
    entries = fill(wal, 60)
    names = segments(disk)
    third_start = wal._segments[2].start
    assert wal.cut(Index(third_start.index - 1)) == wal._segments[0].start
    assert segments(disk) == names[1:]
    assert wal.cut(third_start.index) == third_start
    assert segments(disk) == names[2:]
    with pytest.raises(LogCompacted, match=f"index {third_start.index} was cut away"):
        wal.read(third_start.index, 1)
    assert read_all(wal) == entries[third_start.index :]
    wal.cut(wal.last.index)
    assert segments(disk) == names[-1:]


def test_the_log_restarts_behind_a_snapshot(disk: MemoryDisk, wal: Wal) -> None:
    """Ahead of the log, inside it, and at a place where it was cut into segments already."""
    entries = fill(wal, 60)
    ahead = end_of(make_entries(wal.last, 30)[-1])
    for position in (ahead, end_of(entries[20]), wal._segments[2].start, end_of(entries[-1])):
        image = disk.copy()
        other = Wal.load(image, CLUSTER, LIMITS, Index(0), START)
        other.reset(position)
        assert segments(image) == [segment_name(position.index + 1)]
        assert other.start == other.last == position
        new = make_entries(position, 2, term=8)
        other.append(new)
        again = Wal.load(image, CLUSTER, LIMITS, Index(0), position)
        assert (again.start, again.tail(10_000)[1]) == (position, new)


def test_positions_are_known_where_records_end(wal: Wal) -> None:
    """A snapshot and the log fit together only if both end a record there, with one checksum."""
    entries = fill(wal, 30, count=2)
    assert wal.position_at(Index(0)) == START
    for entry in entries:
        assert wal.position_at(entry.last) == end_of(entry)
        assert wal.position_at(entry.first) is None
    assert wal.position_at(Index(61)) is None


def test_the_tail_is_the_newest_part(wal: Wal) -> None:
    """It must reach to the end, follow its position, and respect its bound roughly."""
    assert wal.tail(1000) == (START, [])
    entries = fill(wal, 60)
    for bytes_max in (1, 500, 3000, 6000, 1 << 20):
        before, tail = wal.tail(bytes_max)
        assert tail and tail == entries[-len(tail) :]
        assert before == (end_of(entries[-len(tail) - 1]) if len(tail) < 60 else START)
        assert sum(len(entry.record) for entry in tail) <= bytes_max + LIMITS.segment_bytes
    assert wal.tail(1 << 20)[1] == entries
    wal.cut(wal.last.index)
    before, tail = wal.tail(1 << 20)
    assert before == wal.start and tail == entries[-len(tail) :]


def test_a_missing_segment_is_a_hole(disk: MemoryDisk, wal: Wal) -> None:
    """Entries in the middle cannot be left out."""
    fill(wal, 60)
    disk.delete(segments(disk)[1])
    with pytest.raises(StorageError, match="the log has a hole"):
        reload(disk)


def test_a_missing_log_is_refused(disk: MemoryDisk, wal: Wal) -> None:
    """ZooKeeper once took a missing snapshot for an empty tree (RELIABILITY 1.3)."""
    for name in segments(disk):
        disk.delete(name)
    with pytest.raises(StorageError, match="the log is missing"):
        reload(disk)


def test_a_hole_is_right_where_the_log_restarted(disk: MemoryDisk, wal: Wal) -> None:
    """A crash in the middle of a restart leaves old segments; the snapshot replaces them, and only them."""
    fill(wal, 20)
    old = disk.copy()
    position = end_of(make_entries(wal.last, 9)[-1])
    wal.reset(position)
    new = fill(wal, 30, term=4)
    for name in segments(old):
        disk.put(name, old.read(name, 0, old.size(name)))
    with pytest.raises(StorageError, match="hole"):
        reload(disk)
    again = reload(disk, position)
    assert (again.start, read_all(again)) == (position, new)
    assert not set(segments(disk)) & set(segments(old))


def test_loading_changes_nothing(disk: MemoryDisk, wal: Wal) -> None:
    """What cannot be started must stay as it is for whoever looks into it."""
    fill(wal, 30)
    changes = disk.changes
    Wal.load(disk, CLUSTER, LIMITS, Index(99), START)
    assert disk.changes == changes
