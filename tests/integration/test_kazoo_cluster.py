"""kazoo, unmodified, against three nodes whose leader is killed: sessions, locks and watches go on.

JKCS_JUDGED=zookeeper runs the same against three real ZooKeepers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NodeExistsError, OperationTimeoutError, SessionExpiredError
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry

from tests.zookeeper.kazoo_clients import PATIENCE, Clients, States, eventually, in_background, kazoo_clients
from tests.zookeeper.operations import Operation
from tests.zookeeper.servers import Servers, judged
from tests.zookeeper.session import Session

SESSION_SECONDS = 20.0
"""Longer than any election."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with judged(Path(tmp_path_factory.mktemp("servers")), 3) as servers:
        yield servers


@pytest.fixture
def clients(servers: Servers) -> Iterator[Clients]:
    servers.leader()
    with kazoo_clients(servers) as clients:
        yield clients


def at_leader(clients: Clients) -> tuple[KazooClient, int]:
    """A client that begins at the leader, and knows the others."""
    leader = clients.servers.leader()
    addresses = clients.servers.addresses
    order = [addresses[leader], *(address for address in addresses if address != addresses[leader])]
    client = clients.new(
        hosts=",".join(f"{host}:{port}" for host, port in order),
        randomize_hosts=False,
        timeout=SESSION_SECONDS,
        connection_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=0.2),
        command_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=0.2),
    )
    return client, leader


def test_any_server_shows_what_was_written_at_another(clients: Clients) -> None:
    """After `sync`, as ZooKeeper's clients know it."""
    each = [clients.new(hosts=f"{host}:{port}") for host, port in clients.servers.addresses]
    for number, client in enumerate(each):
        client.create(f"/by-{number}", b"v")
        for other in each:
            other.sync("/")
            assert other.get(f"/by-{number}")[0] == b"v"


def test_session_ephemerals_and_watches_outlive_the_leader(clients: Clients) -> None:
    client, leader = at_leader(clients)
    states, session = States(client), client.client_id
    client.create("/eph", b"", ephemeral=True)
    client.create("/key", b"0")
    seen: Queue[bytes] = Queue()

    @client.DataWatch("/key")
    def on_data(data: bytes | None, stat: object) -> None:
        if data is not None:
            seen.put(data)

    assert seen.get(timeout=PATIENCE) == b"0"
    clients.servers.kill(leader)
    try:
        states.wait_for(KazooState.SUSPENDED)
        states.wait_for(KazooState.CONNECTED)
        assert client.client_id == session
        client.retry(client.set, "/key", b"1")
        while seen.get(timeout=PATIENCE) != b"1":
            pass
        stat = client.retry(client.exists, "/eph")
        assert stat is not None
        assert stat.ephemeralOwner == session[0]
    finally:
        clients.servers.restart(leader)
        clients.servers.leader()


def test_lock_is_kept_while_the_leader_is_replaced_and_then_passed_on(clients: Clients) -> None:
    holder, leader = at_leader(clients)
    rival, _ = at_leader(clients)
    first, second = holder.Lock("/lock"), rival.Lock("/lock")
    assert first.acquire()
    waiting = in_background(second.acquire)
    eventually(lambda: len(holder.get_children("/lock")) == 2, "the rival waits")
    states = States(holder)
    clients.servers.kill(leader)
    try:
        states.wait_for(KazooState.CONNECTED)
        assert holder.retry(first.contenders)
        assert not waiting.done()
        holder.retry(first.release)
        assert waiting.result(PATIENCE)
        rival.retry(second.release)
    finally:
        clients.servers.restart(leader)
        clients.servers.leader()


def test_acknowledged_writes_survive_and_none_is_done_twice(clients: Clients) -> None:
    client, leader = at_leader(clients)
    client.create("/written")
    acknowledged: list[int] = []
    unknown: set[int] = set()

    def write() -> None:
        for number in range(300):
            while True:
                try:
                    client.create(f"/written/{number}")
                except NodeExistsError:
                    assert number in unknown, f"{number} was created by nobody"
                except (ConnectionLoss, OperationTimeoutError):
                    unknown.add(number)
                    eventually(lambda: client.connected, "the client is connected again")
                    continue
                acknowledged.append(number)
                break

    writing = in_background(write)
    eventually(lambda: len(acknowledged) > 50, "some are written")
    clients.servers.kill(leader)
    try:
        writing.result(60)
    finally:
        clients.servers.restart(leader)
        clients.servers.leader()
    for host, port in clients.servers.addresses:
        reader = clients.new(hosts=f"{host}:{port}")
        reader.sync("/")
        children, stat = reader.get_children("/written", include_data=True)
        assert sorted(map(int, children)) == acknowledged == list(range(300))
        assert stat.cversion == 300


def test_a_session_moves_and_its_old_connection_is_closed(clients: Clients) -> None:
    """Two connections of one session: the later one has it."""
    one, two, _ = clients.servers.addresses
    old = Session(one)
    old.connect()
    new = Session(two)
    new.id, new.password = old.id, old.password
    assert new.connect()[0] == "connected"
    assert new.settle() == []
    if clients.servers.name == "jkcs":
        # ZooKeeper notices only when the old one sends something that its leader looks at.
        eventually(lambda: old.settle() and not old.connected, "the old connection is closed")
    old.disconnect()
    new.disconnect()


def test_expiry_is_told_after_the_leader_is_gone(clients: Clients) -> None:
    """A session that ends while its client is away: the new leader has counted its silence."""
    watcher, leader = at_leader(clients)
    silent = Session(clients.servers.addresses[leader], 2_000)
    silent.connect()
    watcher.create("/kept")
    silent.exchange([Operation("create", "~/eph", flags=1)], clients.root)
    clients.servers.kill(leader)
    silent.disconnect()
    try:
        eventually(lambda: watcher.retry(watcher.exists, "/eph") is None, "the ephemeral is gone")
    except SessionExpiredError:
        pytest.fail("the watcher's own session expired")
    finally:
        clients.servers.restart(leader)
        clients.servers.leader()
