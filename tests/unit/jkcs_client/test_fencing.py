"""Writes that carry a guard."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from jkcs_client import BadVersion, Client, Fenced, FencedClient, NoNode
from tests.support.fake_server import FakeCluster, client_of

pytestmark = pytest.mark.anyio


@dataclass
class Held:
    key: str
    token: int


async def fenced(client: Client) -> FencedClient:
    key, stat = await client.create_with_stat("/guard", parents=True)
    return client.fenced_by(Held(key, stat.czxid))


@pytest.mark.parametrize("url", ["jkcs://a", "jkcs://a/app"])
async def test_every_write_goes_through_while_the_guard_holds(url: str) -> None:
    """With the results of the write alone."""
    async with client_of(FakeCluster(), url) as client:
        safe = await fenced(client)
        assert await safe.create("/a/b", b"1", parents=True) == "/a/b"
        assert (await safe.set("/a/b", b"2")).version == 1
        assert (await safe.get("/a/b"))[0] == b"2"
        async with safe.transaction() as txn:
            txn.create("/c")
            txn.set("/c", b"3")
        assert txn.results[0] == "/c"
        await safe.delete("/a", recursive=True)
        assert await safe.exists("/a") is None


@pytest.mark.parametrize("url", ["jkcs://a", "jkcs://a/app"])
async def test_every_write_is_refused_once_the_guard_is_gone(url: str) -> None:
    """Also when a key of the same name has taken its place: that is another holder."""
    async with client_of(FakeCluster(), url) as client:
        safe = await fenced(client)
        await client.create("/a")
        await client.delete("/guard")
        await client.create("/guard")
        with pytest.raises(Fenced) as caught:
            await safe.set("/a", b"x")
        assert caught.value.path == "/guard"
        assert caught.value.operation is None
        for call in (safe.create("/b"), safe.delete("/a"), safe.delete("/a", recursive=True)):
            with pytest.raises(Fenced):
                await call
        with pytest.raises(Fenced) as caught:
            async with safe.transaction() as txn:
                txn.create("/b")
        assert caught.value.operation is None
        assert (await safe.get("/a"))[0] == b""


async def test_other_errors_are_those_of_the_write_alone() -> None:
    """The guard is not an operation of the caller's."""
    async with client_of(FakeCluster()) as client:
        safe = await fenced(client)
        with pytest.raises(NoNode) as caught:
            await safe.set("/none", b"")
        assert (caught.value.path, caught.value.operation) == ("/none", None)
        with pytest.raises(BadVersion) as versioned:
            async with safe.transaction() as txn:
                txn.create("/b")
                txn.set("/guard", b"", version=7)
        assert (versioned.value.path, versioned.value.operation) == ("/guard", 1)
