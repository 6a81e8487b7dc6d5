"""Reading cold files again, in small pieces, to find rot before the last good copy of what has rotted is gone (R14).

Cold are the segments that are not written any more, and the snapshots; what is written or short-lived is read
back as it is written, or at the start. Finds and names, and takes away only trust: a rotten snapshot no longer
counts as one of those that must be good before the log is cut (R10). Called by `journal/scrubbing.py`, which
has its pieces done on the background worker's thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from journal.errors import CorruptRecord, DiskFailed, LogCompacted
from journal.storage.segment import Segment
from journal.storage.snapshots import SnapshotStore, snapshot_name
from journal.storage.wal import Wal
from journal.values import Index, SnapshotMeta


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not any more what was written."""

    file: str
    text: str
    """What is wrong with it, and what of the log is in it."""


Step = int | Damage
"""Bytes that were read and found good, about; or what was found instead."""


def walk(wal: Wal, snapshots: SnapshotStore, piece_bytes: int) -> Iterator[Step]:
    """Check everything that is cold, piece by piece. Ends at the first damage of a file, and goes on to the next."""
    for segment in wal.closed():
        yield from _walk_segment(wal, segment, snapshots, piece_bytes)
    for meta in snapshots.metas():
        yield from _walk_snapshot(snapshots, meta, piece_bytes)


def _walk_segment(wal: Wal, segment: Segment, snapshots: SnapshotStore, piece_bytes: int) -> Iterator[Step]:
    at = segment.start.index
    try:
        while at < segment.last.index:
            at = wal.check(segment, at, piece_bytes)
            yield piece_bytes
    except LogCompacted:
        return
    except (CorruptRecord, DiskFailed) as error:
        yield Damage(segment.name, f"{segment.name}: {error}; {_worth(segment, at, snapshots)}")


def _worth(segment: Segment, good: Index, snapshots: SnapshotStore) -> str:
    """What the damage means, for whoever has to act."""
    lost = f"of indices {segment.start.index + 1} to {segment.last.index} good up to {good}"
    covering = [meta.position.index for meta in snapshots.metas() if meta.position.index >= segment.last.index]
    if covering:
        return f"{lost}; the snapshot at {covering[0]} covers them, and the file goes when newer ones are taken"
    return f"{lost}; no snapshot covers them yet: this node needs them from its peers when it starts again"


def _walk_snapshot(snapshots: SnapshotStore, meta: SnapshotMeta, piece_bytes: int) -> Iterator[Step]:
    name = snapshot_name(meta.position)
    read = 0
    try:
        for chunk in snapshots.chunks_from_disk(meta):
            read += len(chunk)
            if read >= piece_bytes:
                yield read
                read = 0
        yield read
    except FileNotFoundError:
        return  # pruned meanwhile
    except (CorruptRecord, DiskFailed) as error:
        snapshots.distrust(meta)
        yield Damage(name, f"{name}: {error}")
