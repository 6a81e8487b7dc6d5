"""Watches: every event once, in order, without a gap, and before the data it tells of (W1-W13).

Compares what one client's watch delivered with the events of the replayed log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from tests.simulation.checkers.ghost import GhostEvent
from tests.simulation.trace import Violation


class WatchLog:
    """One recursive watch of one client, registered for the events above `since`."""

    def __init__(self, client: str, path: str, since: int, events: Sequence[GhostEvent]) -> None:
        self._client = client
        self._path = path
        self._events = events
        """All events of the run, in log order; grows."""
        self._next = bisect_right(events, since, key=lambda event: event.index)
        """Place of the first event that was not delivered yet, or of one that this watch does not see."""
        self.delivered = 0

    def on_event(self, kind: int, path: str, index: int) -> None:
        """The watch delivered an event: it must be the next one."""
        self._skip_foreign()
        if self._next >= len(self._events):
            raise Violation("W", f"{self._client} was told of {kind} {path} at {index}, which never happened, or twice")
        due = self._events[self._next]
        if (due.kind, due.path, due.index) != (kind, path, index):
            raise Violation("W", f"{self._client} was told of {kind} {path} at {index} where {due} was due")
        self._next += 1
        self.delivered += 1

    def check_seen_up_to(self, index: int, what: str) -> None:
        """The client was shown state as of `index`: every event up to there must have been delivered (W10)."""
        self._skip_foreign()
        if self._next < len(self._events) and self._events[self._next].index <= index:
            raise Violation(
                "W10", f"{self._client}: {what} as of {index} came before the event {self._events[self._next]}"
            )

    def _skip_foreign(self) -> None:
        while self._next < len(self._events) and not is_below(self._events[self._next].path, self._path):
            self._next += 1


def check_one_shot(
    client: str, path: str, since: int, seen: tuple[int, str, int], events: Sequence[GhostEvent]
) -> None:
    """A one-shot watch reports the first event of its key after `since`, and no other (W11)."""
    first = _first(events, since, lambda event: event.path == path)
    if first is None or (first.kind, first.path, first.index) != seen:
        raise Violation("W11", f"{client} waited for {path} from {since} on and was told {seen}, not {first}")


def is_below(path: str, top: str) -> bool:
    """Whether `path` is `top` or lies below it."""
    return path == top or top == "/" or path.startswith(top + "/")


def _first(events: Sequence[GhostEvent], since: int, wanted: Callable[[GhostEvent], bool]) -> GhostEvent | None:
    for place in range(bisect_right(events, since, key=lambda event: event.index), len(events)):
        if wanted(events[place]):
            return events[place]
    return None
