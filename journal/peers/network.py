"""The seam to the other nodes: what the replica needs of a network, and what it is told by one.

A network may lose, delay, duplicate and reorder messages between connections; within one connection
it keeps their order. `tcp.py` is the real one, the simulator brings its own. Knows nothing of what the
messages mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from journal.peers.handshake import Refusal
from journal.raft.messages import Message
from journal.values import NodeId


class Receiver(Protocol):
    """Who the network reports to, on the event loop's own thread.

    These must not raise: an error of the receiver's own concerns the whole node, not the connection on
    whose behalf it was called.
    """

    @property
    def incarnation(self) -> bytes:
        """Of this node's data directory: what others know it by, beside its name."""

    def judge(self, peer: NodeId, incarnation: bytes) -> Refusal | None:
        """Whether to speak with a node that says it is `peer`. Asked for each connection, in both directions."""

    def on_refused(self, peer: NodeId, refusal: Refusal) -> None:
        """`peer` does not speak with this node."""

    def on_message(self, sender: NodeId, message: Message) -> None:
        """`message` is well formed and came from the member `sender`; what it claims is still to be judged."""

    def on_peer_connected(self, peer: NodeId) -> None:
        """From now on `send` reaches this peer."""

    def on_peer_lost(self, peer: NodeId) -> None:
        """An established connection to or from this peer ended: messages may be lost, the peer may be dead.

        Said once per connection, so twice when a process dies that had one in each direction.
        """


class Network(Protocol):
    async def start(self, receiver: Receiver) -> None:
        """Listen and begin to connect. Raises OSError, naming the address, when it cannot be bound."""

    def send(self, to: NodeId, message: Message) -> None:
        """Send if possible, without waiting; dropped when the peer is not connected or its queue is full."""

    def set_members(self, addresses: Mapping[NodeId, str]) -> None:
        """The other members from now on, and where they listen (`host:port`, empty where that is known otherwise).

        New ones are connected with, the connections with others are ended.
        """

    def connected(self) -> tuple[NodeId, ...]:
        """The peers that `send` reaches at present, sorted."""

    def about(self, peer: NodeId) -> str:
        """What the peer lets others know of itself, as it said when it connected last; empty when it never did."""

    async def close(self) -> None:
        """Let go of all connections; what was sent before leaves first, if it can do so quickly."""
