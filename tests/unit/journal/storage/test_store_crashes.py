"""A crash before every single change of the disk, in every kind of work, and what is found afterwards.

The promise: every acknowledged entry is there, nothing that was not saved is there, term and vote are the
last acknowledged ones or newer, nothing is withheld, and the node can go on from there.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from journal.errors import DiskFailed
from journal.storage.store import Store
from journal.values import START, Entry, HardState, NodeId, Position, Term
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.unit.journal.storage.samples import (
    end_of,
    make_entries,
    open_store,
    read_all,
    save_each,
    send_snapshot,
    take_snapshot,
)

POWER_CUTS = 6
"""Random outcomes tried for each crash, besides the two extremes."""


@dataclass(frozen=True)
class State:
    """What a node promised: everything a recovery must give back."""

    start: Position = START
    """The log may start here or earlier: cutting it is never promised."""
    entries: tuple[Entry, ...] = ()
    """From `start` on."""
    hard_state: HardState = field(default_factory=HardState)
    snapshots: frozenset[Position] = frozenset()

    def saved(self, hard_state: HardState | None, new: list[Entry]) -> State:
        kept = tuple(entry for entry in self.entries if not new or entry.first < new[0].first)
        return replace(self, entries=kept + tuple(new), hard_state=hard_state or self.hard_state)


def between(before: State, after: State, new: list[Entry]) -> list[tuple[Entry, ...]]:
    """The logs that a crash in a save may leave: some of the old tail gone, or all of it and some of the new here."""
    kept = len(after.entries) - len(new)
    logs = [before.entries[:n] for n in range(kept, len(before.entries) + 1)]
    return logs + [after.entries[:n] for n in range(kept, len(after.entries) + 1)]


def images(disk: MemoryDisk, seed: str) -> Iterator[MemoryDisk]:
    """What the next start may find: the process alone ended, or the power was cut."""
    yield copy.deepcopy(disk)
    for number in range(POWER_CUTS + 1):
        image = copy.deepcopy(disk)
        image.crash(random.Random(f"{seed}/{number}") if number else None)
        yield image


def go_on(image: MemoryDisk, store: Store) -> None:
    """A recovered node works, and what it does then lasts."""
    found = (read_all(store), store.hard_state)
    image.crash()
    again = open_store(image)
    assert (read_all(again), again.hard_state, again.withheld) == (*found, 0)
    new = make_entries(again.last, 2, term=again.last.term + 1)
    again.save(HardState(Term(again.hard_state.term + 1)), new)
    image.crash()
    last = open_store(image)
    assert read_all(last) == [*found[0], *new]
    assert last.withheld == 0


def crash_everywhere(
    setup: Callable[[Store], None], work: Callable[[Store], None], check: Callable[[Store], None], name: str
) -> int:
    """Stop `work` before each of its changes of the disk. Returns how many there were."""
    ready = MemoryDisk()
    setup(open_store(ready))
    step = 0
    while True:
        disk = ready.copy()
        store = open_store(disk)
        disk.stop_at = disk.changes + step
        try:
            work(store)
        except Stopped:
            disk.stop_at = None
            for image in images(disk, f"{name}/{step}"):
                recovered = open_store(image)
                assert recovered.withheld == 0
                check(recovered)
                go_on(image, recovered)
            step += 1
        else:
            disk.crash()
            check(open_store(disk))
            return step


def saving(first: list[Entry], hard_state: HardState | None, new: list[Entry], name: str) -> int:
    """Crash everywhere in one save on top of `first`."""
    before = State(entries=tuple(first))
    after = before.saved(hard_state, new)
    allowed = between(before, after, new)

    def check(store: Store) -> None:
        log = tuple(read_all(store))
        assert log in allowed
        assert store.hard_state in (before.hard_state, after.hard_state)
        if any(entry in new for entry in log):
            assert store.hard_state == after.hard_state

    return crash_everywhere(lambda store: save_each(store, first), lambda s: s.save(hard_state, new), check, name)


def test_a_crash_in_a_plain_save() -> None:
    """1, 2: term and vote before the entries, both before the reply."""
    first = make_entries(START, 3)
    new = make_entries(end_of(first[-1]), 1)
    assert saving(first, HardState(Term(2), NodeId("n2")), new, "plain") == 7


def test_a_crash_in_a_save_of_several_records() -> None:
    """A power cut keeps any sectors of the batch, also the last one's without the first one's."""
    first = make_entries(START, 2)
    saving(first, None, make_entries(end_of(first[-1]), 4, size=250), "batch")


def test_a_crash_in_a_save_that_rolls() -> None:
    """R7: the old segment is finished, the new one whole, and between them nothing is missing."""
    first = make_entries(START, 8)
    assert saving(first, None, make_entries(end_of(first[-1]), 20), "roll") > 15


def test_a_crash_in_the_save_that_reserves_the_next_segment() -> None:
    """The save itself is over by then; the reserve is only in the way of a restart."""
    first = make_entries(START, 9)
    saving(first, None, make_entries(end_of(first[-1]), 2), "reserve")


@pytest.mark.parametrize("kept", [0, 1, 12, 13, 20, 25, 38])
def test_a_crash_while_the_log_is_cut_and_replaced(kept: int) -> None:
    """Over three segments, at their borders and within them: a crash once stranded acknowledged entries (CH#114003)."""
    first = make_entries(START, 39)
    new = make_entries(end_of(first[kept - 1]) if kept else START, 3, term=2)
    assert saving(first, HardState(Term(2)), new, f"cut/{kept}") > 8


def test_a_crash_while_a_snapshot_is_finished() -> None:
    """R10: it is there whole or not at all, and the log does not notice."""
    entries = make_entries(START, 20)

    def setup(store: Store) -> None:
        save_each(store, entries)
        take_snapshot(store, end_of(entries[4]))

    def check(store: Store) -> None:
        assert read_all(store) == entries
        positions = [meta.position for meta in store.snapshots.metas()]
        assert positions in ([end_of(entries[4])], [end_of(entries[14]), end_of(entries[4])])
        for meta in store.snapshots.metas():
            assert list(store.snapshots.chunks(meta)) == [b"state", b"of the machine"]

    assert crash_everywhere(setup, lambda s: (take_snapshot(s, end_of(entries[14])), None)[1], check, "snapshot") > 5


def test_a_crash_while_old_snapshots_and_log_are_dropped() -> None:
    """31, 35: what the kept snapshots need is never gone before they are there."""
    entries = make_entries(START, 60)

    def setup(store: Store) -> None:
        save_each(store, entries)
        for index in (10, 30, 50):
            take_snapshot(store, end_of(entries[index]))

    def work(store: Store) -> None:
        oldest = store.snapshots.prune(2)
        assert oldest is not None
        store.cut(oldest.position.index)

    def check(store: Store) -> None:
        assert store.start.index <= 31
        assert read_all(store) == entries[store.start.index :]
        assert [meta.position.index for meta in store.snapshots.metas()][:2] == [51, 31]

    assert crash_everywhere(setup, work, check, "cut") > 4


@pytest.mark.parametrize("ends", ["before", "beyond", "against"])
def test_a_crash_while_a_received_snapshot_is_installed(ends: str) -> None:
    """32, 33: received, verified, named, then the log restarted; each step finds its way to the end."""
    leader = open_store(MemoryDisk())
    history = make_entries(START, 60, term=3)
    position = end_of(history[39])
    meta = take_snapshot(leader, position)
    log = {
        "before": history[:25],
        "beyond": history[:55],
        "against": make_entries(START, 55, term=2),
    }[ends]

    def check(store: Store) -> None:
        if store.start == position:
            assert read_all(store) == []
        elif store.snapshot is None:
            assert read_all(store) == log
        else:
            # Where the log goes on behind the snapshot, restarting it is only tidier.
            assert ends == "beyond" and store.snapshot == meta
            assert read_all(store) == log[: store.last.index] and store.last.index >= 40

    def work(store: Store) -> None:
        store.reset(send_snapshot(leader, meta, store))

    assert crash_everywhere(lambda store: save_each(store, log), work, check, ends) > 15


def test_a_crash_in_the_first_start() -> None:
    """The directory is this node's, or it is taken for empty again; it is never refused."""
    step = 0
    while True:
        disk = MemoryDisk()
        disk.stop_at = step
        try:
            open_store(disk)
        except Stopped:
            disk.stop_at = None
            for image in images(disk, f"first/{step}"):
                recovered = open_store(image)
                assert (recovered.last, recovered.withheld, recovered.hard_state) == (START, 0, HardState())
                go_on(image, recovered)
            step += 1
        else:
            break
    assert step > 10


@pytest.mark.parametrize("work", ["torn", "restart"])
def test_a_crash_in_the_recovery_from_a_crash(work: str) -> None:
    """Repairing is made of the same steps, and power cuts come in rows."""
    entries = make_entries(START, 30)
    new = make_entries(end_of(entries[-1]), 3, size=400)
    position = end_of(make_entries(START, 50, term=2)[-1])
    first = MemoryDisk()
    store = open_store(first)
    save_each(store, entries)
    if work == "restart":
        meta = take_snapshot(store, position)
    first.stop_at = first.changes + (1 if work == "torn" else 6)
    with pytest.raises(Stopped):
        store.save(None, new) if work == "torn" else store.reset(meta)
    first.stop_at = None
    for seed in range(8):
        cut = copy.deepcopy(first)
        cut.crash(random.Random(f"{work}/{seed}"))
        step = 0
        while True:
            disk = copy.deepcopy(cut)
            disk.stop_at = disk.changes + step
            try:
                open_store(disk)
                break
            except Stopped:
                disk.stop_at = None
                step += 1
            for image in images(disk, f"{work}/{seed}/{step}"):
                recovered = open_store(image)
                log = read_all(recovered)
                if work == "torn":
                    assert log[:30] == entries and log[30:] in (new[:n] for n in range(4))
                else:
                    assert (recovered.start, log) == (position, [])
                go_on(image, recovered)
        assert step > 3


def test_a_failing_disk_stops_the_store_at_any_change() -> None:
    """R6: a failed write or sync is raised, nothing follows it, and a restart finds what was acknowledged."""
    first = make_entries(START, 12)
    new = make_entries(end_of(first[6]), 12, term=2)
    for step in range(100):
        disk = MemoryDisk()
        store = open_store(disk)
        save_each(store, first)
        disk.stop_at, disk.error = disk.changes + step, DiskFailed("no space left")
        try:
            store.save(HardState(Term(2)), new)
            break
        except DiskFailed:
            disk.stop_at = None
        with pytest.raises(DiskFailed):
            store.save(None, make_entries(store.last, 1))
        log = read_all(open_store(disk))
        assert log[:7] == first[:7] and (log == first[: len(log)] or log == [*first[:7], *new][: len(log)])
    assert step > 10


class Life:
    """A node that works at random until the next crash, and what it promised so far."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"life/{seed}")
        self.disk = MemoryDisk()
        self.start = START
        self.entries: tuple[Entry, ...] = ()
        """What was acknowledged behind `start`, also where the log was cut since."""
        self.term = Term(0)
        self.outcomes: list[tuple[Position, tuple[Entry, ...]]] = [(START, ())]
        """Start and entries that a recovery may find now, if the log was not cut."""

    def recover(self) -> Store:
        store = open_store(self.disk)
        log = tuple(read_all(store))
        assert store.withheld == 0
        snapshot = store.snapshot
        received = snapshot.position.term if snapshot is not None else self.term
        # A snapshot may have come with a term that was not saved any more.
        assert store.hard_state.term in (self.term, self.term + 1, max(self.term, received))
        found = [
            (start, entries)
            for start, entries in self.outcomes
            if store.start.index >= start.index
            and store.start.index <= start.index + len(entries)
            and entries[store.start.index - start.index :] == log
        ]
        assert found, (store.start, [(entry.first, entry.term) for entry in log])
        self.start, self.entries = found[0]
        self.term = store.hard_state.term
        self.outcomes = found[:1]
        return store

    def work(self, store: Store) -> None:
        """One piece of work; `outcomes` tells at each moment what a crash may leave."""
        choice = self.chance.random()
        if choice < 0.85 or not self.entries:
            self._save(store)
        elif choice < 0.95:
            self._snapshot(store)
        else:
            self._reset(store)
        self.outcomes = [(self.start, self.entries)]

    def _save(self, store: Store) -> None:
        chance, cut_away = self.chance, store.start.index - self.start.index
        kept = len(self.entries)
        oldest_kept = max((meta.position.index for meta in store.snapshots.metas()), default=0) - self.start.index
        if chance.random() < 0.15 and max(cut_away, oldest_kept) < kept:
            kept = chance.randrange(max(cut_away, oldest_kept, 0), kept)
        before = end_of(self.entries[kept - 1]) if kept else self.start
        term = max(store.last.term, 1) + (kept < len(self.entries))
        new = make_entries(before, chance.randrange(1, 12), term=term, size=chance.randrange(8, 600))
        hard_state = HardState(Term(self.term + 1)) if chance.random() < 0.2 else None
        then = State(entries=self.entries)
        after = replace(then, entries=(*self.entries[:kept], *new))
        self.outcomes = [(self.start, log) for log in between(then, after, new)]
        store.save(hard_state, new)
        self.entries = after.entries
        self.term = store.hard_state.term

    def _snapshot(self, store: Store) -> None:
        at = end_of(self.chance.choice(self.entries))
        newest = store.snapshot
        if at.index < store.start.index or (newest is not None and at.index <= newest.position.index):
            return
        take_snapshot(store, at)
        oldest = store.snapshots.prune(2)
        assert oldest is not None
        if len(store.snapshots.metas()) == 2:
            store.cut(oldest.position.index)

    def _reset(self, store: Store) -> None:
        ahead = make_entries(end_of(self.entries[-1]), self.chance.randrange(1, 9), term=store.last.term + 1)
        position = end_of(ahead[-1])
        self.outcomes.append((position, ()))
        store.reset(take_snapshot(store, position))
        self.start, self.entries = position, ()


def test_a_random_life_with_crashes() -> None:
    """Everything above in any order, on a log that lived through it."""
    for seed in range(40):
        life = Life(seed)
        for _ in range(12):
            store = life.recover()
            life.disk.stop_at = life.disk.changes + life.chance.randrange(1, 120)
            try:
                while True:
                    life.work(store)
            except Stopped:
                life.disk.stop_at = None
                if life.chance.random() < 0.7:
                    life.disk.crash(life.chance if life.chance.random() < 0.7 else None)
