"""The real network over loopback sockets: who is let in, what is lost, and how soon that is known.

Ports are bound before the networks are built, so no test depends on a port being free.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import cast

import pytest

from journal.limits import MIB, Limits
from journal.peers import tcp
from journal.peers.codec import encode
from journal.peers.handshake import VERSION, Identity, Refusal, acceptance, hello, take_greeting
from journal.peers.tcp import TcpNetwork
from journal.raft.messages import Heartbeat, HeartbeatReply, Message, Proposal
from journal.values import Index, NodeId, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
CLUSTER = "blue"
LIMITS = Limits()
PATIENCE = 20.0
"""No test waits this long unless it fails; a busy machine may need a part of it."""


class Recorder:
    """A receiver that remembers, and wakes whoever waits for something to have happened."""

    def __init__(self) -> None:
        self.messages: list[tuple[NodeId, Message]] = []
        self.connected: list[NodeId] = []
        self.lost: list[NodeId] = []
        self.refused: list[Refusal] = []
        self.verdicts: dict[NodeId, Refusal] = {}
        self.incarnation = b""
        self._changed = asyncio.Event()

    def judge(self, peer: NodeId, incarnation: bytes) -> Refusal | None:
        return self.verdicts.get(peer)

    def on_refused(self, peer: NodeId, refusal: Refusal) -> None:
        self.refused.append(refusal)
        self._changed.set()

    def on_message(self, sender: NodeId, message: Message) -> None:
        self.messages.append((sender, message))
        self._changed.set()

    def on_peer_connected(self, peer: NodeId) -> None:
        self.connected.append(peer)
        self._changed.set()

    def on_peer_lost(self, peer: NodeId) -> None:
        self.lost.append(peer)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Nodes:
    """Up to three networks of one cluster, on ports that stay theirs while they are down."""

    def __init__(self) -> None:
        self.sockets = {peer: bound() for peer in (N1, N2, N3)}
        self.addresses = {peer: sock.getsockname() for peer, sock in self.sockets.items()}
        self.running: dict[NodeId, TcpNetwork] = {}

    def network(self, me: NodeId, cluster: str = CLUSTER, limits: Limits = LIMITS) -> TcpNetwork:
        # A duplicate, so that the port remains bound when the network closes its own.
        return TcpNetwork(me, cluster, ("127.0.0.1", 0), self.addresses, limits, sock=self.sockets[me].dup())

    async def start(self, me: NodeId, limits: Limits = LIMITS) -> Recorder:
        recorder = Recorder()
        self.running[me] = self.network(me, limits=limits)
        await self.running[me].start(recorder)
        return recorder

    async def close(self) -> None:
        while self.running:
            await self.running.popitem()[1].close()
        for sock in self.sockets.values():
            sock.close()


def bound() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Nodes]:
    nodes = Nodes()
    try:
        yield nodes
    finally:
        await nodes.close()


async def connect(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*address)


async def until_logged(caplog: pytest.LogCaptureFixture, *texts: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not all(text in caplog.text for text in texts):
            await asyncio.sleep(0.002)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What the other side still says until it closes or resets."""
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(65536):
                received += data
    return received


def beat(round: int) -> Heartbeat:
    return Heartbeat(Term(1), Index(0), round)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Every test runs on both loops: their transports close, reset and queue in ways of their own."""
    if request.param:
        pytest.importorskip("uvloop")
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tcp, "RETRY_SECONDS_MAX", 0.05)
    yield


@pytest.mark.anyio
async def test_three_nodes_find_each_other_and_talk_in_order() -> None:
    """The plain case: everybody reaches everybody, and a connection keeps the order of its messages."""
    async with cluster() as nodes:
        one, two, three = [await nodes.start(peer) for peer in (N1, N2, N3)]
        for recorder in (one, two, three):
            await recorder.until(lambda r=recorder: len(r.connected) == 2)
        assert nodes.running[N2].connected() == (N1, N3)
        for round in range(100):
            nodes.running[N1].send(N2, beat(round))
            nodes.running[N3].send(N2, HeartbeatReply(Term(1), round))
        nodes.running[N1].send(N2, Proposal(Term(1), 0, 0, 1, bytes(3 * MIB)))
        await two.until(lambda: len(two.messages) == 201)
        assert [m for peer, m in two.messages if peer == N1][:100] == [beat(round) for round in range(100)]
        assert [m.round for peer, m in two.messages if peer == N3] == list(range(100))
        assert (N1, Proposal(Term(1), 0, 0, 1, bytes(3 * MIB))) in two.messages


@pytest.mark.anyio
async def test_a_message_to_a_peer_that_is_not_connected_is_dropped() -> None:
    """Sending never waits and never fails: Raft sends again what matters."""
    async with cluster() as nodes:
        await nodes.start(N1)
        nodes.running[N1].send(N2, beat(1))
        assert nodes.running[N1].connected() == ()


CHILD = """
import asyncio, socket, sys
from journal.limits import Limits
from journal.peers.tcp import TcpNetwork
class Silent:
    incarnation = b""
    def judge(self, peer, incarnation): pass
    def on_refused(self, peer, refusal): pass
    def on_message(self, sender, message): pass
    def on_peer_connected(self, peer): print("connected", peer, flush=True)
    def on_peer_lost(self, peer): pass
