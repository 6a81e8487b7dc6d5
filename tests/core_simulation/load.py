"""The clients: they propose to whoever leads and read from anybody, at random times."""

from __future__ import annotations

from random import Random

from tests.core_simulation.node import Node
from tests.core_simulation.world import World

BURSTS = 0.02
BURST = 20


class Load:
    """Requests until the world is calm; after that only what `run.py` asks for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"{world.plan.seed}/load")
        self._rate = 1 / world.plan.load_mean
        self._number = 0
        self._arm()

    def propose(self) -> None:
        """To one that believes to lead, or to anybody when none does."""
        candidates = self._world.leaders() or self._world.up()
        if candidates:
            self.propose_to(self._random.choice(candidates))

    def propose_to(self, node: Node) -> None:
        self._number += 1
        payload = b"%d " % self._number + b"x" * self._random.randint(0, 90)
        node.propose(payload, self._random.randint(1, 3), self._number)

    def read(self) -> None:
        """From anybody."""
        candidates = self._world.up()
        if candidates:
            self.read_from(self._random.choice(candidates))

    def read_from(self, node: Node) -> None:
        self._number += 1
        node.read(self._number)

    def _arm(self) -> None:
        self._world.at(self._world.now + self._random.expovariate(self._rate), self._request)

    def _request(self) -> None:
        if self._world.calm:
            return
        if self._random.random() < self._world.plan.read_share:
            self.read()
        else:
            for _ in range(BURST if self._random.random() < BURSTS else 1):
                self.propose()
        self._arm()
