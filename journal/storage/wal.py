"""The log on disk: segments in a row, the last of which is written.

Appends, cuts at either end, reads, and decides at the start what a damaged tail means (by the table in
`recovery.py`). Every change leaves, at each of its steps, a directory from which `load` comes to a state
before or after the change:

- a segment appears whole, by a rename: with its header, and what was copied into it, already durable;
- segments are removed one by one from one end, each removal durable before the next, so that what is left
  has no hole;
- cutting the newest entries copies what stays of their segment and renames the copy over it. Zeroing in
  place instead would, half done, look like rot in the middle of the log;
- a restart behind a snapshot first puts its new segment in place and then removes the old ones; a break in
  the row is therefore right where a segment starts exactly at the newest snapshot, and nowhere else.

A full disk is met before anything is changed, as far as one spare segment goes: it is reserved all the time,
so the log has room for that much more, whatever else fills the disk (R12).

Knows nothing of metadata and of what a snapshot holds. Called by `store.py`: `read` from the loop's thread,
everything else from the sync worker's.
"""

from __future__ import annotations

import threading
from bisect import bisect_left

from journal.errors import CorruptRecord, DiskFull, LogCompacted, StorageError
from journal.limits import Limits
from journal.storage.disk import Disk
from journal.storage.recovery import Decision, Facts, decide
from journal.storage.segment import BATCH_OVERHEAD_BYTES, Segment, is_segment_name
from journal.values import START, Entry, Index, Position

TEMPORARY = "log.new"
"""A segment that is not in its place yet."""
PAGE_BYTES = 1 << 20
SPARE_TRIES = 16
"""How often a spare is tried for on a full disk while one segment fills."""