async def main():
    sock = socket.socket(fileno=int(sys.argv[1]))
    peers = {"n1": ("127.0.0.1", int(sys.argv[2])), "n2": sock.getsockname()}
    await TcpNetwork("n2", "blue", ("127.0.0.1", 0), peers, Limits(), sock=sock).start(Silent())
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.anyio
async def test_a_killed_peer_is_reported_at_once_through_both_connections() -> None:
    """Failover starts from this report: without it followers wait for an election timeout."""
    async with cluster() as nodes:
        child_socket = bound()
        nodes.addresses[N2] = child_socket.getsockname()
        one = await nodes.start(N1)
        command = [sys.executable, "-c", CHILD, str(child_socket.fileno()), str(nodes.addresses[N1][1])]
        child = subprocess.Popen(command, pass_fds=[child_socket.fileno()])
        try:
            child_socket.close()
            network = nodes.running[N1]
            await one.until(lambda: network.connected() == (N2,) and N2 in network._heard)
            loop = asyncio.get_running_loop()
            before = loop.time()
            os.kill(child.pid, signal.SIGKILL)
            await one.until(lambda: one.lost == [N2, N2])
            # Far under the shortest election timeout; on an idle machine it is under a millisecond.
            assert loop.time() - before < 0.5
            assert network.connected() == ()
        finally:
            child.kill()
            child.wait()


@pytest.mark.anyio
async def test_nodes_reconnect_when_a_peer_comes_back() -> None:
    """A restarted peer dials, and that ends the pause of those who were waiting to dial it."""
    async with cluster() as nodes:
        one = await nodes.start(N1)
        await nodes.start(N2)
        await one.until(lambda: one.connected == [N2] and N2 in nodes.running[N1]._heard)
        await nodes.running.pop(N2).close()
        await one.until(lambda: len(one.lost) == 2)
        two = await nodes.start(N2)
        await one.until(lambda: one.connected == [N2, N2])
        await two.until(lambda: two.connected == [N1])
        nodes.running[N1].send(N2, beat(5))
        await two.until(lambda: two.messages == [(N1, beat(5))])


