"""The state at an earlier index: the nearest older snapshot, and the log from there on, on a machine of its own.

The live machine is never touched: whatever is asked here is answered by a copy that was made by the user's factory
and lives on a thread of its own. Questions about the same index share one copy, and the last few copies are kept.
Called by `journal.py` on the loop; it reads the same store as the replica.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from journal.errors import Busy, CorruptRecord, IndexUnderflow, JournalStopped, LogCompacted
from journal.exactly_once import ExactlyOnce, Results
from journal.statemachine import StateMachine
from journal.storage.store import Store
from journal.values import EntryKind, Index, SnapshotMeta

THREADS = 2
"""Copies made, or asked, at a time."""
COPIES_KEPT_MAX = 4
"""Copies that nobody asks at the moment."""
COPIES_MAX = 64
"""Copies being made or asked. More questions about other indices are turned away."""
QUESTIONS_MAX = 1024
"""Questions that wait or are being answered."""
PAGE_BYTES = 1 << 20
"""Log read at a time."""
ATTEMPTS_MAX = 3
"""How often a copy is begun anew because what it was made from has been cut away meanwhile."""
MACHINE = 0
"""The user's machine, among those of a replica."""

_REPLAYED = (EntryKind.NOOP, EntryKind.COMMANDS, EntryKind.CONFIGURATION, EntryKind.SNAPSHOT)
"""What a copy can go through; any other kind of entry changes a machine by more than the entry holds."""


class _Silent:
    """The hooks of a copy: nobody waits for what it applies."""

    def on_opened(self, nonce: bytes, origin: int) -> None: ...

    def on_results(self, origin: int, serial: int, index: int, results: Results) -> None: ...

    def on_forgotten(self, origin: int, serial: int) -> None: ...

    def on_event(self, index: int, event: bytes) -> None: ...

    def on_replaced(self, index: int) -> None: ...


class _Copy:
    """The machine at one index, being made or made."""

    def __init__(self, made: asyncio.Future[StateMachine]) -> None:
        self.made = made
        self.askers = 0
        """Questions that wait for it or are being answered. Invariant: it is not closed while there are any."""
        self._turn = threading.Lock()

    def ask(self, question: bytes) -> bytes | None:
        """On a thread: one question at a time, because a machine need not bear two threads."""
        with self._turn:
            return self.made.result().query(question)


class History:
    """The copies of one `Journal`."""

    def __init__(self, store: Store, factory: Callable[[], StateMachine]) -> None:
        self._store = store
        self._factory = factory
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="journal-history")
        self._copies: OrderedDict[int, _Copy] = OrderedDict()
        """By index, the one that was asked last at the end."""
        self._questions: set[asyncio.Task[bytes | None]] = set()
        self._closed = False

    async def query(self, index: int, question: bytes) -> bytes | None:
        """Ask the machine as it was when `index` was applied, which it must be here.

        Raises IndexUnderflow when what it takes was cut away, and Busy.
        """
        if len(self._questions) >= QUESTIONS_MAX:
            raise Busy(f"{QUESTIONS_MAX} questions about the past already wait")
        copy = self._copies.get(index) or self._begin(index)
        self._copies.move_to_end(index)
        copy.askers += 1
        # A task of its own: the copy is in use until the thread is done, even if the asker gives up before.
        task = asyncio.get_running_loop().create_task(self._ask(copy, question))
        self._questions.add(task)
        task.add_done_callback(self._asked)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._closed and task.cancelled():
                raise JournalStopped("the journal stopped before the question was answered") from None
            raise

    def close(self) -> None:
        """Let go of all copies. Those under way end by themselves."""
        self._closed = True
        for task in self._questions:
            task.cancel()
        for index in list(self._copies):
            self._drop(index)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, copy: _Copy, question: bytes) -> bytes | None:
        try:
            await copy.made
            return await asyncio.get_running_loop().run_in_executor(self._threads, copy.ask, question)
        finally:
            copy.askers -= 1
            self._prune()

    def _asked(self, task: asyncio.Task[bytes | None]) -> None:
        self._questions.discard(task)
        if not task.cancelled():
            task.exception()  # its asker may have given up

    def _begin(self, index: int) -> _Copy:
        busy = sum(1 for copy in self._copies.values() if copy.askers or not copy.made.done())
        if busy >= COPIES_MAX:
            raise Busy(f"the state at {busy} earlier indices is already being made")
        made = asyncio.get_running_loop().run_in_executor(self._threads, self._make, index)
        copy = self._copies[index] = _Copy(made)
        return copy

    def _make(self, index: int) -> StateMachine:
        """On a thread."""
        machine = rebuild(self._store, self._factory, index)
        if self._closed:
            machine.close()
            raise JournalStopped("the journal stopped before the question was answered")
        return machine

    def _prune(self) -> None:
        """Drop copies that could not be made, and of those nobody asks the oldest."""
        if self._closed:
            return
        idle = [index for index, copy in self._copies.items() if not copy.askers and copy.made.done()]
        failed = [index for index in idle if not _succeeded(self._copies[index].made)]
        good = [index for index in idle if index not in failed]
        for index in (*failed, *good[: max(0, len(good) - COPIES_KEPT_MAX)]):
            self._drop(index)

    def _drop(self, index: int) -> None:
        copy = self._copies.pop(index)
        if not copy.made.done():
            copy.made.cancel()
        elif _succeeded(copy.made) and not copy.askers:
            copy.made.result().close()


