"""Watches of this server's connections, and the recent events that let a watch start in the past.

Fed with every event of the tree in log order, between commands, so a watcher's event is queued before any
later answer on its connection. Watches are local to a server and not replicated: a client that changes
servers registers again with the last index it has seen, and gets from the history what it missed. Events
older than the history are never skipped in silence: the registration is refused as compacted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from jkcs_client.protocol.messages import EventKind, WatchMode
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.paths import parent_of

_CREATED = int(EventKind.CREATED)
_DELETED = int(EventKind.DELETED)
_CHILDREN = int(EventKind.CHILDREN)
_ONCE = int(WatchMode.ONCE)
_ONCE_CHILDREN = int(WatchMode.ONCE_CHILDREN)
_PERSISTENT = int(WatchMode.PERSISTENT)
_RECURSIVE = int(WatchMode.RECURSIVE)


class Watcher(Protocol):
    """A connection with watches."""

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None: ...

    def may_see(self, acl: Acl) -> bool:
        """Whether this connection may read a key with this list. Asked only where it is not the open one."""


class _Watch:
    __slots__ = ("mode", "path", "since", "watch_id", "watcher")

    def __init__(self, watcher: Watcher, watch_id: int, path: str, mode: int, since: int) -> None:
        self.watcher = watcher
        self.watch_id = watch_id
        self.path = path
        self.mode = mode
        self.since = since
        """Events up to here were seen by the client, perhaps on a server that is ahead of this one."""

    def reported(self, kind: int, path: str) -> tuple[int, str] | None:
        """What this watch makes of a key's event: (kind, path) to report, or None."""
        mine = self.path
        if self.mode == _RECURSIVE:
            below = path == mine or mine == "/" or path.startswith(mine + "/")
            return (kind, path) if below else None
        if path == mine:
            return (kind, path) if self.mode != _ONCE_CHILDREN or kind == _DELETED else None
        if self.mode != _ONCE and kind in (_CREATED, _DELETED) and parent_of(path) == mine:
            return _CHILDREN, mine
        return None

    @property
    def once(self) -> bool:
        return self.mode in (_ONCE, _ONCE_CHILDREN)


HistoryEvent = tuple[int, int, str, Acl | None, Acl | None]
"""Index, kind, path, and the lists that the key and its parent had."""
Key = tuple[int, int]
"""Identity of a watch: (number of its connection, watch id). Sorting by it makes the order of watchers stable."""


