"""The operations as a caller writes them: results, errors by name, and the chroot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from jkcs_client import (
    BadArguments,
    BadPath,
    BadVersion,
    Client,
    JkcsError,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    ProtocolError,
    TooLarge,
)
from jkcs_client.protocol.messages import DELETE, EXISTS, GET, LINEARIZABLE, LOCAL
from tests.support.fake_server import FakeCluster, FakeConnection, client_of

pytestmark = pytest.mark.anyio

URLS = ["jkcs://a", "jkcs://a/app/x"]


@pytest.mark.parametrize("url", URLS)
async def test_a_key_is_created_read_changed_and_deleted(url: str) -> None:
    """The same with and without a chroot: its owner never sees it."""
    cluster = FakeCluster()
    async with client_of(cluster, url) as client:
        assert await client.create("/k/v", b"1", parents=True) == "/k/v"
        value, stat = await client.get("/k/v")
        assert (value, stat.version, stat.data_length) == (b"1", 0, 1)
        assert stat.index == stat.czxid == stat.mzxid
        changed = await client.set("/k/v", b"22", version=stat.version)
        assert (changed.version, changed.czxid, changed.index) == (1, stat.czxid, changed.mzxid)
        assert changed.mtime == pytest.approx(1_700_000_000 + changed.mzxid / 1000)
        assert await client.exists("/k/v") == changed
        assert await client.children("/k") == ["v"]
        assert "k" in await client.children("/")
        await client.delete("/k/v", version=1)
        assert await client.exists("/k/v") is None


@pytest.mark.parametrize("url", URLS)
async def test_sequential_keys_get_rising_names(url: str) -> None:
    """Below any parent, with a name of their own or without."""
    async with client_of(FakeCluster(), url) as client:
        await client.create("/q", parents=True)
        assert await client.create("/q/n-", sequential=True) == "/q/n-0000000000"
        assert await client.create("/q/", sequential=True) == "/q/0000000001"
        assert await client.create("/", sequential=True) == "/0000000001"


async def test_an_ephemeral_key_belongs_to_the_session() -> None:
    """And `create_with_stat` tells its creation index without another request."""
    async with client_of(FakeCluster()) as client:
        path, stat = await client.create_with_stat("/e", ephemeral=True)
        assert path == "/e"
        assert stat.ephemeral_owner == client.session_id
        assert stat == await client.exists("/e")


Call = Callable[[Client], Awaitable[Any]]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    ("call", "error", "path"),
    [
        (lambda client: client.get("/none"), NoNode, "/none"),
        (lambda client: client.set("/none", b""), NoNode, "/none"),
        (lambda client: client.delete("/none"), NoNode, "/none"),
        (lambda client: client.delete("/none", recursive=True), NoNode, "/none"),
        (lambda client: client.children("/none"), NoNode, "/none"),
        (lambda client: client.create("/none/child"), NoNode, "/none/child"),
        (lambda client: client.create("/full"), NodeExists, "/full"),
        (lambda client: client.set("/full", b"", version=7), BadVersion, "/full"),
        (lambda client: client.delete("/full", version=7), BadVersion, "/full"),
        (lambda client: client.delete("/full"), NotEmpty, "/full"),
        (lambda client: client.create("/ephemeral/child"), NoChildrenForEphemerals, "/ephemeral/child"),
        (lambda client: client.create("/a//b"), BadPath, "/a//b"),
    ],
)
async def test_an_error_names_the_key_as_the_caller_did(
    url: str, call: Call, error: type[JkcsError], path: str
) -> None:
    """With the server and the log index, and without a chroot that the caller may not even know."""
    async with client_of(FakeCluster(), url) as client:
        await client.create("/full/child", parents=True)
        await client.create("/ephemeral", ephemeral=True)
        with pytest.raises(error) as caught:
            await call(client)
    assert caught.value.path == path
    assert caught.value.node == "node-a"
    assert caught.value.index
    assert "/app/x" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda client: client.get("a"), BadPath, "start with /"),
        (lambda client: client.create("/a", "text"), BadArguments, "a value is bytes, not str"),
        (lambda client: client.create("/a", bytearray()), BadArguments, "not bytearray"),
        (lambda client: client.create("/a", bytes((1 << 20) + 1)), TooLarge, "limit 1048576"),
        (lambda client: client.set("/a", b"", version=-2), BadArguments, "version"),
        (lambda client: client.set("/a", b"", version=1 << 63), BadArguments, "version"),
        (lambda client: client.set("/a", b"", version="1"), BadArguments, "version"),
        (lambda client: client.get("/a", read="fast"), BadArguments, "fast"),
        (lambda client: client.changed("/a", since=-1), BadArguments, "since"),
        (lambda client: client.changed("/a", since=1 << 63), BadArguments, "since"),
        (lambda client: client.delete("/a", 3, recursive=True), BadArguments, "recursive"),
    ],
)
async def test_a_bad_argument_is_refused_before_anything_is_sent(
    call: Call, error: type[JkcsError], named: str
) -> None:
    """What could not be packed would break the connection for all; the rest would cost a journey."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        before = len(cluster.ops())
        with pytest.raises(error, match=named):
            await call(client)
        assert len(cluster.ops()) == before