@pytest.mark.anyio
async def test_a_peer_that_dials_ends_the_pause_before_dialing_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a cluster whose nodes start a moment apart would wait for the longest pause."""
    monkeypatch.setattr(tcp, "RETRY_SECONDS_MIN", 1000.0)
    monkeypatch.setattr(tcp, "RETRY_SECONDS_MAX", 1000.0)
    async with cluster() as nodes:
        one = await nodes.start(N1)
        await until_logged(caplog, "cannot connect to peer n2")
        two = await nodes.start(N2)
        await two.until(lambda: two.connected == [N1])
        await one.until(lambda: one.connected == [N2])


@pytest.mark.anyio
async def test_what_was_sent_before_closing_still_leaves() -> None:
    """A leader that stops hands over with its last message."""
    async with cluster() as nodes:
        one, two = await nodes.start(N1), await nodes.start(N2)
        await one.until(lambda: one.connected == [N2])
        network = nodes.running.pop(N1)
        network.send(N2, Proposal(Term(1), 0, 0, 1, bytes(5 * MIB)))
        network.send(N2, beat(9))
        await network.close()
        await two.until(lambda: bool(two.messages) and two.messages[-1] == (N1, beat(9)))
        assert one.lost == []  # the node ended it itself


@pytest.mark.anyio
async def test_a_foreign_cluster_is_refused_and_both_sides_say_why(
    caplog: pytest.LogCaptureFixture, quick_pauses: None
) -> None:
    """Two clusters on one machine with a slip in a port must never share a log."""
    async with cluster() as nodes:
        with caplog.at_level(logging.WARNING, "journal.peers"):
            one = await nodes.start(N1)
            stranger = nodes.network(N2, cluster="red")
            nodes.running[N2] = stranger
            await stranger.start(Recorder())
            reason = "node 'n2' belongs to cluster 'red', this node to 'blue'"
            await until_logged(
                caplog,
                f"turned away a connection from 127.0.0.1: {reason}",
                f"node 'n1' of cluster 'blue' refused this node: {reason}",
            )
        assert one.connected == [] and one.messages == []
        assert len(caplog.records) < 20  # said once for each side and reason, not once a try


@pytest.mark.anyio
async def test_garbage_closes_its_own_connection_and_no_other() -> None:
    """A port scanner must not disturb the cluster."""
    async with cluster() as nodes:
        one, two = await nodes.start(N1), await nodes.start(N2)
        await one.until(lambda: one.connected == [N2])
        await two.until(lambda: two.connected == [N1])
        reader, writer = await connect(nodes.addresses[N1])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = await read_to_end(reader)
        taken = take_greeting(answer)
        assert taken is not None and "not a JKCS peer" in taken[0][3]
        writer.close()
        nodes.running[N2].send(N1, beat(1))
        await one.until(lambda: one.messages == [(N2, beat(1))])
        assert one.lost == two.lost == []


class StandIn(asyncio.Protocol):
    """A hand-made peer that is dialed: says what it is told to, and counts what it hears."""

    def __init__(self, verdict: bytes) -> None:
        self.verdict = verdict
        self.transport: asyncio.Transport | None = None
        self.received = 0
        self.tail = b""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.verdict)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.tail = (self.tail + data)[-64:]

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


@contextlib.asynccontextmanager
async def stand_in(
    nodes: Nodes, peer: NodeId, verdict: bytes = acceptance(Identity(CLUSTER, N2))
) -> AsyncIterator[StandIn]:
    """Takes the place of `peer`; the networks started meanwhile are closed first."""
    one = StandIn(verdict)
    server = await asyncio.get_running_loop().create_server(
        lambda: one if one.transport is None else asyncio.Protocol(), sock=nodes.sockets[peer].dup()
    )
    try:
        yield one
    finally:
        await nodes.close()
        server.close()
        if one.transport is not None:
            one.transport.abort()
            await one.ended.wait()


async def shake_hands(nodes: Nodes, me: NodeId, to: NodeId) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A hand-made peer's connection, accepted."""
    reader, writer = await connect(nodes.addresses[to])
    writer.write(hello(Identity(CLUSTER, me), to))
    received = b""
    while (taken := take_greeting(received)) is None:
        received += await reader.read(4096)
    assert taken[0][0] is True, taken
    return reader, writer


@pytest.mark.anyio
@pytest.mark.parametrize(
    "bad",
    [
        b"garbage that is long enough to be read",
        struct.pack("<III", 20, 2**31, 0),
        b"".join(encode(beat(2)))[:-1] + b"\xff",
    ],
    ids=["garbage", "oversize", "damaged"],
)
async def test_a_bad_frame_ends_the_connection_and_is_reported(bad: bytes) -> None:
    """After damage nothing on that connection can be trusted; the peer dials anew."""
    async with cluster() as nodes:
        one = await nodes.start(N1)
        reader, writer = await shake_hands(nodes, N2, N1)
        writer.write(b"".join(encode(beat(1))))
        await one.until(lambda: one.messages == [(N2, beat(1))])
        writer.write(bad)
        await read_to_end(reader)
        writer.close()
        await one.until(lambda: one.lost == [N2])
        assert one.messages == [(N2, beat(1))]


