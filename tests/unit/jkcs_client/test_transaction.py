"""Transactions: all or nothing, and the failing operation named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from jkcs_client import Acl, BadVersion, NodeExists, Permission, Stat, TooLarge
from jkcs_client.operations import Operation, Operations
from jkcs_client.protocol.messages import CHECK, CREATE, DELETE, MULTI, SET, SET_ACL, CreateFlag
from jkcs_client.transaction import Transaction
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


READ_BY_ALL = [Acl("world", "anyone", Permission.READ)]
CREATES: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({}, (b"", 0)),
    ({"value": b"1"}, (b"1", 0)),
    ({"ephemeral": True}, (b"", CreateFlag.EPHEMERAL)),
    ({"sequential": True}, (b"", CreateFlag.SEQUENTIAL)),
    ({"parents": True}, (b"", CreateFlag.PARENTS)),
    ({"container": True}, (b"", CreateFlag.CONTAINER)),
    ({"ttl": 1.5}, (b"", CreateFlag.TTL, None, 1500)),
    ({"acl": READ_BY_ALL}, (b"", 0, [(1, "world", "anyone")], 0)),
]


async def sent(*gather: Any) -> Sequence[Operation]:
    """What a transaction of these calls commits."""
    committed: list[Operation] = []

    async def commit(operations: Sequence[Operation], timeout: float | None) -> tuple[list[list[Any]], int]:
        committed.extend(operations)
        return [["/a", None] if operation[0] == CREATE else [[0] * 12] for operation in operations], 1

    async with Transaction(Operations(""), commit, None) as txn:
        for call in gather:
            call(txn)
    return committed


@pytest.mark.parametrize(("options", "fields"), CREATES)
async def test_a_key_in_a_transaction_is_what_was_asked_for_and_nothing_else(
    options: dict[str, Any], fields: tuple[Any, ...]
) -> None:
    """A default that is another one than the client's own would make a lock of a key, or a key that goes by itself."""
    assert await sent(lambda txn: txn.create("/a", **options)) == [(CREATE, "/a", *fields)]


async def test_any_version_will_do_unless_one_is_named() -> None:
    """As with the client's own calls."""
    operations = await sent(
        lambda txn: txn.set("/a", b"1"),
        lambda txn: txn.set("/a", b"1", 5),
        lambda txn: txn.delete("/a"),
        lambda txn: txn.delete("/a", 5),
        lambda txn: txn.check("/a"),
        lambda txn: txn.check("/a", 5),
        lambda txn: txn.set_acl("/a", READ_BY_ALL),
        lambda txn: txn.set_acl("/a", READ_BY_ALL, 5),
    )
    assert operations == [
        (SET, "/a", b"1", -1),
        (SET, "/a", b"1", 5),
        (DELETE, "/a", -1),
        (DELETE, "/a", 5),
        (CHECK, "/a", -1),
        (CHECK, "/a", 5),
        (SET_ACL, "/a", [(1, "world", "anyone")], -1),
        (SET_ACL, "/a", [(1, "world", "anyone")], 5),
    ]
