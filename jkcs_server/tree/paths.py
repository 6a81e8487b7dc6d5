"""Which texts are paths of keys: ZooKeeper's rules, so that its clients can name every key.

Knows nothing of the tree. Called by `checks` before a request is proposed, by `keytree` when a key is
created.
"""

from __future__ import annotations

import re

from jkcs_client.protocol.errors import BadPath, TooLarge
from jkcs_client.protocol.messages import PATH_BYTES_MAX

ROOT = "/"

SEQUENCE_DIGITS = 10
"""A sequential key's number has at least this many digits, with zeros in front."""

# Beyond the ranges that ZooKeeper's documentation forbids, nothing above U+FFFF: ZooKeeper's clients see a
# pair of surrogates there and refuse to name such a key.
_CHARACTERS = "\\x00-\\x1f\\x7f-\\x9f\\ud800-\\uf8ff\\ufff0-\\uffff\\U00010000-\\U0010ffff"
_FAULT = re.compile(f"(?P<empty>//)|(?P<dots>/\\.\\.?(?=/|\\Z))|(?P<character>[{_CHARACTERS}])")
_UTF8_BYTES_MAX = 3
"""Bytes of one character; those with four are forbidden."""
_SHOWN_MAX = 100
"""Characters of a bad path that an error repeats."""


def check(path: object) -> None:
    """Raise BadPath, or TooLarge, naming the first fault of what a client gave as a path."""
    # The usual path, at a third of the price.
    if not (
        type(path) is str
        and path.isascii()
        and path.isprintable()
        and path
        and path[0] == "/"
        and path[-1] != "/"
        and "//" not in path
        and "/." not in path
    ):
        check_form(path)
    assert isinstance(path, str)
    if len(path) * _UTF8_BYTES_MAX > PATH_BYTES_MAX:
        size = len(path.encode())
        if size > PATH_BYTES_MAX:
            raise TooLarge(f"path {_show(path)} of {size} bytes, limit {PATH_BYTES_MAX}")


def check_form(path: object) -> None:
    """`check` without the limit on length.

    This is the part that `apply` repeats: it may never depend on a limit, because two releases with
    different limits would then apply the same log to different trees.
    """
    if type(path) is not str:
        raise BadPath(f"a path must be text, not {type(path).__name__}")
    if not path.startswith(ROOT):
        raise BadPath(f"{_show(path)} does not start with /")
    fault = _FAULT.search(path)
    if fault is not None:
        raise BadPath(f"{_show(path)} has {_describe(fault)}")
    if path.endswith(ROOT) and path != ROOT:
        raise BadPath(f"{_show(path)} ends with /")


def check_sequential(path: object) -> None:
    """`check` for the path of a sequential create, to which a number will be added: `/queue/` is one."""
    if type(path) is str:
        check(path + "0" * SEQUENCE_DIGITS)
    else:
        check(path)


def parent_of(path: str) -> str:
    """The path one level up, of any legal path but the root."""
    return path[: path.rindex("/")] or ROOT


def ancestors_of(path: str) -> list[str]:
    """All paths above a legal path, the root first."""
    above: list[str] = []
    while path != ROOT:
        path = parent_of(path)
        above.append(path)
    above.reverse()
    return above


def _describe(fault: re.Match[str]) -> str:
    at = fault.start()
    if fault["empty"]:
        return f"an empty component at {at}"
    if fault["dots"]:
        return f"the component {fault['dots'][1:]!r} at {at}, and there are no relative paths"
    return f"the character {fault['character']!a} at {at}"


def _show(path: str) -> str:
    return ascii(path if len(path) <= _SHOWN_MAX else path[:_SHOWN_MAX] + "...")
