"""Sessions that come and go: none is counted that was not opened and ended."""

from __future__ import annotations

import pytest

from jkcs_server.bench.cells import Cell, Pace, Task
from jkcs_server.bench.line import LoadFailed, Wire
from jkcs_server.bench.measure import Bench
from tests.unit.jkcs_server.bench.fake import FakeSubject, FakeTree, serve

PACE = Pace(0.01, 0.05)


@pytest.mark.asyncio
@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("abreast", [1, 8])
async def test_sessions_come_and_go(wire: Wire, abreast: int) -> None:
    """Each one is opened and ended, and none is left."""
    tree = FakeTree()
    async with serve(tree, wire) as address:
        bench = Bench(FakeSubject(tree, address, wire), "t")
        cell = Cell("connect", connections=abreast, task=Task.CONNECT)
        outcome = await bench.measure(cell, bench.subject.members(), PACE)
    assert not outcome.errors and tree.sessions == 0 and tree.opened >= abreast
    assert outcome.figures.ops_per_second and outcome.figures.p50_ms


@pytest.mark.asyncio
async def test_a_session_that_cannot_be_opened_or_ended_fails_the_cell() -> None:
    """Connections that are thrown away would be counted as sessions."""
    tree = FakeTree()
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        cell = Cell("connect", connections=2, task=Task.CONNECT)
        tree.keeps = True
        with pytest.raises(LoadFailed, match="unexpected answer to the goodbye"):
            await bench.measure(cell, bench.subject.members(), PACE)
        tree.refuses = True
        with pytest.raises(LoadFailed, match="nobody leads"):
            await bench.measure(cell, bench.subject.members(), PACE)
