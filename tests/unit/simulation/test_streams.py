"""The simulated wires, peers' messages and clients' connections."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import anyio
import pytest

from journal.limits import Limits
from journal.raft.messages import Heartbeat, Message
from journal.values import Index, NodeId, Term
from tests.simulation.links import Links
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import Fabric, SimNetwork
from tests.simulation.streams import WRITE_BUFFER_HIGH, Connection

A, B = NodeId("a"), NodeId("b")


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_message(self, sender: NodeId, message: Message) -> None:
        self.seen.append((sender, message))

    def on_peer_connected(self, peer: NodeId) -> None:
        self.seen.append(("up", peer))

    def on_peer_lost(self, peer: NodeId) -> None:
        self.seen.append(("lost", peer))


def beat(number: int) -> Heartbeat:
    return Heartbeat(Term(1), Index(0), number)


class Pair:
    """Two servers' networks."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop()
        self.links = Links(self.loop, random.Random(seed))
        self.fabric = Fabric(self.links, Limits())
        self.processes = {name: Process(name) for name in (A, B)}
        self.networks = {name: SimNetwork(self.fabric, self.processes[name], name, (A, B)) for name in (A, B)}
        self.heard = {A: Recorder(), B: Recorder()}

    async def start(self) -> None:
        for name in (A, B):
            await self.networks[name].start(self.heard[name])
        await asyncio.sleep(1)


def test_messages_arrive_in_order_as_equal_but_other_objects() -> None:
    """Nodes that shared an object would share its changes, which no network does."""
    pair = Pair()

    async def main() -> None:
        await pair.start()
        sent = [beat(number) for number in range(20)]
        for message in sent:
            pair.networks[A].send(B, message)
        await asyncio.sleep(1)
        got = [message for who, message in pair.heard[B].seen if who == A]
        assert got == sent
        assert all(one is not other for one, other in zip(got, sent, strict=True))

    pair.loop.run(main())


def test_cut_wire_loses_messages_one_way_only() -> None:
    """One-way partitions are what fools failure detectors."""
    pair = Pair()

    async def main() -> None:
        await pair.start()
        pair.links.cut(A, B)
        pair.networks[A].send(B, beat(1))
        pair.networks[B].send(A, beat(2))
        await asyncio.sleep(1)
        assert (B, beat(2)) in pair.heard[A].seen
        assert all(entry[0] != A for entry in pair.heard[B].seen)

    pair.loop.run(main())


def test_reset_is_told_to_both_ends_and_dialed_again() -> None:
    """A reset is the hint that makes failover fast, so the simulator must give it."""
    pair = Pair()

    async def main() -> None:
        await pair.start()
        pair.fabric.reset(A, B)
        await asyncio.sleep(2)
        for mine, other in ((A, B), (B, A)):
            # Two connections broke, one dialed by each end; each end dialed its own again.
            assert pair.heard[mine].seen == [("up", other), ("lost", other), ("lost", other), ("up", other)]

    pair.loop.run(main())


def test_dead_machine_is_silent_until_it_is_back() -> None:
    """A power cut sends no reset: the others must find out by themselves."""
    pair = Pair()

    async def main() -> None:
        await pair.start()
        pair.loop.crash(pair.processes[B])
        pair.fabric.leave(pair.networks[B], silent=True)
        await asyncio.sleep(5)
        assert pair.heard[A].seen == [("up", B)]
        again = SimNetwork(pair.fabric, Process(B), B, (A, B))
        heard = Recorder()
        await again.start(heard)
        await asyncio.sleep(3)
        assert ("lost", B) in pair.heard[A].seen
        assert pair.networks[A].connected() == (B,)
        assert again.connected() == (A,)
        pair.networks[A].send(B, beat(3))
        await asyncio.sleep(1)
        assert (A, beat(3)) in heard.seen

    pair.loop.run(main())


