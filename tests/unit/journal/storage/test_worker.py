"""The worker thread: order, results on the loop, and what a failure does to the jobs behind it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from journal.errors import CorruptRecord, DiskFailed
from journal.storage import worker as worker_module
from journal.storage.worker import ThreadWorker

Result = tuple[object, BaseException | None]


async def run(worker: ThreadWorker, job) -> Result:
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    worker.submit(job, lambda result, error: future.set_result((result, error)))
    return await future


def fail(error: BaseException):
    def job() -> None:
        raise error

    return job


@pytest.mark.asyncio
async def test_jobs_run_in_order_on_a_thread_of_their_own_and_results_come_to_the_loop() -> None:
    """The store relies on both: saves must not overtake each other, and `done` touches the replica."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    log: list[tuple[str, int, bool]] = []
    here = threading.current_thread()

    def submit(number: int) -> None:
        worker.submit(
            lambda: log.append(("job", number, threading.current_thread() is here)),
            lambda result, error: log.append(("done", number, threading.current_thread() is here)),
        )

    for number in range(20):
        submit(number)
    await run(worker, lambda: None)
    assert [n for what, n, _ in log if what == "job"] == list(range(20))
    assert [n for what, n, _ in log if what == "done"] == list(range(20))
    assert all(on_loop == (what == "done") for what, _, on_loop in log)
    worker.close()


@pytest.mark.asyncio
async def test_results_that_are_ready_together_wake_the_loop_once() -> None:
    """A wake-up costs more than a result."""
    loop = asyncio.get_running_loop()
    wakes: list[None] = []

    class CountingLoop:
        def call_soon_threadsafe(self, callback, *args: object) -> object:
            wakes.append(None)
            return loop.call_soon_threadsafe(callback, *args)

    worker = ThreadWorker(CountingLoop(), "test")
    results: list[int] = []
    for number in range(50):
        worker.submit(lambda n=number: n, lambda result, error: results.append(result))
    worker.close()  # the loop does not run meanwhile, so everything is ready at once
    await asyncio.sleep(0)
    assert results == list(range(50))
    assert len(wakes) == 1


@pytest.mark.asyncio
async def test_a_failed_disk_fails_every_later_job_without_running_it() -> None:
    """R6: nothing may be written behind a write of which nobody knows whether it happened."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    error = DiskFailed("gone")
    ran: list[None] = []
    assert await run(worker, fail(error)) == (None, error)
    assert await run(worker, lambda: ran.append(None)) == (None, error)
    assert not ran
    worker.close()


@pytest.mark.asyncio
async def test_our_own_mistake_in_a_job_stops_the_worker_too() -> None:
    """After a failed assertion nobody knows what the job left behind."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    error = AssertionError("ours")
    assert await run(worker, fail(error)) == (None, error)
    assert await run(worker, lambda: 1) == (None, error)
    worker.close()


@pytest.mark.asyncio
async def test_a_damaged_snapshot_fails_its_own_job_only() -> None:
    """A peer's bad bytes must not keep this node from its disk."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    error = CorruptRecord("bad")
    assert await run(worker, fail(error)) == (None, error)
    assert await run(worker, lambda: 1) == (1, None)
    worker.close()


@pytest.mark.asyncio
async def test_close_runs_out_the_queue_and_delivers_everything() -> None:
    """A node that stops still wants to know what became durable."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    results: list[object] = []
    for number in range(5):
        worker.submit(lambda n=number: n, lambda result, error: results.append(result))
    worker.close()
    worker.close()
    assert results == [0, 1, 2, 3, 4]
    with pytest.raises(AssertionError):
        worker.submit(lambda: None, lambda result, error: None)


@pytest.mark.asyncio
async def test_a_raising_callback_does_not_cost_the_others_their_results() -> None:
    """Each caller is owed an answer."""
    loop = asyncio.get_running_loop()
    caught: list[BaseException | None] = []
    loop.set_exception_handler(lambda _, context: caught.append(context.get("exception")))
    worker = ThreadWorker(loop, "test")
    hold = threading.Event()
    error = RuntimeError("callback")

    def bad(result: object, failure: BaseException | None) -> None:
        raise error

    worker.submit(hold.wait, bad)
    after = asyncio.ensure_future(run(worker, lambda: "fine"))
    await asyncio.sleep(0)
    hold.set()
    assert await after == ("fine", None)
    assert caught == [error]
    worker.close()


@pytest.mark.asyncio
async def test_close_gives_up_on_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: a hung sync must not keep the process from ending."""
    monkeypatch.setattr(worker_module, "CLOSE_SECONDS_MAX", 0.01)
    worker = ThreadWorker(asyncio.get_running_loop(), "slow")
    hold = threading.Event()
    worker.submit(hold.wait, lambda result, error: None)
    with pytest.raises(DiskFailed, match="slow"):
        worker.close()
    hold.set()


@pytest.mark.asyncio
async def test_a_job_that_may_run_here_does_so_only_when_nothing_is_before_it() -> None:
    """It spares two hand-overs between threads, and must not overtake what was submitted earlier."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    ran: list[tuple[int, bool]] = []
    mine = threading.current_thread()

    def job(number: int):
        return lambda: ran.append((number, threading.current_thread() is mine))

    worker.submit(job(1), lambda result, error: None)
    worker.submit(job(2), lambda result, error: None, here=True)
    await run(worker, job(3))
    called: list[bool] = []
    worker.submit(job(4), lambda result, error: called.append(True), here=True)
    assert ran == [(1, False), (2, False), (3, False), (4, True)]
    assert called == []  # never before submit returns
    await asyncio.sleep(0)
    assert called == [True]
    worker.close()


@pytest.mark.asyncio
async def test_after_a_slow_job_here_the_loop_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes milliseconds must not hold up heartbeats."""
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    monkeypatch.setattr(worker_module, "HERE_SECONDS_MAX", -1.0)
    threads: list[threading.Thread] = []
    for _ in range(2):
        done = asyncio.Event()
        worker.submit(
            lambda: threads.append(threading.current_thread()), lambda result, error, done=done: done.set(), here=True
        )
        await done.wait()
    assert threads[0] is threading.current_thread() and threads[1] is not threading.current_thread()
    worker.close()


@pytest.mark.asyncio
async def test_a_failure_here_fails_what_comes_after_it_too() -> None:
    worker = ThreadWorker(asyncio.get_running_loop(), "test")
    outcomes: list[BaseException | None] = []
    worker.submit(fail(DiskFailed("full")), lambda result, error: outcomes.append(error), here=True)
    _, error = await run(worker, lambda: None)
    assert isinstance(outcomes[0], DiskFailed) and error is outcomes[0]
    worker.close()
