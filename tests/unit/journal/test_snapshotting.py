"""Snapshots among several replicas: the same bytes everywhere, taken when due, received whatever happens meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from jkcs_client.protocol.messages import CREATE, DELETE, SET
from jkcs_server.tree.commands import OPEN
from jkcs_server.tree.keytree import EPHEMERAL, SYSTEM
from jkcs_server.tree.machine import TreeMachine
from journal.errors import Busy, CorruptRecord, NotLeader
from journal.limits import Limits
from journal.raft.messages import SnapshotChunk
from journal.storage.snapshots import snapshot_name
from journal.values import Index, NodeId, SnapshotMeta
from tests.support.replicas import Member, Replicas
from tests.unit.jkcs_server.tree.harness import Notebook

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
LIMITS = Limits(
    segment_bytes=32 * 1024,
    record_bytes_max=16 * 1024,
    append_bytes_max=16 * 1024,
    log_memory_bytes_max=16 * 1024,
    snapshot_chunk_bytes=1024,
    snapshot_entries=100_000,
)


class Writer:
    """A client's session, written through whoever leads."""

    def __init__(self, cluster: Replicas) -> None:
        self.cluster = cluster
        self.serial = 0
        replica = cluster.leader().live
        self.session = replica.core.last_index + 1
        self._propose((OPEN, 0, 0, 0, b"p" * 16, 5000))

    def write(self, op: int, *arguments: Any) -> None:
        """Have one write applied on all members that run and are connected."""
        self.serial += 1
        self._propose((op, self.session, self.serial, self.serial - 1, *arguments))

    def fill(self, count: int, size: int = 200) -> None:
        for _ in range(count):
            self.write(CREATE, f"/key-{self.serial:05d}", bytes(size), 0)

    def _propose(self, command: tuple[Any, ...]) -> None:
        leader = self.cluster.leader()
        index = leader.live.propose_now(msgpack.packb(command))
        assert index is not None
        self.cluster.until(lambda: leader.live.applied >= index)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of some forty kilobytes takes several chunks."""
    monkeypatch.setattr("jkcs_server.tree.image.CHUNK_BYTES", 3000)


@pytest.fixture
def cluster() -> Replicas:
    return made()


def made(limits: Limits = LIMITS) -> Replicas:
    return Replicas((A, B, C), lambda: TreeMachine(Notebook()), limits)


def take(cluster: Replicas) -> Index:
    """A snapshot on all members that run, at the returned index."""
    leader = cluster.leader()
    index = leader.live.snapshots.take_now()
    assert index is not None
    cluster.until(lambda: all(has(member, index) for member in running(cluster)))
    return index


def running(cluster: Replicas) -> list[Member]:
    return [member for member in cluster.members.values() if member.replica is not None]


def has(member: Member, index: Index) -> bool:
    return any(meta.position.index == index for meta in member.live.snapshots.metas())


def file_of(member: Member, index: Index) -> bytes:
    (meta,) = [meta for meta in member.live.snapshots.metas() if meta.position.index == index]
    return member.disk.read(snapshot_name(meta.position), 0, meta.size + 1)


def settled(cluster: Replicas) -> bool:
    """All members have applied the same log."""
    return len({(member.live.applied, member.machine.digest()) for member in running(cluster)}) == 1


def lag_behind(cluster: Replicas, writer: Writer) -> Member:
    """Stop a follower, and go on until its next entry was cut away everywhere. The last snapshot is some 40 kB."""
    leader = cluster.leader()
    behind = next(member for member in cluster.members.values() if member is not leader)
    cluster.kill(behind.name)
    for _ in range(2):
        writer.fill(150)
        take(cluster)
    cluster.until(lambda: all(member.live.store.start.index > 50 for member in running(cluster)))
    return behind


def chunks_sent(cluster: Replicas, to: NodeId) -> list[tuple[NodeId, SnapshotChunk]]:
    return [
        (sender, message) for sender, peer, message in cluster.sent if peer == to and isinstance(message, SnapshotChunk)
    ]


def part_of(member: Member) -> int:
    """How many bytes of a snapshot a member has received and not installed."""
    return sum(member.disk.size(name) for name in member.disk.names() if name.endswith(".received"))


# Taking.


def test_snapshots_are_the_same_bytes_on_every_node(cluster: Replicas) -> None:
    """So that any node can send the rest of what another one began to send (R10)."""
    writer = Writer(cluster)
    writer.fill(60)
    writer.write(CREATE, "/mine", b"", EPHEMERAL)
    first = take(cluster)
    assert len({file_of(member, first) for member in running(cluster)}) == 1
    # The one that is restored from a file goes on as the others do, to the order of its keys.
    behind = lag_behind(cluster, writer)
    cluster.start(behind.name)
    cluster.until(lambda: settled(cluster))
    writer.write(DELETE, "/key-00003", -1)
    writer.fill(5)
    second = take(cluster)
    assert len({file_of(member, second) for member in running(cluster)}) == 1


def test_a_snapshot_says_which_state_it_holds(cluster: Replicas) -> None:
    """Its digest is compared when it is restored, and by whoever compares nodes."""
    Writer(cluster).fill(10)
    index = take(cluster)
    for member in running(cluster):
        (meta,) = [meta for meta in member.live.snapshots.metas() if meta.position.index == index]
        assert meta.state_digest == member.machine.digest() != 0


def test_a_state_that_is_not_what_it_was_is_refused(cluster: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes are right and the state is not: a node that started with it would differ in silence (R10, I10)."""
    Writer(cluster).fill(10)
    take(cluster)
    cluster.kill(A)

    def restore(machine: TreeMachine, chunks: Any, real: Callable[..., None] = TreeMachine.restore) -> None:
        real(machine, chunks)
        machine.sessions.values().__iter__().__next__().replies.clear()
        machine.sessions._uncounted.update(machine.sessions.by_id)

    monkeypatch.setattr(TreeMachine, "restore", restore)
    with pytest.raises(CorruptRecord, match="was taken of a state with digest"):
        cluster.start(A)


