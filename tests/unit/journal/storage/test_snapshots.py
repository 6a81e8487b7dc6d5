"""Snapshots: made, sent, received, verified and removed."""

from __future__ import annotations

import pytest

from journal.errors import CorruptRecord, StorageError
from journal.storage.snapshots import SnapshotStore, is_snapshot_name, snapshot_name
from journal.values import Configuration, Index, NodeId, Position, SnapshotMeta, Term
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import CLUSTER, LIMITS, THREE

CHUNKS = [b"one", b"two" * 300, b"3"]


def at(index: int, term: int = 1) -> Position:
    return Position(Index(index), Term(term), index * 7, index * 1000)


def open_snapshots(disk: MemoryDisk) -> SnapshotStore:
    snapshots = SnapshotStore(disk, CLUSTER, LIMITS)
    snapshots.repair()
    return snapshots


def take(snapshots: SnapshotStore, position: Position, chunks: list[bytes] = CHUNKS) -> SnapshotMeta:
    writer = snapshots.begin(position, THREE)
    for chunk in chunks:
        writer.add(chunk)
    return writer.finish()


def content(disk: MemoryDisk, meta: SnapshotMeta) -> bytes:
    return disk.read(snapshot_name(meta.position), 0, meta.size + 1)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def snapshots(disk: MemoryDisk) -> SnapshotStore:
    return open_snapshots(disk)


@pytest.mark.parametrize("chunks", [[], [b"x"], CHUNKS, [b"c" * 2000] * 40], ids=["none", "one", "three", "many"])
def test_a_snapshot_comes_back_chunk_by_chunk(disk: MemoryDisk, snapshots: SnapshotStore, chunks: list[bytes]) -> None:
    """A machine may give each chunk a meaning of its own."""
    meta = take(snapshots, at(9), chunks)
    again = open_snapshots(disk)
    assert snapshots.metas() == again.metas() == [meta]
    assert list(again.chunks(meta)) == chunks
    assert (meta.position, meta.configuration) == (at(9), THREE)
    assert meta.size == len(content(disk, meta))


