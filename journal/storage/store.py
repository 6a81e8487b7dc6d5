"""The replica's one door to its data directory: hard state, log and snapshots behind one front.

Sees to what concerns more than one of them: that a directory is complete and this node's own, that the log
and the newest snapshot fit together, how far acknowledged entries are covered, and that nothing is written
any more once a write has failed (R6). Knows nothing of Raft's rules. Called by `journal/replica.py`:
`save`, `reset` and `cut` on the sync worker's thread, `read` on the loop's, `snapshots` on the background
worker's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from journal.errors import DiskFailed, DiskFull, StorageError
from journal.limits import Limits
from journal.record import decode_configuration
from journal.storage.disk import Disk
from journal.storage.metadata import (
    INCARNATION_BYTES,
    MARK_NAME,
    META_NAME,
    META_TEMPORARY,
    Identity,
    Mark,
    Metadata,
)
from journal.storage.scrub import Step, walk
from journal.storage.segment import HEADER_BYTES, segment_name
from journal.storage.snapshots import SnapshotStore
from journal.storage.wal import TEMPORARY, Wal
from journal.values import START, Configuration, Entry, HardState, Index, NodeId, Position, SnapshotMeta

__all__ = ["INCARNATION_BYTES", "Identity", "Store"]

NOBODY = bytes(INCARNATION_BYTES)
"""The incarnation of directories that need none."""


LAST_INDEX = Index(2**64 - 1)


class Store:
    """One node's durable state. Made by `open`."""

    def __init__(self, metadata: Metadata, mark: Mark, wal: Wal, snapshots: SnapshotStore, withheld: Index) -> None:
        self._metadata = metadata
        self._mark = mark
        self._wal = wal
        self.snapshots = snapshots
        self.withheld = withheld
        """What this node acknowledged once and its log does not cover any more, as found at the start; else 0."""
        self._withheld_until = withheld
        """The same, until the log covers it again: so long the mark stays where it is."""
        self._changing = False
        """A change is under way, or one did not end: then nobody knows what is on the disk, and nothing may follow."""
        self._begun: Position | None = None
        """Where the log ended when a save met a full disk: what of its entries is in the log need not come again."""

    @staticmethod
    def open(
        disk: Disk, identity: Identity, limits: Limits, configuration: Configuration, incarnation: bytes = NOBODY
    ) -> Store:
        """Recover what the directory holds; an empty one is made this node's, with `configuration`.

        `incarnation`, INCARNATION_BYTES that nobody can guess, tells a new directory from all others. Raises
        StorageError, having changed nothing, when the directory is another node's, of another version,
        incomplete, or damaged beyond what a crash explains.
        """
        limits.check()
        cluster = hashlib.blake2b(identity.cluster.encode(), digest_size=8).digest()
        if META_NAME not in disk.names():
            _check_unused(disk)
            wal, mark = Wal.create(disk, cluster, limits), Mark.create(disk)
            metadata = Metadata.create(disk, identity, incarnation, configuration)
            return Store(metadata, mark, wal, SnapshotStore(disk, cluster, limits), Index(0))
        metadata = Metadata.load(disk)
        if metadata.identity != identity:
            found = metadata.identity
            raise StorageError(
                f"the data directory belongs to node {found.node!r} of cluster {found.cluster!r}, "
                f"this is node {identity.node!r} of cluster {identity.cluster!r}"
            )
        if metadata.fenced:
            raise StorageError(
                f"the state in this directory differs from that of the other members at index {metadata.fenced}: "
                "rebuild this node from them with jkcs rebuild"
            )
        mark = Mark.load(disk)
        snapshots = SnapshotStore(disk, cluster, limits)
        newest = snapshots.metas()[0] if snapshots.metas() else None
        # Without a mark every tail that is not clean counts as one that was acknowledged.
        acknowledged = LAST_INDEX if mark.lost else mark.index
        wal = Wal.load(disk, cluster, limits, acknowledged, newest.position if newest else START)
        restart = _find_restart(wal, newest)
        alone = _is_alone(identity.node, metadata.configuration, newest, wal)
        if mark.lost:
            _replace_mark(mark, wal, newest, alone)
        withheld = _find_withheld(wal.last, mark, restart)
        if withheld and alone:
            raise StorageError(
                f"entries up to index {withheld} were acknowledged, the log ends at {wal.last.index}, "
                "and no other member has them"
            )
        if newest is not None and newest.position.term > metadata.hard_state.term:
            # A received snapshot may be in its place before the term that it came in is. A vote in a term as new would
            # have been durable before it left: there was none.
            metadata.hard_state = HardState(newest.position.term)
        metadata.repair()
        mark.repair()
        snapshots.repair()
        wal.repair()
        store = Store(metadata, mark, wal, snapshots, withheld)
        if restart is not None:
            store.reset(restart)
        return store

    @property
    def hard_state(self) -> HardState:
        return self._metadata.hard_state

    @property
    def configuration(self) -> Configuration:
        """The one that the newest snapshot holds, without a snapshot the one the log began with."""
        newest = self.snapshot
        return self._metadata.configuration if newest is None else newest.configuration

    def configurations(self) -> list[Entry]:
        """The entries behind the newest snapshot that change the configuration, as found at the start."""
        newest = self.snapshot
        return self._wal.configurations(newest.position.index if newest is not None else START.index)

    @property
    def incarnation(self) -> bytes:
        """Of this data directory."""
        return self._metadata.incarnation

    @property
    def met(self) -> Mapping[NodeId, bytes]:
        """The incarnation in which each other node was met first."""
        return self._metadata.met

    def meet(self, node: NodeId, incarnation: bytes) -> None:
        """Remember a node's incarnation. Durable on return. Raises DiskFailed."""
        with self._change():
            self._metadata.meet(node, incarnation)

    @property
    def snapshot(self) -> SnapshotMeta | None:
        """The newest good one."""
        metas = self.snapshots.metas()
        return metas[0] if metas else None

    @property
    def start(self) -> Position:
        """Right before the oldest entry of the log."""
        return self._wal.start

    @property
    def last(self) -> Position:
        """The end of the newest durable entry."""
        return self._wal.last

    def tail(self, bytes_max: int) -> tuple[Position, list[Entry]]:
        """The newest entries, about `bytes_max` of them, and the position before them."""
        return self._wal.tail(bytes_max)

    def save(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        """Make the hard state durable, then the entries, in place of what the log has from the first of them on.

        One write and one sync for all entries, but where a segment ends between them. Raises DiskFailed;
        then the state on disk is unknown, and every later call raises it too. Raises DiskFull when there is
        no room; then the hard state is durable, nothing of the log that may be acknowledged is lost, and the
        same save, or one of it merged with later ones, is to be tried again.
        """
        with self._change():
            if hard_state is not None:
                self._metadata.save(hard_state, self._metadata.configuration)
            entries = self._not_begun(entries)
            if not entries:
                return
            first = entries[0].first
            if first <= self._wal.last.index:
                # Before the mark is lowered: without room everything stays as it is.
                self._wal.reserve()
                self._lower_mark(self._wal.position_at(Index(first - 1)))
                self._wal.truncate(first)
            try:
                self._wal.append(entries)
            except DiskFull:
                self._begun = self._wal.last
                raise
            self._raise_mark(self._wal.last)

    def reset(self, meta: SnapshotMeta) -> None:
        """Restart the log, empty, behind a snapshot that is in its place.

        Raises DiskFailed, and DiskFull, having changed nothing.
        """
        assert meta in self.snapshots.metas(), meta
        with self._change():
            self._wal.reserve()
            self._lower_mark(meta.position)
            self._wal.reset(meta.position)
            self._begun = None
            self._raise_mark(meta.position)

    def cut(self, index: Index) -> Position:
        """Drop whole segments that end at or before `index`, the position of the oldest kept snapshot.

        Returns the new start of the log. Raises DiskFailed.
        """
        metas = self.snapshots.metas()
        assert metas and index <= metas[-1].position.index, (index, metas)
        with self._change():
            return self._wal.cut(index)

    def read(self, first: Index, bytes_max: int) -> tuple[Position, list[Entry]]:
        """Durable entries from the one that contains `first` on: at least one, at most about `bytes_max`.

        Also returns the position right before them. May hold entries that a save on its way is about to
        cut away; the caller knows where its own log ends. Raises LogCompacted, and CorruptRecord when the
        log has rotted since it was opened.
        """
        return self._wal.read(first, bytes_max)

    def fence(self, index: Index) -> None:
        """Never let this state be used again: it differs from a quorum's at `index`. Durable on return."""
        with self._change():
            self._metadata.fence(index)

    def scrub(self, piece_bytes: int) -> Iterator[Step]:
        """Read everything again that is cold, about `piece_bytes` at each step. For the background worker's thread."""
        return walk(self._wal, self.snapshots, piece_bytes)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Around everything that writes: whatever ends it but success or a full disk ends the store."""
        if self._changing:
            raise DiskFailed("an earlier write did not end well: what is on the disk is not known")
        self._changing = True
        try:
            yield
        except DiskFull:
            self._changing = False
            raise
        self._changing = False

    def _not_begun(self, entries: list[Entry]) -> list[Entry]:
        """The entries without those that a save which met a full disk has brought into the log already."""
        begun, self._begun = self._begun, None
        if begun is None or begun != self._wal.last:
            return entries
        for number, entry in enumerate(entries):
            if (entry.last, entry.term, entry.crc) == (begun.index, begun.term, begun.crc):
                if number + 1 == len(entries):
                    self._raise_mark(begun)
                return entries[number + 1 :]
        return entries

    def _raise_mark(self, last: Position) -> None:
        if last.index >= self._withheld_until:
            self._withheld_until = Index(0)
            self._mark.set(last.index, last.term)

    def _lower_mark(self, last: Position | None) -> None:
        assert last is not None
        if not self._withheld_until:
            self._mark.lower(last.index, last.term)


def _check_unused(disk: Disk) -> None:
    """Refuse to take a directory that holds something, but for the remains of a first start that was cut off."""
    harmless = {TEMPORARY, META_TEMPORARY, MARK_NAME, segment_name(1)}
    names = disk.names()
    strange = [name for name in names if name not in harmless]
    if strange:
        raise StorageError(f"the data directory has no file {META_NAME} but is not empty: it has {strange[0]}")
    if segment_name(1) in names and disk.read(segment_name(1), HEADER_BYTES, disk.size(segment_name(1))).strip(b"\0"):
        raise StorageError(f"the data directory has a log but no file {META_NAME}: the node's term and vote are lost")


def _find_restart(wal: Wal, newest: SnapshotMeta | None) -> SnapshotMeta | None:
    """The snapshot behind which the log must restart, None when log and snapshot fit together.

    Between the arrival of a snapshot and the restart of the log (`Store.reset`) a crash leaves a log that
    ends before the snapshot or contradicts it; the snapshot is right, only committed entries are in one.
    """
    if newest is None:
        if wal.start != START:
            raise StorageError(f"the log starts at index {wal.start.index + 1} and there is no good snapshot before it")
        return None
    position = newest.position
    if wal.start.index > position.index:
        raise StorageError(
            f"the log starts at index {wal.start.index + 1}, the newest good snapshot ends at {position.index}"
        )
    here = wal.position_at(position.index)
    fits = here is not None and (here.term, here.crc) == (position.term, position.crc)
    return None if fits else newest


def _replace_mark(mark: Mark, wal: Wal, newest: SnapshotMeta | None, alone: bool) -> None:
    """Without the mark nobody knows how far this node acknowledged; its log may end too early, and cleanly.

    So it counts as one entry short: the node keeps out of elections until a leader has sent it more. One that
    is alone has no leader to wait for, and all that can be said is that its log ends well.
    """
    last = max(wal.last, newest.position if newest is not None else START, key=lambda position: position.index)
    if not alone:
        mark.assume(Index(last.index + 1), last.term)
    elif wal.torn:
        raise StorageError(
            f"{MARK_NAME} is damaged, and so is the end of the log at index {wal.last.index + 1}: "
            "nobody knows whether it was acknowledged"
        )
    else:
        mark.assume(last.index, last.term)


def _is_alone(me: NodeId, first: Configuration, newest: SnapshotMeta | None, wal: Wal) -> bool:
    """Whether no other member can have what this node has lost."""
    present = first if newest is None else newest.configuration
    for entry in wal.configurations(newest.position.index if newest is not None else START.index):
        present = decode_configuration(entry)
    return present.members == (me,)


def _find_withheld(last: Position, mark: Mark, restart: SnapshotMeta | None) -> Index:
    """The marked index, where neither the log, which ends at `last`, nor the snapshot covers it; else 0."""
    if restart is not None:
        if restart.position.index <= last.index and not mark.lost:
            # The log contradicts what the cluster has committed, so nothing that was acknowledged
            # in it from there on was ever committed: the promise is void.
            return Index(0)
        last = restart.position
    return mark.index if last.index < mark.index or last.term < mark.term else Index(0)
