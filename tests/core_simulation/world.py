"""Virtual time, the nodes and the links between them: what happens when, and what then follows.

Time jumps from one event to the next. Knows nothing of faults: `faults.py` makes them, `load.py` is the
clients, `run.py` says what comes first and what is demanded at the end.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from zlib import crc32

from journal.raft.messages import Message
from journal.raft.ready import Role
from journal.record import decode_configuration
from journal.values import Configuration, Index, NodeId
from tests.core_simulation.ghost import Ghost
from tests.core_simulation.network import Link, Network
from tests.core_simulation.node import Node
from tests.core_simulation.plan import Fault, Plan

RESET_NOTICED = 0.7
"""How often a peer hears at once that a node is gone: a process that dies resets its connections, a
machine that dies does not."""


class World:
    """One run's world. `echo` gets a line per event when somebody wants to read along."""

    def __init__(self, plan: Plan, echo: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.now = 0.0
        self.events = 0
        self.counts: Counter[str] = Counter()
        """What happened how often."""
        self.calm = False
        """No more faults, and nobody comes back by himself."""
        self.gone: NodeId | None = None
        """Whoever is not to come back when the storm is over, if the others can do without."""
        self.configuration = _configuration(plan)
        """What the cluster begins with."""
        self.named = dict.fromkeys(self.configuration.members, Index(0))
        """Everybody whom a configuration has named, and the index of the newest that did."""
        self.ghost = Ghost(self.configuration)
        self.tracing = echo is not None
        self._echo = echo
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._random = Random(f"{plan.seed}/world")
        self.nodes: dict[NodeId, Node] = {}
        names = tuple(NodeId(f"n{number + 1}") for number in range(plan.voters + plan.learners + plan.spares))
        self.network = Network(self, plan, names, self._arrive)
        for name in names:
            rate = self._random.uniform(0.95, 1.05) if Fault.CLOCK_RATE in plan.faults else 1.0
            self.nodes[name] = node = Node(self, name, self.configuration, rate)
            self.ghost.add(name, node.image)
        for node in self.nodes.values():
            node.start()

    def at(self, time: float, action: Callable[..., None], *arguments: Any) -> None:
        """Have something happen at a time; what is entered first for one instant happens first."""
        self.events += 1
        heapq.heappush(self._heap, (time, self.events, action, arguments))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due before `end`."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        self.now = end

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def trace(self, name: str, what: str, *values: object) -> None:
        if self._echo is not None:
            self._echo(f"{self.now:10.6f} {name} {what} {' '.join(map(show, values))}")

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def leaders(self) -> list[Node]:
        """All that believe to lead."""
        return [node for node in self.nodes.values() if node.up and node.core.role is Role.LEADER]

    def configurations(self) -> list[Configuration]:
        """Those by which somebody may be elected or something committed from now on."""
        found = [self.ghost.configuration]
        for node in self.nodes.values():
            found += map(decode_configuration, node.image.configurations(self.ghost.configuration_index))
            if node.up and node.core.configuration_index > self.ghost.configuration_index:
                found.append(node.core.configuration)
        return found + [Configuration(one.target, outgoing=one.voters) for one in found if one.target]

    def name(self, configuration: Configuration, index: Index) -> None:
        """A node has this configuration from now on."""
        for member in configuration.members:
            self.named[member] = max(index, self.named.get(member, index))

    def crash(self, node: Node, down_seconds: float | None) -> None:
        """A node crashes, and comes back after `down_seconds` unless that is None."""
        node.crash()
        for other in self.nodes.values():
            if other is not node:
                self.network.reset(node.name, other.name)
                if self._random.random() < RESET_NOTICED:
                    self.at(self.now + self._random.expovariate(1000), other.peer_lost, node.name)
        if down_seconds is not None:
            self.at(self.now + down_seconds, self._come_back, node)

    def on_blown(self, node: Node) -> None:
        """A node has come to the effect at which it crashes."""
        self.crash(node, self._random.expovariate(1 / self.plan.down_mean))

    def fingerprint(self) -> int:
        """Differs between two runs as soon as anything in them did."""
        ends = [(node.image.last, node.image.hard_state, node.starts) for node in self.nodes.values()]
        return hash_of(f"{self.events} {self.now} {sorted(self.counts.items())} {self._random.random()} {ends}")

    def _come_back(self, node: Node) -> None:
        if not node.up and not self.calm:
            node.start()

    def _arrive(self, link: Link, message: Message) -> None:
        if self.tracing:
            self.trace(link.to, "gets from", link.sender, message)
        self.nodes[link.to].hear(link.sender, message)


def hash_of(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return crc32(text.encode())


def show(value: object) -> str:
    return str(value)


def _configuration(plan: Plan) -> Configuration:
    names = tuple(NodeId(f"n{number}") for number in range(1, plan.voters + plan.learners + 1))
    voters = names[: plan.voters]
    return Configuration(voters, voters[:-1] if plan.joint else (), names[plan.voters :])
