"""What ZooKeeper's clients ask for that changes no key: records in, the bodies of answers out.

A request is parsed as it comes and evaluated when it is its turn, both here; the order is the connection's. Who may
read a key is looked at when it is read. Called by `zookeeper`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import BadArguments, JkcsError, NoAuth, NoNode, ProtocolError, TooLarge
from jkcs_client.protocol.jute import (
    INT,
    MULTI_END,
    MULTI_HEADER,
    REQUEST,
    acl,
    buffer,
    read_bool,
    read_int,
    read_long,
    read_multi_header,
    read_text,
    read_texts,
    text,
    texts,
)
from jkcs_server.serving import zookeeper_answers as answers
from jkcs_server.serving.zookeeper_answers import code_of, event, failed_operation, stat_bytes
from jkcs_server.serving.zookeeper_watches import (
    CHILDREN,
    DATA,
    PERSISTENT,
    RECURSIVE,
    ZooKeeperWatches,
)
from jkcs_server.tree.acl import ADMIN, READ, Ids, allows, entries_of, redacted
from jkcs_server.tree.keytree import KeyTree
from jkcs_server.tree.node import Node
from jkcs_server.tree.paths import ROOT

MULTI_READ_BYTES_MAX = 16 << 20
"""The answer of a multi of reads, more or less one of them. No client takes more unless it is told to."""

Arguments = tuple[Any, ...]

_PATH_AT = REQUEST.size + INT.size
_GET_DATA_REST = _PATH_AT + 1
"""What a request for data has beside its path: its head, the path's length, and the flag behind it."""


class View(Protocol):
    """What reads need of their connection."""

    session: int
    ids: Ids
    watches: ZooKeeperWatches

    @property
    def tree(self) -> KeyTree: ...

    def emit(self, packed: bytes) -> None:
        """Send a frame that stands before the answer."""


class NoWatcher(JkcsError):
    """There is no such watch."""

    code = zk.NO_WATCHER


def usual_get_data(tree: KeyTree, zxid: int, xid: int, body: bytes) -> bytes | None:
    """The answer to the usual getData at half the price: no watch, a key that everybody may read. Else None."""
    if INT.unpack_from(body, REQUEST.size)[0] != len(body) - _GET_DATA_REST or body[-1]:
        return None
    node = tree.nodes.get(str(body[_PATH_AT:-1], "utf-8"))
    return None if node is None or node.acl is not None else answers.data(xid, zxid, node)


# Parsing: the bytes behind a request's head. Each raises one of `jute.FAULTS`.


def _path(body: bytes, at: int) -> tuple[Arguments, int]:
    path, at = read_text(body, at)
    return (path,), at


def _path_and_watch(body: bytes, at: int) -> tuple[Arguments, int]:
    path, at = read_text(body, at)
    watch, at = read_bool(body, at)
    return (path, watch), at


def _path_and_number(body: bytes, at: int) -> tuple[Arguments, int]:
    path, at = read_text(body, at)
    number, at = read_int(body, at)
    return (path, number), at


def _nothing(body: bytes, at: int) -> tuple[Arguments, int]:
    return (), at


def _three_lists(body: bytes, at: int) -> tuple[Arguments, int]:
    since, at = read_long(body, at)
    lists = []
    for _ in range(3):
        paths, at = read_texts(body, at)
        lists.append(paths)
    return (since, [*lists, [], []]), at


def _five_lists(body: bytes, at: int) -> tuple[Arguments, int]:
    (since, lists), at = _three_lists(body, at)
    for place in (3, 4):
        lists[place], at = read_texts(body, at)
    return (since, lists), at


def _multi(body: bytes, at: int) -> tuple[Arguments, int]:
    steps: list[tuple[int, Arguments]] = []
    while True:
        op, end, at = read_multi_header(body, at)
        if end:
            return (steps,), at
        if op not in (zk.GET_DATA, zk.GET_CHILDREN):
            raise ProtocolError(f"operation {op} in a multi of reads")
        arguments, at = _path_and_watch(body, at)
        steps.append((op, arguments))


# Evaluating: the arguments as parsed. Each returns the body of the answer, or raises a JkcsError.


def _get_data(view: View, path: str, watch: bool) -> bytes:
    node = _readable(view, path)
    if watch:
        view.watches.add(DATA, path)
    return buffer(node.data) + stat_bytes(node.stat())


def _exists(view: View, path: str, watch: bool) -> bytes:
    if "\0" in path:
        raise BadArguments("a path with a null character")
    if watch:
        view.watches.add(DATA, path)
    node = view.tree.find(path or ROOT)
    if node is None:
        raise NoNode(path)
    return stat_bytes(node.stat())


