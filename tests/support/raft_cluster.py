"""A cluster of Raft cores in memory: a bag of messages, a disk per node, crashes and restarts.

Everything happens when the test says so: nothing is delivered, saved or timed out by itself. A `Disk`
remembers what was saved, a crash forgets the rest. `RaftChecks` (see `raft_checks.py`) watches all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from journal.errors import LogCompacted
from journal.limits import Limits, Timing
from journal.raft.core import Core, CoreConfig
from journal.raft.log import Log
from journal.raft.messages import Append, AppendReply, Message, SnapshotChunk, SnapshotReply, VoteReply
from journal.raft.ready import Leadership, ReadGrant, Ready, Role
from journal.record import make_entry
from journal.values import (
    START,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    Position,
    SnapshotMeta,
    Term,
)
from tests.support.raft_checks import RaftChecks

TIMING = Timing()


def node_names(count: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(f"n{number}") for number in range(1, count + 1))


def position_after(entry: Entry) -> Position:
    return Position(entry.last, entry.term, entry.crc, entry.stamp)


class Disk:
    """What survives a crash: hard state, log, and the newest snapshot. Reads as a `LogReader`."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.start = START
        self.entries: list[Entry] = []
        self.snapshot: SnapshotMeta | None = None
        self.reads = 0

    @property
    def last(self) -> Position:
        return position_after(self.entries[-1]) if self.entries else self.start

    def save(self, hard_state: HardState | None, entries: list[Entry]) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            self.entries = [entry for entry in self.entries if entry.first < entries[0].first] + entries
            assert self.entries[0].first == self.start.index + 1
            for before, after in zip(self.entries, self.entries[1:], strict=False):
                assert after.first == before.last + 1

    def read(self, first: Index, bytes_max: int) -> tuple[Position, list[Entry]]:
        self.reads += 1
        if first <= self.start.index:
            raise LogCompacted(f"{first} <= {self.start.index}")
        before, found, size = self.start, [], 0
        for entry in self.entries:
            if entry.last < first:
                before = position_after(entry)
            elif not found or size + len(entry.record) <= bytes_max:
                found.append(entry)
                size += len(entry.record)
            else:
                break
        assert found, (first, self.last)
        return before, found

    def configurations(self, after: Index) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind is EntryKind.CONFIGURATION and entry.first > after]

    def cut(self, position: Position) -> None:
        self.entries = [entry for entry in self.entries if entry.first > position.index]
        self.start = position


@dataclass(slots=True)
class _Write:
    number: int
    hard_state: HardState | None
    entries: list[Entry]


