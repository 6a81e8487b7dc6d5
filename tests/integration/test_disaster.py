"""Disasters, rehearsed: a majority lost for good, a damaged node, a cluster that is left only as a backup.

Real nodes on real files and sockets; what the operator does in between goes through the command line.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jkcs_client import Client, NoNode, connect
from jkcs_client.recipes import Lock
from jkcs_server import Node, NodeConfig
from jkcs_server.cli.main import jkcs
from journal.limits import Limits
from journal.storage.rescue import INDEX_JUMP
from journal.storage.segment import is_segment_name
from tests.support.cluster import DEFAULT_TIMING, Cluster, running_cluster

pytestmark = pytest.mark.asyncio

LIMITS = Limits(record_bytes_max=256 * 1024, append_bytes_max=64 * 1024, segment_bytes=512 * 1024, snapshot_entries=100)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(jkcs, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def document(*arguments: object) -> Any:
    return json.loads(done(*arguments, "--json"))


async def fill(client: Client, keys: int = 30) -> int:
    """Some keys, a queue of sequential ones, and a lock that was held once; the token it had."""
    for number in range(keys):
        await client.create(f"/data/{number}", b"%d" % number, parents=True)
    await client.create("/queue/item-", sequential=True, parents=True)
    async with Lock(client, "/locks/one") as held:
        return held.token


async def check(client: Client, token: int, keys: int = 30) -> None:
    """All of it is there, and nothing that only grows has gone back."""
    for number in range(keys):
        assert (await client.get(f"/data/{number}"))[0] == b"%d" % number
    assert await client.create("/queue/item-", sequential=True) == "/queue/item-0000000001"
    async with Lock(client, "/locks/one") as held:
        assert held.token > token + INDEX_JUMP


def alone(directory: Path, me: str) -> Node:
    """A node that is its whole cluster."""
    return Node(NodeConfig(directory, me, f"{me}=127.0.0.1:0", listen="127.0.0.1:0", limits=LIMITS))


def url_of(node: Node) -> str:
    assert node.client_address is not None
    host, port = node.client_address
    return f"jkcs://{host}:{port}"


async def caught_up(cluster: Cluster, number: int) -> None:
    nodes = cluster.nodes

    def reached() -> bool:
        return nodes[number].status()["applied_index"] == max(node.status()["commit_index"] for node in nodes.values())

    await cluster.until(reached, f"n{number} has caught up")


async def test_one_survivor_of_three_becomes_a_cluster_with_all_that_it_has(tmp_path: Path) -> None:
    """Two disks are gone for good. Without this the third could never serve again."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        async with connect(cluster.url) as client:
            token = await fill(client)
        await caught_up(cluster, 2)
    for lost in ("n0", "n1"):
        shutil.rmtree(tmp_path / lost)
    survivor = tmp_path / "n2"
    before = {path.name: path.read_bytes() for path in survivor.iterdir() if path.name != "lock"}
    found = document("recover", "--force-new-cluster", survivor, "--dry-run")
    assert (found["done"], found["members"], found["found"]["members"]) == (False, ["n2"], ["n0", "n1", "n2"])
    assert before == {path.name: path.read_bytes() for path in survivor.iterdir() if path.name != "lock"}
    said = done("recover", "--force-new-cluster", survivor)
    assert f"kept: everything up to index {found['found']['last_index']}" in said and "lost: " in said
    async with alone(survivor, "n2") as node, node.client() as client:
        await check(client, token)


