"""Which paths are legal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jkcs_client.protocol.errors import BadPath, TooLarge
from jkcs_client.protocol.messages import PATH_BYTES_MAX
from jkcs_server.tree import paths

LEGAL = [
    "/",
    "/a",
    "/a/b/c",
    "/with space",
    "/...",
    "/.hidden",
    "/a.",
    "/a/..b",
    "/grüße/日本",
    "/\u00a0",
    "/\uf900",
    "/\uffef",
    "/" + "a" * (PATH_BYTES_MAX - 1),
]

FAULTS = [
    ("", "does not start with /"),
    ("a", "does not start with /"),
    ("a/b", "does not start with /"),
    ("/a/", "ends with /"),
    ("//", "empty component at 0"),
    ("//a", "empty component at 0"),
    ("/a//b", "empty component at 2"),
    ("/.", "'.' at 0"),
    ("/a/./b", "'.' at 2"),
    ("/..", "'..' at 0"),
    ("/a/..", "'..' at 2"),
    ("/a\x00", r"'\x00' at 2"),
    ("/\x1f", r"'\x1f' at 1"),
    ("/\x7f", r"'\x7f' at 1"),
    ("/\x9f", r"'\x9f' at 1"),
    ("/\ud800", r"'\ud800' at 1"),
    ("/\ue000", r"'\ue000' at 1"),
    ("/\uf8ff", r"'\uf8ff' at 1"),
    ("/\ufff0", r"'\ufff0' at 1"),
    ("/\U0001f600", r"'\U0001f600' at 1"),
    (7, "must be text, not int"),
    (b"/a", "must be text, not bytes"),
    (None, "must be text, not NoneType"),
    (["/a"], "must be text, not list"),
]


@pytest.mark.parametrize("path", LEGAL)
def test_legal_path_passes(path: str) -> None:
    """What ZooKeeper's clients may name, ours may."""
    paths.check(path)
    paths.check_form(path)


@pytest.mark.parametrize(("path", "fault"), FAULTS)
def test_fault_is_named(path: object, fault: str) -> None:
    """A user who is refused should not have to guess why; and the text must be fit to be sent."""
    for check in (paths.check, paths.check_form):
        with pytest.raises(BadPath) as caught:
            check(path)
        assert fault in caught.value.detail
        assert caught.value.detail.isascii()


@pytest.mark.parametrize("character", ["a", "é", "日"])
def test_length_is_counted_in_bytes(character: str) -> None:
    """The limit is there for memory and frames, which hold bytes."""
    width = len(character.encode())
    fits = "/" + character * ((PATH_BYTES_MAX - 1) // width)
    paths.check(fits)
    with pytest.raises(TooLarge, match="limit 4096"):
        paths.check(fits + character)


def test_form_has_no_limit() -> None:
    """`apply` must do the same in a release with another limit."""
    paths.check_form("/" + "a" * (2 * PATH_BYTES_MAX))


def test_sequential_path_may_end_in_slash() -> None:
    """As in ZooKeeper, /queue/ asks for a name that is only a number; // and "" are still wrong."""
    for path in ("/queue/", "/", "/a/.", "/queue/n-"):
        paths.check_sequential(path)
    for wrong in ("", "a", "//", "/a//", 7):
        with pytest.raises(BadPath):
            paths.check_sequential(wrong)
    with pytest.raises(TooLarge):
        paths.check_sequential("/" + "a" * (PATH_BYTES_MAX - 2))


@given(st.text(alphabet="/.a\x00é\U0001f600", max_size=12))
def test_short_way_agrees_with_the_long_one(path: str) -> None:
    """`check` lets the usual path pass at a glance: it must never let pass what `check_form` refuses."""
    try:
        paths.check_form(path)
    except BadPath:
        with pytest.raises(BadPath):
            paths.check(path)
    else:
        paths.check(path)


def test_parents_and_ancestors() -> None:
    """The root is its own beginning."""
    assert paths.parent_of("/a") == "/"
    assert paths.parent_of("/a/b") == "/a"
    assert paths.ancestors_of("/") == []
    assert paths.ancestors_of("/a/b/c") == ["/", "/a", "/a/b"]