def test_faults_lose_and_double_and_reorder() -> None:
    """All three must really happen, or runs that claim them are empty."""
    pair = Pair(seed=5)

    async def main() -> None:
        await pair.start()
        pair.links.drop_rate = pair.links.duplicate_rate = pair.links.reorder_rate = 0.3
        pair.links.delay_seconds_mean = 0.05
        for number in range(200):
            pair.networks[A].send(B, beat(number))
            await asyncio.sleep(0.01)
        await asyncio.sleep(3)
        rounds = [message.round for who, message in pair.heard[B].seen if who == A]
        assert len(set(rounds)) < 200
        assert len(rounds) > len(set(rounds))
        assert rounds != sorted(rounds)

    pair.loop.run(main())


class Echo(asyncio.Protocol):
    """Sends back what it gets, and writes down its life."""

    def __init__(self, *, mute: bool = False) -> None:
        self.life: list[str] = []
        self.received = b""
        self.transport: Any = None
        self.mute = mute

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.life.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.mute:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.life.append("eof")
        return False

    def pause_writing(self) -> None:
        self.life.append("pause")

    def resume_writing(self) -> None:
        self.life.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.life.append("lost" if error is None else "reset")


class Line:
    """One client's connection to one echoing server."""

    def __init__(self, *, mute: bool = False) -> None:
        self.loop = SimLoop()
        self.links = Links(self.loop, random.Random(3))
        self.client, self.server = Process("c1"), Process("n1")
        self.connection = Connection(self.links, self.client, self.server)
        self.echo = Echo(mute=mute)
        self.connection.open(self.echo)


def test_bytes_come_back_in_order_in_pieces() -> None:
    """A decoder that counts on whole frames must be found out."""
    line = Line()
    data = bytes(range(256)) * 40

    async def inside() -> int:
        await line.connection.stream.send(data)
        received, pieces = b"", 0
        while len(received) < len(data):
            received += await line.connection.stream.receive()
            pieces += 1
        assert received == data
        return pieces

    async def main() -> int:
        return await line.loop.spawn(line.client, inside())

    assert line.loop.run(main()) > 1


def test_cut_wire_stalls_bytes_until_it_heals() -> None:
    """A stream loses nothing in a partition that ends: it is late."""
    line = Line()

    async def inside() -> bytes:
        line.links.cut("c1", "n1")
        await line.connection.stream.send(b"abc")
        with anyio.move_on_after(5):
            await line.connection.stream.receive()
            pytest.fail("the wire is cut")
        line.links.heal()
        received = b""
        while len(received) < 3:
            received += await line.connection.stream.receive()
        return received

    async def main() -> bytes:
        return await line.loop.spawn(line.client, inside())

    assert line.loop.run(main()) == b"abc"


def test_reset_reaches_both_ends() -> None:
    """Both sides have code for it, and both must be run."""
    line = Line()

    async def inside() -> None:
        line.connection.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await line.connection.stream.receive()
        await anyio.sleep(1)
        assert line.echo.life == ["made", "reset"]

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())


def test_close_ends_both_sides_in_order() -> None:
    """What was written before a close arrives before the end."""
    line = Line()

    async def inside() -> None:
        await line.connection.stream.send(b"last words")
        await line.connection.stream.aclose()
        await anyio.sleep(1)
        assert line.echo.received == b"last words"
        assert line.echo.life == ["made", "eof", "lost"]

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())


def test_client_that_does_not_take_bytes_in_holds_the_server_back() -> None:
    """Without back-pressure a slow client would fill the server's memory."""
    line = Line(mute=True)

    async def main() -> None:
        line.loop.pause(line.client)
        line.echo.transport.write(b"x" * (WRITE_BUFFER_HIGH + 1))
        await asyncio.sleep(1)
        assert line.echo.life == ["made", "pause"]
        line.loop.resume(line.client)
        await asyncio.sleep(1)
        assert line.echo.life == ["made", "pause", "resume"]

    line.loop.run(main())


def test_server_that_pauses_reading_gets_the_bytes_later() -> None:
    """A server with too many requests in flight stops reading and must lose nothing by it."""
    line = Line(mute=True)

    async def inside() -> None:
        line.echo.transport.pause_reading()
        await line.connection.stream.send(b"abc")
        await anyio.sleep(1)
        assert line.echo.received == b""
        line.echo.transport.resume_reading()
        await anyio.sleep(1)
        assert line.echo.received == b"abc"

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())
