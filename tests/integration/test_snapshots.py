"""Snapshots of a real cluster: taken on request, and gone back to while clients are connected."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jkcs_client import EventKind, NoNode, connect
from jkcs_server import Node
from journal.replica import Replica
from journal.snapshotting import Snapshotting
from journal.values import Index
from tests.support.cluster import Cluster, running_cluster

pytestmark = pytest.mark.asyncio


def snapshots_of(node: Node) -> Snapshotting:
    assert node._server is not None
    replica: Replica = node._server.replica
    return replica.snapshots


async def take(cluster: Cluster) -> Index:
    index = snapshots_of(cluster.nodes[await cluster.leader()]).take_now()
    assert index is not None
    await cluster.until(
        lambda: all(
            any(meta.position.index == index for meta in snapshots_of(node).metas()) for node in cluster.nodes.values()
        ),
        "every node has the snapshot",
    )
    return index


async def recover(cluster: Cluster, index: Index) -> Index:
    done: asyncio.Future[Index] = asyncio.get_running_loop().create_future()

    def on_done(at: Index | None, error: BaseException | None) -> None:
        if error is not None:
            done.set_exception(error)
        else:
            assert at is not None
            done.set_result(at)

    snapshots_of(cluster.nodes[await cluster.leader()]).recover(index, on_done)
    return await done


async def test_a_cluster_goes_back_to_a_snapshot_under_its_clients(tmp_path: Path) -> None:
    """Sessions, watches and tokens go on: what clients see are changes, the last ones of the log."""
    async with running_cluster(tmp_path) as cluster:
        await cluster.leader()
        async with connect(cluster.url) as client:
            for number in range(300):
                await client.create(f"/k{number}", b"good")
            token = (await client.get("/k1"))[1].czxid
            before = await take(cluster)
            assert len({snapshots_of(node).metas()[0] for node in cluster.nodes.values()}) == 1
            await client.set("/k0", b"bad")
            await client.delete("/k1")
            await client.create("/mine", b"", ephemeral=True)
            async with client.watch("/", recursive=True) as events:
                at = await recover(cluster, before)
                seen = {}
                async for event in events:
                    seen[event.path] = (event.kind, event.index)
                    if len(seen) == 2:
                        break
            assert seen == {"/k0": (EventKind.CHANGED, at), "/k1": (EventKind.CREATED, at)}
            assert (await client.get("/k0"))[0] == b"good"
            assert (await client.get("/k1"))[1].czxid == at > token, "who held the old key's token is fenced"
            assert await client.exists("/mine") is not None
        for number in range(3):
            await cluster.stop(number)
        for number in range(3):
            await cluster.start(number)
        await cluster.leader()
        async with connect(cluster.url) as client:
            assert (await client.get("/k0"))[0] == (await client.get("/k1"))[0] == b"good"
            with pytest.raises(NoNode):
                await client.get("/mine")
