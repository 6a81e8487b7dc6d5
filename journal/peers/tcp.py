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
from dataclasses import replace
from functools import partial

from journal.complaints import Complaints
from journal.errors import PeerRefused
from journal.limits import Limits
from journal.peers.codec import encode
from journal.peers.handshake import Identity, Refusal
from journal.peers.links import HANDSHAKE_SECONDS, Accepted, Dialed, Link
from journal.peers.network import Receiver
from journal.peers.tls import PeerTls, SecuredAccept, SecuredDial
from journal.raft.messages import Message
from journal.values import NodeId

Address = tuple[str, int]

RETRY_SECONDS_MIN = 0.02
RETRY_SECONDS_MAX = 1.0
"""Bounds of the pause between two attempts; it doubles, and is shortened by chance to up to half."""
STEADY_SECONDS = 1.0
"""A connection that lasted this long was a success: the next pause is the shortest again."""
ACCEPTED_MAX = 128
"""Accepted connections, those still in their handshake included; one more is closed at once."""
JOIN_BYTES_MAX = 64 * 1024
"""Up to here the pieces of a frame are joined; larger ones are handed over unjoined, which spares a copy."""
CLOSE_SECONDS = 0.5

_log = logging.getLogger(__name__)


class TcpNetwork:
    """A `Network` over TCP. `peers` may include this node itself, which is then left out.

    `sock`, when given, is bound already and takes the place of `listen`: whoever must know the port before
    the node starts binds it and keeps it bound. `about` is what peers are told of this node, `advertise` where
    they find it when that is not `listen`.
    `tls`, when given, is spoken with all peers, and with none without it.
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
        advertise: str = "",
        sock: socket.socket | None = None,
        tls: PeerTls | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.identity = Identity(cluster, me, about, address=advertise or _show(listen))
        """What others are told; the incarnation comes with the receiver."""
        self.identity.check()
        self._about: dict[NodeId, str] = {}
        """What each peer said of itself when it connected last."""
        self.limits = limits
        self._configured = {peer: address for peer, address in peers.items() if peer != me}
        """Addresses that this node was told by its own configuration: they go before those of the cluster's."""
        self.peers: dict[NodeId, Address] = {}
        """The other members and where they are dialed; see `set_members`."""
        self._listen = listen
        self._sock = sock
        self.tls = tls
        self._chance = chance
        self._server: asyncio.Server | None = None
        self._receiver: Receiver | None = None
        self._closing = False
        self._dialers: dict[NodeId, asyncio.Task[None]] = {}
        self._knocks: dict[NodeId, asyncio.Event] = {}
        """Set when a peer dialed this node: it is alive, so the pause before dialing it is over."""
        self._dialed: dict[NodeId, Dialed] = {}
        """Where to send. Only connections whose handshake is done."""
        self._accepted: set[Accepted] = set()
        """Every accepted connection that has not ended."""
        self._heard: dict[NodeId, Accepted] = {}
        """Of those, the newest of each peer whose handshake is done."""
        self._encoded_message: Message | None = None
        """The message sent last ..."""
        self._encoded: tuple[list[bytes], int] = ([], 0)
        """... and its frame."""
        self._complaints = Complaints()

    @property
    def address(self) -> Address:
        """Where this node listens; the port is the real one even if port 0 was asked for."""
        assert self._server is not None, "the network has not been started"
        host, port, *_ = self._server.sockets[0].getsockname()
        return host, port

    async def start(self, receiver: Receiver) -> None:
        assert self._receiver is None, "a network starts once"
        self._receiver = receiver
        self.identity = replace(self.identity, incarnation=receiver.incarnation)
        loop = asyncio.get_running_loop()
        try:
            if self._sock is not None:
                self._server = await loop.create_server(self._accepting, sock=self._sock)
            else:
                host, port = self._listen
                self._server = await loop.create_server(self._accepting, host, port)
        except OSError as error:
            where = self._sock.getsockname() if self._sock is not None else self._listen
            reason = f"cannot listen for peers on {_show(where)}: {error.strerror or error}"
            raise OSError(error.errno, reason) from error
        self.set_members(dict.fromkeys(self._configured, ""))

    def _accepting(self) -> asyncio.Protocol:
        link = Accepted(self)
        return link if self.tls is None else SecuredAccept(link, self.tls)

    def _dialing(self, link: Dialed) -> asyncio.Protocol:
        return link if self.tls is None else SecuredDial(link, self.tls)

    def set_members(self, addresses: Mapping[NodeId, str]) -> None:
        wanted: dict[NodeId, Address] = {}
        for peer in sorted(addresses):
            address = self._configured.get(peer) or _parse(addresses[peer])
            if address is None:
                _log.error("no address is known of peer %s", peer)
            elif peer != self.identity.node:
                wanted[peer] = address
        for peer in [peer for peer in self.peers if wanted.get(peer) != self.peers[peer]]:
            self._forget(peer)
        for peer in [peer for peer in wanted if peer not in self.peers]:
            self._add(peer, wanted[peer])

    def _add(self, peer: NodeId, address: Address) -> None:
        self.peers[peer] = address
        self._knocks[peer] = asyncio.Event()
        if self._receiver is not None and not self._closing:
            task = asyncio.get_running_loop().create_task(self._keep_connected(peer), name=f"dial {peer}")
            task.add_done_callback(_tell_if_failed)
            self._dialers[peer] = task

    def _forget(self, peer: NodeId) -> None:
        """End what connects this node with one that is no member any more, or is so elsewhere."""
        del self.peers[peer], self._knocks[peer]
        dialer = self._dialers.pop(peer, None)
        if dialer is not None:
            dialer.cancel()
        for link in (self._dialed.get(peer), self._heard.get(peer)):
            if link is not None:
                link.finish()

    def send(self, to: NodeId, message: Message) -> None:
        link = self._dialed.get(to)
        if link is not None:
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
        for task in self._dialers.values():
            task.cancel()
        await asyncio.gather(*self._dialers.values(), return_exceptions=True)
        if self._server is not None:
            self._server.close()
        links: list[Link] = [*self._dialed.values(), *self._accepted]
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
        knock, address = self._knocks[peer], self.peers[peer]
        failures = 0
        told = ""
        while True:
            knock.clear()
            link = Dialed(self, peer)
            try:
                await self._dial(link)
            except (OSError, UnicodeError, PeerRefused) as error:
                reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
                if reason != told:  # the same reason, once a second for days, helps nobody
                    level = logging.INFO if isinstance(error, PeerRefused) and error.again else logging.WARNING
                    _log.log(level, "cannot connect to peer %s at %s: %s", peer, _show(address), reason)
                told = reason
                failures += 1
            else:
                since = loop.time()
                _log.info("connected to peer %s at %s", peer, _show(address))
                told = ""
                await link.ended.wait()
                failures = 0 if loop.time() - since >= STEADY_SECONDS else failures + 1
            await self._pause(knock, failures)

    async def _dial(self, link: Dialed) -> None:
        """Connect and shake hands. Raises OSError (also for a name that cannot be resolved) or PeerRefused."""
        loop = asyncio.get_running_loop()
        host, port = self.peers[link.peer]
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await loop.create_connection(partial(self._dialing, link), host, port)
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

    def on_dialed(self, link: Dialed) -> None:
        self._dialed[link.peer] = link
        assert self._receiver is not None
        self._receiver.on_peer_connected(link.peer)

    def on_dialed_ended(self, link: Dialed, reason: str) -> None:
        if self._dialed.get(link.peer) is not link:
            return
        del self._dialed[link.peer]
        self._report_lost(link.peer, f"connection to peer {link.peer} ended: {reason}")

    def on_accepted(self, link: Accepted) -> bool:
        """Whether this new connection, still unnamed, may stay."""
        if self._closing or len(self._accepted) >= ACCEPTED_MAX:
            return False
        self._accepted.add(link)
        return True

    def on_heard(self, link: Accepted, identity: Identity) -> bool:
        """`link` has said who it is; False when there is no way to answer it.

        A peer dials only when its last connection is gone, so that one is ended.
        """
        peer = identity.node
        self._about[peer] = identity.about
        if peer not in self.peers:
            # This node does not belong to the cluster yet: whoever comes is one of those who may take it in.
            address = _parse(identity.address)
            if address is None:
                return False
            self._add(peer, address)
        former = self._heard.get(peer)
        if former is not None:
            former.end("the peer connected anew")
        self._heard[peer] = link
        self._knocks[peer].set()
        return True

    def judge(self, peer: NodeId, incarnation: bytes) -> Refusal | None:
        assert self._receiver is not None
        return self._receiver.judge(peer, incarnation)

    def on_refused(self, peer: NodeId, why: Refusal) -> None:
        assert self._receiver is not None
        self._receiver.on_refused(peer, why)

    def on_accepted_ended(self, link: Accepted, reason: str) -> None:
        self._accepted.discard(link)
        peer = link.peer
        if peer is None:
            if not self._closing and not link.quiet:
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
        if self._complaints.is_news(remote, reason, asyncio.get_running_loop().time()):
            _log.warning("turned away a connection from %s: %s", remote, reason)


def _tell_if_failed(task: asyncio.Task[None]) -> None:
    """A dialer never ends by itself: if it does, that is a mistake of ours, and the loop's owner is told."""
    if not task.cancelled() and task.exception() is not None:
        context = {"message": f"{task.get_name()} failed", "exception": task.exception(), "task": task}
        task.get_loop().call_exception_handler(context)


def _parse(text: str) -> Address | None:
    """The address that `_show` shows so; None for what is none."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return (host, int(port)) if host and port.isascii() and port.isdigit() and 0 < int(port) < 65536 else None


def _show(address: Address) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
