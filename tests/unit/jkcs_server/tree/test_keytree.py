"""What each operation does to the keys, and what it leaves alone when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.protocol.errors import (
    BadPath,
    BadVersion,
    DefiniteError,
    Fenced,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
)
from jkcs_client.protocol.messages import ANY_VERSION
from jkcs_server.tree.keytree import CHANGED, CREATED, DELETED, EPHEMERAL, INT32, PARENTS, SEQUENTIAL, KeyTree

SESSION = 5


@pytest.fixture
def tree() -> KeyTree:
    """/dir (created at 1) with /dir/leaf (2), and /eph (3) that belongs to the session."""
    tree = KeyTree()
    tree.create("/dir", b"d", 0, SESSION, 1, 100)
    tree.create("/dir/leaf", b"leaf", 0, SESSION, 2, 200)
    tree.create("/eph", b"", EPHEMERAL, SESSION, 3, 300)
    tree.changes.clear()
    return tree


def told(tree: KeyTree) -> list[tuple[int, str]]:
    return [(kind, path) for kind, path, _, _ in tree.changes]


def state(tree: KeyTree) -> tuple[dict[str, tuple[Any, ...]], dict[int, list[str]]]:
    keys = {
        path: (node.data, node.stat(), node.sequence, node.child_names()) for path, node in sorted(tree.nodes.items())
    }
    return keys, {session: sorted(owned) for session, owned in sorted(tree.ephemerals.items())}


FAILURES = [
    ("create", ("/dir", b"", 0, SESSION, 9, 900), NodeExists, "/dir"),
    ("create", ("/dir", b"", PARENTS, SESSION, 9, 900), NodeExists, "/dir"),
    ("create", ("/", b"", 0, SESSION, 9, 900), NodeExists, "/"),
    ("create", ("/no/way", b"", 0, SESSION, 9, 900), NoNode, "/no"),
    ("create", ("/no/way/n-", b"", SEQUENTIAL, SESSION, 9, 900), NoNode, "/no/way"),
    ("create", ("/eph/x", b"", 0, SESSION, 9, 900), NoChildrenForEphemerals, "/eph"),
    ("create", ("/eph/x", b"", SEQUENTIAL, SESSION, 9, 900), NoChildrenForEphemerals, "/eph"),
    ("create", ("/eph/x/y/z", b"", PARENTS, SESSION, 9, 900), NoChildrenForEphemerals, "/eph"),
    ("create", ("x", b"", 0, SESSION, 9, 900), BadPath, "does not start"),
    ("create", ("", b"", 0, SESSION, 9, 900), BadPath, "does not start"),
    ("create", ("", b"", SEQUENTIAL, SESSION, 9, 900), BadPath, "does not start"),
    ("create", ("//x", b"", 0, SESSION, 9, 900), BadPath, "empty"),
    ("create", ("//", b"", SEQUENTIAL, SESSION, 9, 900), BadPath, "empty"),
    ("create", ("/dir/", b"", 0, SESSION, 9, 900), BadPath, "ends with"),
    ("create", ("/dir/.", b"", 0, SESSION, 9, 900), BadPath, "'.'"),
    ("create", ("/dir/..", b"", 0, SESSION, 9, 900), BadPath, "'..'"),
    ("create", ("/dir/a\x00", b"", 0, SESSION, 9, 900), BadPath, "x00"),
    ("create", ("/new/../x", b"", PARENTS, SESSION, 9, 900), BadPath, "'..'"),
    ("create", ("/new//x", b"", PARENTS, SESSION, 9, 900), BadPath, "empty"),
    ("set", ("/no", b"", ANY_VERSION, 9, 900), NoNode, "/no"),
    ("set", ("/dir", b"", 1, 9, 900), BadVersion, "/dir"),
    ("set", ("dir", b"", 1, 9, 900), BadPath, "does not start"),
    ("delete", ("/no", ANY_VERSION, 9), NoNode, "/no"),
    ("delete", ("/dir/leaf", 1, 9), BadVersion, "/dir/leaf"),
    ("delete", ("/dir", 1, 9), BadVersion, "/dir"),
    ("delete", ("/dir", ANY_VERSION, 9), NotEmpty, "/dir"),
    ("delete", ("/", ANY_VERSION, 9), BadPath, "root"),
    ("check", ("/no", ANY_VERSION), NoNode, "/no"),
    ("check", ("/dir", 3), BadVersion, "/dir"),
    ("guard", ("/no", 1), Fenced, "/no"),
    ("guard", ("/dir", 2), Fenced, "/dir"),
    ("guard", ("//", 2), BadPath, "empty"),
]


@pytest.mark.parametrize(("operation", "arguments", "error", "detail"), FAILURES)
def test_failure_has_a_name_and_changes_nothing(
    tree: KeyTree, operation: str, arguments: tuple[object, ...], error: type[DefiniteError], detail: str
) -> None:
    """An error is an answer that a client acts on; a half-done operation behind it would be a lie."""
    before = state(tree)
    with pytest.raises(error) as caught:
        getattr(tree, operation)(*arguments)
    assert type(caught.value) is error
    assert detail in caught.value.detail
    assert state(tree) == before
    assert tree.changes == []


def test_created_key_has_the_index_and_stamp_of_its_command(tree: KeyTree) -> None:
    """czxid is what locks take their token from."""
    path, node = tree.create("/dir/new", b"abc", 0, SESSION, 9, 900)
    assert path == "/dir/new"
    assert node.stat() == (9, 9, 9, 900, 900, 0, 0, 0, 3, 0, 0, 0)
    assert tree.nodes["/dir"].stat() == (1, 1, 9, 100, 100, 0, 2, 0, 1, 2, 0, 0)
    assert told(tree) == [(CREATED, "/dir/new")]


def test_set_moves_version_mzxid_and_mtime_alone(tree: KeyTree) -> None:
    """The parent does not change when a child's data does."""
    parent = tree.nodes["/dir"].stat()
    assert tree.set("/dir/leaf", b"xy", 0, 9, 900).stat() == (2, 9, 2, 200, 900, 1, 0, 0, 2, 0, 0, 0)
    assert tree.nodes["/dir"].stat() == parent
    assert told(tree) == [(CHANGED, "/dir/leaf")]


