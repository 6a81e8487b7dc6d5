"""Transactions: all or nothing, and the failing operation named."""

from __future__ import annotations

import pytest

from jkcs_client import BadVersion, NodeExists, Stat, TooLarge
from jkcs_client.protocol.messages import MULTI
from tests.support.fake_server import FakeCluster, client_of

pytestmark = pytest.mark.anyio


async def test_a_transaction_is_one_step() -> None:
    """One log entry: all its changes have one index."""
    cluster = FakeCluster()
    async with client_of(cluster, "jkcs://a/app") as client:
        await client.create("/a", parents=True)
        async with client.transaction() as txn:
            txn.check("/a", version=0)
            txn.create("/q/n-", b"1", parents=True, sequential=True)
            txn.set("/a", b"2", version=0)
            txn.create("/gone")
            txn.delete("/gone")
        checked, created, changed, _, deleted = txn.results
        assert (checked, created, deleted) == (None, "/q/n-0000000000", None)
        assert isinstance(changed, Stat)
        assert changed.index == changed.mzxid == (await client.get("/q/n-0000000000"))[1].czxid


@pytest.mark.parametrize("url", ["jkcs://a", "jkcs://a/app"])
async def test_a_failed_transaction_did_nothing_and_says_which_operation(url: str) -> None:
    """By its place, its own error class, and the key as the caller named it."""
    async with client_of(FakeCluster(), url) as client:
        await client.create("/a", parents=True)
        with pytest.raises(BadVersion) as caught:
            async with client.transaction() as txn:
                txn.create("/b")
                txn.set("/a", b"2", version=7)
        assert (caught.value.operation, caught.value.path) == (1, "/a")
        assert "operation 1" in str(caught.value)
        assert "app" not in str(caught.value)
        assert await client.exists("/b") is None
        assert txn.results == []


async def test_a_block_that_fails_sends_nothing() -> None:
    """Half a thought must not be committed."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(ZeroDivisionError):
            async with client.transaction() as txn:
                txn.create("/a")
                raise ZeroDivisionError
        async with client.transaction() as txn:
            pass
        assert txn.results == []
        assert MULTI not in cluster.ops()


async def test_nothing_can_be_added_afterwards() -> None:
    """It would never be sent, and nobody would know."""
    async with client_of(FakeCluster()) as client:
        async with client.transaction() as txn:
            txn.create("/a")
        with pytest.raises(RuntimeError, match="over"):
            txn.create("/b")


async def test_a_transaction_has_a_size() -> None:
    """By operations, by values, and by what a frame can hold."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(TooLarge, match="4097 operations, limit 4096"):
            async with client.transaction() as txn:
                for _ in range(4097):
                    txn.check("/")
        with pytest.raises(TooLarge, match="bytes of values"):
            async with client.transaction() as txn:
                for _ in range(5):
                    txn.set("/", bytes(1 << 20))
        with pytest.raises(TooLarge, match="about"):
            async with client.transaction() as txn:
                for _ in range(2500):
                    txn.check("/" + "a" * 4000)
        assert MULTI not in cluster.ops()
        with pytest.raises(NodeExists):
            async with client.transaction() as txn:
                txn.create("/a")
                txn.create("/a")
