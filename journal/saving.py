"""What goes to the disk, one save at a time, and the replies that wait for it.

Whatever the core wants saved while a save is under way is merged and goes into the next one: group commit
without a timer. Replies are let go when the saves before them are durable, in order. Called by `replica.py` only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from journal.raft.messages import Message
from journal.raft.ready import Ready
from journal.storage.store import Store
from journal.storage.worker import Worker
from journal.values import Entry, HardState, NodeId

Replies = list[tuple[NodeId, Message]]


@dataclass(slots=True)
class _Save:
    """What goes to the disk together: the Readies from `first` to `number`."""

    first: int
    number: int
    hard_state: HardState | None
    entries: list[Entry]


class Saving:
    """The saves of one replica. `on_saved` is told the number of the newest Ready that is durable, or the error."""

    def __init__(
        self,
        store: Store,
        worker: Worker,
        send: Callable[[NodeId, Message], None],
        has_nothing_else: Callable[[], bool],
        on_saved: Callable[[int, BaseException | None], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._send = send
        self._has_nothing_else = has_nothing_else
        self._on_saved = on_saved
        self._under_way: _Save | None = None
        self._queued: _Save | None = None
        """What goes into the next save."""
        self._held: deque[tuple[int, Replies]] = deque()
        """Replies, with the number of the Ready they came in."""
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Everything that was to be saved is durable."""
        return self._under_way is None and self._queued is None

    def stop(self) -> None:
        """Begin no other save. What is queued is not durable, and nobody is ever told that it is."""
        self._stopped = True

    def take(self, ready: Ready) -> None:
        """Save what `ready` wants saved, and let its replies go when that and all before it is durable."""
        if ready.must_save:
            self._merge(ready)
            if self._under_way is None:
                self._submit()
        if ready.replies:
            if self.idle:
                self._let_go(ready.replies)
            else:
                self._held.append((ready.number, ready.replies))

    def _merge(self, ready: Ready) -> None:
        queued = self._queued
        if queued is None:
            self._queued = _Save(ready.number, ready.number, ready.hard_state, ready.entries)
            return
        if ready.entries:
            # A new leader's entries may replace some that were not even written yet.
            first = ready.entries[0].first
            queued.entries = [entry for entry in queued.entries if entry.first < first] + ready.entries
        queued.hard_state = ready.hard_state or queued.hard_state
        queued.number = ready.number

    def _submit(self) -> None:
        save = self._queued
        assert save is not None
        self._queued = None
        self._under_way = save
        # Two hand-overs between threads are a third of a small save's cost on a node that only follows.
        here = self._has_nothing_else()
        self._worker.submit(lambda: self._store.save(save.hard_state, save.entries), self._done, here=here)

    def _done(self, _: None, error: BaseException | None) -> None:
        saved = self._under_way
        assert saved is not None
        self._under_way = None
        if error is None:
            if self._queued is not None and not self._stopped:
                self._submit()
            # Replies of a Ready that saved nothing itself wait for the saves before it, not for those behind it.
            held, next_save = self._held, self._under_way or self._queued
            while held and (next_save is None or held[0][0] < next_save.first):
                self._let_go(held.popleft()[1])
        self._on_saved(saved.number, error)

    def _let_go(self, replies: Replies) -> None:
        for peer, message in replies:
            self._send(peer, message)
