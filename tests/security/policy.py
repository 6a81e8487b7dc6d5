"""Who may do what: one table, written from ZooKeeper's documentation and not from our code, and what follows from it.

The judge of `test_policy.py`. An operation on a key needs a permission on that key, or on its parent; some need none,
and for each of those the table says why that is no hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from jkcs_client.protocol.errors import OK, NoAuth, NodeExists, NoNode

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
ALL = 31


class On(Enum):
    KEY = "the key"
    PARENT = "its parent"
    NOBODY = "no key"


@dataclass(frozen=True)
class Rule:
    """What an operation needs; of several permissions one is enough."""

    on: On
    permissions: int = 0
    why: str = ""
    """Of an operation that needs none."""


def _free(why: str) -> Rule:
    return Rule(On.NOBODY, 0, why)


_OWN = "about the caller alone"
_STAT = "as in ZooKeeper: that a key is there, and its stat, is told to everybody"
_LATER = "watching tells nothing; each event is checked when it happens"
_EACH = "each operation in it is checked by its own rule"
_LIFE = "about the session that asks"

ZOOKEEPER: dict[str, Rule] = {
    "create": Rule(On.PARENT, CREATE),
    "create2": Rule(On.PARENT, CREATE),
    "create_container": Rule(On.PARENT, CREATE),
    "create_ttl": Rule(On.PARENT, CREATE),
    "delete": Rule(On.PARENT, DELETE),
    "set_data": Rule(On.KEY, WRITE),
    "set_acl": Rule(On.KEY, ADMIN),
    "check": Rule(On.KEY, READ),
    "get_data": Rule(On.KEY, READ),
    "get_children": Rule(On.KEY, READ),
    "get_children2": Rule(On.KEY, READ),
    "get_all_children_number": Rule(On.KEY, READ),
    "get_acl": Rule(On.KEY, READ | ADMIN),
    "exists": _free(_STAT),
    "sync": _free("says nothing but the path it was given"),
    "get_ephemerals": _free(_OWN),
    "who_am_i": _free(_OWN),
    "add_watch": _free(_LATER),
    "set_watches": _free(f"tells no more than exists does; {_LATER}"),
    "set_watches2": _free(f"tells no more than exists does; {_LATER}"),
    "check_watches": _free(_OWN),
    "remove_watches": _free(_OWN),
    "multi": _free(_EACH),
    "multi_read": _free(_EACH),
    "auth": _free("how a caller gets its identities"),
    "ping": _free(_LIFE),
    "close_session": _free(_LIFE),
    "sasl": _free("always refused"),
    "delete_container": _free("always refused"),
    "reconfig": _free("an administrator's, see test_doors.py; and WRITE on /zookeeper/config"),
}
"""By the names of `jkcs_client.protocol.zookeeper`, in small letters."""

NATIVE: dict[str, Rule] = {
    "create": Rule(On.PARENT, CREATE),
    "delete": Rule(On.PARENT, DELETE),
    "set": Rule(On.KEY, WRITE),
    "set_acl": Rule(On.KEY, ADMIN),
    "sequence": Rule(On.KEY, ADMIN),
    "check": Rule(On.KEY, READ),
    "get": Rule(On.KEY, READ),
    "children": Rule(On.KEY, READ),
    "children_page": Rule(On.KEY, READ),
    "count": Rule(On.KEY, READ),
    "get_acl": Rule(On.KEY, READ | ADMIN),
    "exists": _free(_STAT),
    "guard": _free("compares a number that exists tells to everybody"),
    "watch": _free(_LATER),
    "unwatch": _free(_OWN),
    "ephemerals": _free(_OWN),
    "who_am_i": _free(_OWN),
    "multi": _free(_EACH),
    "sync": _free("says nothing"),
    "ping": _free(_LIFE),
    "close": _free(_LIFE),
    "status": _free("names of members and counts; no key, no client"),
    "admin": _free("an administrator's, see test_doors.py"),
    "auth": _free("how a caller gets its identities"),
}
"""By the names of `jkcs_client.protocol.messages.OP_NAMES`."""


def verdict(rule: Rule, granted_key: int, granted_parent: int, *, creates: bool, deletes: bool, exists: bool) -> int:
    """The code that an operation ends with. Where both apply, what is missing is told only to who may know.

    A key that is missing is said to be so whatever was asked of it: nobody's list is on it. Whether a child is there is
    not told by a create or a delete that its parent does not permit.
    """
    if rule.on is On.PARENT:
        if not granted_parent & rule.permissions:
            return NoAuth.code
        if creates:
            return NodeExists.code if exists else OK
        return OK if exists or not deletes else NoNode.code
    if not exists:
        return NoNode.code
    if rule.on is On.KEY and not granted_key & rule.permissions:
        return NoAuth.code
    return OK
