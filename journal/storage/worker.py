"""One thread that does the blocking work of one kind, in order, and reports back to the loop.

A replica has two: one for its log and metadata, one for snapshots. Knows nothing of what the jobs do.
A dedicated thread with a plain queue costs a fifth less per sync than the executor of the loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from journal.errors import DiskFailed, JournalError

T = TypeVar("T")
CLOSE_SECONDS_MAX = 5.0
HERE_SECONDS_MAX = 0.002
"""A job that kept its caller's thread for longer than this shows a disk that is too slow for it ..."""
HERE_PAUSE_SECONDS = 1.0
"""... and for so long no other one does."""


class Loop(Protocol):
    """The part of `asyncio.AbstractEventLoop` that a thread may use."""

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> object: ...

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> object: ...


class Worker(Protocol):
    """Runs jobs one after another, off the loop."""

    def submit(
        self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None], *, here: bool = False
    ) -> None:
        """Run `job` after all those before it; then `done(result, error)` on the loop, never before this returns.

        With `here` the caller does not mind if the job runs on its own thread, and its loop waits for it.
        """

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
        self._unfinished = 0
        """Jobs whose `done` was not called yet. Touched on the loop only."""
        self._here_again_at = 0.0
        """Until then the disk counts as slow, and no job runs on the caller's thread."""
        self._fatal: BaseException | None = None
        """What every later job fails with."""
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None], *, here: bool = False
    ) -> None:
        assert not self._closed, self._name
        if here and not self._unfinished and time.monotonic() >= self._here_again_at:
            self._unfinished += 1
            self._run_here(job, done)
        else:
            self._unfinished += 1
            self._jobs.put((job, done))

    def _run_here(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """The thread is idle: its hand-over can be spared, unless the disk has been slow lately."""
        begun = time.monotonic()
        self._results.append((done, *self._try(job)))
        self._loop.call_soon(self._deliver)
        ended = time.monotonic()
        if ended - begun > HERE_SECONDS_MAX:
            self._here_again_at = ended + HERE_PAUSE_SECONDS

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

    def _try(self, job: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """The job's result or error. One thread at a time: `here` is only heeded while the other has nothing to do."""
        if self._fatal is not None:
            return None, self._fatal
        try:
            return job(), None
        except BaseException as raised:
            if isinstance(raised, DiskFailed) or not isinstance(raised, JournalError):
                self._fatal = raised
            return None, raised

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            self._results.append((done, *self._try(job)))
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
                self._unfinished -= 1
                done(result, error)
        finally:
            if self._results:  # a callback raised: the others are still owed theirs
                self._loop.call_soon_threadsafe(self._deliver)
