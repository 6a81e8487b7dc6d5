"""What an operator does to a stopped node's directory, step by step and with the power cut between any two."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from journal.errors import StorageError
from journal.record import decode_configuration
from journal.storage.metadata import MARK_NAME, META_NAME
from journal.storage.rescue import (
    INDEX_JUMP,
    TERM_JUMP,
    force_new_cluster,
    inspect,
    rebuild,
    restore,
    restored_term,
)
from journal.storage.segment import is_segment_name
from journal.storage.store import Identity, Store
from journal.values import START, Configuration, EntryKind, HardState, Index, NodeId, Position, Term
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.unit.journal.storage.samples import (
    CHUNKS,
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

ALONE = Configuration((ME.node,))
STAMP = 10**6


def filled(entries: int = 30, *, snapshot_at: int = 0) -> MemoryDisk:
    """A stopped node's directory, in term 3."""
    disk = MemoryDisk()
    store = open_store(disk)
    made = make_entries(START, entries, term=3)
    store.save(HardState(Term(3), NodeId("n2")), made[:5])
    save_each(store, made[5:])
    if snapshot_at:
        take_snapshot(store, end_of(made[snapshot_at - 1]))
    return disk


def rot(disk: MemoryDisk, name: str, at: int) -> None:
    content = bytearray(disk.read(name, 0, disk.size(name)))
    content[at] ^= 0x10
    disk.put(name, bytes(content))


def test_inspecting_changes_nothing() -> None:
    """A dry run must be safe on the last copy there is."""
    disk = filled(snapshot_at=20)
    before = disk.changes
    found = inspect(disk, LIMITS)
    assert disk.changes == before
    assert (found.identity, found.hard_state.term, found.configuration) == (ME, 3, THREE)
    assert (found.last.index, found.acknowledged, found.refusal) == (30, 30, None)
    assert [meta.position.index for meta in found.snapshots] == [20]


def test_inspecting_tells_why_a_node_would_not_start() -> None:
    """The operator reads it before deciding what to give up; the damaged log still tells how far it went."""
    disk = filled()
    rot(disk, min(name for name in disk.names() if is_segment_name(name)), 300)
    found = inspect(disk, LIMITS)
    assert found.refusal is not None and "damaged" in found.refusal
    assert found.acknowledged == 30
    disk.delete(MARK_NAME)
    assert inspect(disk, LIMITS).acknowledged == 30, "what the mark knew, the headers of the records know, too"


def test_inspecting_a_directory_that_is_no_nodes_is_refused() -> None:
    """A typing mistake in the path must not make anything of it."""
    with pytest.raises(StorageError, match="no file meta"):
        inspect(MemoryDisk(), LIMITS)


def test_the_forced_cluster_goes_on_in_a_later_term_and_behind_a_gap() -> None:
    """The lost members may have used the terms and indices right behind: neither may be given out twice."""
    disk = filled()
    last = force_new_cluster(disk, LIMITS, ALONE, STAMP)
    assert (last.index, last.term, last.stamp) == (31 + INDEX_JUMP, 3 + TERM_JUMP, STAMP)
    store = Store.open(disk, ME, LIMITS, ALONE)
    assert (store.last, store.withheld) == (last, 0)
    assert [decode_configuration(entry) for entry in store.configurations()] == [ALONE]
    assert store.hard_state == HardState(last.term, ME.node), "its vote in the term of the gap is spent"
    assert [entry.last for entry in read_all(store)][-3:] == [30, 30 + INDEX_JUMP, last.index]


def test_an_entry_follows_the_gap() -> None:
    """The log goes on like any other, across restarts."""
    disk = filled()
    force_new_cluster(disk, LIMITS, ALONE, STAMP)
    store = Store.open(disk, ME, LIMITS, ALONE)
    entries = make_entries(store.last, 3, term=store.last.term + 1)
    store.save(HardState(Term(store.last.term + 1), ME.node), entries)
    assert read_all(Store.open(disk, ME, LIMITS, ALONE))[-3:] == entries


def test_a_survivor_that_lost_its_own_tail_may_be_forced() -> None:
    """Nobody is left who could give it back; the cluster of one would refuse to start otherwise."""
    disk = filled()
    longest = max(name for name in disk.names() if is_segment_name(name))
    disk.put(longest, disk.read(longest, 0, 64).ljust(disk.size(longest), b"\0"))
    found = inspect(disk, LIMITS)
    assert found.refusal is None and found.last.index < found.acknowledged == 30
    force_new_cluster(disk, LIMITS, ALONE, STAMP)
    assert Store.open(disk, ME, LIMITS, ALONE).withheld == 0


