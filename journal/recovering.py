"""Bringing the machines' keys and values back to what an older snapshot holds, as a change like any other.

The leader puts the whole snapshot into the log, piece by piece, in RECOVER entries. Every node gathers the pieces
as it applies them, and at the last one has each machine change into what the snapshot holds. So nothing is rewound:
indices go on, no node needs to have that snapshot (it may have been pruned, or never been here), and a node that
is restarted or lags behind finds in its log all that it needs.

Pieces of one recovery are of one term and without a gap; whatever breaks the row ends the recovery without effect,
on every node alike: another leader, another recovery, and a SNAPSHOT entry, because who starts from a snapshot at
that index has not seen the pieces before it.

    piece: index of the snapshot u64 | number of the piece u32 | flags u8 | bytes of a chunk

Called by `snapshotting.py` only.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from journal.errors import Busy, NotLeader
from journal.storage.worker import Worker
from journal.values import Entry, EntryKind, Index, SnapshotMeta, Term

if TYPE_CHECKING:
    from journal.replica import Replica

logger = logging.getLogger("journal.recovering")

Done = Callable[[Index | None, BaseException | None], None]
"""Told the index at which the machines changed, or why they did not."""

_HEAD = struct.Struct("<QIB")
PIECE_HEAD_BYTES = _HEAD.size
_CONTINUED = 1
"""The chunk goes on in the next piece."""
_LAST = 2


def pieces(index: Index, chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """A snapshot's chunks as payloads of at most `size` bytes. The last one comes after the last chunk was read, hence
    verified."""
    room = size - PIECE_HEAD_BYTES
    assert room > 0, size
    number = 0
    held: tuple[int, bytes] = (0, b"")
    for chunk in chunks:
        for at in range(0, len(chunk), room):
            if number or held[1]:
                yield _HEAD.pack(index, number, held[0]) + held[1]
                number += 1
            held = (_CONTINUED if at + room < len(chunk) else 0, chunk[at : at + room])
    yield _HEAD.pack(index, number, held[0] | _LAST) + held[1]


class Gathering:
    """The pieces that were applied so far. A node's is what every other node's is at the same index."""

    def __init__(self) -> None:
        self._index = 0
        self._term = Term(0)
        self._next = 0
        """Number of the next piece; without the pieces before it, it is of no use."""
        self._chunks: list[bytes] = []
        self._part: list[bytes] = []
        """Of the chunk that is not complete yet."""

    @property
    def under_way(self) -> bool:
        """Whether pieces are held, and more of them expected."""
        return self._next > 0

    def forget(self) -> None:
        self._next = 0
        self._chunks, self._part = [], []

    def take(self, entry: Entry) -> list[bytes] | None:
        """The next RECOVER entry. Returns the snapshot's chunks when it was the last piece of them."""
        payload = entry.payload
        if len(payload) < _HEAD.size:
            self.forget()  # no leader makes such an entry; to stop at it would be to stop on every node
            return None
        index, number, flags = _HEAD.unpack_from(payload)
        if number == 0:
            self.forget()
            self._index, self._term = index, entry.term
        elif (number, index, entry.term) != (self._next, self._index, self._term):
            self.forget()
            return None
        self._next = number + 1
        self._part.append(bytes(payload[_HEAD.size :]))
        if not flags & _CONTINUED:
            chunk = b"".join(self._part)
            self._part = []
            if chunk:
                self._chunks.append(chunk)
        if not flags & _LAST:
            return None
        chunks = self._chunks
        self.forget()
        return chunks


class _Sending:
    """One recovery that this node, as leader, was asked for."""

    def __init__(self, meta: SnapshotMeta, term: Term, payloads: Iterator[bytes], done: Done) -> None:
        self.meta = meta
        self.term = term
        self.payloads = payloads
        self.done = done
        self.awaited: Index | None = None
        """The piece that is on its way; the next one follows when it is applied."""


class Recovering:
    """The recoveries of one replica, one at a time."""

    def __init__(self, replica: Replica, worker: Worker, piece_bytes: int) -> None:
        self._replica = replica
        self._worker = worker
        self._piece_bytes = piece_bytes
        self._gathering = Gathering()
        self._sending: _Sending | None = None

    @property
    def active(self) -> bool:
        """Whether this node, as leader, is about to put a snapshot into the log."""
        return self._sending is not None

    def start(self, meta: SnapshotMeta, chunks: Iterable[bytes], done: Done) -> None:
        """Put the chunks of a snapshot into the log, as leader. `chunks` are read on the background worker."""
        if self._sending is not None:
            done(None, Busy(f"the state of snapshot {self._sending.meta.position.index} is being recovered"))
            return
        payloads = pieces(meta.position.index, chunks, self._piece_bytes)
        self._sending = _Sending(meta, self._replica.core.term, payloads, done)
        logger.info("recovering the state of snapshot %d", meta.position.index)
        self._read_next(self._sending)

    def on_entry(self, entry: Entry) -> list[bytes] | None:
        """A RECOVER entry is applied. Returns the chunks to recover from when it was the last of its row."""
        chunks = self._gathering.take(entry)
        sending = self._sending
        if sending is not None and sending.awaited == entry.first and sending.term == entry.term:
            if chunks is not None:
                self._end(entry.last, None)
            elif self._gathering.under_way:
                self._read_next(sending)
            else:
                self._end(None, Busy("a snapshot was taken meanwhile: try again"))
        return chunks

    def on_snapshot(self) -> None:
        """The state is taken or replaced as it is now: what was gathered before is not part of it."""
        self._gathering.forget()

    def on_leadership(self) -> None:
        """Who leads has changed, maybe. A recovery does not outlive its leader."""
        if self._sending is not None and not self._leads(self._sending):
            self._end(None, NotLeader("leadership was lost before the state was recovered"))

    def _leads(self, sending: _Sending) -> bool:
        leadership = self._replica.leadership
        return leadership.serving and leadership.term == sending.term

    def _read_next(self, sending: _Sending) -> None:
        self._worker.submit(
            lambda: next(sending.payloads, None), lambda payload, error: self._read_done(sending, payload, error)
        )

    def _read_done(self, sending: _Sending, payload: bytes | None, error: BaseException | None) -> None:
        if self._sending is not sending or self._replica.stopped:
            return
        if error is not None:
            self._end(None, error)
            return
        assert payload is not None, sending.awaited  # the last piece ended the recovery when it was applied
        try:
            sending.awaited = self._replica.append(payload, EntryKind.RECOVER)
        except Busy as busy:
            self._end(None, busy)
            return
        if sending.awaited is None:
            self._end(None, NotLeader("leadership is being handed over"))

    def _end(self, index: Index | None, error: BaseException | None) -> None:
        sending = self._sending
        assert sending is not None
        self._sending = None
        if error is not None:
            logger.warning("the state of snapshot %d was not recovered: %s", sending.meta.position.index, error)
        sending.done(index, error)
