"""The log as the rules see it: a tail in memory over what the disk has.

Knows nothing of roles, terms of office or peers. Everything that is not yet durable is in memory; what
was trimmed from memory comes from a `LogReader`, which the storage implements. Called by the roles,
and by `core.py`, which hands its entries to the disk and hears when they are safe.

Entries are whole records. Where two logs agree on (index, term) they agree on everything before it and
on where records end, because only a leader cuts records; all indices given to `accept`, `read` and
`page` are therefore ends of records.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from journal.errors import CorruptRecord, LogCompacted
from journal.limits import Limits
from journal.values import Entry, EntryKind, Index, Position, Term

_CONFIGURATION = EntryKind.CONFIGURATION
"""Asked of each entry; an enumeration's member is slow to look up."""


class LogReader(Protocol):
    """The durable part of the log."""

    def read(self, first: Index, bytes_max: int) -> tuple[Position, list[Entry]]:
        """Durable entries from the one that contains `first` on, and the position right before them.

        At least one entry, at most about `bytes_max` bytes. Raises LogCompacted when `first` was cut away.
        """


@dataclass(slots=True)
class LogSlice:
    """Entries that follow each other, with what a follower must have before them."""

    previous_index: Index
    previous_term: Term
    previous_crc: int
    entries: list[Entry]
    """The caller's own list."""


@dataclass(slots=True)
class _Write:
    """Entries up to `last` are on their way to the disk with Ready `number`."""

    number: int
    last: Index
    """Lowered when the log is truncated below it: see `Log._truncate`."""


