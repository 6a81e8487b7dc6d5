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
        "address",
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
        self.address = ""
        """HOST:PORT of the client; empty where there is none."""
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


class Totals:
    """The figures of several connections together."""

    __slots__ = ("_latencies_ms", "max_latency_ms", "min_latency_ms", "received", "samples", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.samples = 0
        self.min_latency_ms = 0.0
        self.max_latency_ms = 0.0
        self._latencies_ms = 0.0

    def add(self, figures: Figures) -> None:
        """One connection's."""
        self.received += figures.received
        self.sent += figures.sent
        self._add_latencies(
            figures.samples,
            figures.min_latency_ms,
            figures.max_latency_ms,
            figures.avg_latency_ms * figures.samples,
        )

    def add_all(self, other: Totals) -> None:
        """Other connections'."""
        self.received += other.received
        self.sent += other.sent
        self._add_latencies(other.samples, other.min_latency_ms, other.max_latency_ms, other._latencies_ms)

    @property
    def avg_latency_ms(self) -> float:
        return self._latencies_ms / self.samples if self.samples else 0.0

    def _add_latencies(self, samples: int, least: float, most: float, together: float) -> None:
        if not samples:
            return
        self.min_latency_ms = min(self.min_latency_ms, least) if self.samples else least
        self.max_latency_ms = max(self.max_latency_ms, most)
        self._latencies_ms += together
        self.samples += samples
