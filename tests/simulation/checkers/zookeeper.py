"""What one client of ZooKeeper's protocol was told in one session, against the replayed log (I12, I14, S2, S4, W1-W12).

Follows answers and events in the order in which the client took them in, over all connections of the session. Answers
and events are at a zxid, and none goes back; a read is the state at its zxid; an event comes once, for a watch that is
there, and before any answer that shows the state after it; what happened while the client was away is told when its
watches are set again. Told by the client; knows nothing of how it is connected.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from enum import IntEnum
from typing import Any

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.messages import EventKind
from jkcs_client.values import Stat
from tests.simulation.checkers.annals import GhostEvent
from tests.simulation.checkers.answers import AnswerChecker
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.checkers.watches import is_below
from tests.simulation.trace import Violation
from tests.support import jute_client as jute

_CREATED, _DELETED = int(EventKind.CREATED), int(EventKind.DELETED)
_CHANGED, _CHILDREN = int(EventKind.CHANGED), int(EventKind.CHILDREN)


class Watch(IntEnum):
    """The lists in which a client keeps its watches; in the order in which it sets them again."""

    DATA = 0
    EXISTS = 1
    """Of keys that were not there."""
    CHILDREN = 2
    PERSISTENT = 3
    RECURSIVE = 4


_OF_TYPE = {
    zk.WATCHER_CHILDREN: (Watch.CHILDREN,),
    zk.WATCHER_DATA: (Watch.DATA, Watch.EXISTS),
    zk.WATCHER_ANY: tuple(Watch),
    zk.WATCHER_PERSISTENT: (Watch.PERSISTENT,),
    zk.WATCHER_RECURSIVE: (Watch.RECURSIVE,),
}
_USED_UP = {
    _CREATED: (Watch.DATA, Watch.EXISTS),
    _CHANGED: (Watch.DATA, Watch.EXISTS),
    _DELETED: (Watch.DATA, Watch.EXISTS, Watch.CHILDREN),
    _CHILDREN: (Watch.CHILDREN,),
}
"""Kind of an event -> the watches of its path that it ends."""
_READS = (zk.GET_DATA, zk.EXISTS, zk.GET_CHILDREN2)


class SessionLog:
    """One session. All methods but `set_again` raise Violation."""

    def __init__(self, who: str, ghost: GhostTree, answers: AnswerChecker) -> None:
        self._who = who
        self._ghost = ghost
        self._answers = answers
        self._events = ghost.annals.events
        """All events of the run, in log order; grows."""
        self._place = 0
        """Of the first event that was not looked at yet."""
        self._due: deque[GhostEvent] = deque()
        """What the event before that place must still be told as."""
        self._watches: dict[Watch, dict[str, None]] = {watch: {} for watch in Watch}
        self._made_up: list[tuple[int, str]] | None = None
        """What was told for the watches that are being set again; None: none are."""
        self._seen = 0
        """The newest zxid of an answer ..."""
        self._told = 0
        """... and of an event."""
        self.last_zxid = 0
        """The newest zxid of an answer other than to a ping: what a client says that it has seen."""

    def set_again(self) -> list[list[str]] | None:
        """A new connection has the session; the watches that the client now sets again, or None."""
        self._due.clear()
        self._made_up = None
        lists = [sorted(self._watches[watch]) for watch in Watch]
        if not any(lists):
            return None
        self._made_up = []
        return lists

    def on_event(self, kind: int, path: str, zxid: int) -> None:
        event = GhostEvent(zxid, kind, path)
        if zxid == zk.NO_ZXID:
            if self._made_up is None:
                raise Violation("W12", f"{self._who} was told {event} and does not set its watches again")
            self._made_up.append((kind, path))
            return
        if self._made_up is not None:
            raise Violation("W2", f"{self._who} was told {event} while its watches are being set again")
        if zxid <= self._seen or zxid < self._told:
            raise Violation("W2", f"{self._who} was told {event} after an answer at {self._seen}")
        due = self._next_due(zxid)
        if due != event:
            raise Violation("W12" if due is None else "W7", f"{self._who} was told {event} where {due} was due")
        self._due.popleft()
        self._told = zxid
        self._use_up(kind, path)

    def on_answer(self, op: int, path: str, argument: Any, answer: jute.Answer) -> None:
        """`argument`: whether a read sets a watch; the mode or type of a request about watches; the lists that are set
        again; the session of a request that is about it."""
        zxid = answer.zxid
        what = f"{self._who}: {zk.OP_NAMES.get(op, op)} {path}"
        if op == zk.SET_WATCHES2:
            self._on_set_again(argument, answer)
        self._answers.check_index(what, zxid, max(self._seen, self._told))
        if zxid > self._ghost.applied:
            raise Violation("I12", f"{what} was answered at {zxid}, with {self._ghost.applied} applied anywhere")
        due = self._next_due(zxid)
        if due is not None:
            raise Violation("W10", f"{what} was answered at {zxid} before the event {due}")
        self._seen = zxid
        if op != zk.PING:
            self.last_zxid = zxid
        self._check(what, op, path, argument, answer)
        self._register(op, path, argument, answer.error)

    def on_ended(self, session: int) -> None:
        """The client was told that its session is over."""
        if not self._ghost.is_closed(session):
            raise Violation("S2", f"{self._who} was told that session {session} is over, and it is not")

    # Answers.

    def _check(self, what: str, op: int, path: str, argument: Any, answer: jute.Answer) -> None:
        zxid, error, value = answer.zxid, answer.error, answer.value
        if op in _READS:
            if error not in (zk.OK, zk.NO_NODE):
                raise Violation("I14", f"{what} was answered {error}")
            self._check_read(what, op, path, zxid, value)
        elif op == zk.CREATE2 and not error:
            self._answers.check_stat(what, value[0], zxid, as_stat(value[1], zxid))
        elif op == zk.SET_DATA and not error:
            self._answers.check_stat(what, path, zxid, as_stat(value, zxid))
        elif op == zk.DELETE and not error:
            state = self._ghost.annals.state_at(path, zxid)
            if state.value is not None or state.index != zxid:
                raise Violation("I12", f"{what} was acknowledged at {zxid}, where it was {state}")
        elif op == zk.GET_EPHEMERALS:
            self._check_ephemerals(what, path, argument, zxid, value)
        elif op == zk.CHECK_WATCHES:
            has = any(path in self._watches[watch] for watch in _OF_TYPE[argument])
            if error != (zk.OK if has else zk.NO_WATCHER):
                raise Violation("W1", f"{what} of type {argument} was answered {error}; there are {self._watches}")
        elif op == zk.CLOSE_SESSION:
            self.on_ended(argument)
            self._check_no_ephemerals(argument, zxid)

    def _check_read(self, what: str, op: int, path: str, zxid: int, value: Any) -> None:
        """It is the state at its zxid, with all its numbers."""
        stat = None if value is None else as_stat(value if op == zk.EXISTS else value[1], zxid)
        self._answers.check_stat(what, path, zxid, stat)
        if op == zk.GET_DATA and value is not None:
            self._answers.check_read(what, path, zxid, value[0], value[1].version)
        if op == zk.GET_CHILDREN2 and value is not None:
            self._answers.check_children(what, path, sorted(value[0]), zxid, zxid)

    def _check_ephemerals(self, what: str, prefix: str, session: int, zxid: int, value: list[str]) -> None:
        true = [path for path in self._owned(session, zxid) if path.startswith(prefix)]
        if sorted(value) != true:
            raise Violation("E4", f"{what}: session {session} owned {true} at {zxid}, and was told {value}")

    def _check_no_ephemerals(self, session: int, zxid: int) -> None:
        left = self._owned(session, zxid)
        if left:
            raise Violation("E2", f"{self._who} closed session {session} at {zxid}, which leaves {left}")

    def _owned(self, session: int, zxid: int) -> list[str]:
        annals = self._ghost.annals
        return sorted(path for path in annals.histories if annals.state_at(path, zxid).owner == session)

    # Watches.

    def _register(self, op: int, path: str, argument: Any, error: int) -> None:
        watches = self._watches
        if op == zk.EXISTS and argument:
            watches[Watch.EXISTS if error else Watch.DATA][path] = None
        elif error:
            return
        elif op == zk.GET_DATA and argument:
            watches[Watch.DATA][path] = None
        elif op == zk.GET_CHILDREN2 and argument:
            watches[Watch.CHILDREN][path] = None
        elif op == zk.ADD_WATCH:
            watches[Watch.RECURSIVE if argument == zk.WATCH_RECURSIVE else Watch.PERSISTENT][path] = None
        elif op == zk.REMOVE_WATCHES:
            for watch in _OF_TYPE[argument]:
                watches[watch].pop(path, None)

    def _on_set_again(self, since: int, answer: jute.Answer) -> None:
        """What was missed is told, of every watch and of nothing else; the others are there again."""
        told, self._made_up = self._made_up, None
        assert told is not None and not answer.error, answer
        true = list(self._missed(since, answer.zxid))
        if told != true:
            raise Violation(
                "W6", f"{self._who} set its watches again at {answer.zxid}, having seen {since},"
                f" and was told {told} for {true}"
            )  # fmt: skip
        for kind, path in told:
            self._use_up(kind, path)
        self._place = bisect_right(self._events, answer.zxid, key=lambda event: event.index)

    def _missed(self, since: int, now: int) -> list[tuple[int, str]]:
        annals, watches = self._ghost.annals, self._watches
        missed: list[tuple[int, str]] = []
        for path in sorted(watches[Watch.DATA]):
            state = annals.state_at(path, now)
            if state.value is None:
                missed.append((_DELETED, path))
            elif state.mzxid > since:
                missed.append((_CHANGED, path))
        missed += [(_CREATED, path) for path in sorted(watches[Watch.EXISTS]) if annals.listing_at(path, now)]
        for path in sorted(watches[Watch.CHILDREN]):
            listing = annals.listing_at(path, now)
            if listing is None:
                missed.append((_DELETED, path))
            elif listing.pzxid > since:
                missed.append((_CHILDREN, path))
        return missed

    def _next_due(self, up_to: int) -> GhostEvent | None:
        """What must be told next, of what happened up to a zxid."""
        events = self._events
        while not self._due and self._place < len(events) and events[self._place].index <= up_to:
            self._due += self._notifications(events[self._place])
            self._place += 1
        return self._due[0] if self._due else None

    def _notifications(self, event: GhostEvent) -> list[GhostEvent]:
        """What the client is to hear of one event: of the key and then of its parent, once of each."""
        told = []
        watches, kind, path = self._watches, event.kind, event.path
        kinds = [watch for watch in (*_USED_UP[kind], Watch.PERSISTENT) if path in watches[watch]]
        if kinds or any(is_below(path, top) for top in watches[Watch.RECURSIVE]):
            told.append(event)
        parent = path.rpartition("/")[0] or "/"
        if kind in (_CREATED, _DELETED) and (parent in watches[Watch.CHILDREN] or parent in watches[Watch.PERSISTENT]):
            told.append(GhostEvent(event.index, _CHILDREN, parent))
        return told

    def _use_up(self, kind: int, path: str) -> None:
        for watch in _USED_UP[kind]:
            self._watches[watch].pop(path, None)


def as_stat(stat: jute.Stat, zxid: int) -> Stat:
    """The same numbers under the names of the native client."""
    return Stat(
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime,
        stat.mtime,
        stat.version,
        stat.cversion,
        stat.owner,
        stat.length,
        stat.children,
        zxid,
    )