class Log:
    """A tail of entries in memory over a reader of the durable ones.

    The caller vouches that `entries` lead from `before` to `last`, that the reader has everything between
    `start` and `before`, and that all of it is durable. `configurations` are the entries of that kind which the
    caller's own configuration does not know of yet, be they in memory or not.
    """

    __slots__ = (
        "_before",
        "_bytes",
        "_bytes_max",
        "_entries",
        "_lasts",
        "_reader",
        "_writes",
        "configurations",
        "durable",
        "handed",
        "last_crc",
        "last_index",
        "last_stamp",
        "last_term",
        "start",
    )

    def __init__(
        self,
        reader: LogReader,
        start: Position,
        before: Position,
        entries: list[Entry],
        last: Position,
        limits: Limits,
        configurations: Iterable[Entry] = (),
    ) -> None:
        assert start.index <= before.index, (start, before)
        self._reader = reader
        self.start = start
        """Where the log begins: its predecessors are only in a snapshot. Invariant: start <= _before."""
        self._before = before
        """The position right before the first entry in memory. Everything up to it is durable."""
        self._entries = list(entries)
        self._lasts = [entry.last for entry in entries]
        """The last index of each entry in memory, for bisection."""
        self._bytes = sum(len(entry.record) for entry in entries)
        self._bytes_max = limits.log_memory_bytes_max
        self.configurations = tuple(configurations)
        """The entries that change the configuration, oldest first, committed or not. Replaced, not changed."""
        self._writes: deque[_Write] = deque()
        """What the disk has been given and not vouched for, oldest first."""
        self.last_index: Index
        """The end of the log, kept at hand: each of these is read several times per pass."""
        self.last_term: Term
        self.last_crc: int
        self.last_stamp: int
        self._end()
        assert (self.last_index, self.last_crc) == (last.index, last.crc), (self.last_index, last)
        self.handed: Index = self.last_index
        """Last index given to the disk."""
        self.durable: Index = self.last_index
        """Last index the disk vouched for. Invariant: durable <= handed <= last_index."""

    def append(self, entry: Entry) -> None:
        """Add the leader's own entry."""
        assert entry.first == self.last_index + 1 and entry.term >= self.last_term, (entry.first, self.last_index)
        self._extend([entry])

    def accept(
        self, previous_index: Index, previous_term: Term, previous_crc: int, entries: list[Entry], commit: Index
    ) -> Index | None:
        """Take in a leader's entries; returns how far the logs now agree, None when they do not at `previous`.

        Only a real conflict truncates: an append that is late or came twice holds nothing new, and what
        follows it here may already be acknowledged (RELIABILITY 14). Raises CorruptRecord when a record
        that should be equal is not.
        """
        if previous_index > self.last_index or self.term_at(previous_index) != previous_term:
            return None
        crc = self._crc_at(previous_index)
        if crc != previous_crc:
            raise CorruptRecord(
                f"the log up to index {previous_index}, term {previous_term} differs from the leader's: "
                f"checksum {crc}, the leader has {previous_crc}"
            )
        for at, entry in enumerate(entries):
            if entry.first > self.last_index:
                self._extend(entries[at:] if at else entries)
                break
            mine = self._entry_at(entry.first)
            if mine.term != entry.term:
                assert entry.first > commit, (entry.first, commit, mine.term, entry.term)
                self._truncate(entry.first)
                self._extend(entries[at:])
                break
            if mine.last != entry.last or mine.crc != entry.crc:
                raise CorruptRecord(f"the record of index {entry.first}, term {entry.term} differs from the leader's")
        return entries[-1].last if entries else previous_index

    def term_at(self, index: Index) -> Term | None:
        """The term of the command at `index`; None when it is not in this log, be it cut away or yet to come.

        Never a guess: the term of a compacted index is unknown, not 0 (RELIABILITY 17).
        """
        if index == self.last_index:
            return self.last_term
        if index > self.last_index or index < self.start.index:
            return None
        if index == self._before.index:
            return self._before.term
        if index == self.start.index:
            return self.start.term
        return self._entry_at(index).term

    def ends_record(self, index: Index) -> bool:
        """Whether a record of this log ends at `index`."""
        return self.start.index <= index <= self.last_index and self._crc_at(index) is not None

    def agreement(self, limit: Index, term_max: Term) -> Index | None:
        """The last end of a record at or before `limit` whose term is at most `term_max`.

        Another log whose term at `limit` is `term_max` cannot agree with this one anywhere above it. None
        when it would lie before the start of this log.
        """
        low, high = self.start.index, Index(min(limit, self.last_index))
        if high < low or self.start.term > term_max:
            return None
        if not self._term_within(high, term_max):
            high = Index(high - 1)  # terms never fall along a log, so the border can be found by halving
            while low < high:
                middle = Index((low + high + 1) // 2)
                if self._term_within(middle, term_max):
                    low = middle
                else:
                    high = Index(middle - 1)
        if high in (self.last_index, self._before.index, self.start.index):
            return high
        entry = self._entry_at(high)
        return high if entry.last == high else Index(entry.first - 1)

    @property
    def memory_bytes(self) -> int:
        """Records held in memory."""
        return self._bytes

    def read(self, first: Index, bytes_max: int) -> LogSlice:
        """Entries from `first` on: at least one when there is one, at most about `bytes_max` bytes.

        May be shorter than it could be where memory begins. Raises LogCompacted.
        """
        if first > self._before.index:
            return self._read_memory(first, bytes_max)
        if first <= self.start.index:
            raise LogCompacted(f"index {first} was cut away: the log starts after {self.start.index}")
        position, entries = self._reader.read(first, bytes_max)
        assert entries and entries[0].first == first == position.index + 1, (first, position)
        # The disk may still hold what a truncation in memory has replaced.
        while entries[-1].last > self._before.index:
            entries.pop()
        return LogSlice(position.index, position.term, position.crc, entries)

    def page(self, after: Index, limit: Index, bytes_max: int) -> list[Entry]:
        """The entries after `after` up to `limit`, at least one, at most about `bytes_max` bytes."""
        assert after < limit <= self.last_index, (after, limit, self.last_index)
        entries = self.read(Index(after + 1), bytes_max).entries
        while entries[-1].last > limit:
            entries.pop()
        return entries

    def hand_out(self, number: int) -> list[Entry]:
        """The entries the disk has not been given; they go with Ready `number`."""
        if self.handed == self.last_index:
            return []
        at = bisect_left(self._lasts, self.handed + 1)
        entries = self._entries[at:]
        assert entries[0].first == self.handed + 1, (entries[0].first, self.handed)
        self.handed = self.last_index
        self._writes.append(_Write(number, self.last_index))
        return entries

    def saved(self, number: int) -> None:
        """Everything handed out up to Ready `number` is on the disk."""
        writes = self._writes
        while writes and writes[0].number <= number:
            last = writes.popleft().last
            if last > self.durable:
                self.durable = last
        assert self.durable <= self.handed <= self.last_index, (self.durable, self.handed, self.last_index)

    def trim(self, applied: Index) -> None:
        """Forget old entries in memory when they are too many; the reader still has them."""
        if self._bytes <= self._bytes_max:
            return
        keep_after = min(applied, self.durable)
        bytes_wanted = self._bytes_max * 3 // 4  # well below, so that the lists are moved seldom
        at, size = 0, self._bytes
        while at < len(self._entries) and size > bytes_wanted and self._lasts[at] <= keep_after:
            size -= len(self._entries[at].record)
            at += 1
        if at:
            newest = self._entries[at - 1]
            self._drop_head(at, Position(newest.last, newest.term, newest.crc, newest.stamp))

    def forget_configurations(self, index: Index) -> None:
        """Entries up to `index` need not be remembered as changes of the configuration any more."""
        if self.configurations and self.configurations[0].last <= index:
            self.configurations = tuple(entry for entry in self.configurations if entry.last > index)

    def compacted(self, start: Position) -> None:
        """The durable log now begins after `start`."""
        if start.index <= self.start.index:
            return
        assert start.index <= self.durable, (start, self.durable)
        if start.index > self._before.index:
            at = bisect_left(self._lasts, start.index)
            assert self._lasts[at] == start.index and self._entries[at].term == start.term, (start, self._lasts[at])
            self._drop_head(at + 1, start)
        self.start = start

    def restore(self, position: Position) -> None:
        """A snapshot has taken the place of the whole log: it is empty and goes on after `position`."""
        assert position.index > self.start.index, (position, self.start)
        self.start = self._before = position
        self.configurations = ()
        self._entries.clear()
        self._lasts.clear()
        self._bytes = 0
        self._writes.clear()
        self._end()
        self.handed = self.durable = self.last_index

    def _read_memory(self, first: Index, bytes_max: int) -> LogSlice:
        entries = self._entries
        assert first <= self.last_index + 1, (first, self.last_index)
        at = bisect_left(self._lasts, first)
        if at == 0:
            before = self._before
            previous = LogSlice(before.index, before.term, before.crc, [])
        else:
            entry = entries[at - 1]
            previous = LogSlice(entry.last, entry.term, entry.crc, [])
        assert previous.previous_index == first - 1, (previous.previous_index, first)
        size, end = 0, at
        for end in range(at, len(entries)):
            size += len(entries[end].record)
            if size > bytes_max and end > at:
                break
        else:
            end = len(entries)
        previous.entries = entries[at:end]
        return previous

    def _entry_at(self, index: Index) -> Entry:
        """The entry that contains `index`, which must be in the log."""
        assert self.start.index < index <= self.last_index, (self.start.index, index, self.last_index)
        if index > self._before.index:
            return self._entries[bisect_left(self._lasts, index)]
        return self._reader.read(index, 1)[1][0]

    def _crc_at(self, index: Index) -> int | None:
        """The chained checksum where a record ends; None inside of one."""
        if index == self.last_index:
            return self.last_crc
        if index == self._before.index:
            return self._before.crc
        if index == self.start.index:
            return self.start.crc
        entry = self._entry_at(index)
        return entry.crc if entry.last == index else None

    def _term_within(self, index: Index, term_max: Term) -> bool:
        term = self.term_at(index)
        assert term is not None, index
        return term <= term_max

    def _extend(self, entries: list[Entry]) -> None:
        last = self.last_index
        for entry in entries:
            assert entry.first == last + 1, (entry.first, last)
            last = entry.last
            if entry.kind is _CONFIGURATION:
                self.configurations = (*self.configurations, entry)
            self._entries.append(entry)
            self._lasts.append(last)
            self._bytes += len(entry.record)
        self.last_index = last
        self.last_term = entry.term
        self.last_crc = entry.crc
        self.last_stamp = entry.stamp

    def _truncate(self, index: Index) -> None:
        """Drop `index` and all after it; entries follow at once, so that the disk hears of it with them."""
        if index > self._before.index:
            at = bisect_left(self._lasts, index)
            assert self._entries[at].first == index, (self._entries[at].first, index)
            self._bytes -= sum(len(entry.record) for entry in self._entries[at:])
            del self._entries[at:]
            del self._lasts[at:]
        else:
            position, entries = self._reader.read(index, 1)
            assert position.index == index - 1 == entries[0].first - 1, (position, index)
            self._before = position
            self._entries.clear()
            self._lasts.clear()
            self._bytes = 0
        kept = Index(index - 1)
        self.configurations = tuple(entry for entry in self.configurations if entry.last <= kept)
        self.handed = min(self.handed, kept)
        self.durable = min(self.durable, kept)
        # A write under way no longer vouches for what it overwrote or what now stands in its place,
        # not even when the very same entry comes back later: the disk may by then hold a third one
        # in between (RELIABILITY 20).
        for write in self._writes:
            write.last = min(write.last, kept)
        self._end()

    def _drop_head(self, count: int, before: Position) -> None:
        self._bytes -= sum(len(entry.record) for entry in self._entries[:count])
        del self._entries[:count]
        del self._lasts[:count]
        self._before = before

    def _end(self) -> None:
        """Read the end of the log anew from what is in memory."""
        if self._entries:
            entry = self._entries[-1]
            self.last_index, self.last_term = entry.last, entry.term
            self.last_crc, self.last_stamp = entry.crc, entry.stamp
        else:
            before = self._before
            self.last_index, self.last_term = before.index, before.term
            self.last_crc, self.last_stamp = before.crc, before.stamp
