"""A backup file: made whole or not at all, and verified to its last byte whenever it is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal.errors import StorageError
from journal.storage.backup import Backup, BackupWriter, Origin
from journal.storage.store import Store
from journal.values import START, SnapshotMeta
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import CHUNKS, LIMITS, ME, end_of, make_entries, open_store, take_snapshot

ORIGIN = Origin(ME.cluster, ME.node, 1_700_000_000_000)


@pytest.fixture
def store() -> Store:
    store = open_store(MemoryDisk())
    entries = make_entries(START, 5)
    store.save(None, entries)
    take_snapshot(store, end_of(entries[-1]))
    return store


@pytest.fixture
def meta(store: Store) -> SnapshotMeta:
    assert store.snapshot is not None
    return store.snapshot


def write(path: Path, store: Store, meta: SnapshotMeta, *, left_out: int = 0) -> Backup:
    writer = BackupWriter(path, ORIGIN, meta.position)
    data = store.snapshots.read(meta, 0, meta.size)
    for at in range(0, meta.size - left_out, 7):
        writer.add(data[at : min(at + 7, meta.size - left_out)])
    return writer.finish(LIMITS)


def test_what_was_written_is_read(tmp_path: Path, store: Store, meta: SnapshotMeta) -> None:
    """Where it comes from, what it is of, and what the machines gave."""
    with write(tmp_path / "file", store, meta) as made:
        assert (made.origin, made.meta) == (ORIGIN, meta)
    with Backup(tmp_path / "file", LIMITS) as again:
        assert list(again.chunks()) == list(CHUNKS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600, "the passwords of sessions are in it"


def test_a_file_that_exists_is_not_written_over(tmp_path: Path, store: Store, meta: SnapshotMeta) -> None:
    """It may be the only good one."""
    write(tmp_path / "file", store, meta).close()
    with pytest.raises(StorageError, match="exists already"):
        BackupWriter(tmp_path / "file", ORIGIN, meta.position)


def test_an_incomplete_download_leaves_nothing_behind(tmp_path: Path, store: Store, meta: SnapshotMeta) -> None:
    """A file that looks like a backup and is none would be found out on the worst of days."""
    with pytest.raises(StorageError, match="damaged or incomplete"):
        write(tmp_path / "file", store, meta, left_out=3)
    assert list(tmp_path.iterdir()) == []


def test_another_snapshot_than_the_one_wanted_is_refused(tmp_path: Path, store: Store, meta: SnapshotMeta) -> None:
    """The name under which it was asked for is what the operator will believe."""
    writer = BackupWriter(tmp_path / "file", ORIGIN, START)
    writer.add(store.snapshots.read(meta, 0, meta.size))
    with pytest.raises(StorageError, match="holds the snapshot at 5"):
        writer.finish(LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_bit_and_every_cut_is_found(tmp_path: Path, store: Store, meta: SnapshotMeta) -> None:
    """Whatever the years do to the file, it is not restored from in silence."""
    write(tmp_path / "file", store, meta).close()
    whole = (tmp_path / "file").read_bytes()
    damaged = [bytes([*whole[:at], whole[at] ^ 1 << at % 8, *whole[at + 1 :]]) for at in range(len(whole))]
    damaged += [whole[:size] for size in range(len(whole))]
    damaged.append(whole + b"\0")
    broken = tmp_path / "broken"
    for content in damaged:
        broken.write_bytes(content)
        with pytest.raises(StorageError, match="broken"):
            Backup(broken, LIMITS).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, meta: SnapshotMeta) -> None:
    """The path was typed by somebody."""
    with pytest.raises(StorageError, match="nowhere"):
        BackupWriter(tmp_path / "nowhere" / "file", ORIGIN, meta.position)
    with pytest.raises(StorageError, match="cannot read"):
        Backup(tmp_path / "nowhere", LIMITS)