class Node:
    """A core with the little it needs around it."""

    def __init__(self, cluster: Cluster, name: NodeId) -> None:
        self.cluster = cluster
        self.name = name
        self.disk = Disk()
        self.up = False
        self.paused = False
        """Whether time stands still for it: it is not ticked."""
        self.withheld = Index(0)
        self.reads: list[ReadGrant] = []
        self.leadership: list[Leadership] = []
        self.restores = 0
        self._reset()

    def _reset(self) -> None:
        self.writes: deque[_Write] = deque()
        self.held: deque[tuple[int, list[tuple[NodeId, Message]]]] = deque()
        self.applied: list[Entry] = []
        """What the machine took in since the start of this incarnation."""

    def start(self, memory_entries: int | None = None) -> None:
        """Start from the disk, with the newest `memory_entries` of the log in memory."""
        assert not self.up
        self._reset()
        disk, cluster = self.disk, self.cluster
        applied = disk.snapshot.position.index if disk.snapshot else disk.start.index
        tail = disk.entries if memory_entries is None else disk.entries[len(disk.entries) - memory_entries :]
        before = disk.start
        for entry in disk.entries[: len(disk.entries) - len(tail)]:
            before = position_after(entry)
        self.core = Core(
            CoreConfig(self.name, cluster.limits, cluster.timing),
            disk.snapshot.configuration if disk.snapshot else cluster.configuration,
            disk.hard_state,
            Log(disk, disk.start, before, tail, disk.last, cluster.limits, disk.configurations(applied)),
            applied=applied,
            now=cluster.now,
            chance=cluster.chance,
            withheld=self.withheld,
        )
        self.up = True

    def run(self) -> list[Ready]:
        """Take all that the core wants done, and do what needs no disk."""
        taken = []
        while (ready := self.core.ready()) is not None:
            taken.append(ready)
            self._do(ready)
            self.cluster.checks.observe(self)
        self.cluster.named.update(self.core.configuration.members)
        return taken

    def _do(self, ready: Ready) -> None:
        for to, message in ready.messages:
            self.cluster.post(self.name, to, message)
        if ready.must_save:
            self.writes.append(_Write(ready.number, ready.hard_state, ready.entries))
        if ready.replies:
            self.held.append((ready.number, ready.replies))
        self._release()
        if ready.leadership is not None:
            self.leadership.append(ready.leadership)
        if ready.committed:
            self.applied.extend(ready.committed)
            self.cluster.checks.on_committed(self, ready.committed)
            self.core.applied_to(ready.committed[-1].last)
        for grant in ready.reads:
            self.reads.append(grant)
            self.cluster.checks.on_read(grant)
        for sender, chunk in ready.chunks:
            self._install(sender, chunk)
        for peer in ready.snapshots_wanted:
            assert self.disk.snapshot is not None
            chunk = SnapshotChunk(self.core.term, self.disk.snapshot, 0, b"")
            self.cluster.post(self.name, peer, chunk)

    def save(self, count: int = 1) -> None:
        """The disk finishes its oldest `count` writes."""
        for _ in range(count):
            write = self.writes.popleft()
            self.disk.save(write.hard_state, write.entries)
            self.cluster.checks.on_saved(self)
            self.core.saved(write.number, self.cluster.now)
            self._release()

    def _release(self) -> None:
        while self.held and (not self.writes or self.held[0][0] < self.writes[0].number):
            for to, message in self.held.popleft()[1]:
                self.cluster.post(self.name, to, message)

    def _install(self, sender: NodeId, chunk: SnapshotChunk) -> None:
        """A snapshot of one chunk: the machine's state is all that was committed up to it."""
        if not self.core.begin_restore(chunk.meta):
            return
        self.run()
        self.save(len(self.writes))
        meta = chunk.meta
        self.disk.snapshot = meta
        self.disk.entries = []
        self.disk.start = meta.position
        self.core.restored(meta)
        self.applied = []
        self.restores += 1
        reply = SnapshotReply(self.core.term, meta.position.index, meta.size, True)
        self.cluster.post(self.name, sender, reply)

    def snapshot(self, *, keep: int = 0) -> None:
        """Snapshot the machine where it is, and cut the log behind the entry `keep` places before it."""
        entries = [entry for entry in self.disk.entries if entry.last <= self.core.applied]
        if not entries:
            return
        self.disk.snapshot = SnapshotMeta(position_after(entries[-1]), self.core.configuration_at(entries[-1].last), 0)
        if keep < len(entries):
            start = position_after(entries[len(entries) - 1 - keep])
            self.disk.cut(start)
            self.core.compacted(start)

    def crash(self, *, writes_kept: int = 0) -> None:
        """Lose everything but the disk; its first `writes_kept` pending writes made it, unheard of."""
        for write in list(self.writes)[:writes_kept]:
            self.disk.save(write.hard_state, write.entries)
            self.cluster.checks.on_saved(self)
        self.up = False
        self.writes.clear()
        self.held.clear()

    def payloads(self) -> list[bytes]:
        """The commands that the machine took in."""
        return [bytes(entry.payload) for entry in self.applied if entry.kind is EntryKind.COMMANDS]


