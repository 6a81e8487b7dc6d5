"""The access control lists in a native client's writes, made to hold before they are proposed.

A list is looked at here, where the client's identities are known, because `auth` in it stands for them: what is
proposed names them. Knows nothing of sessions, serials and the tree's state. Called by `native` for the few writes
that may have a list, after their shape was checked.
"""

from __future__ import annotations

from typing import Any

from jkcs_client.protocol.credentials import is_digest_id
from jkcs_client.protocol.errors import DefiniteError, InvalidAcl
from jkcs_client.protocol.messages import CREATE, MULTI, SET_ACL
from jkcs_server.tree.acl import Ids, check_size, fix

_AT = {SET_ACL: 1, CREATE: 3}
"""Where the list stands among the arguments, if it is there."""


def fixed(op: int, arguments: list[Any], ids: Ids) -> list[Any]:
    """The arguments to propose for a client with these identities. Raises InvalidAcl, TooLarge."""
    if op == MULTI:
        return [[_fixed_step(place, step, ids) for place, step in enumerate(arguments[0])]]
    at = _AT.get(op, len(arguments))
    entries = arguments[at] if at < len(arguments) else None
    if entries is None:
        return arguments
    for _, scheme, name in entries:
        if scheme == "digest" and not is_digest_id(name):
            # ZooKeeper takes it. A password that was not made a hash would stand in the log for everybody to read.
            raise InvalidAcl("of scheme digest the name is USER:HASH, the hash a SHA-1 in base64")
    found = fix(tuple([(permissions, scheme, name) for permissions, scheme, name in entries]), ids)
    # It may have grown: for a client with many identities `auth` is many entries.
    check_size(found)
    return [*arguments[:at], found, *arguments[at + 1 :]]


def _fixed_step(place: int, step: list[Any], ids: Ids) -> list[Any]:
    op = step[0]
    if op not in _AT:
        return step
    try:
        return [op, *fixed(op, step[1:], ids)]
    except DefiniteError as error:
        raise type(error)(f"{place}: {error.detail}") from None