def _children(view: View, path: str, watch: bool) -> bytes:
    node = _readable(view, path)
    if watch:
        view.watches.add(CHILDREN, path)
    return texts(node.child_names())


def _children2(view: View, path: str, watch: bool) -> bytes:
    node = _readable(view, path)
    if watch:
        view.watches.add(CHILDREN, path)
    return texts(node.child_names()) + stat_bytes(node.stat())


def _get_acl(view: View, path: str) -> bytes:
    node = _readable(view, path, READ | ADMIN)
    entries = entries_of(node.acl)
    if not allows(node.acl, ADMIN, view.ids):
        entries = redacted(entries)
    return acl(entries) + stat_bytes(node.stat())


def _sync(view: View, path: str) -> bytes:
    return text(path)


def _ephemerals(view: View, prefix: str) -> bytes:
    own = sorted(view.tree.ephemerals.get(view.session, ()))
    return texts([path for path in own if path.startswith(prefix)])


def _all_children_number(view: View, path: str) -> bytes:
    # By its other name the root is below itself, in ZooKeeper.
    return INT.pack(keys_below(view.tree, _readable(view, path)) + (path == ""))


def keys_below(tree: KeyTree, node: Node) -> int:
    """How many keys there are below one, however deep. It takes its time where they are many."""
    if node is tree.find(ROOT):
        return len(tree) - 1
    count = 0
    below = list(node.children or ())
    while below:
        count += len(below)
        found: list[str] = []
        for each in below:
            child = tree.find(each)
            if child is not None and child.children:
                found += child.children
        below = found
    return count


def _who_am_i(view: View) -> bytes:
    infos = [text(scheme) + text(name.split(":", 1)[0] if scheme == "digest" else name) for scheme, name in view.ids]
    return INT.pack(len(infos)) + b"".join(infos)


def _add_watch(view: View, path: str, mode: int) -> bytes:
    if mode not in (zk.WATCH_PERSISTENT, zk.WATCH_RECURSIVE):
        raise ProtocolError(f"watches of mode {mode}")
    view.watches.add(PERSISTENT if mode == zk.WATCH_PERSISTENT else RECURSIVE, path)
    return INT.pack(0)


def _remove_watches(view: View, path: str, kind: int) -> bytes:
    if not view.watches.remove(kind, path):
        raise NoWatcher(path)
    return b""


def _check_watches(view: View, path: str, kind: int) -> bytes:
    if not view.watches.has(kind, path):
        raise NoWatcher(path)
    return b""


def _set_watches(view: View, since: int, lists: list[list[str]]) -> bytes:
    for kind, path in view.watches.set_again(view.tree, since, lists):
        view.emit(event(kind, path, zk.NO_ZXID))
    return b""


def _multi_read(view: View, steps: list[tuple[int, Arguments]]) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for op, arguments in steps:
        if size > MULTI_READ_BYTES_MAX:
            raise TooLarge(f"an answer of more than {MULTI_READ_BYTES_MAX} bytes")
        try:
            body = READS[op][1](view, *arguments)
        except JkcsError as error:
            pieces.append(failed_operation(code_of(error.code)))
        else:
            pieces += (MULTI_HEADER.pack(op, False, 0), body)
            size += len(body)
    pieces.append(MULTI_END)
    return b"".join(pieces)


def _readable(view: View, path: str, permission: int = READ) -> Node:
    # To ZooKeeper the root has two names.
    node = view.tree.find(path or ROOT)
    if node is None:
        raise NoNode(path)
    if node.acl is not None and not allows(node.acl, permission, view.ids):
        raise NoAuth(path)
    return node


Parse = Callable[[bytes, int], tuple[Arguments, int]]
Evaluate = Callable[..., bytes]

READS: dict[int, tuple[Parse, Evaluate]] = {
    zk.GET_DATA: (_path_and_watch, _get_data),
    zk.EXISTS: (_path_and_watch, _exists),
    zk.GET_CHILDREN: (_path_and_watch, _children),
    zk.GET_CHILDREN2: (_path_and_watch, _children2),
    zk.GET_ACL: (_path, _get_acl),
    zk.SYNC: (_path, _sync),
    zk.GET_EPHEMERALS: (_path, _ephemerals),
    zk.GET_ALL_CHILDREN_NUMBER: (_path, _all_children_number),
    zk.WHO_AM_I: (_nothing, _who_am_i),
    zk.ADD_WATCH: (_path_and_number, _add_watch),
    zk.REMOVE_WATCHES: (_path_and_number, _remove_watches),
    zk.CHECK_WATCHES: (_path_and_number, _check_watches),
    zk.SET_WATCHES: (_three_lists, _set_watches),
    zk.SET_WATCHES2: (_five_lists, _set_watches),
    zk.MULTI_READ: (_multi, _multi_read),
}
"""How each is parsed and evaluated."""
