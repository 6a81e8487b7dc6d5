"""Which containers and keys with a lifetime should go: the leader's list of what to propose.

Only a leader that serves asks. What is due is proposed as a log entry by the caller, and the entry looks at the key
once more when it is applied; so to propose one twice, or too early, does no harm. Time comes in as an argument.
Called by `requests`.
"""

from __future__ import annotations

from jkcs_server.tree.keytree import KeyTree

ROUND_SECONDS = 1.0
"""Every key is looked at no more often than this."""
LOOKS_MAX = 10_000
"""Keys looked at in one turn: some milliseconds."""
REAPS_MAX = 1_000
"""Proposals of one turn."""


class Reaper:
    """Walks through the keys that may go, a part in each turn."""

    def __init__(self) -> None:
        self._round: list[str] = []
        """Still to be looked at, the next one last."""
        self._next_round_at = 0.0

    def due(self, tree: KeyTree, stamp: int, now: float) -> list[tuple[str, int]]:
        """Path and creation index of keys that have lived by `stamp`, in milliseconds since 1970."""
        if not self._round and now >= self._next_round_at:
            self._round = [*tree.containers, *tree.ttls]
            self._next_round_at = now + ROUND_SECONDS
        found: list[tuple[str, int]] = []
        for _ in range(min(len(self._round), LOOKS_MAX)):
            node = tree.find(self._round.pop())
            if node is not None and node.has_lived(stamp):
                found.append((node.path, node.czxid))
                if len(found) == REAPS_MAX:
                    break
        return found
