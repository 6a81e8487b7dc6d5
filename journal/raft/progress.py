"""How far one peer's log has come, and how much may be sent to it now, as its leader sees it.

Knows nothing of the log's contents, of commits or of the other peers. Owned by `leader.py`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from journal.values import Index, NodeId


class ProgressState(Enum):
    """How a leader talks to a peer."""

    PROBE = "probe"  # where the logs agree is not known: one append at a time
    REPLICATE = "replicate"  # it is: appends are sent ahead of their answers
    SNAPSHOT = "snapshot"  # what it needs is only in a snapshot, which is on its way


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer's progress, for those who show it."""

    peer: NodeId
    match: Index
    next: Index
    state: ProgressState
    in_flight: int = 0
    """Appends that it has not answered ..."""
    in_flight_from: Index | None = None
    """... and the first index in them."""
    heard_at: float = 0.0
    """When any message of this term came from it."""


class Progress:
    """One peer's progress within one leadership."""

    __slots__ = (
        "_patience",
        "_patience_least",
        "_patience_most",
        "heard_at",
        "idle",
        "in_flight",
        "match",
        "moved_at",
        "next",
        "peer",
        "probe_waits",
        "round",
        "state",
        "told_commit",
        "told_configuration",
    )

    def __init__(self, peer: NodeId, following: Index, now: float, patience: float, patience_max: float) -> None:
        self.peer = peer
        self.match = Index(0)
        """The peer's log is durably equal to ours up to here. Only ever grows within a leadership."""
        self.next = following
        """First index to send. Beyond `match`, except while a peer that lost its tail is filled up again."""
        self.state = ProgressState.PROBE
        self.probe_waits = False
        """A probe is out; nothing more is sent until it is answered or given up."""
        self.in_flight: deque[Index] = deque()
        """Last index of each unanswered append, rising; only in REPLICATE."""
        self.told_commit = Index(0)
        """The commit index of the last append."""
        self.told_configuration = False
        """It has the newest configuration, and was told that it is committed."""
        self.idle = False
        """It has said that it has no clients, and has asked for nothing on their behalf since."""
        self.round = 0
        """The newest heartbeat round it has echoed."""
        self.heard_at = now
        """When any message of this term came from it; a new leader gives everybody a first benefit."""
        self.moved_at = now
        """When it last moved forward, or was first sent something after a quiet time."""
        self._patience = self._patience_least = patience
        self._patience_most = patience_max

    def become_probe(self) -> None:
        """Start over from what is certain."""
        self.state = ProgressState.PROBE
        self.next = Index(self.match + 1)
        self.probe_waits = False
        self.in_flight.clear()
        self.told_commit = Index(0)

    def become_snapshot(self, now: float) -> None:
        """Send nothing until the snapshot that is now wanted has arrived."""
        self.state = ProgressState.SNAPSHOT
        self.in_flight.clear()
        self.moved_at = now

    def sent(self, last: Index, now: float) -> None:
        """An append up to `last` left: in REPLICATE it is taken as arrived until the peer says otherwise."""
        if self.state is ProgressState.PROBE:
            self.probe_waits = True
            self.moved_at = now
            return
        assert self.state is ProgressState.REPLICATE and last >= self.next, (self.state, last, self.next)
        if not self.in_flight:
            self.moved_at = now
        self.in_flight.append(last)
        self.next = Index(last + 1)

    def accepted(self, match: Index, now: float) -> bool:
        """The peer has everything up to `match`; returns whether that was news to `match`.

        A late answer lowers nothing (RELIABILITY 18).
        """
        news = match > self.match
        if news:
            self.match = match
        if self.state is ProgressState.REPLICATE:
            flight = self.in_flight
            while flight and flight[0] <= match:
                flight.popleft()
                self._moved(now)
            if match >= self.next:
                self.next = Index(match + 1)
        elif self.state is ProgressState.PROBE and match >= self.next - 1:
            self.state = ProgressState.REPLICATE
            self.probe_waits = False
            self.next = Index(match + 1)
            self._moved(now)
        return news

    def is_late_refusal(self, refused: Index) -> bool:
        """Whether a refusal of the append that followed `refused` tells nothing any more."""
        if self.state is ProgressState.REPLICATE:
            return refused <= self.match
        return self.state is ProgressState.SNAPSHOT or refused != self.next - 1

    def retry_from(self, index: Index) -> None:
        """The current probe was refused: probe again from `index`.

        That may lie at or below `match`, when a peer lost what it had acknowledged: it is filled up again
        (RELIABILITY R5), while `match` stays where it is.
        """
        assert self.state is ProgressState.PROBE and 0 < index < self.next, (self.state, index, self.next)
        self.next = index
        self.probe_waits = False

    def installed(self, index: Index, now: float) -> None:
        """The peer stands on a snapshot that ends at `index`."""
        self.match = max(self.match, index)
        if self.state is ProgressState.SNAPSHOT:
            self.become_probe()
            self._moved(now)

    def lost(self) -> None:
        """The connection broke and took what was in flight with it; the peer's next sign of life restarts it."""
        self.become_probe()
        self.probe_waits = True
        self.moved_at = float("-inf")

    def give_up_waiting(self, now: float) -> bool:
        """The peer is alive: whether something sent to it has waited too long for an answer.

        Then the peer is probed anew. Each time in a row the patience doubles, since the answer may only be
        waiting for a slow disk.
        """
        waits = self.probe_waits if self.state is ProgressState.PROBE else bool(self.in_flight)
        if not waits or now - self.moved_at < self._patience:
            return False
        if self.moved_at != float("-inf"):
            self._patience = min(self._patience * 2, self._patience_most)
        probing_from = self.next
        from_probe = self.state is ProgressState.PROBE
        self.become_probe()
        if from_probe:
            self.next = probing_from
        self.moved_at = now
        return True

    def status(self) -> PeerStatus:
        flight = len(self.in_flight)
        since = Index(self.match + 1) if flight else None
        return PeerStatus(self.peer, self.match, self.next, self.state, flight, since, self.heard_at)

    def _moved(self, now: float) -> None:
        self.moved_at = now
        self._patience = self._patience_least
