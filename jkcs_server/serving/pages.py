"""The children of a key in pages, for directories that are too large for one answer.

A directory is a set, so a page of it must be found: by one pass over all children, which keeps the smallest names
above the mark. Whoever asks for a second page of the same directory, unchanged, is likely to go on; so then it is
sorted, once, and every further page costs no more than its own names. A directory that changes between any two pages
costs a pass for each of them, and is never sorted.

Knows nothing of permissions and of who asks: one for all connections of a server. Called by `native_reads`.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import nsmallest

from jkcs_server.tree.node import Node
from jkcs_server.tree.paths import ROOT

DIRECTORIES_MAX = 4
"""Directories that are kept sorted, or were asked for last."""
SMALL = 1000
"""A directory with no more children than this is sorted each time."""


class Pages:
    """Pages of directories, and what was sorted for them."""

    def __init__(self) -> None:
        self._recent: dict[str, tuple[int, int, list[str] | None]] = {}
        """By path, the one used longest ago first: creation index, index of the last change of its children, and its
        children's paths in order, or None before its second page."""

    def page(self, node: Node, after: str, limit: int) -> list[str]:
        """At most `limit` names of children above `after` ("": from the first), sorted."""
        children = node.children
        if not children:
            return []
        path = node.path
        start = len(path) + (path != ROOT)
        mark = f"{path if path != ROOT else ''}/{after}"
        if len(children) <= SMALL:
            chosen = sorted([child for child in children if child > mark])[:limit]
        else:
            ordered = self._ordered(node)
            if ordered is None:
                chosen = nsmallest(limit, (child for child in children if child > mark))
            else:
                at = bisect_right(ordered, mark)
                chosen = ordered[at : at + limit]
        return [child[start:] for child in chosen]

    def _ordered(self, node: Node) -> list[str] | None:
        """All children in order, when it is the second time that they are asked for as they are."""
        recent, path = self._recent, node.path
        czxid, pzxid, ordered = recent.pop(path, (-1, -1, None))
        if (czxid, pzxid) != (node.czxid, node.pzxid):
            ordered = None
        elif ordered is None:
            ordered = sorted(node.children or ())
        recent[path] = (node.czxid, node.pzxid, ordered)
        if len(recent) > DIRECTORIES_MAX:
            del recent[next(iter(recent))]
        return ordered
