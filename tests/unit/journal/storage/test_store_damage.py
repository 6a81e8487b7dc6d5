"""Rot, cut files and missing files: a store starts right, starts withheld, or refuses; it is never wrong.

Wrong is: an acknowledged entry missing in silence, an entry or a snapshot with other bytes, another vote.
"""

from __future__ import annotations

from collections import Counter

import pytest

from journal.errors import StorageError
from journal.storage.metadata import MARK_NAME, META_NAME, SLOT_BYTES
from journal.storage.segment import HEADER_BYTES, is_segment_name, segment_name
from journal.storage.snapshots import is_snapshot_name
from journal.storage.store import Store
from journal.values import START, Configuration, Entry, HardState, NodeId, Term
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import (
    CHUNKS,
    LIMITS,
    ME,
    end_of,
    make_entries,
    open_store,
    read_all,
    save_each,
    take_snapshot,
)

VOTED = HardState(Term(3), NodeId("n2"))


def places(whole: bytes) -> range:
    """Where a file is damaged: everywhere in a small one, here and there in a larger one."""
    return range(0, len(whole), 1 if len(whole) < 100 else 7 if len(whole) < 4096 else 29)


def live() -> tuple[MemoryDisk, list[Entry]]:
    """A small data directory with everything in it: three segments, two snapshots, votes, a mark."""
    disk = MemoryDisk()
    store = open_store(disk)
    entries = make_entries(START, 26, size=150)
    store.save(VOTED, entries[:6])
    for at in range(6, 26, 2):
        store.save(None, entries[at : at + 2])
    take_snapshot(store, end_of(entries[9]))
    take_snapshot(store, end_of(entries[16]))
    assert sum(map(is_segment_name, disk.names())) == 3
    return disk, entries


DISK, ENTRIES = live()
FILES = [name for name in DISK.names() if name != "log.new"]


def outcome(disk: MemoryDisk, entries: list[Entry]) -> str:
    """What the store makes of it: `right`, `withheld` or `refused`; fails when it is wrong."""
    changes = disk.changes
    try:
        store = open_store(disk)
    except StorageError as error:
        assert disk.changes == changes, "refused, and still changed"
        assert str(error)
        return "refused"
    log = read_all(store)
    assert log == entries[store.start.index : store.start.index + len(log)]
    # Behind a good snapshot the log may start anywhere before its end.
    assert store.start == START or (store.snapshot and store.start.index <= store.snapshot.position.index)
    assert store.hard_state == VOTED
    for meta in store.snapshots.metas()[:1]:
        assert meta.position in (end_of(entries[9]), end_of(entries[16]))
        assert tuple(store.snapshots.chunks(meta)) == CHUNKS
    if store.withheld:
        # Without a mark nobody knows how far the log went.
        assert store.withheld in (len(entries), store.last.index + 1)
        return "withheld"
    assert store.last.index == len(entries), "entries are missing in silence"
    return "right"


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere(name: str) -> None:
    """CORDS: one fault in one file of one node hurt all of eight systems."""
    whole = DISK.read(name, 0, DISK.size(name))
    outcomes: Counter[str] = Counter()
    for at in places(whole):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        disk = DISK.copy()
        disk.put(name, bytes(damaged))
        outcomes[outcome(disk, ENTRIES)] += 1
    if is_segment_name(name):
        assert outcomes["refused"] > 50
        assert bool(outcomes["withheld"]) == (name == max(filter(is_segment_name, FILES)))
    elif name == MARK_NAME:
        assert list(outcomes) == ["withheld"]
    else:
        assert list(outcomes) == ["right"], "there is a second copy, or it can be done without"


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_anywhere(name: str) -> None:
    """A file system that lost its journal, a full disk in the middle of a copy."""
    whole = DISK.read(name, 0, DISK.size(name))
    for size in places(whole):
        disk = DISK.copy()
        disk.put(name, whole[:size])
        outcome(disk, ENTRIES)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(name: str) -> None:
    """Also refused: a node that starts empty where it had data."""
    disk = DISK.copy()
    disk.delete(name)
    result = outcome(disk, ENTRIES)
    if is_snapshot_name(name):
        assert result == "right"
    elif name == MARK_NAME or name == max(filter(is_segment_name, FILES)):
        assert result == "withheld"
    elif name == segment_name(1):
        assert result == "right", "both snapshots stand behind it"
    else:
        assert result == "refused", (name, result)


def test_a_zeroed_sector_anywhere_in_the_log() -> None:
    """A lost write looks like a torn one; the mark and the batches behind it tell them apart."""
    for name in filter(is_segment_name, FILES):
        whole = DISK.read(name, 0, DISK.size(name))
        for at in range(0, len(whole), 512):
            disk = DISK.copy()
            disk.put(name, whole[:at] + bytes(len(whole[at : at + 512])) + whole[at + 512 :])
            outcome(disk, ENTRIES)


def test_rot_in_the_last_batch_is_no_torn_write_even_without_the_mark() -> None:
    """A batch of which all sectors arrived is not cut away in silence, whatever became of the mark.

    The byte that ends a batch has no meaning of its own, so it may rot.
    """
    name = max(filter(is_segment_name, FILES))
    whole = DISK.read(name, 0, DISK.size(name))
    end = len(whole.rstrip(b"\0"))
    for at in range(HEADER_BYTES, end - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 64
        disk = DISK.copy()
        disk.put(name, bytes(damaged))
        disk.delete(MARK_NAME)
        assert outcome(disk, ENTRIES) in ("refused", "withheld"), at


def test_a_vote_is_never_older_than_the_last_one_when_half_the_metadata_is_gone() -> None:
    """R8: any damage to one slot, the other one carries the node."""
    whole = DISK.read(META_NAME, 0, 2 * SLOT_BYTES)
    for slot in (0, SLOT_BYTES):
        disk = DISK.copy()
        disk.put(META_NAME, whole[:slot] + bytes(SLOT_BYTES) + whole[slot + SLOT_BYTES :])
        assert outcome(disk, ENTRIES) == "right"


def test_a_segment_in_anothers_place_is_refused() -> None:
    """A misdirected write, or an operator's copy: good checksums, wrong place."""
    names = sorted(filter(is_segment_name, FILES))
    for source in names:
        for target in (*names, segment_name(500)):
            if source != target:
                disk = DISK.copy()
                disk.put(target, DISK.read(source, 0, DISK.size(source)))
                assert outcome(disk, ENTRIES) == "refused", (source, target)


def test_a_single_node_without_its_mark_starts_only_if_its_log_ends_well() -> None:
    """It has no peers to be refilled from: all that can be asked is that nothing is visibly lost."""
    alone = Configuration((ME.node,))
    disk = MemoryDisk()
    store = Store.open(disk, ME, LIMITS, alone)
    save_each(store, make_entries(START, 3))
    disk.delete(MARK_NAME)
    assert not Store.open(disk.copy(), ME, LIMITS, alone).withheld
    name = segment_name(1)
    whole = disk.read(name, 0, disk.size(name))
    end = len(whole.rstrip(b"\0"))
    disk.put(name, whole[: end - 20])
    with pytest.raises(StorageError, match="mark is damaged, and so is the end of the log at index 3"):
        Store.open(disk, ME, LIMITS, alone)
