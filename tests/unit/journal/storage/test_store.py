"""The one door to the data directory: whole lives of a node's disk, without faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from journal.errors import DiskFailed, LogCompacted, StorageError
from journal.storage.disk import FileDisk
from journal.storage.metadata import MARK_NAME, META_NAME
from journal.storage.segment import is_segment_name, segment_name
from journal.storage.store import Identity, Store
from journal.values import START, Configuration, HardState, Index, NodeId, Term
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import (
    LIMITS,
    ME,
    THREE,
    end_of,
    make_entries,
    open_store,
    read_all,
    save_each,
    send_snapshot,
    take_snapshot,
)

VOTED = HardState(Term(2), NodeId("n3"))


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def store(disk: MemoryDisk) -> Store:
    return open_store(disk)


def last_segment(disk: MemoryDisk) -> str:
    return max(name for name in disk.names() if is_segment_name(name))


def test_a_new_directory_holds_nothing_but_the_configuration(store: Store) -> None:
    """This is where every node begins."""
    assert (store.hard_state, store.configuration, store.snapshot) == (HardState(), THREE, None)
    assert (store.start, store.last, store.withheld) == (START, START, 0)
    assert store.tail(1000) == (START, [])


def test_what_was_saved_is_there_after_a_restart(disk: MemoryDisk, store: Store) -> None:
    """R2: hard state and entries are durable when `save` returns, in one call or in several."""
    entries = make_entries(START, 30)
    store.save(VOTED, entries[:10])
    save_each(store, entries[10:])
    disk.crash()
    again = open_store(disk)
    assert (again.hard_state, again.last, again.withheld) == (VOTED, end_of(entries[-1]), 0)
    assert read_all(again) == entries
    assert again.tail(1 << 20) == (START, entries)


def test_the_configuration_given_at_the_start_does_not_replace_the_kept_one(disk: MemoryDisk, store: Store) -> None:
    """Membership read from a stale place must not beat the log (RELIABILITY 44)."""
    assert Store.open(disk, ME, LIMITS, Configuration((NodeId("n1"),))).configuration == THREE


def test_new_entries_replace_those_in_their_place(disk: MemoryDisk, store: Store) -> None:
    """A follower's log gives way to its leader's, from the first differing entry on, tail and all."""
    entries = make_entries(START, 30)
    store.save(None, entries)
    other = make_entries(end_of(entries[11]), 3, term=2)
    store.save(VOTED, other)
    for each in (store, open_store(disk)):
        assert read_all(each) == entries[:12] + other
        assert each.withheld == 0


def test_one_record_costs_one_write_and_one_sync(disk: MemoryDisk, store: Store) -> None:
    """Plus the mark, which is not waited for: this is the price of every write of the cluster."""
    store.save(None, make_entries(START, 1))
    before = disk.changes
    store.save(None, make_entries(store.last, 3))
    assert disk.changes - before == 3


def test_nothing_is_written_after_a_failure(disk: MemoryDisk, store: Store) -> None:
    """R6: what is on the disk is not known any more."""
    entries = make_entries(START, 2)
    store.save(None, entries[:1])
    disk.stop_at, disk.error = disk.changes + 1, DiskFailed("sync")
    with pytest.raises(DiskFailed, match="sync"):
        store.save(None, entries[1:])
    disk.stop_at = None
    changes = disk.changes
    for call in (lambda: store.save(VOTED, []), lambda: store.save(None, entries[1:])):
        with pytest.raises(DiskFailed, match="an earlier write did not end well"):
            call()
    assert disk.changes == changes


def test_the_log_is_cut_behind_the_oldest_snapshot_only(disk: MemoryDisk, store: Store) -> None:
    """R10: whoever falls back to the older snapshot needs the log from there on."""
    entries = make_entries(START, 60)
    save_each(store, entries)
    with pytest.raises(AssertionError):
        store.cut(Index(10))
    take_snapshot(store, end_of(entries[29]))
    newest = take_snapshot(store, end_of(entries[49]))
    with pytest.raises(AssertionError):
        store.cut(Index(50))
    start = store.cut(Index(30))
    assert 0 < start.index <= 30 and store.start == start
    with pytest.raises(LogCompacted):
        store.read(Index(1), 100)
    again = open_store(disk)
    assert (again.start, again.snapshot) == (start, newest)
    assert read_all(again) == read_all(store) == entries[start.index :]


def test_a_received_snapshot_restarts_the_log(disk: MemoryDisk, store: Store) -> None:
    """A follower that is far behind continues right behind the snapshot, with its members."""
    leader = open_store(MemoryDisk())
    entries = make_entries(START, 80, term=3)
    save_each(leader, entries)
    others = Configuration((NodeId("n1"), NodeId("n2")))
    writer = leader.snapshots.begin(end_of(entries[69]), others)
    writer.add(b"state")
    meta = writer.finish()
    save_each(store, make_entries(START, 50, term=1))
    assert send_snapshot(leader, meta, store) == meta
    store.reset(meta)
    store.save(None, entries[70:])
    for each in (store, open_store(disk)):
        assert (each.start, each.snapshot, each.configuration) == (meta.position, meta, others)
        assert (read_all(each), each.withheld) == (entries[70:], 0)


def test_a_snapshot_must_be_in_its_place_before_the_log_restarts(store: Store) -> None:
    """35: a log cut before the snapshot is durable leaves nothing to recover from."""
    other = open_store(MemoryDisk())
    meta = take_snapshot(other, end_of(make_entries(START, 5)[-1]))
    with pytest.raises(AssertionError):
        store.reset(meta)


def test_a_log_that_ends_before_the_snapshot_is_restarted(disk: MemoryDisk, store: Store) -> None:
    """The process ended between the arrival of a snapshot and the restart of the log."""
    entries = make_entries(START, 30)
    save_each(store, entries[:10])
    take_snapshot(store, end_of(entries[-1]))
    again = open_store(disk)
    assert again.start == again.last == end_of(entries[-1])
    assert again.withheld == 0


def test_the_term_of_a_received_snapshot_is_not_forgotten(disk: MemoryDisk, store: Store) -> None:
    """The power fails when the snapshot is in its place, and the term that came with it is not on the disk yet."""
    store.save(VOTED, [])
    meta = take_snapshot(store, end_of(make_entries(START, 20, term=7)[-1]))
    for _ in range(2):
        again = open_store(disk)
        assert (again.start, again.hard_state) == (meta.position, HardState(Term(7)))


def test_the_vote_stays_when_the_snapshot_is_of_no_newer_term(disk: MemoryDisk, store: Store) -> None:
    """It would be given twice otherwise."""
    store.save(VOTED, [])
    take_snapshot(store, end_of(make_entries(START, 20, term=2)[-1]))
    assert open_store(disk).hard_state == VOTED


def test_a_log_that_contradicts_the_snapshot_is_restarted(disk: MemoryDisk, store: Store) -> None:
    """33: conflicting entries kept behind a snapshot make replicas diverge."""
    save_each(store, make_entries(START, 30, term=1))
    meta = take_snapshot(store, end_of(make_entries(START, 20, term=2)[-1]))
    again = open_store(disk)
    assert again.start == again.last == meta.position


def test_a_log_that_starts_behind_every_good_snapshot_is_refused(disk: MemoryDisk, store: Store) -> None:
    """35: what lies between cannot be made up. Without any snapshot it is refused too, not taken for empty."""
    entries = make_entries(START, 60)
    save_each(store, entries)
    take_snapshot(store, end_of(entries[20]))
    meta = take_snapshot(store, end_of(entries[55]))
    store.snapshots.prune(1)
    store.cut(meta.position.index)
    older = open_store(MemoryDisk())
    take_snapshot(older, end_of(entries[20]))
    (name,) = (name for name in older._wal._disk.names() if name.startswith("snap-"))
    newest = next(name for name in disk.names() if name.startswith("snap-"))
    disk.delete(newest)
    with pytest.raises(StorageError, match="there is no good snapshot before it"):
        open_store(disk)
    disk.put(name, older._wal._disk.read(name, 0, 10_000))
    with pytest.raises(StorageError, match="the newest good snapshot ends at 21"):
        open_store(disk)


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (Identity("blue", NodeId("n2")), "belongs to node 'n1' of cluster 'blue', this is node 'n2' of cluster 'blue'"),
        (Identity("red", NodeId("n1")), "belongs to node 'n1' of cluster 'blue', this is node 'n1' of cluster 'red'"),
    ],
)
def test_another_nodes_directory_is_refused(disk: MemoryDisk, store: Store, identity: Identity, message: str) -> None:
    """A mixed-up mount must not give a node another one's votes."""
    changes = disk.changes
    with pytest.raises(StorageError, match=message):
        Store.open(disk, identity, LIMITS, THREE)
    assert disk.changes == changes