def test_a_damaged_survivor_is_not_forced() -> None:
    """What cannot be read cannot be the truth of a cluster; nothing is changed."""
    disk = filled()
    rot(disk, min(name for name in disk.names() if is_segment_name(name)), 300)
    before = disk.changes
    with pytest.raises(StorageError, match="damaged"):
        force_new_cluster(disk, LIMITS, ALONE, STAMP)
    assert disk.changes == before


def test_forcing_restarts_a_log_that_ends_before_the_newest_snapshot() -> None:
    """A crash between the arrival of a snapshot and the restart of the log is a state to be rescued from."""
    leader = filled(snapshot_at=25)
    disk = filled(10)
    sender = open_store(leader)
    assert sender.snapshot is not None
    send_snapshot(sender, sender.snapshot, open_store(disk))
    assert inspect(disk, LIMITS).last.index == 25
    assert force_new_cluster(disk, LIMITS, ALONE, STAMP).index == 26 + INDEX_JUMP
    assert Store.open(disk, ME, LIMITS, ALONE).start.index == 25


def interrupted(make: Callable[[], MemoryDisk], change: Callable[[MemoryDisk], object]) -> list[MemoryDisk]:
    """The directory as each moment of a change would leave it: the process ended before one of its steps, and then
    perhaps the power went."""
    left = []
    whole = make()
    before = whole.changes
    change(whole)
    for step in range(before, whole.changes):
        disk = make()
        disk.stop_at = step
        with pytest.raises(Stopped):
            change(disk)
        disk.stop_at = None
        left.append(disk.copy())
        disk.crash(random.Random(step))
        left.append(disk)
    assert len(left) > 3
    return left


def test_a_crash_while_forcing_leaves_a_directory_that_can_be_forced_again() -> None:
    """And in between nothing starts that could contradict the rest of the cluster."""
    for disk in interrupted(filled, lambda disk: force_new_cluster(disk, LIMITS, ALONE, STAMP)):
        found = inspect(disk, LIMITS)
        assert found.refusal is None
        assert found.hard_state.term >= found.last.term
        assert found.configuration == THREE or found.last.index == 31 + INDEX_JUMP
        last = force_new_cluster(disk, LIMITS, ALONE, STAMP)
        assert Store.open(disk, ME, LIMITS, ALONE).last == last


def test_a_rebuilt_node_keeps_its_vote_and_withholds_what_it_acknowledged() -> None:
    """A node that forgot its acknowledgements could elect a leader that lacks what a majority had promised."""
    disk = filled(snapshot_at=20)
    assert rebuild(disk, LIMITS).acknowledged == 30
    store = open_store(disk)
    assert (store.hard_state, store.last, store.snapshot) == (HardState(Term(3), NodeId("n2")), START, None)
    assert store.withheld == 30


def test_a_rebuilt_node_is_whole_when_it_is_refilled() -> None:
    """By a snapshot and entries, as its leader sends them."""
    healthy = open_store(filled(snapshot_at=20))
    disk = filled()
    rebuild(disk, LIMITS)
    store = open_store(disk)
    assert healthy.snapshot is not None
    store.reset(send_snapshot(healthy, healthy.snapshot, store))
    assert open_store(disk).withheld == 30
    store.save(None, [entry for entry in read_all(healthy) if entry.first > 20])
    again = open_store(disk)
    assert (again.last, again.withheld) == (healthy.last, 0)


def test_a_damaged_node_is_rebuilt_with_all_that_its_log_named() -> None:
    """Rebuilding is for directories that a node refuses; what they cannot tell any more they may have promised."""
    disk = filled()
    rot(disk, max(name for name in disk.names() if is_segment_name(name)), 70)
    disk.delete(MARK_NAME)
    rebuild(disk, LIMITS)
    assert open_store(disk).withheld == 30


def test_rebuilding_twice_forgets_nothing() -> None:
    """An operator who is not sure calls it again."""
    disk = filled()
    rebuild(disk, LIMITS)
    rebuild(disk, LIMITS)
    assert open_store(disk).withheld == 30


