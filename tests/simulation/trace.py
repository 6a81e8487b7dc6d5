"""What happened in a run: the last lines for a reader, and a fingerprint of all lines for comparison.

Knows nothing of what the lines mean. Two runs of one seed must have the same fingerprint.
"""

from __future__ import annotations

from binascii import crc32
from collections import deque
from collections.abc import Callable

LINES_KEPT = 400


class Violation(AssertionError):
    """A promise that did not hold. `invariant` is its name in the reliability checklist."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class Trace:
    """One run's events, oldest first."""

    def __init__(self, clock: Callable[[], float], *, echo: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._echo = echo
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        """The newest lines; older ones live on in the fingerprint alone."""
        self.fingerprint = 0
        """CRC-32 over every line so far."""

    def add(self, who: str, what: str) -> None:
        """Note that `who` did `what` now."""
        line = f"{self._clock():12.6f} {who:<4} {what}"
        self.fingerprint = crc32(line.encode(), self.fingerprint)
        self.lines.append(line)
        if self._echo is not None:
            self._echo(line)
