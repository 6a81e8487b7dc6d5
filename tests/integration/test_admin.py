"""Administration of a running cluster, through the client and through the command line, on real nodes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jkcs_client import AdminDenied, ChangeRefused, connect
from jkcs_client.protocol.errors import BadArguments, Compacted, NoLeader, Unimplemented
from jkcs_server import Node, NodeConfig
from jkcs_server.cli.main import jkcs
from jkcs_server.serving import listener
from journal.limits import Limits
from journal.storage.rescue import INDEX_JUMP
from tests.support.cluster import DEFAULT_TIMING, Cluster, running_cluster

pytestmark = pytest.mark.asyncio

LIMITS = Limits(record_bytes_max=256 * 1024, append_bytes_max=64 * 1024, segment_bytes=512 * 1024)


async def call(*arguments: object) -> Result:
    """The command, in a thread: it runs an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, jkcs, [str(argument) for argument in arguments])


async def done(*arguments: object) -> str:
    result = await call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


async def document(*arguments: object) -> Any:
    return json.loads(await done(*arguments, "--json"))


def url_of(node: Node) -> str:
    assert node.client_address is not None
    host, port = node.client_address
    return f"jkcs://{host}:{port}"


def follower_of(cluster: Cluster, leader: int) -> Node:
    return next(node for number, node in sorted(cluster.nodes.items()) if number != leader)


async def test_any_node_tells_the_configuration_that_its_leader_knows(tmp_path: Path) -> None:
    """An operator should not have to find the leader first."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        leader = await cluster.leader()
        for node in cluster.nodes.values():
            async with connect(url_of(node), session_timeout=0) as client:
                found = await client.admin.configuration()
                assert (found["leader"], found["phase"]) == (f"n{leader}", "stable")
                assert found["voters"] == ["n0", "n1", "n2"] and len(found["members"]) == 3
        found = await document("admin", "configuration", "--url", cluster.url)
        assert found["voters"] == ["n0", "n1", "n2"]
        said = await done("admin", "members", "--url", cluster.url)
        assert said.count("voter") == 3 and said.count("leader") == 1


async def test_leadership_is_handed_over_and_returns_to_the_preferred_node(tmp_path: Path) -> None:
    """Before a machine is taken down, and to keep the leader where the clients are."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        leader = await cluster.leader()
        target = (leader + 1) % 3
        moved = await document("admin", "transfer", f"n{target}", "--url", url_of(follower_of(cluster, leader)))
        assert (moved["from"], moved["leader"]) == (f"n{leader}", f"n{target}")
        assert await cluster.leader() == target
        await done("admin", "prefer", f"n{leader}", "--url", cluster.url)
        await cluster.until(lambda: cluster.nodes[leader].status()["role"] == "leader", "the preferred node leads")
        async with connect(cluster.url, session_timeout=0) as client:
            with pytest.raises(ChangeRefused, match="n7"):
                await client.admin.transfer_leadership("n7")
            assert (await client.admin.configuration())["preferred"] == f"n{leader}"
        await done("admin", "prefer", "--nobody", "--url", cluster.url)
        refused = await call("admin", "prefer", "n7", "--url", cluster.url)
        assert refused.exit_code == 1 and "n7 is not a voter" in refused.output


