"""The simulated disk and its worker: what survives a crash, and what must not."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from journal.errors import DiskFailed
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
