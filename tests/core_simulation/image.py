"""What one node has on its disk: hard state, log and newest snapshot, as they survive a crash.

In memory, but with the reader's interface of the real store and its rule about the acknowledged mark (R5).
Knows nothing of time: `node.py` says when a write is done, and how much of one a crash leaves.
"""

from __future__ import annotations

from bisect import bisect_left

from journal.errors import LogCompacted
from journal.values import START, Entry, EntryKind, HardState, Index, Position, SnapshotMeta


def position_after(entry: Entry) -> Position:
    """The end of an entry."""
    return Position(entry.last, entry.term, entry.crc, entry.stamp)


class Image:
    """The durable state of one node."""

    __slots__ = ("entries", "hard_state", "lasts", "lost", "mark", "snapshot", "start", "withheld_until")

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.start = START
        """Where the log begins."""
        self.entries: list[Entry] = []
        self.lasts: list[Index] = []
        """The last index of each entry, for bisection."""
        self.snapshot: SnapshotMeta | None = None
        """Invariant: start <= snapshot."""
        self.mark = Index(0)
        """How far this node has acknowledged."""
        self.withheld_until = Index(0)
        """Above 0 while the log does not cover what was acknowledged; the mark then stays where it is."""
        self.lost: dict[int, int] = {}
        """Last index and checksum of the entries that rot took from the tail: they had been acknowledged."""

    @property
    def last(self) -> Position:
        return position_after(self.entries[-1]) if self.entries else self.start

    @property
    def last_index(self) -> Index:
        return self.lasts[-1] if self.lasts else self.start.index

    def append(self, entries: list[Entry]) -> tuple[list[Entry], Position]:
        """Write entries; returns those that had to make room for them, and the position before them."""
        removed: list[Entry] = []
        first = entries[0].first
        if first <= self.last_index:
            at = bisect_left(self.lasts, first)
            removed = self.entries[at:]
            del self.entries[at:], self.lasts[at:]
            if not self.withheld_until:  # as the store does: until then it says what was promised
                self.mark = min(self.mark, Index(first - 1))
        previous = self.last
        for entry in entries:
            assert entry.first == self.last_index + 1, (entry.first, self.last_index)
            self.entries.append(entry)
            self.lasts.append(entry.last)
        return removed, previous

    def acknowledge(self) -> None:
        """All that is written may now be vouched for."""
        last = self.last_index
        if last >= self.withheld_until:
            self.withheld_until = Index(0)
            self.mark = last

    def lose_tail(self, entries: int) -> int:
        """Rot takes the last `entries` entries; those that a snapshot covers do not matter. Returns how many."""
        least = self.snapshot.position.index if self.snapshot else self.start.index
        count = 0
        while count < entries and self.lasts and self.lasts[-1] > least:
            entry = self.entries.pop()
            self.lasts.pop()
            if entry.last <= self.mark:
                self.lost[entry.last] = entry.crc
            count += 1
        if self.last_index < self.mark:
            self.withheld_until = self.mark
        return count

    def read(self, first: Index, bytes_max: int) -> tuple[Position, list[Entry]]:
        """As `LogReader.read`."""
        if first <= self.start.index:
            raise LogCompacted(f"{first} <= {self.start.index}")
        at = bisect_left(self.lasts, first)
        assert at < len(self.entries), (first, self.last_index)
        before = position_after(self.entries[at - 1]) if at else self.start
        size, end = len(self.entries[at].record), at + 1
        while end < len(self.entries) and (size := size + len(self.entries[end].record)) <= bytes_max:
            end += 1
        return before, self.entries[at:end]

    def configurations(self, after: Index) -> list[Entry]:
        """The entries behind `after` that change the configuration."""
        return [entry for entry in self.entries if entry.kind is EntryKind.CONFIGURATION and entry.first > after]

    def holds(self, index: Index, crc: int) -> bool:
        """Whether the log holds this end of an entry, or once held and acknowledged it."""
        if index <= self.start.index:
            return True
        at = bisect_left(self.lasts, index)
        if at < len(self.lasts) and self.lasts[at] == index and self.entries[at].crc == crc:
            return True
        return self.lost.get(index) == crc

    def position_at(self, index: Index) -> Position:
        """The position of an end of an entry of the log, or of its start."""
        if index == self.start.index:
            return self.start
        at = bisect_left(self.lasts, index)
        assert self.lasts[at] == index, (index, self.lasts[at])
        return position_after(self.entries[at])

    def cut(self, entries_kept: int, up_to: Index) -> Position:
        """Cut the log up to some entries before `up_to`; returns its new start."""
        at = max(bisect_left(self.lasts, up_to) + 1 - entries_kept, 0)
        if at:
            self.start = position_after(self.entries[at - 1])
            del self.entries[:at], self.lasts[:at]
        return self.start

    def install(self, meta: SnapshotMeta) -> None:
        """A received snapshot takes the place of everything."""
        self.snapshot = meta
        self.start = meta.position
        self.entries.clear()
        self.lasts.clear()
        self.acknowledge()
