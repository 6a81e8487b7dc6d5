"""The log: memory over a reader, conflicts, and what the disk has vouched for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.errors import CorruptRecord, LogCompacted
from journal.limits import Limits
from journal.raft.log import Log
from journal.values import START, Entry, Index, Position, Term
from tests.support.raft_cluster import Disk, chain, position_after

LIMITS = Limits(log_memory_bytes_max=300)


def log_of(*terms: int, memory: int | None = None, cut: int = 0, count: int = 1) -> tuple[Log, Disk, list[Entry]]:
    """A log whose first `cut` entries are gone and whose last `memory` are in memory."""
    entries = chain(*terms, count=count)
    disk = Disk()
    disk.entries = entries[cut:]
    disk.start = position_after(entries[cut - 1]) if cut else START
    split = cut if memory is None else len(entries) - memory
    before = position_after(entries[split - 1]) if split else START
    return Log(disk, disk.start, before, entries[split:], disk.last, LIMITS), disk, entries


def accept(log: Log, previous: Position | Entry, entries: list[Entry], commit: int = 0) -> Index | None:
    at = previous if isinstance(previous, Position) else position_after(previous)
    return log.accept(at.index, at.term, at.crc, entries, Index(commit))


def records(log: Log) -> list[tuple[int, int]]:
    """(last index, term) of all entries from the start on."""
    found: list[tuple[int, int]] = []
    index = log.start.index
    while index < log.last_index:
        for entry in log.read(Index(index + 1), 1000).entries:
            found.append((entry.last, entry.term))
            index = entry.last
    return found


def test_an_append_behind_the_end_is_taken() -> None:
    """The way of nearly every append."""
    log, _, entries = log_of(1, 1)
    more = chain(2, 2, after=position_after(entries[-1]))
    assert accept(log, entries[-1], more) == 4
    assert records(log) == [(1, 1), (2, 1), (3, 2), (4, 2)]


@pytest.mark.parametrize("memory", (0, 1, 4))
def test_an_append_behind_an_unknown_or_different_entry_is_not_taken(memory: int) -> None:
    """The consistency check of Raft 5.3, in memory and on disk alike."""
    log, _, _ = log_of(1, 1, 2, 2, memory=memory)
    other = chain(1, 1, 1, 3, 3)
    assert accept(log, other[4], []) is None
    assert accept(log, other[3], []) is None
    assert accept(log, other[2], []) is None
    assert accept(log, other[1], []) == 2
    assert log.last_index == 4


def test_an_append_that_came_late_or_twice_cuts_nothing() -> None:
    """What follows it may already be acknowledged (RELIABILITY 14)."""
    log, _, entries = log_of(1, 1, 1, 1)
    assert accept(log, START, entries[:2]) == 2
    assert accept(log, entries[0], entries[1:2]) == 2
    assert accept(log, START, []) == 0
    assert log.last_index == 4 and log.handed == 4


@pytest.mark.parametrize("memory", (0, 1, 2, 5))
def test_a_conflict_cuts_the_whole_tail(memory: int) -> None:
    """Replacing one entry in place would keep a tail of an older term behind it (RELIABILITY 15)."""
    log, _, entries = log_of(1, 1, 2, 2, 2, memory=memory)
    new = chain(3, after=position_after(entries[1]))
    assert accept(log, entries[0], [entries[1], *new]) == 3
    assert records(log) == [(1, 1), (2, 1), (3, 3)]
    assert (log.handed, log.durable) == (2, 2)
    assert log.hand_out(1) == new


def test_a_conflict_below_the_commit_index_is_our_mistake() -> None:
    """Nothing committed is ever cut, whatever a leader says."""
    log, _, entries = log_of(1, 1, 1)
    with pytest.raises(AssertionError):
        accept(log, entries[0], chain(2, after=position_after(entries[0])), commit=2)


def test_equal_terms_with_different_checksums_mean_a_damaged_log() -> None:
    """Two logs that agree on (index, term) are equal; when they are not, a disk lied."""
    log, _, entries = log_of(1, 1, 1)
    with pytest.raises(CorruptRecord, match="index 3, term 1"):
        log.accept(Index(3), Term(1), entries[-1].crc ^ 1, [], Index(0))
    with pytest.raises(CorruptRecord, match="index 2, term 1"):
        log.accept(Index(2), Term(1), entries[1].crc ^ 1, [], Index(0))
    changed = chain(1, after=Position(Index(2), Term(1), entries[1].crc ^ 1))
    with pytest.raises(CorruptRecord, match="index 3, term 1"):
        accept(log, entries[1], changed)


def test_a_position_inside_a_record_means_a_damaged_log() -> None:
    """Only leaders cut records, so they end at the same places wherever terms agree."""
    log, _, entries = log_of(1, 1, count=3)
    with pytest.raises(CorruptRecord):
        log.accept(Index(5), Term(1), entries[-1].crc, [], Index(0))


@pytest.mark.parametrize("memory", (0, 2, 4))
def test_the_term_of_an_index_is_known_or_unknown_but_never_guessed(memory: int) -> None:
    """A compacted index has no term; taking it for 0 matched what never agreed (RELIABILITY 17)."""
    log, _, _ = log_of(1, 2, 2, 3, 3, 4, cut=2, memory=memory)
    assert [log.term_at(Index(index)) for index in range(8)] == [None, None, 2, 2, 3, 3, 4, None]


def slow_agreement(entries: list[Entry], start: int, limit: int, term_max: int) -> int | None:
    known = [(entry.last, entry.term) for entry in entries]
    ends = [(0, 0), *known] if start == 0 else known
    fitting = [index for index, term in ends if start <= index <= limit and term <= term_max]
    return max(fitting, default=None)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8).map(sorted),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 20),
    st.integers(0, 6),
    st.integers(1, 3),
)
def test_the_last_place_of_agreement_is_found_like_by_looking_at_each(
    terms: list[int], cut: int, memory: int, limit: int, term_max: int, count: int
) -> None:
    """Backing up by whole terms must not skip a place where logs agree, nor name one inside a record."""
    cut = min(cut, len(terms))
    log, _, entries = log_of(*terms, cut=cut, memory=min(memory, len(terms) - cut), count=count)
    expected = slow_agreement(entries, log.start.index, limit, term_max)
    assert log.agreement(Index(limit), Term(term_max)) == expected


@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 300))
def test_reading_gives_the_same_entries_wherever_they_lie(memory: int, first: int, bytes_max: int) -> None:
    """At least one entry, in order, with the right position before them."""
    log, _, entries = log_of(1, 1, 2, 2, 3, 3, memory=memory)
    part = log.read(Index(first), bytes_max)
    assert part.entries == entries[first - 1 : first - 1 + len(part.entries)]
    assert part.entries
    before = position_after(entries[first - 2]) if first > 1 else START
    assert (part.previous_index, part.previous_term, part.previous_crc) == (before.index, before.term, before.crc)
    assert len(part.entries) == 1 or sum(len(entry.record) for entry in part.entries) <= bytes_max


def test_reading_behind_the_end_gives_nothing_and_before_the_start_fails() -> None:
    """The first is a probe without entries, the second needs a snapshot."""
    log, _, entries = log_of(1, 1, 1, cut=1)
    part = log.read(Index(4), 100)
    assert (part.previous_index, part.previous_crc, part.entries) == (3, entries[-1].crc, [])
    with pytest.raises(LogCompacted):
        log.read(Index(1), 100)


@given(st.integers(0, 6), st.integers(1, 6), st.integers(1, 300))
def test_pages_neither_skip_nor_repeat(memory: int, limit: int, bytes_max: int) -> None:
    """Pages put together are the log, for any page size (RELIABILITY 21)."""
    log, _, entries = log_of(1, 1, 2, 2, 3, 3, memory=memory)
    after, found = 0, []
    while after < limit:
        page = log.page(Index(after), Index(limit), bytes_max)
        found += page
        after = page[-1].last
    assert found == entries[:limit]


def test_what_is_truncated_in_memory_is_not_read_from_the_disk_again() -> None:
    """The disk still has the old tail until the next write has cut it."""
    log, disk, entries = log_of(1, 1, 2, 2, memory=0)
    new = chain(3, after=position_after(entries[1]))
    accept(log, entries[1], new)
    assert disk.last.index == 4
    assert [entry.term for entry in log.read(Index(1), 1000).entries] == [1, 1]
    assert [entry.term for entry in log.read(Index(3), 1000).entries] == [3]


def test_entries_count_as_durable_only_when_their_write_is_done() -> None:
    """In order: write 2 done means write 1 done."""
    log, _, _ = log_of()
    for entry in chain(1, 1, 1):
        log.append(entry)
        log.hand_out(int(entry.first))
    assert log.durable == 0
    log.saved(2)
    assert log.durable == 2
    log.saved(1)
    assert log.durable == 2
    log.saved(3)
    assert log.durable == 3
    assert log.hand_out(4) == []


def test_a_write_of_entries_since_replaced_vouches_for_nothing() -> None:
    """Numbered writes in flight while the log changes under them (RELIABILITY 20).

    1. Entries 1-3 of term 1 go out with write 1. 2. A leader of term 2 replaces 2-3: write 2.
    3. One of term 3 brings back the very entries of term 1: write 3. 4. Write 1 ends: the log's index 3
    is of term 1 as in write 1, but the disk may at any moment hold write 2's entries instead.
    """
    log, _, _ = log_of()
    first = chain(1, 1, 1)
    accept(log, START, first)
    assert log.hand_out(1) == first
    second = chain(2, 2, after=position_after(first[0]))
    accept(log, first[0], second)
    assert log.hand_out(2) == second
    accept(log, first[0], first[1:])
    assert log.hand_out(3) == first[1:]
    log.saved(1)
    assert log.durable == 1
    log.saved(2)
    assert log.durable == 1
    log.saved(3)
    assert log.durable == 3


def test_memory_is_bounded_and_keeps_what_the_disk_or_the_machine_still_needs() -> None:
    """Only entries that are both applied and durable may leave memory."""
    log, disk, _ = log_of()
    entries = chain(*[1] * 20)
    for entry in entries:
        log.append(entry)
    log.trim(Index(20))
    assert log._entries == entries  # nothing is durable
    disk.save(None, log.hand_out(1))
    log.saved(1)
    log.trim(Index(3))
    assert log._entries == entries[3:]
    log.trim(Index(20))
    kept = sum(len(entry.record) for entry in log._entries)
    assert 0 < kept <= LIMITS.log_memory_bytes_max * 3 // 4
    assert log._bytes == kept
    assert records(log) == [(index, 1) for index in range(1, 21)]
    reads = disk.reads
    assert log.term_at(Index(20)) == 1 and disk.reads == reads


@pytest.mark.parametrize("at", (1, 2, 3, 4))
def test_compaction_moves_the_start_wherever_memory_begins(at: int) -> None:
    """The new start is known by position, so that appends can still follow it."""
    log, disk, entries = log_of(1, 1, 2, 2, memory=2)
    start = position_after(entries[at - 1])
    disk.cut(start)
    log.compacted(start)
    log.compacted(START)  # an old message
    assert log.start == start
    assert log.term_at(Index(at - 1)) is None
    assert log.term_at(Index(at)) == start.term
    assert accept(log, entries[at - 1], []) == at
    assert records(log) == [(entry.last, entry.term) for entry in entries[at:]]


def test_a_snapshot_restarts_the_log_behind_it() -> None:
    """Nothing of the old log remains, whatever it held (RELIABILITY 33)."""
    log, _, _ = log_of(1, 1, 1)
    position = Position(Index(10), Term(4), 77, 5)
    log.restore(position)
    assert (log.start, log.last_index, log.last_term, log.last_crc, log.last_stamp) == (position, 10, 4, 77, 5)
    assert (log.handed, log.durable) == (10, 10)
    log.saved(1)
    assert log.term_at(Index(3)) is None
    new = chain(4, after=position)
    assert accept(log, position, new) == 11