def test_a_directory_with_other_things_in_it_is_refused(disk: MemoryDisk) -> None:
    """A mistyped path must not be filled with our files."""
    disk.put("thesis.tex", b"years of work")
    with pytest.raises(StorageError, match=r"not empty: it has thesis\.tex"):
        open_store(disk)
    assert disk.names() == ["thesis.tex"]


def test_a_directory_that_lost_its_metadata_is_refused(disk: MemoryDisk, store: Store) -> None:
    """R8, R9: a node without its vote may only come back as another one."""
    store.save(None, make_entries(START, 1))
    disk.delete(META_NAME)
    with pytest.raises(StorageError, match="the node's term and vote are lost"):
        open_store(disk)


def test_strange_files_beside_ours_are_left_alone(disk: MemoryDisk, store: Store) -> None:
    """An operator's note does no harm."""
    disk.put("note.txt", b"do not touch")
    open_store(disk)
    assert disk.read("note.txt", 0, 99) == b"do not touch"


def test_wrong_limits_are_refused(disk: MemoryDisk) -> None:
    """Before a file is made by them."""
    with pytest.raises(ValueError, match="record_bytes_max"):
        open_store(disk, replace(LIMITS, segment_bytes=10))


def test_a_tail_that_was_acknowledged_and_is_damaged_is_withheld(disk: MemoryDisk, store: Store) -> None:
    """R5: the node starts, and does not vote until its leader has given it back what it lost."""
    entries = make_entries(START, 3)
    save_each(store, entries)
    name = last_segment(disk)
    disk.write(name, store._wal._segments[-1].end - 30, [b"\xff"])
    again = open_store(disk)
    assert (again.withheld, again.last) == (3, end_of(entries[1]))
    # Still after another restart, and while the log is refilled with something shorter ...
    assert open_store(disk).withheld == 3
    again = open_store(disk)
    leader = make_entries(end_of(entries[0]), 1, term=4)
    again.save(None, leader)
    assert open_store(disk).withheld == 3
    # ... until it reaches as far as it did.
    again.save(None, make_entries(end_of(leader[0]), 1))
    assert open_store(disk).withheld == 0


