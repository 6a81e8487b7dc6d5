"""A copy of the machine at any index that log and snapshots tell, and a clear word where they do not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from journal.errors import Busy, IndexUnderflow, JournalStopped
from journal.exactly_once import ExactlyOnce, opening, request
from journal.history import COPIES_MAX, QUESTIONS_MAX, History, _Silent, rebuild
from journal.limits import Limits
from journal.record import make_entry
from journal.statemachine import StateMachine
from journal.storage.snapshots import snapshot_name
from journal.storage.store import Identity, Store
from journal.values import Configuration, Entry, EntryKind, NodeId, Position
from tests.support.machines import Ledger
from tests.support.memory_disk import MemoryDisk

LIMITS = Limits(segment_bytes=16 * 1024, record_bytes_max=1024, append_bytes_max=1024)
A = NodeId("a")


class Bench:
    """A store with a log that is written entry by entry, and the live machine beside it."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.store = Store.open(self.disk, Identity("test", A), LIMITS, Configuration((A,)))
        self.live = ExactlyOnce(Ledger(), _Silent(), piece_bytes=100)
        self.last = Position()
        self.serial = 0
        self.add(opening(b"nonce"))

    def add(self, payload: bytes, count: int = 1, kind: EntryKind = EntryKind.COMMANDS, machine: int = 0) -> Entry:
        entry = make_entry(self.last.index + 1, 1, 0, kind, payload, self.last.crc, count=count, machine=machine)
        self.store.save(None, [entry])
        if machine == 0:
            self.live.apply(entry)
        self.last = Position(entry.last, entry.term, entry.crc, entry.stamp)
        return entry

    def update(self, *commands: bytes) -> None:
        self.serial += 1
        self.add(request(1, self.serial, self.serial - 1, commands), len(commands))

    def snapshot(self) -> None:
        self.add(b"", kind=EntryKind.SNAPSHOT)
        writer = self.store.snapshots.begin(self.last, self.store.configuration)
        writer.add(b"\7another machine's")
        for piece in self.live.snapshot():
            writer.add(b"\0" + piece)
        writer.finish()

    def at(self, index: int) -> list[bytes]:
        machine = rebuild(self.store, Ledger, index)
        assert isinstance(machine, Ledger)
        return machine.lines


def filled() -> Bench:
    """Indices 1 opens; 2-11 commands, 12 a snapshot, 13-22 commands, 23 a snapshot, 24-33 commands."""
    bench = Bench()
    for part in range(3):
        for number in range(10):
            bench.update(b"%d" % (10 * part + number))
        if part < 2:
            bench.snapshot()
    return bench


def count_at(index: int) -> int:
    """How many commands are applied at an index of `filled`."""
    return index - 1 - (index >= 12) - (index >= 23)


def test_every_index_of_the_log_can_be_told() -> None:
    bench = filled()
    for index in range(1, 34):
        assert bench.at(index) == [b"%d" % number for number in range(count_at(index))], index
    assert bench.at(0) == []


def test_a_snapshot_spares_the_log_before_it() -> None:
    """Or the first segment could never be cut."""
    bench = filled()
    reads: list[int] = []
    read = bench.store.read
    bench.store.read = lambda first, size: (reads.append(first), read(first, size))[1]  # type: ignore[method-assign]
    bench.at(30)
    assert min(reads) == 24
    reads.clear()
    bench.at(23)
    assert reads == []


def test_a_damaged_snapshot_makes_room_for_the_one_before_it() -> None:
    bench = filled()
    for meta, first in zip(list(bench.store.snapshots.metas()), (24, 13), strict=True):
        name = snapshot_name(meta.position)
        data = bench.disk.read(name, 0, meta.size)
        at = data.index(b"\0\1" if b"\0\1" in data else b"\1")
        bench.disk.write(name, at, [b"\x55\x55"])
        assert bench.at(30) == [b"%d" % number for number in range(count_at(30))], first


def test_entries_of_other_machines_are_passed_over() -> None:
    bench = Bench()
    bench.update(b"a")
    bench.add(b"what another machine understands", machine=3)
    bench.update(b"b")
    assert bench.at(4) == [b"a", b"b"]


def test_what_was_cut_away_is_an_underflow() -> None:
    bench = filled()
    for _ in range(2):
        for _ in range(40):
            bench.update(b"x" * 900)
        bench.snapshot()
    oldest = bench.store.snapshots.prune(2)
    assert oldest is not None
    start = bench.store.cut(oldest.position.index)
    assert 0 < start.index < oldest.position.index
    with pytest.raises(IndexUnderflow, match="can no longer be told"):
        bench.at(5)
    with pytest.raises(IndexUnderflow, match="can no longer be told"):
        bench.at(oldest.position.index - 1)
    assert len(bench.at(oldest.position.index)) == 70
    assert len(bench.at(oldest.position.index + 5)) == 75


def test_a_snapshot_that_is_pruned_while_it_is_read_is_done_without() -> None:
    bench = filled()
    chunks = bench.store.snapshots.chunks

    def vanishing(meta: object) -> Iterator[bytes]:
        bench.store.snapshots.chunks = chunks  # type: ignore[method-assign]
        raise FileNotFoundError("pruned")

    bench.store.snapshots.chunks = vanishing  # type: ignore[assignment, method-assign]
    assert len(bench.at(30)) == count_at(30)


def test_a_log_that_is_being_restarted_is_an_underflow_and_no_hang() -> None:
    bench = filled()
    with pytest.raises(IndexUnderflow, match="is being cut away"):
        bench.at(50)


class Factory:
    """Makes ledgers and remembers them."""

    def __init__(self) -> None:
        self.made: list[Ledger] = []

    def __call__(self) -> StateMachine:
        self.made.append(Ledger())
        return self.made[-1]


@pytest.mark.asyncio
async def test_the_copy_of_a_failed_attempt_is_closed_and_the_next_question_begins_anew() -> None:
    bench, factory = filled(), Factory()
    history = History(bench.store, factory)
    with pytest.raises(IndexUnderflow):
        await history.query(50, b"all")
    assert all(machine.closed for machine in factory.made)
    bench.update(b"x" * 100)
    for _ in range(16):
        bench.update(b"y")
    assert await history.query(50, b"last") == b"y"
    history.close()


@pytest.mark.asyncio
async def test_too_many_questions_are_turned_away() -> None:
    bench = filled()
    history = History(bench.store, Ledger)
    asked = [asyncio.create_task(history.query(index % 34, b"")) for index in range(5)]
    await asyncio.sleep(0)
    history._questions.update(asyncio.create_task(asyncio.sleep(0, b"")) for _ in range(QUESTIONS_MAX))
    with pytest.raises(Busy):
        await history.query(1, b"")
    await asyncio.gather(*asked)
    history.close()


@pytest.mark.asyncio
async def test_a_closed_history_answers_whoever_waits() -> None:
    bench = filled()
    history = History(bench.store, Ledger)
    asked = [asyncio.create_task(history.query(index, b"")) for index in range(min(20, COPIES_MAX))]
    await asyncio.sleep(0)
    history.close()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, JournalStopped) for answer in answers), answers
