"""What goes to the disk, one save at a time, and the replies that wait for it.

Whatever the core wants saved while a save is under way is merged and goes into the next one: group commit
without a timer. Replies are let go when the saves before them are durable, in order. Called by `replica.py` only.

When the disk is full, what could not be saved waits in `room.py` for the next try, and all that comes meanwhile
is merged into it. Term and vote are saved even then, and votes, which promise nothing else, are let go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from journal.errors import DiskFull
from journal.raft.messages import AppendReply, Message, VoteReply
from journal.raft.ready import Ready
from journal.room import Room
from journal.storage.store import Store
from journal.storage.worker import Worker
from journal.values import Entry, HardState, Index, NodeId

Replies = list[tuple[NodeId, Message]]
HELD_MAX = 4096
"""Readys whose replies wait for a full disk; beyond it the oldest are dropped, as a network may."""


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
        room: Room,
        send: Callable[[NodeId, Message], None],
        has_nothing_else: Callable[[], bool],
        on_saved: Callable[[int, BaseException | None], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._room = room
        self._send = send
        self._has_nothing_else = has_nothing_else
        self._on_saved = on_saved
        self._under_way: _Save | None = None
        self._queued: _Save | None = None
        """What goes into the next save."""
        self._waiting = False
        """The disk is full: `_queued` is tried again when the room says so. Till then only term and vote are saved."""
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
                self._submit_next()
        if ready.replies:
            if self.idle:
                self._let_go(ready.replies)
            else:
                self._held.append((ready.number, ready.replies))
                if self._waiting and len(self._held) > HELD_MAX:
                    self._held.popleft()

    def _merge(self, ready: Ready) -> None:
        save = _Save(ready.number, ready.number, ready.hard_state, ready.entries)
        queued = self._queued
        if queued is None:
            self._queued = save
            return
        if queued.entries and save.entries and save.entries[0].first <= queued.entries[-1].last:
            self._forget_acknowledgements(save.entries[0].first)
        self._queued = _merged(queued, save)

    def _forget_acknowledgements(self, first: Index) -> None:
        """Entries from `first` on were replaced before they were written: nobody may hear that this disk has them.
        The leader who asked has been succeeded, and its successor asks for itself."""
        for _, replies in self._held:
            replies[:] = [
                (peer, message)
                for peer, message in replies
                if type(message) is not AppendReply or message.refused or message.match < first
            ]

    def _submit_next(self) -> None:
        """Save what is queued; on a full disk only the part that has its room."""
        if self._queued is None or self._stopped:
            return
        if not self._waiting:
            self._submit()
        elif self._queued.hard_state is not None:
            self._submit_hard_state(self._queued)

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
        if isinstance(error, DiskFull):
            self._queued = saved if self._queued is None else _merged(saved, self._queued)
            self._waiting = True
            self._room.wait(error, self._try_again)
            self._submit_next()
            return
        if error is None:
            self._room.found()
            if self._queued is not None and not self._stopped:
                self._submit()
            # Replies of a Ready that saved nothing itself wait for the saves before it, not for those behind it.
            held, next_save = self._held, self._under_way or self._queued
            while held and (next_save is None or held[0][0] < next_save.first):
                self._let_go(held.popleft()[1])
        self._on_saved(saved.number, error)

    def _try_again(self) -> None:
        self._waiting = False
        if self._under_way is None:
            self._submit_next()

    def _submit_hard_state(self, queued: _Save) -> None:
        """Of what waits for room, save what needs none."""
        save = _Save(queued.first, queued.number, queued.hard_state, [])
        queued.hard_state = None
        self._under_way = save
        self._worker.submit(lambda: self._store.save(save.hard_state, []), self._hard_state_done)

    def _hard_state_done(self, _: None, error: BaseException | None) -> None:
        saved, queued = self._under_way, self._queued
        assert saved is not None and queued is not None
        self._under_way = None
        if isinstance(error, DiskFull):
            # A file system that copies on write: it waits with the rest.
            queued.hard_state = queued.hard_state or saved.hard_state
            if not self._waiting:
                self._submit_next()
        elif error is not None:
            self._on_saved(saved.number, error)
        else:
            for number, replies in self._held:
                if number <= saved.number:
                    self._let_go([reply for reply in replies if isinstance(reply[1], VoteReply)])
                    replies[:] = [reply for reply in replies if not isinstance(reply[1], VoteReply)]
            self._submit_next()

    def _let_go(self, replies: Replies) -> None:
        for peer, message in replies:
            self._send(peer, message)


def _merged(save: _Save, later: _Save) -> _Save:
    """One save for both. The entries of a new leader may replace some that were never written."""
    entries = save.entries
    if later.entries:
        first = later.entries[0].first
        entries = [entry for entry in entries if entry.first < first] + later.entries
    return _Save(save.first, later.number, later.hard_state or save.hard_state, entries)
