"""Joins the checkers to the running servers: what each of them is shown, and when.

Looks into the production objects from outside (their cores, machines and stores) and never changes them;
where it must be told of something it stands in front of a bound method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from jkcs_server.tree.machine import TreeMachine
from journal.errors import CorruptRecord, DiskFailed, StorageError
from journal.raft.messages import AppendReply, Message
from journal.raft.ready import Role
from journal.replica import Replica
from journal.storage.metadata import META_NAME, Metadata
from journal.storage.snapshots import is_temporary_name
from journal.storage.store import Store
from journal.values import Configuration, Entry, HardState, Index, NodeId
from tests.simulation.checkers.answers import AnswerChecker
from tests.simulation.checkers.bounds import STEPS_BETWEEN, Stall, bounds_of, check_bounds, check_office, check_owners
from tests.simulation.checkers.durability import DurabilityChecker, DurableLog
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.checkers.raft import Committed, RaftChecker
from tests.simulation.checkers.recovery import SYNCS_BETWEEN, Owner, RecoveryChecker, torn_copy
from tests.simulation.checkers.sessions import SessionChecker
from tests.simulation.checkers.wire import Conversation
from tests.simulation.checkers.wire_zookeeper import ZooKeeperConversation
from tests.simulation.crash_points import CrashPoints
from tests.simulation.edge import machine_before, position_before
from tests.simulation.loop import SimLoop
from tests.simulation.reach import Reach
from tests.simulation.streams import Connection
from tests.simulation.trace import Trace, Violation

if TYPE_CHECKING:
    from tests.simulation.world import Machine

T = TypeVar("T")
SNAPSHOT_PREFIX = "snap-"
LOG_PREFIX = "log-"
READ_BYTES = 1 << 20


class CoreView:
    """A server's core as the Raft checker wants to see it."""

    __slots__ = ("_core", "_last", "_replica", "_state")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._core = replica.core
        self._state = replica.core._state
        self._last: tuple[object, ...] = ()

    def has_moved(self) -> bool:
        """Whether anything that is looked at after each step has changed since this was last asked."""
        state = self._state
        now = (state.term, state.commit, self._replica.applied, state.role)
        if now == self._last:
            return False
        self._last = now
        return True

    @property
    def leads(self) -> bool:
        return self._core.role is Role.LEADER

    @property
    def term(self) -> int:
        return self._core.term

    @property
    def commit(self) -> int:
        return self._core.commit

    @property
    def applied(self) -> int:
        return self._replica.applied

    @property
    def last_index(self) -> int:
        return self._core.last_index

    @property
    def durable(self) -> int:
        return self._core.durable

    @property
    def matches(self) -> dict[object, int]:
        leader = self._core._leader
        return {} if leader is None else {progress: progress.match for progress in leader._in_order}

    @property
    def heard_at(self) -> list[float]:
        """When a leader last heard each of its peers."""
        leader = self._core._leader
        return [] if leader is None else [progress.heard_at for progress in leader._in_order]

    @property
    def configuration(self) -> Configuration:
        return self._core._state.configuration

    def term_at(self, index: int) -> int | None:
        try:
            return self._core._state.log.term_at(Index(index))
        except (CorruptRecord, DiskFailed):
            return None  # its disk cannot be read just now