class Wal:
    """The segments of one data directory. Invariant: each starts at the position where the one before it ends."""

    def __init__(self, disk: Disk, cluster: bytes, limits: Limits, segments: tuple[Segment, ...]) -> None:
        self._disk = disk
        self._cluster = cluster
        self._limits = limits
        self._segments = segments
        """Oldest first, never empty. Replaced, not changed: a reader on another thread may hold it."""
        self._switch = threading.Lock()
        """Held while a file is replaced by another of the same name, and by readers."""
        self._spare = False
        """`TEMPORARY` is reserved, durable and all zeros: the next roll need not wait for an allocation."""
        self._spare_due = 0
        """Where the written segment must have come to before a spare is tried for again. Not 0: the disk was full."""
        self._leftovers: list[str] = []
        """Found by `load`, for `repair`: segments of an unfinished restart, oldest first ..."""
        self._damage_end = 0
        """... and where the damage ends that is to be zeroed in the last segment."""

    @staticmethod
    def create(disk: Disk, cluster: bytes, limits: Limits) -> Wal:
        """The empty log of a new node."""
        wal = Wal(disk, cluster, limits, ())
        wal._install(wal._make_segment(START), ())
        return wal

    @staticmethod
    def load(disk: Disk, cluster: bytes, limits: Limits, acknowledged: Index, newest_snapshot: Position) -> Wal:
        """Read and check the whole log and change nothing; `repair` must follow.

        Raises StorageError when the log is damaged in a way that no crash explains.
        """
        names = [name for name in disk.names() if is_segment_name(name)]
        if not names:
            raise StorageError("the log is missing: there is no file log-*")
        segments = [Segment.load(disk, name, cluster, limits.record_bytes_max) for name in names]
        wal = Wal(disk, cluster, limits, ())
        kept: list[Segment] = []
        for number, segment in enumerate(segments):
            scan = segment.scan()
            following = segments[number + 1] if number + 1 < len(segments) else None
            broken = following is not None and following.start != segment.last
            restarted = broken and following is not None and following.start == newest_snapshot
            if following is None:
                promised = acknowledged > segment.last.index
            else:
                promised = broken and not restarted
            decision = decide(
                Facts(
                    last_segment=following is None,
                    all_zero=scan.all_zero,
                    out_of_place=scan.out_of_place,
                    later_batch=scan.later_batch,
                    missing_sector=scan.missing_sector,
                    acknowledged=promised,
                )
            )
            if decision is Decision.CORRUPT:
                if following is not None and scan.all_zero:
                    raise StorageError(
                        f"the log has a hole: {segment.name} ends at index {segment.last.index}, "
                        f"{following.name} does not start there"
                    )
                raise StorageError(f"the log is damaged: {scan.error}")
            wal._damage_end = scan.damage_end
            kept.append(segment)
            if restarted:
                wal._leftovers += [old.name for old in kept]
                kept.clear()
        wal._segments = tuple(kept)
        return wal

    def repair(self) -> None:
        """Make durable what `load` believed, and clear away what it did not."""
        disk = self._disk
        if TEMPORARY in disk.names():
            disk.remove(TEMPORARY)
        # What was read may be in the page cache only. A name may be, too: of any file, not only of a segment.
        self._segments[-1].clear_behind(self._damage_end)
        self._damage_end = 0
        disk.sync_names()
        for name in reversed(self._leftovers):
            disk.remove(name)
            disk.sync_names()
        self._leftovers.clear()
        self._keep_spare()

    @property
    def start(self) -> Position:
        """Right before the oldest record."""
        return self._segments[0].start

    @property
    def torn(self) -> bool:
        """Whether anything stands behind the last good batch. Ends with `repair`."""
        return self._damage_end > self._segments[-1].end

    @property
    def last(self) -> Position:
        """The end of the newest durable record."""
        return self._segments[-1].last

    def reserve(self) -> None:
        """See to it that the next new segment has its room. Raises DiskFull, having changed nothing."""
        if not self._spare:
            self._disk.create(TEMPORARY, self._limits.segment_bytes)
            self._disk.sync(TEMPORARY)
            self._spare = True

    def append(self, entries: list[Entry]) -> None:
        """Write entries behind the last one; durable on return.

        Raises DiskFull; then whole entries, none or the first of them, are in the log and durable.
        """
        index = self.last.index
        for entry in entries:
            assert entry.first == index + 1, (entry.first, index)
            index = entry.last
        while entries:
            active = self._segments[-1]
            fitting = self._fitting(active, entries)
            if fitting == len(entries):
                active.append(entries)
                break
            self.reserve()
            if fitting:
                active.append(entries[:fitting])
                entries = entries[fitting:]
            self._install(self._make_segment(active.last), self._segments)
        self._keep_spare()

    def truncate(self, first: Index) -> None:
        """Cut away every record from the one that starts at `first` on; durable on return.

        Raises DiskFull, having changed nothing, but not right after `reserve`.
        """
        assert self.start.index < first <= self.last.index, (self.start, first, self.last)
        self.reserve()
        while len(self._segments) > 1 and self._segments[-1].start.index + 1 >= first:
            removed = self._segments[-1]
            self._segments = self._segments[:-1]
            self._remove(removed)
        if self.last.index >= first:
            self._spare = False
            self._install(self._segments[-1].copy_before(first, TEMPORARY, self._cluster), self._segments[:-1])

    def reset(self, position: Position) -> None:
        """Restart the log, empty, behind a snapshot at `position`; durable on return.

        Raises DiskFull, having changed nothing, but not right after `reserve`.
        """
        assert position.index >= self.start.index, (position, self.start)
        self.reserve()
        # Segments further on than the new one would look like its successors.
        while len(self._segments) > 1 and self._segments[-1].start.index > position.index:
            removed = self._segments[-1]
            self._segments = self._segments[:-1]
            self._remove(removed)
        old = self._segments
        self._install(self._make_segment(position), ())
        for segment in reversed(old):
            if segment.name != self._segments[0].name:
                self._remove(segment)

    def cut(self, index: Index) -> Position:
        """Drop the segments that end at or before `index`, but for the last one. Returns the new start."""
        while len(self._segments) > 1 and self._segments[1].start.index <= index:
            removed = self._segments[0]
            self._segments = self._segments[1:]
            self._remove(removed)
        return self.start

    def read(self, first: Index, bytes_max: int) -> tuple[Position, list[Entry]]:
        """See `Store.read`."""
        with self._switch:
            segments = self._segments
            if first <= segments[0].start.index:
                raise LogCompacted(f"index {first} was cut away, the log starts at {segments[0].start.index + 1}")
            number = bisect_left(segments, first, key=lambda segment: segment.start.index) - 1
            return segments[number].read(first, bytes_max)

    def closed(self) -> tuple[Segment, ...]:
        """The segments that are not written any more."""
        return self._segments[:-1]

    def check(self, segment: Segment, after: Index, bytes_max: int) -> Index:
        """Read about `bytes_max` of a closed segment behind `after` again, from the disk. Returns how far it is good.

        Raises CorruptRecord, or LogCompacted when the segment was cut away meanwhile. Any thread may call it.
        """
        with self._switch:
            if segment not in self._segments:
                raise LogCompacted(f"{segment.name} was cut away")
            if after == segment.start.index:
                self._disk.forget(segment.name)
                try:
                    Segment.load(self._disk, segment.name, self._cluster, self._limits.record_bytes_max)
                except StorageError as error:
                    raise CorruptRecord(str(error)) from None
                except FileNotFoundError:
                    raise LogCompacted(f"{segment.name} was cut away") from None
            return segment.check(after + 1, bytes_max)

    def configurations(self, after: Index) -> list[Entry]:
        """The entries of kind CONFIGURATION behind `after` that the log held when it was loaded."""
        found = [index for segment in self._segments for index in segment.configurations if index > after]
        return [self.read(Index(index), 1)[1][0] for index in found]

    def position_at(self, index: Index) -> Position | None:
        """The position at `index`, or None where no record ends there."""
        if not self.start.index <= index <= self.last.index:
            return None
        if index == self.last.index:
            return self.last
        before, _ = self.read(Index(index + 1), 1)
        return before if before.index == index else None

    def tail(self, bytes_max: int) -> tuple[Position, list[Entry]]:
        """The newest entries, at most about `bytes_max` but the very newest in any case."""
        entries: list[Entry] = []
        before = self.last
        first = Index(self.last.index + 1)
        for segment in reversed(self._segments):
            if segment.last == segment.start:
                continue
            if bytes_max <= 0 and first <= self.last.index:
                break
            first = segment.first_within(bytes_max)
            if first > segment.start.index + 1:
                break
            bytes_max -= segment.end
        while first <= self.last.index:
            position, page = self.read(first, PAGE_BYTES)
            before = before if entries else position
            entries += page
            first = Index(page[-1].last + 1)
        return before, entries

    def _fitting(self, segment: Segment, entries: list[Entry]) -> int:
        """How many of the entries go into the segment. An empty one takes one of any size: it grows."""
        room = self._limits.segment_bytes - segment.end - BATCH_OVERHEAD_BYTES
        for number, entry in enumerate(entries):
            room -= len(entry.record)
            if room < 0:
                return number or (1 if segment.last == segment.start else 0)
        return len(entries)

    def _keep_spare(self) -> None:
        """Reserve the next segment long before it is needed. Without room for it the log still has this one."""
        active = self._segments[-1]
        if self._spare or active.end < self._spare_due:
            return
        try:
            self.reserve()
        except DiskFull:
            self._spare_due = active.end + self._limits.segment_bytes // SPARE_TRIES

    def _make_segment(self, start: Position) -> Segment:
        self.reserve()
        self._spare = False
        return Segment.make(self._disk, TEMPORARY, start, self._cluster, self._limits.record_bytes_max)

    def _install(self, segment: Segment, before: tuple[Segment, ...]) -> None:
        """Put the segment made in `TEMPORARY` in its place, behind `before`; durable on return."""
        with self._switch:
            self._disk.rename(TEMPORARY, segment.name)
            self._segments = (*before, segment)
        self._spare_due = 0
        self._disk.sync_names()

    def _remove(self, segment: Segment) -> None:
        self._disk.remove(segment.name)
        self._disk.sync_names()
