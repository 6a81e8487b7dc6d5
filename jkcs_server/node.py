"""A node: a server on real files, sockets and clocks. What a service embeds, and what `jkcs serve` runs.

    async with Node(NodeConfig(...)) as node:      # in the running asyncio loop
        client = node.client()
    with NodeThread(NodeConfig(...)) as node:       # in a thread and loop of its own
        ...

Composition root: builds every edge, starts in order, stops in the reverse order.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import secrets
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anyio.abc import ByteStream

from jkcs_server.config import NodeConfig, show_address
from jkcs_server.loopback import connect_to
from jkcs_server.server import Edges, Server
from jkcs_server.serving.connection import Sink
from jkcs_server.serving.crowd import Crowd
from jkcs_server.serving.greeting import Undecided
from jkcs_server.serving.listener import Listener
from jkcs_server.serving.tls import ClientTls
from journal.clock import wall_milliseconds
from journal.peers.tcp import TcpNetwork
from journal.peers.tls import PeerTls
from journal.storage.disk import FileDisk
from journal.storage.worker import ThreadWorker
from journal.values import NodeId

if TYPE_CHECKING:
    from jkcs_client import Client

logger = logging.getLogger("jkcs_server.node")

HAND_OVER_SECONDS = 1.0
"""How long a stopping leader waits for another one."""
UNSAFE = "acknowledged writes are lost when the machine fails. Never use this for real data."
INSECURE = "where TLS is not set up, whoever reaches its ports reads and changes everything."
GC_THRESHOLD = 50_000
"""Allocations between two young collections: the tree's keys live long, and looking at them often costs
a fifth of a create."""


def tune_collector() -> None:
    """Spare the garbage collector what lives long. For a process that is there for its node alone: a host
    that embeds one decides for itself."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