class WorldObserver:
    """Implements `tests.simulation.world.Observer` with all checkers that watch servers."""

    def __init__(self, loop: SimLoop, trace: Trace) -> None:
        self.sessions = SessionChecker(lambda: loop.now)
        self.raft = RaftChecker()
        self.ghost = GhostTree(self.sessions)
        self.answers = AnswerChecker(self.ghost)
        self.recovery = RecoveryChecker()
        self.durability: DurabilityChecker
        """Set by `watch_disks`, like all that looks at disks."""
        self._loop = loop
        self._trace = trace
        self._views: dict[NodeId, CoreView] = {}
        self._steps: dict[NodeId, int] = {}
        self._stalls: dict[NodeId, Stall] = {}
        self._machines: dict[NodeId, Machine] = {}
        self.reach: Reach
        self.crash_points: CrashPoints
        """Both set by `bind`."""
        self._hard_state: Callable[[NodeId], HardState]

    def bind(self, reach: Reach, crash_points: CrashPoints) -> None:
        """Whom to tell of the moments that are seen here. Before any server is started."""
        self.reach = reach
        self.crash_points = crash_points

    def begin_before(self, edge: int) -> None:
        """The log begins right before `edge`. Before any server is started."""
        position = position_before(edge)
        self.raft.begin(Committed(int(position.index), int(position.term)))
        self.ghost.begin(machine_before(edge), position.stamp)

    def watch_disks(self, machines: dict[NodeId, Machine]) -> None:
        """Follow what becomes durable. Before any server is started."""

        def hard_state(node: NodeId) -> HardState:
            try:
                disk = machines[node].disk.durable_image()
                return Metadata.load(disk).hard_state if META_NAME in disk.names() else HardState()
            except StorageError:
                return HardState()

        self._machines = machines
        self._hard_state = hard_state
        self.durability = DurabilityChecker(machines, hard_state)
        for machine in machines.values():
            self._watch_disk(machine)

    def _watch_disk(self, machine: Machine) -> None:
        def on_durable(name: str, written: list[tuple[int, bytes]]) -> None:
            if name.startswith(LOG_PREFIX):
                for _, data in written:
                    self.durability.logs[machine.name].on_written(data)
            elif name == META_NAME:
                self._safely(lambda: self.durability.on_hard_state(machine.name))

        def on_names() -> None:
            log = self.durability.logs[machine.name]
            log.snapshot = max(log.snapshot, newest_snapshot(machine.disk.names()))

        sync = machine.disk.sync
        syncs = 0

        def watched_sync(name: str) -> None:
            nonlocal syncs
            syncs += name.startswith(LOG_PREFIX)
            if syncs % SYNCS_BETWEEN == 0 and self.recovery.knows(machine.name):
                self._safely(lambda: self._rehearse(machine.name))
            sync(name)

        # Set on the instance: here a write is under way, which no later moment shows.
        machine.disk.sync = watched_sync  # type: ignore[method-assign]
        rename = machine.disk.rename

        def watched_rename(old: str, new: str) -> None:
            cuts = new.startswith(LOG_PREFIX) and new in machine.disk.names()
            rename(old, new)
            if cuts and self.recovery.knows(machine.name):
                self._safely(lambda: self._rehearse(machine.name))  # the log has become shorter

        machine.disk.rename = watched_rename  # type: ignore[method-assign]
        machine.disk.on_durable = on_durable
        machine.disk.on_names = on_names

    # World's news.

    def on_boot(self, machine: Machine) -> None:
        server = machine.server
        assert server is not None
        view = self._views[machine.name] = CoreView(server.replica)
        self.raft.on_start(machine.name, view)
        found = durable_log(server.store)
        found.snapshot = newest_snapshot(machine.disk.names())
        if machine.rotted:
            self.durability.on_damaged(machine.name, found)
        else:
            self.durability.on_recovered(machine.name, found, self.raft.newest)
        self._trace.add(machine.name, f"is up in term {view.term}, log to {view.last_index}, applied {view.applied}")
        self.ghost.check_snapshot(machine.name, server.machine)
        owner = Owner(server.store._metadata.identity, server.replica._limits, server.store.configuration)
        self.recovery.on_boot(machine.name, owner)
        self._steps[machine.name] = 0
        self._stalls[machine.name] = Stall()
        self._stand_before_apply(machine.name, server.machine)
        self.crash_points.reach(machine.name, "start.recovered")

    def on_step(self, machine: Machine) -> None:
        node = machine.name
        view = self._views[node]
        if view.has_moved():
            self._on_moved(machine, view)
        self._steps[node] += 1
        if self._steps[node] % STEPS_BETWEEN == 0 and machine.server is not None:
            check_bounds(node, bounds_of(machine.server, machine.server.replica._limits))
            check_owners(node, machine.server)
            self._check_office(machine, view)
        due = self.recovery.due()
        if due is not None:
            self._rehearse(due)

    def _on_moved(self, machine: Machine, view: CoreView) -> None:
        """Something that a step can break has changed."""
        node = machine.name
        before = self.raft.newest.index
        self.reach.on_step(machine)
        committed = self.raft.on_step(node, view)
        if view.leads:
            self.raft.check_elected(node, view.term, view.configuration)
        if committed is not None:
            self.durability.on_commit(committed, view.configuration)
            self._trace.add(node, f"commits {committed.index} in term {committed.term}")
            self.reach.on_commit(view, before, committed.index)
            self.crash_points.reach(node, "commit.advance")

    def on_send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        self.raft.on_send(sender, to, message)
        self.durability.on_send(sender, to, message)
        if type(message) is AppendReply and not message.refused and message.match:
            leader = self._views.get(to)
            if leader is not None and leader.leads and leader.term == message.term:
                self.durability.check_acknowledged_is(sender, message.match, to, leader.term_at(message.match))

    def on_connection(self, connection: Connection) -> None:
        who = f"{connection.client.name} at {connection.server.name}"
        talk: Conversation | ZooKeeperConversation | None = None

        def on_sent(data: bytes) -> None:
            nonlocal talk
            if talk is None:
                # By its first byte, as the server tells them apart.
                talk = Conversation(who, self.ghost) if data[0] else ZooKeeperConversation(who, self.ghost)
            talk.on_sent(data)

        connection.on_sent = on_sent
        # A server says nothing before it was spoken to, but for a refusal.
        connection.on_written = lambda data: talk and self._safely(lambda: talk.on_written(data))

    def _check_office(self, machine: Machine, view: CoreView) -> None:
        assert machine.server is not None and machine.process is not None
        # A process that stood still has heard nobody, and is given its time again.
        rate = machine.process.rate
        timing = machine.server.replica._timing
        awake = self._loop.now - max(machine.process.resumed_at, 0.0) > 2 * timing.election_timeout
        has_peers = len(view.configuration.voters) > 1
        self._stalls[machine.name].look(
            machine.name,
            view.leads and awake and has_peers,
            view.durable,
            view.last_index,
            timing,
            self._loop.now * rate,
        )
        if view.leads:
            heard_at = [max(heard, machine.process.resumed_at * rate) for heard in view.heard_at]
            check_office(
                machine.name,
                heard_at,
                len(view.configuration.voters),
                timing,
                self._loop.now * rate,
            )

    def _rehearse(self, node: NodeId) -> None:
        """Start a copy of a machine on what is durable now. Of a damaged disk nothing is asked."""
        if self._machines[node].rotted:
            return
        self.recovery.check(
            node,
            torn_copy(self._machines[node].disk),
            self.durability.logs[node],
            self.raft.newest,
            self._hard_state(node),
            durable_log,
        )

    # Before the machine.

    def _stand_before_apply(self, node: NodeId, machine: TreeMachine) -> None:
        apply, restore = machine.apply, machine.restore

        def watched_apply(entry: Entry) -> None:
            self.crash_points.reach(node, "apply.before")
            if self._safely(lambda: self.raft.on_apply(node, entry)):
                self.reach.on_first_apply(node, entry, machine)
                self._safely(lambda: self.ghost.on_first_apply(entry))
                self._trace.add(node, f"applies {entry.first}-{entry.last} {entry.kind.name} of term {entry.term}")
            apply(entry)
            self._safely(lambda: self.durability.check_applied(node, entry))
            self._safely(lambda: self.ghost.check_applied(node, entry, machine))
            self.crash_points.reach(node, "apply.after")

        def watched_restore(chunks: Iterable[bytes]) -> None:
            restore(chunks)
            self._trace.add(node, f"restores a snapshot at {machine.applied}")
            self._safely(lambda: self.ghost.check_snapshot(node, machine))

        # Set on the instance: whoever calls the machine by name meets these first.
        machine.apply = watched_apply  # type: ignore[method-assign]
        machine.restore = watched_restore  # type: ignore[method-assign]

    def _safely(self, check: Callable[[], T]) -> T | None:
        """Let a violation end the run and not become the product's own failure."""
        try:
            return check()
        except Violation as violation:
            self._loop.fail(violation)
            return None


def newest_snapshot(names: list[str]) -> int:
    """Of one that is still being received nobody may say that it is there."""
    whole = [name for name in names if name.startswith(SNAPSHOT_PREFIX) and not is_temporary_name(name)]
    return max((int(name.split("-")[1]) for name in whole), default=0)


def durable_log(store: Store) -> DurableLog:
    """What a store has found, told record by record."""
    log = DurableLog()
    index = store.start.index
    while index < store.last.index:
        _, entries = store.read(Index(index + 1), READ_BYTES)
        for entry in entries:
            log.put(entry.first, entry.last, entry.term, entry.crc)
        index = entries[-1].last
    return log
