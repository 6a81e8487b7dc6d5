"""The part of each key's request that never changes, made once for all connections that send it.

What a wire protocol makes of a key it tells itself (`native.py`, `jute.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jkcs_server.bench.work import Kind, Work

TABLES_MAX = 2
"""Mixed work needs two. One cell comes after another: what the last one used is not needed any more."""


class Parts:
    """Shared by all lines of one cluster."""

    def __init__(self, make: Callable[[Work, int], bytes]) -> None:
        """`make` gives the part of one key's request."""
        self._make = make
        self._made: dict[Work, list[bytes]] = {}

    def of(self, work: Work, kind: Kind) -> list[bytes] | None:
        """By key, for the work's requests of that kind; None for work whose keys are not known beforehand."""
        if work.cycle is None:
            return None
        like = replace(work, kind=kind, first=0, limit=None)
        found = self._made.get(like)
        if found is None:
            if len(self._made) == TABLES_MAX:
                del self._made[next(iter(self._made))]
            found = self._made[like] = [self._make(like, key) for key in range(work.cycle)]
        return found
