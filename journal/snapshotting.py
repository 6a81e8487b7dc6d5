"""Taking, sending and receiving snapshots, beside the replica's passes.

A snapshot is taken at the index of a SNAPSHOT entry, hence at the same index on every node. The machines'
lazy iterators are asked for one chunk at a time, and each chunk goes to the background disk worker before
the next is asked for, so that neither the loop nor the log's own syncs wait for long. Only when a snapshot
is durable and verified is the log behind the oldest kept one cut (R10).

Sending: a few chunks ahead of what the peer has confirmed; what is not confirmed in time is sent again.
Receiving: chunks in order into a file aside; when it is complete and verified, the machines are restored
from it and the log starts anew behind it. What was received in part is taken up again, whoever sends the rest:
the same snapshot has the same bytes on every node. Called by `replica.py`, and by who administers a node.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from typing import TYPE_CHECKING

from journal.clock import Handle, Scheduler
from journal.errors import Busy, CorruptRecord, DiskFull, NotLeader
from journal.limits import Limits
from journal.machine import combined_digest
from journal.raft.messages import SnapshotChunk, SnapshotReply
from journal.recovering import Done, Recovering
from journal.storage.snapshots import SnapshotReceiver, SnapshotWriter
from journal.storage.worker import Worker
from journal.values import Entry, EntryKind, Index, NodeId, Position, SnapshotMeta

if TYPE_CHECKING:
    from journal.replica import Replica

logger = logging.getLogger("journal.snapshots")


class _Sending:
    """One snapshot on its way to one peer."""

    def __init__(self, meta: SnapshotMeta, now: float) -> None:
        self.meta = meta
        self.confirmed = 0
        self.sent = 0
        """Read and sent up to here. Invariant: confirmed <= sent <= meta.size."""
        self.answered = False
        """The peer has said how much it has. Until then one chunk asks for it: it may have most of them already."""
        self.reading = False
        self.moved_at = now


class Snapshotting:
    """The snapshots of one replica: at most one is taken and one received at a time."""

    def __init__(
        self, replica: Replica, worker: Worker, limits: Limits, retry_seconds: float, scheduler: Scheduler
    ) -> None:
        self._replica = replica
        self._store = replica.store
        self._worker = worker
        self._limits = limits
        self._retry_seconds = retry_seconds
        self._scheduler = scheduler
        newest = replica.store.snapshot
        self.newest: Index = newest.position.index if newest else Index(0)
        self.log_bytes = 0
        """Bytes of log applied since the newest snapshot."""
        self.asked_for = Index(0)
        """The SNAPSHOT entry that this node appended last, as leader."""
        self._taken_at = scheduler.time()
        """When this process took or installed its newest snapshot, or began without one of its own."""
        self._recovering = Recovering(replica, worker, min(limits.snapshot_chunk_bytes, limits.record_bytes_max))
        self._taking = False
        self._doubted: set[SnapshotMeta] = set()
        """Those that are being read again because a peer found them damaged."""
        self._sendings: dict[NodeId, _Sending] = {}
        self._receiver: SnapshotReceiver | None = None
        self._receiving: SnapshotMeta | None = None
        self._timer: Handle | None = None
        self._age_timer: Handle | None = None
        self._stopped = False
        self._arm_age()

    def stop(self) -> None:
        self._stopped = True
        self._sendings.clear()
        for timer in (self._timer, self._age_timer):
            if timer is not None:
                timer.cancel()

    # For who administers the node.

    def metas(self) -> list[SnapshotMeta]:
        """The snapshots of this node, newest first; `position.stamp` is when, by the leader's clock."""
        return self._store.snapshots.metas()

    def take_now(self) -> Index | None:
        """Have every node take a snapshot, at the returned index. It is there when `metas` has it.

        None when this node does not lead. Raises Busy, also while a recovery is under way, which it would end.
        """
        if self._recovering.active:
            raise Busy("the state of an older snapshot is being recovered")
        index = self._replica.append(b"", EntryKind.SNAPSHOT)
        if index is not None:
            self.asked_for = index
        return index

    def read(self, index: Index, offset: int, done: Callable[[bytes | None, BaseException | None], None]) -> None:
        """The bytes of a snapshot from `offset` on, at most `snapshot_chunk_bytes`; none behind its end.

        Verified as a whole before the first are given out. `done` is told a LookupError when there is no such
        snapshot (any more), a CorruptRecord when it is damaged.
        """
        meta = self._find(index)
        if meta is None:
            done(None, _unknown(index))
            return
        size = self._limits.snapshot_chunk_bytes
        self._worker.submit(
            lambda: self._store.snapshots.read_checked(meta, offset, size),
            lambda data, error: done(data, _unknown(index) if isinstance(error, FileNotFoundError) else error),
        )

    def recover(self, index: Index, done: Done) -> None:
        """Have every node bring its machines back to the content of this node's snapshot at `index`, as a new entry.

        `done` is told the index of that entry once it is applied here; or a LookupError, NotLeader, Busy or
        CorruptRecord.
        """
        meta = self._find(index)
        if meta is None:
            done(None, _unknown(index))
        elif not self._replica.leadership.serving:
            done(None, NotLeader("only the leader recovers an older state"))
        elif self._taking or self._replica.applied < self.asked_for:
            done(None, Busy("a snapshot is being taken"))
        else:
            self._recovering.start(meta, self._store.snapshots.chunks(meta), done)

    def _find(self, index: Index) -> SnapshotMeta | None:
        return next((meta for meta in self.metas() if meta.position.index == index), None)

    # What the replica tells.

    def on_applied(self, applied: Index) -> None:
        """This node leads, and has applied entries: ask for a snapshot when one is due."""
        if self.due(applied):
            self._replica.take_snapshot()  # one that is refused is asked for again after the next commit

    def on_leadership(self) -> None:
        self._recovering.on_leadership()

    def on_recover(self, entry: Entry) -> None:
        """A RECOVER entry is applied: with the last one of its row the machines go back."""
        chunks = self._recovering.on_entry(entry)
        if chunks is None:
            return
        of_machine = {number: list(group) for number, group in groupby(chunks, key=lambda chunk: chunk[0])}
        for number, machine in sorted(self._replica.machines.items()):
            try:
                machine.recover(_without_first_byte(of_machine.get(number, ())), entry.last, entry.stamp)
            except CorruptRecord as error:
                # The same bytes on every node: all of them leave the machine as it is.
                logger.error("machine %d does not go back: %s", number, error)

    # Taking.

    def due(self, applied: Index) -> bool:
        """Whether the leader should append a SNAPSHOT entry. Not while one that it appended is on its way."""
        if self._taking or applied < self.asked_for or self._recovering.active:
            return False
        limits, since = self._limits, applied - self.newest
        return (
            since >= limits.snapshot_entries
            or self.log_bytes >= limits.snapshot_log_bytes
            or (since > 0 and self._scheduler.time() - self._taken_at >= limits.snapshot_seconds)
        )

    def _arm_age(self) -> None:
        """Look after a snapshot's age once: after that, every commit and every election does."""
        if self._age_timer is not None:
            self._age_timer.cancel()
        self._taken_at = self._scheduler.time()
        self._age_timer = self._scheduler.call_at(self._taken_at + self._limits.snapshot_seconds, self._on_age)

    def _on_age(self) -> None:
        self._age_timer = None
        if not self._stopped and self._replica.leadership.serving:
            self.on_applied(self._replica.applied)

    def take(self, position: Position) -> None:
        """Snapshot the machines as they are now. Skipped while one is still being written."""
        self._recovering.on_snapshot()
        received = self._receiving
        if received is not None and self._receiver is not None and received.position.index <= position.index:
            # Its sender is gone, and the log has come this far by itself. Kept, it would let no other be taken,
            # and one that leads would ask for one after each commit.
            self._abandon(self._receiver)
        if self._taking or self._receiver is not None:
            logger.info("snapshot at %d skipped: another one is under way", position.index)
            return
        self._taking = True
        self._arm_age()
        self.newest = position.index
        self.log_bytes = 0
        chunks = self._machine_chunks()
        configuration = self._replica.core.configuration_at(position.index)
        state_digest = combined_digest(self._replica.machines)
        self._worker.submit(
            lambda: self._store.snapshots.begin(position, configuration, state_digest),
            lambda writer, error: self._taken(writer, chunks, error),
        )

    def _machine_chunks(self) -> Iterator[bytes]:
        """All machines' chunks, each behind a byte that names its machine. The images are fixed at this call."""
        images = [(number, machine.snapshot()) for number, machine in sorted(self._replica.machines.items())]
        return chain.from_iterable((bytes([number]) + chunk for chunk in image) for number, image in images)

    def _taken(self, writer: SnapshotWriter | None, chunks: Iterator[bytes], error: BaseException | None) -> None:
        """The disk has the last chunk: give it the next one, or finish."""
        if isinstance(error, DiskFull):
            self._give_up(writer, error)
            return
        if error is not None:
            self._replica.fail(error)
        if self._stopped:
            return
        assert writer is not None
        chunk = next(chunks, None)
        if chunk is not None:
            self._worker.submit(lambda: writer.add(chunk), lambda _, error: self._taken(writer, chunks, error))
        else:
            self._worker.submit(
                lambda: self._finish(writer),
                lambda result, error: (
                    self._give_up(writer, error) if isinstance(error, DiskFull) else self._finished(result, error)
                ),
            )

    def _give_up(self, writer: SnapshotWriter | None, error: DiskFull) -> None:
        """No room: the next snapshot that is due is the next try, and until then the log stays whole (R12)."""
        logger.error("snapshot at %d given up: %s", self.newest, error)
        self._taking = False
        if writer is not None and not self._stopped:
            self._worker.submit(writer.abort, lambda _, error: None if error is None else self._replica.fail(error))

    def _finish(self, writer: SnapshotWriter) -> tuple[SnapshotMeta, SnapshotMeta | None]:
        meta = writer.finish()
        return meta, self._store.snapshots.prune(self._limits.snapshots_kept)

    def _finished(self, result: tuple[SnapshotMeta, SnapshotMeta | None] | None, error: BaseException | None) -> None:
        if error is not None:
            self._replica.fail(error)
        if self._stopped:
            return
        assert result is not None
        meta, oldest = result
        self._taking = False
        logger.info("snapshot at %d: %d bytes", meta.position.index, meta.size)
        # With fewer than the kept number of snapshots the log is the second copy: it stays whole.
        if oldest is not None and len(self._store.snapshots.metas()) >= self._limits.snapshots_kept:
            self._replica.cut_log(oldest.position.index)

    # Restoring.

    def restore_newest(self) -> Index:
        """Bring the machines to the newest snapshot. Returns the index they are at: 0 without a snapshot."""
        meta = self._store.snapshot
        if meta is None:
            return Index(0)
        self._restore(meta)
        return meta.position.index

    def _restore(self, meta: SnapshotMeta) -> None:
        machines = self._replica.machines
        seen = set()
        for number, chunks in groupby(self._store.snapshots.chunks(meta), key=lambda chunk: chunk[0]):
            if number not in machines:
                raise CorruptRecord(
                    f"snapshot {meta.position.index} holds machine {number}, which this node does not have"
                )
            machines[number].restore(_without_first_byte(chunks))
            seen.add(number)
        for number in sorted(set(machines) - seen):
            machines[number].restore(())
        digest = combined_digest(machines)
        if digest != meta.state_digest:
            # Each byte is what was written: so the state was not what it should be, here or where it was written.
            raise CorruptRecord(
                f"snapshot {meta.position.index} was taken of a state with digest {meta.state_digest:016x}, "
                f"what was restored from it has {digest:016x}"
            )

    # Sending.

    def send_to(self, peer: NodeId) -> None:
        """Begin to send the newest snapshot to a peer whose next entry was cut away here."""
        metas = self._store.snapshots.metas()
        assert metas, "a log that was cut stands on a snapshot"
        sending = _Sending(metas[0], self._scheduler.time())
        logger.info("sending snapshot %d to %s", sending.meta.position.index, peer)
        self._sendings[peer] = sending
        self._read_next(peer, sending)
        self._arm()

    def on_reply(self, peer: NodeId, reply: SnapshotReply) -> None:
        sending = self._sendings.get(peer)
        if sending is None or reply.index != sending.meta.position.index:
            return
        if reply.installed:
            del self._sendings[peer]
        elif reply.damaged:
            sending.sent = sending.confirmed = 0
            self._look_again(sending.meta)
        elif (sending.confirmed < reply.offset or not sending.answered) and reply.offset <= sending.meta.size:
            # The first answer counts as it is: a peer that was restarted has less than it had confirmed.
            sending.sent = max(sending.sent, reply.offset) if sending.answered else reply.offset
            sending.confirmed = reply.offset
            sending.answered = True
            sending.moved_at = self._scheduler.time()
            self._read_next(peer, sending)

    def _read_next(self, peer: NodeId, sending: _Sending) -> None:
        limits = self._limits
        window = limits.snapshot_chunk_bytes * (limits.snapshot_chunks_in_flight_max if sending.answered else 1)
        if sending.reading or sending.sent >= sending.meta.size or sending.sent - sending.confirmed >= window:
            return
        sending.reading = True
        offset = sending.sent
        self._worker.submit(
            lambda: self._read(sending.meta, offset), lambda data, error: self._read_done(peer, sending, offset, data)
        )

    def _read(self, meta: SnapshotMeta, offset: int) -> bytes | None:
        try:
            return self._store.snapshots.read(meta, offset, self._limits.snapshot_chunk_bytes)
        except FileNotFoundError:
            return None  # pruned while it was being sent: the peer will be sent a newer one

    def _read_done(self, peer: NodeId, sending: _Sending, offset: int, data: bytes | None) -> None:
        sending.reading = False
        if self._stopped or self._sendings.get(peer) is not sending:
            return
        if data is None:
            del self._sendings[peer]
            return
        if offset == sending.sent:
            sending.sent += len(data)
            self._replica.send(peer, SnapshotChunk(self._replica.core.term, sending.meta, offset, data))
        self._read_next(peer, sending)

    def _arm(self) -> None:
        if self._timer is None and self._sendings:
            self._timer = self._scheduler.call_at(self._scheduler.time() + self._retry_seconds, self._on_timer)

    def _on_timer(self) -> None:
        """Send again what was not confirmed in time; forget peers that the core no longer feeds."""
        self._timer = None
        if self._stopped:
            return
        now = self._scheduler.time()
        wanted = self._replica.core.peers_in_snapshot()
        for peer, sending in sorted(self._sendings.items()):
            if peer not in wanted:
                del self._sendings[peer]
            elif now - sending.moved_at >= self._retry_seconds:
                sending.sent = sending.confirmed
                sending.answered = False
                sending.moved_at = now
                # At the end everything is confirmed but the installation: repeat the last chunk to be told of it.
                if sending.sent >= sending.meta.size:
                    sending.sent = max(0, sending.meta.size - self._limits.snapshot_chunk_bytes)
                    sending.confirmed = sending.sent
                self._read_next(peer, sending)
        self._arm()

    def _look_again(self, meta: SnapshotMeta) -> None:
        """What a peer received was damaged: it may have rotted here, and would be sent for ever."""
        if meta not in self._doubted:
            self._doubted.add(meta)
            self._worker.submit(
                lambda: self._store.snapshots.look_again(meta), lambda rot, error: self._looked(meta, rot)
            )

    def _looked(self, meta: SnapshotMeta, rot: CorruptRecord | None) -> None:
        self._doubted.discard(meta)
        if rot is None or self._stopped:
            return
        logger.critical("damage found: %s", rot)
        for peer, sending in list(self._sendings.items()):
            if sending.meta == meta:
                del self._sendings[peer]  # the core asks for it again, and `send_to` finds a better one
        self._replica.take_snapshot()

    # Receiving.

    def on_chunk(self, leader: NodeId, chunk: SnapshotChunk) -> None:
        meta = chunk.meta
        if self._receiving != meta:
            if self._taking:
                return  # the leader repeats it; by then our own snapshot is written
            if self._receiver is not None:
                self._abandon(self._receiver)
            logger.info("receiving snapshot %d from %s: %d bytes", meta.position.index, leader, meta.size)
            self._receiving = meta
            self._receiver = self._store.snapshots.receive(meta)
        receiver = self._receiver
        if receiver is None:
            return  # complete, and being installed
        self._worker.submit(
            lambda: _receive(receiver, chunk), lambda done, error: self._received(leader, meta, receiver, done, error)
        )

    def _received(
        self,
        leader: NodeId,
        meta: SnapshotMeta,
        receiver: SnapshotReceiver,
        complete: bool | None,
        error: BaseException | None,
    ) -> None:
        if isinstance(error, CorruptRecord):
            # What the leader sent does not match its own digest: drop it, it will come again.
            logger.warning("snapshot %d from %s is damaged: %s", meta.position.index, leader, error)
            self._forget_receiver(receiver)
            reply = SnapshotReply(self._replica.core.term, meta.position.index, 0, damaged=True)
            self._replica.send(leader, reply)
            return
        if isinstance(error, DiskFull):
            # Not answered, so the leader sends it again, until there is room.
            logger.error("snapshot %d from %s waits: %s", meta.position.index, leader, error)
            return
        if error is not None:
            self._replica.fail(error)
        if self._stopped or self._receiver is not receiver:
            return
        if not complete:
            self._replica.send(leader, SnapshotReply(self._replica.core.term, meta.position.index, receiver.offset))
            return
        self._receiver = None
        if not self._replica.install(meta, lambda: self._installed(leader, meta)):
            self._receiving = None

    def _installed(self, leader: NodeId, meta: SnapshotMeta) -> None:
        self._receiving = None
        self._arm_age()
        self.newest = meta.position.index
        self.log_bytes = 0
        logger.info("installed snapshot %d", meta.position.index)
        reply = SnapshotReply(self._replica.core.term, meta.position.index, meta.size, installed=True)
        self._replica.send(leader, reply)
        self._worker.submit(
            lambda: self._store.snapshots.prune(self._limits.snapshots_kept),
            lambda _, error: None if error is None else self._replica.fail(error),
        )

    def restore_installed(self, meta: SnapshotMeta) -> None:
        """The log now starts behind `meta`: bring the machines there. Called by `Replica.install`."""
        self._recovering.on_snapshot()
        self._restore(meta)

    def _abandon(self, receiver: SnapshotReceiver) -> None:
        self._forget_receiver(receiver)
        self._worker.submit(receiver.abort, lambda _, error: None)

    def _forget_receiver(self, receiver: SnapshotReceiver) -> None:
        if self._receiver is receiver:
            self._receiver = None
            self._receiving = None


def _receive(receiver: SnapshotReceiver, chunk: SnapshotChunk) -> bool:
    """Take a chunk if it is the next one. True when the snapshot is complete, verified and in its place."""
    receiver.open()
    if chunk.offset != receiver.offset:
        return False
    receiver.write(chunk.offset, chunk.data)
    if receiver.offset < chunk.meta.size:
        return False
    receiver.finish()
    return True


def _unknown(index: Index) -> LookupError:
    return LookupError(f"there is no snapshot at index {index}")


def _without_first_byte(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[1:]
