"""Paths as the caller names them and as the server does: the chroot goes on here, and comes off.

The server has the last word on what a legal path is. Checked here is only what could not even be sent.
"""

from __future__ import annotations

from jkcs_client.protocol.errors import BadPath, TooLarge
from jkcs_client.protocol.messages import PATH_BYTES_MAX

ROOT = "/"
_SHOWN_MAX = 100
_UTF8_BYTES_MAX = 4


def check_path(path: object) -> None:
    """Raise BadPath or TooLarge for what cannot be sent as a path."""
    if type(path) is not str:
        raise BadPath(f"a path is a str, not {type(path).__name__}")
    if not path.startswith(ROOT):
        raise BadPath(f"{path[:_SHOWN_MAX]!r} does not start with /")
    if not path.isascii() or len(path) * _UTF8_BYTES_MAX > PATH_BYTES_MAX:
        try:
            size = len(path.encode())
        except UnicodeEncodeError:
            raise BadPath(f"{path[:_SHOWN_MAX]!a} has half of a surrogate pair") from None
        if size > PATH_BYTES_MAX:
            raise TooLarge(f"path {path[:_SHOWN_MAX]!a} of {size} bytes, limit {PATH_BYTES_MAX}")


def full_path(chroot: str, path: str, *, sequential: bool = False) -> str:
    """The server's name for the caller's `path`. `sequential`: a number follows, so `/` may end the path."""
    check_path(path)
    if not chroot:
        return path
    full = chroot + path if path != ROOT or sequential else chroot
    check_path(full)
    return full


def local_path(chroot: str, full: str) -> str:
    """The caller's name for the server's `full`."""
    return full[len(chroot) :] or ROOT


def child_path(parent: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if parent == ROOT else f"{parent}/{name}"