async def test_voters_are_removed_and_the_rest_goes_on(tmp_path: Path) -> None:
    """In one step, from a node that is asked for it, with the progress told."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        leader = await cluster.leader()
        gone = (leader + 2) % 3
        url = url_of(cluster.nodes[leader])
        said = await document("admin", "voters", "remove", f"n{gone}", "--url", url)
        left = sorted({"n0", "n1", "n2"} - {f"n{gone}"})
        assert said["done"] and said["voters"] == left
        assert (await done("admin", "voters", "list", "--url", url)).split() == left
        async with connect(url) as client:
            await client.create("/goes-on")
            with pytest.raises(ChangeRefused, match="the voters are"):
                await client.admin.update_voters(["n0", "n1", "n2"], ["n0"])
        result = await call("admin", "voters", "remove", "n9", "--url", url)
        assert result.exit_code == 1 and "n9 is not a voter" in result.output


async def test_changes_asked_for_at_the_same_time_wait_for_one_another(tmp_path: Path) -> None:
    """A second change may only begin when the first is committed; nobody should have to try again for that."""
    async with running_cluster(tmp_path, 3) as cluster:
        await cluster.leader()
        async with connect(cluster.url) as client:
            asked = (client.admin.set_preferred_leader(name) for name in ("n0", "n1", "n2"))
            assert len(set(await asyncio.gather(*asked))) == 3


async def test_a_cluster_of_one_grows_to_three_with_one_command(tmp_path: Path) -> None:
    """The newcomers catch up, then both halves decide, then three vote; the command tells how far it is."""
    cluster = Cluster(tmp_path, 3, LIMITS, DEFAULT_TIMING)
    everybody = cluster.peers
    first, second, third = everybody.split(",")
    try:
        cluster.peers = first
        await cluster.start(0)
        async with connect(cluster.url) as client:
            for number in range(50):
                await client.create(f"/data/{number}", bytes(1000), parents=True)
            cluster.peers = everybody
            for number in (1, 2):
                await cluster.start(number, join=True)
            url = url_of(cluster.nodes[0])
            result = await call("admin", "voters", "add", second, third, "--url", url)
            assert result.exit_code == 0, result.output
            assert "catching up: n1 " in result.stderr and result.stderr.endswith("stable\n")
            assert "voters n0, n1, n2" in result.stdout
            again = await call("admin", "voters", "add", second, "--url", url)
            assert again.exit_code == 1 and "nothing to change" in again.output
            await done("admin", "role", "n2", "observer", "--url", url)
            found = await client.admin.configuration()
            assert (found["voters"], found["observers"]) == (["n0", "n1"], ["n2"])
            assert (await done("admin", "members", "--url", url)).count("observer") == 1
            begun = await document("admin", "role", "n2", "none", "--no-wait", "--url", url)
            assert begun["done"] is False and begun["index"] > found["index"]
    finally:
        await cluster.close()


async def test_a_request_without_a_leader_says_so(tmp_path: Path) -> None:
    """And does not hang: the operator is there because something is wrong."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        leader = await cluster.leader()
        for number in range(3):
            if number != (leader + 1) % 3:
                await cluster.stop(number)
        left = cluster.nodes[(leader + 1) % 3]
        await cluster.until(lambda: left.status()["leader"] is None, "the leader is missed")
        async with connect(url_of(left), session_timeout=0) as client:
            with pytest.raises(NoLeader, match="knows of no leader"):
                await client.admin.configuration(timeout=0.5)
            assert (await client.admin.server_status())["leader"] is None