@pytest.mark.anyio
async def test_a_connection_without_hello_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle strangers must not hold sockets for ever."""
    monkeypatch.setattr(tcp, "HANDSHAKE_SECONDS", 0.05)
    async with cluster() as nodes:
        await nodes.start(N1)
        reader, writer = await connect(nodes.addresses[N1])
        writer.write(hello(Identity(CLUSTER, N2), N1)[:5])
        assert await read_to_end(reader) == b""
        writer.close()


@pytest.mark.anyio
async def test_connections_beyond_the_limit_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers must not use up the node's file descriptors."""
    monkeypatch.setattr(tcp, "ACCEPTED_MAX", 2)
    async with cluster() as nodes:
        await nodes.start(N1)
        held = [await connect(nodes.addresses[N1]) for _ in range(2)]
        reader, writer = await connect(nodes.addresses[N1])
        assert await read_to_end(reader) == b""
        for _, other in [*held, (reader, writer)]:
            other.close()


@pytest.mark.anyio
async def test_a_peer_that_connects_anew_replaces_its_old_connection() -> None:
    """Its old one may be half open: nothing will ever be heard from it again."""
    async with cluster() as nodes:
        one = await nodes.start(N1)
        old_reader, old_writer = await shake_hands(nodes, N2, N1)
        _, writer = await shake_hands(nodes, N2, N1)
        await read_to_end(old_reader)
        await one.until(lambda: one.lost == [N2])
        writer.write(b"".join(encode(beat(3))))
        await one.until(lambda: one.messages == [(N2, beat(3))])
        old_writer.close()
        writer.close()


@pytest.mark.anyio
async def test_messages_beyond_the_queue_limit_are_dropped_and_later_ones_arrive() -> None:
    """A peer that reads slowly costs this node a bounded amount of memory and no waiting."""
    limits = dataclasses.replace(LIMITS, peer_queue_bytes_max=2 * MIB)
    async with cluster() as nodes, stand_in(nodes, N2) as slow:
        one = await nodes.start(N1, limits)
        await one.until(lambda: one.connected == [N2])
        network = nodes.running[N1]
        transport = network._dialed[N2].transport
        assert transport is not None and slow.transport is not None
        slow.transport.pause_reading()
        for round in range(300):
            network.send(N2, Proposal(Term(1), 0, 0, 1, bytes(100_000)))
            if round % 10 == 0:
                await asyncio.sleep(0)
        assert 0 < transport.get_write_buffer_size() <= limits.peer_queue_bytes_max
        slow.transport.resume_reading()
        async with asyncio.timeout(PATIENCE):
            while transport.get_write_buffer_size():
                await asyncio.sleep(0.002)
        network.send(N2, beat(1))
        async with asyncio.timeout(PATIENCE):
            while not slow.tail.endswith(b"".join(encode(beat(1)))):
                await asyncio.sleep(0.002)
        assert slow.received < 300 * 100_000
        assert network.connected() == (N2,) and one.lost == []


@pytest.mark.anyio
async def test_a_verdict_of_another_version_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """During an upgrade the log must say what is wrong, in numbers."""
    async with cluster() as nodes:
        verdict = bytearray(acceptance(Identity(CLUSTER, N2)))
        struct.pack_into("<H", verdict, 4, VERSION + 1)
        with caplog.at_level(logging.WARNING, "journal.peers"):
            async with stand_in(nodes, N2, bytes(verdict)):
                await nodes.start(N1)
                await until_logged(caplog, f"speaks version {VERSION + 1}")
                assert nodes.running[N1].connected() == ()


@pytest.mark.anyio
async def test_a_port_in_use_is_named() -> None:
    """The commonest mistake at a start deserves a message that needs no search."""
    with bound() as taken:
        taken.listen()
        host, port = taken.getsockname()
        network = TcpNetwork(N1, CLUSTER, (host, port), {}, LIMITS)
        with pytest.raises(OSError, match=f"cannot listen for peers on 127.0.0.1:{port}"):
            await network.start(Recorder())
        await network.close()


@pytest.mark.anyio
async def test_a_network_that_picks_its_port_tells_it() -> None:
    """For a cluster of one, and for tools."""
    network = TcpNetwork(N1, CLUSTER, ("127.0.0.1", 0), {N1: ("127.0.0.1", 0)}, LIMITS)
    await network.start(Recorder())
    assert network.address[0] == "127.0.0.1" and network.address[1] > 0
    assert network.connected() == ()
    await network.close()