def test_chunks_larger_than_one_read_come_back(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single value may be larger than what is read at a time."""
    monkeypatch.setattr("journal.storage.snapshots.READ_BYTES", 64)
    snapshots = open_snapshots(disk)
    chunks = [bytes([n]) * (n * 9 + 1) for n in range(60)]
    assert list(snapshots.chunks(take(snapshots, at(1), chunks))) == chunks


def test_an_empty_chunk_is_not_kept(snapshots: SnapshotStore) -> None:
    """Its place in the file would look like the end."""
    assert list(snapshots.chunks(take(snapshots, at(1), [b"", b"a", b""]))) == [b"a"]


def test_a_finished_snapshot_is_durable_and_an_unfinished_one_leaves_nothing(disk: MemoryDisk) -> None:
    """R7: the name appears only on complete and synced bytes."""
    snapshots = open_snapshots(disk)
    meta = take(snapshots, at(5))
    snapshots.begin(at(6), THREE).add(b"x")
    disk.sync_names()
    disk.crash()
    again = open_snapshots(disk)
    assert again.metas() == [meta]
    assert disk.names() == [snapshot_name(at(5))]


def test_a_given_up_snapshot_leaves_nothing(disk: MemoryDisk, snapshots: SnapshotStore) -> None:
    """Both writers clean up behind themselves."""
    writer = snapshots.begin(at(6), THREE)
    writer.add(b"x")
    writer.abort()
    meta = SnapshotMeta(at(7), THREE, 100, b"")
    receiver = snapshots.receive(meta)
    receiver.abort()
    receiver = snapshots.receive(meta)
    receiver.write(0, b"x")
    receiver.abort()
    assert disk.names() == []


def test_equal_states_make_equal_files(disk: MemoryDisk) -> None:
    """R10: a damaged chunk can be fetched from a peer only if the peer has the same bytes."""
    other = MemoryDisk()
    ours, theirs = take(open_snapshots(disk), at(5)), take(open_snapshots(other), at(5))
    assert ours == theirs and content(disk, ours) == content(other, theirs)


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_a_snapshot_travels_in_pieces_of_any_size(snapshots: SnapshotStore, piece: int) -> None:
    """Also when pieces come twice or too early."""
    meta = take(snapshots, at(8))
    target = open_snapshots(MemoryDisk())
    receiver = target.receive(meta)
    while receiver.offset < meta.size:
        offset = receiver.offset
        data = snapshots.read(meta, offset, piece)
        receiver.write(offset + 1, data)
        receiver.write(offset, data)
        receiver.write(offset, data)
        assert receiver.offset == offset + len(data)
    assert receiver.finish() == meta
    assert target.metas() == [meta]
    assert list(target.chunks(meta)) == CHUNKS


def test_a_received_snapshot_is_verified_to_the_last_byte(snapshots: SnapshotStore) -> None:
    """R10: verified before it is installed; a damaged one leaves nothing and harms nobody."""
    meta = take(snapshots, at(8))
    whole = snapshots.read(meta, 0, meta.size)
    disk = MemoryDisk()
    target = open_snapshots(disk)
    for place in range(0, meta.size, 5):
        damaged = bytearray(whole)
        damaged[place] ^= 8
        receiver = target.receive(meta)
        receiver.write(0, bytes(damaged))
        with pytest.raises((CorruptRecord, StorageError)):
            receiver.finish()
        assert target.metas() == [] and disk.names() == []


def test_giving_up_a_snapshot_that_has_just_become_complete_changes_nothing(snapshots: SnapshotStore) -> None:
    """A newer one may be offered between the last piece and the news of it: `abort` then finds no file to remove."""
    meta = take(snapshots, at(8))
    target = open_snapshots(MemoryDisk())
    receiver = target.receive(meta)
    receiver.write(0, snapshots.read(meta, 0, meta.size))
    receiver.finish()
    receiver.abort()
    assert target.metas() == [meta]


def leave_part(disk: MemoryDisk, meta: SnapshotMeta, part: bytes) -> SnapshotStore:
    """A store that was stopped while it received `meta`, opened again."""
    open_snapshots(disk).receive(meta).write(0, part)
    return open_snapshots(disk)


def test_a_snapshot_received_in_part_goes_on_from_its_last_whole_chunk(snapshots: SnapshotStore) -> None:
    """A large one may take longer than a connection, a leader or the receiving process lasts."""
    meta = take(snapshots, at(8))
    whole = snapshots.read(meta, 0, meta.size)
    offsets = set()
    for size in range(meta.size + 1):
        target = leave_part(MemoryDisk(), meta, whole[:size])
        receiver = target.receive(meta)
        receiver.open()
        assert receiver.offset <= size
        offsets.add(receiver.offset)
        while receiver.offset < meta.size:
            receiver.write(receiver.offset, whole[receiver.offset :][:100])
        assert receiver.finish() == meta
        assert list(target.chunks(meta)) == CHUNKS
    assert len(offsets) == 2 + len(CHUNKS), "nothing, the header, and behind each chunk"


def test_what_a_power_failure_made_of_a_part_is_not_taken_up(snapshots: SnapshotStore) -> None:
    """It was never synced: any of it may be missing, old or zero."""
    meta = take(snapshots, at(8))
    whole = snapshots.read(meta, 0, meta.size)
    for place in range(0, meta.size - 60, 7):
        for damaged in (whole[:place] + bytes(len(whole) - place), whole[:place] + b"\x5a" + whole[place + 1 :]):
            target = leave_part(MemoryDisk(), meta, damaged)
            receiver = target.receive(meta)
            receiver.open()
            assert receiver.offset <= place
            receiver.write(receiver.offset, whole[receiver.offset :])
            receiver.finish()
            assert list(target.chunks(meta)) == CHUNKS


def test_a_part_of_another_snapshot_is_not_taken_up(snapshots: SnapshotStore) -> None:
    """Another release may make other bytes of the same state: only the one with the same digest goes on."""
    meta, other = take(snapshots, at(8)), take(open_snapshots(MemoryDisk()), at(8), [b"other"])
    disk = MemoryDisk()
    target = leave_part(disk, other, b"x" * 50)
    assert len(disk.names()) == 1
    receiver = target.receive(meta)
    receiver.write(0, snapshots.read(meta, 0, meta.size))
    receiver.finish()
    assert disk.names() == [snapshot_name(at(8))], "and the other is gone"


def test_a_part_that_is_older_than_a_snapshot_here_is_removed_at_the_start(snapshots: SnapshotStore) -> None:
    """Nobody will ever send the rest of it."""
    meta, disk = take(snapshots, at(8)), MemoryDisk()
    target = leave_part(disk, meta, snapshots.read(meta, 0, 100))
    take(target, at(9))
    open_snapshots(disk)
    assert disk.names() == [snapshot_name(at(9))]


def test_a_download_begins_when_every_byte_was_verified(disk: MemoryDisk, snapshots: SnapshotStore) -> None:
    """Whoever takes a copy away may find out too late that it is none."""
    old, _ = take(snapshots, at(8)), take(snapshots, at(9))
    assert open_snapshots(disk).read_checked(old, 10, 50) == content(disk, old)[10:60]
    damaged = bytearray(content(disk, old))
    damaged[old.size // 2] ^= 1
    disk.put(snapshot_name(at(8)), bytes(damaged))
    with pytest.raises(CorruptRecord):
        open_snapshots(disk).read_checked(old, 0, 50)


def test_a_received_snapshot_must_be_the_announced_one(snapshots: SnapshotStore) -> None:
    """Position, members, size and digest are what the leader said, or it is refused."""
    meta = take(snapshots, at(8))
    whole = snapshots.read(meta, 0, meta.size)
    others = Configuration((NodeId("n1"),))
    for lie in (
        SnapshotMeta(at(9), THREE, meta.size, meta.digest),
        SnapshotMeta(at(8), others, meta.size, meta.digest),
        SnapshotMeta(at(8), THREE, meta.size, bytes(32)),
    ):
        receiver = open_snapshots(MemoryDisk()).receive(lie)
        receiver.write(0, whole)
        with pytest.raises(CorruptRecord):
            receiver.finish()
    receiver = open_snapshots(MemoryDisk()).receive(meta)
    receiver.write(0, whole[:-1])
    with pytest.raises(CorruptRecord, match=f"{meta.size - 1} of {meta.size} bytes"):
        receiver.finish()
    receiver = open_snapshots(MemoryDisk()).receive(meta)
    with pytest.raises(CorruptRecord, match="longer"):
        receiver.write(0, whole + b"x")


def test_a_damaged_newest_snapshot_falls_back_to_the_one_before(disk: MemoryDisk, snapshots: SnapshotStore) -> None:
    """R10: two are kept for this; every byte of the newest is checked at the start."""
    older, newest = take(snapshots, at(5)), take(snapshots, at(9))
    whole = content(disk, newest)
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 2
        disk.put(snapshot_name(at(9)), bytes(damaged))
        assert open_snapshots(disk).metas() == [older], place
    for size in range(0, len(whole), 7):
        disk.put(snapshot_name(at(9)), whole[:size])
        assert open_snapshots(disk).metas() == [older], size
    disk.put(snapshot_name(at(9)), whole + b"x")
    assert open_snapshots(disk).metas() == [older]


def test_a_snapshot_that_rots_later_is_noticed_when_it_is_used(disk: MemoryDisk, snapshots: SnapshotStore) -> None:
    """A chunk is checked before the machine sees it."""
    meta = take(snapshots, at(5))
    place = content(disk, meta).index(b"twotwo")
    disk.write(snapshot_name(at(5)), place, [b"X"])
    chunks = snapshots.chunks(meta)
    assert next(chunks) == b"one"
    with pytest.raises(CorruptRecord, match="chunk"):
        next(chunks)


def test_only_good_snapshots_count_as_kept(disk: MemoryDisk, snapshots: SnapshotStore) -> None:
    """ZooKeeper's purge kept the newest, good or not (ZK-3231)."""
    metas = [take(snapshots, at(index)) for index in (1, 2, 3, 4)]
    disk.write(snapshot_name(at(3)), 100, [b"XXX"])
    again = open_snapshots(disk)
    assert again.prune(2) == metas[1]
    assert [meta.position.index for meta in again.metas()] == [4, 2]
    assert disk.names() == [snapshot_name(at(index)) for index in (2, 3, 4)]
    take(again, at(5))
    assert again.prune(2) == metas[3]
    assert disk.names() == [snapshot_name(at(index)) for index in (4, 5)]


def test_pruning_fewer_than_asked_removes_nothing(disk: MemoryDisk, snapshots: SnapshotStore) -> None:
    """A damaged file may be the last hope of an operator as long as there are too few good ones."""
    assert snapshots.prune(2) is None
    only = take(snapshots, at(3))
    disk.put(snapshot_name(at(2)), b"rubbish")
    again = open_snapshots(disk)
    assert again.prune(2) == only
    assert len(disk.names()) == 2


def test_a_new_snapshot_replaces_a_damaged_one_of_its_name(disk: MemoryDisk) -> None:
    """The same index is reached again after a restart."""
    disk.put(snapshot_name(at(3)), b"rubbish")
    snapshots = open_snapshots(disk)
    assert snapshots.damaged == [snapshot_name(at(3))]
    meta = take(snapshots, at(3))
    assert snapshots.damaged == [] and snapshots.metas() == [meta]
    assert take(snapshots, at(3)) == meta and snapshots.metas() == [meta]


def test_reading_a_pruned_snapshot_says_so(snapshots: SnapshotStore) -> None:
    """It may be on its way to a peer when newer ones push it out."""
    old = take(snapshots, at(1))
    take(snapshots, at(2))
    snapshots.prune(1)
    with pytest.raises(FileNotFoundError):
        snapshots.read(old, 0, 10)


def test_foreign_snapshots_and_versions_are_refused_by_name(
    disk: MemoryDisk, snapshots: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copied directory or a newer program's is no damage to fall back from."""
    take(snapshots, at(1))
    with pytest.raises(StorageError, match="another cluster"):
        SnapshotStore(disk, b"stranger", LIMITS)
    with monkeypatch.context() as newer:
        newer.setattr("journal.storage.snapshots.VERSION", 3)
        other = MemoryDisk()
        meta = take(open_snapshots(other), at(2))
        disk.put(snapshot_name(at(2)), content(other, meta))
    with pytest.raises(StorageError, match="format version 3, this program knows version 2"):
        open_snapshots(disk)


def test_names_are_told_from_others() -> None:
    """Only our own files are ever touched."""
    assert is_snapshot_name(snapshot_name(at(5)))
    assert not any(map(is_snapshot_name, ["snap-1-1", snapshot_name(at(5)) + ".new", "log-00000000000000000001"]))
