"""The wires between all simulated machines: how long a packet takes, and which ways are cut or clogged.

Peers' messages and clients' connections use the same wires. Knows nothing of what travels.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from math import log

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
        self.replay_rate = 0.0
        self.corrupt_rate = 0.0
        self.half_frame_rate = 0.0
        self.slow_rate = 0.0
        """How often a packet takes up to `slow_seconds_max` instead."""
        self.slow_seconds_max = 0.3
        self._cuts: Counter[tuple[str, str]] = Counter()
        """Ways that are cut, (sender, receiver), and by how many partitions at once."""
        self._clogs: Counter[tuple[str, str]] = Counter()
        """Ways on which everything stands still, to go on later."""
        self._listeners: dict[Callable[[], None], None] = {}

    def delay(self) -> float:
        """How long one packet takes."""
        chance = self.chance
        if self.slow_rate and chance.random() < self.slow_rate:
            return chance.uniform(0.0, self.slow_seconds_max)
        return DELAY_SECONDS_MIN - log(1.0 - chance.random()) * self.delay_seconds_mean

    @property
    def is_calm(self) -> bool:
        """No fault but delay concerns single messages."""
        return not (
            self.drop_rate
            or self.duplicate_rate
            or self.reorder_rate
            or self.replay_rate
            or self.corrupt_rate
            or self.half_frame_rate
        )

    def is_cut(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._cuts

    def is_clogged(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._clogs

    def is_open(self, sender: str, receiver: str) -> bool:
        """Neither cut nor clogged."""
        way = (sender, receiver)
        return way not in self._cuts and way not in self._clogs

    def is_open_both_ways(self, one: str, other: str) -> bool:
        return self.is_open(one, other) and self.is_open(other, one)

    def clog(self, sender: str, receiver: str) -> None:
        """Everything from `sender` to `receiver` stands still until `unclog`; then it comes, in order."""
        self._clogs[sender, receiver] += 1

    def unclog(self, ways: Iterable[tuple[str, str]]) -> None:
        """Take some clogs back."""
        _take_back(self._clogs, ways)
        self._tell()

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing from `sender` reaches `receiver` any more, what is on its way included."""
        self._cuts[sender, receiver] += 1

    def mend(self, ways: Iterable[tuple[str, str]]) -> None:
        """Take some cuts back; a way that was cut twice stays cut. Does nothing once everything was healed."""
        _take_back(self._cuts, ways)
        self._tell()

    def heal(self) -> None:
        """Open all ways."""
        self._cuts.clear()
        self._clogs.clear()
        self._tell()

    def on_heal(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever some way may be open again."""
        self._listeners[listener] = None

    def forget(self, listener: Callable[[], None]) -> None:
        """`listener` need not be called any more."""
        self._listeners.pop(listener, None)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    def calm(self) -> None:
        """No more packet faults: short delays only."""
        self.drop_rate = self.duplicate_rate = self.reorder_rate = self.slow_rate = 0.0
        self.replay_rate = self.corrupt_rate = self.half_frame_rate = 0.0
        self.delay_seconds_mean = 0.0005

    def later(self, seconds: float, callback: Callable[..., None], *args: object) -> None:
        """Call back after some time, on behalf of no process."""
        self.loop.call_at_true_time(self.loop.now + seconds, callback, *args, context=WORLD)


def _take_back(counts: Counter[tuple[str, str]], ways: Iterable[tuple[str, str]]) -> None:
    for way in ways:
        if counts[way] > 1:
            counts[way] -= 1
        else:
            del counts[way]
