"""Full disks (R12): the cluster goes on, the full node serves what it has, and all comes back without an operator."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from jkcs_client import Client, DiskFull, JkcsError, OutcomeUnknown, connect
from jkcs_server import Node, NodeConfig
from journal.limits import Limits
from journal.storage.disk import FileDisk
from tests.support.cluster import Cluster, running_cluster

pytestmark = pytest.mark.asyncio

SMALL = Limits(record_bytes_max=64 * 1024, append_bytes_max=64 * 1024, segment_bytes=128 * 1024, snapshot_entries=10**9)


class Disks:
    """Which of the data directories have no room left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full: set[str] = set()
        create, write = FileDisk.create, FileDisk.write

        def limited_create(disk: FileDisk, name: str, size: int) -> None:
            if disk.directory.name in self.full and size:
                raise disk._full(name, "create")
            create(disk, name, size)

        def limited_write(disk: FileDisk, name: str, offset: int, buffers: Sequence[bytes]) -> None:
            if disk.directory.name in self.full and offset + sum(map(len, buffers)) > disk.size(name):
                raise disk._full(name, "write")
            write(disk, name, offset, buffers)

        monkeypatch.setattr(FileDisk, "create", limited_create)
        monkeypatch.setattr(FileDisk, "write", limited_write)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    return Disks(monkeypatch)


def address_of(node: Node) -> str:
    assert node.client_address is not None
    return "jkcs://{}:{}".format(*node.client_address)


async def write_until(client: Client, written: list[str], fact: Callable[[], bool]) -> None:
    """Create keys until the fact is true, and note those that were acknowledged."""
    async with asyncio.timeout(30):
        while not fact():
            written.append(await client.create("/fill/k", bytes(20_000), sequential=True, parents=True))


async def all_there(client: Client, paths: list[str], **options: str) -> bool:
    return all([await client.exists(path, **options) is not None for path in paths])  # type: ignore[arg-type]


async def shown(reader: Client, path: str) -> None:
    """Wait until the reader's own server has applied a key."""
    async with asyncio.timeout(20):
        while await reader.exists(path, read="local") is None:
            await asyncio.sleep(0.01)


def read_only(cluster: Cluster, number: int) -> bool:
    return cluster.nodes[number].status()["read_only"] is not None


async def test_one_full_follower(tmp_path: Path, disks: Disks) -> None:
    """The others go on; it serves what it had applied, refuses writes with the reason, and catches up by itself."""
    async with running_cluster(tmp_path, limits=SMALL) as cluster:
        leader = await cluster.leader()
        number = (leader + 1) % 3
        node = cluster.nodes[number]
        async with connect(cluster.url) as client, connect(address_of(node), session_timeout=0) as reader:
            await client.create("/before", b"v")
            await shown(reader, "/before")
            disks.full.add(f"n{number}")
            written: list[str] = []
            await write_until(client, written, lambda: read_only(cluster, number))
            assert node.status()["read_only"].endswith("the disk is full")
            written += [await client.create("/fill/more", sequential=True) for _ in range(20)]
            assert (await reader.get("/before", read="local"))[0] == b"v"
            with pytest.raises(JkcsError, match="the server's disk is full"):
                async with connect(address_of(node), request_timeout=1.0):
                    pass
            assert await cluster.leader() == leader
            disks.full.clear()
            await cluster.until(lambda: not read_only(cluster, number), "there is room again")
            await cluster.until(
                lambda: node.status()["applied_index"] >= cluster.nodes[leader].status()["commit_index"], "it caught up"
            )
            assert await all_there(reader, written, read="local")


async def test_a_full_leader_hands_over(tmp_path: Path, disks: Disks) -> None:
    """Writes go on through another leader, and a client of the full one finds its way."""
    async with running_cluster(tmp_path, limits=SMALL) as cluster:
        leader = await cluster.leader()
        async with connect(cluster.url) as client:
            disks.full.add(f"n{leader}")
            written: list[str] = []
            await write_until(client, written, lambda: read_only(cluster, leader))
            async with asyncio.timeout(20):
                while await cluster.leader() == leader:
                    await asyncio.sleep(0.01)
            written += [await client.create("/fill/more", sequential=True, parents=True) for _ in range(20)]
            disks.full.clear()
            await cluster.until(lambda: not read_only(cluster, leader), "there is room again")
            assert await all_there(client, written)


async def test_all_disks_full(tmp_path: Path, disks: Disks) -> None:
    """What is there can be read; a write says why not; when room returns everything goes on by itself."""
    async with running_cluster(tmp_path, limits=SMALL) as cluster:
        await cluster.leader()
        readers = [connect(address_of(node), session_timeout=0) for node in cluster.nodes.values()]
        async with connect(cluster.url, request_timeout=2.0) as client, readers[0], readers[1], readers[2]:
            await client.create("/before", b"v")
            for reader in readers:
                await shown(reader, "/before")
            disks.full.update(("n0", "n1", "n2"))
            written: list[str] = []
            with pytest.raises((OutcomeUnknown, DiskFull), match="the server's disk is full") as caught:
                await write_until(client, written, lambda: False)
            assert "n0" in str(caught.value) or "cannot create" in str(caught.value)
            for reader in readers:
                assert (await reader.get("/before", read="local"))[0] == b"v"
            disks.full.clear()
            await cluster.until(lambda: not any(read_only(cluster, number) for number in range(3)), "room everywhere")
            await cluster.leader()
            await client.create("/after", b"v", timeout=20.0)
            assert await all_there(client, written)


async def test_a_single_node_on_a_size_limited_file_system(tmp_path: Path) -> None:
    """The real error of a real file system, from the first byte to the recovery; needs leave to mount one."""
    directory = tmp_path / "data"
    directory.mkdir()
    if os.geteuid() != 0 or not _mounted(directory):
        pytest.skip("needs leave to mount a tmpfs")
    try:
        config = NodeConfig(directory, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", limits=SMALL)
        filler = directory / "filler"
        async with Node(config) as node, node.client(request_timeout=2.0) as client:
            await client.create("/first", bytes(10))
            filler.write_bytes(b"")
            _fill(filler)
            with pytest.raises(OutcomeUnknown, match="the server's disk is full"):
                await write_until(client, [], lambda: False)
            assert node.status()["read_only"]
            async with connect(address_of(node), session_timeout=0) as reader:
                assert (await reader.get("/first"))[0] == bytes(10), "it leads on, so it reads linearizably"
        # Started again while the disk is full: what is committed it learns only from an election, which needs room.
        async with Node(config) as node, connect(address_of(node), session_timeout=0) as reader:
            filler.unlink()
            await shown(reader, "/first")
            async with node.client() as client:
                await client.create("/again", timeout=20.0)
    finally:
        subprocess.run(["umount", str(directory)], check=True)


async def test_without_fsync_a_node_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """R15: at the start, and whenever it is asked."""
    config = NodeConfig(tmp_path, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", fsync=False)
    with caplog.at_level(logging.WARNING):
        async with Node(config) as node:
            assert node.status()["fsync"] is False
    assert "fsync is OFF: acknowledged writes are lost" in caplog.text


def _mounted(directory: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
