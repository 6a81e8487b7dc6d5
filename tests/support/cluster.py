"""A cluster of real nodes inside the test's own event loop: real files, sockets and threads, any free ports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jkcs_server import Node, NodeConfig
from journal.limits import Limits, Timing


class Cluster:
    """Nodes by number. A stopped node can be started again on its data."""

    def __init__(self, directory: Path, size: int, limits: Limits, timing: Timing) -> None:
        self.directory = directory
        self.limits = limits
        self.timing = timing
        self.settings: dict[str, Any] = {}
        """More settings of every node that is started from now on."""
        self.nodes: dict[int, Node] = {}
        self._sockets = [bound_socket() for _ in range(size)]
        self._ports = [sock.getsockname()[1] for sock in self._sockets]
        self.peers = ",".join(f"n{number}=127.0.0.1:{port}" for number, port in enumerate(self._ports))

    def config(self, number: int, *, join: bool = False) -> NodeConfig:
        return NodeConfig(
            self.directory / f"n{number}",
            f"n{number}",
            self.peers,
            listen="127.0.0.1:0",
            limits=self.limits,
            timing=self.timing,
            session_timeout_min=0.2,
            join=join,
            **self.settings,
        )

    async def start(self, number: int, *, join: bool = False) -> Node:
        # The node closes its socket when it stops; the port is then bound anew.
        sock = self._sockets[number]
        if sock.fileno() < 0:
            sock = bound_socket(self._ports[number])
        node = Node(self.config(number, join=join), peer_socket=sock)
        await node.start()
        self.nodes[number] = node
        return node

    async def stop(self, number: int) -> None:
        await self.nodes.pop(number).stop()

    @property
    def url(self) -> str:
        addresses = [node.client_address for _, node in sorted(self.nodes.items())]
        return "jkcs://" + ",".join(f"{host}:{port}" for host, port in filter(None, addresses))

    async def leader(self) -> int:
        """Wait until one node leads and serves; returns its number."""
        async with asyncio.timeout(20):
            while True:
                for number, node in sorted(self.nodes.items()):
                    status = node.status()
                    if status["role"] == "leader" and status["applied_index"] == status["last_index"] > 0:
                        return number
                await asyncio.sleep(0.01)

    async def until(self, fact: Callable[[], bool], what: str) -> None:
        """Wait for a fact about the nodes; fails by name when it does not come true."""
        try:
            async with asyncio.timeout(20):
                while not fact():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never came true: {what}") from None

    async def close(self) -> None:
        for number in sorted(self.nodes):
            await self.stop(number)
        for sock in self._sockets:
            sock.close()


DEFAULT_LIMITS = Limits()
DEFAULT_TIMING = Timing()


@asynccontextmanager
async def running_cluster(
    directory: Path,
    size: int = 3,
    limits: Limits = DEFAULT_LIMITS,
    timing: Timing = DEFAULT_TIMING,
    **settings: Any,
) -> AsyncIterator[Cluster]:
    """`settings`: more of what `NodeConfig` takes."""
    cluster = Cluster(directory, size, limits, timing)
    cluster.settings = settings
    try:
        for number in range(size):
            await cluster.start(number)
        yield cluster
    finally:
        await cluster.close()


def bound_socket(port: int = 0) -> socket.socket:
    """A socket of this machine alone; on any free port when none is given."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock
