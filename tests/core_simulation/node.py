"""One node: a Raft core, a disk that takes its time, a machine that is a checksum, and a clock of its own.

The driver of the core in this simulator. It obeys the order that `Ready` asks for, shows everything to the
ghost, and can be made to crash between any two effects. Knows nothing of why faults happen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from journal.errors import Busy, ChangeRefused, NotLeader
from journal.raft.core import Core, CoreConfig
from journal.raft.log import Log
from journal.raft.messages import Message, PullRequest, SnapshotChunk, SnapshotReply
from journal.raft.ready import Ready
from journal.values import Configuration, Entry, HardState, NodeId, SnapshotMeta
from tests.core_simulation.image import Image

if TYPE_CHECKING:
    from tests.core_simulation.world import World

INBOX_MAX = 500
"""What a paused node keeps for later; a full socket buffer loses the rest."""

MENDED_WRITE_MEAN = 0.001


class Blown(Exception):
    """The node crashes at this very effect."""


@dataclass(slots=True)
class Write:
    """What one Ready gives to the disk."""

    number: int
    hard_state: HardState | None
    entries: list[Entry]


class Node:
    """A node of the world. `rate` is how fast its clock runs."""

    def __init__(self, world: World, name: NodeId, configuration: Configuration, rate: float) -> None:
        self.world = world
        self.name = name
        self.image = Image()
        self.up = False
        self.paused = False
        self.hung_until = 0.0
        """The disk finishes nothing before."""
        self.fuse = 0
        """Above 0: the node crashes at the effect that makes it 0."""
        self.starts = 0
        self.core: Core
        self._configuration = configuration
        self._rate = rate
        self._random = Random(f"{world.plan.seed}/node {name}")
        self._write_rate = 1 / world.plan.write_mean
        self._clear()

    def _clear(self) -> None:
        self._writes: deque[Write] = deque()
        """Given to the disk and not finished, oldest first."""
        self._writing = 0
        """How many of them the disk is busy with."""
        self._held: deque[tuple[int, list[tuple[NodeId, Message]]]] = deque()
        """Replies that wait for writes, by the number of their Ready."""
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        """What happened to a paused node."""
        self._restoring: tuple[NodeId, SnapshotMeta] | None = None
        """A received snapshot that is to replace log and machine, and who sent it."""
        self._installing = False
        """It is being written, all earlier writes being done."""
        self._taking: SnapshotMeta | None = None
        """A snapshot of the own machine on its way to the disk."""
        self._timer_at = float("inf")
        self._configured: Configuration | None = None
        """The configuration that the world was last told of."""
        self._disk_job = 0
        """Which write or installation the disk is busy with."""

    @property
    def now(self) -> float:
        """What this node's clock shows."""
        return self.world.now * self._rate

    # Lives

    def start(self) -> None:
        """Start from what is on the disk."""
        assert not self.up, self.name
        self._clear()
        image, world = self.image, self.world
        kept = self._random.randint(0, len(image.entries))
        before = image.position_at(image.lasts[kept - 1]) if kept else image.start
        applied = image.snapshot.position.index if image.snapshot else image.start.index
        tail, changes = image.entries[kept:], image.configurations(applied)
        self.core = Core(
            CoreConfig(self.name, world.plan.limits, world.plan.timing),
            image.snapshot.configuration if image.snapshot else self._configuration,
            image.hard_state,
            Log(image, image.start, before, tail, image.last, world.plan.limits, changes),
            applied=applied,
            now=self.now,
            chance=self._random.random,
            withheld=image.withheld_until,
        )
        self.starts += 1
        self.up, self.paused, self.fuse = True, False, 0
        world.ghost.on_start(self.name, self.core)
        world.trace(self.name, "starts with", image)
        self._turn(self._nothing)

    def crash(self) -> None:
        """Lose all but the disk; of what it was busy with a part made it, down to single records."""
        world, image = self.world, self.image
        world.trace(self.name, "crashes with", image)
        steps: list[tuple[HardState | None, list[Entry]]] = []
        for write in self._writes:
            if write.hard_state is not None:
                steps.append((write.hard_state, []))
            steps += [(None, [entry]) for entry in write.entries]
        done = self._random.randint(0, len(steps))
        for hard_state, entries in steps[:done]:
            self._save(hard_state, entries)
        if 0 < done < len(steps):
            world.count("write cut short")
        self._maybe_finish_snapshot(all_written=done == len(steps))
        self.up = False
        self._clear()

    def _maybe_finish_snapshot(self, *, all_written: bool) -> None:
        """A snapshot that was being written when the node crashed made it, or did not."""
        made = self._random.random() < 0.5
        newest = self.image.snapshot
        if made and all_written and self._installing and self._restoring is not None:
            self.image.install(self._restoring[1])
            self.world.ghost.on_snapshot(self.name, self._restoring[1])
        elif made and self._taking and (not newest or newest.position.index < self._taking.position.index):
            self._keep_snapshot(self._taking)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        """Everything that came meanwhile happens now, in a burst."""
        self.paused = False
        while self._inbox and self.up and not self.paused:
            action, arguments = self._inbox.popleft()
            self._turn(action, *arguments)

    # Facts

    def hear(self, sender: NodeId, message: Message) -> None:
        """A message arrives."""
        if self.up:
            self._fact(self._step, sender, message)

    def peer_lost(self, peer: NodeId) -> None:
        """The connection with a peer breaks."""
        if self.up:
            self._fact(self._lose, peer)

    def propose(self, payload: bytes, count: int, stamp: int) -> None:
        if self.up:
            self._fact(self._propose, payload, count, stamp)

    def read(self, context: int) -> None:
        if self.up:
            self.world.ghost.on_ask(context)
            self._fact(self._read, context)

    def transfer(self, target: NodeId | None) -> None:
        if self.up:
            self._fact(self._transfer, target)

    def change(self, voters: tuple[NodeId, ...]) -> None:
        """Make these the voters."""
        if self.up:
            self._fact(self._update_voters, voters)

    def convert(self, node: NodeId, role: str) -> None:
        """Give a node a role; "preferred" makes it the one that should lead."""
        if self.up:
            self._fact(self._convert, node, role)

    def snapshot(self) -> None:
        """Begin to take a snapshot of the machine as it is."""
        if self.up:
            self._fact(self._take)

    def _step(self, sender: NodeId, message: Message) -> None:
        self.core.step(sender, message, self.now)

    def _lose(self, peer: NodeId) -> None:
        self.core.peer_lost(peer, self.now)

    def _propose(self, payload: bytes, count: int, stamp: int) -> None:
        try:
            index = self.core.propose(payload, count, stamp, self.now)
        except Busy:
            self.world.count("busy")
        else:
            self.world.count("proposal" if index is not None else "proposal refused")

    def _read(self, context: int) -> None:
        try:
            self.core.read(context, self.now)
        except Busy:
            self.world.count("busy")

    def _transfer(self, target: NodeId | None) -> None:
        if self.core.transfer(target, self.now):
            self.world.count("transfer begun")

    def _update_voters(self, voters: tuple[NodeId, ...]) -> None:
        try:
            self.core.update_voters(self.core.configuration.voters, voters, {}, self.now)
        except (Busy, ChangeRefused, NotLeader):
            self.world.count("change refused")
        else:
            self.world.count("change of voters")

    def _convert(self, node: NodeId, role: str) -> None:
        try:
            if role == "preferred":
                self.core.set_preferred_leader(node, self.now)
            else:
                self.core.convert_role(node, role, "", self.now)
        except (Busy, ChangeRefused, NotLeader):
            self.world.count("change refused")
        else:
            self.world.count(f"to {role}")

    def _nothing(self) -> None:
        pass

    def _fact(self, action: Callable[..., None], *arguments: Any) -> None:
        if self.paused:
            if len(self._inbox) < INBOX_MAX:
                self._inbox.append((action, arguments))
        else:
            self._turn(action, *arguments)

    def _turn(self, action: Callable[..., None], *arguments: Any) -> None:
        """Let one fact happen, and everything that follows from it at once."""
        try:
            action(*arguments)
            self._run()
        except Blown:
            self.world.count("crash at effect")
            self.world.on_blown(self)

    # Effects

    def _run(self) -> None:
        core, observe = self.core, self.world.ghost.observe
        observe(self.name, core)
        while (ready := core.ready()) is not None:
            observe(self.name, core)
            self._do(ready)
            observe(self.name, core)
        if core.configuration is not self._configured:
            self._configured = core.configuration
            self.world.name(core.configuration, core.configuration_index)
        if self._restoring is not None and not self._writes and not self._installing:
            self._install()
        at = core.deadline / self._rate
        if at < self._timer_at:
            self._arm(at)

    def _arm(self, at: float) -> None:
        self._timer_at = at = max(at, self.world.now)
        self.world.at(at, self._ring, self.starts, at)

    def _ring(self, start: int, at: float) -> None:
        """A timer fires. Deadlines mostly move back, so a timer that comes early is only set again."""
        if start != self.starts or at != self._timer_at or not self.up:
            return
        self._timer_at = float("inf")
        if self.paused:
            self._inbox.append((self._tick, ()))
        elif self.now < self.core.deadline:
            # A hair late: seconds on two clocks do not convert without loss.
            self._arm(self.core.deadline / self._rate + 1e-9)
        else:
            self._turn(self._tick)

    def _tick(self) -> None:
        self.core.tick(self.now)

    def _do(self, ready: Ready) -> None:
        if ready.messages:
            self._send(ready.messages)
        if ready.must_save:
            self._burn()
            self._writes.append(Write(ready.number, ready.hard_state, ready.entries))
            self._maybe_begin_writing()
        if ready.replies:
            self._held.append((ready.number, ready.replies))
            self._release()
        if ready.committed:
            self._burn()
            self.world.ghost.on_apply(self.name, self.core, ready.committed)
            index = ready.committed[-1].last
            self.core.applied_to(index)
            self.core.record_digest(index, self.world.ghost.seen[self.name].machine_digest)
        for grant in ready.reads:
            self.world.ghost.on_grant(self.name, grant)
        for sender, chunk in ready.chunks:
            self._on_chunk(sender, chunk)
        for peer in ready.snapshots_wanted:
            self._send_snapshot(peer)

    def _send(self, messages: list[tuple[NodeId, Message]]) -> None:
        world = self.world
        send, check = world.network.send, world.ghost.on_send
        for to, message in messages:
            if isinstance(message, PullRequest) and not self.belongs():
                continue
            if self.fuse:
                self._burn()
            check(self.name, self.core, to, message)
            if world.tracing:
                world.trace(self.name, "sends", to, message)
            send(self.name, to, message)

    def belongs(self) -> bool:
        """Whether this node is a member as far as it knows, or was made one since.

        In production nobody speaks with others, and whoever learns that it was removed stops: none of them pulls.
        """
        core, name = self.core, self.name
        return (
            name in core.configuration.members
            or name in core.committed_configuration.members
            or core.commit < self.world.named.get(name, 0)
        )

    def _burn(self) -> None:
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                raise Blown

    # The disk

    def _maybe_begin_writing(self) -> None:
        """All that waits is written with one sync, when the disk is free."""
        if self._writing or self._installing or not self._writes:
            return
        self._writing = len(self._writes)
        self._begin_job(self._end_writing)

    def _begin_job(self, end: Callable[..., None]) -> None:
        """Do something on the disk: `end` is called when it is done."""
        self._disk_job += 1
        seconds = 0.0001 + self._random.expovariate(self._write_rate)
        self.world.at(max(self.world.now, self.hung_until) + seconds, end, self.starts, self._disk_job)

    def mend_disk(self) -> None:
        """The disk is quick from now on, also with what it is busy with."""
        self.hung_until = 0.0
        self._write_rate = 1 / MENDED_WRITE_MEAN
        if self._writing:
            self._begin_job(self._end_writing)
        elif self._installing:
            self._begin_job(self._end_install)

    def _is_current(self, start: int, job: int) -> bool:
        return self.up and start == self.starts and job == self._disk_job

    def _end_writing(self, start: int, job: int) -> None:
        if not self._is_current(start, job):
            return
        number = 0
        for _ in range(self._writing):
            write = self._writes.popleft()
            self._save(write.hard_state, write.entries)
            number = write.number
        self._writing = 0
        self.image.acknowledge()
        self._maybe_begin_writing()
        self._fact(self._saved, number)

    def _saved(self, number: int) -> None:
        self._burn()
        self.core.saved(number, self.now)
        self._release()

    def _release(self) -> None:
        """Send the replies that wait for no write any more."""
        held, writes = self._held, self._writes
        while held and (not writes or held[0][0] < writes[0].number):
            self._send(held.popleft()[1])

    def _save(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        ghost, image = self.world.ghost, self.image
        if hard_state is not None:
            image.hard_state = hard_state
            ghost.on_hard_state(self.name, hard_state)
        if entries:
            removed, previous = image.append(entries)
            if removed:
                self.world.count("truncation")
            ghost.on_entries(self.name, removed, previous, entries)

    # Snapshots

    def _take(self) -> None:
        core, seen = self.core, self.world.ghost.seen[self.name]
        newest = self.image.snapshot
        if self._taking or self._restoring or core.applied <= (newest.position.index if newest else 0):
            return
        digest = seen.machine_digest.to_bytes(4, "little")
        position = self.image.position_at(core.applied)
        self._taking = meta = SnapshotMeta(position, core.configuration_at(position.index), 1, digest)
        seconds = self._random.expovariate(self._write_rate / 4)
        self.world.at(self.world.now + seconds, self._end_taking, self.starts, meta)

    def _end_taking(self, start: int, meta: SnapshotMeta) -> None:
        if start == self.starts and self.up and self._taking is meta:
            self._fact(self._taken, meta)

    def _taken(self, meta: SnapshotMeta) -> None:
        self._taking = None
        newest = self.image.snapshot
        if self._restoring or (newest and newest.position.index >= meta.position.index):
            return  # a received one has overtaken it
        self._keep_snapshot(meta)
        self._burn()
        start = self.image.cut(self._random.choice((0, 0, 3, 20)), meta.position.index)
        self.core.compacted(start)
        self.world.ghost.on_cut(self.name, self.core)
        self.world.count("snapshot taken")

    def _keep_snapshot(self, meta: SnapshotMeta) -> None:
        self.image.snapshot = meta
        self.world.ghost.on_snapshot(self.name, meta)

    def _send_snapshot(self, peer: NodeId) -> None:
        assert self.image.snapshot is not None, self.name
        self.world.count("snapshot sent")
        self._send([(peer, SnapshotChunk(self.core.term, self.image.snapshot, 0, b""))])

    def _on_chunk(self, sender: NodeId, chunk: SnapshotChunk) -> None:
        """A snapshot is one chunk here: how chunks become a file is no matter of the core."""
        if self._restoring is None and self.core.begin_restore(chunk.meta):
            self._restoring = (sender, chunk.meta)

    def _install(self) -> None:
        assert self._restoring is not None
        self._installing = True
        self._begin_job(self._end_install)

    def _end_install(self, start: int, job: int) -> None:
        if self._is_current(start, job):
            self._fact(self._installed)

    def _installed(self) -> None:
        assert self._restoring is not None and not self._writing
        sender, meta = self._restoring
        self._restoring, self._installing = None, False
        self.image.install(meta)
        self.world.ghost.on_snapshot(self.name, meta)
        self._burn()
        self.core.restored(meta)
        self.world.ghost.on_restored(self.name, self.core, meta)
        self.world.count("snapshot installed")
        self._maybe_begin_writing()  # a term or a vote may have come meanwhile
        self._send([(sender, SnapshotReply(self.core.term, meta.position.index, meta.size, installed=True))])
