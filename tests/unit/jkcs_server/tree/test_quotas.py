"""Quotas of the tree where a command is more than one key."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.errors import QuotaExceeded
from jkcs_server.tree.keytree import PARENTS, KeyTree

LIMITS = "/zookeeper/quota/q/zookeeper_limits"


def tree_with(limits: bytes) -> KeyTree:
    """/q with a quota, and nothing below it."""
    tree = KeyTree()
    tree.create("/q", b"", 0, 0, 1, 100)
    tree.create(LIMITS, limits, PARENTS, 0, 2, 200)
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
