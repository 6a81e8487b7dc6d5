"""The order of one connection: requests are answered in the order in which they came.

A lane holds the requests that cannot be answered yet. It decides only about order; evaluating a read,
proposing a write and packing an answer are the connection's (`Front`), whatever protocol it speaks.

- A local read that finds the lane empty never enters it: the connection answers it at once.
- A read with a round (linearizable, or a ping) waits until that read round is confirmed.
- A write is proposed when it comes, so writes are pipelined, except behind an unconfirmed round: that
  read would otherwise see the write that came after it.
- A task is under way elsewhere; it holds back the answers behind it until it is finished.
- Outcomes arrive while commands are applied, so a local read that stands between two writes of its
  connection sees exactly the state between them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

_LOCAL = 0
_ROUND = 1
_WRITE = 2  # proposed, its outcome is awaited
_HELD = 3  # a write that is not proposed yet
_TASK = 4  # done elsewhere; becomes a local read when it is


class Front(Protocol):
    """What a lane needs of its connection."""

    def answer(self, request: Any) -> None:
        """Evaluate a read now and answer it."""

    def propose(self, request: Any) -> None:
        """Send a write on its way to the log."""


class Lane:
    """The unanswered requests of one connection, oldest first."""

    __slots__ = ("_front", "_rounds", "_slots")

    def __init__(self, front: Front) -> None:
        self._front = front
        self._slots: deque[tuple[int, int, Any]] = deque()
        """(kind, the write's serial or the read's round, request)."""
        self._rounds = 0
        """How many of the slots are reads that wait for a round."""

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def waits_for_round(self) -> bool:
        return self._rounds > 0

    def local_read(self, request: Any) -> None:
        self._slots.append((_LOCAL, 0, request))

    def round_read(self, round_number: int, request: Any) -> None:
        self._rounds += 1
        self._slots.append((_ROUND, round_number, request))

    def write(self, serial: int, request: Any) -> None:
        if self._rounds:
            self._slots.append((_HELD, serial, request))
        else:
            self._slots.append((_WRITE, serial, request))
            self._front.propose(request)

    def task(self, request: Any) -> None:
        """Something done elsewhere: to be finished, and then answered like a local read."""
        self._slots.append((_TASK, 0, request))

    def finish(self, request: Any) -> None:
        """A task is done. The connection then calls `drain`."""
        slots = self._slots
        for at, (kind, _, task) in enumerate(slots):
            if kind == _TASK and task is request:
                slots[at] = (_LOCAL, 0, request)
                return

    def outcome(self, serial: int) -> bool:
        """A write was applied. True when it is the one whose answer is due; otherwise it was answered before.

        The connection answers it, then calls `drain`.
        """
        slots = self._slots
        if slots and slots[0][0] == _WRITE and slots[0][1] == serial:
            slots.popleft()
            return True
        return False

    def drain(self, confirmed: int) -> None:
        """Answer from the front what can be answered now that rounds up to `confirmed` are."""
        slots, front = self._slots, self._front
        while slots:
            kind, number, request = slots[0]
            if kind == _WRITE:
                return
            if kind == _TASK:
                return
            if kind == _HELD:
                self._release()
                return
            if kind == _ROUND:
                if number > confirmed:
                    return
                self._rounds -= 1
            slots.popleft()
            front.answer(request)

    def unanswered_writes(self) -> list[Any]:
        """Writes that were proposed, oldest first: to be proposed again when they may have been lost."""
        return [request for kind, _, request in self._slots if kind == _WRITE]

    def _release(self) -> None:
        """Propose the held writes up to the next read that waits for a round."""
        slots = self._slots
        for at, (kind, number, request) in enumerate(slots):
            if kind == _ROUND:
                return
            if kind == _HELD:
                slots[at] = (_WRITE, number, request)
                self._front.propose(request)
