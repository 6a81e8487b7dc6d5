"""One thread that does the blocking work of one kind, in order, and reports back to the loop.

A replica has two: one for its log and metadata, one for snapshots. Knows nothing of what the jobs do.
A dedicated thread with a plain queue costs a fifth less per sync than the executor of the loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from journal.errors import DiskFailed, JournalError

T = TypeVar("T")
CLOSE_SECONDS_MAX = 5.0


class Loop(Protocol):
    """The part of `asyncio.AbstractEventLoop` that a thread may use."""

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> object: ...


class Worker(Protocol):
    """Runs jobs one after another, off the loop."""

    def submit(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Run `job` after all those before it; then `done(result, error)` on the loop."""

    def close(self) -> None:
        """Run out what was submitted. Nothing may be submitted afterwards."""


class ThreadWorker:
    """The real thing: a thread of its own.

    A job may fail by a JournalError that only concerns itself (a received snapshot that is damaged);
    any other failure, DiskFailed among them, means that the state on disk is not known any more, and
    every later job fails with the same error without being run.
    """

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]] | None] = (
            SimpleQueue()
        )
        self._results: deque[tuple[Callable[[Any, BaseException | None], None], Any, BaseException | None]] = deque()
        self._waking = False
        """`_deliver` is on its way. Cleared before the results are taken, so that none is left behind."""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        assert not self._closed, self._name
        self._jobs.put((job, done))

    def close(self) -> None:
        """Run out the queue, deliver every result, end the thread. Called on the loop.

        Raises DiskFailed when the disk hangs for longer than CLOSE_SECONDS_MAX.
        """
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join(CLOSE_SECONDS_MAX)
        if self._thread.is_alive():
            raise DiskFailed(f"{self._name}: the disk did not finish within {CLOSE_SECONDS_MAX} seconds")
        self._deliver()

    def _run(self) -> None:
        fatal: BaseException | None = None
        while (item := self._jobs.get()) is not None:
            job, done = item
            result: Any = None
            error = fatal
            if error is None:
                try:
                    result = job()
                except BaseException as raised:
                    error = raised
                    if isinstance(raised, DiskFailed) or not isinstance(raised, JournalError):
                        fatal = raised
            self._results.append((done, result, error))
            if not self._waking:
                self._waking = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:
                    # The loop is closed: only `close` still listens, and it delivers by itself.
                    continue

    def _deliver(self) -> None:
        self._waking = False
        try:
            while self._results:
                done, result, error = self._results.popleft()
                done(result, error)
        finally:
            if self._results:  # a callback raised: the others are still owed theirs
                self._loop.call_soon_threadsafe(self._deliver)