def test_a_snapshot_is_taken_when_the_last_one_is_old() -> None:
    """A cluster with few writes has one, too: a log that is never cut takes ever longer to read."""
    cluster = made(replace(LIMITS, snapshot_seconds=30))
    writer = Writer(cluster)
    writer.fill(3)
    began = cluster.loop.now
    cluster.until(lambda: all(member.live.snapshots.metas() for member in running(cluster)))
    assert 25 <= cluster.loop.now - began <= 31
    (meta,) = cluster.leader().live.snapshots.metas()
    # Nothing has happened since: there is nothing to take.
    cluster.until(lambda: cluster.loop.now > began + 80)
    assert cluster.leader().live.snapshots.metas() == [meta]
    writer.fill(1)
    cluster.until(lambda: len(cluster.leader().live.snapshots.metas()) == 2)
    assert cluster.loop.now < began + 82


def test_only_the_leader_takes_one_on_request(cluster: Replicas) -> None:
    """An entry of the log makes all nodes take it."""
    leader = cluster.leader()
    for member in running(cluster):
        assert (member.live.snapshots.take_now() is None) == (member is not leader)


# Downloading.


def download(member: Member, index: Index, offset: int) -> tuple[bytes | None, BaseException | None]:
    answers: list[tuple[bytes | None, BaseException | None]] = []
    member.live.snapshots.read(index, offset, lambda data, error: answers.append((data, error)))
    cluster_step = member.live._scheduler
    while not answers:
        cluster_step.step()  # type: ignore[attr-defined]  # the tests' own loop
    return answers[0]


def test_a_snapshot_is_read_piece_by_piece(cluster: Replicas) -> None:
    """For a copy outside the cluster."""
    Writer(cluster).fill(20)
    index = take(cluster)
    member = cluster.leader()
    copy = b""
    while piece := download(member, index, len(copy))[0]:
        assert len(piece) <= LIMITS.snapshot_chunk_bytes
        copy += piece
    assert copy == file_of(member, index)
    error = download(member, Index(7), 0)[1]
    assert isinstance(error, LookupError) and "no snapshot at index 7" in str(error)