def test_root_can_be_set(tree: KeyTree) -> None:
    """As in ZooKeeper: the root is a key with data."""
    tree.set("/", b"top", 0, 9, 900)
    assert tree.nodes["/"].data == b"top"


def test_delete_moves_cversion_and_pzxid_of_the_parent(tree: KeyTree) -> None:
    """cversion counts all changes of the list of children, creations and deletions alike."""
    tree.delete("/dir/leaf", 0, 9)
    assert tree.nodes["/dir"].stat() == (1, 1, 9, 100, 100, 0, 2, 0, 1, 0, 0, 0)
    assert told(tree) == [(DELETED, "/dir/leaf")]
    assert "/dir/leaf" not in tree.nodes


def test_sequential_numbers_rise_whatever_happens_to_the_keys(tree: KeyTree) -> None:
    """A number given twice would give a place in a queue twice. All creations count, as in ZooKeeper."""
    assert tree.create("/dir/n-", b"", SEQUENTIAL, SESSION, 9, 0)[0] == "/dir/n-0000000001"
    tree.delete("/dir/n-0000000001", ANY_VERSION, 10)
    assert tree.create("/dir/n-", b"", SEQUENTIAL, SESSION, 11, 0)[0] == "/dir/n-0000000002"
    assert tree.create("/dir/", b"", SEQUENTIAL, SESSION, 12, 0)[0] == "/dir/0000000003"
    assert tree.create("/", b"", SEQUENTIAL, SESSION, 13, 0)[0] == "/0000000002"


def test_sequential_number_outgrows_ten_digits(tree: KeyTree) -> None:
    """ZooKeeper's counter has 32 bits and turns negative (RELIABILITY 63); ours has 64 and more digits then."""
    tree.nodes["/dir"].sequence = 2**31
    assert tree.create("/dir/", b"", SEQUENTIAL, SESSION, 9, 0)[0] == "/dir/2147483648"
    tree.nodes["/dir"].sequence = 10**10
    assert tree.create("/dir/", b"", SEQUENTIAL, SESSION, 10, 0)[0] == "/dir/10000000000"


def test_sequential_create_steps_over_names_taken_by_hand(tree: KeyTree) -> None:
    """To fail would be to fail for ever, since a failure does not move the counter."""
    for number in (3, 4):
        tree.create(f"/dir/n-000000000{number}", b"", 0, SESSION, 8, 0)
    assert tree.create("/dir/n-", b"", SEQUENTIAL, SESSION, 9, 0)[0] == "/dir/n-0000000005"
    tree.delete("/dir/n-0000000005", ANY_VERSION, 10)
    assert tree.create("/dir/n-", b"", SEQUENTIAL, SESSION, 11, 0)[0] == "/dir/n-0000000006"


def test_sequential_create_of_zookeepers_clients_fails_on_a_name_taken_by_hand(tree: KeyTree) -> None:
    """They are promised what ZooKeeper does, and the counter stays."""
    tree.create("/dir/n-0000000003", b"", 0, SESSION, 8, 0)
    tree.nodes["/dir"].sequence = 3
    for _ in range(2):
        with pytest.raises(NodeExists):
            tree.create("/dir/n-", b"", SEQUENTIAL | INT32, SESSION, 9, 0)
    assert tree.create("/dir/n-", b"", SEQUENTIAL, SESSION, 9, 0)[0] == "/dir/n-0000000004"


