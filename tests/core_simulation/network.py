"""The links between the nodes: each loses, delays, doubles, reorders and replays as its plan says.

A link goes one way. Cuts are counted, so that partitions may overlap. Knows nothing of what messages mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from journal.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply, Message, VoteRequest
from journal.values import NodeId
from tests.core_simulation.plan import Fault, Plan

if TYPE_CHECKING:
    from tests.core_simulation.world import World

REMEMBERED = 16
"""Messages of a link that may come again; as many again of those that are rare."""

POISON = 2**63 - 1
"""The largest that the wire carries."""
COMMON = (Append, AppendReply, Heartbeat, HeartbeatReply)


class Link:
    """One direction between two nodes."""

    __slots__ = ("cuts", "epoch", "last_at", "old", "rare", "sender", "to")

    def __init__(self, sender: NodeId, to: NodeId) -> None:
        self.sender = sender
        self.to = to
        self.cuts = 0
        """How many partitions cut it now; above 0 everything is lost."""
        self.epoch = 0
        """Rises when the connection is reset: what was in flight is lost."""
        self.last_at = 0.0
        """When the last message arrives; without reordering no later one comes before it."""
        self.old: deque[Message] = deque(maxlen=REMEMBERED)
        self.rare: deque[Message] = deque(maxlen=REMEMBERED)


class Network:
    """All links. `arrive` is called with each message that makes it."""

    def __init__(
        self, world: World, plan: Plan, names: Iterable[NodeId], arrive: Callable[[Link, Message], None]
    ) -> None:
        self._world = world
        self._arrive = arrive
        self._random = Random(f"{plan.seed}/network")
        self._draw = self._random.random
        self._loss, self._doubles, self._reorders = plan.loss, plan.doubles, plan.reorders
        self._replays, self._poisons = plan.replays, plan.poisons
        self._delay_least, self._delay_rate = plan.delay_least, 1 / plan.delay_mean
        names = tuple(names)
        self._links = {(a, b): Link(a, b) for a in names for b in names if a != b}
        self.quiet = not (plan.loss or plan.doubles or plan.reorders or plan.replays or plan.poisons)

    def calm(self) -> None:
        """From now on links only delay, and briefly."""
        self._loss = self._doubles = self._reorders = self._replays = self._poisons = 0.0
        self._delay_rate = 1 / 0.001
        self.quiet = True

    def send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        link = self._links[sender, to]
        if link.cuts:
            return
        if not self.quiet:
            self._misbehave(link, message)
            return
        self._post(link, message, in_order=True)

    def cut(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        for pair in pairs:
            self._links[pair].cuts += 1

    def mend(self, pairs: Iterable[tuple[NodeId, NodeId]]) -> None:
        for pair in pairs:
            link = self._links[pair]
            assert link.cuts > 0, pair
            link.cuts -= 1

    def around(self, side: list[NodeId]) -> list[tuple[NodeId, NodeId]]:
        """Both directions between one side and all others."""
        others = [name for name in self._world.nodes if name not in side]
        return [pair for a in side for b in others for pair in ((a, b), (b, a))]

    def cut_for(self, pairs: list[tuple[NodeId, NodeId]], seconds: float) -> None:
        """Cut links for a time; what is still cut when the world becomes calm is mended by `mend_all`."""
        if not self._world.calm:
            self.cut(pairs)
            self._world.at(self._world.now + seconds, self._end_cut, pairs)

    def _end_cut(self, pairs: list[tuple[NodeId, NodeId]]) -> None:
        if not self._world.calm:
            self.mend(pairs)

    def mend_all(self) -> None:
        for link in self._links.values():
            link.cuts = 0

    def reset(self, one: NodeId, other: NodeId) -> None:
        """Lose what is in flight between two nodes, both ways."""
        for link in (self._links[one, other], self._links[other, one]):
            link.epoch += 1
            link.last_at = 0.0

    def _misbehave(self, link: Link, message: Message) -> None:
        draw, count = self._draw, self._world.count
        if self._replays:
            old = link.rare if link.rare and draw() < 0.5 else link.old
            if old and draw() < self._replays:
                count(Fault.REPLAY.value)
                self._post(link, self._random.choice(old), in_order=False)
            (link.old if isinstance(message, COMMON) else link.rare).append(message)
        if self._poisons and draw() < self._poisons:
            count(Fault.POISON.value)
            self._post(link, self._poisoned(message), in_order=False)
        if self._loss and draw() < self._loss:
            count(Fault.LOSS.value)
            return
        in_order = True
        if self._reorders and draw() < self._reorders:
            count(Fault.REORDER.value)
            in_order = False
        self._post(link, message, in_order=in_order)
        if self._doubles and draw() < self._doubles:
            count(Fault.DOUBLE.value)
            self._post(link, message, in_order=False)

    def _poisoned(self, message: Message) -> Message:
        """As the message, but for one number that is larger than any honest one (RELIABILITY 11)."""
        field = self._random.choice(("last_index", "last_term", "term")) if type(message) is VoteRequest else "term"
        return replace(message, **{field: POISON})

    def _post(self, link: Link, message: Message, *, in_order: bool) -> None:
        at = self._world.now + self._delay_least + self._random.expovariate(self._delay_rate)
        if in_order:
            if at <= link.last_at:
                at = link.last_at
            link.last_at = at
        self._world.at(at, self._deliver, link, link.epoch, message)

    def _deliver(self, link: Link, epoch: int, message: Message) -> None:
        if not link.cuts and epoch == link.epoch:
            self._arrive(link, message)