def test_a_withheld_mark_is_kept_through_a_restart_behind_an_older_snapshot(disk: MemoryDisk, store: Store) -> None:
    """The snapshot does not cover what was acknowledged after it."""
    entries = make_entries(START, 9)
    save_each(store, entries)
    disk.put(segment_name(1), disk.read(segment_name(1), 0, 600))
    again = open_store(disk)
    assert again.withheld == 9 and again.last.index < 7
    again.reset(take_snapshot(again, end_of(entries[6])))
    assert open_store(disk).withheld == 9
    again.reset(take_snapshot(again, end_of(make_entries(START, 12)[-1])))
    assert open_store(disk).withheld == 0


def test_the_only_voter_does_not_start_without_what_it_acknowledged(disk: MemoryDisk) -> None:
    """Nobody could give it back, and nobody would vote: better said than waited for."""
    store = Store.open(disk, ME, LIMITS, Configuration((ME.node,)))
    save_each(store, make_entries(START, 3))
    disk.put(segment_name(1), disk.read(segment_name(1), 0, 300))
    with pytest.raises(StorageError, match="entries up to index 3 were acknowledged, the log ends at 1"):
        Store.open(disk, ME, LIMITS, THREE)


def test_damage_in_the_middle_is_refused_and_named(disk: MemoryDisk, store: Store) -> None:
    """R4: never truncated, never skipped, whatever the mark says, and nothing on the disk is touched."""
    entries = make_entries(START, 5, term=7)
    save_each(store, entries)
    at = disk.read(segment_name(1), 0, 2048).index(entries[2].record) + 60
    for mark in (True, False):
        image = disk.copy()
        image.write(segment_name(1), at, [b"\xff"])
        if not mark:
            image.delete(MARK_NAME)
        changes = image.changes
        with pytest.raises(StorageError, match=r"the log is damaged: .*index 3, term 7"):
            open_store(image)
        assert image.changes == changes


def test_what_a_restart_believes_is_durable(disk: MemoryDisk, store: Store) -> None:
    """The process may end between a write and its sync: what the page cache shows is not yet on the disk."""
    entries = make_entries(START, 3)
    save_each(store, entries)
    for number, step in enumerate((0, 1, 2, 3)):
        image = disk.copy()
        running = open_store(image)
        image.stop_at, image.error = image.changes + step, DiskFailed("the process ends here")
        with pytest.raises(DiskFailed):
            running.save(HardState(Term(number + 5)), make_entries(running.last, 1))
        image.stop_at = None
        believed = open_store(image)
        image.crash()
        again = open_store(image)
        assert (again.hard_state, again.last) == (believed.hard_state, believed.last)


def test_a_store_on_real_files(tmp_path: Path) -> None:
    """The same through the kernel, with segments rolled, cut, replaced and restarted."""
    disk = FileDisk(tmp_path / "data")
    store = open_store(disk)
    entries = make_entries(START, 60)
    store.save(VOTED, entries[:40])
    save_each(store, entries[40:])
    take_snapshot(store, end_of(entries[30]))
    store.cut(Index(31))
    other = make_entries(end_of(entries[44]), 20, term=5)
    store.save(None, other)
    disk.close()
    disk = FileDisk(tmp_path / "data")
    again = open_store(disk)
    assert (again.hard_state, again.withheld) == (VOTED, 0)
    assert read_all(again) == (entries[:45] + other)[again.start.index :]
    assert again.snapshot is not None and list(again.snapshots.chunks(again.snapshot)) == [b"state", b"of the machine"]
    meta = take_snapshot(again, end_of(make_entries(again.last, 5)[-1]))
    again.reset(meta)
    disk.close()
    disk = FileDisk(tmp_path / "data")
    assert open_store(disk).start == meta.position
    disk.close()


def test_a_state_that_differs_from_the_quorums_is_never_used_again() -> None:
    """A restart does not make it right: it would be served to clients and, as a snapshot, spread to others."""
    disk = MemoryDisk()
    store = open_store(disk)
    save_each(store, make_entries(START, 3))
    store.fence(Index(2))
    disk.crash()
    with pytest.raises(StorageError, match="differs from that of the other members at index 2: rebuild this node"):
        open_store(disk)