class Cluster:
    """Nodes n1, n2, ... and the messages between them."""

    def __init__(
        self,
        size: int = 3,
        *,
        limits: Limits | None = None,
        timing: Timing = TIMING,
        chance: Callable[[], float] | None = None,
        configuration: Configuration | None = None,
        spare: int = 0,
    ) -> None:
        """`spare` nodes more are there that do not belong to the cluster yet."""
        self.limits = limits or Limits()
        self.timing = timing
        self.chance = chance or Random(0).random
        self.configuration = configuration or Configuration(node_names(size))
        self.now = 0.0
        self.bag: list[tuple[NodeId, NodeId, Message]] = []
        """Messages on their way, oldest first."""
        self.cut: set[tuple[NodeId, NodeId]] = set()
        """Directed links that lose everything."""
        self.named = set(self.configuration.members)
        """Everybody whom any configuration has named. Nobody speaks with others: in production the handshake of peers
        keeps them out, and a newcomer must not have the log before it is asked in."""
        self.checks = RaftChecks(self.configuration)
        members = self.configuration.members
        self.nodes = {name: Node(self, name) for name in (*members, *node_names(len(members) + spare)[len(members) :])}
        for node in self.nodes.values():
            self.checks.nodes[node.name] = node
            node.start()

    def __getitem__(self, number: int) -> Node:
        return self.nodes[NodeId(f"n{number}")]

    def post(self, sender: NodeId, to: NodeId, message: Message) -> None:
        if (sender, to) not in self.cut and sender in self.named:
            self.bag.append((sender, to, message))

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def deliver(self, at: int = 0) -> None:
        sender, to, message = self.bag.pop(at)
        self.hand(sender, to, message)

    def hand(self, sender: NodeId, to: NodeId, message: Message) -> None:
        node = self.nodes[to]
        if node.up and (sender, to) not in self.cut:
            node.core.step(sender, message, self.now)
            node.run()

    def settle(self, passes_max: int = 10_000) -> None:
        """Save and deliver, oldest first, until nothing is left to do."""
        for _ in range(passes_max):
            for node in self.up():
                node.run()
                while node.writes:
                    node.save()
                    node.run()
            if not self.bag:
                return
            self.deliver()
        raise AssertionError(f"{len(self.bag)} messages left: {self.bag[:4]}")

    def advance(self, seconds: float) -> None:
        """Let time pass, and tick every node."""
        self.now += seconds
        for node in self.up():
            if not node.paused:
                node.core.tick(self.now)
                node.run()

    def wait(self, seconds: float) -> None:
        """Let time pass from deadline to deadline, everything being saved and delivered at once."""
        end = self.now + seconds
        while True:
            self.settle()
            due = min((node.core.deadline for node in self.up() if not node.paused), default=end)
            if due > end:
                self.now = end
                return
            self.advance(max(due - self.now, 0.0))

    def elect(self, number: int = 1) -> Node:
        """Make a node lead: it times out first and everything is delivered."""
        node = self[number]
        for _ in range(3):
            if node.core.role is Role.LEADER:
                break
            for other in self.up():
                if other.core.leader is not None:
                    other.core.peer_lost(other.core.leader, self.now)
            self.now = max(self.now, node.core._election_at())
            node.core.tick(self.now)
            self.settle()
        assert node.core.role is Role.LEADER, node.core.role
        return node

    def isolate(self, number: int) -> None:
        """Cut a node off, both ways."""
        name = self[number].name
        for other in self.nodes:
            self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()

    def leaders(self) -> list[Node]:
        return [node for node in self.up() if node.core.role is Role.LEADER]


def chain(*terms: int, after: Position = START, count: int = 1) -> list[Entry]:
    """Entries of these terms, one behind the other, each with `count` commands."""
    entries: list[Entry] = []
    index, crc = after.index, after.crc
    for term in terms:
        payload = f"{term}.{index + 1}".encode()
        entry = make_entry(index + 1, term, term, EntryKind.COMMANDS, payload, crc, count=count)
        entries.append(entry)
        index, crc = entry.last, entry.crc
    return entries