class WatchHub:
    """All watches of one server, and the history of events."""

    def __init__(self, history_max: int) -> None:
        self._history: deque[HistoryEvent] = deque(maxlen=history_max)
        """Oldest first, one per key event; children events are derived."""
        self._forgotten = 0
        """Every event with a higher index is in the history."""
        self._numbers: dict[Watcher, int] = {}
        self._next_number = 0
        self._by_connection: dict[Watcher, dict[int, _Watch]] = {}
        self._exact: dict[str, dict[Key, _Watch]] = {}
        """Watches by the path they stand on, all modes but recursive."""
        self._recursive: dict[str, dict[Key, _Watch]] = {}
        self.count = 0
        self.event_number = 0
        """Of the key event that is being told: what a watcher hears of one of them has one number."""

    def reset(self, index: int) -> None:
        """The tree jumped to `index` without telling its events: forget the history up to there."""
        self._history.clear()
        self._forgotten = index

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None = None, parent_acl: Acl | None = None) -> None:
        """One key event, in log order, with the lists that the key and its parent had."""
        self.event_number += 1
        history = self._history
        if len(history) == history.maxlen:
            self._forgotten = history[0][0]
        history.append((index, kind, path, acl, parent_acl))
        if self._exact:
            here = self._exact.get(path)
            if here:
                self._fire(here, kind, path, index, acl, parent_acl)
        if self._recursive:
            at = path
            while True:
                found = self._recursive.get(at)
                if found:
                    self._fire(found, kind, path, index, acl, parent_acl)
                if at == "/":
                    break
                at = parent_of(at)
        if self._exact and kind in (_CREATED, _DELETED):
            # Last, as in ZooKeeper: who watches both hears of the key before its parent.
            above = self._exact.get(parent_of(path))
            if above:
                self._fire(above, kind, path, index, acl, parent_acl)

    def _fire(
        self, watches: dict[Key, _Watch], kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None
    ) -> None:
        for _, watch in sorted(watches.items()) if len(watches) > 1 else list(watches.items()):
            reported = watch.reported(kind, path)
            if reported is not None and index > watch.since:
                if watch.once:
                    self.remove(watch.watcher, watch.watch_id)
                # A watch for one event is used up by one that may not be seen, as in ZooKeeper.
                seen = parent_acl if reported[0] == _CHILDREN else acl
                if seen is None or watch.watcher.may_see(seen):
                    watch.watcher.on_watch(watch.watch_id, *reported, index)

    def add(self, watcher: Watcher, watch_id: int, path: str, mode: int, since: int) -> bool:
        """Register a watch for events above `since` (0: from now on). False when the history is too short for it.

        Events above `since` that happened already are reported at once. A watch id in use is replaced.
        """
        if since and since < self._forgotten:
            return False
        self.remove(watcher, watch_id)
        watch = _Watch(watcher, watch_id, path, mode, since)
        if since:
            for index, kind, event_path, acl, parent_acl in self._since(since):
                reported = watch.reported(kind, event_path)
                if reported is not None:
                    seen = parent_acl if reported[0] == _CHILDREN else acl
                    if seen is None or watcher.may_see(seen):
                        watcher.on_watch(watch_id, *reported, index)
                    if watch.once:
                        return True
        number = self._numbers.get(watcher)
        if number is None:
            self._next_number += 1
            number = self._numbers[watcher] = self._next_number
        self._by_connection.setdefault(watcher, {})[watch_id] = watch
        table = self._recursive if mode == _RECURSIVE else self._exact
        table.setdefault(path, {})[(number, watch_id)] = watch
        self.count += 1
        return True

    def _since(self, since: int) -> list[HistoryEvent]:
        """The history's events above `since`, oldest first, without walking through the older ones."""
        found: list[HistoryEvent] = []
        for event in reversed(self._history):
            if event[0] <= since:
                break
            found.append(event)
        found.reverse()
        return found

    def count_of(self, watcher: Watcher) -> int:
        return len(self._by_connection.get(watcher, ()))

    def by_watcher(self) -> Iterator[tuple[Watcher, Iterator[str]]]:
        """Who watches, and the paths; for those who look. One path may come several times."""
        for watcher, watches in self._by_connection.items():
            if watches:
                yield watcher, (watch.path for watch in watches.values())

    def by_path(self) -> Iterator[tuple[str, Iterator[Watcher]]]:
        """What is watched, and by whom. A path comes twice when it is watched alone and with all below it."""
        for table in (self._exact, self._recursive):
            for path, watches in table.items():
                yield path, (watch.watcher for watch in watches.values())

    def path_count(self) -> int:
        """How many paths are watched."""
        return len(self._exact.keys() | self._recursive.keys()) if self._recursive else len(self._exact)

    def holds(self, watcher: Watcher, watch_id: int) -> bool:
        """Whether a watch is still there: one for a single event is gone after it, seen or not."""
        return watch_id in self._by_connection.get(watcher, ())

    def remove(self, watcher: Watcher, watch_id: int) -> bool:
        """Forget one watch. False when there was none."""
        mine = self._by_connection.get(watcher)
        watch = mine.pop(watch_id, None) if mine else None
        if watch is None:
            return False
        self._unlink(watch)
        return True

    def remove_all(self, watcher: Watcher) -> None:
        """The connection is gone."""
        for watch in self._by_connection.pop(watcher, {}).values():
            self._unlink(watch)
        self._numbers.pop(watcher, None)

    def _unlink(self, watch: _Watch) -> None:
        table = self._recursive if watch.mode == _RECURSIVE else self._exact
        here = table[watch.path]
        del here[(self._numbers[watch.watcher], watch.watch_id)]
        if not here:
            del table[watch.path]
        self.count -= 1
