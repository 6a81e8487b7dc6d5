"""A node that starts withheld is refilled by its peers, through the production replica, and equals them again."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest

from journal.limits import Timing
from journal.raft.messages import Message, VoteRequest
from journal.raft.ready import Role
from journal.replica import Replica
from journal.storage.metadata import MARK_NAME
from journal.values import NodeId
from tests.storage.directory import (
    DISK,
    ENTRIES,
    FILES,
    LAST_SEGMENT,
    LIMITS,
    A,
    B,
    C,
    Machine,
    make_disk,
    open_store,
    state_at,
)
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.test_replica import Owner, Scheduler, Worker

STEP_SECONDS = 0.02


class Wire:
    """One node's end of a network that loses nothing."""

    def __init__(self, me: NodeId, queue: deque[tuple[NodeId, NodeId, Message]]) -> None:
        self.me = me
        self.queue = queue

    async def start(self, receiver: object) -> None: ...

    async def close(self) -> None: ...

    def send(self, to: NodeId, message: Message) -> None:
        self.queue.append((self.me, to, message))

    def about(self, peer: NodeId) -> str:
        return ""

    def set_members(self, addresses: Mapping[NodeId, str]) -> None: ...

    def connected(self) -> tuple[NodeId, ...]:
        return tuple(node for node in (A, B, C) if node != self.me)


class Member:
    """One node in production's parts, moved by hand."""

    def __init__(self, me: NodeId, disk: MemoryDisk, queue: deque[tuple[NodeId, NodeId, Message]]) -> None:
        self.disk = disk
        self.store = open_store(disk, me)
        self.machine = Machine()
        self.owner = Owner()
        self.scheduler = Scheduler()
        self.workers = (Worker(), Worker())
        edges: dict[str, Any] = {
            "scheduler": self.scheduler,
            "network": Wire(me, queue),
            "sync_worker": self.workers[0],
            "background_worker": self.workers[1],
        }
        self.replica = Replica(
            me,
            self.store,
            {0: self.machine},
            self.owner,
            **edges,
            chance=lambda: {A: 0.1, B: 0.4, C: 0.9}[me],
            wall=lambda: 1000,
            limits=LIMITS,
            timing=Timing(),
        )
        self.replica.start()

    def move(self) -> bool:
        """Do what there is to do now; whether there was anything."""
        jobs = [worker for worker in self.workers if worker.jobs]
        for worker in jobs:
            worker.run()
        moved = bool(jobs or self.scheduler.soon)
        self.scheduler.turn()
        return moved


def run_cluster(damaged: MemoryDisk) -> Member:
    """Two healthy members and the damaged one `a`, until it has caught up with their leader."""
    queue: deque[tuple[NodeId, NodeId, Message]] = deque()
    disks = {A: damaged, B: make_disk(B), C: make_disk(C)}
    members = {me: Member(me, disk, queue) for me, disk in disks.items()}
    node = members[A]
    assert node.store.withheld
    for _ in range(400):
        for member in members.values():
            member.scheduler.advance(STEP_SECONDS)
        moved, rounds = True, 0
        while moved:
            rounds += 1
            assert rounds < 1000, "it never comes to rest"
            moved = sum(member.move() for member in members.values()) > 0 or bool(queue)
            while queue:
                sender, to, message = queue.popleft()
                if sender == A and isinstance(message, VoteRequest):
                    assert not node.replica.core.withheld, "it campaigns without what it had acknowledged"
                members[to].replica.on_message(sender, message)
        assert all(not member.owner.failures for member in members.values()), node.owner.failures
        leaders = [member for member in members.values() if member.replica.leadership.serving]
        if leaders and node.replica.applied == leaders[0].replica.applied > len(ENTRIES):
            break
    assert node.replica.core.role is Role.FOLLOWER and not node.replica.core.withheld
    assert node.machine.state == members[B].machine.state == state_at(len(ENTRIES))
    assert node.store.last == members[B].store.last
    return node


@pytest.mark.parametrize("size", [0.0, 0.2, 0.35, 0.5, 0.6])
def test_a_log_that_was_cut_short_is_refilled(size: float) -> None:
    """Wherever it ends; the node is then one of three again, also after the next start."""
    disk = DISK.copy()
    data = DISK.read(LAST_SEGMENT, 0, 10**6)
    if size:
        disk.put(LAST_SEGMENT, data[: 64 + int(len(data) * size / 2)])
    else:
        disk.delete(LAST_SEGMENT)
    node = run_cluster(disk)
    again = open_store(node.disk)
    assert not again.withheld and again.last == node.store.last


@pytest.mark.parametrize("other", [None, *[name for name in FILES if name.startswith("snap")]])
def test_a_node_without_its_mark_waits_for_a_leader_and_is_whole_again(other: str | None) -> None:
    """Alone, or together with one of the snapshots."""
    disk = DISK.copy()
    disk.delete(MARK_NAME)
    if other is not None:
        disk.put(other, b"gone")
    node = run_cluster(disk)
    again = open_store(node.disk)
    assert not again.withheld and again.last == node.store.last


def test_until_it_is_refilled_every_start_is_withheld() -> None:
    """The promise is not forgotten by a restart in between."""
    disk = DISK.copy()
    disk.delete(MARK_NAME)
    disk.put(LAST_SEGMENT, DISK.read(LAST_SEGMENT, 0, 100))
    first = open_store(disk).withheld
    assert first and open_store(disk).withheld == first
    run_cluster(disk)
    assert not open_store(disk).withheld