# Receiving.


def test_a_transfer_goes_on_after_the_receiver_was_restarted(cluster: Replicas) -> None:
    """A large snapshot may take longer than the process that receives it lasts."""
    behind = lag_behind(cluster, Writer(cluster))
    cluster.start(behind.name)
    cluster.until(lambda: part_of(behind) > 25_000)
    cluster.kill(behind.name)
    had = part_of(behind)
    cluster.sent.clear()
    cluster.start(behind.name)
    cluster.until(lambda: settled(cluster))
    # The file's chunks are larger than the messages, so the last one had come in part; and some messages ask only.
    again = sum(len(chunk.data) for _, chunk in chunks_sent(cluster, behind.name))
    assert again < behind_size(cluster) - had + 10_000
    assert part_of(behind) == 0


def behind_size(cluster: Replicas) -> int:
    return cluster.leader().live.snapshots.metas()[0].size


def test_a_transfer_goes_on_from_another_leader(cluster: Replicas) -> None:
    """The rest comes from whoever leads then: it has the same file."""
    behind = lag_behind(cluster, Writer(cluster))
    cluster.start(behind.name)
    cluster.until(lambda: part_of(behind) > 25_000)
    had, first = part_of(behind), cluster.leader()
    cluster.sent.clear()
    cluster.cut(first.name)
    cluster.until(lambda: cluster.leader() is not first)
    second = cluster.leader()
    cluster.until(lambda: behind.live.applied >= second.live.applied)
    begin, *rest = [chunk.offset for sender, chunk in chunks_sent(cluster, behind.name) if sender == second.name]
    assert begin == 0 and min(rest) >= had
    assert behind.machine.digest() == second.machine.digest()


def test_a_transfer_goes_on_after_a_reset_connection_and_losses(cluster: Replicas) -> None:
    """A quarter of the chunks is lost, and the connection breaks again and again: what has come need not come again."""
    behind = lag_behind(cluster, Writer(cluster))
    leader, chance = cluster.leader(), random.Random(4)

    def loses(sender: NodeId, to: NodeId, message: object) -> bool:
        if not isinstance(message, SnapshotChunk):
            return False
        if chance.random() < 0.1:
            cluster.loop.call_soon(cluster.reset, leader.name, behind.name)
        return chance.random() < 0.25

    cluster.loses = loses
    cluster.start(behind.name)
    cluster.sent.clear()
    cluster.until(lambda: settled(cluster))
    assert len(chunks_sent(cluster, behind.name)) * LIMITS.snapshot_chunk_bytes < 5 * behind_size(cluster)


def test_chunks_that_are_lost_again_and_again_are_sent_again_and_again(cluster: Replicas) -> None:
    """On a link that stays up and loses much, nothing but the sender's own patience brings the rest."""
    behind = lag_behind(cluster, Writer(cluster))
    lost: dict[int, int] = {}

    def loses(sender: NodeId, to: NodeId, message: object) -> bool:
        if not isinstance(message, SnapshotChunk) or message.offset < 10_000 or message.offset > 12_000:
            return False
        lost[message.offset] = lost.get(message.offset, 0) + 1
        return lost[message.offset] <= 4

    cluster.loses = loses
    cluster.start(behind.name)
    cluster.until(lambda: settled(cluster))
    assert max(lost.values()) > 4


def test_a_peer_that_goes_away_in_the_middle_is_forgotten_each_time(cluster: Replicas) -> None:
    """Or its snapshot would be read and sent for nothing, again and again; and it may come back, and go once more."""
    behind = lag_behind(cluster, Writer(cluster))
    snapshots = cluster.leader().live.snapshots
    for part in (10_000, 20_000):
        cluster.start(behind.name)
        cluster.until(lambda part=part: part_of(behind) > part)
        assert list(snapshots._sendings) == [behind.name]
        cluster.kill(behind.name)
        cluster.until(lambda: not snapshots._sendings)