def test_parents_are_created_empty_and_persistent_top_first(tree: KeyTree) -> None:
    """One command, one index; and a watcher on the way sees them in the order in which they can exist."""
    path, node = tree.create("/dir/x/y/n-", b"abc", PARENTS | SEQUENTIAL | EPHEMERAL, SESSION, 9, 900)
    assert path == "/dir/x/y/n-0000000000"
    assert node.owner == SESSION
    assert told(tree) == [(CREATED, "/dir/x"), (CREATED, "/dir/x/y"), (CREATED, path)]
    assert tree.nodes["/dir/x"].stat() == (9, 9, 9, 900, 900, 0, 1, 0, 0, 1, 0, 0)
    assert tree.nodes["/dir/x/y"].stat() == (9, 9, 9, 900, 900, 0, 1, 0, 0, 1, 0, 0)
    assert tree.nodes["/dir/x/y"].sequence == 1
    assert tree.ephemerals == {SESSION: {"/eph", path}}


def test_parents_that_exist_are_left_alone(tree: KeyTree) -> None:
    """The flag is permission, not a wish."""
    tree.create("/dir/x", b"", PARENTS, SESSION, 9, 900)
    assert told(tree) == [(CREATED, "/dir/x")]
    assert tree.nodes["/"].pzxid == 3


def test_name_beyond_ascii_is_a_name(tree: KeyTree) -> None:
    """The short look at a name must fall back on the whole check, not refuse."""
    assert tree.create("/dir/grüße", b"", 0, SESSION, 9, 0)[0] == "/dir/grüße"


def test_children_are_sorted_names(tree: KeyTree) -> None:
    """No order of a set may show."""
    for number, name in enumerate(("b", "a", "c-1", "c", "Z")):
        tree.create(f"/dir/{name}", b"", 0, SESSION, 9 + number, 0)
    assert tree.nodes["/dir"].child_names() == ["Z", "a", "b", "c", "c-1", "leaf"]
    assert tree.nodes["/"].child_names() == ["dir", "eph", "zookeeper"]
    assert tree.nodes["/dir/a"].child_names() == []


def test_owned_keys_are_deleted_in_order_of_their_paths(tree: KeyTree) -> None:
    """Replicas must tell the events of an expiry in the same order."""
    for name in ("/dir/z", "/dir/a", "/b"):
        tree.create(name, b"", EPHEMERAL, SESSION, 9, 0)
    tree.create("/other", b"", EPHEMERAL, SESSION + 1, 9, 0)
    tree.changes.clear()
    tree.delete_owned(SESSION, 10)
    assert told(tree) == [(DELETED, path) for path in ("/b", "/dir/a", "/dir/z", "/eph")]
    assert tree.ephemerals == {SESSION + 1: {"/other"}}
    assert tree.nodes["/dir"].pzxid == 10


def test_roll_back_of_everything_at_once(tree: KeyTree) -> None:
    """A transaction may delete a key, make it anew and empty its parent before it fails."""
    before = state(tree)
    tree.begin(9)
    tree.create("/dir/new", b"", 0, SESSION, 9, 900)
    tree.set("/dir/leaf", b"changed", 0, 9, 900)
    tree.set("/dir/leaf", b"again", 1, 9, 900)
    tree.delete("/dir/leaf", 2, 9)
    tree.delete("/dir/new", 0, 9)
    tree.delete("/dir", 0, 9)
    tree.delete("/eph", 0, 9)
    tree.create("/dir/x/y/", b"", PARENTS | EPHEMERAL | SEQUENTIAL, SESSION + 1, 9, 900)
    tree.create("/dir/leaf", b"mine", 0, SESSION, 9, 900)
    tree.roll_back()
    assert state(tree) == before
    assert tree.changes == []
    paths_in_order = list(tree.nodes)
    for path in paths_in_order[1:]:
        parent = path[: path.rindex("/")] or "/"
        assert paths_in_order.index(parent) < paths_in_order.index(path), paths_in_order


def test_commit_keeps_what_was_done(tree: KeyTree) -> None:
    """And later changes are made in place again."""
    tree.begin(9)
    tree.set("/dir", b"1", 0, 9, 900)
    tree.commit()
    node = tree.nodes["/dir"]
    assert tree.set("/dir", b"2", 1, 10, 1000) is node
    assert told(tree) == [(CHANGED, "/dir"), (CHANGED, "/dir")]


def test_kept_nodes_are_replaced_not_changed(tree: KeyTree) -> None:
    """A snapshot under way holds the nodes of its index; a second change of the same kind makes no second copy."""
    kept = dict(tree.nodes)
    before = state(tree)
    tree.keep(3)
    tree.set("/dir/leaf", b"new", ANY_VERSION, 4, 400)
    replaced = tree.nodes["/dir/leaf"]
    tree.set("/dir/leaf", b"newer", ANY_VERSION, 5, 500)
    tree.create("/dir/n-", b"", SEQUENTIAL, SESSION, 6, 600)
    tree.delete("/eph", ANY_VERSION, 7)
    assert tree.nodes["/dir/leaf"] is replaced
    assert {path: (node.data, node.stat()[:8], node.sequence) for path, node in kept.items()} == {
        path: (data, stat[:8], sequence) for path, (data, stat, sequence, _) in before[0].items()
    }
    tree.release()
    assert tree.set("/dir/leaf", b"", ANY_VERSION, 8, 800) is replaced
