"""A node whose state is not the quorum's: it notices, stops for good, and says at which index."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jkcs_client import connect
from journal.errors import Diverged, StorageError
from tests.support.cluster import running_cluster

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("damaged", ["leader", "follower"])
async def test_a_node_whose_state_differs_fences_itself_and_the_others_go_on(tmp_path: Path, damaged: str) -> None:
    """A leader is not right by office. Whoever differs must not serve again, not even after a restart."""
    async with running_cluster(tmp_path, 3) as cluster, connect(cluster.url) as client:
        await client.create("/a", b"1")
        leader = await cluster.leader()
        number = leader if damaged == "leader" else (leader + 1) % 3
        server = cluster.nodes[number]._server
        assert server is not None
        server.machine.tree.sum ^= 1
        await client.set("/a", b"2")
        with pytest.raises(Diverged, match=r"differs from that of the quorum at index \d+"):
            async with asyncio.timeout(20):
                await cluster.nodes[number].failed()
        await cluster.stop(number)
        await cluster.leader()
        await client.set("/a", b"3")
        with pytest.raises(StorageError, match="rebuild"):
            await cluster.start(number)