async def test_a_recovered_cluster_grows_to_three_again(tmp_path: Path) -> None:
    """With empty directories under the old names: what the lost ones had promised binds nobody any more."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        async with connect(cluster.url) as client:
            token = await fill(client)
        await caught_up(cluster, 2)
        for number in range(3):
            await cluster.stop(number)
        for lost in ("n0", "n1"):
            shutil.rmtree(tmp_path / lost)
        done("recover", "--force-new-cluster", tmp_path / "n2")
        await cluster.start(2)
        await cluster.leader()
        for number in (0, 1):
            await cluster.start(number, join=True)
        addresses = dict(item.split("=") for item in cluster.peers.split(","))
        async with connect(url_of(cluster.nodes[2])) as client:
            await client.admin.update_voters(["n2"], addresses)
            await cluster.until(
                lambda: all(node.status()["role"] in ("leader", "follower") for node in cluster.nodes.values()),
                "all three vote",
            )
            await check(client, token)
        await caught_up(cluster, 0)
        await cluster.stop(2)
        async with connect(cluster.url) as client:
            assert (await client.get("/data/7"))[0] == b"7"


async def test_a_node_that_runs_keeps_every_tool_out(tmp_path: Path) -> None:
    """Two processes in one directory would be the next disaster."""
    data = tmp_path / "n1"
    async with alone(data, "n1"):
        for arguments in (
            ("recover", "--force-new-cluster", data),
            ("rebuild", data),
            ("backup", "--from", data, tmp_path / "file"),
        ):
            result = call(*arguments)
            assert result.exit_code == 1 and "is in use by process" in result.output, result.output


async def test_recovering_needs_the_words_that_say_what_it_does(tmp_path: Path) -> None:
    """A cluster is not given up by a command that was typed half."""
    async with alone(tmp_path, "n1"):
        pass
    result = call("recover", tmp_path)
    assert result.exit_code == 2 and "--force-new-cluster" in result.output
    result = call("recover", "--force-new-cluster", tmp_path, "--member", "n7=127.0.0.1:1")
    assert result.exit_code == 1 and "not among the members" in result.output


async def test_a_damaged_follower_is_rebuilt_and_refilled_by_its_peers(tmp_path: Path) -> None:
    """From a snapshot, since the start of the log is long gone; and it does not vote before that."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster, connect(cluster.url) as client:
        await fill(client, keys=300)
        leader = await cluster.leader()
        hurt = (leader + 1) % 3
        await cluster.stop(hurt)
        directory = tmp_path / f"n{hurt}"
        segment = min(path for path in directory.iterdir() if is_segment_name(path.name))
        content = bytearray(segment.read_bytes())
        content[200] ^= 1
        segment.write_bytes(content)
        with pytest.raises(Exception, match="damaged"):
            await cluster.start(hurt)
        assert "damaged" in done("rebuild", directory, "--dry-run")
        withheld = document("rebuild", directory)["withheld_up_to"]
        await client.set("/data/0", b"new")
        node = await cluster.start(hurt)
        await caught_up(cluster, hurt)
        assert node.status()["applied_index"] > withheld > 0
        async with node.client() as near:
            assert (await near.get("/data/0", read="local"))[0] == b"new"
            assert (await near.get("/data/299", read="local"))[0] == b"299"
        # It votes again: with the leader gone it is one of the two that are left.
        await cluster.stop(leader)
        await client.set("/data/0", b"newer")


async def test_the_only_member_is_not_rebuilt(tmp_path: Path) -> None:
    """Nobody could refill it."""
    async with alone(tmp_path, "n1"):
        pass
    result = call("rebuild", tmp_path)
    assert result.exit_code == 1 and "only member" in result.output


async def test_a_backup_of_a_stopped_node_becomes_a_new_cluster(tmp_path: Path) -> None:
    """The whole round: three members restored from one file, sessions ended, tokens still growing."""
    file = tmp_path / "cluster.backup"
    async with alone(tmp_path / "old", "n1") as node, node.client() as client:
        token = await fill(client, keys=150)
        await client.create("/alive", ephemeral=True)
        await node.stop()
    made = document("backup", "--from", tmp_path / "old", file)
    again = call("backup", "--from", tmp_path / "old", file)
    assert again.exit_code == 1 and "exists already" in again.output
    cluster = Cluster(tmp_path / "new", 3, LIMITS, DEFAULT_TIMING)
    for number in range(2):  # a majority; the third one begins empty
        target = tmp_path / "new" / f"n{number}"
        arguments = ("restore", file, target, "--me", f"n{number}", "--peers", cluster.peers)
        plan = document(*arguments, "--dry-run")
        assert (plan["done"], plan["backup"]["index"]) == (False, made["index"]) and plan["sessions_ended"] >= 1
        assert not target.exists()
        done(*arguments)
        result = call(*arguments)
        assert result.exit_code == 1 and "not empty" in result.output
    try:
        for number in range(3):
            await cluster.start(number)
        async with connect(cluster.url) as client:
            await check(client, token, keys=150)
            with pytest.raises(NoNode):
                await client.get("/alive")
            await caught_up(cluster, 2)
            assert cluster.nodes[2].status()["log_first_index"] > 150, "the empty member got the snapshot"
    finally:
        await cluster.close()


async def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    """At the restore at the latest, and before anything is made of it."""
    file = tmp_path / "file"
    async with alone(tmp_path / "old", "n1") as node, node.client() as client:
        await fill(client)
    done("backup", "--from", tmp_path / "old", file)
    whole = file.read_bytes()
    for at in (3, 20, 60, len(whole) // 2, len(whole) - 3):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        file.write_bytes(damaged)
        result = call("restore", file, tmp_path / "new", "--me", "n1", "--peers", "n1=127.0.0.1:1")
        assert result.exit_code == 1 and str(file) in result.output, (at, result.output)
    file.write_bytes(whole[: len(whole) // 2])
    assert call("restore", file, tmp_path / "new", "--me", "n1", "--peers", "n1=127.0.0.1:1").exit_code == 1
    assert not (tmp_path / "new").exists()