async def test_a_server_tells_all_that_is_watched(tmp_path: Path) -> None:
    """The list of what operators of such systems look at; a leader has its followers in it."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        leader = await cluster.leader()
        followers = f"n{(leader + 1) % 3}", f"n{(leader + 2) % 3}"
        found = await document("admin", "status", "--url", url_of(cluster.nodes[leader]))
        assert (found["role"], found["state"], found["write_enabled"]) == ("leader", "running", True)
        assert sorted(peer["node"] for peer in found["followers"]) == sorted(followers)
        assert {"next_index", "match_index", "in_flight", "last_heartbeat_sent_s", "last_answer_s"} <= set(
            found["followers"][0]
        )
        assert found["disk"]["total_bytes"] >= found["disk"]["free_bytes"] > 0 < found["disk"]["used_bytes"]
        assert found["disk"]["path"] == str(tmp_path / f"n{leader}")
        journal = found["journal"]
        assert 1 == journal["min_index"] <= journal["applied_index"] <= journal["commit_index"] <= journal["max_index"]
        assert found["configuration"]["joint"] is False and found["election"]["timeout_s"] == 0.6
        assert found["memory"]["process_peak_bytes"] > 1 << 20
        follower = await document("admin", "status", "--url", url_of(cluster.nodes[(leader + 1) % 3]))
        assert follower["followers"] == [] and follower["write_enabled"] is False
        assert follower["election"]["next_in_s"] is not None and follower["election"]["last_heartbeat_s"] < 5
        text = await done("admin", "status", "--url", cluster.url)
        assert text.count("process_peak_bytes") == 3


async def test_snapshots_are_taken_listed_and_downloaded(tmp_path: Path) -> None:
    """All nodes take the same one, and the downloaded file restores."""
    async with running_cluster(tmp_path, limits=LIMITS) as cluster:
        async with connect(cluster.url) as client:
            for number in range(50):
                await client.create(f"/data/{number}", bytes(10_000), parents=True)
        taken = await document("admin", "snapshots", "take", "--url", cluster.url)
        listed = await document("admin", "snapshots", "list", "--url", cluster.url)
        assert [each["index"] for each in listed] == [taken["index"]]
        file = tmp_path / "downloaded"
        got = await document("admin", "snapshots", "download", taken["index"], file, "--url", cluster.url)
        assert got["size"] == taken["size"] > 50 * 10_000
        async with connect(cluster.url, session_timeout=0) as client:
            with pytest.raises(Compacted, match="no snapshot 1"):
                _ = [piece async for piece in client.admin.download_snapshot(1)]
        missing = await call("admin", "snapshots", "download", 1, tmp_path / "none", "--url", cluster.url)
        assert missing.exit_code == 1 and "no snapshot 1" in missing.output


async def test_a_running_cluster_is_backed_up_and_restored(tmp_path: Path) -> None:
    """The whole round from a live cluster to another one."""
    file = tmp_path / "live.backup"
    async with running_cluster(tmp_path, limits=LIMITS) as cluster, connect(cluster.url) as client:
        for number in range(50):
            await client.create(f"/data/{number}", b"%d" % number, parents=True)
        made = await document("backup", "--from", cluster.url, file)
        assert made["cluster"] == "jkcs" and file.stat().st_size > made["size"]
    await done("restore", file, tmp_path / "again", "--me", "m1", "--peers", "m1=127.0.0.1:1")
    config = NodeConfig(tmp_path / "again", "m1", "m1=127.0.0.1:0", listen="127.0.0.1:0", limits=LIMITS)
    async with Node(config) as node, node.client() as client:
        value, stat = await client.get("/data/49")
        assert value == b"49" and stat.czxid <= made["index"]
        _, created = await client.create_with_stat("/after")
        assert created.czxid > made["index"] + INDEX_JUMP


async def test_another_machine_is_denied_unless_the_server_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These requests may destroy a cluster, and nothing else guards them yet."""
    monkeypatch.setattr(listener, "is_loopback", lambda host: False)
    async with Node.single(tmp_path / "closed") as node:
        async with connect(url_of(node), session_timeout=0) as client:
            for asked in (client.admin.configuration(), client.admin.server_status(), client.admin.snapshots()):
                with pytest.raises(AdminDenied, match="its own machine only"):
                    await asked
        async with node.client(session_timeout=1) as near:
            assert (await near.admin.configuration())["voters"] == ["n1"]
    config = NodeConfig(tmp_path / "open", "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", admin_from="any")
    async with Node(config) as node, connect(url_of(node), session_timeout=0) as client:
        assert (await client.admin.configuration())["voters"] == ["n1"]


async def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path) -> None:
    """A client of another release, or of another hand, gets an answer it can show."""
    async with Node.single(tmp_path) as node, node.client(session_timeout=1) as client:
        admin = client.admin
        for name, arguments, error, words in (
            ("reboot", {}, Unimplemented, "reboot"),
            ("configuration", {"x": 1}, BadArguments, "takes no 'x'"),
            ("download_snapshot", {"index": 1}, BadArguments, "offset"),
            ("convert_role", {"node": "n1", "role": "king", "address": ""}, BadArguments, "king"),
            ("update_voters", {"old": ["n1"], "new": {}}, BadArguments, "new must be"),
        ):
            with pytest.raises(error, match=words):
                await admin._change(name, None, **arguments)
        with pytest.raises(ChangeRefused):
            await admin.recover_snapshot(5)
