"""The loop that joins the Raft rules to disk, peers and state machines. The only driver of a `Core`.

Everything that happens to a replica (a message, a finished save, a timer, a proposal) is told to the
core at once and asks for a pass; one pass then carries out all that the core wants done. Passes run
through the scheduler's `call_soon`, so whatever arrives in one turn of the event loop shares one record,
one save and one message per peer. There is no group-commit timer: what arrives while the disk is busy
waits for it and goes into the next save together.

Knows nothing of keys, sessions or clients: its owner (`Owner`) is told what it needs to know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from journal.clock import Handle, Scheduler
from journal.errors import Busy, DiskFull, Diverged
from journal.limits import Limits, Timing
from journal.machine import Machine, combined_digest
from journal.members import Members
from journal.peers.handshake import Refusal
from journal.peers.network import Network
from journal.proposing import Proposing
from journal.raft.core import Core, CoreConfig
from journal.raft.digests import DIGEST_MAX
from journal.raft.log import Log
from journal.raft.messages import (
    NOT_FOR_THE_CORE,
    AdminReply,
    AdminRequest,
    Message,
    Proposal,
    ProposalReply,
    ReadRequest,
    SnapshotReply,
)
from journal.raft.ready import Leadership, Ready, Role
from journal.reading import Reading
from journal.record import decode_configuration
from journal.room import Room
from journal.saving import Saving
from journal.snapshotting import Snapshotting
from journal.storage.store import Store
from journal.storage.worker import Worker
from journal.values import Configuration, Entry, EntryKind, Index, NodeId, Position, SnapshotMeta

T = TypeVar("T")

logger = logging.getLogger("journal.replica")


class Owner(Protocol):
    """Who runs the replica: told what happens, between two callbacks never interrupted."""

    def on_leadership(self, leadership: Leadership) -> None:
        """Who leads has changed; what was proposed or asked before may be lost and must be asked again."""

    def on_read_start(self) -> bytes:
        """A read round starts: all reads asked for until now are in it. Returns the note for the leader."""

    def on_read_done(self) -> None:
        """The round that was started last is confirmed, and everything it must see is applied."""

    def on_note(self, note: bytes) -> Index:
        """This node leads and a read round of some node brought `note`; the round must see the returned index."""

    def on_restored(self) -> None:
        """The machines were replaced by a leader's snapshot: what happened in between was not told one by one."""

    def on_configuration(self, configuration: Configuration) -> None:
        """Who belongs to the cluster has changed, though it may not be committed yet."""

    def on_proposal_reply(self, context: int, index: Index) -> None:
        """What `propose_asking` wanted to hear: the index of the first command, 0 when the leader was too busy."""

    def on_admin(self, sender: NodeId, message: AdminRequest | AdminReply) -> None:
        """A word between owners."""

    def on_pass_end(self) -> None:
        """All effects of one pass are done: a good moment to write to clients."""

    def on_failed(self, error: BaseException) -> None:
        """The replica has stopped for good."""


