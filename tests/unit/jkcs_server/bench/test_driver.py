"""The closed loop: the window is always full, nothing is lost at the end, and failures are told."""

from __future__ import annotations

import asyncio

import pytest

from jkcs_server.bench.driver import Connection, Meter, close_all, drain_all, finish_all, open_all
from jkcs_server.bench.figures import Latencies
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.native import NativeLine, part
from jkcs_server.bench.parts import Parts
from jkcs_server.bench.work import Kind, Work
from tests.unit.jkcs_server.bench.fake import FakeTree, serve

PATIENCE = 20.0


def connections(address: tuple[str, int], count: int, meter: Meter) -> list[Connection]:
    parts = Parts(part)
    return [Connection(address, NativeLine(parts), meter) for _ in range(count)]


async def until_answered(meter: Meter, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while meter.answered < count:
            await asyncio.sleep(0.002)


@pytest.mark.asyncio
async def test_every_request_is_answered_and_every_answer_has_its_latency() -> None:
    """What was sent before the stop is waited for: the count at the end is exact."""
    tree, meter = FakeTree(), Meter()
    meter.latencies = Latencies()
    async with serve(tree) as address:
        both = connections(address, 2, meter)
        await open_all(both)
        for number, connection in enumerate(both):
            connection.run(Work(Kind.CREATE, "", 10, stem=f"c{number}-"), window=8)
        await until_answered(meter, 500)
        await drain_all(both)
        assert meter.answered == len(tree.keys) - 1 == meter.latencies.count
        assert [connection.line.answered for connection in both] == [
            sum(path.startswith(f"/c{number}-") for path in tree.keys) for number in range(2)
        ]
        assert tree.largest_batch == 8  # the whole window, in one frame
        await close_all(both)
        assert tree.sessions == 0


@pytest.mark.asyncio
async def test_work_with_a_limit_ends_by_itself() -> None:
    """Preparing and cleaning up are works with a limit."""
    tree, meter = FakeTree(), Meter()
    async with serve(tree) as address:
        [connection] = connections(address, 1, meter)
        await connection.open()
        connection.run(Work(Kind.CREATE, "", 10, limit=101), window=16)
        await finish_all([connection], PATIENCE)
        assert len(tree.keys) == 102
        connection.run(Work(Kind.DELETE, "", 0, limit=101), window=16)
        await finish_all([connection], PATIENCE)
        assert list(tree.keys) == ["/"]
        connection.run(Work(Kind.CREATE, "", 10, limit=0), window=16)
        await finish_all([connection], PATIENCE)
        await connection.close()


@pytest.mark.asyncio
async def test_a_server_that_goes_away_is_reported_to_who_waits() -> None:
    """A benchmark that hangs is worse than one that fails."""
    tree, meter = FakeTree(), Meter()
    async with serve(tree) as address:
        [connection] = connections(address, 1, meter)
        await connection.open()
        tree.farewell = True
        connection.run(Work(Kind.GET, "", 10, cycle=1), window=1)
        with pytest.raises(LoadFailed, match=f"{address[1]}: the server ends the connection: .*too much"):
            async with asyncio.timeout(PATIENCE):
                await connection.drained()


@pytest.mark.asyncio
async def test_a_connection_that_is_lost_is_reported_to_who_waits() -> None:
    """Also without a word from the server."""
    meter = Meter()
    async with serve(FakeTree()) as address:
        [connection] = connections(address, 1, meter)
        await connection.open()
    with pytest.raises(LoadFailed, match="the connection was lost"):
        async with asyncio.timeout(PATIENCE):
            while True:
                await connection.drained()
                await asyncio.sleep(0.002)


@pytest.mark.asyncio
async def test_a_server_that_cannot_be_reached_or_refuses_is_named() -> None:
    """The first thing that goes wrong is a wrong address."""
    tree = FakeTree()
    tree.refuses = True
    async with serve(tree) as address:
        with pytest.raises(LoadFailed, match="NoLeader: nobody leads"):
            await open_all(connections(address, 2, Meter()))
    with pytest.raises(LoadFailed, match=f"cannot connect to 127.0.0.1:{address[1]}"):
        await open_all(connections(address, 1, Meter()))


@pytest.mark.asyncio
async def test_a_session_that_the_server_does_not_end_is_reported() -> None:
    """Sessions that pile up would make the next cells slower, and a connection that is closed is no proof."""
    tree = FakeTree()
    tree.keeps = True
    async with serve(tree) as address:
        kept, left = connections(address, 2, Meter())
        await open_all([kept, left])
        with pytest.raises(LoadFailed, match="unexpected answer to the goodbye"):
            await kept.part()
        await left.close()  # what is only tidied up is not worth a failure
        with pytest.raises(LoadFailed, match="lost"):
            await left.part()


@pytest.mark.asyncio
async def test_who_waits_at_the_meter_is_told_of_a_failure() -> None:
    """Five hundred connections have one who waits for them all."""
    tree, meter = FakeTree(), Meter()
    async with serve(tree) as address:
        both = connections(address, 2, meter)
        await open_all(both)
        with pytest.raises(LoadFailed, match="still missing after"):
            await meter.until(lambda: False, 0.01)
        tree.farewell = True
        both[1].run(Work(Kind.GET, "", 10, cycle=1, limit=1), window=1)
        with pytest.raises(LoadFailed, match="ends the connection"):
            await meter.until(lambda: meter.answered > 0, PATIENCE)
