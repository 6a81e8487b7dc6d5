"""The network between servers: loses, delays, doubles, reorders, repeats and damages messages, and resets connections.

No object is ever shared between two nodes: a message travels as a copy or, where the run is to test the
codec too, as the production codec's bytes, which alone can be damaged or cut off. A connection from A to
B exists in one direction, as in `journal.peers.tcp`: A dials it and sends on it. Implements
`journal.peers.network.Network`; knows nothing of what messages mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import get_args

from journal.errors import CorruptRecord, PeerRefused
from journal.limits import Limits
from journal.peers.codec import Decoder, encode
from journal.peers.handshake import AGAIN, Refusal
from journal.peers.network import Receiver
from journal.raft.messages import Append, Message
from journal.values import NodeId
from tests.simulation.links import REDIAL_SECONDS_MAX, REDIAL_SECONDS_MIN, Links
from tests.simulation.loop import Process

OLD_MESSAGES_KEPT = 32

Travelling = Message | bytes


class _Channel:
    """One established connection, between two particular processes."""

    __slots__ = ("decoder", "dialer", "last_arrival", "listener", "lost", "waiting")

    def __init__(self, dialer: SimNetwork, listener: SimNetwork, decoder: Decoder | None) -> None:
        self.dialer = dialer
        self.listener = listener
        self.last_arrival = 0.0
        self.lost = False
        self.decoder = decoder
        """None where messages travel as copies."""
        self.waiting: deque[Travelling] = deque()
        """What has come as far as a clog in the wire."""


class Fabric:
    """What joins the servers' networks; one per world."""

    def __init__(self, links: Links, limits: Limits, *, codec: bool = True) -> None:
        self.links = links
        self.on_send: Callable[[NodeId, NodeId, Message], None] | None = None
        """Told of every message as it leaves, before any fault."""
        self.on_sent: Callable[[NodeId, NodeId, Message], None] | None = None
        """Told of it again when it is on its way."""
        self.on_fault: Callable[[str], None] = lambda kind: None
        """Told of each message that met a fault, by the fault's name."""
        self.on_refused: Callable[[NodeId], None] = lambda receiver: None
        """A receiver has refused a damaged frame."""
        self._limits = limits
        self._codec = codec
        self._up: dict[NodeId, SimNetwork] = {}
        self._channels: dict[tuple[NodeId, NodeId], _Channel] = {}
        self._old: dict[tuple[NodeId, NodeId], deque[Travelling]] = {}
        """What was sent each way lately, over whatever connection; kept while old messages are repeated."""
        links.on_heal(self._unclog)

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
        if channel is not None:
            self._carry(channel, message)
        if self.on_sent is not None:
            self.on_sent(network.me, to, message)

    def _carry(self, channel: _Channel, message: Message) -> None:
        links = self.links
        data: Travelling = b"".join(encode(message)) if self._codec else _copy(message)
        if links.is_calm:
            arrival = channel.last_arrival = max(links.loop.now + links.delay(), channel.last_arrival)
            self._deliver_at(arrival, channel, data)
            return
        chance = links.chance
        if links.replay_rate:
            old = self._old.setdefault((channel.dialer.me, channel.listener.me), deque(maxlen=OLD_MESSAGES_KEPT))
            if old and chance.random() < links.replay_rate:
                self.on_fault("replay")
                self._deliver_at(links.loop.now + links.delay(), channel, _again(chance.choice(old)))
            old.append(_again(data))
        if isinstance(data, bytes) and self._damage(channel, data):
            return
        copies = 1
        if links.drop_rate and chance.random() < links.drop_rate:
            copies = 0
            self.on_fault("drop")
        elif links.duplicate_rate and chance.random() < links.duplicate_rate:
            copies = 2
            self.on_fault("duplicate")
        for number in range(copies):
            arrival = links.loop.now + links.delay()
            if number or (links.reorder_rate and chance.random() < links.reorder_rate):
                self.on_fault("reorder")
            else:
                arrival = channel.last_arrival = max(arrival, channel.last_arrival)
            self._deliver_at(arrival, channel, _again(data) if number else data)

    def _damage(self, channel: _Channel, data: bytes) -> bool:
        """Perhaps flip a bit of a frame, or let the connection break when half of it is out. True when done."""
        links = self.links
        chance = links.chance
        if links.corrupt_rate and chance.random() < links.corrupt_rate:
            self.on_fault("corrupt")
            damaged = bytearray(data)
            damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            channel.last_arrival = max(links.loop.now + links.delay(), channel.last_arrival)
            self._deliver_at(channel.last_arrival, channel, bytes(damaged))
            return True
        if links.half_frame_rate and chance.random() < links.half_frame_rate:
            self.on_fault("half_frame")
            channel.last_arrival = max(links.loop.now + links.delay(), channel.last_arrival)
            self._deliver_at(channel.last_arrival, channel, data[: chance.randrange(len(data))])
            links.later(channel.last_arrival - links.loop.now, self._break, channel)
            return True
        return False

    def _deliver_at(self, when: float, channel: _Channel, data: Travelling) -> None:
        self.links.loop.call_at_true_time(when, self._arrive, channel, data, context=channel.listener.process.context)

    def _arrive(self, channel: _Channel, data: Travelling) -> None:
        """Runs in the receiving process, late when that is paused."""
        sender, receiver = channel.dialer.me, channel.listener
        if channel.lost or self.links.is_cut(sender, receiver.me) or receiver.receiver is None:
            return
        if channel.waiting or self.links.is_clogged(sender, receiver.me):
            channel.waiting.append(data)
            return
        self._hand_in(channel, data)

    def _hand_in(self, channel: _Channel, data: Travelling) -> None:
        sender, to = channel.dialer.me, channel.listener.receiver
        if to is None or channel.lost:
            return
        if not isinstance(data, bytes):
            to.on_message(sender, data)
            return
        assert channel.decoder is not None, (sender, channel.listener.me)
        try:
            for message in channel.decoder.feed(data):
                to.on_message(sender, message)
        except (CorruptRecord, PeerRefused):
            # As `journal.peers.tcp` does: of such a connection nothing more can be understood.
            self.on_refused(channel.listener.me)
            self._break(channel)

    def _unclog(self) -> None:
        """Wires may be open again: what has waited in them comes at once, in order."""
        for _, channel in sorted(self._channels.items()):
            if channel.waiting and not self.links.is_clogged(channel.dialer.me, channel.listener.me):
                waiting, channel.waiting = channel.waiting, deque()
                for data in waiting:
                    self.links.loop.enter(channel.listener.process, self._hand_in, channel, data)

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
        self._channels[(network.me, peer)] = _Channel(network, other, Decoder(self._limits) if self._codec else None)
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


_FIELDS = {kind: attrgetter(*(field.name for field in fields(kind))) for kind in get_args(Message)}


def _copy(message: Message) -> Message:
    """As if it had been encoded and decoded; entries and metas are never changed, so they may be shared."""
    kind = type(message)
    values = _FIELDS[kind](message)
    made: Message = kind(*values) if type(values) is tuple else kind(values)
    if type(made) is Append:
        made.entries = list(made.entries)
    return made


def _again(data: Travelling) -> Travelling:
    return data if isinstance(data, bytes) else _copy(data)
