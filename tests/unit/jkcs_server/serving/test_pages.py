"""Pages of large directories: the right names, and no more sorting than promised."""

from __future__ import annotations

import random

import pytest

from jkcs_server.serving.pages import DIRECTORIES_MAX, SMALL, Pages
from jkcs_server.tree.node import Node


def directory(path: str, names: list[str], index: int = 7) -> Node:
    node = Node(b"", 1, 1, 0)
    node.place(path)
    node.pzxid = index
    node.children = {f"{path.rstrip('/')}/{name}" for name in names}
    return node


@pytest.mark.parametrize("count", [0, 1, SMALL, SMALL + 1, 3 * SMALL])
@pytest.mark.parametrize("path", ["/", "/d", "/d/e"])
def test_pages_add_up_to_the_directory(path: str, count: int) -> None:
    """Whatever its size, each name once and in order."""
    names = sorted({f"{random.Random(number).getrandbits(30):x}" for number in range(count)})
    pages, node = Pages(), directory(path, names)
    seen: list[str] = []
    while page := pages.page(node, seen[-1] if seen else "", 700):
        assert len(page) <= 700
        seen += page
    assert seen == names


def test_an_unchanged_directory_is_sorted_once() -> None:
    """By the second page: whoever asks for one only pays for a single pass."""
    names = [f"{number:05}" for number in range(3 * SMALL)]
    pages, node = Pages(), directory("/d", names)
    assert pages.page(node, "", 10) == names[:10]
    assert pages._recent["/d"][2] is None
    assert pages.page(node, names[9], 10) == names[10:20]
    ordered = pages._recent["/d"][2]
    assert ordered is not None
    assert pages.page(node, names[19], 10) == names[20:30]
    assert pages._recent["/d"][2] is ordered


def test_a_changed_directory_is_shown_as_it_is() -> None:
    """What was sorted before is worth nothing."""
    names = [f"{number:05}" for number in range(3 * SMALL)]
    pages, node = Pages(), directory("/d", names)
    for _ in range(3):
        pages.page(node, "", 10)
    assert node.children is not None
    node.children.add("/d/00000-new")
    node.pzxid += 1
    assert pages.page(node, "00000", 2) == ["00000-new", "00001"]
    created_anew = directory("/d", ["x", *names], index=node.pzxid)
    created_anew.czxid = 5
    assert pages.page(created_anew, "02999", 2) == ["x"]


def test_few_directories_are_kept() -> None:
    """A sorted directory is memory; there may be many."""
    pages = Pages()
    for number in range(DIRECTORIES_MAX + 3):
        node = directory(f"/d{number}", [f"{each}" for each in range(SMALL + 1)])
        pages.page(node, "", 1)
    assert list(pages._recent) == [f"/d{number}" for number in range(3, DIRECTORIES_MAX + 3)]
