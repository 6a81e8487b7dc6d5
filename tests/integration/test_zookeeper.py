"""ZooKeeper's clients on real nodes: kazoo where a user would use it, raw frames where kazoo would not do it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NoNodeError
from kazoo.security import CREATOR_ALL_ACL

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK
from jkcs_server import Node
from tests.support import jute_client as jute
from tests.support.cluster import Cluster, running_cluster
from tests.support.jute_client import Wire

pytestmark = pytest.mark.asyncio

SECONDS = 20.0


def hosts(*nodes: Node) -> str:
    return ",".join(f"{host}:{port}" for host, port in filter(None, [node.client_address for node in nodes]))


def address(node: Node) -> tuple[str, int]:
    assert node.client_address is not None
    return node.client_address


@contextmanager
def kazoo(where: str, **options: Any) -> Iterator[KazooClient]:
    client = KazooClient(where, timeout=4.0, **options)
    client.start(SECONDS)
    try:
        yield client
    finally:
        client.stop()
        client.close()


class Told:
    """Events of watches, as they come."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def __call__(self, event: Any) -> None:
        with self._changed:
            self.events.append((event.type, event.path))
            self._changed.notify_all()

    def wait(self, count: int) -> list[tuple[str, str]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= count, SECONDS), self.events
            return self.events


async def test_kazoo_creates_reads_changes_and_deletes(tmp_path: Path) -> None:
    def work(where: str) -> None:
        with kazoo(where) as client:
            assert client.create("/a/b", b"1", makepath=True) == "/a/b"
            data, stat = client.get("/a/b")
            assert (data, stat.version, stat.dataLength) == (b"1", 0, 1)
            assert client.set("/a/b", b"22", version=0).version == 1
            with pytest.raises(BadVersionError):
                client.set("/a/b", b"", version=0)
            with pytest.raises(NodeExistsError):
                client.create("/a/b")
            names = [client.create("/a/s-", sequence=True, ephemeral=True) for _ in range(2)]
            assert names == ["/a/s-0000000001", "/a/s-0000000002"], "the number is the count of all creations"
            children, stat = client.get_children("/a", include_data=True)
            assert sorted(children) == ["b", "s-0000000001", "s-0000000002"] and stat.numChildren == 3
            transaction = client.transaction()
            transaction.check("/a/b", 1)
            transaction.delete("/a/b")
            transaction.create("/c", b"")
            assert transaction.commit() == [True, True, "/c"]
            assert client.exists("/a/b") is None
            with pytest.raises(NoNodeError):
                client.get("/a/b")
            client.delete("/a", recursive=True)
            assert sorted(client.get_children("/")) == ["c", "zookeeper"]
            assert client.sync("/") == "/"

    async with Node.single(tmp_path) as node:
        await asyncio.to_thread(work, hosts(node))


async def test_kazoo_is_told_by_its_watches(tmp_path: Path) -> None:
    def work(where: str) -> None:
        with kazoo(where) as client, kazoo(where) as other:
            told = Told()
            assert client.exists("/a", watch=told) is None
            other.create("/a")
            assert told.wait(1) == [("CREATED", "/a")]
            client.get("/a", watch=told)
            client.get_children("/a", watch=told)
            other.set("/a", b"1")
            other.create("/a/b")
            assert told.wait(3)[1:] == [("CHANGED", "/a"), ("CHILD", "/a")]

    async with Node.single(tmp_path) as node:
        await asyncio.to_thread(work, hosts(node))


async def test_kazoo_keeps_its_keys_to_itself(tmp_path: Path) -> None:
    def work(where: str) -> None:
        with kazoo(where, auth_data=[("digest", "u:p")]) as client, kazoo(where) as other:
            client.create("/a", b"1", acl=CREATOR_ALL_ACL)
            with pytest.raises(NoAuthError):
                other.get("/a")
            with pytest.raises(NoAuthError):
                other.create("/a/b")
            other.add_auth("digest", "u:p")
            assert other.get("/a")[0] == b"1"

    async with Node.single(tmp_path) as node:
        await asyncio.to_thread(work, hosts(node))


