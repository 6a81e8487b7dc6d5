"""Replicas of one cluster on one virtual clock: production code from the codec to the disk's format, no sockets.

Smaller than the simulator and without chance: a test cuts, stops and starts what it wants, when it wants, and
runs until a fact is true. Used by tests of what needs several replicas and one particular fault.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from journal.limits import Limits, Timing
from journal.machine import Machine
from journal.peers.codec import Decoder, encode
from journal.raft.messages import Message
from journal.raft.ready import Leadership
from journal.replica import Replica
from journal.storage.store import Identity, Store
from journal.values import Configuration, Index, NodeId
from tests.support.memory_disk import MemoryDisk

DISK_SECONDS = 0.001
WIRE_SECONDS = 0.0005
PATIENCE_SECONDS = 60.0


class _Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Virtual time. Implements `journal.clock.Scheduler`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sequence = itertools.count()
        self._queue: list[tuple[float, int, _Handle, Callable[..., Any], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> _Handle:
        return self.call_at(self.now, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> _Handle:
        handle = _Handle()
        heapq.heappush(self._queue, (max(when, self.now), next(self._sequence), handle, callback, args))
        return handle

    def step(self) -> None:
        self.now, _, handle, callback, args = heapq.heappop(self._queue)
        if not handle.cancelled:
            callback(*args)


class _Worker:
    """One job after the other, each after some virtual time; none once its process has ended."""

    def __init__(self, loop: Loop, member: Member) -> None:
        self._loop = loop
        self._starts = member.starts
        self._member = member
        self._free_at = 0.0

    def submit(self, job: Callable[[], Any], done: Callable[[Any, Any], None], *, here: bool = False) -> None:
        self._free_at = max(self._free_at, self._loop.now) + DISK_SECONDS
        self._loop.call_at(self._free_at, self._run, job, done)

    def _run(self, job: Callable[[], Any], done: Callable[[Any, Any], None]) -> None:
        if self._member.replica is None or self._member.starts != self._starts:
            return
        try:
            result = job()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    def close(self) -> None:
        pass


class _Wire:
    """One member's end of the network. Implements `journal.peers.network.Network`."""

    def __init__(self, cluster: Replicas, me: NodeId) -> None:
        self._cluster = cluster
        self._me = me

    async def start(self, receiver: object) -> None: ...

    async def close(self) -> None: ...

    def about(self, peer: NodeId) -> str:
        return ""

    def set_members(self, addresses: Mapping[NodeId, str]) -> None: ...

    def connected(self) -> tuple[NodeId, ...]:
        return tuple(peer for peer in self._cluster.members if self._cluster.is_open(self._me, peer))

    def send(self, to: NodeId, message: Message) -> None:
        cluster = self._cluster
        cluster.sent.append((self._me, to, message))
        if cluster.is_open(self._me, to) and not cluster.loses(self._me, to, message):
            data = b"".join(encode(message))
            starts = cluster.members[to].starts
            cluster.loop.call_at(cluster.loop.now + WIRE_SECONDS, cluster.deliver, self._me, to, starts, data)


class Member:
    """One node: its disk stays, its replica comes and goes. Also the replica's owner."""

    def __init__(self, name: NodeId) -> None:
        self.name = name
        self.disk = MemoryDisk()
        self.replica: Replica | None = None
        self.machine: Any = None
        self.starts = 0
        self.failures: list[BaseException] = []

    @property
    def live(self) -> Replica:
        assert self.replica is not None, self.name
        return self.replica

    def on_leadership(self, leadership: Leadership) -> None: ...

    def on_read_start(self) -> bytes:
        return b""

    def on_read_done(self) -> None: ...

    def on_note(self, note: bytes) -> Index:
        return Index(0)

    def on_restored(self) -> None: ...

    def on_configuration(self, configuration: Configuration) -> None: ...

    def on_proposal_reply(self, context: int, index: Index) -> None: ...

    def on_admin(self, sender: NodeId, message: Message) -> None: ...

    def on_pass_end(self) -> None: ...

    def on_failed(self, error: BaseException) -> None:
        self.failures.append(error)


class Replicas:
    """The members by name; all of them running."""

    def __init__(
        self,
        names: tuple[NodeId, ...],
        make_machine: Callable[[], Machine],
        limits: Limits,
        timing: Timing | None = None,
    ) -> None:
        self.loop = Loop()
        self.limits = limits
        self.timing = timing or Timing()
        self.members = {name: Member(name) for name in names}
        self.sent: list[tuple[NodeId, NodeId, Message]] = []
        self.loses: Callable[[NodeId, NodeId, Message], bool] = lambda sender, to, message: False
        """Which messages get lost; for a test to set."""
        self._make_machine = make_machine
        self._decoder = Decoder(limits)
        self._cut: set[NodeId] = set()
        for name in names:
            self.start(name)

    def start(self, name: NodeId) -> None:
        """Start a member on what its disk holds."""
        member = self.members[name]
        assert member.replica is None, name
        member.starts += 1
        member.machine = self._make_machine()
        names = tuple(self.members)
        member.replica = Replica(
            name,
            Store.open(member.disk, Identity("test", name), self.limits, Configuration(names)),
            {0: member.machine},
            member,
            scheduler=self.loop,
            network=_Wire(self, name),
            sync_worker=_Worker(self.loop, member),
            background_worker=_Worker(self.loop, member),
            chance=lambda: names.index(name) / len(names),
            wall=lambda: int(self.loop.now * 1000),
            limits=self.limits,
            timing=self.timing,
        )
        member.replica.start()

    def kill(self, name: NodeId) -> None:
        """End a member; what it wrote and did not sync is still there, as after the death of a process."""
        member = self.members[name]
        member.live.stop()
        member.replica = None
        self._tell_lost(name)

    def cut(self, name: NodeId) -> None:
        """Take a member off the network."""
        self._cut.add(name)
        self._tell_lost(name)

    def mend(self, name: NodeId) -> None:
        self._cut.discard(name)

    def is_open(self, one: NodeId, other: NodeId) -> bool:
        return one != other and not self._cut & {one, other} and self.members[other].replica is not None

    def deliver(self, sender: NodeId, to: NodeId, starts: int, data: bytes) -> None:
        member = self.members[to]
        if member.replica is not None and member.starts == starts and self.is_open(sender, to):
            for message in self._decoder.feed(data):
                member.replica.on_message(sender, message)

    def reset(self, one: NodeId, other: NodeId) -> None:
        """Break the connection of two members: both notice."""
        for here, there in ((one, other), (other, one)):
            self.members[here].live.on_peer_lost(there)

    def until(self, fact: Callable[[], Any]) -> None:
        """Run until a fact is true. Fails when it does not come true in time."""
        deadline = self.loop.now + PATIENCE_SECONDS
        while not fact():
            for member in self.members.values():
                assert not member.failures, (member.name, member.failures)
            assert self.loop.now < deadline, "it never came true"
            self.loop.step()

    def leader(self) -> Member:
        """Wait until one member leads and serves."""
        self.until(self._leading)
        return self._leading()[0]

    def _leading(self) -> list[Member]:
        return [
            member
            for member in self.members.values()
            if member.replica is not None and member.name not in self._cut and member.replica.leadership.serving
        ]

    def _tell_lost(self, name: NodeId) -> None:
        for peer, member in self.members.items():
            if peer != name and member.replica is not None:
                member.replica.on_peer_lost(name)
        if self.members[name].replica is not None:
            for peer in self.members:
                if peer != name:
                    self.members[name].live.on_peer_lost(peer)
