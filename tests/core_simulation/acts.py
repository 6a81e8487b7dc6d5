"""Faults in several acts: what happens one after another is harmless each by itself.

Single faults at random times nearly never fall so that a rule against a rare coincidence is needed. Here they do:
one act plays with a lost tail in the storm, and two end the storm with a moment at which the healed nodes need the
rule in question, since the others stay broken. Called by `faults.py`; knows nothing of what the rules make of it.
"""

from __future__ import annotations

from random import Random

from journal.values import NodeId
from tests.core_simulation.ghost import is_quorum
from tests.core_simulation.node import Node
from tests.core_simulation.plan import Fault
from tests.core_simulation.world import World

LULL_SECONDS = 4.0
"""No other faults begin for so long before the storm ends with an act: there should be a leader for it."""
REFILL_SECONDS = 0.5
"""Before the end of the storm; less than a leader goes on without a quorum."""
PROMOTION_SECONDS = 1.2
"""Before the end of the storm."""
PROMOTED_MAX = 3
APART_SECONDS = 0.1
"""How long entries gather on one side before the next act."""
BACK_SECONDS = 0.02
WATCH_SECONDS = 0.0001
"""No message is faster."""


class Acts:
    """What the nemesis has planned."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = random = Random(f"{world.plan.seed}/acts")
        plan = world.plan
        end = plan.storm_seconds
        endings = (
            (Fault.LOST_TAIL, end - REFILL_SECONDS, self._begin_refill),
            (Fault.MEMBERS, end - LULL_SECONDS / 2, self._prepare_promotion),
        )
        possible = [(at, ending) for fault, at, ending in endings if fault in plan.faults]
        self.lull_at = float("inf")
        """When the nemesis rests."""
        if possible and random.random() < 0.5:
            self.lull_at = end - LULL_SECONDS
            world.at(*random.choice(possible))

    def may_lose(self, node: Node) -> bool:
        """Whether a node's disk may lose something: not on so many at once that nobody may be left who has it."""
        sound = {other.name for other in self._world.nodes.values() if not other.image.withheld_until}
        configurations = self._world.configurations()
        return node.up and all(is_quorum(one, sound - {node.name}) for one in configurations)

    # A bare majority has committed something, and one of it forgets: with those who never had it, it could elect one
    # of them, while the others who have it are away.

    def begin_loss(self, victim: Node) -> None:
        """Part some from the others, so that what is now committed is on a bare majority, the victim among it."""
        voters = self._world.ghost.configuration.voters
        if victim.name not in voters or self._world.ghost.configuration.outgoing or len(voters) < 3:
            return
        leaders = [leader.name for leader in self._world.leaders()]
        others = self._random.sample([name for name in voters if name != victim.name], len(voters) - 1)
        others.sort(key=leaders.__contains__)
        behind = others[: len(voters) // 2]
        network = self._world.network
        seconds = self._random.uniform(3, 9) * APART_SECONDS
        network.cut_for(network.around(behind), seconds)
        self._world.at(self._world.now + seconds, self._end_loss, victim, behind)

    def _end_loss(self, victim: Node, behind: list[NodeId]) -> None:
        if self._world.calm or not self.may_lose(victim):
            return
        network = self._world.network
        away = [name for name in self._world.nodes if name != victim.name and name not in behind]
        network.cut_for(network.around(away), 1.5 + self._random.expovariate(1.0))
        self._lose(victim, behind)

    def _lose(self, victim: Node, behind: list[NodeId]) -> None:
        """The victim loses what those who are behind do not have either."""
        nodes = self._world.nodes
        known = max(nodes[name].image.last_index for name in behind)
        self._world.crash(victim, self._random.expovariate(1 / BACK_SECONDS))
        if victim.image.lose_tail(sum(last > known for last in victim.image.lasts)):
            self._world.count(Fault.LOST_TAIL.value)

    # A node has acknowledged what was never committed, forgets it, gets it again, and then whoever gave it is gone:
    # now it has the newest log of all that are left.

    def _begin_refill(self) -> None:
        leader, voters = self._leader(), self._world.ghost.configuration.voters
        if leader is None or leader.name not in voters:
            return
        followers = [self._world.nodes[name] for name in voters if name != leader.name]
        if len(followers) < 2:
            return
        victim = self._random.choice(followers)
        side = [leader.name, victim.name]
        network = self._world.network
        network.cut_for(network.around(side), REFILL_SECONDS)
        if is_quorum(leader.core.configuration, set(side)):
            leader.hung_until = self._world.now + REFILL_SECONDS
        behind = [node.name for node in followers if node is not victim]
        self._world.at(self._world.now + APART_SECONDS, self._end_refill, leader, victim, behind)

    def _end_refill(self, leader: Node, victim: Node, behind: list[NodeId]) -> None:
        if not self._world.calm and self.may_lose(victim):
            self._lose(victim, behind)
            self._world.gone = leader.name

    # Newcomers get their say without hearing of it, and the others cannot elect anybody without them.

    def _prepare_promotion(self) -> None:
        """There must be voters enough that the others can do without their leader, and nodes that are none."""
        leader = self._leader()
        if leader is not None:
            leader.change(tuple(sorted(self._random.sample(list(self._world.nodes), min(3, len(self._world.nodes))))))
            begin = self._world.plan.storm_seconds - PROMOTION_SECONDS
            self._world.at(begin, self._begin_promotion)

    def _begin_promotion(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        present = leader.core.configuration
        newcomers = [name for name in self._world.nodes if name not in present.voters][:PROMOTED_MAX]
        kept = [name for name in present.voters if name != leader.name][: self._random.randrange(len(newcomers) + 1)]
        if newcomers and not present.changing:
            leader.change(tuple(sorted([*newcomers, *kept])))
            self._watch_promotion(leader, newcomers)

    def _watch_promotion(self, leader: Node, newcomers: list[NodeId]) -> None:
        if self._world.calm or not leader.up:
            return
        if leader.core.configuration.outgoing:
            network = self._world.network
            network.cut_for(network.around(newcomers), PROMOTION_SECONDS)
            self._world.gone = leader.name
        else:
            self._world.at(self._world.now + WATCH_SECONDS, self._watch_promotion, leader, newcomers)

    def _leader(self) -> Node | None:
        """The one that can commit something now."""
        return next((node for node in self._world.leaders() if node.core.serving and not node.paused), None)
