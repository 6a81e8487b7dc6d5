"""The virtual event loop: time, processes, and what it refuses."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from tests.simulation.loop import WORLD, Deadlock, Ended, Livelock, Process, Refused, SimLoop


def test_time_jumps_to_the_next_timer() -> None:
    """A simulated hour must cost nothing, or no run would ever see one."""
    loop = SimLoop()

    async def main() -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert 3600 <= loop.run(main()) < 3600.1


def test_nothing_scheduled_is_reported_as_deadlock() -> None:
    """A run that waits for ever must say so instead of hanging."""
    loop = SimLoop()

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(Deadlock):
        loop.run(main())


def test_code_that_spins_still_meets_its_timers() -> None:
    """In the real world time passes while code spins; a loop that froze time would hang where the product does not."""
    loop = SimLoop()

    async def main() -> int:
        spins = 0
        with anyio.move_on_after(0.01):
            while True:
                spins += 1
                await anyio.lowlevel.checkpoint()
        return spins

    assert 100 < loop.run(main()) < 100_000


def test_spinning_without_timers_is_a_livelock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two callbacks that wake each other for ever are a defect, and must be named as one."""
    monkeypatch.setattr("tests.simulation.loop.PASSES_PER_INSTANT_MAX", 1000)
    loop = SimLoop()

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock):
        loop.run(main())


def test_paused_process_runs_what_it_missed_in_order() -> None:
    """A paused process finds its timers overdue and its messages waiting, as after SIGCONT."""
    loop = SimLoop()
    process = Process("n1")
    seen: list[tuple[str, float]] = []

    async def inside() -> None:
        await asyncio.sleep(1)
        seen.append(("timer", loop.time()))

    async def main() -> None:
        loop.spawn(process, inside())
        await asyncio.sleep(0.5)
        loop.pause(process)
        loop.enter(process, lambda: seen.append(("message", loop.time())))
        await asyncio.sleep(4)
        assert seen == []
        loop.resume(process)
        await asyncio.sleep(0.5)

    loop.run(main())
    assert [what for what, _ in seen] == ["message", "timer"]
    assert all(4.5 <= when < 4.6 for _, when in seen)


def test_resumed_process_keeps_the_order_of_what_arrives_meanwhile() -> None:
    """Bytes that arrive in the moment of the resumption must not overtake those that waited."""
    loop = SimLoop()
    process = Process("c1")
    seen: list[int] = []

    async def main() -> None:
        loop.pause(process)
        loop.enter(process, seen.append, 1)
        loop.enter(process, seen.append, 2)
        await asyncio.sleep(1)
        loop.enter(process, seen.append, 3)
        loop.resume(process)
        await asyncio.sleep(1)

    loop.run(main())
    assert seen == [1, 2, 3]


def test_crashed_process_runs_nothing_not_even_finally() -> None:
    """kill -9 leaves no time for clean-up; code that only works because it cleans up must be found out."""
    loop = SimLoop()
    process = Process("n1")
    seen: list[str] = []

    async def inside() -> None:
        try:
            await asyncio.sleep(1)
            seen.append("ran on")
        finally:
            seen.append("finally")

    async def main() -> None:
        loop.spawn(process, inside())
        await asyncio.sleep(0.5)
        loop.crash(process)
        loop.enter(process, seen.append, "message")
        await asyncio.sleep(5)
        assert seen == []

    loop.run(main())


def test_callbacks_inherit_their_process() -> None:
    """Everything a process starts must stop with it, however deep."""
    loop = SimLoop()
    process = Process("n1")
    seen: list[str] = []

    async def child() -> None:
        await asyncio.sleep(1)
        seen.append("child")

    async def inside() -> None:
        loop.call_later(1, seen.append, "timer")
        async with anyio.create_task_group() as group:
            group.start_soon(child)

    async def main() -> None:
        loop.spawn(process, inside())
        await asyncio.sleep(0.5)
        loop.crash(process)
        await asyncio.sleep(5)

    loop.run(main())
    assert seen == []


