"""The network between servers: loses, delays, doubles and reorders messages, and resets connections.

Every message passes through the production codec, so no object is ever shared between two nodes. A
connection from A to B exists in one direction, as in `journal.peers.tcp`: A dials it and sends on it.
Implements `journal.peers.network.Network`; knows nothing of what messages mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from journal.limits import Limits
from journal.peers.codec import Decoder, encode
from journal.peers.handshake import AGAIN, Refusal
from journal.peers.network import Receiver
from journal.raft.messages import Message
from journal.values import NodeId
from tests.simulation.links import REDIAL_SECONDS_MAX, REDIAL_SECONDS_MIN, Links
from tests.simulation.loop import Process


class _Channel:
    """One established connection, between two particular processes."""

    __slots__ = ("dialer", "last_arrival", "listener", "lost")

    def __init__(self, dialer: SimNetwork, listener: SimNetwork) -> None:
        self.dialer = dialer
        self.listener = listener
        self.last_arrival = 0.0
        self.lost = False


class Fabric:
    """What joins the servers' networks; one per world."""

    def __init__(self, links: Links, limits: Limits) -> None:
        self.links = links
        self.on_send: Callable[[NodeId, NodeId, Message], None] | None = None
        """Told of every message as it leaves, before any fault."""
        self._decoder = Decoder(limits)
        self._up: dict[NodeId, SimNetwork] = {}
        self._channels: dict[tuple[NodeId, NodeId], _Channel] = {}

    def join(self, network: SimNetwork) -> None:
        """A process listens and begins to dial. Connections that still point to an earlier one break."""
        me = network.me
        self._up[me] = network
        for (dialer, listener), channel in sorted(self._channels.items()):
            if me in (dialer, listener) and network not in (channel.dialer, channel.listener):
                self._break(channel)
        for peer in network.peers:
            self._dial_later(network, peer, REDIAL_SECONDS_MIN)

    def leave(self, network: SimNetwork, *, silent: bool) -> None:
        """A process is gone. `silent`: its machine went with it, so nobody is told."""
        if self._up.get(network.me) is network:
            del self._up[network.me]
        if not silent:
            for channel in [self._channels[key] for key in sorted(self._channels)]:
                if network in (channel.dialer, channel.listener):
                    self._break(channel)

    def reset(self, one: NodeId, other: NodeId) -> None:
        """Break what connects two servers; both ends notice."""
        for key in ((one, other), (other, one)):
            channel = self._channels.get(key)
            if channel is not None:
                self._break(channel)

    def connected(self, network: SimNetwork) -> tuple[NodeId, ...]:
        return tuple(peer for peer in network.peers if self._channel(network, peer) is not None)

    def send(self, network: SimNetwork, to: NodeId, message: Message) -> None:
        if self.on_send is not None:
            self.on_send(network.me, to, message)
        channel = self._channel(network, to)
        if channel is None:
            return
        links = self.links
        chance = links.chance
        data = b"".join(encode(message))
        copies = 1
        if links.drop_rate and chance.random() < links.drop_rate:
            copies = 0
        elif links.duplicate_rate and chance.random() < links.duplicate_rate:
            copies = 2
        for copy in range(copies):
            arrival = links.loop.time() + links.delay()
            if not copy and not (links.reorder_rate and chance.random() < links.reorder_rate):
                arrival = channel.last_arrival = max(arrival, channel.last_arrival)
            links.loop.call_at(arrival, self._arrive, channel, data, context=channel.listener.process.context)

    def _arrive(self, channel: _Channel, data: bytes) -> None:
        """Runs in the receiving process, late when that is paused."""
        sender, receiver = channel.dialer.me, channel.listener
        if channel.lost or not self.links.is_open(sender, receiver.me) or receiver.receiver is None:
            return
        for message in self._decoder.feed(data):
            receiver.receiver.on_message(sender, message)

    def _channel(self, network: SimNetwork, peer: NodeId) -> _Channel | None:
        channel = self._channels.get((network.me, peer))
        return channel if channel is not None and channel.dialer is network else None

    def _break(self, channel: _Channel) -> None:
        if channel.lost:
            return
        channel.lost = True
        key = (channel.dialer.me, channel.listener.me)
        if self._channels.get(key) is channel:
            del self._channels[key]
        for end, peer in ((channel.dialer, channel.listener.me), (channel.listener, channel.dialer.me)):
            if not end.process.dead:
                self.links.later(self.links.delay(), self._tell_lost, end, peer)
        self._dial_later(channel.dialer, channel.listener.me, REDIAL_SECONDS_MIN)

    def _tell_lost(self, end: SimNetwork, peer: NodeId) -> None:
        if end.receiver is not None:
            self.links.loop.enter(end.process, end.receiver.on_peer_lost, peer)

    def _dial_later(self, network: SimNetwork, peer: NodeId, backoff: float) -> None:
        self.links.later(backoff * self.links.chance.uniform(0.5, 1.5), self._dial, network, peer, backoff)

    def _dial(self, network: SimNetwork, peer: NodeId, backoff: float) -> None:
        if self._up.get(network.me) is not network or (network.me, peer) in self._channels:
            return
        other = self._up.get(peer)
        if other is None or not self.links.is_open_both_ways(network.me, peer):
            self._dial_later(network, peer, min(backoff * 2, REDIAL_SECONDS_MAX))
            return
        refusal = self._refusal(other, network)
        if refusal is not None and network.receiver is not None:
            self.links.loop.enter(network.process, network.receiver.on_refused, peer, refusal)
        if refusal is not None or self._refusal(network, other) is not None:
            self._dial_later(network, peer, min(backoff * 2, REDIAL_SECONDS_MAX))
            return
        self._channels[(network.me, peer)] = _Channel(network, other)
        if network.receiver is not None:
            self.links.loop.enter(network.process, network.receiver.on_peer_connected, peer)

    def _refusal(self, one: SimNetwork, other: SimNetwork) -> Refusal | None:
        """Why `one` would not speak with `other`."""
        if one.receiver is None or other.receiver is None or one.process.paused:
            return Refusal(AGAIN, "it does not answer")
        return one.process.context.run(one.receiver.judge, other.me, other.receiver.incarnation)


class SimNetwork:
    """One server process's end of the fabric."""

    def __init__(self, fabric: Fabric, process: Process, me: NodeId, peers: tuple[NodeId, ...]) -> None:
        self.me = me
        self.peers = tuple(sorted(peer for peer in peers if peer != me))
        self.process = process
        self.receiver: Receiver | None = None
        self._fabric = fabric

    async def start(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._fabric.join(self)

    def send(self, to: NodeId, message: Message) -> None:
        self._fabric.send(self, to, message)

    def about(self, peer: NodeId) -> str:
        return ""

    def set_members(self, addresses: Mapping[NodeId, str]) -> None:
        """Everybody knows the way to everybody here; who speaks with whom is judged at each connection."""

    def connected(self) -> tuple[NodeId, ...]:
        return self._fabric.connected(self)

    async def close(self) -> None:
        self.receiver = None
        self._fabric.leave(self, silent=False)
