"""A full disk (R12): nothing is lost, nothing is half done for good, and the same save goes through later."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from journal.errors import DiskFull
from journal.storage.segment import is_segment_name
from journal.storage.wal import TEMPORARY
from journal.values import START, HardState, Index, NodeId, Term
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.unit.journal.storage.samples import (
    CHUNKS,
    end_of,
    make_entries,
    open_store,
    read_all,
    save_each,
    send_snapshot,
    take_snapshot,
)

VOTED = HardState(Term(7), NodeId("n3"))


def content(disk: MemoryDisk) -> dict[str, bytes]:
    return {name: disk.read(name, 0, disk.size(name)) for name in disk.names()}


def test_the_log_has_room_for_what_is_reserved_and_then_stays_as_it_is() -> None:
    """One segment more than the one being written, whatever else has filled the disk."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 60)
    store.save(None, entries[:1])
    assert TEMPORARY in disk.names(), "a spare is reserved from the first save on"
    disk.full = True
    saved = 1
    with pytest.raises(DiskFull):
        while True:
            store.save(None, [entries[saved]])
            saved += 1
    assert sum(map(is_segment_name, disk.names())) == 2
    before = content(disk)
    with pytest.raises(DiskFull):
        store.save(None, entries[saved:])
    assert content(disk) == before
    assert read_all(store) == entries[:saved]
    assert read_all(open_store(disk.copy())) == entries[:saved]
    disk.full = False
    store.save(None, entries[saved:])
    assert read_all(store) == entries
    assert read_all(open_store(disk)) == entries


def test_term_and_vote_are_saved_on_a_full_disk() -> None:
    """Their room is reserved: a node that cannot save entries can still vote, and must not forget it."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 60)
    disk.full = True
    with pytest.raises(DiskFull):
        for entry in entries:
            store.save(None, [entry])
    with pytest.raises(DiskFull):
        store.save(VOTED, entries[store.last.index :])
    assert open_store(disk.copy()).hard_state == VOTED


def test_a_save_over_several_segments_goes_on_where_it_stopped() -> None:
    """The first entries are in the log already; they are not written twice, and merged with later ones."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 80)
    store.save(None, entries[:1])
    disk.full = True
    with pytest.raises(DiskFull):
        store.save(None, entries[1:70])
    reached = store.last.index
    assert 1 < reached < 70
    changes = disk.changes
    with pytest.raises(DiskFull):
        store.save(None, entries[1:75])
    assert (store.last.index, disk.changes) == (reached, changes + 1), "nothing is cut and written again"
    disk.full = False
    store.save(None, entries[1:])
    assert read_all(open_store(disk)) == entries


def test_another_leaders_entries_take_the_place_of_those_that_a_full_disk_cut_short() -> None:
    """What waited for room may be replaced meanwhile."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 80)
    store.save(None, entries[:5])
    disk.full = True
    with pytest.raises(DiskFull):
        store.save(None, entries[5:])
    assert store.last.index > 10
    others = make_entries(end_of(entries[4]), 30, term=2, fill=b"w")
    with pytest.raises(DiskFull):
        store.save(None, others)
    disk.full = False
    store.save(None, others)
    assert read_all(store) == entries[:5] + others
    assert read_all(open_store(disk)) == entries[:5] + others


def test_a_cut_that_has_no_room_does_not_lower_the_mark() -> None:
    """A lowered mark with the log still there would let rot in it pass for a torn write."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 80)
    disk.full = True
    with pytest.raises(DiskFull):
        save_each(store, entries)
    before = content(disk)
    with pytest.raises(DiskFull):
        store.save(None, make_entries(end_of(entries[4]), 1, term=2))
    assert content(disk) == before


def test_a_restart_behind_a_snapshot_waits_for_room() -> None:
    """The node keeps its old log until the new one has its place."""
    healthy = open_store(MemoryDisk())
    entries = make_entries(START, 90)
    save_each(healthy, entries)
    meta = take_snapshot(healthy, end_of(entries[-1]))
    disk = MemoryDisk()
    store = open_store(disk)
    received = send_snapshot(healthy, meta, store)
    disk.full = True
    with pytest.raises(DiskFull):
        save_each(store, entries)
    log = read_all(store)
    with pytest.raises(DiskFull):
        store.reset(received)
    assert read_all(store) == log
    disk.full = False
    store.reset(received)
    assert store.start == store.last == meta.position
    again = open_store(disk)
    assert again.last == meta.position and tuple(again.snapshots.chunks(meta)) == CHUNKS


def test_cutting_the_log_makes_room() -> None:
    """A snapshot that was taken in time lets a full node go on by itself."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 60)
    save_each(store, entries[:40])
    take_snapshot(store, end_of(entries[30]))
    disk.full = True
    assert store.cut(Index(31)).index > 0


def test_a_full_disk_at_the_start_is_no_obstacle() -> None:
    """Started again on a full disk, a node reads, votes and serves what it has."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 60)
    disk.full = True
    with pytest.raises(DiskFull):
        save_each(store, entries)
    saved = store.last.index
    store = open_store(disk)
    assert read_all(store) == entries[:saved]
    store.save(VOTED, [])
    disk.full = False
    store.save(None, entries[saved:])
    assert read_all(open_store(disk)) == entries


def test_a_partial_write_is_cleared_before_the_next_batch_takes_its_place() -> None:
    """A file system that copies on write can be full within reserved space.

    1. A long batch is written in part, and the disk is full.
    2. A shorter batch takes its place, and the power goes.
    3. Were the rest of the first still there, its good records would stand where zeros are due.
    """

    class Halfway(MemoryDisk):
        short = False

        def write(self, name, offset, buffers):  # type: ignore[no-untyped-def]
            data = b"".join(buffers)
            if self.short and is_segment_name(name) and any(data):
                super().write(name, offset, [data[: len(data) * 3 // 4]])
                raise DiskFull(name)
            super().write(name, offset, buffers)

    disk = Halfway()
    store = open_store(disk)
    entries = make_entries(START, 9, size=150)
    store.save(None, entries[:1])
    disk.short = True
    with pytest.raises(DiskFull):
        store.save(None, entries[1:])
    disk.short = False
    other = make_entries(end_of(entries[0]), 1, term=2, size=10)
    store.save(None, other)
    assert read_all(open_store(disk.copy())) == entries[:1] + other


@pytest.mark.parametrize("seed", range(40))
def test_full_and_free_by_turns_with_power_cuts_between(seed: int) -> None:
    """Whatever the moment: all that was acknowledged is there after every restart, in the right order."""
    chance = random.Random(seed)
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 400, size=90)
    acknowledged, asked = 0, 0
    for _ in range(120):
        disk.full = chance.random() < 0.5
        asked = min(len(entries), max(asked, acknowledged) + chance.randrange(0, 12))
        if chance.random() < 0.1:
            disk.stop_at = disk.changes + chance.randrange(6)
        try:
            if asked > acknowledged:
                store.save(replace(VOTED, term=Term(7 + acknowledged)), entries[acknowledged:asked])
                acknowledged = asked
        except DiskFull:
            assert disk.full
        except Stopped:
            disk.crash(chance)
            disk.full = False
            store = open_store(disk)
            assert read_all(store) == entries[: store.last.index] and store.last.index >= acknowledged
            acknowledged = asked = int(store.last.index)
    disk.stop_at = None
    assert read_all(open_store(disk))[:acknowledged] == entries[:acknowledged]
