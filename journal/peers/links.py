"""The two ends of a TCP connection between peers: the one that dialed sends, the one that accepted receives.

The callbacks of asyncio and what they mean for the connection; who may stay and what becomes of messages is
said by the network (`tcp.py`), its only user.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, cast

from journal.errors import CorruptRecord, PeerRefused
from journal.peers.codec import Decoder
from journal.peers.handshake import (
    AGAIN,
    Refusal,
    acceptance,
    hello,
    judge_hello,
    judge_verdict,
    refusal,
    take_greeting,
)
from journal.peers.tls import came_with_tls, check_names
from journal.raft.messages import Message
from journal.values import NodeId

if TYPE_CHECKING:
    from journal.peers.tcp import TcpNetwork

HANDSHAKE_SECONDS = 2.0
"""For name resolution, connecting and the greetings together."""
SILENCE_SECONDS = 3
"""Unacknowledged data or unanswered keepalives for this long end a connection."""

_log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """What a dialed and an accepted connection have in common: a transport, and exactly one end."""

    def __init__(self, network: TcpNetwork) -> None:
        self.network = network
        self.transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()
        """Set once the transport has let go; at once if there never was one."""
        self.remote = "?"
        self.over = False
        """`end` was called: whatever still arrives is not looked at."""
        self.quiet = False
        """Its end is no news: nothing is wrong."""
        self._greeting = b""
        """What came before the handshake was complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        self.remote = _host(transport.get_extra_info("peername"))
        _tune(transport.get_extra_info("socket"))
        if self.over:
            self.transport.abort()
        else:
            self.begin(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        try:
            self.receive(data)
        except (PeerRefused, CorruptRecord) as error:
            self.quiet = isinstance(error, PeerRefused) and error.again
            self.end(str(error))

    def eof_received(self) -> bool:
        # Nobody half-closes here: the peer is gone. Waiting for our own queue to drain would delay the news.
        self.end("closed by the peer")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None  # it has let go: to abort it once more would confuse the standard loop's
        self.end(str(error) if error is not None else "closed")
        self.ended.set()

    def end(self, reason: str, last_words: bytes = b"") -> None:
        """Report the end, once, and drop the connection together with what is queued in it."""
        if self.over:
            return
        self.over = True
        self.report_end(reason)
        if self.transport is None:
            self.ended.set()
        elif last_words:
            self.transport.write(last_words)
            self.transport.close()
        else:
            self.transport.abort()

    def end_by_itself(self, reason: str) -> None:
        """Report the end, once, of a connection that whoever is below lets go of."""
        if not self.over:
            self.over = True
            self.report_end(reason)

    def finish(self) -> None:
        """End in good order: what is queued leaves first."""
        if self.transport is not None and not self.over:
            self.transport.close()

    def greet(self, data: bytes) -> tuple[list[Any], bytes] | None:
        """The other side's greeting once it is complete, and what came after it. Raises PeerRefused."""
        self._greeting += data
        greeting = take_greeting(self._greeting)
        if greeting is not None:
            self._greeting = b""
        return greeting

    def begin(self, transport: asyncio.Transport) -> None:
        """The connection stands."""
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Raises PeerRefused or CorruptRecord when the connection must end."""
        raise NotImplementedError

    def report_end(self, reason: str) -> None:
        raise NotImplementedError


class Dialed(Link):
    """A connection to a peer: carries our messages, and from the peer nothing but its verdict on us."""

    def __init__(self, network: TcpNetwork, peer: NodeId) -> None:
        super().__init__(network)
        self.peer = peer
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the peer has accepted us; fails with PeerRefused."""
        self._dropping = False
        """The queue was full, and that has been said; until it was empty again."""

    def begin(self, transport: asyncio.Transport) -> None:
        if self.network.tls is None:
            transport.write(hello(self.network.identity, self.peer))

    def secured(self, certificate: bytes | None) -> None:
        """The connection stands, with TLS, and the other side has shown this certificate."""
        assert self.transport is not None
        try:
            check_names(certificate, self.network.identity.cluster, self.peer)
        except PeerRefused as error:
            self.end(str(error))
        else:
            self.transport.write(hello(self.network.identity, self.peer))

    def receive(self, data: bytes) -> None:
        if not self.opened.done():
            greeting = self.greet(data)
            if greeting is None:
                return
            fields, data = greeting
            verdict = judge_verdict(fields, self.network.identity, self.peer)
            if isinstance(verdict, Refusal):
                self.network.on_refused(self.peer, verdict)
                raise PeerRefused(verdict.detail, again=verdict.code == AGAIN)
            why = self.network.judge(self.peer, verdict)
            if why is not None:
                raise PeerRefused(why.detail, again=why.code == AGAIN)
            if not data:
                self.opened.set_result(None)
                self.network.on_dialed(self)
                return
        raise PeerRefused(f"unexpected data from the peer: {data[:16]!r}")

    def report_end(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(PeerRefused(reason, again=self.quiet))
            self.opened.exception()  # looked at, because whoever dialed may have given up before
        self.network.on_dialed_ended(self, reason)

    def send(self, message: Message) -> None:
        transport = self.transport
        assert transport is not None
        limits = self.network.limits
        pieces, size = self.network.encoded(message)
        assert size <= limits.peer_frame_bytes_max, (type(message).__name__, size, limits.peer_frame_bytes_max)
        waiting = transport.get_write_buffer_size()
        if waiting + size > limits.peer_queue_bytes_max:
            if not self._dropping:
                _log.warning("peer %s does not keep up: dropping messages, %d bytes wait", self.peer, waiting)
            self._dropping = True
            return
        if not waiting:
            self._dropping = False
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writelines(pieces)


class Accepted(Link):
    """A connection from a peer: carries its messages, and from us nothing but our verdict on it."""

    def __init__(self, network: TcpNetwork) -> None:
        super().__init__(network)
        self.peer: NodeId | None = None
        """Who it is; None until the handshake is done."""
        self.certificate: bytes | None = None
        """What it has shown, where TLS is spoken."""
        self._decoder = Decoder(network.limits)
        self._patience: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        if not self.network.on_accepted(self):
            self.end("too many connections")
            return
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.end, "no hello in time")

    def receive(self, data: bytes) -> None:
        if self.peer is None:
            data = self._shake_hands(data)
        if data:
            peer = self.peer
            assert peer is not None
            for message in self._decoder.feed(data):
                self.network.on_message(peer, message)

    def report_end(self, reason: str) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self.network.on_accepted_ended(self, reason)

    def _shake_hands(self, data: bytes) -> bytes:
        """Judge the hello once it is complete; returns what came after it."""
        network = self.network
        assert self.transport is not None
        try:
            if network.tls is None and not self._greeting and came_with_tls(data):
                raise PeerRefused("it speaks TLS with its peers, and this node does not")
            greeting = self.greet(data)
            if greeting is None:
                return b""
            fields, rest = greeting
            identity = judge_hello(fields, network.identity)
            if network.tls is not None:
                check_names(self.certificate, identity.cluster, identity.node)
        except PeerRefused as error:
            self.end(str(error), refusal(network.identity, Refusal("", str(error))))
            return b""
        why = network.judge(identity.node, identity.incarnation)
        if why is None and not network.on_heard(self, identity):
            why = Refusal("", f"no address is known of node {identity.node!r}")
        if why is not None:
            self.quiet = why.code == AGAIN
            self.end(why.detail, refusal(network.identity, why))
            return b""
        if self._patience is not None:
            self._patience.cancel()
        self.transport.write(acceptance(network.identity))
        self.peer = identity.node
        return rest


def _tune(sock: socket.socket | None) -> None:
    """Send small messages at once, and let the kernel notice a peer that is gone without a word."""
    options = [("TCP_NODELAY", 1), ("TCP_KEEPIDLE", SILENCE_SECONDS), ("TCP_KEEPINTVL", 1)]
    options += [("TCP_KEEPCNT", SILENCE_SECONDS), ("TCP_USER_TIMEOUT", SILENCE_SECONDS * 1000)]
    if sock is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if hasattr(socket, name):  # not every system has every option
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:
        pass  # the peer has reset the connection already; its end is about to be reported


def _host(address: object) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else "?"
