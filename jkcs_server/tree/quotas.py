"""How much there is below some keys, and how much there may be: ZooKeeper's quotas.

A quota on `/app` is what the key `/zookeeper/quota/app/zookeeper_limits` says; how much there is stands in
`zookeeper_stats` beside it, and is kept true by the tree itself. Both texts are ZooKeeper's. Keys count under every
quota above them, the key with the quota included; what is below `/zookeeper` counts nowhere. Hard limits refuse; a
soft one that is passed is written to the log.

Knows nothing of permissions and versions. Called by `keytree` for each change while there are quotas.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jkcs_client.protocol.errors import QuotaExceeded

if TYPE_CHECKING:
    from jkcs_server.tree.keytree import KeyTree

logger = logging.getLogger("jkcs_server.quotas")

ROOT = "/zookeeper/quota"
LIMITS = "zookeeper_limits"
STATS = "zookeeper_stats"

_SYSTEM = "/zookeeper"
_NONE = -1
_PAIR = re.compile(rb"([A-Za-z]+)=(-?[0-9]{1,18})(?=[,;]|\Z)")


class Limits:
    """What one key of limits says; -1 where it says nothing."""

    __slots__ = ("bytes", "bytes_hard", "count", "count_hard")

    def __init__(self, text: bytes) -> None:
        said = {name: int(value) for name, value in _PAIR.findall(text)}
        self.count = said.get(b"count", _NONE)
        self.bytes = said.get(b"bytes", _NONE)
        self.count_hard = said.get(b"countHardLimit", _NONE)
        self.bytes_hard = said.get(b"byteHardLimit", _NONE)


class Quota:
    """One quota and how much it holds. Never changed, but replaced: a transaction keeps the old ones."""

    __slots__ = ("bytes", "count", "limits")

    def __init__(self, limits: Limits, count: int, size: int) -> None:
        self.limits = limits
        self.count = count
        """Keys."""
        self.bytes = size
        """Of their data."""

    @property
    def stats(self) -> bytes:
        """As ZooKeeper writes it."""
        return b"count=%d,bytes=%d" % (self.count, self.bytes)


def charge(tree: KeyTree, path: str, count: int, size: int, missing: Sequence[str] = ()) -> None:
    """Raise QuotaExceeded when there is no room for so many more keys and bytes at `path`. Changes nothing.

    `missing`: ancestors of the path that will be created with it, the top first.
    """
    for top, quota in _above(tree, path):
        limits = quota.limits
        if count:
            more = count + sum(ancestor == top or ancestor.startswith(top + "/") for ancestor in missing)
            _check(top, "keys", quota.count, more, limits.count, limits.count_hard)
        if size:
            _check(top, "bytes", quota.bytes, size, limits.bytes, limits.bytes_hard)


def on_change(tree: KeyTree, path: str, count: int, size: int) -> None:
    """There are so many more keys and bytes at `path`, or fewer, or a quota itself has changed."""
    if _is_system(path):
        if path.startswith(ROOT):
            _on_quota(tree, path)
        return
    for top, quota in list(_above(tree, path)):
        tree.quotas[top] = Quota(quota.limits, quota.count + count, quota.bytes + size)
        _write_stats(tree, top)


def count_all(tree: KeyTree) -> None:
    """Find all quotas of a tree that was loaded, and what they hold."""
    for path in tree.nodes:
        if path.startswith(ROOT) and path.endswith("/" + LIMITS):
            _on_quota(tree, path)


def is_stats(path: str) -> bool:
    """Whether the tree itself writes the data of this key."""
    return path.startswith(ROOT) and path.endswith("/" + STATS)


def _check(top: str, what: str, present: int, more: int, soft: int, hard: int) -> None:
    if hard > _NONE:
        if present + more > hard:
            raise QuotaExceeded(f"{top}: {present + more} {what}, limit {hard}")
    elif _NONE < soft < present + more and present <= soft:
        # Once, when it is passed.
        logger.warning("the quota on %s is passed: %d %s, limit %d", top, present + more, what, soft)


def _on_quota(tree: KeyTree, path: str) -> None:
    """A key below the root of quotas was made, set or deleted."""
    place, _, name = path.rpartition("/")
    top = place[len(ROOT) :]
    if not top:
        return
    if name == LIMITS:
        node = tree.nodes.get(path)
        if node is None:
            tree.quotas.pop(top, None)
            return
        before = tree.quotas.get(top)
        count, size = _count(tree, top) if before is None else (before.count, before.bytes)
        tree.quotas[top] = Quota(Limits(node.data), count, size)
        _write_stats(tree, top)
    elif name == STATS and top in tree.quotas:
        _write_stats(tree, top)


def _write_stats(tree: KeyTree, top: str) -> None:
    path = f"{ROOT}{top}/{STATS}"
    if path in tree.nodes:
        tree.overwrite(path, tree.quotas[top].stats)


def _count(tree: KeyTree, top: str) -> tuple[int, int]:
    """Keys and bytes at and below a path."""
    count = size = 0
    waiting = [top] if top in tree.nodes and not _is_system(top) else []
    while waiting:
        node = tree.nodes[waiting.pop()]
        count += 1
        size += len(node.data)
        # In no order: they are added up.
        waiting.extend(node.children or ())
    return count, size


def _above(tree: KeyTree, path: str) -> Iterator[tuple[str, Quota]]:
    """The quotas that a key counts under, the nearest first."""
    if not _is_system(path):
        while path:
            quota = tree.quotas.get(path)
            if quota is not None:
                yield path, quota
            path = path[: path.rindex("/")]


def _is_system(path: str) -> bool:
    return path.startswith(_SYSTEM) and (len(path) == len(_SYSTEM) or path[len(_SYSTEM)] == "/")
