"""The watches of one client, and how they go on over reconnections without a gap and without a double.

The server sends events in log order, and has sent every event of all watches up to the index of any answer it
gives. So after a reconnection a watch is registered from the last index that is known to be complete. An
event alone does not complete its index: a transaction makes several events with one index, and the connection
may have broken between them. Those of them that came already are counted, and skipped when they come again.

Bytes and time are not known here. Called by `connection`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from jkcs_client.protocol.errors import OK, Compacted
from jkcs_client.protocol.messages import WatchMode

RawEvent = tuple[int, str, int]
"""(kind, path as the server names it, index)"""

_ONCE = (WatchMode.ONCE, WatchMode.ONCE_CHILDREN)


def _nobody() -> None:
    """Nobody waits."""


class Watch:
    """One watch. Its owner reads `buffer`, then `code`."""

    __slots__ = (
        "_last_count",
        "_last_index",
        "_skip",
        "buffer",
        "buffer_max",
        "code",
        "detail",
        "mode",
        "path",
        "registered",
        "since",
        "wake",
        "watch_id",
    )

    def __init__(self, path: str, mode: WatchMode, since: int, buffer_max: int) -> None:
        self.watch_id = 0
        """Given by the table."""
        self.path = path
        self.mode = mode
        self.since = since
        """Register for events above this index; 0: from the answer on."""
        self.registered = False
        """This connection's server has answered the registration."""
        self.buffer: deque[RawEvent] = deque()
        """Events that the owner has not taken. Invariant: len(buffer) <= buffer_max."""
        self.buffer_max = buffer_max
        self.code = OK
        """Not OK: no event follows those in the buffer, for the reason in `detail`."""
        self.detail = ""
        self.wake: Callable[[], None] = _nobody
        """Called by the driver when any of the above has changed."""
        self._last_index = 0
        self._last_count = 0
        """How many events with `_last_index` have come."""
        self._skip = 0
        """How many events with `_last_index` are still to come a second time."""

    @property
    def once(self) -> bool:
        """Whether it is over with its first event."""
        return self.mode in _ONCE

    def on_registered(self, index: int) -> None:
        """The server has taken it, at this index."""
        self.registered = True
        self.since = self.since or index

    def on_event(self, kind: int, path: str, index: int) -> bool:
        """Take an event. False when the watch is over with it."""
        if index == self._last_index and self._skip:
            self._skip -= 1
            return True
        if index != self._last_index:
            self._last_index = index
            self._last_count = 0
            self._skip = 0
        self._last_count += 1
        if len(self.buffer) >= self.buffer_max:
            # Never a silent loss: what is in the buffer is still handed out, then the gap is named.
            self.end(Compacted.code, f"the watch's buffer of {self.buffer_max} events was full at index {index}")
            return False
        self.buffer.append((kind, path, index))
        return not self.once

    def resume(self, complete: int) -> None:
        """Prepare to be registered with another server; every event up to `complete` has come."""
        if self.registered:
            self.since = max(self.since, complete)
        self.registered = False
        if self._last_index:
            # An event of this index came, so all below it did.
            self.since = max(self.since, self._last_index - 1)
        self._skip = self._last_count if self._last_index > self.since else 0

    def end(self, code: int, detail: str) -> None:
        """No event follows those in the buffer."""
        self.code = code
        self.detail = detail


class WatchTable:
    """All watches of a client that are not over."""

    def __init__(self) -> None:
        self._watches: dict[int, Watch] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._watches)

    def __contains__(self, watch: Watch) -> bool:
        return self._watches.get(watch.watch_id) is watch

    def add(self, watch: Watch) -> None:
        """Take a new watch in, and give it its id."""
        self._last_id += 1
        watch.watch_id = self._last_id
        self._watches[watch.watch_id] = watch

    def remove(self, watch: Watch) -> None:
        """Forget a watch, if it is there."""
        self._watches.pop(watch.watch_id, None)

    def deliver(self, watch_id: int, kind: int, path: str, index: int) -> Watch | None:
        """Hand an event to its watch. None when that watch is gone: its last events may still be on their way."""
        watch = self._watches.get(watch_id)
        if watch is not None and not watch.on_event(kind, path, index):
            self.remove(watch)
        return watch

    def resume(self, complete: int) -> list[Watch]:
        """All watches, in the order in which they were made, to be registered again."""
        watches = list(self._watches.values())
        for watch in watches:
            watch.resume(complete)
        return watches

    def end_all(self, code: int, detail: str) -> list[Watch]:
        """The session is over."""
        watches = list(self._watches.values())
        for watch in watches:
            watch.end(code, detail)
        self._watches.clear()
        return watches
