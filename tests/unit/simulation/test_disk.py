"""The simulated disk and its worker: what survives a crash, and what must not."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from journal.errors import DiskFailed, DiskFull
from tests.simulation.disk import SimDisk
from tests.simulation.loop import Ended, Process, SimLoop
from tests.simulation.worker import SimWorker


def fresh(seed: int = 1) -> SimDisk:
    return SimDisk(random.Random(seed))


def outcomes(prepare: object, seeds: int = 200) -> set[bytes | None]:
    """What file `f` may hold after a power cut, over many seeds."""
    found: set[bytes | None] = set()
    for seed in range(seeds):
        disk = fresh(seed)
        prepare(disk)  # type: ignore[operator]
        disk.lose_power()
        found.add(disk.read("f", 0, 1 << 20) if "f" in disk.names() else None)
    return found


def durable_file(disk: SimDisk, size: int = 8) -> None:
    disk.create("f", size)
    disk.sync("f")
    disk.sync_names()


def test_synced_bytes_survive_every_power_cut() -> None:
    """The one promise a disk makes."""

    def prepare(disk: SimDisk) -> None:
        durable_file(disk)
        disk.write("f", 2, [b"ab", b"c"])
        disk.sync("f")

    assert outcomes(prepare) == {b"\0\0abc\0\0\0"}


def test_unsynced_bytes_may_survive_or_not() -> None:
    """Code must not count on either."""

    def prepare(disk: SimDisk) -> None:
        durable_file(disk)
        disk.write("f", 0, [b"new"])

    assert outcomes(prepare) == {b"new\0\0\0\0\0", bytes(8)}


def test_unsynced_write_is_torn_at_sectors_in_any_order() -> None:
    """A later sector may reach the disk before an earlier one."""

    def prepare(disk: SimDisk) -> None:
        durable_file(disk, 1536)
        disk.write("f", 0, [b"x" * 1536])

    sectors = {tuple(chunk[at] == 120 for at in (0, 512, 1024)) for chunk in outcomes(prepare) if chunk}
    assert len(sectors) == 8


def test_name_that_was_not_synced_may_be_lost() -> None:
    """Syncing the file is not enough (R7)."""

    def prepare(disk: SimDisk) -> None:
        disk.create("f", 0)
        disk.write("f", 0, [b"abc"])
        disk.sync("f")

    assert outcomes(prepare) == {b"abc", None}


def test_rename_is_all_or_nothing() -> None:
    """After a crash in the middle the old content or the new one stands there, never none."""

    def prepare(disk: SimDisk) -> None:
        disk.create("f", 0)
        disk.write("f", 0, [b"old"])
        disk.sync("f")
        disk.sync_names()
        disk.create("t", 0)
        disk.write("t", 0, [b"new"])
        disk.sync("t")
        disk.rename("t", "f")

    assert outcomes(prepare) == {b"old", b"new"}


def test_process_crash_keeps_everything_written() -> None:
    """kill -9 loses no bytes that the kernel has."""
    disk = fresh()
    disk.create("f", 0)
    disk.write("f", 0, [b"abc"])
    disk.keep_cache()
    assert disk.read("f", 0, 9) == b"abc"


def test_durable_image_is_the_worst_that_a_power_cut_leaves() -> None:
    """Checkers look at it to see what is safe by now."""
    disk = fresh()
    durable_file(disk)
    disk.write("f", 0, [b"new"])
    disk.create("g", 4)
    image = disk.durable_image()
    assert image.names() == ["f"]
    assert image.read("f", 0, 8) == bytes(8)


def test_failing_write_names_the_file() -> None:
    """The product must see a failing disk as its own error class."""
    disk = fresh()
    durable_file(disk)
    disk.fail_next = DiskFailed("no space left on device")
    with pytest.raises(DiskFailed, match="f: no space left"):
        disk.write("f", 0, [b"x"])
    disk.write("f", 0, [b"y"])


def test_worker_runs_jobs_in_order_and_reports_on_the_loop() -> None:
    """The replica relies on the order of its saves."""
    loop, process, disk = SimLoop(), Process("n1"), fresh()
    worker = SimWorker(loop, process, disk, lambda: 0.01, lambda: None)
    seen: list[tuple[object, object, float]] = []

    async def main() -> None:
        worker.submit(lambda: 1, lambda result, error: seen.append((result, error, loop.time())))
        worker.submit(lambda: 1 // 0, lambda result, error: seen.append((result, type(error), loop.time())))
        worker.submit(lambda: 3, lambda result, error: seen.append((result, type(error), loop.time())))
        await asyncio.sleep(1)

    loop.run(main())
    # After the first failed job the later ones fail with it: nothing may be written behind a hole.
    outcome = [(result, error) for result, error, _ in seen]
    assert outcome == [(1, None), (None, ZeroDivisionError), (None, ZeroDivisionError)]
    assert [round(when, 2) for *_, when in seen] == [0.01, 0.02, 0.03]


def test_crash_falls_between_two_operations_of_a_job() -> None:
    """Recovery must stand every such place."""

    def job(disk: SimDisk) -> None:
        for letter in (b"a", b"b", b"c"):
            disk.write("f", 0, [letter])
            disk.sync("f")

    found = set()
    for operations in range(7):
        loop, process, disk = SimLoop(), Process("n1"), fresh()
        durable_file(disk, 1)
        worker = SimWorker(loop, process, disk, lambda: 0.01, lambda: None)

        async def main() -> None:
            worker.submit(lambda: job(disk), lambda result, error: pytest.fail("the process is dead"))  # noqa: B023
            loop.crash(process)  # noqa: B023
            worker.cut_short(operations)  # noqa: B023
            await asyncio.sleep(1)

        loop.run(main())
        found.add((disk.durable_image().read("f", 0, 1), disk.read("f", 0, 1)))
    letters = [b"\0", b"a", b"b", b"c"]
    steps = [(durable, cached) for durable, cached in pairwise(letters)]
    assert found == {*steps, *((letter, letter) for letter in letters)}


def test_planned_crash_point_stops_the_machine() -> None:
    """The faults plan a crash at the n-th operation and must hear when it falls."""
    loop, process, disk = SimLoop(), Process("n1"), fresh()
    durable_file(disk)
    crashed: list[bool] = []
    worker = SimWorker(loop, process, disk, lambda: 0.01, lambda: crashed.append(True))
    disk.crash_at = disk.operations

    async def main() -> None:
        worker.submit(lambda: disk.write("f", 0, [b"x"]), lambda result, error: pytest.fail("it crashed"))
        await asyncio.sleep(1)

    loop.run(main())
    assert crashed == [True]
    with pytest.raises(Ended):
        disk.crash_at = disk.operations
        disk.sync("f")


def test_failed_sync_loses_what_it_should_have_kept() -> None:
    """As Linux does: the next sync succeeds and brings nothing back (R6)."""

    def prepare(disk: SimDisk) -> None:
        durable_file(disk)
        disk.write("f", 0, [b"new"])
        disk.fail_sync = True
        with pytest.raises(DiskFailed, match="cannot sync"):
            disk.sync("f")
        disk.sync("f")

    assert outcomes(prepare) == {b"new\0\0\0\0\0", bytes(8)}


def test_full_disk_refuses_what_would_grow_and_nothing_else() -> None:
    """Bytes within a reserved file have their place already."""
    disk = fresh()
    durable_file(disk)
    disk.full = True
    disk.write("f", 0, [b"x" * 8])
    disk.sync("f")
    for grow in (lambda: disk.create("g", 8), lambda: disk.write("f", 4, [b"12345"])):
        with pytest.raises(DiskFull, match="full"):
            grow()
    assert disk.free_bytes() == 0
    disk.calm()
    disk.create("g", 8)


def test_reads_can_fail_for_a_while() -> None:
    """A start that meets it must say so, and succeed when it is over."""
    disk = fresh()
    durable_file(disk)
    disk.fail_reads = 1
    with pytest.raises(DiskFailed, match="cannot read"):
        disk.read("f", 0, 8)
    assert disk.read("f", 0, 8) == bytes(8)


def test_names_that_were_not_synced_can_be_lost_for_sure() -> None:
    """A rename without a sync of the directory is the classic of crash bugs."""
    for seed in range(50):
        disk = fresh(seed)
        durable_file(disk)
        disk.create("t", 0)
        disk.write("t", 0, [b"new"])
        disk.sync("t")
        disk.rename("t", "f")
        disk.lose_power(keep_names=False)
        assert disk.names() == ["f"] and disk.read("f", 0, 8) == bytes(8)


def test_rot_flips_one_bit_of_what_is_there() -> None:
    """Of the durable bytes and of what is read; a file of zeros has nothing to lose."""
    disk = fresh()
    durable_file(disk)
    assert not disk.rot("f", random.Random(1)) and not disk.rot("g", random.Random(1))
    disk.write("f", 0, [b"abcd"])
    disk.sync("f")
    assert disk.rot("f", random.Random(1))
    damaged = disk.read("f", 0, 8)
    assert sum((one ^ other).bit_count() for one, other in zip(damaged, b"abcd\0\0\0\0", strict=True)) == 1
    assert disk.durable_image().read("f", 0, 8) == damaged


def test_operations_are_told_before_and_after() -> None:
    """Crash points stand there; one that raises lets nothing happen."""
    disk = fresh()
    told: list[tuple[str, str, str]] = []
    disk.on_before = lambda operation, name: told.append(("before", operation, name))
    disk.on_after = lambda operation, name: told.append(("after", operation, name))
    durable_file(disk)
    disk.create("t", 0)
    disk.rename("t", "f")
    disk.sync_names()
    assert [step for step in told if step[0] == "before"] == [
        ("before", "create", "f"),
        ("before", "sync", "f"),
        ("before", "names", "f"),
        ("before", "create", "t"),
        ("before", "replace", "t"),
        ("before", "names", "t"),
    ]
    assert len(told) == 12

    def end(operation: str, name: str) -> None:
        raise Ended

    disk.on_before = end
    with pytest.raises(Ended):
        disk.write("f", 0, [b"x"])
    assert disk.read("f", 0, 1) == b""


def test_a_lying_disk_loses_the_end_of_a_file_and_nothing_else() -> None:
    """What it had promised to keep: neither a restart nor a power cut brings it back."""
    disk = SimDisk(random.Random(1))
    disk.create("log", 100)
    disk.write("log", 0, [b"h" * 10 + b"a" * 10 + b"b" * 10])
    disk.sync("log")
    disk.create("mark", 4)
    disk.write("mark", 0, [b"mark"])
    disk.sync_names()
    disk.write_back("mark")
    assert disk.lose_tail("log", 10, 10)
    disk.lose_power()
    assert disk.read("log", 0, 40) == b"h" * 10 + b"a" * 10 + bytes(20)
    assert disk.read("mark", 0, 4) == b"mark"
    assert disk.lose_tail("log", 10, 1000) and disk.read("log", 0, 40) == b"h" * 10 + bytes(30)
    assert not disk.lose_tail("log", 10, 1000) and not disk.lose_tail("no", 0, 1)