class Replica:
    """One node's member of the cluster. All methods are called on the scheduler's thread."""

    def __init__(
        self,
        me: NodeId,
        store: Store,
        machines: Mapping[int, Machine],
        owner: Owner,
        *,
        scheduler: Scheduler,
        network: Network,
        sync_worker: Worker,
        background_worker: Worker,
        chance: Callable[[], float],
        wall: Callable[[], int],
        limits: Limits,
        timing: Timing,
    ) -> None:
        self.me = me
        self.store = store
        self.machines = machines
        self.failed: BaseException | None = None
        self.stopped = False
        self._owner = owner
        self._scheduler = scheduler
        self._network = network
        self._sync_worker = sync_worker
        self.room = Room(scheduler, self.kick)
        self._saving = Saving(store, sync_worker, self.room, network.send, self._has_nothing_else, self._on_saved)
        self._wall = wall
        self._limits = limits
        self._timing = timing

        self.snapshots = Snapshotting(self, background_worker, limits, timing.election_timeout, scheduler)
        applied = self.snapshots.restore_newest()
        self.core = self._recover_core(applied, chance)
        self.applied = applied
        """Last index the machines have taken in. Invariant: applied <= core.commit once anything was applied."""
        self.leadership = Leadership(self.core.role, self.core.term, None)

        self._reading = Reading(self.core, owner, timing.election_timeout, self.kick)
        self._proposing = Proposing(self.core, network, limits, wall, owner.on_proposal_reply)
        self.members = Members(self, store, sync_worker, network, scheduler)
        self._pass_wanted = False
        self._single = False
        """The last record applied carried one command."""
        self._timer: Handle | None = None
        self._timer_at = float("inf")
        self._installing: tuple[SnapshotMeta, Callable[[], None]] | None = None
        """A snapshot that waits for the saves of the old log to end."""

    def _recover_core(self, applied: Index, chance: Callable[[], float]) -> Core:
        """The core as the disk remembers it, with the machines at `applied`."""
        store, limits = self.store, self._limits
        before, tail = store.tail(limits.log_memory_bytes_max)
        return Core(
            CoreConfig(self.me, limits, self._timing),
            store.configuration,
            store.hard_state,
            Log(store, store.start, before, tail, store.last, limits, store.configurations()),
            applied=applied,
            now=self._scheduler.time(),
            chance=chance,
            withheld=store.withheld,
        )

    # What the owner asks for.

    def start(self) -> None:
        """Begin to take part. The network must be started already."""
        self.members.on_configuration(self.core.configuration)
        self.kick()

    def stop(self) -> None:
        """Take no further part. What is being saved still ends; nothing else happens."""
        self.stopped = True
        self._saving.stop()
        self.snapshots.stop()
        self.room.stop()
        self.members.stop()
        if self._timer is not None:
            self._timer.cancel()

    def kick(self) -> None:
        """Ask for a pass in the next turn of the loop."""
        if not self._pass_wanted and not self.stopped:
            self._pass_wanted = True
            self._scheduler.call_soon(self._pass)

    def propose(self, command: bytes, machine: int = 0) -> None:
        """Send a command on its way. It may get lost; whoever waits for it proposes it again."""
        self._proposing.add(command, machine)
        self.kick()

    def propose_now(self, command: bytes) -> Index | None:
        """Append a command in this leader's own term, or not at all. Returns its index, None when not leading."""
        try:
            index = self.core.propose(command, 1, self._wall(), self._scheduler.time())
        except Busy:
            return None
        self.kick()
        return index

    def wall(self) -> int:
        """The stamp that this node, as leader, would give an entry now, if none before it has a later one."""
        return self._wall()

    def propose_asking(self, payload: bytes, count: int, context: int, ack: int, machine: int = 0) -> bool:
        """Propose `count` commands as one entry and be told through `Owner.on_proposal_reply` when the leader has
        them in memory (`ack` RECEIVED) or on its disk (STORED). False when no leader can be reached."""
        asked = self._proposing.ask(payload, count, machine, context, ack, self._scheduler.time())
        self.kick()
        return asked

    def forget_proposals(self) -> None:
        """Drop commands that have not left: the owner is about to propose all that it waits for again."""
        self._proposing.forget()

    @property
    def queued(self) -> tuple[int, int]:
        """Commands that wait for a leader, and their bytes."""
        return self._proposing.waiting

    @property
    def overloaded(self) -> bool:
        """More commands wait than the limit allows: hold clients back."""
        return self._proposing.overloaded

    @property
    def read_only(self) -> str | None:
        """Why this node takes no commands at present, though it is up; None when it takes them."""
        return self.room.reason or None

    def want_read(self) -> None:
        """Ask for a read round after this call; `Owner.on_read_start` and `on_read_done` mark its way."""
        self._reading.want()
        self.kick()

    def take_snapshot(self) -> Index | None:
        """Append the entry at whose index every node takes a snapshot. None when this node cannot do so now."""
        try:
            return self.snapshots.take_now()
        except Busy:
            return None

    def administer(self, order: Callable[[Core, float], T]) -> T:
        """Let `order` ask the core for something at the time it is given, and see to it that it is carried out."""
        try:
            return order(self.core, self._scheduler.time())
        finally:
            self.kick()

    def hand_over(self) -> bool:
        """Ask the most caught-up follower to lead. False when this node does not lead or nobody can take over."""
        if self.stopped or self.core.role is not Role.LEADER:
            return False
        moved = self.core.transfer(None, self._scheduler.time())
        self.kick()
        return moved

    # What the network tells (journal.peers.network.Receiver).

    def on_message(self, sender: NodeId, message: Message) -> None:
        if self.stopped:
            return
        try:
            if isinstance(message, NOT_FOR_THE_CORE):
                self._on_word(sender, message)
            else:
                if type(message) is SnapshotReply:
                    self.snapshots.on_reply(sender, message)
                elif type(message) is ReadRequest and self.core.role is Role.LEADER:
                    message.floor = max(message.floor, self._owner.on_note(message.note))
                self.core.step(sender, message, self._scheduler.time())
        except Exception as error:
            # Ours (an assertion) or a damaged log: either way this node must not go on.
            self.fail(error)
        self._pass_soon()

    def _on_word(self, sender: NodeId, message: Message) -> None:
        """What replicas and their owners say to each other past the rules."""
        if type(message) is Proposal:
            self.core.peer_has_clients(sender)
            self._proposing.take(sender, message, self._scheduler.time())
        elif type(message) is ProposalReply:
            self._owner.on_proposal_reply(message.context, message.index)
        elif isinstance(message, AdminRequest | AdminReply):
            self._owner.on_admin(sender, message)

    def on_peer_lost(self, peer: NodeId) -> None:
        if not self.stopped:
            self.core.peer_lost(peer, self._scheduler.time())
            self.kick()

    def on_peer_connected(self, peer: NodeId) -> None:
        self.kick()

    @property
    def incarnation(self) -> bytes:
        return self.store.incarnation

    def judge(self, peer: NodeId, incarnation: bytes) -> Refusal | None:
        return self.members.judge(peer, incarnation)

    def on_refused(self, peer: NodeId, refusal: Refusal) -> None:
        self.members.on_refused(peer, refusal)

    def send(self, peer: NodeId, message: Message) -> None:
        self._network.send(peer, message)

    # One pass.

    def _pass_soon(self) -> None:
        """A pass at once while the load is one command at a time, which no company will join by waiting: that
        spares a turn of the loop. Under load with the next turn, so that what comes in this one shares it."""
        if not self._single:
            self.kick()
        elif not self._pass_wanted:
            self._pass()

    def _pass(self) -> None:
        self._pass_wanted = False
        if self.stopped:
            return
        try:
            now = self._scheduler.time()
            core = self.core
            if now >= core.deadline:
                core.tick(now)
            self.room.heed(core, now)
            self._proposing.hand_in(now)
            self._reading.begin_if_due(now)
            ready = core.ready()
            while ready is not None:
                self._carry_out(ready)
                # Only what was applied makes room for more without a word from outside.
                ready = core.ready() if ready.committed else None
            self._reading.end_if_due(self.applied)
            if self._installing is not None and self._saving.idle:
                self._reset_log(*self._installing)
            self._owner.on_pass_end()
            self.members.stop_if_removed()
            if core.divergence is not None:
                self._fence(core.divergence)
            self._arm(min(core.deadline, self._reading.retry_at))
        except Exception as error:
            self.fail(error)

    def _carry_out(self, ready: Ready) -> None:
        """Do what the core wants, in the order that `Ready` asks for."""
        network = self._network
        for peer, message in ready.messages:
            network.send(peer, message)
        self._saving.take(ready)
        if ready.leadership is not None:
            self._on_leadership(ready.leadership)
        if ready.configuration is not None:
            self.members.on_configuration(ready.configuration)
            self._owner.on_configuration(ready.configuration)
        if ready.committed:
            self._apply(ready.committed)
        if ready.reads:
            self._reading.on_grants(ready.reads)
        for sender, chunk in ready.chunks:
            self.snapshots.on_chunk(sender, chunk)
        for peer in ready.snapshots_wanted:
            self.snapshots.send_to(peer)

    def _apply(self, entries: list[Entry]) -> None:
        for entry in entries:
            assert entry.first == self.applied + 1, (entry.first, self.applied)
            machine = self.machines.get(entry.machine)
            if machine is None:
                raise AssertionError(
                    f"entry {entry.first} is for machine {entry.machine}, which this node does not have"
                )
            machine.apply(entry)
            self.applied = entry.last
            if entry.kind is EntryKind.CONFIGURATION:
                self.members.on_committed(decode_configuration(entry), entry.last)
            elif entry.kind is EntryKind.SNAPSHOT:
                self.snapshots.take(Position(entry.last, entry.term, entry.crc, entry.stamp))
            elif entry.kind is EntryKind.RECOVER:
                self.snapshots.on_recover(entry)
            self.snapshots.log_bytes += len(entry.record)
            self.core.record_digest(entry.last, combined_digest(self.machines) & DIGEST_MAX)
        last = entries[-1]
        self._single = last.first == last.last
        self.core.applied_to(last.last)
        if self.leadership.serving:
            self.snapshots.on_applied(self.applied)

    def append(self, payload: bytes, kind: EntryKind) -> Index | None:
        """Append an entry of the journal's own, as leader. None when not leading. Raises Busy."""
        index = self.core.propose(payload, 1, self._wall(), self._scheduler.time(), kind=kind)
        if index is not None:
            self.kick()
        return index

    def _on_leadership(self, leadership: Leadership) -> None:
        before = self.leadership
        self.leadership = leadership
        if (before.term, before.leader, before.role) != (leadership.term, leadership.leader, leadership.role):
            logger.info(
                "%s: %s of term %d, leader %s",
                self.me,
                leadership.role.value,
                leadership.term,
                leadership.leader or "-",
            )
            self._reading.give_up()
        self.snapshots.on_leadership()
        self._owner.on_leadership(leadership)

    def _has_nothing_else(self) -> bool:
        """Whether nobody waits for this thread while it waits for the disk: it follows, and has no clients."""
        return self.core.idle and self.core.role is not Role.LEADER

    def _on_saved(self, number: int, error: BaseException | None) -> None:
        if error is not None:
            self.fail(error)
        if not self.stopped:
            self.core.saved(number, self._scheduler.time())
            self._proposing.on_saved()
            self._pass_soon()

    # The log behind a snapshot. Both run on the sync worker, in order with the saves.

    def cut_log(self, index: Index) -> None:
        """Drop the log behind a durable snapshot, whole segments at a time."""
        self._sync_worker.submit(lambda: self.store.cut(index), self._on_cut)

    def _on_cut(self, start: Position | None, error: BaseException | None) -> None:
        if error is not None:
            self.fail(error)
        elif not self.stopped:
            assert start is not None
            self.core.compacted(start)

    def install(self, meta: SnapshotMeta, done: Callable[[], None]) -> bool:
        """Restart log and machines from a received snapshot that is durable. `done` when the node stands on it.

        False when the log has meanwhile got there by itself; the snapshot is then of no use.
        """
        if not self.core.begin_restore(meta):
            return False
        self._installing = (meta, done)
        self.kick()
        return True

    def _reset_log(self, meta: SnapshotMeta, done: Callable[[], None]) -> None:
        """At the end of a pass: nothing of the old log is on its way to the disk any more, or ever will be."""
        self._installing = None
        self._sync_worker.submit(lambda: self.store.reset(meta), lambda _, error: self._on_reset(meta, done, error))

    def _on_reset(self, meta: SnapshotMeta, done: Callable[[], None], error: BaseException | None) -> None:
        if isinstance(error, DiskFull) and not self.stopped:
            self.room.wait(error, lambda: self._reset_log(meta, done))
            return
        if error is not None:
            self.fail(error)
        if self.stopped:
            return
        self.room.found()
        try:
            self.snapshots.restore_installed(meta)
            self.applied = meta.position.index
            self.core.restored(meta)
            self.members.on_committed(meta.configuration, meta.position.index)
            self._owner.on_restored()
            done()
        except Exception as error:
            self.fail(error)
        self.kick()

    # Time and failure.

    def _arm(self, when: float) -> None:
        """One timer, moved only when the next deadline is earlier than it."""
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._scheduler.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pass()

    def _fence(self, index: Index) -> None:
        """This node's state is not what the quorum's is: stop at once, and remember it before saying so."""
        error = Diverged(f"the state of this node differs from that of the quorum at index {index}: rebuild this node")
        self.stop()
        self._sync_worker.submit(lambda: self.store.fence(index), lambda _, failed: self.fail(failed or error))

    def fail(self, error: BaseException) -> None:
        """Stop for good: a node that cannot trust its disk or its own state must not go on (R6)."""
        if self.failed is None:
            self.failed = error
            self.stop()
            self._owner.on_failed(error)