def test_a_newer_snapshot_replaces_one_received_in_part(cluster: Replicas) -> None:
    """Nobody has the older one any more."""
    writer = Writer(cluster)
    behind = lag_behind(cluster, writer)
    cluster.start(behind.name)
    cluster.until(lambda: part_of(behind) > 10_000)
    cluster.kill(behind.name)
    for _ in range(2):
        writer.fill(50)
        take(cluster)
    cluster.start(behind.name)
    cluster.until(lambda: settled(cluster))
    assert part_of(behind) == 0


def test_a_snapshot_is_taken_though_one_was_received_in_part_and_left(cluster: Replicas) -> None:
    """Its sender died, and the log brought what was missing. What was left lying must not stand in the way of every
    snapshot to come: a leader to whom that happened would ask for one after each commit, without end."""
    writer = Writer(cluster)
    writer.fill(30)
    index = take(cluster)
    follower = next(member for member in cluster.members.values() if member is not cluster.leader())
    (meta,) = [meta for meta in follower.live.snapshots.metas() if meta.position.index == index]
    ahead = replace(meta, position=replace(meta.position, index=Index(index + 5)))
    chunk = SnapshotChunk(follower.live.core.term, ahead, 0, file_of(follower, index)[:1000])
    follower.live.snapshots.on_chunk(cluster.leader().name, chunk)
    writer.fill(10)
    take(cluster)


def test_a_part_that_rots_before_it_is_complete_is_received_anew(cluster: Replicas) -> None:
    """The leader has every byte confirmed by then: it must not insist on that, but begin again."""
    behind = lag_behind(cluster, Writer(cluster))
    cluster.start(behind.name)
    cluster.until(lambda: part_of(behind) > 25_000)
    (name,) = [name for name in behind.disk.names() if name.endswith(".received")]
    behind.disk.poke(name, 20_000, bytes(range(100)))
    cluster.until(lambda: settled(cluster))


@pytest.mark.parametrize("rotten", [1, 2])
def test_a_snapshot_that_rots_under_its_sender_is_not_sent_for_ever(cluster: Replicas, rotten: int) -> None:
    """What no receiver can install is looked at again: then an older one serves, or a new one is taken."""
    writer = Writer(cluster)
    behind = lag_behind(cluster, writer)
    leader = cluster.leader()
    for meta in leader.live.snapshots.metas()[:rotten]:
        leader.disk.poke(snapshot_name(meta.position), 20_000, bytes(range(100)))
    cluster.start(behind.name)
    cluster.until(lambda: settled(cluster))


# Going back.


def recover(cluster: Replicas, index: Index) -> tuple[Index | None, BaseException | None]:
    answers: list[tuple[Index | None, BaseException | None]] = []
    cluster.leader().live.snapshots.recover(index, lambda at, error: answers.append((at, error)))
    cluster.until(lambda: answers)
    return answers[0]


def content(member: Member) -> dict[str, bytes]:
    return {path: node.data for path, node in member.machine.tree.nodes.items()}


def test_all_nodes_go_back_to_a_snapshot(cluster: Replicas) -> None:
    """With a new entry: indices, tokens and sessions go on."""
    writer = Writer(cluster)
    writer.fill(40, size=1000)
    index = take(cluster)
    before = content(cluster.leader())
    writer.write(SET, "/key-00003", b"wrong", -1)
    writer.write(DELETE, "/key-00004", -1)
    writer.fill(5)
    at, error = recover(cluster, index)
    assert error is None and at is not None and at > index
    cluster.until(lambda: settled(cluster))
    for member in running(cluster):
        assert content(member) == before
        assert member.machine.digest() == member.machine.digest_anew()
    node = cluster.leader().machine.tree.nodes["/key-00004"]
    assert node.czxid == at, "what comes back has a new token"
    writer.fill(1)
    assert cluster.leader().machine.sessions[writer.session].serial == writer.serial


