"""The reads that wait for a leader to prove that it still leads (thesis 6.4).

Knows nothing of peers, quorums or messages. All reads that wait share one round of heartbeats; while
one round is under way new reads gather for the next, so that batches grow by themselves under load.
Owned by `leader.py` and gone with its leadership: whoever asked asks the next leader, with a new
context, because an answer to an old question must never count for a new one (RELIABILITY 28).
"""

from __future__ import annotations

from dataclasses import dataclass

from journal.values import Index, NodeId


@dataclass(slots=True)
class WaitingRead:
    """A question without an answer yet."""

    asker: NodeId | None
    """The follower that asked; None for this node itself."""
    context: int
    floor: Index
    """The answer may not lie below."""


class ReadQueue:
    """Reads gathered for the next round, and those of the round under way."""

    __slots__ = ("_size_max", "in_round", "index", "round", "waiting")

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self.waiting: list[WaitingRead] = []
        self.in_round: list[WaitingRead] = []
        """Empty when no round is under way."""
        self.round = 0
        """The heartbeat round whose echo answers `in_round`."""
        self.index = Index(0)
        """The commit index when that round began."""

    def add(self, asker: NodeId | None, context: int, floor: Index) -> bool:
        """Take in a read; False when the queue is full. The newest is turned away: it has waited least."""
        if len(self.waiting) + len(self.in_round) >= self._size_max:
            return False
        self.waiting.append(WaitingRead(asker, context, floor))
        return True

    def begin(self, round_number: int, index: Index) -> None:
        """All that wait go into one round. The index is taken before its heartbeats leave, never after."""
        assert self.waiting and not self.in_round, (len(self.waiting), len(self.in_round))
        self.in_round, self.waiting = self.waiting, []
        self.round, self.index = round_number, index

    def end(self) -> list[tuple[WaitingRead, Index]]:
        """The round succeeded: its reads, each with the index at which it may be answered."""
        answered = [(read, max(self.index, read.floor)) for read in self.in_round]
        self.in_round = []
        return answered
