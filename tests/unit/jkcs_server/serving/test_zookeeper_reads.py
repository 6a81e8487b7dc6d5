"""ZooKeeper's reads: which of them are answered in the short way."""

from __future__ import annotations

import pytest

from jkcs_server.serving import zookeeper_answers as answers
from jkcs_server.serving.zookeeper_reads import usual_get_data
from jkcs_server.tree.acl import shared
from jkcs_server.tree.keytree import KeyTree
from tests.support import jute_client as jute

HEAD = bytes(8)


@pytest.fixture
def tree() -> KeyTree:
    tree = KeyTree()
    for index, path in enumerate(("/open", "/größe", "/closed"), start=1):
        tree.create(path, b"value", 0, index, 1000, 0)
    tree.nodes["/closed"].acl = shared(((31, "digest", "me:x"),))
    return tree


@pytest.mark.parametrize("path", ["/open", "/größe", "/"])
def test_the_usual_read_is_answered_in_the_short_way(tree: KeyTree, path: str) -> None:
    """It is what most servers do most of the time: without it each costs twice as much, and nobody would notice."""
    answer = usual_get_data(tree, 9, 5, HEAD + jute.read(path))
    assert answer == answers.data(5, 9, tree.nodes[path])


@pytest.mark.parametrize(
    "body",
    [
        jute.read("/open", watch=True),
        jute.read("/closed"),
        jute.read("/missing"),
        jute.read("/open") + b"\0",
        jute.read("/open")[:-1],
        jute.read("/open")[:4],
    ],
    ids=["watch", "list", "missing", "more", "less", "cut"],
)
def test_all_others_take_the_long_way(tree: KeyTree, body: bytes) -> None:
    """There watches are set, lists are asked, and what is wrong is named."""
    assert usual_get_data(tree, 9, 5, HEAD + body) is None
