"""How many clients have come from each address: one machine must not take all the room.

An address is text, as its connections name it. Called by `listener`, which knows when a connection begins and ends.
"""

from __future__ import annotations


class Crowd:
    """The clients of one port. `most`: so many of one address, 0 for any number."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: dict[str, int] = {}
        """Invariant: every count is above 0."""

    def enter(self, address: str) -> bool:
        """One more has come; False when there are too many, and then it does not count."""
        count = self._counts.get(address, 0)
        if self.most and count >= self.most:
            return False
        self._counts[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        """One that had entered has gone."""
        count = self._counts[address]
        if count > 1:
            self._counts[address] = count - 1
        else:
            del self._counts[address]
