"""The driver's own promises: what leaves when, what shares a save, what a failure does.

Real core, real store on a disk in memory; the scheduler, the worker and the network are moved by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from journal.errors import DiskFailed
from journal.limits import Limits, Timing
from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    Proposal,
    ReadReply,
    ReadRequest,
    VoteReply,
    VoteRequest,
)
from journal.raft.ready import Leadership, Role
from journal.replica import Replica
from journal.storage.store import Identity, Store
from journal.values import Configuration, Entry, EntryKind, Index, NodeId, Position, Term
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import send_snapshot, take_snapshot

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
LIMITS = Limits(segment_bytes=1 << 20, record_bytes_max=64 * 1024, append_bytes_max=64 * 1024)


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Scheduler:
    def __init__(self) -> None:
        self.now = 0.0
        self.soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.timers: list[tuple[float, Handle, Callable[..., Any], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Handle:
        self.soon.append((callback, args))
        return Handle()

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Handle:
        handle = Handle()
        self.timers.append((when, handle, callback, args))
        return handle

    def turn(self) -> None:
        """One turn of the loop: what was asked for until now."""
        soon, self.soon = self.soon, []
        for callback, args in soon:
            callback(*args)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, handle, callback, args in due:
            if not handle.cancelled:
                callback(*args)
        self.turn()


class Worker:
    """Jobs wait until the test runs them."""

    def __init__(self) -> None:
        self.here = False
        """Whether the last job might have run on the caller's thread."""
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]] = []

    def submit(
        self, job: Callable[[], Any], done: Callable[[Any, BaseException | None], None], *, here: bool = False
    ) -> None:
        self.here = here
        self.jobs.append((job, done))

    def run(self) -> None:
        """Run the oldest job."""
        job, done = self.jobs.pop(0)
        try:
            result = job()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    def close(self) -> None:
        pass


class Network:
    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, Message]] = []

    async def start(self, receiver: object) -> None: ...

    async def close(self) -> None: ...

    def send(self, to: NodeId, message: Message) -> None:
        self.sent.append((to, message))

    def about(self, peer: NodeId) -> str:
        return ""

    def set_members(self, addresses: Mapping[NodeId, str]) -> None:
        self.members = dict(addresses)

    def connected(self) -> tuple[NodeId, ...]:
        return (B, C)

    def take(self, kind: type) -> list[tuple[NodeId, Any]]:
        """What was sent of one kind since the last look at it."""
        found = [(to, message) for to, message in self.sent if isinstance(message, kind)]
        self.sent = [item for item in self.sent if not isinstance(item[1], kind)]
        return found


class Machine:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def apply(self, entry: Entry) -> None:
        self.entries.append(entry)

    def snapshot(self) -> Iterator[bytes]:
        return iter((b"state",))

    def restore(self, chunks: Any) -> None:
        list(chunks)

    def recover(self, chunks: Any, index: Index, stamp: int) -> None:
        list(chunks)

    def digest(self) -> int:
        return 0


class Owner:
    def __init__(self) -> None:
        self.leaderships: list[Leadership] = []
        self.reads: list[str] = []
        self.notes: list[bytes] = []
        self.floor = 0
        self.failures: list[BaseException] = []
        self.pass_ends = 0
        self.answers: list[tuple[int, Index]] = []

    def on_leadership(self, leadership: Leadership) -> None:
        self.leaderships.append(leadership)

    def on_read_start(self) -> bytes:
        self.reads.append("start")
        return b"note"

    def on_read_done(self) -> None:
        self.reads.append("done")

    def on_note(self, note: bytes) -> Index:
        self.notes.append(note)
        return Index(self.floor)

    def on_restored(self) -> None: ...

    def on_configuration(self, configuration: Configuration) -> None: ...

    def on_proposal_reply(self, context: int, index: Index) -> None:
        self.answers.append((context, index))

    def on_admin(self, sender: NodeId, message: Message) -> None: ...

    def on_pass_end(self) -> None:
        self.pass_ends += 1

    def on_failed(self, error: BaseException) -> None:
        self.failures.append(error)


