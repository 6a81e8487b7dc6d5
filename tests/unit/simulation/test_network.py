"""The simulated network between servers."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from journal.limits import Limits
from journal.peers.handshake import Refusal
from journal.raft.messages import Heartbeat, Message
from journal.values import Index, NodeId, Term
from tests.simulation.links import Links
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import Fabric, SimNetwork

A, B = NodeId("a"), NodeId("b")


class Recorder:
    """A receiver that writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    incarnation = b""

    def judge(self, peer: NodeId, incarnation: bytes) -> None:
        """Everybody is welcome."""

    def on_refused(self, peer: NodeId, refusal: Refusal) -> None:
        raise AssertionError(refusal)

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
