"""How long to wait before the next round of attempts to connect: longer each time, never the same twice.

Pure: chance comes in as a number from 0 to 1. The spread keeps a thousand clients that lost one server from
coming back in step.
"""

from __future__ import annotations

BASE = 0.02
CAP = 1.0
STABLE = 1.0
"""A connection that lasted this long was a good one; the next wait is short again. A shorter life counts as a
failed attempt: a server that accepts and then refuses must not be asked in a tight loop."""


class Backoff:
    """The waits of one client, in seconds."""

    def __init__(self, base: float = BASE, cap: float = CAP) -> None:
        assert 0 < base <= cap, (base, cap)
        self._base = base
        self._cap = cap
        self._next = base

    def reset(self) -> None:
        """The next wait is the shortest again."""
        self._next = self._base

    def on_connection_ended(self, lasted: float) -> None:
        """A connection is over after so many seconds."""
        if lasted >= STABLE:
            self.reset()

    def next_delay(self, chance: float) -> float:
        """The next wait: between half and all of a step that doubles up to the cap."""
        step = self._next
        self._next = min(self._cap, step * 2)
        return step * (0.5 + chance / 2)
