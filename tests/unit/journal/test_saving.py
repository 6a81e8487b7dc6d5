"""What goes to the disk, and which replies wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from journal.raft.messages import AppendReply, Message, VoteReply
from journal.raft.ready import Ready
from journal.record import make_entry
from journal.room import Room
from journal.saving import Saving
from journal.storage.store import Store
from journal.storage.worker import Worker
from journal.values import Entry, EntryKind, HardState, Index, NodeId, Term

OLD, NEW = NodeId("old"), NodeId("new")


class HeldWorker:
    """A disk that takes its time: jobs end when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]] = []

    def submit(self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None], *, here: bool) -> None:
        self.jobs.append((job, done))

    def finish(self) -> None:
        job, done = self.jobs.pop(0)
        done(job(), None)


class FakeStore:
    """Remembers what it was told to save."""

    def __init__(self) -> None:
        self.saved: list[list[Entry]] = []

    def save(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        self.saved.append(entries)


class EmptyRoom:
    """There is always room."""

    def found(self) -> None:
        """Nobody waited for any."""


def test_what_was_replaced_before_it_was_written_is_not_acknowledged() -> None:
    """An old leader's entries wait for a slow disk, and a new leader's take their place: the acknowledgement of the
    old ones would leave with the new ones' save, and say of a disk what it never had (R2). A vote stays a vote."""
    worker, store, sent = HeldWorker(), FakeStore(), list[tuple[NodeId, Message]]()
    saving = Saving(
        cast("Store", store),
        cast("Worker", worker),
        cast("Room", EmptyRoom()),
        lambda peer, message: sent.append((peer, message)),
        lambda: False,
        lambda number, error: None,
    )
    replaced, last = ([make_entry(1, term, 0, EntryKind.NOOP, b"", 0)] for term in (2, 3))
    saving.take(Ready(1, HardState(Term(1)), []))
    old = [
        (OLD, AppendReply(Term(2), Index(1))),
        (OLD, VoteReply(Term(2), True)),
        (OLD, AppendReply(Term(2), Index(0))),
    ]
    saving.take(Ready(2, None, replaced, replies=[*old]))
    saving.take(Ready(3, HardState(Term(3)), last, replies=[(NEW, AppendReply(Term(3), Index(1)))]))
    worker.finish()
    assert sent == []
    worker.finish()
    assert store.saved == [[], last]
    assert sent == [old[1], old[2], (NEW, AppendReply(Term(3), Index(1)))]
