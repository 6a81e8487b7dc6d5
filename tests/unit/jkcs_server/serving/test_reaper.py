"""Which keys the leader finds due, and how much it looks at in a turn."""

from __future__ import annotations

import pytest

from jkcs_server.serving import reaper
from jkcs_server.serving.reaper import ROUND_SECONDS, Reaper
from jkcs_server.tree.keytree import CONTAINER, TTL, KeyTree


@pytest.fixture
def tree() -> KeyTree:
    """A container that lost its child, one that never had any, and a key that lives for 50 ms from 100 on."""
    tree = KeyTree()
    for index, name in enumerate(("/used", "/new")):
        tree.create(name, b"", CONTAINER, 0, 1 + index, 100)
    tree.create("/used/child", b"", 0, 0, 3, 100)
    tree.delete("/used/child", -1, 4)
    tree.create("/short", b"", TTL, 0, 5, 100, (), None, 50)
    return tree


def test_only_what_has_lived_is_due(tree: KeyTree) -> None:
    """A container waits for its first child, a key with a lifetime for its time."""
    assert Reaper().due(tree, 149, 0.0) == [("/used", 1)]
    assert sorted(Reaper().due(tree, 150, 0.0)) == [("/short", 5), ("/used", 1)]
    tree.create("/short/child", b"", 0, 0, 6, 100)
    assert Reaper().due(tree, 999, 0.0) == [("/used", 1)]


def test_a_round_begins_once_in_a_while(tree: KeyTree) -> None:
    """What was proposed is on its way: it is not proposed in each turn."""
    mine = Reaper()
    assert mine.due(tree, 149, 5.0)
    assert mine.due(tree, 149, 5.0 + ROUND_SECONDS / 2) == []
    assert mine.due(tree, 149, 5.0 + ROUND_SECONDS) == [("/used", 1)]


def test_a_turn_is_bounded_and_the_next_goes_on(tree: KeyTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million keys with a lifetime must not stop the leader's loop."""
    monkeypatch.setattr(reaper, "REAPS_MAX", 2)
    monkeypatch.setattr(reaper, "LOOKS_MAX", 3)
    for number in range(5):
        tree.create(f"/k{number}", b"", TTL, 0, 10 + number, 100, (), None, 1)
    mine = Reaper()
    found = [mine.due(tree, 149, 0.0) for _ in range(6)]
    assert all(len(some) <= 2 for some in found)
    assert sorted(path for some in found for path, _ in some) == [*(f"/k{number}" for number in range(5)), "/used"]


def test_a_key_that_went_meanwhile_is_passed_over(tree: KeyTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of a round may be older than the tree."""
    monkeypatch.setattr(reaper, "LOOKS_MAX", 1)
    mine = Reaper()
    assert mine.due(tree, 0, 0.0) == []
    tree.delete("/used", -1, 9)
    assert [mine.due(tree, 149, 0.0) for _ in range(3)] == [[], [], []]
