"""Entries, limits and small stores that the tests of this package share."""

from __future__ import annotations

from collections.abc import Sequence

from journal.limits import Limits
from journal.record import make_entry
from journal.storage.disk import Disk
from journal.storage.store import Identity, Store
from journal.values import Configuration, Entry, EntryKind, Index, NodeId, Position, SnapshotMeta

LIMITS = Limits(record_bytes_max=1024, append_bytes_max=1024, segment_bytes=2048)
ME = Identity("blue", NodeId("n1"))
THREE = Configuration((NodeId("n1"), NodeId("n2"), NodeId("n3")))
CLUSTER = b"8 bytes!"


def end_of(entry: Entry) -> Position:
    return Position(entry.last, entry.term, entry.crc, entry.stamp)


def make_entries(
    after: Position, number: int, *, term: int = 0, size: int = 100, count: int = 1, fill: bytes = b"v"
) -> list[Entry]:
    """Entries that follow `after`, of `count` commands and `size` bytes each; in its term if none is given."""
    term = term or max(after.term, 1)
    entries = []
    for _ in range(number):
        payload = (fill + str(after.index).encode()).ljust(size, b".")
        entry = make_entry(after.index + 1, term, after.stamp + 1, EntryKind.COMMANDS, payload, after.crc, count=count)
        entries.append(entry)
        after = end_of(entry)
    return entries


def open_store(disk: Disk, limits: Limits = LIMITS) -> Store:
    return Store.open(disk, ME, limits, THREE)


def save_each(store: Store, entries: Sequence[Entry]) -> None:
    for entry in entries:
        store.save(None, [entry])


def read_all(store: Store) -> list[Entry]:
    """Every entry of the log, through `read`, in small pages."""
    entries: list[Entry] = []
    before = store.start
    while before.index < store.last.index:
        position, page = store.read(Index(before.index + 1), 300)
        assert position == before, (position, before)
        entries += page
        before = end_of(page[-1])
    assert before == store.last
    return entries


CHUNKS = (b"state", b"of the machine")


def take_snapshot(store: Store, position: Position, chunks: Sequence[bytes] = CHUNKS) -> SnapshotMeta:
    writer = store.snapshots.begin(position, THREE)
    for chunk in chunks:
        writer.add(chunk)
    return writer.finish()


def send_snapshot(sender: Store, meta: SnapshotMeta, to: Store, piece_bytes: int = 100) -> SnapshotMeta:
    receiver = to.snapshots.receive(meta)
    while receiver.offset < meta.size:
        receiver.write(receiver.offset, sender.snapshots.read(meta, receiver.offset, piece_bytes))
    return receiver.finish()
