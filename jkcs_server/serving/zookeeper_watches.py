"""The watches of one client of ZooKeeper's protocol, on top of the server's hub.

ZooKeeper knows a watch by its path and its kind; the hub knows it by a number. Here the one becomes the other, what a
client has already is not registered twice, and a client with several watches on a key hears of each event once.
Called by `zookeeper` and `zookeeper_reads`.
"""

from __future__ import annotations

from collections.abc import Sequence

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import BadArguments, ProtocolError
from jkcs_client.protocol.messages import PATH_BYTES_MAX, WATCHES_PER_CONNECTION_MAX, EventKind, WatchMode
from jkcs_server.serving.watches import Watcher, WatchHub
from jkcs_server.tree.keytree import KeyTree

_CREATED = int(EventKind.CREATED)
_DELETED = int(EventKind.DELETED)
_CHANGED = int(EventKind.CHANGED)
_CHILDREN_CHANGED = int(EventKind.CHILDREN)

DATA = 0
CHILDREN = 1
PERSISTENT = 2
RECURSIVE = 3
_KINDS = 4
_MODES = (
    int(WatchMode.ONCE),
    int(WatchMode.ONCE_CHILDREN),
    int(WatchMode.PERSISTENT),
    int(WatchMode.RECURSIVE),
)
"""How the hub calls the four kinds."""
_OF_TYPE = {
    zk.WATCHER_CHILDREN: (CHILDREN,),
    zk.WATCHER_DATA: (DATA,),
    zk.WATCHER_ANY: (DATA, CHILDREN, PERSISTENT, RECURSIVE),
    zk.WATCHER_PERSISTENT: (PERSISTENT,),
    zk.WATCHER_RECURSIVE: (RECURSIVE,),
}

Told = tuple[int, str]
"""Kind and path of an event."""


class ZooKeeperWatches:
    """By path and kind."""

    __slots__ = ("_ids", "_last", "_last_number", "_next", "_watcher", "hub")

    def __init__(self, hub: WatchHub, watcher: Watcher) -> None:
        self.hub = hub
        self._watcher = watcher
        self._ids: tuple[dict[str, int], ...] = ({}, {}, {}, {})
        """For each kind, path -> the hub's number: a multiple of four and the kind."""
        self._next = _KINDS
        self._last: list[Told] = []
        """What was told of the hub's last event."""
        self._last_number = 0

    def __len__(self) -> int:
        return sum(map(len, self._ids))

    def add(self, kind: int, path: str) -> None:
        """From now on. Raises BadArguments when it is one too many, or on no path that a key could have."""
        ids = self._ids[kind]
        if self._holds(ids.get(path)):
            return
        if len(self) >= WATCHES_PER_CONNECTION_MAX:
            raise BadArguments(f"at most {WATCHES_PER_CONNECTION_MAX} watches on one connection")
        if len(path) > PATH_BYTES_MAX:
            raise BadArguments(f"a watch on a path of {len(path)} characters")
        watch_id = self._next + kind
        self._next += _KINDS
        ids[path] = watch_id
        self.hub.add(self._watcher, watch_id, path, _MODES[kind], 0)

    def has(self, kind: int, path: str) -> bool:
        """Whether there is one of this type. Raises ProtocolError for a type that is none."""
        return any(self._holds(self._ids[each].get(path)) for each in _kinds_of(kind))

    def remove(self, kind: int, path: str) -> bool:
        """Forget those of this type. False when there was none. Raises ProtocolError for a type that is none."""
        found = False
        for each in _kinds_of(kind):
            watch_id = self._ids[each].pop(path, None)
            if watch_id is not None and self.hub.remove(self._watcher, watch_id):
                found = True
        return found

    def _holds(self, watch_id: int | None) -> bool:
        # The hub is asked, because it does not tell of a watch that was used up by what the client may not see.
        return watch_id is not None and self.hub.holds(self._watcher, watch_id)

    def fired(self, watch_id: int, kind: int, path: str) -> bool:
        """The hub tells of an event. True when the client has not been told of it for another watch."""
        mode = watch_id % _KINDS
        if mode <= CHILDREN:
            # The hub has forgotten it; its path is the event's.
            self._ids[mode].pop(path, None)
        if self._last_number != self.hub.event_number:
            self._last_number = self.hub.event_number
            self._last.clear()
        if (kind, path) in self._last:
            return False
        self._last.append((kind, path))
        return True

    def set_again(self, tree: KeyTree, since: int, lists: Sequence[Sequence[str]]) -> list[Told]:
        """The watches of a client that was away since index `since`: data, exists, children, persistent, recursive.

        Returns what it missed; those watches are not set.
        """
        missed: list[Told] = []
        data, exists, children, persistent, recursive = lists
        for path in data:
            node = tree.find(path)
            if node is None:
                missed.append((_DELETED, path))
            elif node.mzxid > since:
                missed.append((_CHANGED, path))
            else:
                self.add(DATA, path)
        for path in exists:
            if tree.find(path) is not None:
                missed.append((_CREATED, path))
            else:
                self.add(DATA, path)
        for path in children:
            node = tree.find(path)
            if node is None:
                missed.append((_DELETED, path))
            elif node.pzxid > since:
                missed.append((_CHILDREN_CHANGED, path))
            else:
                self.add(CHILDREN, path)
        for path in persistent:
            self.add(PERSISTENT, path)
        for path in recursive:
            self.add(RECURSIVE, path)
        return missed


def _kinds_of(kind: int) -> tuple[int, ...]:
    kinds = _OF_TYPE.get(kind)
    if kinds is None:
        raise ProtocolError(f"watches of type {kind}")
    return kinds