def test_a_node_goes_back_without_having_the_snapshot(cluster: Replicas) -> None:
    """It came later, or was away, and finds all in the log."""
    writer = Writer(cluster)
    away = next(member for member in running(cluster) if member is not cluster.leader())
    cluster.kill(away.name)
    writer.fill(30)
    index = take(cluster)
    writer.fill(30)
    assert recover(cluster, index)[1] is None
    cluster.start(away.name)
    cluster.until(lambda: settled(cluster))
    assert not has(away, index) and len(content(away)) == len(SYSTEM) + 30


def test_a_restart_goes_back_once_more_with_the_log(cluster: Replicas) -> None:
    """The snapshot itself may have been pruned by then."""
    writer = Writer(cluster)
    writer.fill(30)
    index = take(cluster)
    writer.fill(10)
    take(cluster)
    assert recover(cluster, index)[1] is None
    writer.fill(2)
    cluster.until(lambda: settled(cluster))
    digest = cluster.leader().machine.digest()
    for name in (A, B, C):
        cluster.members[name].disk.delete(
            next(name for name in cluster.members[name].disk.names() if name.startswith(f"snap-{index:020d}"))
        )
        cluster.kill(name)
    for name in (A, B, C):
        cluster.start(name)
    cluster.leader()
    cluster.until(lambda: settled(cluster))
    machine = cluster.leader().machine
    assert len(machine.tree) == len(SYSTEM) + 32
    assert machine.tree.sum + machine.sessions.sum() == machine.tree.sum_anew() + machine.sessions.sum_anew()
    assert machine.digest() != 0 and digest != 0


def test_a_recovery_ends_with_its_leader(cluster: Replicas) -> None:
    """Pieces of two leaders do not make a whole: the state stays what it is, and whoever asked is told."""
    writer = Writer(cluster)
    writer.fill(60, size=1000)
    index = take(cluster)
    writer.fill(5)
    first = cluster.leader()
    answers: list[BaseException | None] = []
    first.live.snapshots.recover(index, lambda at, error: answers.append(error))
    applied = first.live.applied
    cluster.until(lambda: first.live.applied > applied + 3)
    assert not answers
    cluster.cut(first.name)
    second = cluster.leader() if cluster.leader() is not first else None
    assert second is not None
    cluster.until(lambda: answers)
    assert isinstance(answers[0], NotLeader)
    cluster.mend(first.name)
    Writer(cluster)
    cluster.until(lambda: settled(cluster))
    assert len(second.machine.tree) == len(SYSTEM) + 65
    assert recover(cluster, index)[1] is None
    cluster.until(lambda: settled(cluster))
    assert len(second.machine.tree) == len(SYSTEM) + 60


def test_what_cannot_be_recovered_is_refused_by_name(cluster: Replicas) -> None:
    """Before anything is put into the log."""
    writer = Writer(cluster)
    writer.fill(30, size=1000)
    index = take(cluster)
    leader = cluster.leader()
    follower = next(member for member in running(cluster) if member is not leader)
    answers: list[BaseException | None] = []

    def done(at: Index | None, error: BaseException | None) -> None:
        answers.append(error)

    follower.live.snapshots.recover(index, done)
    leader.live.snapshots.recover(Index(9), done)
    assert isinstance(answers[0], NotLeader) and isinstance(answers[1], LookupError)
    leader.live.snapshots.recover(index, done)
    leader.live.snapshots.recover(index, done)
    assert isinstance(answers[2], Busy)
    with pytest.raises(Busy, match="being recovered"):
        leader.live.snapshots.take_now()
    cluster.until(lambda: len(answers) == 4)
    assert answers[3] is None
    meta: SnapshotMeta = leader.live.snapshots.metas()[0]
    damaged = bytearray(file_of(leader, index))
    damaged[len(damaged) // 2] ^= 1
    leader.disk.put(snapshot_name(meta.position), bytes(damaged))
    assert isinstance(recover(cluster, index)[1], CorruptRecord)
