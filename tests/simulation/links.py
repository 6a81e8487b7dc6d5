"""The wires between all simulated machines: how long a packet takes, and which ways are cut.

Peers' messages and clients' connections use the same wires. Knows nothing of what travels.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable

from tests.simulation.loop import WORLD, SimLoop

DELAY_SECONDS_MIN = 0.0002
REDIAL_SECONDS_MIN = 0.02
REDIAL_SECONDS_MAX = 1.0


class Links:
    """All wires of one world. A way is cut in one direction at a time."""

    def __init__(self, loop: SimLoop, chance: random.Random) -> None:
        self.loop = loop
        self.chance = chance
        self.delay_seconds_mean = 0.0005
        """Mean of the random part of a packet's delay."""
        self.drop_rate = 0.0
        self.duplicate_rate = 0.0
        self.reorder_rate = 0.0
        self.slow_rate = 0.0
        """How often a packet takes up to `slow_seconds_max` instead."""
        self.slow_seconds_max = 0.3
        self._cuts: Counter[tuple[str, str]] = Counter()
        """Ways that are cut, (sender, receiver), and by how many partitions at once."""
        self._listeners: list[Callable[[], None]] = []

    def delay(self) -> float:
        """How long one packet takes."""
        chance = self.chance
        if self.slow_rate and chance.random() < self.slow_rate:
            return chance.uniform(0.0, self.slow_seconds_max)
        return DELAY_SECONDS_MIN + chance.expovariate(1.0 / self.delay_seconds_mean)

    def is_open(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) not in self._cuts

    def is_open_both_ways(self, one: str, other: str) -> bool:
        return (one, other) not in self._cuts and (other, one) not in self._cuts

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing from `sender` reaches `receiver` any more, what is on its way included."""
        self._cuts[sender, receiver] += 1

    def mend(self, ways: Iterable[tuple[str, str]]) -> None:
        """Take some cuts back; a way that was cut twice stays cut. Does nothing once everything was healed."""
        for way in ways:
            if self._cuts[way] > 1:
                self._cuts[way] -= 1
            else:
                del self._cuts[way]
        self._tell()

    def heal(self) -> None:
        """Open all ways."""
        self._cuts.clear()
        self._tell()

    def on_heal(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def calm(self) -> None:
        """No more packet faults: short delays only."""
        self.drop_rate = self.duplicate_rate = self.reorder_rate = self.slow_rate = 0.0
        self.delay_seconds_mean = 0.0005

    def later(self, seconds: float, callback: Callable[..., None], *args: object) -> None:
        """Call back after some time, on behalf of no process."""
        self.loop.call_at(self.loop.time() + seconds, callback, *args, context=WORLD)
