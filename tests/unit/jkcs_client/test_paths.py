"""The chroot goes on and comes off."""

from __future__ import annotations

import pytest

from jkcs_client.paths import check_path, child_path, full_path, local_path
from jkcs_client.protocol.errors import BadPath, TooLarge


@pytest.mark.parametrize(
    ("chroot", "path", "full"),
    [("", "/", "/"), ("", "/a", "/a"), ("/app", "/", "/app"), ("/app", "/a/b", "/app/a/b")],
)
def test_a_path_goes_out_and_comes_back(chroot: str, path: str, full: str) -> None:
    """The caller never sees the chroot, the server never sees anything else."""
    assert full_path(chroot, path) == full
    assert local_path(chroot, full) == path


def test_a_sequential_key_without_a_name_stands_below_the_chroot() -> None:
    """`create("/", sequential=True)` makes a child of the root, and of the chroot where there is one."""
    assert full_path("/app", "/", sequential=True) == "/app/"
    assert full_path("/app", "/q/", sequential=True) == "/app/q/"


@pytest.mark.parametrize("path", [b"/a", None, "", "a", "a/b", "/\udc80"])
def test_what_cannot_be_sent_is_refused(path: object) -> None:
    """Else it would break the connection for every other call of this client."""
    with pytest.raises(BadPath):
        check_path(path)


def test_a_path_has_a_size() -> None:
    """In bytes, together with the chroot."""
    check_path("/" + "a" * 4095)
    with pytest.raises(TooLarge, match="limit 4096"):
        check_path("/" + "a" * 4096)
    with pytest.raises(TooLarge):
        check_path("/" + "ä" * 2048)
    with pytest.raises(TooLarge):
        full_path("/app", "/" + "a" * 4095)


def test_a_child_of_the_root_has_one_slash() -> None:
    """A doubled slash would be an illegal path."""
    assert child_path("/", "a") == "/a"
    assert child_path("/a", "b") == "/a/b"
