"""The real network: one TCP connection from each node to each other node.

A node sends on the connections it dialed and receives on those it accepted, so two members share two
connections and neither has to decide which of them to keep. `handshake.py` says who may connect,
`codec.py` what may be said. Knows nothing of what messages mean. Built by the node, driven by the replica.

*Writing.* Each message is given to the transport at once. uvloop gathers what was written during an
iteration into one system call, which costs the same as collecting here for the one message per pass that
the rule is; the standard loop writes at once, and costs more anyway.

*Losing a peer.* A reset or end of stream is reported in the very callback that brings it: failover waits for
it. A peer that falls silent (power, partition) is Raft's business, whose heartbeats are faster than any
setting of TCP; the kernel's user timeout and keepalive only clear such connections away, so that a healed
network is not waited for until the next retransmission, which backs off to two minutes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from journal.errors import CorruptRecord, PeerRefused
from journal.limits import Limits
from journal.peers.codec import Decoder, encode
from journal.peers.handshake import Identity, acceptance, hello, judge_hello, judge_verdict, refusal, take_greeting
from journal.peers.network import Receiver
from journal.raft.messages import Message
from journal.values import NodeId

Address = tuple[str, int]

HANDSHAKE_SECONDS = 2.0
"""For name resolution, connecting and the greetings together."""
RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 1.0
"""Bounds of the pause between two attempts; it doubles, and is shortened by chance to up to half."""
STEADY_SECONDS = 1.0
"""A connection that lasted this long was a success: the next pause is the shortest again."""
SILENCE_SECONDS = 3
"""Unacknowledged data or unanswered keepalives for this long end a connection."""
ACCEPTED_MAX = 128
"""Accepted connections, those still in their handshake included; one more is closed at once."""
COMPLAINTS_MAX = 256
"""Different complaints about strangers that are logged between two pauses of `COMPLAINT_SECONDS`."""
COMPLAINT_SECONDS = 60.0
JOIN_BYTES_MAX = 64 * 1024
"""Up to here the pieces of a frame are joined; larger ones are handed over unjoined, which spares a copy."""
CLOSE_SECONDS = 0.5

_log = logging.getLogger(__name__)


class TcpNetwork:
    """A `Network` over TCP. `peers` may include this node itself, which is then left out.

    `sock`, when given, is bound already and takes the place of `listen`: whoever must know the port before
    the node starts binds it and keeps it bound. `about` is what peers are told of this node.
    `chance` returns numbers in [0, 1) for the jitter.
    """

    def __init__(
        self,
        me: NodeId,
        cluster: str,
        listen: Address,
        peers: Mapping[NodeId, Address],
        limits: Limits,
        *,
        about: str = "",
        sock: socket.socket | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.identity = Identity(cluster, me, about)
        self.identity.check()
        self._about: dict[NodeId, str] = {}
        """What each peer said of itself when it connected last."""
        self.limits = limits
        self.peers: dict[NodeId, Address] = {peer: peers[peer] for peer in sorted(peers) if peer != me}
        self._listen = listen
        self._sock = sock
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._receiver: Receiver | None = None
        self._closing = False
        self._dialers: list[asyncio.Task[None]] = []
        self._knocks = {peer: asyncio.Event() for peer in self.peers}
        """Set when a peer dialed this node: it is alive, so the pause before dialing it is over."""
        self._dialed: dict[NodeId, _Dialed] = {}
        """Where to send. Only connections whose handshake is done."""
        self._accepted: set[_Accepted] = set()
        """Every accepted connection that has not ended."""
        self._heard: dict[NodeId, _Accepted] = {}
        """Of those, the newest of each peer whose handshake is done."""
        self._encoded_message: Message | None = None
        """The message sent last ..."""
        self._encoded: tuple[list[bytes], int] = ([], 0)
        """... and its frame."""
        self._complaints: set[tuple[str, str]] = set()
        self._complaints_since = 0.0

    @property
    def address(self) -> Address:
        """Where this node listens; the port is the real one even if port 0 was asked for."""
        assert self._server is not None, "the network has not been started"
        host, port, *_ = self._server.sockets[0].getsockname()
        return host, port

    async def start(self, receiver: Receiver) -> None:
        assert self._receiver is None, "a network starts once"
        self._receiver = receiver
        loop = asyncio.get_running_loop()
        try:
            if self._sock is not None:
                self._server = await loop.create_server(lambda: _Accepted(self), sock=self._sock)
            else:
                host, port = self._listen
                self._server = await loop.create_server(lambda: _Accepted(self), host, port)
        except OSError as error:
            where = self._sock.getsockname() if self._sock is not None else self._listen
            reason = f"cannot listen for peers on {_show(where)}: {error.strerror or error}"
            raise OSError(error.errno, reason) from error
        for peer in self.peers:
            task = loop.create_task(self._keep_connected(peer), name=f"dial {peer}")
            task.add_done_callback(_tell_if_failed)
            self._dialers.append(task)

    def send(self, to: NodeId, message: Message) -> None:
        link = self._dialed.get(to)
        if link is None:
            assert to in self.peers, to
            return
        link.send(message)

    def about(self, peer: NodeId) -> str:
        return self._about.get(peer, "")

    def encoded(self, message: Message) -> tuple[list[bytes], int]:
        """The pieces of a frame and their size. A leader gives all its peers the same message, one after another."""
        if message is not self._encoded_message:
            pieces = encode(message)
            size = sum(map(len, pieces))
            self._encoded_message = message
            self._encoded = ([b"".join(pieces)] if size <= JOIN_BYTES_MAX else pieces, size)
        return self._encoded

    def connected(self) -> tuple[NodeId, ...]:
        return tuple(sorted(self._dialed))

    async def close(self) -> None:
        self._closing = True
        for task in self._dialers:
            task.cancel()
        await asyncio.gather(*self._dialers, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        links: list[_Link] = [*self._dialed.values(), *self._accepted]
        for link in links:
            link.finish()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for link in links:
                    await link.ended.wait()
        except TimeoutError:
            pass
        for link in links:
            link.end("given up")
        for link in links:
            await link.ended.wait()
        if self._server is not None:
            await self._server.wait_closed()

    # ---- dialing ----

    async def _keep_connected(self, peer: NodeId) -> None:
        loop = asyncio.get_running_loop()
        knock = self._knocks[peer]
        failures = 0
        told = ""
        while True:
            knock.clear()
            link = _Dialed(self, peer)
            try:
                await self._dial(link)
            except (OSError, UnicodeError, PeerRefused) as error:
                reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                if reason != told:  # the same reason, once a second for days, helps nobody
                    _log.warning("cannot connect to peer %s at %s: %s", peer, _show(self.peers[peer]), reason)
                told = reason
                failures += 1
            else:
                since = loop.time()
                _log.info("connected to peer %s at %s", peer, _show(self.peers[peer]))
                told = ""
                await link.ended.wait()
                failures = 0 if loop.time() - since >= STEADY_SECONDS else failures + 1
            await self._pause(knock, failures)

    async def _dial(self, link: _Dialed) -> None:
        """Connect and shake hands. Raises OSError (also for a name that cannot be resolved) or PeerRefused."""
        loop = asyncio.get_running_loop()
        host, port = self.peers[link.peer]
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await loop.create_connection(lambda: link, host, port)
                await link.opened
        except BaseException:  # a cancellation too must not leave a half-open connection behind
            link.end("given up")
            raise

    async def _pause(self, knock: asyncio.Event, failures: int) -> None:
        longest = min(RETRY_SECONDS_MIN * 2 ** min(failures, 16), RETRY_SECONDS_MAX)
        try:
            async with asyncio.timeout(longest * (1 - self._chance() / 2)):
                await knock.wait()
        except TimeoutError:
            pass

    # ---- what the connections report ----

    def on_dialed(self, link: _Dialed) -> None:
        self._dialed[link.peer] = link
        assert self._receiver is not None
        self._receiver.on_peer_connected(link.peer)

    def on_dialed_ended(self, link: _Dialed, reason: str) -> None:
        if self._dialed.get(link.peer) is not link:
            return
        del self._dialed[link.peer]
        self._report_lost(link.peer, f"connection to peer {link.peer} ended: {reason}")

    def on_accepted(self, link: _Accepted) -> bool:
        """Whether this new connection, still unnamed, may stay."""
        if self._closing or len(self._accepted) >= ACCEPTED_MAX:
            return False
        self._accepted.add(link)
        return True

    def on_heard(self, link: _Accepted, identity: Identity) -> None:
        """`link` has said who it is. A peer dials only when its last connection is gone, so that one is ended."""
        peer = identity.node
        self._about[peer] = identity.about
        former = self._heard.get(peer)
        if former is not None:
            former.end("the peer connected anew")
        self._heard[peer] = link
        self._knocks[peer].set()

    def on_accepted_ended(self, link: _Accepted, reason: str) -> None:
        self._accepted.discard(link)
        peer = link.peer
        if peer is None:
            if not self._closing:
                self._complain(link.remote, reason)
        elif self._heard.get(peer) is link:
            del self._heard[peer]
            self._report_lost(peer, f"connection from peer {peer} ended: {reason}")

    def on_message(self, peer: NodeId, message: Message) -> None:
        assert self._receiver is not None
        self._receiver.on_message(peer, message)

    def _report_lost(self, peer: NodeId, text: str) -> None:
        if self._closing:
            return
        assert self._receiver is not None
        self._receiver.on_peer_lost(peer)
        _log.warning("%s", text)

    def _complain(self, remote: str, reason: str) -> None:
        """Log why a stranger was turned away, once a minute for each host and reason."""
        now = asyncio.get_running_loop().time()
        if now - self._complaints_since > COMPLAINT_SECONDS:
            self._complaints.clear()
            self._complaints_since = now
        key = (remote, reason)
        if key not in self._complaints and len(self._complaints) < COMPLAINTS_MAX:
            self._complaints.add(key)
            _log.warning("turned away a connection from %s: %s", remote, reason)


class _Link(asyncio.Protocol):
    """What a dialed and an accepted connection have in common: a transport, and exactly one end."""

    def __init__(self, network: TcpNetwork) -> None:
        self.network = network
        self.transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()
        """Set once the transport has let go; at once if there never was one."""
        self.remote = "?"
        self.over = False
        """`end` was called: whatever still arrives is not looked at."""
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


class _Dialed(_Link):
    """A connection to a peer: carries our messages, and from the peer nothing but its verdict on us."""

    def __init__(self, network: TcpNetwork, peer: NodeId) -> None:
        super().__init__(network)
        self.peer = peer
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the peer has accepted us; fails with PeerRefused."""
        self._dropping = False
        """The queue was full, and that has been said; until it was empty again."""

    def begin(self, transport: asyncio.Transport) -> None:
        transport.write(hello(self.network.identity, self.peer))

    def receive(self, data: bytes) -> None:
        if not self.opened.done():
            greeting = self.greet(data)
            if greeting is None:
                return
            fields, data = greeting
            judge_verdict(fields, self.network.identity, self.peer)
            if not data:
                self.opened.set_result(None)
                self.network.on_dialed(self)
                return
        raise PeerRefused(f"unexpected data from the peer: {data[:16]!r}")

    def report_end(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(PeerRefused(reason))
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


class _Accepted(_Link):
    """A connection from a peer: carries its messages, and from us nothing but our verdict on it."""

    def __init__(self, network: TcpNetwork) -> None:
        super().__init__(network)
        self.peer: NodeId | None = None
        """Who it is; None until the handshake is done."""
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
            greeting = self.greet(data)
            if greeting is None:
                return b""
            fields, rest = greeting
            identity = judge_hello(fields, network.identity, network.peers)
        except PeerRefused as error:
            self.end(str(error), refusal(network.identity, str(error)))
            return b""
        if self._patience is not None:
            self._patience.cancel()
        self.transport.write(acceptance(network.identity))
        network.on_heard(self, identity)
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


def _tell_if_failed(task: asyncio.Task[None]) -> None:
    """A dialer never ends by itself: if it does, that is a mistake of ours, and the loop's owner is told."""
    if not task.cancelled() and task.exception() is not None:
        context = {"message": f"{task.get_name()} failed", "exception": task.exception(), "task": task}
        task.get_loop().call_exception_handler(context)


def _host(address: object) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else "?"


def _show(address: Address) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
