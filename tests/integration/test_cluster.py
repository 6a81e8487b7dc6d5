"""Real nodes on real files and sockets: what users rely on, and what happens when a part of it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jkcs_client import Client, ClientClosed, NoNode, connect
from jkcs_server import Node, NodeConfig
from journal.errors import DiskFailed, StorageError
from journal.limits import Limits
from tests.support.cluster import Cluster, running_cluster

pytestmark = pytest.mark.asyncio

SMALL = Limits(
    record_bytes_max=256 * 1024,
    append_bytes_max=64 * 1024,
    segment_bytes=512 * 1024,
    log_memory_bytes_max=64 * 1024,
    snapshot_entries=500,
    snapshot_chunk_bytes=16 * 1024,
)
"""So small that a short test goes through segments and snapshots."""


def address_of(node: Node) -> str:
    assert node.client_address is not None
    return "jkcs://{}:{}".format(*node.client_address)


async def fill(client: Client, first: int, count: int, size: int = 200) -> None:
    """Create keys /k<number>, whose values tell their number."""
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(client.create(f"/k{number}", str(number).encode().ljust(size)))


async def check(client: Client, first: int, count: int, **options: str) -> None:
    for number in range(first, first + count):
        value, _ = await client.get(f"/k{number}", **options)  # type: ignore[arg-type]
        assert int(value) == number


async def caught_up(cluster: Cluster, number: int) -> None:
    leader = cluster.nodes[await cluster.leader()]
    await cluster.until(
        lambda: cluster.nodes[number].status()["applied_index"] >= leader.status()["commit_index"],
        f"n{number} has applied what is committed",
    )


async def test_any_node_takes_writes_and_shows_the_writes_of_the_others(tmp_path: Path) -> None:
    """Writes go to the leader without the client knowing, and the default read is linearizable."""
    async with running_cluster(tmp_path) as cluster:
        await cluster.leader()
        clients = [connect(address_of(node)) for node in cluster.nodes.values()]
        async with clients[0] as one, clients[1] as two, clients[2] as three:
            for number, client in enumerate((one, two, three)):
                await client.create(f"/by-{number}", b"v")
                for other in (one, two, three):
                    assert (await other.get(f"/by-{number}"))[0] == b"v"


async def test_acknowledged_writes_survive_the_leader(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        first = await cluster.leader()
        async with connect(cluster.url) as client:
            await fill(client, 0, 200)
            await cluster.stop(first)
            await fill(client, 200, 50)
            await check(client, 0, 250)
            assert await cluster.leader() != first


async def test_all_nodes_stopped_and_started_again_have_everything(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        await cluster.leader()
        async with connect(cluster.url) as client:
            await fill(client, 0, 100)
        for number in range(3):
            await cluster.stop(number)
        for number in range(3):
            await cluster.start(number)
        await cluster.leader()
        async with connect(cluster.url) as client:
            await check(client, 0, 100)


async def test_a_node_that_was_away_for_long_is_brought_back_by_a_snapshot(tmp_path: Path) -> None:
    """The log it needs is cut away: snapshot in chunks, then the log after it."""
    async with running_cluster(tmp_path, limits=SMALL) as cluster:
        leader = await cluster.leader()
        away = (leader + 1) % 3
        async with connect(cluster.url) as client:
            await fill(client, 0, 50)
            await cluster.stop(away)
            for first in range(50, 4050, 500):
                await fill(client, first, 500)
            await cluster.until(
                lambda: cluster.nodes[leader].status()["log_first_index"] > 500, "the leader has cut its log"
            )
            node = await cluster.start(away)
            await caught_up(cluster, away)
            assert node.status()["snapshot_index"] > 0
            async with connect(address_of(node)) as local:
                await check(local, 0, 4050, read="local")


async def test_a_node_restarts_from_its_own_snapshot_and_the_log_behind_it(tmp_path: Path) -> None:
    config = NodeConfig(tmp_path / "n1", "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", limits=SMALL)
    async with Node(config) as node, node.client() as client:
        for first in range(0, 3000, 500):
            await fill(client, first, 500)
        keys = node.status()["keys"]
    async with Node(config) as node, node.client() as client:
        assert node.status()["snapshot_index"] > 0
        await check(client, 0, 3000)
        assert node.status()["keys"] == keys


async def test_a_session_that_falls_silent_expires_with_its_keys_on_every_node(tmp_path: Path) -> None:
    """E2: the ephemerals go in the very entry that ends the session."""
    async with running_cluster(tmp_path) as cluster:
        await cluster.leader()
        async with connect(cluster.url) as watcher:
            stream = await _silent_session_with_key(cluster, "/eph")
            assert await watcher.exists("/eph") is not None
            async with watcher.watch("/eph") as events:
                stat = await watcher.exists("/eph")
                if stat is not None:
                    async with asyncio.timeout(10):
                        event = await anext(aiter(events))
                    assert event.path == "/eph"
            assert await watcher.exists("/eph") is None
            await cluster.until(
                lambda: all(node.status()["sessions"] == 1 for node in cluster.nodes.values()), "one session is left"
            )
            stream.close()


async def _silent_session_with_key(cluster: Cluster, path: str) -> asyncio.StreamWriter:
    """A client that opens a session of half a second, creates an ephemeral key and never says anything again."""
    from jkcs_client.protocol.framing import frame, pack
    from jkcs_client.protocol.messages import CREATE, PREFACE, CreateFlag

    address = cluster.nodes[0].client_address
    assert address is not None
    reader, writer = await asyncio.open_connection(*address)
    writer.write(PREFACE + frame([pack([0, b"", 500, 0]), pack([CREATE, 1, 0, path, b"", int(CreateFlag.EPHEMERAL)])]))
    async with asyncio.timeout(10):
        data = b""
        while path.encode() not in data:
            data += await reader.read(65536)
    return writer


async def test_a_session_moves_to_another_node_with_its_ephemerals(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        await cluster.leader()
        async with connect(cluster.url, session_timeout=20) as client:
            await client.create("/eph", b"", ephemeral=True)
            session = client.session_id
            for number in (0, 1):
                await cluster.stop(number)
                await cluster.start(number)
                assert await client.exists("/eph") is not None
            assert client.session_id == session


async def test_the_closed_client_is_gone_with_its_keys_at_once(tmp_path: Path) -> None:
    async with Node.single(tmp_path) as node, node.client() as other:
        async with node.client() as client:
            await client.create("/eph", b"", ephemeral=True)
        with pytest.raises(NoNode):
            await other.get("/eph")
        with pytest.raises(ClientClosed):
            await client.get("/")


async def test_a_failing_disk_stops_its_node_and_the_others_go_on(tmp_path: Path) -> None:
    """R6: never retry a failed write. The clients of the failed node find another one."""
    async with running_cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        node = cluster.nodes[leader]
        async with connect(cluster.url) as client:
            await client.create("/before", b"")
            assert node._server is not None
            _break(node)
            await client.create("/after", b"")
            with pytest.raises(DiskFailed, match="no space"):
                await asyncio.wait_for(node.failed(), 10)
            assert await cluster_leader_but(cluster, leader) != leader
            assert await client.exists("/before") is not None


def _break(node: Node) -> None:
    """From now on this node's log cannot be written."""
    assert node._server is not None

    def save(*_: object) -> None:
        raise DiskFailed("cannot write log: no space left on device")

    node._server.store.save = save  # type: ignore[method-assign]


async def cluster_leader_but(cluster: Cluster, failed: int) -> int:
    broken = cluster.nodes.pop(failed)
    try:
        return await cluster.leader()
    finally:
        cluster.nodes[failed] = broken


async def test_a_data_directory_in_use_or_of_another_node_is_refused(tmp_path: Path) -> None:
    """Two nodes on one directory would each vote with the other's memory."""
    async with Node.single(tmp_path) as node:
        with pytest.raises(StorageError, match=r"in use|locked|held"):
            await Node.single(tmp_path).start()
        assert node.status()["role"]
    stranger = NodeConfig(tmp_path, "other", "other=127.0.0.1:0", listen="127.0.0.1:0")
    with pytest.raises(StorageError, match="belongs to node 'n1'"):
        await Node(stranger).start()
    async with Node.single(tmp_path) as node, node.client() as client:
        assert await client.exists("/") is not None


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with Node.single(tmp_path / "one") as node:
        assert node.client_address is not None
        taken = "{}:{}".format(*node.client_address)
        with pytest.raises(OSError, match=taken):
            await Node.single(tmp_path / "two", listen=taken).start()
