"""kazoo as its users use it, for the tests of tests/integration/test_kazoo_*.

Those run against JKCS, or against the real ZooKeeper: see `servers.py`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from tests.zookeeper.servers import Servers, hosts

T = TypeVar("T")
PATIENCE = 20.0
"""Seconds that a busy machine may need for what takes milliseconds."""
_numbers = itertools.count(1)


class Clients:
    """Clients of some servers, each below the same new root; all are stopped at the end."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.root = f"/test-{next(_numbers)}"
        self._clients: list[KazooClient] = []

    def new(self, **options: Any) -> KazooClient:
        """A started client. `hosts` among the options is without the root."""
        where = options.pop("hosts", hosts(self.servers)) + self.root
        client = KazooClient(hosts=where, timeout=options.pop("timeout", 10.0), **options)
        client.start(timeout=PATIENCE)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.stop()
            client.close()


@contextmanager
def kazoo_clients(servers: Servers) -> Iterator[Clients]:
    clients = Clients(servers)
    outside = KazooClient(hosts=hosts(servers))
    outside.start(timeout=PATIENCE)
    outside.create(clients.root)
    try:
        yield clients
    finally:
        clients.close()
        outside.stop()
        outside.close()


def in_background(work: Callable[..., T], *arguments: Any, **options: Any) -> Future[T]:
    """Start it in a thread of its own, which never keeps the tests from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def eventually(fact: Callable[[], T], what: str) -> T:
    """Wait until something is so; what it was then. Fails by name."""
    deadline = time.monotonic() + PATIENCE
    while not (value := fact()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.01)
    return value


class States:
    """What a client's listener was told, in order."""

    def __init__(self, client: KazooClient) -> None:
        self.seen: list[str] = []
        client.add_listener(self._on_state)

    def _on_state(self, state: str) -> None:
        self.seen.append(state)

    def wait_for(self, state: str) -> None:
        eventually(lambda: state in self.seen, f"the client is {state}")


def expire(clients: Clients, client: KazooClient) -> None:
    """End a client's session behind its back, and wait until it knows and has a new one."""
    states = States(client)
    before = client.client_id
    assert before is not None
    twin = KazooClient(hosts=hosts(clients.servers), client_id=before)
    twin.start(timeout=PATIENCE)
    assert twin.client_id == before
    twin.stop()
    twin.close()
    states.wait_for(KazooState.LOST)
    eventually(lambda: client.connected and client.client_id not in (None, before), "the client has a new session")
