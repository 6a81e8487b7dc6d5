"""Members that come and go, on real sockets and files: they join, observe, leave, and come back with another disk."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from jkcs_client import connect
from jkcs_server import Node, NodeConfig
from journal.errors import Removed
from journal.values import NodeId
from tests.support.cluster import Cluster, bound_socket, running_cluster

pytestmark = pytest.mark.asyncio


async def until(fact, what: str) -> None:  # type: ignore[no-untyped-def]
    try:
        async with asyncio.timeout(20):
            while not fact():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


def replica_of(node: Node):  # type: ignore[no-untyped-def]
    assert node._server is not None
    return node._server.replica


async def change(cluster: Cluster, voters: tuple[str, ...], addresses: dict[str, str]) -> None:
    """Make these the voters, whoever leads, and wait for the end of it."""
    leader = replica_of(cluster.nodes[await cluster.leader()])
    old = leader.core.configuration.voters
    leader.administer(lambda core, now: core.update_voters(old, voters, addresses, now))
    await until(lambda: leader.core.committed_configuration.voters == voters, f"voters {voters}")
    await until(lambda: not leader.core.committed_configuration.changing, f"only voters {voters}")


async def joining(cluster: Cluster, *names: str) -> dict[str, str]:
    """New nodes beside a cluster, on any free ports; gives their peer addresses."""
    addresses: dict[str, str] = {}
    for name in names:
        sock = bound_socket()
        addresses[name] = f"127.0.0.1:{sock.getsockname()[1]}"
        config = NodeConfig(
            cluster.directory / name,
            name,
            f"{cluster.peers},{name}={addresses[name]}",
            listen="127.0.0.1:0",
            join=True,
            session_timeout_min=0.2,
        )
        node = Node(config, peer_socket=sock)
        cluster.nodes[100 + len(addresses)] = node
        await node.start()
    return addresses


async def test_one_node_grows_to_three_and_its_first_member_leaves(tmp_path: Path) -> None:
    """A cluster can be replaced node by node, or at once, while clients go on."""
    async with running_cluster(tmp_path, 1) as cluster, connect(cluster.url) as client:
        await client.create("/before", b"1")
        addresses = await joining(cluster, "m1", "m2")
        await change(cluster, ("m1", "m2", "n0"), addresses)
        await client.create("/between", b"2")
        await change(cluster, ("m1", "m2"), {})
        with pytest.raises(Removed, match="removed from the cluster by the configuration at index"):
            async with asyncio.timeout(20):
                await cluster.nodes[0].failed()
        await cluster.stop(0)
        async with connect(cluster.url) as other:
            assert [(await other.get(path))[0] for path in ("/before", "/between")] == [b"1", b"2"]
            await other.create("/after", b"3")


async def test_a_node_that_was_away_when_it_was_removed_is_told_so(tmp_path: Path) -> None:
    """It would ask for votes for ever: whoever it asks says why it is not answered."""
    async with running_cluster(tmp_path, 3) as cluster:
        await cluster.leader()
        await cluster.stop(2)
        await change(cluster, ("n0", "n1"), {})
        node = await cluster.start(2)
        with pytest.raises(Removed, match=r"refused by n[01]: this node was removed from the cluster"):
            async with asyncio.timeout(20):
                await node.failed()


async def test_a_wiped_disk_does_not_come_back_under_its_old_name(tmp_path: Path) -> None:
    """It has forgotten what it voted and acknowledged: the others know it by its disk (R9)."""
    async with running_cluster(tmp_path, 3) as cluster, connect(cluster.url) as client:
        await client.create("/a", b"")
        everybody_met = lambda: all(len(replica_of(node).store.met) == 2 for node in cluster.nodes.values())  # noqa: E731
        await until(everybody_met, "all know each other")
        await cluster.stop(2)
        shutil.rmtree(tmp_path / "n2")
        node = await cluster.start(2)
        with pytest.raises(Removed, match="known here with another data directory"):
            async with asyncio.timeout(20):
                await node.failed()
        await client.create("/b", b"")


async def test_an_observer_serves_reads_writes_watches_and_sessions(tmp_path: Path) -> None:
    """Clients cannot tell it from a voter; only elections can."""
    async with running_cluster(tmp_path, 3) as cluster:
        addresses = await joining(cluster, "o1")
        leader = replica_of(cluster.nodes[await cluster.leader()])
        leader.administer(lambda core, now: core.convert_role(NodeId("o1"), "observer", addresses["o1"], now))
        observer = cluster.nodes[101]
        await until(lambda: replica_of(observer).core.role.value == "observer", "o1 observes")
        host, port = observer.client_address
        async with connect(f"jkcs://{host}:{port}") as client, connect(cluster.url) as other:
            await client.create("/a", b"1")
            async with client.watch("/a") as events:
                await other.set("/a", b"2")
                async for event in events:
                    assert event.path == "/a"
                    break
            assert (await client.get("/a"))[0] == b"2"
            assert (await client.get("/a", read="local"))[0] == b"2"
            await client.create("/mine", b"", ephemeral=True)
        async with connect(cluster.url) as other:
            assert await other.exists("/mine") is None
        leader.administer(lambda core, now: core.convert_role(NodeId("o1"), "voter", addresses["o1"], now))
        await until(lambda: replica_of(observer).core.role.value == "follower", "o1 votes")


async def test_a_voter_made_an_observer_while_it_was_down_comes_back_as_one(tmp_path: Path) -> None:
    """Nobody sends it the log any more and nobody gives it a vote: it asks the others what was committed."""
    async with running_cluster(tmp_path, 3) as cluster:
        leader = await cluster.leader()
        away = (leader + 1) % 3
        await cluster.stop(away)
        core = replica_of(cluster.nodes[leader]).core
        replica_of(cluster.nodes[leader]).administer(
            lambda core, now: core.convert_role(NodeId(f"n{away}"), "observer", "", now)
        )
        await until(lambda: core.committed_configuration.observers == (f"n{away}",), "the configuration")
        await until(lambda: not core.configuration.changing, "the change is over")
        async with connect(cluster.url) as client:
            await client.create("/a", b"1")
        node = await cluster.start(away)
        await until(lambda: replica_of(node).core.role.value == "observer", "it observes")
        host, port = node.client_address
        async with connect(f"jkcs://{host}:{port}") as client:
            assert (await client.get("/a"))[0] == b"1"
            assert await client.set("/a", b"2")
            assert (await client.get("/a", read="local"))[0] == b"2"
        assert core.role.value == "leader"
