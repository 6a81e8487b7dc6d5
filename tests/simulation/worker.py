"""A disk worker without a thread: its jobs run on the virtual clock, one after another.

A job takes a simulated time and then happens at one instant. When the machine crashes while a job is
under way, part of it has happened: it is carried out up to a random operation on the disk. Implements
`journal.storage.worker.Worker`; knows nothing of what the jobs do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from journal.errors import DiskFailed, JournalError
from tests.simulation.disk import SimDisk
from tests.simulation.loop import WORLD, Ended, Process, SimLoop

T = TypeVar("T")
Job = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


class SimWorker:
    """One worker of one process. `seconds()` is drawn anew for every job."""

    def __init__(
        self,
        loop: SimLoop,
        process: Process,
        disk: SimDisk,
        seconds: Callable[[], float],
        on_crash: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._process = process
        self._disk = disk
        self._seconds = seconds
        self._on_crash = on_crash
        self._jobs: deque[Job] = deque()
        """The first one is under way."""
        self._failed: BaseException | None = None

    def submit(
        self, job: Callable[[], T], done: Callable[[T | None, BaseException | None], None], *, here: bool = False
    ) -> None:
        """Run `job` after those before it; `done` gets its result or its error, on the loop."""
        self._jobs.append((job, done))
        if len(self._jobs) == 1:
            self._begin()

    @property
    def busy(self) -> bool:
        """A job is under way."""
        return bool(self._jobs)

    def close(self) -> None:
        """Run out what was submitted, at once."""
        while self._jobs:
            self._finish()

    def cut_short(self, operations: int) -> None:
        """The machine crashes: of the job under way, only the first `operations` on the disk happen."""
        if self._jobs:
            self._disk.crash_at = self._disk.operations + operations
            try:
                self._jobs[0][0]()
            except (Ended, Exception):
                pass  # whatever it was, nobody is left to hear of it
            self._disk.crash_at = -1
        self._jobs.clear()

    def _begin(self) -> None:
        # The job belongs to the machine, not to the process's turn: a paused process's disk goes on,
        # and its result waits. So the timer carries no process.
        self._loop.call_at_true_time(self._loop.now + self._seconds(), self._run_first, context=WORLD)

    def _run_first(self) -> None:
        if not self._process.dead and self._jobs:
            self._finish()
            if self._jobs:
                self._begin()

    def _finish(self) -> None:
        job, done = self._jobs.popleft()
        result, error = None, self._failed
        if error is None:
            try:
                result = self._process.context.copy().run(job)
            except Ended:
                self._jobs.clear()
                self._on_crash()
                return
            except Exception as raised:
                error = raised
                # As in `ThreadWorker`: what only concerns one job does not stop the others.
                if isinstance(raised, DiskFailed) or not isinstance(raised, JournalError):
                    self._failed = raised
        self._loop.enter(self._process, done, result, error)
