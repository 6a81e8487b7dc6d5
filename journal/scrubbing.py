"""The pace at which cold files are read again for rot, and what was found (R14).

A pass over everything begins every hour, and reads no faster than `Limits.scrub_bytes_per_second`; between two
pieces the background worker is free for snapshots. What is found is logged and shown until a pass no longer
finds it. Knows nothing of what is in the files. Made, started and stopped by who assembles a server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from journal.clock import Handle, Scheduler
from journal.limits import Limits
from journal.storage.scrub import Damage, Step
from journal.storage.store import Store
from journal.storage.worker import Worker

logger = logging.getLogger("journal.scrubbing")

FIRST_SECONDS = 60.0
"""From the start, where everything was just read, to the first pass."""
PASS_SECONDS = 3600.0
"""From the end of a pass to the next."""
PIECE_BYTES = 64 * 1024


class Scrubbing:
    """The scrubbing of one data directory."""

    def __init__(self, store: Store, worker: Worker, scheduler: Scheduler, limits: Limits) -> None:
        self._store = store
        self._worker = worker
        self._scheduler = scheduler
        self._bytes_per_second = limits.scrub_bytes_per_second
        self._walk: Iterator[Step] = iter(())
        self._found: dict[str, str] = {}
        """By file: what this pass has found so far."""
        self._known: dict[str, str] = {}
        """What the pass before it had found."""
        self._timer: Handle | None = None
        self._stopped = False

    @property
    def damage(self) -> list[str]:
        """What is known to be rotten, by file."""
        return [text for _, text in sorted({**self._known, **self._found}.items())]

    def start(self) -> None:
        if self._bytes_per_second:
            self._later(FIRST_SECONDS, self._begin)

    def stop(self) -> None:
        """Read nothing more; a piece under way still ends."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._timer = self._scheduler.call_at(self._scheduler.time() + seconds, callback)

    def _begin(self) -> None:
        self._walk = self._store.scrub(PIECE_BYTES)
        self._found = {}
        self._next()

    def _next(self) -> None:
        self._worker.submit(lambda: next(self._walk, None), self._checked)

    def _checked(self, step: Step | None, error: BaseException | None) -> None:
        if self._stopped:
            return
        if error is not None:
            # The worker has failed for another reason, which its own user hears of.
            logger.error("scrubbing ends: %s", error)
            return
        if isinstance(step, Damage):
            self._found[step.file] = step.text
            logger.critical("damage found: %s", step.text)
            step = PIECE_BYTES
        if step is None:
            self._known, self._found = self._found, {}
            self._later(PASS_SECONDS, self._begin)
        else:
            self._later(step / self._bytes_per_second, self._next)
