"""The read rounds of one replica: one at a time, shared by all reads that were asked for before it began.

A round that gets lost with a message or a leadership is begun anew, with a context of its own, because an answer
to an old question must never count for a new one (bug class 28). Called by `replica.py` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from journal.errors import Busy
from journal.raft.core import Core
from journal.raft.ready import ReadGrant, Role
from journal.values import Index


class Asker(Protocol):
    """The part of `journal.replica.Owner` that a round needs."""

    def on_read_start(self) -> bytes: ...

    def on_read_done(self) -> None: ...

    def on_note(self, note: bytes) -> Index: ...


class Reading:
    """The rounds of one replica."""

    def __init__(self, core: Core, owner: Asker, retry_seconds: float, kick: Callable[[], None]) -> None:
        self._core = core
        self._owner = owner
        self._retry_seconds = retry_seconds
        self._kick = kick
        self._wanted = False
        self._last_context = 0
        self._context = 0
        """The round under way, 0 when there is none."""
        self._index: Index | None = None
        """The round's read index, once granted: it ends when that is applied."""
        self.retry_at = float("inf")
        """When the round under way counts as lost."""

    def want(self) -> None:
        """Somebody wants a round that begins after this call."""
        self._wanted = True

    def begin_if_due(self, now: float) -> None:
        """At the start of a pass."""
        if now >= self.retry_at:
            self.give_up()
        if self._wanted and not self._context:
            self._begin(now)

    def on_grants(self, grants: list[ReadGrant]) -> None:
        for grant in grants:
            if grant.context == self._context:
                self._index = grant.index

    def end_if_due(self, applied: Index) -> None:
        """At the end of a pass."""
        if self._index is None or applied < self._index:
            return
        self._context = 0
        self._index = None
        self.retry_at = float("inf")
        self._owner.on_read_done()
        if self._wanted:
            self._kick()

    def give_up(self) -> None:
        """The round may be lost; its reads go into the next one."""
        self.retry_at = float("inf")
        if self._context:
            self._context = 0
            self._index = None
            self._wanted = True

    def _begin(self, now: float) -> None:
        core = self._core
        if core.leader is None:
            return  # asked again when there is one
        self._last_context += 1
        self._context = self._last_context
        self._index = None
        self._wanted = False
        note = self._owner.on_read_start()
        floor = self._owner.on_note(note) if core.role is Role.LEADER else Index(0)
        self.retry_at = now + self._retry_seconds
        try:
            core.read(self._context, now, floor=floor, note=note)
        except Busy:
            pass  # asked again when the time for an answer is over, like a question that was lost
