"""Watches: every event once, in order, without a gap, and before the data it tells of (W1-W13).

Compares what one client's watch delivered with the events of the replayed log. What is wrong has its name:

    W1 filter       an event of a key that is not watched
    W2 order        an event from before one that was delivered
    W3 unique       an event a second time
    W4 atomic       a part of what one command did
    W5 bookmark     an index said to be complete, and events up to it missing
    W6 resume       a gap between a watch and the one that goes on from its index
    W7 reliable     a gap in the middle
    W9 kind         created for changed, or the like
    W10 before data state was shown before the events that made it
    W11 one shot    not the first event, or two
    W12 the log     what never happened, or not in the order of the log
    W13 compaction  a gap that is longer than the history, and was not named
    W14 rights      an event of a key that the watcher may not read

W8 (previous values) has no counterpart here: events carry no values.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from tests.simulation.checkers.annals import GhostEvent
from tests.simulation.checkers.rights import READ, Ids, allowed
from tests.simulation.trace import Violation


class WatchLog:
    """One recursive watch of one client, registered for the events above `since`."""

    def __init__(
        self,
        client: str,
        path: str,
        since: int,
        events: Sequence[GhostEvent],
        *,
        history: int = 1 << 60,
        ids: Ids = frozenset(),
    ) -> None:
        self._client = client
        self._path = path
        self._events = events
        """All events of the run, in log order; grows."""
        self._history = history
        """How many events a server keeps for watches that come back."""
        self._ids = ids
        """Who the client has proved to be."""
        self._first = self._next = bisect_right(events, since, key=lambda event: event.index)
        """Place of the first event that was not delivered yet, or of one that this watch does not see."""
        self._last = since
        """Index of the last event delivered; `since` before the first."""
        self.complete = since
        """Everything up to here was delivered: where another watch may go on."""
        self.delivered = 0

    def on_event(self, kind: int, path: str, index: int) -> None:
        """The watch delivered an event: it must be the next one."""
        self._skip_foreign()
        due = self._events[self._next] if self._next < len(self._events) else None
        if due is None or (due.kind, due.path, due.index) != (kind, path, index):
            self._complain(GhostEvent(index, kind, path), due)
        # More events of this very index may come.
        self.complete = max(self.complete, index - 1)
        self._next += 1
        self._last = index
        self.delivered += 1

    def check_seen_up_to(self, index: int, what: str, invariant: str = "W10") -> None:
        """The client was shown state as of `index`: every event up to there must have been delivered."""
        self._skip_foreign()
        if self._next < len(self._events) and self._events[self._next].index <= index:
            raise Violation(
                invariant, f"{self._client}: {what} as of {index} came before the event {self._events[self._next]}"
            )
        self.complete = max(self.complete, index)

    def _complain(self, told: GhostEvent, due: GhostEvent | None) -> None:
        """Say what kind of mistake it is that `told` came where `due` was next."""
        text = f"{self._client} was told of {told} where {due} was due"
        if not is_below(told.path, self._path):
            raise Violation("W1", f"{text}, and watches {self._path}")
        place = self._place(told)
        if place is not None and not self._may_see(self._events[place]):
            raise Violation("W14", f"{text}; the list was {self._events[place].acl}")
        if place is None:
            other = _first(self._events, told.index - 1, lambda one: one.path == told.path)
            if other is not None and other.index == told.index:
                raise Violation("W9", f"{text}; the log has {other}")
            raise Violation("W12", f"{text}; the log has no such event")
        if self._first <= place < self._next:
            raise Violation("W3" if told.index == self._last else "W2", f"{text}; it was delivered before")
        if place < self._first:
            raise Violation("W2", f"{text}; the watch began behind it")
        assert due is not None and place > self._next, (place, self._next)
        if told.index == due.index:
            raise Violation("W12", f"{text}; both are of one command")
        if due.index == self._last:
            raise Violation("W4", f"{text}; the rest of what index {self._last} did is missing")
        if len(self._events) - self._next > self._history:
            raise Violation("W13", f"{text}; the history is gone, and nobody said so")
        raise Violation("W7" if self.delivered else "W6", text)

    def _place(self, event: GhostEvent) -> int | None:
        """Where in the log an event stands."""
        at = bisect_right(self._events, event.index - 1, key=lambda one: one.index)
        while at < len(self._events) and self._events[at].index == event.index:
            one = self._events[at]
            if (one.kind, one.path) == (event.kind, event.path):
                return at
            at += 1
        return None

    def _skip_foreign(self) -> None:
        while self._next < len(self._events) and not self._is_due(self._events[self._next]):
            self._next += 1

    def _is_due(self, event: GhostEvent) -> bool:
        return is_below(event.path, self._path) and self._may_see(event)

    def _may_see(self, event: GhostEvent) -> bool:
        return allowed(event.acl, READ, self._ids)


def check_one_shot(
    client: str, path: str, since: int, seen: tuple[int, str, int], events: Sequence[GhostEvent]
) -> None:
    """A one-shot watch reports the first event of its key after `since`, and no other (W11)."""
    first = _first(events, since, lambda event: event.path == path)
    if first is None or (first.kind, first.path, first.index) != seen:
        raise Violation("W11", f"{client} waited for {path} from {since} on and was told {seen}, not {first}")


def check_nothing_missed(client: str, path: str, since: int, complete: int, events: Sequence[GhostEvent]) -> None:
    """A one-shot watch that has been silent up to `complete` had nothing to tell (W11)."""
    first = _first(events, since, lambda event: event.path == path)
    if first is not None and first.index <= complete:
        raise Violation("W11", f"{client} waits for {path} from {since} on and has not heard of {first} at {complete}")


def is_below(path: str, top: str) -> bool:
    """Whether `path` is `top` or lies below it."""
    return path == top or top == "/" or path.startswith(top + "/")


def _first(events: Sequence[GhostEvent], since: int, wanted: Callable[[GhostEvent], bool]) -> GhostEvent | None:
    for place in range(bisect_right(events, since, key=lambda event: event.index), len(events)):
        if wanted(events[place]):
            return events[place]
    return None