async def test_reads_are_linearizable_unless_asked_otherwise() -> None:
    """A stale answer must be somebody's choice."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.get("/")
        await client.get("/", read="local")
        levels = [message[3] for message in cluster.received if message[0] == GET and len(message) == 4]
        assert levels[-2:] == [LINEARIZABLE, LOCAL]


async def test_sync_tells_how_far_the_server_is() -> None:
    """The index after which a local read is fresh enough."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.create("/a")
        assert await client.sync() == cluster.index


async def test_a_recursive_delete_takes_children_first() -> None:
    """Deepest first, and the key itself last."""
    cluster = FakeCluster()
    async with client_of(cluster, "jkcs://a/app") as client:
        for path in ("/t/a/1", "/t/a/2", "/t/b", "/u"):
            await client.create(path, parents=True)
        cluster.received.clear()
        await client.delete("/t", recursive=True)
        deleted = [message[3] for message in cluster.received if message[0] == DELETE]
        assert deleted == ["/app/t/a/2", "/app/t/a/1", "/app/t/b", "/app/t/a", "/app/t"]
        assert await client.children("/") == ["u"]


async def test_a_recursive_delete_copes_with_others_at_work() -> None:
    """Children that vanish meanwhile are as good as deleted; new ones are deleted too."""
    cluster = FakeCluster()

    def meddle(connection: FakeConnection, message: list[Any]) -> bool:
        if message[0] == DELETE and message[3] == "/t/b":
            cluster.intercept = None
            tree = cluster.tree
            tree._remove("/t/b", cluster.index)
            tree._add("/t/c", b"", 0, cluster.index, 0)
        return False

    async with client_of(cluster) as client:
        await client.create("/t/a", parents=True)
        await client.create("/t/b")
        cluster.intercept = meddle
        await client.delete("/t", recursive=True)
        assert await client.exists("/t") is None


async def test_a_recursive_delete_gives_up_against_endless_creation() -> None:
    """It has a limit, like everything."""
    cluster = FakeCluster()

    def meddle(connection: FakeConnection, message: list[Any]) -> bool:
        if message[0] == DELETE and message[3] == "/t":
            cluster.tree._add(f"/t/{cluster.index}", b"", 0, cluster.index, 0)
        return False

    async with client_of(cluster) as client:
        await client.create("/t")
        cluster.intercept = meddle
        with pytest.raises(NotEmpty):
            await client.delete("/t", recursive=True)


@pytest.mark.parametrize("answer", [(), (None, None), ("text",), ([1, 2],), ([None] * 10,)])
async def test_an_answer_of_the_wrong_shape_is_the_servers_fault(answer: tuple[Any, ...]) -> None:
    """It must not come out as an IndexError somewhere in the caller's program."""
    cluster = FakeCluster()

    def garble(connection: FakeConnection, message: list[Any]) -> bool:
        if message[0] == EXISTS:
            connection.emit((message[1], 0, cluster.index, *answer))
        return message[0] == EXISTS

    async with client_of(cluster) as client:
        cluster.intercept = garble
        with pytest.raises(ProtocolError):
            await client.exists("/a")
        cluster.intercept = None
        assert await client.exists("/a") is None


async def test_many_calls_at_once_are_answered_each_its_own() -> None:
    """Pipelined on one connection, in far fewer frames than calls."""
    cluster = FakeCluster()
    results: dict[int, bytes] = {}

    async with client_of(cluster) as client:

        async def put_and_get(number: int) -> None:
            await client.create(f"/{number}", str(number).encode())
            results[number] = (await client.get(f"/{number}"))[0]

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(put_and_get, number)
    assert results == {number: str(number).encode() for number in range(100)}