def test_the_only_member_is_not_rebuilt() -> None:
    """Its data would be gone for good."""
    disk = filled()
    force_new_cluster(disk, LIMITS, ALONE, STAMP)
    before = disk.changes
    with pytest.raises(StorageError, match="only member"):
        rebuild(disk, LIMITS)
    assert disk.changes == before


def test_a_crash_while_rebuilding_leaves_a_node_that_refuses_or_withholds() -> None:
    """Or one from which nothing is gone yet. It can be rebuilt again in any case."""
    seen = set()
    for disk in interrupted(lambda: filled(snapshot_at=20), lambda disk: rebuild(disk, LIMITS)):
        try:
            store = open_store(disk.copy())
        except StorageError:
            seen.add("refused")
        else:
            assert store.withheld == 30 or store.last.index == 30
            seen.add("withheld" if store.withheld else "whole")
        rebuild(disk, LIMITS)
        assert open_store(disk).withheld == 30
    assert seen == {"whole", "refused", "withheld"}


AT = Position(Index(500), Term(7), 12345, 900)
NEW = Identity("green", NodeId("n1"))


def restored(node: str = "n1") -> MemoryDisk:
    disk = MemoryDisk()
    restore(
        disk, LIMITS, Identity("green", NodeId(node)), bytes(8), THREE, AT, CHUNKS, [(b"end sessions", 2), (b"more", 1)]
    )
    return disk


def test_a_restored_member_begins_with_the_snapshot_the_gap_and_the_commands() -> None:
    """In a cluster of another name, with members of its own."""
    store = Store.open(restored(), NEW, LIMITS, THREE)
    assert store.snapshot is not None
    assert (store.snapshot.position, store.snapshot.configuration, store.start) == (AT, THREE, AT)
    assert list(store.snapshots.chunks(store.snapshot)) == list(CHUNKS)
    gap, first, second = read_all(store)
    assert (gap.kind, gap.first, gap.count) == (EntryKind.NOOP, 501, INDEX_JUMP)
    assert (bytes(first.payload), first.count, bytes(second.payload)) == (b"end sessions", 2, b"more")
    assert {gap.term, first.term, second.term, store.hard_state.term} == {restored_term(AT)}
    assert (store.hard_state.vote, store.withheld) == (NodeId("n1"), 0)


def test_members_restored_alike_come_out_alike() -> None:
    """Each node reads the same file by itself; logs that differed in one byte would be taken for damaged ones."""
    one, other = restored("n1"), restored("n2")
    for name in one.names():
        if name != META_NAME:
            assert one.read(name, 0, one.size(name)) == other.read(name, 0, other.size(name)), name


def test_a_directory_that_holds_something_is_not_restored_into() -> None:
    """Whatever it is, somebody may still need it."""
    with pytest.raises(StorageError, match="not empty"):
        restore(filled(), LIMITS, NEW, bytes(8), THREE, AT, CHUNKS, [])


def test_a_crash_while_restoring_leaves_a_directory_that_no_node_takes() -> None:
    """Half a restored state must never pass for a new node's empty one."""

    def make() -> MemoryDisk:
        return MemoryDisk()

    for disk in interrupted(make, lambda disk: restore(disk, LIMITS, NEW, bytes(8), THREE, AT, CHUNKS, [])):
        if META_NAME in disk.names():
            assert Store.open(disk, NEW, LIMITS, THREE).last.index == 500 + INDEX_JUMP
            continue
        try:
            store = Store.open(disk, NEW, LIMITS, THREE)
        except StorageError:
            continue
        assert store.last == START and store.snapshot is None


def test_a_node_that_differed_from_the_others_is_rebuilt_and_starts_again() -> None:
    """Nothing of its state is used, and nothing of what it promised is forgotten; it is no ground for a new cluster."""
    disk = filled()
    Store.open(disk, ME, LIMITS, THREE).fence(Index(7))
    assert inspect(disk, LIMITS).refusal == "its state was found to differ from that of the cluster at index 7"
    with pytest.raises(StorageError, match="at index 7"):
        force_new_cluster(disk, LIMITS, ALONE, STAMP)
    rebuild(disk, LIMITS)
    found = inspect(disk, LIMITS)
    assert (found.refusal, found.fenced, found.acknowledged) == (None, 0, 30)
    store = open_store(disk)
    assert (store.last, store.withheld) == (START, 30)
