"""Quotas: which keys count, and that what is counted stays true. Everything else about them is in the model's test."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.errors import OK, QuotaExceeded
from jkcs_client.protocol.messages import CREATE, DELETE, SET
from jkcs_server.tree.keytree import PARENTS, KeyTree
from jkcs_server.tree.quotas import LIMITS, ROOT, STATS
from tests.unit.jkcs_server.tree.harness import Log


@pytest.fixture
def log() -> Log:
    log = Log()
    log.open()
    return log


def limit(log: Log, top: str, text: bytes = b"count=-1,bytes=-1") -> None:
    assert log.write(1, CREATE, f"{ROOT}{top}/{LIMITS}", text, PARENTS)[0] == OK
    assert log.write(1, CREATE, f"{ROOT}{top}/{STATS}", b"", 0)[0] == OK


def stats(log: Log, top: str) -> bytes:
    return log.machine.tree.nodes[f"{ROOT}{top}/{STATS}"].data


@pytest.mark.parametrize("top", ["/app", "/zookeepers", "/zookeeper.old"])
def test_keys_count_under_the_quota_above_them(log: Log, top: str) -> None:
    """Those that were there before it, too, and those whose name only begins like the system's own."""
    log.write(1, CREATE, top, b"12", 0)
    log.write(1, CREATE, f"{top}/early", b"345", 0)
    limit(log, top)
    assert stats(log, top) == b"count=2,bytes=5"
    log.write(1, CREATE, f"{top}/late", b"6789", 0)
    log.write(1, SET, f"{top}/early", b"", -1)
    log.write(1, CREATE, f"{top}s", b"another key", 0)
    assert stats(log, top) == b"count=3,bytes=6"
    log.write(1, DELETE, f"{top}/late", -1)
    assert stats(log, top) == b"count=2,bytes=2"


def test_what_is_the_systems_own_counts_nowhere(log: Log) -> None:
    """Else each quota's own keys would count, and writing down what is counted would change it."""
    limit(log, "/zookeeper")
    assert stats(log, "/zookeeper") == b"count=0,bytes=0"
    assert log.write(1, SET, "/zookeeper", b"12345", -1)[0] == OK
    assert log.write(1, CREATE, "/zookeeper/mine", b"12345", 0)[0] == OK
    assert stats(log, "/zookeeper") == b"count=0,bytes=0"


def test_quotas_hold_after_a_restart(log: Log) -> None:
    """They are not saved but counted again, from the keys."""
    log.write(1, CREATE, "/app", b"12", 0)
    limit(log, "/app", b"countHardLimit=2;byteHardLimit=6")
    log.write(1, CREATE, "/app/one", b"345", 0)
    log.machine.restore(list(log.machine.snapshot()))
    assert log.write(1, CREATE, "/app/two", b"", 0)[0] == QuotaExceeded.code
    assert log.write(1, SET, "/app/one", b"34567", -1)[0] == QuotaExceeded.code
    assert log.write(1, SET, "/app/one", b"3456", -1)[0] == OK
    assert stats(log, "/app") == b"count=2,bytes=6"


def tree_with(limits: bytes) -> KeyTree:
    """/q with a quota, and nothing below it."""
    tree = KeyTree()
    tree.create("/q", b"", 0, 0, 1, 100)
    tree.create(f"{ROOT}/q/{LIMITS}", limits, PARENTS, 0, 2, 200)
    tree.changes.clear()
    return tree


@pytest.mark.parametrize(
    ("limits", "data"), [(b"countHardLimit=3", b""), (b"byteHardLimit=3", b"four")], ids=["keys", "bytes"]
)
def test_refused_create_leaves_none_of_its_ancestors(limits: bytes, data: bytes) -> None:
    """Else a write that was answered with a refusal would have happened in part, and beyond the hard limit."""
    tree = tree_with(limits)
    before = {path: node.stat() for path, node in tree.nodes.items()}
    total = tree.sum
    with pytest.raises(QuotaExceeded):
        tree.create("/q/a/b/c", data, PARENTS, 0, 3, 300)
    assert {path: node.stat() for path, node in tree.nodes.items()} == before
    assert (tree.quotas["/q"].count, tree.quotas["/q"].bytes) == (1, 0)
    assert (tree.sum, tree.changes) == (total, [])


def test_ancestors_count_as_far_as_they_are_under_the_quota() -> None:
    """A quota may stand on a key that is only now created; what is above it is not its business."""
    tree = tree_with(b"countHardLimit=3")
    tree.create("/q/a/b", b"", PARENTS, 0, 3, 300)
    assert tree.quotas["/q"].count == 3
    tree.create("/zookeeper/quota/new/deep/zookeeper_limits", b"countHardLimit=2", PARENTS, 0, 4, 400)
    with pytest.raises(QuotaExceeded):
        tree.create("/new/deep/x/y", b"", PARENTS, 0, 5, 500)
    tree.create("/new/deep/x", b"", PARENTS, 0, 6, 600)
    assert tree.quotas["/new/deep"].count == 2
