"""The simulated network between servers."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from journal.limits import Limits
from journal.peers.handshake import Refusal
from journal.raft.messages import Append, Heartbeat, Message
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


def test_damaged_frames_are_refused_and_never_believed() -> None:
    """The codec's checksums must catch what TCP's do not; then the connection breaks, and comes back."""
    pair = Pair(seed=3)
    refused: list[NodeId] = []
    pair.fabric.on_refused = refused.append

    async def main() -> None:
        await pair.start()
        pair.links.corrupt_rate = 0.1
        sent = []
        for number in range(300):
            sent.append(beat(number))
            pair.networks[A].send(B, sent[-1])
            await asyncio.sleep(0.01)
        pair.links.calm()
        await asyncio.sleep(3)
        got = [message for who, message in pair.heard[B].seen if who == A]
        assert len(refused) > 5 and set(refused) == {B}
        assert len(got) > 50 and all(message in sent for message in got)
        assert pair.networks[A].connected() == (B,)

    pair.loop.run(main())


def test_half_a_frame_dies_with_its_connection() -> None:
    """What comes over the next connection must not be joined to it."""
    pair = Pair(seed=3)

    async def main() -> None:
        await pair.start()
        pair.links.half_frame_rate = 1.0
        pair.networks[A].send(B, beat(1))
        pair.links.calm()
        await asyncio.sleep(3)
        pair.networks[A].send(B, beat(2))
        await asyncio.sleep(1)
        assert ("lost", B) in pair.heard[A].seen
        assert [message for who, message in pair.heard[B].seen if who == A] == [beat(2)]

    pair.loop.run(main())


def test_clogged_wire_delivers_everything_at_once_when_it_opens() -> None:
    """Other than a cut it loses nothing: a burst of old messages comes."""
    pair = Pair()

    async def main() -> None:
        await pair.start()
        pair.links.clog(A, B)
        for number in range(5):
            pair.networks[A].send(B, beat(number))
            await asyncio.sleep(0.1)
        assert not [message for who, message in pair.heard[B].seen if who == A]
        pair.links.unclog([(A, B)])
        pair.networks[A].send(B, beat(5))
        await asyncio.sleep(0.1)
        assert [message for who, message in pair.heard[B].seen if who == A] == [beat(number) for number in range(6)]

    pair.loop.run(main())


def test_old_messages_come_again_even_over_a_new_connection() -> None:
    """Terms and rounds must tell them from new ones."""
    pair = Pair(seed=2)

    async def main() -> None:
        await pair.start()
        pair.links.replay_rate = 0.5
        for number in range(20):
            pair.networks[A].send(B, beat(number))
        await asyncio.sleep(1)
        pair.fabric.reset(A, B)
        await asyncio.sleep(3)
        before = len(pair.heard[B].seen)
        for number in range(20, 40):
            pair.networks[A].send(B, beat(number))
        await asyncio.sleep(1)
        after = [message.round for who, message in pair.heard[B].seen[before:] if who == A]
        assert set(range(20, 40)) <= set(after) and min(after) < 20

    pair.loop.run(main())


def test_messages_are_copies_where_the_codec_is_left_out() -> None:
    """Quicker, and still nothing is shared."""
    pair = Pair()
    pair.fabric = Fabric(pair.links, Limits(), codec=False)
    pair.networks = {name: SimNetwork(pair.fabric, pair.processes[name], name, (A, B)) for name in (A, B)}

    async def main() -> None:
        await pair.start()
        sent = Append(Term(1), Index(0), Term(0), 0, Index(0), [])
        pair.networks[A].send(B, sent)
        sent.entries.append(None)  # type: ignore[arg-type]
        await asyncio.sleep(1)
        [got] = [message for who, message in pair.heard[B].seen if who == A]
        assert got == Append(Term(1), Index(0), Term(0), 0, Index(0), [])

    pair.loop.run(main())
