"""Mutual exclusion, told by fencing tokens (M1-M4, M6).

Knows who is inside a lock's block, by simulated process and true time, and which tokens were granted. A
holder that was paused may overlap the next one for a moment, which is what tokens are for; nobody else may.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.simulation.loop import Process
from tests.simulation.trace import Violation


@dataclass(eq=False, slots=True)
class Hold:
    """One stay inside the block of a lock."""

    path: str
    token: int
    process: Process
    pauses: int
    """How often the process had been paused when it entered."""

    @property
    def excused(self) -> bool:
        """A process that stood still cannot know what happened meanwhile; a dead one holds nothing."""
        return self.process.dead or self.process.paused or self.process.pauses != self.pauses


class LockBook:
    """All grants of one run."""

    def __init__(self) -> None:
        self.grants = 0
        self._inside: dict[Hold, None] = {}
        self._newest: dict[str, Hold] = {}
        self._resources: dict[str, int] = {}
        """Resource -> the highest token it has seen."""
        self.overlaps = 0
        """Writes that a resource refused because a later holder had been there: what fencing is for."""

    def enter(self, path: str, token: int, process: Process) -> Hold:
        """A client runs the block of a lock. `leave` must follow, unless the process dies."""
        self.grants += 1
        newest = self._newest.get(path)
        if newest is not None and token <= newest.token:
            raise Violation(
                "M2", f"{process.name} got {path} with token {token} after {newest.process.name} with {newest.token}"
            )
        hold = Hold(path, token, process, process.pauses)
        for other in self._inside:
            if other.path == path and not other.excused:
                raise Violation(
                    "M3", f"{process.name} got {path} with token {token} while {other.process.name} holds {other.token}"
                )
        self._newest[path] = hold
        self._inside[hold] = None
        return hold

    def holds(self, process: Process) -> bool:
        """Whether a process is inside the block of a lock."""
        return any(hold.process is process for hold in self._inside)

    def leave(self, hold: Hold) -> None:
        self._inside.pop(hold, None)

    def write(self, resource: str, token: int) -> bool:
        """A holder writes to something outside that knows tokens. False when the write comes too late (M1)."""
        if token < self._resources.get(resource, 0):
            self.overlaps += 1
            return False
        self._resources[resource] = token
        return True


def check_first_in_queue(path: str, token: int, places: Iterable[int]) -> None:
    """Whoever was in the queue before the new holder must be gone (M4). `places`: creation index of each key."""
    before = sorted(place for place in places if place < token)
    if before:
        raise Violation("M4", f"{path} was granted to token {token} while {before} stand before it")


def check_fenced_writes(path: str, tokens: Iterable[int]) -> None:
    """Of the writes that a lock's guard let through, in log order, none may carry a lower token (M1)."""
    highest = 0
    for token in tokens:
        if token < highest:
            raise Violation("M1", f"a write under token {token} of {path} landed after one under {highest}")
        highest = token


def check_no_orphans(path: str, children: list[str]) -> None:
    """When nobody contends any more, nothing may be left in the queue (M6)."""
    if children:
        raise Violation("M6", f"{path} is still queued for by {children}, and nobody is left")
