"""Rot is found while the node runs, at a gentle pace, and shown until it is gone (R14)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from journal.errors import DiskFailed
from journal.scrubbing import FIRST_SECONDS, PASS_SECONDS, PIECE_BYTES, Scrubbing
from journal.storage.segment import is_segment_name
from journal.storage.snapshots import is_snapshot_name
from journal.storage.store import Store
from journal.values import START, Entry, Index
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import LIMITS, end_of, make_entries, open_store, save_each, take_snapshot
from tests.unit.journal.test_replica import Scheduler, Worker


class World:
    """A store with something cold in it, and its scrubbing, moved by hand."""

    def __init__(self, bytes_per_second: int = PIECE_BYTES) -> None:
        self.disk = MemoryDisk()
        self.store: Store = open_store(self.disk)
        self.entries: list[Entry] = make_entries(START, 60)
        save_each(self.store, self.entries)
        for index in (20, 30):
            take_snapshot(self.store, end_of(self.entries[index - 1]))
        self.scheduler = Scheduler()
        self.worker = Worker()
        limits = replace(LIMITS, scrub_bytes_per_second=bytes_per_second)
        self.scrubbing = Scrubbing(self.store, self.worker, self.scheduler, limits)
        self.scrubbing.start()

    def names(self, kind: str) -> list[str]:
        of_kind = is_segment_name if kind == "log" else is_snapshot_name
        return [name for name in self.disk.names() if of_kind(name)]

    def rot(self, name: str, at: int = 200) -> None:
        data = bytearray(self.disk.read(name, 0, 10**6))
        data[at] ^= 1
        self.disk.put(name, bytes(data))

    def one_pass(self, after: float = FIRST_SECONDS) -> int:
        """Run a whole pass; returns how many pieces it took."""
        self.scheduler.advance(after)
        pieces = 0
        while self.worker.jobs:
            pieces += 1
            self.worker.run()
            self.scheduler.advance(1.0)
        return pieces


def test_where_nothing_has_rotted_nothing_is_found() -> None:
    """And every closed segment and snapshot was read, one piece at a time."""
    world = World()
    assert world.one_pass() >= len(world.names("log")) - 1 + len(world.names("snap"))
    assert world.scrubbing.damage == []


def test_rot_is_named_with_what_is_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """The operator must know which entries are at stake, and whether anything covers them."""
    world = World()
    covered, bare = world.names("log")[0], world.names("log")[-2]
    world.rot(covered)
    world.rot(bare)
    world.one_pass()
    first, second = world.scrubbing.damage
    assert first.startswith(f"{covered}: ") and "the snapshot at 30 covers them" in first
    assert second.startswith(f"{bare}: ") and "no snapshot covers them" in second
    assert len([record for record in caplog.records if record.levelname == "CRITICAL"]) == 2
    # A segment's name is its first index.
    firsts = [int(name.removeprefix("log-")) for name in world.names("log")]
    assert f"of indices 1 to {firsts[1] - 1} good up to 0; " in first
    assert f"of indices {firsts[-2]} to {firsts[-1] - 1} good up to {firsts[-2] - 1}; " in second


@pytest.mark.parametrize("at", [0, 20, 70, 90, 500])
def test_rot_anywhere_in_a_closed_segment_is_found(at: int) -> None:
    """File header, batch header, record header, payload."""
    world = World()
    world.rot(world.names("log")[1], at)
    world.one_pass()
    assert len(world.scrubbing.damage) == 1


def test_a_segment_of_which_the_end_is_gone_is_found() -> None:
    world = World()
    name = world.names("log")[1]
    world.disk.put(name, world.disk.read(name, 0, 700))
    world.one_pass()
    assert world.scrubbing.damage[0].startswith(name)


def test_a_rotten_snapshot_does_not_count_any_more() -> None:
    """R10: two good ones are kept, and the log is cut behind good ones only."""
    world = World()
    newest = world.names("snap")[-1]
    world.rot(newest, 100)
    world.one_pass()
    assert world.scrubbing.damage[0].startswith(newest)
    assert [meta.position.index for meta in world.store.snapshots.metas()] == [20]
    world.rot(world.names("snap")[0], 100)
    world.one_pass(PASS_SECONDS)
    assert len(world.store.snapshots.metas()) == 1, "the last one stays, for want of a better"


def test_damage_is_shown_until_a_pass_does_not_find_it_any_more() -> None:
    """Cut away, it is no longer of interest."""
    world = World()
    world.rot(world.names("log")[0])
    world.one_pass()
    assert world.scrubbing.damage
    world.store.cut(Index(20))
    world.one_pass(PASS_SECONDS)
    assert world.scrubbing.damage == []


def test_a_disk_that_cannot_be_read_is_damage_and_no_end_of_the_node() -> None:
    """One bad sector in a cold file: all else still works."""
    world = World()
    name, read = world.names("log")[0], world.disk.read

    def broken(file: str, offset: int, size: int) -> bytes:
        if file == name and offset:
            raise DiskFailed(f"{file}: cannot read: Input/output error")
        return read(file, offset, size)

    world.disk.read = broken  # type: ignore[method-assign]
    world.one_pass()
    assert "Input/output error" in world.scrubbing.damage[0]


def test_what_is_cut_away_meanwhile_is_no_damage() -> None:
    """The log is cut and cut back while it is read."""
    world = World()
    world.scheduler.advance(FIRST_SECONDS)
    world.worker.run()
    world.store.cut(Index(20))
    world.store.save(None, make_entries(end_of(world.entries[40]), 1, term=9))
    for name in world.names("snap"):
        world.disk.delete(name)
    while world.worker.jobs or world.scheduler.timers[-1][0] < world.scheduler.now + PASS_SECONDS / 2:
        world.scheduler.advance(1.0)
        while world.worker.jobs:
            world.worker.run()
    assert world.scrubbing.damage == []


def test_the_pace_is_kept() -> None:
    """Half a piece per second: the next piece is due after two seconds."""
    world = World(bytes_per_second=PIECE_BYTES // 2)
    world.scheduler.advance(FIRST_SECONDS)
    world.worker.run()
    world.scheduler.advance(1.5)
    assert world.worker.jobs == []
    world.scheduler.advance(0.5)
    assert len(world.worker.jobs) == 1


def test_it_can_be_turned_off_and_stopped() -> None:
    off = World(bytes_per_second=0)
    off.scheduler.advance(FIRST_SECONDS + PASS_SECONDS)
    assert off.worker.jobs == []
    stopped = World()
    stopped.scheduler.advance(FIRST_SECONDS)
    stopped.scrubbing.stop()
    stopped.worker.run()
    stopped.scheduler.advance(PASS_SECONDS)
    assert stopped.worker.jobs == []