class World:
    """One replica, `a`, of the cluster a, b, c; or of a cluster of its own."""

    def __init__(self, voters: tuple[NodeId, ...] = (A, B, C), disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self.scheduler = Scheduler()
        self.worker = Worker()
        self.background = Worker()
        self.network = Network()
        self.machine = Machine()
        self.owner = Owner()
        self.store = Store.open(self.disk, Identity("test", A), LIMITS, Configuration(voters))
        self.replica = Replica(
            A,
            self.store,
            {0: self.machine},
            self.owner,
            scheduler=self.scheduler,
            network=self.network,
            sync_worker=self.worker,
            background_worker=self.background,
            chance=lambda: 0.5,
            wall=lambda: 1000,
            limits=LIMITS,
            timing=Timing(),
        )
        self.replica.start()
        self.scheduler.turn()

    def turn(self) -> None:
        self.scheduler.turn()

    def receive(self, sender: NodeId, message: Message) -> None:
        self.replica.on_message(sender, message)

    def lead(self) -> None:
        """Win the election of the next term, with the no-op durable and committed."""
        self.scheduler.advance(5.0)
        (request,) = {message.term for _, message in self.network.take(VoteRequest) if message.pre}
        self.receive(B, VoteReply(request, granted=True, pre=True))
        self.turn()
        self.worker.run()
        self.turn()
        self.receive(B, VoteReply(self.replica.core.term, granted=True))
        self.turn()
        self.settle()
        assert self.owner.leaderships[-1].serving

    def settle(self) -> None:
        """Run saves and acknowledge appends until nothing moves."""
        for _ in range(20):
            while self.worker.jobs:
                self.worker.run()
            for to, message in self.network.take(Append):
                last = message.entries[-1].last if message.entries else message.previous_index
                self.receive(to, AppendReply(message.term, last))
            for to, message in self.network.take(Heartbeat):
                self.receive(to, HeartbeatReply(message.term, message.round))
            self.turn()

    @property
    def applied(self) -> list[bytes]:
        return [bytes(entry.payload) for entry in self.machine.entries if entry.kind is EntryKind.COMMANDS]


@pytest.fixture
def leader() -> World:
    world = World()
    world.lead()
    return world


@pytest.fixture
def follower() -> World:
    world = World()
    world.receive(B, Heartbeat(Term(1), Index(0), 1))
    world.turn()
    world.worker.run()
    world.turn()
    world.network.sent.clear()
    return world


def entries_for(world: World, term: int, first: int, *payloads: bytes) -> list[Entry]:
    from journal.record import make_entry

    entries: list[Entry] = []
    crc = world.replica.core._state.log.last_crc if first > 1 else 0
    for number, payload in enumerate(payloads):
        entry = make_entry(first + number, term, 1000, EntryKind.COMMANDS, payload, crc)
        crc = entry.crc
        entries.append(entry)
    return entries


def test_commands_of_one_turn_share_one_record_one_save_and_one_message_per_peer(leader: World) -> None:
    """The batching that the speed stands on."""
    for command in (b"x", b"y", b"z"):
        leader.replica.propose(command)
    leader.turn()
    appends = leader.network.take(Append)
    assert [to for to, _ in appends] == [B, C]
    assert all(len(message.entries) == 1 and message.entries[0].count == 3 for _, message in appends)
    assert len(leader.worker.jobs) == 1
    assert leader.applied == []


def test_what_comes_while_the_disk_is_busy_goes_into_the_next_save_together(leader: World) -> None:
    """Group commit without a timer."""
    leader.replica.propose(b"1")
    leader.turn()
    for command in (b"2", b"3", b"4"):
        leader.replica.propose(command)
        leader.turn()
    assert len(leader.worker.jobs) == 1
    leader.worker.run()
    assert len(leader.worker.jobs) == 1
    leader.settle()
    assert b"".join(leader.applied) == b"1234"


def test_the_leader_sends_before_its_own_disk_is_done(leader: World) -> None:
    """Followers write while the leader writes."""
    leader.replica.propose(b"x")
    leader.turn()
    assert leader.network.take(Append) and leader.worker.jobs


def test_a_follower_acknowledges_only_what_is_on_its_disk(follower: World) -> None:
    """R2: the acknowledgement is a promise that outlives a power cut."""
    follower.receive(B, Append(Term(1), Index(0), Term(0), 0, Index(0), entries_for(follower, 1, 1, b"x")))
    follower.turn()
    assert follower.network.take(AppendReply) == []
    follower.worker.run()
    assert [message.match for _, message in follower.network.take(AppendReply)] == [1]


def test_a_vote_leaves_only_when_it_is_on_disk() -> None:
    """R2: a node that forgets its vote can vote twice in one term (Raft 5.2)."""
    world = World()
    world.receive(B, VoteRequest(Term(3), Index(0), Term(0)))
    world.turn()
    assert world.network.take(VoteReply) == []
    world.worker.run()
    (reply,) = world.network.take(VoteReply)
    assert reply == (B, VoteReply(Term(3), granted=True))
    assert world.store.hard_state.vote == B


def test_replies_wait_for_the_saves_before_them_and_not_for_those_behind(follower: World) -> None:
    """Two appends, two saves: the first answer must not wait for the second save."""
    first = entries_for(follower, 1, 1, b"x")
    follower.receive(B, Append(Term(1), Index(0), Term(0), 0, Index(0), first))
    follower.turn()
    second = entries_for(follower, 1, 2, b"y")
    follower.receive(B, Append(Term(1), Index(1), Term(1), first[0].crc, Index(0), second))
    follower.turn()
    follower.worker.run()
    assert [message.match for _, message in follower.network.take(AppendReply)] == [1]
    follower.worker.run()
    assert [message.match for _, message in follower.network.take(AppendReply)] == [2]


def test_a_stopped_replica_ends_its_save_and_begins_no_other(follower: World) -> None:
    """The disk's thread is being closed: nobody would take the save that is queued, and its reply must not leave."""
    first = entries_for(follower, 1, 1, b"x")
    follower.receive(B, Append(Term(1), Index(0), Term(0), 0, Index(0), first))
    follower.turn()
    second = entries_for(follower, 1, 2, b"y")
    follower.receive(B, Append(Term(1), Index(1), Term(1), first[0].crc, Index(0), second))
    follower.turn()
    follower.replica.stop()
    follower.worker.run()
    assert [message.match for _, message in follower.network.take(AppendReply)] == [1]
    assert follower.worker.jobs == []


def test_entries_replaced_before_they_were_written_are_not_written(follower: World) -> None:
    """A new leader's entries take the place of queued ones of the old leader."""
    first = entries_for(follower, 1, 1, b"x")
    follower.receive(B, Append(Term(1), Index(0), Term(0), 0, Index(0), first))
    follower.turn()
    old = entries_for(follower, 1, 2, b"old", b"old")
    follower.receive(B, Append(Term(1), Index(1), Term(1), first[0].crc, Index(0), old))
    follower.turn()
    from journal.record import make_entry

    new = make_entry(2, 2, 1000, EntryKind.COMMANDS, b"new", first[0].crc)
    follower.receive(C, Append(Term(2), Index(1), Term(1), first[0].crc, Index(2), [new]))
    follower.turn()
    while follower.worker.jobs:
        follower.worker.run()
    follower.turn()
    assert follower.store.last.index == 2 and follower.store.last.term == 2
    assert follower.applied == [b"x", b"new"]


def test_a_follower_forwards_its_commands_to_the_leader(follower: World) -> None:
    follower.replica.propose(b"x")
    follower.replica.propose(b"y")
    follower.turn()
    ((to, proposal),) = follower.network.take(Proposal)
    assert to == B and (proposal.count, proposal.payload) == (2, b"xy")


def test_commands_without_a_leader_wait_for_one() -> None:
    world = World()
    world.replica.propose(b"x")
    world.turn()
    assert world.network.take(Proposal) == []
    world.receive(B, Heartbeat(Term(1), Index(0), 1))
    world.turn()
    world.turn()
    assert [to for to, _ in world.network.take(Proposal)] == [B]


def test_many_commands_are_cut_into_records_of_bounded_size(leader: World) -> None:
    size = LIMITS.record_bytes_max // 2 + 1
    for number in range(4):
        leader.replica.propose(bytes([number]) * size)
    leader.settle()
    assert [len(payload) for payload in leader.applied] == [size] * 4


def test_a_leader_takes_the_commands_that_another_node_forwards(leader: World) -> None:
    leader.receive(C, Proposal(leader.replica.core.term, 0, 0, 2, b"fw"))
    leader.settle()
    assert leader.applied == [b"fw"]


def test_a_read_round_ends_when_a_quorum_has_echoed_it(leader: World) -> None:
    leader.replica.want_read()
    leader.turn()
    assert leader.owner.reads == ["start"] and leader.owner.notes == [b"note"]
    leader.settle()
    assert leader.owner.reads == ["start", "done"]


def test_reads_wanted_during_a_round_share_the_next_one(leader: World) -> None:
    leader.replica.want_read()
    leader.turn()
    leader.replica.want_read()
    leader.replica.want_read()
    leader.settle()
    assert leader.owner.reads == ["start", "done", "start", "done"]


def test_a_read_whose_answer_is_lost_is_asked_again_under_another_context(follower: World) -> None:
    """RELIABILITY 28: a late answer to the old question must not count for the new one."""
    follower.replica.want_read()
    follower.turn()
    ((_, first),) = follower.network.take(ReadRequest)
    for _ in range(4):
        follower.receive(B, Heartbeat(Term(1), Index(0), 2))
        follower.scheduler.advance(0.3)
    follower.turn()
    *_, (_, second) = follower.network.take(ReadRequest)
    assert first.context != second.context
    follower.receive(B, ReadReply(Term(1), first.context, Index(0)))
    follower.turn()
    assert "done" not in follower.owner.reads
    follower.receive(B, ReadReply(Term(1), second.context, Index(0)))
    follower.turn()
    assert follower.owner.reads[-1] == "done"


def test_a_read_is_not_done_before_its_index_is_applied(follower: World) -> None:
    follower.replica.want_read()
    follower.turn()
    ((_, request),) = follower.network.take(ReadRequest)
    follower.receive(B, ReadReply(Term(1), request.context, Index(1)))
    follower.turn()
    assert follower.owner.reads == ["start"]
    follower.receive(B, Append(Term(1), Index(0), Term(0), 0, Index(1), entries_for(follower, 1, 1, b"x")))
    follower.turn()
    follower.worker.run()
    follower.turn()
    assert follower.owner.reads == ["start", "done"]


def test_the_leader_shows_a_followers_note_to_its_owner_and_heeds_its_floor(leader: World) -> None:
    """A touch of a session whose expiry was proposed must wait for the expiry."""
    leader.owner.floor = 50
    leader.receive(C, ReadRequest(leader.replica.core.term, 1, Index(0), b"touched"))
    leader.settle()
    assert leader.owner.notes == [b"touched"]
    ((_, reply),) = leader.network.take(ReadReply)
    assert reply.index == 50


def test_a_failed_save_stops_the_replica_for_good(leader: World) -> None:
    """R6: nothing is sent, acknowledged or retried after a write failed."""
    leader.disk.error = DiskFailed("cannot write log: no space left")
    leader.disk.stop_at = leader.disk.changes
    leader.replica.propose(b"x")
    leader.turn()
    leader.network.sent.clear()
    leader.worker.run()
    leader.turn()
    assert [str(error) for error in leader.owner.failures] == ["cannot write log: no space left"]
    assert not leader.replica.hand_over()
    leader.receive(B, Heartbeat(Term(99), Index(0), 1))
    leader.scheduler.advance(10)
    assert leader.network.sent == [] and leader.worker.jobs == []


def test_an_exception_out_of_apply_stops_the_replica(leader: World) -> None:
    """A machine that swallowed it would drift apart from its replicas (RELIABILITY 48)."""

    def explode(entry: Entry) -> None:
        raise MemoryError("no memory")

    leader.machine.apply = explode  # type: ignore[method-assign]
    leader.replica.propose(b"x")
    leader.settle()
    assert isinstance(leader.owner.failures[0], MemoryError)


def test_a_restarted_replica_applies_its_log_again() -> None:
    disk = MemoryDisk()
    world = World(voters=(A,), disk=disk)
    world.scheduler.advance(5.0)
    world.settle()
    world.replica.propose(b"x")
    world.settle()
    assert world.applied == [b"x"]
    again = World(voters=(A,), disk=disk)
    again.scheduler.advance(5.0)
    again.settle()
    assert again.applied == [b"x"]
    assert again.replica.leadership.role is Role.LEADER


def test_proposals_are_refused_with_a_word_while_too_many_wait() -> None:
    """Clients are held back by their servers before memory grows without end."""
    world = World()
    assert not world.replica.overloaded
    for _ in range(3):
        world.replica.propose(b"x" * (LIMITS.proposals_bytes_max // 2))
    assert world.replica.overloaded
    world.replica.forget_proposals()
    assert not world.replica.overloaded


def test_only_a_follower_without_clients_may_wait_for_the_disk_itself(follower: World) -> None:
    """Its thread has nothing else to do; a leader's, or one with clients, has."""
    first = entries_for(follower, 1, 1, b"x")
    follower.receive(B, Append(Term(1), Index(0), Term(0), 0, Index(0), first))
    follower.turn()
    assert not follower.worker.here
    follower.worker.run()
    follower.turn()
    follower.replica.core.idle = True
    second = entries_for(follower, 1, 2, b"y")
    follower.receive(B, Append(Term(1), Index(1), Term(1), first[0].crc, Index(0), second))
    follower.turn()
    assert follower.worker.here


def test_a_leader_without_clients_does_not_wait_for_the_disk_itself(leader: World) -> None:
    leader.replica.core.idle = True
    leader.replica.propose(b"x")
    leader.turn()
    assert leader.worker.jobs and not leader.worker.here


def test_while_commands_come_one_by_one_a_message_is_acted_on_at_once(leader: World) -> None:
    """A turn of the loop less between an acknowledgement and the answer; under load turns are shared."""
    leader.replica.propose(b"x")
    leader.settle()
    leader.replica.propose(b"y")
    leader.turn()
    leader.worker.run()
    for to, message in leader.network.take(Append):
        leader.receive(to, AppendReply(message.term, message.entries[-1].last))
    assert leader.applied == [b"x", b"y"]
    for command in (b"1", b"2"):
        leader.replica.propose(command)
    leader.settle()
    leader.replica.propose(b"z")
    leader.turn()
    leader.worker.run()
    for to, message in leader.network.take(Append):
        leader.receive(to, AppendReply(message.term, message.entries[-1].last))
    assert leader.applied[-1] == b"12"
    leader.turn()
    assert leader.applied[-1] == b"z"


def test_one_snapshot_entry_is_asked_for_while_another_is_on_its_way(leader: World) -> None:
    """Entries that were in flight before it must not each ask for one more."""
    leader.replica.snapshots._limits = replace(LIMITS, snapshot_entries=1)
    leader.replica._single = False
    first = leader.replica.core.last_index + 1
    for command in (b"1", b"2"):
        leader.replica.propose(command)
        leader.turn()
    for _ in range(2):
        leader.worker.run()
    for match in (first, first + 1):
        leader.receive(B, AppendReply(leader.replica.core.term, Index(match)))
        leader.turn()
    assert leader.applied == [b"1", b"2"]
    assert leader.replica.core.last_index == first + 2


def test_a_snapshot_that_has_arrived_is_installed_at_once(follower: World) -> None:
    """No message and no timer is waited for: until then the node answers nobody."""
    sender = Store.open(MemoryDisk(), Identity("test", B), LIMITS, follower.store.configuration)
    meta = take_snapshot(sender, Position(Index(9), Term(1), 5, 1000), (b"\x00state",))
    send_snapshot(sender, meta, follower.store)
    done: list[str] = []
    assert follower.replica.install(meta, lambda: done.append("installed"))
    follower.turn()
    follower.worker.run()
    assert done == ["installed"] and follower.owner.failures == []
    assert (follower.replica.applied, follower.replica.core.commit, follower.store.last.index) == (9, 9, 9)
    assert not follower.replica.install(meta, lambda: done.append("twice")), "the log is there already"
