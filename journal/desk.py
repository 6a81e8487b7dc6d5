"""Where one member takes in updates and questions: the owner of its replica, and the hooks of its machine.

Hands requests to the replica and proposes them again when they may be lost, lets reads wait for a round of the
leader or for an index, and tells what happens. Everything runs on the scheduler's thread, by callbacks; `Journal`
makes coroutines of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from heapq import heappop, heappush
from weakref import WeakValueDictionary

from journal.clock import Handle, Scheduler
from journal.errors import Busy, JournalError, JournalStopped
from journal.events import (
    Event,
    EventStream,
    LeaderChanged,
    MachineEvent,
    RoleChanged,
    StateReplaced,
    VotersChanged,
)
from journal.exactly_once import ExactlyOnce, Results, opening
from journal.levels import Response
from journal.limits import Limits
from journal.raft.messages import AdminReply, AdminRequest
from journal.raft.ready import Leadership, Role
from journal.replica import Replica
from journal.statemachine import StateMachine
from journal.updates import Tell, Update, Updates
from journal.values import START, Configuration, Index, NodeId

logger = logging.getLogger("journal.desk")

TURN_SECONDS = 0.25
"""How often updates that do not move are looked for."""
STUCK_TURNS = 4
"""When the oldest update has not moved for so many turns, all are proposed again ..."""
STUCK_TURNS_MAX = 32
"""... and when that does not help, after twice as many, up to so many: a slow cluster must not be buried."""
NONCE_BYTES = 16
PIECE_BYTES_MAX = 256 * 1024
"""Piece of a snapshot."""
WATCHERS_MAX = 1024
"""Streams and callbacks that are told of events."""

Wake = Callable[[JournalError | None], None]
"""Called once: what was waited for is there, or never will be."""


class _Batch:
    """Requests that go into one record."""

    __slots__ = ("count", "requests", "size", "updates", "wanted")

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.updates: list[Update] = []
        self.count = 0
        """Indices that they take."""
        self.size = 0
        self.wanted = 0
        """What the leader is asked to acknowledge; the same for all of them."""

    def add(self, update: Update | None, request: bytes, count: int, wanted: int) -> None:
        self.requests.append(request)
        self.count += count
        self.size += len(request)
        self.wanted = wanted
        if update is not None:
            self.updates.append(update)


class Desk:
    """Implements `journal.replica.Owner` and `journal.exactly_once.Hooks`."""

    def __init__(
        self,
        machine: StateMachine,
        limits: Limits,
        scheduler: Scheduler,
        entropy: Callable[[int], bytes],
        *,
        on_room: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`on_room` is called when an update is no longer on its way, `on_failure` when the replica has failed."""
        self.machine = ExactlyOnce(machine, self, min(PIECE_BYTES_MAX, limits.record_bytes_max))
        self.updates = Updates(limits.proposals_bytes_max, on_room)
        self.replica: Replica
        """Set by `bind`, before anything is called."""
        self._on_failure = on_failure
        self._limits = limits
        self._scheduler = scheduler
        self._entropy = entropy
        self._nonce = b""
        """Of the origin that is being opened; empty while none is."""
        self._known = (0, "")
        """The term and leader that updates were last proposed to."""
        self._role: Role | None = None
        self._voters: tuple[tuple[NodeId, ...], tuple[NodeId, ...]] = ((), ())
        self._outbox: list[Update | None] = []
        """What is to be proposed in the next turn; None opens an origin."""
        self._sending = False
        """`_send` is on its way."""

        self._joining: dict[Wake, None] = {}
        """Reads for the round that has not started."""
        self._in_round: dict[Wake, None] = {}
        """Reads in the round under way."""
        self._awaited: list[tuple[int, int, Wake]] = []
        """A heap of (index, number, whom to call when it is applied)."""
        self._given_up: set[int] = set()
        """Numbers of those that need not be called any more."""
        self._following: list[Wake] = []
        """Who waits until this node does not lead."""
        self._numbers = 0
        self._streams: WeakValueDictionary[int, EventStream] = WeakValueDictionary()
        self._callbacks: dict[Callable[[Event], object], None] = {}
        self._timer: Handle | None = None
        self._turn = 0
        self._oldest = (0, 0)
        """Origin and serial of the oldest update at the last look around."""
        self._moved_turn = 0
        """When that changed, or all were proposed again."""
        self._patience = STUCK_TURNS
        self._stopped = False

    def bind(self, replica: Replica) -> None:
        """The replica was recovered. To be called before anything else."""
        self.replica = replica

    def start(self) -> None:
        configuration = self.replica.core.configuration
        self._voters = (configuration.voters, configuration.outgoing)
        if not self._stopped:
            self._arm()

    def stop(self, why: str = "the journal stopped") -> None:
        """Answer whoever still waits, and end all streams."""
        if self._stopped:
            return
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self.updates.stop(JournalStopped(why))
        stopped = JournalStopped(why)
        for wake in (*self._joining, *self._in_round, *(wake for _, _, wake in self._awaited), *self._following):
            wake(stopped)
        for stream in list(self._streams.values()):
            stream.close()
        self._callbacks.clear()

    # Updates.

    def update(self, commands: tuple[bytes, ...], response: Response, tell: Tell) -> Update:
        """Send commands on their way. Raises Busy."""
        update = self.updates.add(commands, response, tell)
        if self.updates.origin:
            self._send_soon(update)
        elif not self._nonce:
            self._open()
        return update

    def _open(self) -> None:
        self._nonce = self._entropy(NONCE_BYTES)
        self._send_soon(None)

    def _propose_again(self) -> None:
        """What was proposed may be lost."""
        self._outbox.clear()
        if self._nonce:
            self._send_soon(None)
        elif self.updates.origin:
            for update in self.updates:
                self._send_soon(update)

    def _send_soon(self, update: Update | None) -> None:
        """In the next turn, so that the updates of this one share a record. None stands for opening an origin."""
        self._outbox.append(update)
        if not self._sending:
            self._sending = True
            self._scheduler.call_soon(self._send)

    def _send(self) -> None:
        """Propose what is in the outbox, in its order: an update that overtook another would have no effect."""
        self._sending = False
        outbox, self._outbox = self._outbox, []
        if self._stopped or self.replica.stopped:
            return
        batch = _Batch()
        for update in outbox:
            if update is None:
                request, count, wanted = opening(self._nonce), 1, 0
            elif self.updates.origin and update in self.updates:
                request, count, wanted = self.updates.request(update), update.count, update.wanted
            else:
                continue
            if batch.count and (wanted != batch.wanted or batch.size + len(request) > self._limits.record_bytes_max):
                self._propose(batch)
                batch = _Batch()
            batch.add(update, request, count, wanted)
        if batch.count:
            self._propose(batch)

    def _propose(self, batch: _Batch) -> None:
        # What cannot be sent, or is dropped on its way, is proposed again: with a new leader, or because it is stuck.
        context = self.updates.new_context(batch.updates) if batch.wanted else 0
        self.replica.propose_asking(b"".join(batch.requests), batch.count, context, batch.wanted)

    def on_proposal_reply(self, context: int, index: Index) -> None:
        if index:
            self.updates.on_acknowledged(context)

    # What the machine tells while it applies (exactly_once.Hooks).

    def on_opened(self, nonce: bytes, origin: int) -> None:
        if nonce == self._nonce and nonce:
            self._nonce = b""
            self.updates.origin = origin
            for update in self.updates:
                self._send_soon(update)

    def on_results(self, origin: int, serial: int, index: int, results: Results) -> None:
        if origin == self.updates.origin:
            self.updates.on_results(serial, index, results)

    def on_forgotten(self, origin: int, serial: int) -> None:
        if origin == self.updates.origin:
            logger.info("origin %d is forgotten", origin)
            self.updates.on_forgotten()
            if self.updates:
                self._open()

    def on_event(self, index: int, event: bytes) -> None:
        if self._streams or self._callbacks:
            self._tell(MachineEvent(index, event))

    def on_replaced(self, index: int) -> None:
        self._tell(StateReplaced(index))

    # Reads.

    def join_round(self, wake: Wake) -> None:
        """Call `wake` when a read round that starts from now on is confirmed and applied. Raises Busy."""
        if len(self._joining) + len(self._in_round) >= self._limits.reads_waiting_max:
            raise Busy(f"{self._limits.reads_waiting_max} reads already wait for a round")
        self._joining[wake] = None
        self.replica.want_read()

    def leave_round(self, wake: Wake) -> None:
        """`wake` need not be called any more."""
        self._joining.pop(wake, None)
        self._in_round.pop(wake, None)

    def when_applied(self, index: int, wake: Wake) -> int:
        """Call `wake` when `index` is applied, which it is not yet. Returns what `give_up` takes. Raises Busy."""
        assert index > self.replica.applied, (index, self.replica.applied)
        if len(self._awaited) >= self._limits.reads_waiting_max:
            self._awaited = sorted(item for item in self._awaited if item[1] not in self._given_up)
            self._given_up.clear()
            if len(self._awaited) >= self._limits.reads_waiting_max:
                raise Busy(f"{self._limits.reads_waiting_max} reads already wait for an index")
        self._numbers += 1
        heappush(self._awaited, (index, self._numbers, wake))
        return self._numbers

    def give_up(self, number: int) -> None:
        self._given_up.add(number)

    def on_read_start(self) -> bytes:
        self._in_round.update(self._joining)
        self._joining.clear()
        return b""

    def on_read_done(self) -> None:
        done, self._in_round = self._in_round, {}
        for wake in done:
            wake(None)

    def on_note(self, note: bytes) -> Index:
        return START.index

    # The replica's other news (replica.Owner).

    def when_following(self, wake: Wake) -> None:
        """Call `wake` when this node, which leads, does not lead any more."""
        self._following.append(wake)

    def on_leadership(self, leadership: Leadership) -> None:
        if leadership.role is not Role.LEADER:
            following, self._following = self._following, []
            for wake in following:
                wake(None)
        if leadership.role is not self._role:
            self._role = leadership.role
            self._tell(RoleChanged(leadership.role.value, leadership.term))
        if leadership.leader is None:
            return
        known = (leadership.term, leadership.leader)
        if known != self._known:
            self._known = known
            self._tell(LeaderChanged(leadership.leader, leadership.term))
            self._propose_again()  # what was proposed to another leader may be lost

    def on_restored(self) -> None:
        """What happened in between was not told one by one."""
        self._tell(StateReplaced(self.replica.applied))
        self.updates.restored(self.machine.origins.get(self.updates.origin))
        if self.updates and not self.updates.origin and not self._nonce:
            self._open()
        else:
            self._propose_again()

    def on_pass_end(self) -> None:
        awaited, applied = self._awaited, self.replica.applied
        while awaited and awaited[0][0] <= applied:
            _, number, wake = heappop(awaited)
            if number in self._given_up:
                self._given_up.discard(number)
            else:
                wake(None)

    def on_configuration(self, configuration: Configuration) -> None:
        voters = (configuration.voters, configuration.outgoing)
        if voters != self._voters:
            self._voters = voters
            self._tell(VotersChanged(*voters))

    def on_admin(self, sender: NodeId, message: AdminRequest | AdminReply) -> None:
        """Nobody administers a journal through its peers."""

    def on_failed(self, error: BaseException) -> None:
        self.stop(f"the journal has failed: {error}")
        self._on_failure(error)

    # Events.

    def stream(self) -> EventStream:
        """A new stream of all events from now on. Raises Busy."""
        self._check_watchers()
        stream = EventStream()
        self._numbers += 1
        self._streams[self._numbers] = stream
        return stream

    def watch(self, callback: Callable[[Event], object]) -> None:
        """Call `callback` with each event from now on, soon after it happened. Raises Busy."""
        self._check_watchers()
        self._callbacks[callback] = None

    def unwatch(self, callback: Callable[[Event], object]) -> None:
        self._callbacks.pop(callback, None)

    def _check_watchers(self) -> None:
        if len(self._streams) + len(self._callbacks) >= WATCHERS_MAX:
            raise Busy(f"{WATCHERS_MAX} already listen to events")

    def _tell(self, event: Event) -> None:
        for stream in list(self._streams.values()):
            stream.push(event)
        for callback in self._callbacks:
            # Not from within a pass: what a callback raises concerns the callback alone.
            self._scheduler.call_soon(callback, event)

    # Looking around.

    def _arm(self) -> None:
        self._timer = self._scheduler.call_at(self._scheduler.time() + TURN_SECONDS, self._look_around)

    def _look_around(self) -> None:
        """Every quarter of a second: unstick updates whose proposal was lost or turned away."""
        self._turn += 1
        oldest = (self.updates.origin, self.updates.oldest)
        if not self.updates or oldest != self._oldest:
            self._oldest, self._moved_turn, self._patience = oldest, self._turn, STUCK_TURNS
        elif self._turn - self._moved_turn >= self._patience:
            self._moved_turn = self._turn
            self._patience = min(2 * self._patience, STUCK_TURNS_MAX)
            self._propose_again()
        self._arm()
