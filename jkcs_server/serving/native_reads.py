"""What native clients ask for that changes no key: arguments in, the fields of the answer out.

Each is evaluated when it is its turn; the order is the connection's. Who may read a key is looked at when it is read.
Called by `native` for all reads but GET, which is so frequent that it is evaluated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from jkcs_client.protocol.errors import BadArguments, Compacted, NoAuth, NoNode, SessionExpired
from jkcs_client.protocol.messages import (
    CHILDREN,
    CHILDREN_PAGE,
    CHILDREN_PAGE_MAX,
    COUNT,
    EPHEMERALS,
    EXISTS,
    GET_ACL,
    PING,
    STATUS,
    SYNC,
    UNWATCH,
    WATCH,
    WATCHES_PER_CONNECTION_MAX,
    WHO_AM_I,
    WatchMode,
)
from jkcs_server.serving.pages import Pages
from jkcs_server.serving.watches import WatchHub
from jkcs_server.serving.zookeeper_reads import keys_below
from jkcs_server.tree.acl import ADMIN, READ, Acl, Ids, allows, entries_of, redacted
from jkcs_server.tree.checks import check_path
from jkcs_server.tree.machine import TreeMachine
from jkcs_server.tree.node import Node
from jkcs_server.tree.paths import ROOT

Fields = tuple[Any, ...]

_WATCH_MODES = tuple(WatchMode)


class Place(Protocol):
    """What reads need of their server."""

    machine: TreeMachine
    hub: WatchHub
    pages: Pages

    def status(self) -> dict[str, Any]: ...


class Reader(Protocol):
    """What they need of their connection; it is a `Watcher` of the hub, too."""

    session: int
    ids: Ids

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None: ...

    def may_see(self, acl: Acl) -> bool: ...


def _exists(place: Place, reader: Reader, path: str, level: object = None) -> Fields:
    node = place.machine.tree.find(path)
    if node is None:
        check_path(path)
    return (None if node is None else node.stat(),)


def _children(place: Place, reader: Reader, path: str, level: object = None) -> Fields:
    node = _readable(place, reader, path)
    return node.child_names(), node.stat()


def _children_page(place: Place, reader: Reader, path: str, level: object, after: str, limit: int) -> Fields:
    if type(after) is not str or type(limit) is not int or not 1 <= limit <= CHILDREN_PAGE_MAX:
        raise BadArguments(f"a page of children is [path, level, after, limit], with a limit up to {CHILDREN_PAGE_MAX}")
    node = _readable(place, reader, path)
    return place.pages.page(node, after, limit), node.stat()


def _get_acl(place: Place, reader: Reader, path: str, level: object = None) -> Fields:
    node = _readable(place, reader, path, READ | ADMIN)
    entries = entries_of(node.acl)
    if not allows(node.acl, ADMIN, reader.ids):
        entries = redacted(entries)
    return entries, node.stat()


def _who_am_i(place: Place, reader: Reader) -> Fields:
    # Of a digest the name alone, as in ZooKeeper.
    return ([(scheme, name.split(":", 1)[0] if scheme == "digest" else name) for scheme, name in reader.ids],)


def _ephemerals(place: Place, reader: Reader, path: str, level: object = None) -> Fields:
    check_path(path)
    below = path if path == ROOT else f"{path}/"
    own = place.machine.tree.ephemerals.get(reader.session, ())
    return (sorted([each for each in own if each == path or each.startswith(below)]),)


def _count(place: Place, reader: Reader, path: str, level: object = None) -> Fields:
    return (keys_below(place.machine.tree, _readable(place, reader, path)),)


def _sync(place: Place, reader: Reader) -> Fields:
    return ()


def _ping(place: Place, reader: Reader) -> Fields:
    if reader.session and reader.session not in place.machine.sessions:
        raise SessionExpired(f"session {reader.session}")
    return ()


def _watch(place: Place, reader: Reader, watch_id: int, path: str, mode: int, since: int) -> Fields:
    if type(watch_id) is not int or type(since) is not int or since < 0 or mode not in _WATCH_MODES:
        raise BadArguments("a watch is [watch id, path, mode, since]")
    check_path(path)
    hub = place.hub
    if hub.count_of(reader) >= WATCHES_PER_CONNECTION_MAX:
        raise BadArguments(f"at most {WATCHES_PER_CONNECTION_MAX} watches on one connection")
    if not hub.add(reader, watch_id, path, mode, since):
        raise Compacted(f"events since index {since} are not kept any more")
    return ()


def _unwatch(place: Place, reader: Reader, watch_id: int) -> Fields:
    place.hub.remove(reader, watch_id)
    return ()


def _status(place: Place, reader: Reader) -> Fields:
    return (place.status(),)


def _readable(place: Place, reader: Reader, path: str, permission: int = READ) -> Node:
    node = place.machine.tree.find(path)
    if node is None:
        check_path(path)
        raise NoNode(path)
    if node.acl is not None and not allows(node.acl, permission, reader.ids):
        raise NoAuth(path)
    return node


READS: dict[int, Callable[..., Fields]] = {
    EXISTS: _exists,
    CHILDREN: _children,
    CHILDREN_PAGE: _children_page,
    GET_ACL: _get_acl,
    WHO_AM_I: _who_am_i,
    EPHEMERALS: _ephemerals,
    COUNT: _count,
    SYNC: _sync,
    PING: _ping,
    WATCH: _watch,
    UNWATCH: _unwatch,
    STATUS: _status,
}
"""How each is evaluated, given the server, the connection, and the arguments. A TypeError is a malformed request."""

LEVELLED = frozenset((EXISTS, CHILDREN, CHILDREN_PAGE, GET_ACL, EPHEMERALS, COUNT))
"""Those whose second argument says how fresh the answer must be; so does GET's."""
