"""Which complaints about strangers are logged: each once in a while, and not too many.

Whoever reaches a port can cause them, so they must not fill a log. Called with the time by those who listen.
"""

from __future__ import annotations

COMPLAINTS_MAX = 256
"""Different complaints that are logged between two pauses of `COMPLAINT_SECONDS`."""
COMPLAINT_SECONDS = 60.0


class Complaints:
    """The complaints of the last minute."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._since = 0.0

    def is_news(self, remote: str, reason: str, now: float) -> bool:
        """Whether to log that `remote` was turned away for this reason; it counts as logged."""
        if now - self._since > COMPLAINT_SECONDS:
            self._known.clear()
            self._since = now
        key = (remote, reason)
        if key in self._known or len(self._known) >= COMPLAINTS_MAX:
            return False
        self._known.add(key)
        return True