def rebuild(store: Store, factory: Callable[[], StateMachine], index: int) -> StateMachine:
    """A machine as it was when `index` was applied. Takes as long as reading a snapshot and the log behind it.

    Raises IndexUnderflow when neither a snapshot at or before `index` nor the whole log before it is there.
    """
    damaged: list[SnapshotMeta] = []
    for _ in range(ATTEMPTS_MAX):
        copy = ExactlyOnce(factory(), _Silent(), piece_bytes=1)
        base = _nearest(store, index, damaged)
        try:
            if base is not None:
                copy.restore(_pieces(store, base))
            _replay(store, copy, base.position.index if base else Index(0), index)
        except (LogCompacted, FileNotFoundError):
            copy.machine.close()  # cut away while it was being read: what is there now may still do
        except CorruptRecord:
            copy.machine.close()
            if base is None:
                raise
            damaged.append(base)
        except BaseException:
            copy.machine.close()
            raise
        else:
            return copy.machine
    raise IndexUnderflow(f"what it takes to tell the state at index {index} is being cut away")


def _nearest(store: Store, index: int, damaged: list[SnapshotMeta]) -> SnapshotMeta | None:
    """The newest snapshot at or before `index`; None when the log is there from its beginning, which does as well."""
    start = store.start.index
    for meta in store.snapshots.metas():
        if start <= meta.position.index <= index and meta not in damaged:
            return meta
    if start == 0:
        return None
    raise IndexUnderflow(f"the state at index {index} can no longer be told: the log starts at {start + 1}")


def _pieces(store: Store, meta: SnapshotMeta) -> Iterator[bytes]:
    """The pieces of the user's machine in a snapshot; the others are checked with it."""
    for chunk in store.snapshots.chunks(meta):
        if chunk[0] == MACHINE:
            yield chunk[1:]


def _replay(store: Store, copy: ExactlyOnce, after: Index, index: int) -> None:
    """Apply the log behind `after` up to `index`, which is applied here and therefore on the disk."""
    first = Index(after + 1)
    while first <= index:
        if store.last.index < first:
            raise LogCompacted(f"the log ends at {store.last.index}")  # it is being restarted behind a snapshot
        _, entries = store.read(first, PAGE_BYTES)
        for entry in entries:
            if entry.first > index:
                return
            if entry.kind not in _REPLAYED:
                raise IndexUnderflow(
                    f"the state at index {index} can no longer be told: at {entry.first} the machine went back to an "
                    "older snapshot, and there is no newer one in between"
                )
            if entry.machine == MACHINE:
                copy.apply(entry, until=index)
        first = Index(entries[-1].last + 1)


def _succeeded(made: asyncio.Future[StateMachine]) -> bool:
    return not made.cancelled() and made.exception() is None
