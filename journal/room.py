"""Whether the disk has room for this node's log, and what the node keeps from while it has none (R12).

A full disk is a state, not a death: what could not be saved waits and is tried again until there is room,
and then everything goes on without an operator. Meanwhile the node hands its leadership over, stays out of
elections, and takes no writes from clients; it goes on voting, answering heartbeats and serving reads. One
that is alone goes on leading: it has nobody to hand over to, and its reads need no disk.

Told of the disk by `saving.py` and `replica.py`, which also asks it, once a pass, what the core must know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from journal.clock import Handle, Scheduler
from journal.errors import DiskFull
from journal.raft.core import Core
from journal.raft.ready import Role

logger = logging.getLogger("journal.room")

RETRY_SECONDS = 0.5
"""Between two looks whether there is room again."""


class Room:
    """The room on one replica's disk, as its writes have found it."""

    def __init__(self, scheduler: Scheduler, on_change: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._on_change = on_change
        self.full_since: float | None = None
        """When a write first met the full disk, by the scheduler's clock; None while there is room."""
        self.reason = ""
        """What the write was told. Empty while there is room."""
        self._stopped = False
        self._timers: set[Handle] = set()
        """At most one for each kind of write that waits."""

    def wait(self, error: DiskFull, retry: Callable[[], None]) -> None:
        """A write found no room: call `retry` in a while."""
        if self._stopped:
            return
        if self.full_since is None:
            logger.error("read-only until there is room: %s", error)
            self.full_since = self._scheduler.time()
            self.reason = str(error)
            self._on_change()

        def on_timer() -> None:
            self._timers.discard(timer)
            retry()

        timer = self._scheduler.call_at(self._scheduler.time() + RETRY_SECONDS, on_timer)
        self._timers.add(timer)

    def found(self) -> None:
        """A write went through."""
        if self.full_since is not None:
            logger.warning("there is room again, after %.1f s", self._scheduler.time() - self.full_since)
            self.full_since = None
            self.reason = ""
            self._on_change()

    def heed(self, core: Core, now: float) -> None:
        """Once a pass: a core without room keeps out of elections, and hands over when it leads others."""
        able = self.full_since is None or (core.role is Role.LEADER and not core.progress())
        if core.able is not able:
            core.set_able(able, now)

    def stop(self) -> None:
        """Try nothing again."""
        self._stopped = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
