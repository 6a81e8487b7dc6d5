"""What is counted of one client's connection, for those who look after a server.

One request at a time is timed, so that counting costs nothing where many are under way. Time comes in as an argument.
Kept by the connections, read by `fourletter`.
"""

from __future__ import annotations

_MS = 1000


class Figures:
    """Times are the scheduler's, in seconds."""

    __slots__ = (
        "_began",
        "_timed",
        "answered",
        "avg_latency_ms",
        "established_at",
        "last_latency_ms",
        "last_operation",
        "last_zxid",
        "max_latency_ms",
        "min_latency_ms",
        "notified",
        "received",
        "samples",
    )

    def __init__(self, now: float) -> None:
        self.established_at = now
        self.last_operation = "NA"
        self.last_zxid = -1
        """Of the last answer or event."""
        self._began = now
        self._timed = 0
        """The request that is timed, by its number; 0 when none is."""
        self.reset()

    def reset(self) -> None:
        """Count from here on."""
        self.received = 0
        """Requests."""
        self.answered = 0
        """Invariant: answered <= received, but for requests that came before a reset."""
        self.notified = 0
        """Events told."""
        self.samples = 0
        self.last_latency_ms = 0.0
        self.min_latency_ms = 0.0
        self.avg_latency_ms = 0.0
        self.max_latency_ms = 0.0
        self._timed = 0

    @property
    def sent(self) -> int:
        return self.answered + self.notified

    def came(self, count: int, now: float) -> None:
        """So many requests were received at this time."""
        if not self._timed and count:
            self._timed = self.received + 1
            self._began = now
        self.received += count

    @property
    def is_due(self) -> bool:
        """Whether the request that is timed has its answer: `left` wants the time."""
        return 0 < self._timed <= self.answered

    def left(self, now: float) -> None:
        """The answers so far were sent at this time."""
        self._timed = 0
        latency = max(0.0, now - self._began) * _MS
        self.last_latency_ms = latency
        self.min_latency_ms = min(self.min_latency_ms, latency) if self.samples else latency
        self.max_latency_ms = max(self.max_latency_ms, latency)
        self.samples += 1
        self.avg_latency_ms += (latency - self.avg_latency_ms) / self.samples