def append_after(previous: Position | Entry, entries: list[Entry], *, term: int, commit: int = 0) -> Append:
    """A leader's append of `entries` behind `previous`."""
    position = previous if isinstance(previous, Position) else position_after(previous)
    return Append(Term(term), position.index, position.term, position.crc, Index(commit), entries)


class Alone:
    """The node n1, while the test plays all others: n2, n3, ..."""

    def __init__(
        self,
        *terms: int,
        size: int = 3,
        term: int | None = None,
        vote: str | None = None,
        withheld: int = 0,
        limits: Limits | None = None,
        configuration: Configuration | None = None,
        count: int = 1,
    ) -> None:
        self.cluster = Cluster(size, limits=limits, configuration=configuration)
        self.cluster.checks.watching = False  # of what the others hold nothing is known but what they say
        for node in self.cluster.nodes.values():
            node.crash()
        self.node = self.cluster[1]
        self.entries = chain(*terms, count=count)
        self.disk = self.node.disk
        self.disk.entries = list(self.entries)
        at = max(terms, default=0) if term is None else term
        self.disk.hard_state = HardState(Term(at), NodeId(vote) if vote else None)
        self.node.withheld = Index(withheld)
        self.node.start()
        self.core = self.node.core

    def step(self, sender: str, message: Message, *, save: bool = True) -> list[tuple[str, Message]]:
        """Hand in a message; returns what the node then sends. Without `save` the disk does nothing."""
        self.core.step(NodeId(sender), message, self.cluster.now)
        return self.sent(save=save)

    def sent(self, *, save: bool = True) -> list[tuple[str, Message]]:
        """What the node has to send now."""
        self.node.run()
        while save and self.node.writes:
            self.node.save()
            self.node.run()
        sent = [(str(to), message) for _, to, message in self.cluster.bag]
        self.cluster.bag.clear()
        return sent

    def one(self, sender: str, message: Message) -> Message:
        """Hand in a message; returns the one answer, which must go back to the sender."""
        ((to, answer),) = self.step(sender, message)
        assert to == sender, (to, answer)
        return answer

    def wait(self, seconds: float) -> list[tuple[str, Message]]:
        """Let time pass at once, then tick; returns what is sent."""
        self.cluster.now += seconds
        self.core.tick(self.cluster.now)
        return self.sent()

    def expire(self) -> list[tuple[str, Message]]:
        """Let the current deadline pass; on a node that does not lead, the one of elections."""
        core = self.core
        deadline = core.deadline if core.role is Role.LEADER else core._election_at()
        return self.wait(max(deadline - self.cluster.now, 0.0))

    def grant(self, *voters: str) -> None:
        """The others grant whatever is asked of them now: a pre-vote or a vote."""
        core = self.core
        pre = core._candidate is not None and core._candidate.pre
        term = Term(core.term + 1) if pre else core.term
        for voter in voters:
            self.step(voter, VoteReply(term, True, pre))

    def lead(self) -> Alone:
        """Make the node lead: it asks, and n2, n3, ... grant until that is enough."""
        others = [str(name) for name in self.cluster.configuration.members if name != self.node.name]
        self.expire()
        self.grant(*others)
        if self.core.role is not Role.LEADER:
            self.grant(*others)
        assert self.core.role is Role.LEADER, self.core.role
        self.sent()
        return self

    def acknowledge(self, *peers: str, match: int | None = None) -> list[tuple[str, Message]]:
        """The peers have the whole log, or it up to `match`."""
        sent = []
        for peer in peers:
            index = self.core.last_index if match is None else Index(match)
            sent += self.step(peer, AppendReply(self.core.term, index))
        return sent

    def propose(self, payload: bytes = b"x", count: int = 1) -> Index | None:
        return self.core.propose(payload, count, 0, self.cluster.now)
