"""Chance that can be played again: one stream of random numbers per purpose, all from one seed.

A stream of its own per purpose keeps a change in one part of the simulator from shifting the draws
of the others. Knows nothing of what is drawn for.
"""

from __future__ import annotations

import random


class Chance:
    """The streams of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, name: str) -> random.Random:
        """A fresh stream; the same name gives the same draws again."""
        # A string seed goes through SHA-512 and not through hash(), which differs between processes.
        return random.Random(f"{self.seed}/{name}")