async def test_ephemeral_keys_go_with_their_session(tmp_path: Path) -> None:
    """Closed, or silent for its timeout."""

    def work(where: str) -> None:
        with kazoo(where) as witness:
            told = Told()
            with kazoo(where) as client:
                client.create("/closed", ephemeral=True)
                assert witness.exists("/closed", watch=told) is not None
            assert told.wait(1) == [("DELETED", "/closed")]
            host, port = where.split(":")
            with Wire((host, int(port)), jute.connect(1_000)) as silent:
                assert silent.call(zk.CREATE, jute.create("/silent", mode=zk.EPHEMERAL)).error == OK
                assert witness.exists("/silent", watch=told) is not None
                assert told.wait(2)[1:] == [("DELETED", "/silent")]
                assert silent.is_closed()

    async with Node.single(tmp_path) as node:
        await asyncio.to_thread(work, hosts(node))


async def test_a_session_that_moves_takes_its_watches_and_keys_along(tmp_path: Path) -> None:
    """Two nodes of three: the old connection is closed as soon as the session is elsewhere."""

    def work(one: tuple[str, int], two: tuple[str, int]) -> None:
        with Wire(one) as first:
            greeting = first.client.greeting
            assert greeting is not None
            created = first.call(zk.CREATE, jute.create("/e", mode=zk.EPHEMERAL))
            assert created.error == OK
            again = jute.connect(session=greeting.session, password=greeting.password, seen=created.zxid)
            with Wire(two, again) as second:
                assert second.client.greeting == greeting
                assert first.is_closed()
                missed = second.call(zk.SET_WATCHES, jute.set_watches(created.zxid, ["/e", "/gone"], [], []), -8)
                assert missed.error == OK and [event.path for event in second.events] == ["/gone"]
                assert second.call(zk.SET_DATA, jute.set_data("/e", b"1")).error == OK
                assert second.call(zk.GET_EPHEMERALS, jute.text("/")).value == ["/e"]
                with Wire(one, jute.connect(session=greeting.session, password=b"x" * 16)) as thief:
                    assert thief.client.greeting == jute.Greeting(0, 0, bytes(16), False)
                assert second.call(zk.CLOSE_SESSION).error == OK
                assert second.is_closed()

    async with running_cluster(tmp_path) as cluster:
        await cluster.leader()
        await asyncio.to_thread(work, address(cluster.nodes[0]), address(cluster.nodes[1]))


async def test_kazoo_goes_on_when_its_server_and_the_leader_are_gone(tmp_path: Path) -> None:
    """The session is the same, what it owns is there, and what it watches is told of what happened after."""

    async def stop(cluster: Cluster, number: int) -> None:
        await cluster.stop(number)

    async with running_cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        loop = asyncio.get_running_loop()
        # Its first server is the leader, which is stopped under it.
        first = cluster.nodes[leader]
        others = [node for number, node in cluster.nodes.items() if number != leader]

        def work() -> None:
            options = {"randomize_hosts": False}
            with kazoo(hosts(first, *others), **options) as client, kazoo(hosts(*others)) as other:
                states: list[str] = []
                client.add_listener(states.append)
                session = client.client_id
                changed = threading.Event()
                client.create("/e", b"", ephemeral=True)
                client.create("/a", b"1")
                client.DataWatch("/a", lambda data, stat: changed.set() if data == b"2" else None)
                asyncio.run_coroutine_threadsafe(stop(cluster, leader), loop).result(SECONDS)
                other.retry(other.set, "/a", b"2")
                assert changed.wait(SECONDS)
                assert client.retry(client.get, "/a")[0] == b"2"
                assert client.client_id == session and KazooState.LOST not in states
                assert client.exists("/e").ephemeralOwner == session[0]

        await asyncio.to_thread(work)


async def test_bad_bytes_close_their_connection_and_no_other(tmp_path: Path) -> None:
    def work(where: tuple[str, int]) -> None:
        with Wire(where) as witness:
            for bad in (jute.INT.pack(-1), jute.INT.pack(2**31 - 1), jute.INT.pack(0), b"\0\0\0\2ab", b"\xff" * 9):
                with Wire(where, b"") as stranger:
                    stranger.send(bad)
                    assert stranger.is_closed()
            with Wire(where) as client:
                client.send(jute.INT.pack(-1))
                assert client.is_closed()
            assert witness.call(zk.EXISTS, jute.read("/")).error == OK

    async with Node.single(tmp_path) as node:
        await asyncio.to_thread(work, address(node))
