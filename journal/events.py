"""What a `Journal` tells of itself and of its machine, and the bounded queue from which one reader takes it.

Knows nothing of where events come from. Filled by `desk.py`, read by users.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Self

from journal.errors import EventsLost, JournalError

EVENTS_QUEUED_MAX = 10_000
"""Events that wait for one reader; with one more the reader is told that it has lost some."""


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Who leads, as this node sees it."""

    leader: str | None
    term: int


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """What this node is: `follower`, `candidate`, `leader` or `learner`."""

    role: str
    term: int


@dataclass(frozen=True, slots=True)
class VotersChanged:
    """Who votes. While the cluster goes from one set of voters to another, both decide: `outgoing` is the old one."""

    voters: tuple[str, ...]
    outgoing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """What the machine emitted when it applied the command at `index`."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StateReplaced:
    """The machine was given another state at `index`: a snapshot, because this node was too far behind (then the
    machine's events up to there that it has not told will not be told here), or an older state to go back to."""

    index: int


Event = LeaderChanged | RoleChanged | VotersChanged | MachineEvent | StateReplaced


class EventStream:
    """`async for event in stream`, by one task, in the loop of the journal. Ends with the journal.

    Raises EventsLost, and is then over, when its reader was too slow.
    """

    def __init__(self) -> None:
        self.closed = False
        self._queue: deque[Event] = deque()
        self._error: JournalError | None = None
        self._news = asyncio.Event()

    def push(self, event: Event) -> None:
        """Hand an event to the reader."""
        if self.closed:
            return
        if len(self._queue) >= EVENTS_QUEUED_MAX:
            self._queue.clear()
            self._error = EventsLost(f"more than {EVENTS_QUEUED_MAX} events waited to be read")
            self.close()
        else:
            self._queue.append(event)
            self._news.set()

    def close(self) -> None:
        """No more events; those that wait can still be read."""
        self.closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self.closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._queue.popleft()
