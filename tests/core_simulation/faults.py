"""The nemesis: from time to time it does one of the things that its plan allows.

Knows nothing of what the rules make of it.
"""

from __future__ import annotations

from random import Random

from journal.values import NodeId
from tests.core_simulation.acts import Acts
from tests.core_simulation.node import Node
from tests.core_simulation.plan import EVENT_FAULTS, Fault
from tests.core_simulation.world import World

LOOP_CRASHES = 6
FLAPS = 8
FUSE_EFFECTS_MAX = 40


class Nemesis:
    """Faults of nodes, links and disks, as long as the world is not calm."""

    def __init__(self, world: World) -> None:
        self._world = world
        plan = world.plan
        self._plan = plan
        self._random = Random(f"{plan.seed}/faults")
        self._acts = Acts(world)
        self._faults = [fault for fault in EVENT_FAULTS if fault in plan.faults and fault is not Fault.SLOW_DISK]
        self._do = {
            Fault.ISOLATE: self._isolate,
            Fault.LEADER_ALONE: self._leader_alone,
            Fault.HALVES: self._halves,
            Fault.ONE_WAY: self._one_way,
            Fault.FLAPPING: self._flapping,
            Fault.RESET: self._reset,
            Fault.CRASH: self._crash,
            Fault.CRASH_AT_EFFECT: self._crash_at_effect,
            Fault.CRASH_LOOP: self._crash_loop,
            Fault.CRASH_ALL: self._crash_all,
            Fault.PAUSE: self._pause,
            Fault.HUNG_DISK: self._hung_disk,
            Fault.LOST_TAIL: self._lost_tail,
            Fault.SNAPSHOT: self._snapshot,
            Fault.TRANSFER: self._transfer,
            Fault.MEMBERS: self._members,
        }
        for fault in (Fault.SLOW_DISK, Fault.CLOCK_RATE, Fault.SLOW_LINK):
            if fault in plan.faults:
                world.count(fault.value)
        if Fault.MEMBERS in self._faults:
            self._faults += [Fault.MEMBERS] * 3  # most are refused: no leader, or one has only begun
        if self._faults:
            self._arm()

    def _arm(self) -> None:
        self._world.at(self._world.now + self._seconds(self._plan.fault_seconds), self._strike)

    def _strike(self) -> None:
        if self._world.calm or self._world.now >= self._acts.lull_at:
            return
        fault = self._random.choice(self._faults)
        node = self._random.choice(list(self._world.nodes.values()))
        self._world.trace(node.name, "fault", fault.value)
        if self._do[fault](node):
            self._world.count(fault.value)
        self._arm()

    def _seconds(self, mean: float) -> float:
        return self._random.expovariate(1 / mean)

    # Links

    def _isolate(self, node: Node) -> bool:
        self._cut(self._world.network.around([node.name]), self._seconds(self._plan.cut_mean))
        return True

    def _leader_alone(self, node: Node) -> bool:
        """Long enough for the others to elect somebody else, mostly."""
        leaders = self._world.leaders()
        if not leaders:
            return False
        self._cut(
            self._world.network.around([self._random.choice(leaders).name]), 1.0 + self._seconds(self._plan.cut_mean)
        )
        return True

    def _halves(self, node: Node) -> bool:
        side = [name for name in self._world.nodes if self._random.random() < 0.5]
        self._cut(self._world.network.around(side), self._seconds(self._plan.cut_mean))
        return True

    def _one_way(self, node: Node) -> bool:
        """A node can only speak, or only hear, or some directions fail at random."""
        others = [name for name in self._world.nodes if name != node.name]
        draw = self._random.random()
        if draw < 0.3:
            pairs = [(node.name, other) for other in others]
        elif draw < 0.6:
            pairs = [(other, node.name) for other in others]
        else:
            names = list(self._world.nodes)
            pairs = [(a, b) for a in names for b in names if a != b and self._random.random() < 0.4]
        self._cut(pairs, self._seconds(self._plan.cut_mean))
        return True

    def _flapping(self, node: Node) -> bool:
        at = self._world.now
        pairs = self._world.network.around([node.name])
        for _ in range(FLAPS):
            seconds = self._seconds(0.1)
            self._world.at(at, self._cut, pairs, seconds)
            at += seconds + self._seconds(0.1)
        return True

    def _reset(self, node: Node) -> bool:
        others = [other for other in self._world.nodes.values() if other is not node]
        if not others:
            return False
        other = self._random.choice(others)
        self._world.network.reset(node.name, other.name)
        node.peer_lost(other.name)
        other.peer_lost(node.name)
        return True

    def _cut(self, pairs: list[tuple[NodeId, NodeId]], seconds: float) -> None:
        self._world.network.cut_for(pairs, seconds)

    # Nodes

    def _crash(self, node: Node) -> bool:
        if not node.up:
            return False
        self._world.crash(node, self._seconds(self._plan.down_mean))
        return True

    def _crash_at_effect(self, node: Node) -> bool:
        if node.up and not node.fuse:
            node.fuse = self._random.randint(1, FUSE_EFFECTS_MAX)
        return False  # counted when it happens

    def _crash_loop(self, node: Node) -> bool:
        at = self._world.now
        for _ in range(LOOP_CRASHES):
            self._world.at(at, self._crash_shortly, node)
            at += self._seconds(0.1)
        return True

    def _crash_shortly(self, node: Node) -> None:
        if node.up and not self._world.calm:
            self._world.crash(node, self._seconds(0.02))

    def _crash_all(self, node: Node) -> bool:
        for each in self._world.up():
            self._world.crash(each, self._seconds(self._plan.down_mean))
        return True

    def _pause(self, node: Node) -> bool:
        if not node.up or node.paused:
            return False
        node.pause()
        self._world.at(self._world.now + self._seconds(self._plan.pause_mean), self._resume, node, node.starts)
        return True

    def _resume(self, node: Node, start: int) -> None:
        if node.up and node.starts == start and not self._world.calm:
            node.resume()

    def _snapshot(self, node: Node) -> bool:
        """One node takes a snapshot, or all do; somebody who is behind may then need one."""
        for each in self._world.up() if self._random.random() < 0.5 else [node]:
            each.snapshot()
        return True

    def _transfer(self, node: Node) -> bool:
        leaders = self._world.leaders()
        if not leaders:
            return False
        target = node.name if self._random.random() < 0.7 else None
        self._random.choice(leaders).transfer(target)
        return True

    def _members(self, node: Node) -> bool:
        """An administrator changes who belongs to the cluster, or what one of them is; some do not wait for the end of
        one change before they ask for the next."""
        leaders = self._world.leaders()
        if not leaders:
            return False
        leader = self._random.choice(leaders)
        for _ in range(self._random.choice((1, 1, 1, 3))):
            self._change(leader, node)
        return True

    def _change(self, leader: Node, node: Node) -> None:
        draw = self._random.random()
        # To shrink needs no newcomers, so that it is joint at once.
        names = list(leader.core.configuration.voters if self._random.random() < 0.4 else self._world.nodes)
        if draw < 0.6:
            size = self._random.randint(1, min(5, len(names)))
            leader.change(tuple(sorted(self._random.sample(names, size))))
        elif draw < 0.7:
            leader.change(leader.core.configuration.voters)
        else:
            leader.convert(node.name, self._random.choice(("voter", "observer", "none", "preferred")))

    # Disks

    def _hung_disk(self, node: Node) -> bool:
        node.hung_until = max(node.hung_until, self._world.now + self._seconds(self._plan.hang_mean))
        return True

    def _lost_tail(self, node: Node) -> bool:
        """A node crashes, and its disk has lost the end of its log; or something is done first, so that it matters."""
        if self._random.random() < 0.4:
            self._acts.begin_loss(node)
            return False  # counted when it happens
        if not self._acts.may_lose(node):
            return False
        self._world.crash(node, self._seconds(self._plan.down_mean))
        return node.image.lose_tail(self._random.randint(1, 8)) > 0