class Node:
    """One member of a cluster, in the running asyncio event loop."""

    def __init__(self, config: NodeConfig, *, peer_socket: socket.socket | None = None) -> None:
        """Raises ConfigError for a configuration that cannot work; nothing is opened yet.

        `peer_socket`, bound already, takes the place of the configured peer address: for clusters whose
        ports are chosen by the system.
        """
        config.check()
        config.check_exposure()
        self.config = config
        self._peer_socket = peer_socket
        self.client_address: tuple[str, int] | None = None
        """Where clients connect, once started; the real port when the configured one is 0."""
        self._server: Server | None = None
        self._listener: Listener | None = None
        self._client_tls: ClientTls | None = None
        self._peer_tls: PeerTls | None = None
        self._disk: FileDisk | None = None
        self._workers: tuple[ThreadWorker, ...] = ()
        self._failure: asyncio.Future[None] | None = None
        self._stopping = False

    @classmethod
    def single(cls, data_dir: str | Path, *, listen: str = "127.0.0.1:0") -> Self:
        """A cluster of one, durable, for development and tests."""
        return cls(NodeConfig(data_dir, "n1", "n1=127.0.0.1:0", listen=listen))

    async def start(self) -> None:
        """Recover, join the peers and listen for clients. Raises CredentialsRefused, StorageError, OSError
        or PeerRefused, each naming what cannot be used; whatever was opened by then is closed again."""
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        config = self.config
        try:
            self._load_certificates()
            # Clients may connect from here on; they are answered once the server is there.
            self._listener = Listener(self._accept, Crowd(config.connections_per_address_max), self._client_tls)
            self.client_address = await self._listener.start(config.listen)
            if not config.fsync:
                logger.warning("%s: fsync is OFF: %s", config.me, UNSAFE)
            self._disk = FileDisk(config.data_dir, sync=config.fsync)
            self._server = server = Server(config, self._edges(loop, self._disk))
            server.on_failed = self._on_failed
            server.client_address = show_address(self.client_address)
            await server.start()
        except BaseException:
            await self._close()
            raise
        clients, peers = show_address(self.client_address), show_address(config.peer_bind)
        logger.info("%s serves clients on %s, peers on %s", config.me, clients, peers)

    def _load_certificates(self) -> None:
        """Raises CredentialsRefused."""
        config = self.config
        if config.insecure:
            logger.warning("%s: insecure is set: %s", config.me, INSECURE)
        if config.tls_certificate is not None and config.tls_key is not None:
            self._client_tls = ClientTls(
                config.tls_certificate,
                config.tls_key,
                client_ca=config.tls_client_ca,
                client_auth=config.tls_client_auth,
                only=config.tls_only,
            )
        self._peer_tls = PeerTls.given(config.peer_tls_certificate, config.peer_tls_key, config.peer_tls_ca)

    def reload_certificates(self) -> None:
        """Read the certificates again now, instead of when their files change. Those that cannot be used are logged,
        and the ones before stay."""
        for tls in (self._client_tls, self._peer_tls):
            if tls is not None:
                tls.reload()

    def _edges(self, loop: asyncio.AbstractEventLoop, disk: FileDisk) -> Edges:
        config = self.config
        assert self.client_address is not None
        sync, background = ThreadWorker(loop, "jkcs-sync"), ThreadWorker(loop, "jkcs-background")
        self._workers = (sync, background)
        network = TcpNetwork(
            NodeId(config.me),
            config.cluster,
            config.peer_bind,
            {NodeId(name): address for name, address in config.peers.items() if name != config.me},
            config.limits,
            about=show_address(self.client_address),
            advertise=show_address(config.peers[config.me]),
            sock=self._peer_socket,
            tls=self._peer_tls,
        )
        chance = random.Random(secrets.randbits(64))  # noqa: S311 - spreads election timeouts, guards nothing
        return Edges(loop, disk, sync, background, network, chance, wall_milliseconds, secrets.token_bytes)

    def _accept(self, sink: Sink) -> Undecided | None:
        return None if self._server is None else self._server.requests.accept(sink)

    async def stop(self) -> None:
        """Hand leadership over, close clients and peers, end running saves. Ends within two seconds."""
        if self._stopping or self._server is None:
            return
        self._stopping = True
        if self._listener is not None:
            await self._listener.close()
        await self._server.hand_over(HAND_OVER_SECONDS)
        await self._close()

    async def _close(self) -> None:
        """Close whatever was opened, in reverse order. The disk is closed whatever happens before it."""
        try:
            if self._listener is not None:
                await self._listener.close()
            if self._server is not None:
                await self._server.stop()
            for worker in self._workers:
                worker.close()
        finally:
            if self._disk is not None:
                self._disk.close()

    def _on_failed(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def failed(self) -> None:
        """Wait until the node stops by itself, and raise why: a failed disk, a damaged log."""
        assert self._failure is not None, "the node is not started"
        await asyncio.shield(self._failure)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def client(self, *, session_timeout: float = 10.0, **options: Any) -> Client:
        """A client of this very node, without a socket: `async with node.client() as client`."""
        from jkcs_client import connect  # only hosts that ask for a client pay for its import

        return connect(f"jkcs://{self.config.me}", session_timeout=session_timeout, dialer=self._dial, **options)

    async def _dial(self, address: object) -> ByteStream:
        if self._server is None or self._stopping:
            raise OSError("the node is not running")
        return connect_to(self._server.accept)

    def status(self) -> dict[str, Any]:
        """This node's view of itself and the cluster."""
        assert self._server is not None, "the node is not started"
        return self._server.status()


class NodeThread:
    """A node with a thread and an event loop of its own, for hosts that have none to share."""

    def __init__(self, config: NodeConfig) -> None:
        config.check()
        self.config = config
        self.client_address: tuple[str, int] | None = None
        """Where clients connect, once started."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._node: Node | None = None
        self._thread = threading.Thread(target=self._run, name=f"jkcs-{config.me}", daemon=True)

    def start(self) -> None:
        """Start, and return when the node serves. Raises what `Node.start` raises."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Stop the node and join its thread. Raises why, when the node had failed."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def status(self) -> dict[str, Any]:
        """Like `Node.status`, from any thread."""
        assert self._loop is not None and self._node is not None, "the node is not started"
        return asyncio.run_coroutine_threadsafe(self._status(self._node), self._loop).result()

    @staticmethod
    async def _status(node: Node) -> dict[str, Any]:
        return node.status()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with Node(self.config) as node:
            self._node = node
            self.client_address = node.client_address
            self._ready.set()
            failed = asyncio.ensure_future(node.failed())
            stopped = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait((failed, stopped), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if failed.done():
                failed.result()
            failed.cancel()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop there is here: uvloop, or asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