def test_failure_in_a_callback_ends_the_run() -> None:
    """An exception that only reached the log would be a finding lost."""
    loop = SimLoop()

    async def main() -> None:
        loop.call_later(1, lambda: 1 // 0)
        await asyncio.sleep(10)

    with pytest.raises(ZeroDivisionError):
        loop.run(main())


def test_a_run_that_takes_too_long_is_given_up() -> None:
    """The time limit is simulated, so a slow machine cannot fail a run."""
    loop = SimLoop()

    async def main() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(Livelock, match="60"):
        loop.run(main(), until=60)


def test_the_real_world_is_refused() -> None:
    """What leaves the simulation cannot be played again."""
    loop = SimLoop()

    async def main() -> None:
        with pytest.raises(Refused):
            await asyncio.to_thread(print)
        with pytest.raises(Refused):
            await asyncio.open_connection("127.0.0.1", 1)
        refused: list[type] = []

        def from_thread() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except Refused:
                refused.append(Refused)

        thread = threading.Thread(target=from_thread)
        thread.start()
        thread.join()
        assert refused

    loop.run(main())


def test_anyio_cancels_in_the_same_order_every_time() -> None:
    """anyio keeps tasks and scopes in sets; ordered by address they would make runs differ."""

    def one_run() -> list[int]:
        loop = SimLoop()
        order: list[int] = []

        async def child(number: int) -> None:
            try:
                with anyio.CancelScope():
                    await anyio.sleep_forever()
            finally:
                order.append(number)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(child, number)
                await anyio.sleep(1)
                group.cancel_scope.cancel()

        loop.run(main())
        return order

    first = one_run()
    assert sorted(first) == list(range(50))
    padding = [object() for _ in range(1000)]
    assert one_run() == first
    assert padding


def test_clocks_run_at_their_own_rates_and_true_time_at_its_own() -> None:
    """Timeouts are counted by the clock of the machine they run on, and no two of these agree."""
    loop = SimLoop()
    loop.clocks_differ = True
    fast, slow = Process("fast", rate=1.05), Process("slow", rate=0.95)
    woken: dict[str, tuple[float, float]] = {}

    async def inside(name: str) -> None:
        began = loop.time()
        await asyncio.sleep(10)
        woken[name] = loop.now, loop.time() - began

    async def main() -> None:
        for process in (fast, slow):
            loop.spawn(process, inside(process.name))
        loop.call_at_true_time(5.0, woken.setdefault, "true", (loop.now, 0.0), context=WORLD)
        await asyncio.sleep(20)

    loop.run(main())
    assert {name: round(now, 2) for name, (now, _) in woken.items()} == {"fast": 9.52, "slow": 10.53, "true": 0.0}
    assert all(9.99 < own < 10.01 for name, (_, own) in woken.items() if name != "true")


def test_callbacks_of_a_slow_processor_take_their_time_and_keep_their_order() -> None:
    """Work piles up, timers come late, and nothing overtakes."""
    loop = SimLoop()
    process = Process("n1")
    seen: list[tuple[int, float]] = []

    async def main() -> None:
        process.step_seconds = 0.1
        for number in range(5):
            loop.enter(process, lambda number: seen.append((number, round(loop.now, 2))), number)
        await asyncio.sleep(0.25)
        loop.pause(process)
        await asyncio.sleep(1.0)
        loop.resume(process)
        await asyncio.sleep(0.15)
        process.step_seconds = 0.0
        loop.enter(process, lambda: seen.append((5, round(loop.now, 2))))
        await asyncio.sleep(1.0)

    loop.run(main())
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4, 5]
    assert [when for _, when in seen][:3] == [0.0, 0.1, 0.2]
    assert seen[3][1] >= 1.25 and seen[5][1] < 1.6


def test_a_process_that_is_ended_in_the_middle_of_a_callback_harms_nobody_else() -> None:
    """A crash point unwinds the product's code; the run goes on."""
    loop = SimLoop()
    process = Process("n1")
    seen: list[str] = []

    def callback() -> None:
        loop.crash(process)
        raise Ended

    async def main() -> None:
        loop.enter(process, callback)
        loop.enter(process, seen.append, "later")
        await asyncio.sleep(1)
        seen.append("the world goes on")

    loop.run(main())
    assert seen == ["the world goes on"]
