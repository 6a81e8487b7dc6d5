"""One change, many who are told of it: each of them, once, and counted."""

from __future__ import annotations

import pytest

from jkcs_server.bench import fanout
from jkcs_server.bench.cells import Cell, Pace, Task
from jkcs_server.bench.line import LoadFailed, Wire
from jkcs_server.bench.measure import Bench
from tests.unit.jkcs_server.bench.fake import FakeSubject, FakeTree, serve

PACE = Pace(0.01, 0.05)


@pytest.mark.asyncio
@pytest.mark.parametrize("wire", Wire)
async def test_all_who_watch_are_told_of_every_change(wire: Wire) -> None:
    """An operation is one session told; the key proves how many changes there were."""
    tree = FakeTree()
    async with serve(tree, wire) as address:
        bench = Bench(FakeSubject(tree, address, wire), "t")
        cell = Cell("fan-out", connections=20, task=Task.FAN_OUT)
        outcome = await bench.measure(cell, bench.subject.members(), PACE)
        assert not outcome.errors
        assert tree.opened >= 21 and tree.sessions == 0
        version = tree.keys["/jkcs-bench-t-0/values-100-0/k0"][1]
        assert version >= 1 and all(not waiting for waiting in tree.watchers.values())
        figures = outcome.figures
        assert figures.ops_per_second and 0 < figures.p50_ms <= figures.worst_ms
        await bench.clean(bench.subject.members())
    assert list(tree.keys) == ["/"]


@pytest.mark.asyncio
async def test_a_change_that_nobody_is_told_of_fails_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not wait for ever either."""
    monkeypatch.setattr(fanout, "ROUND_SECONDS", 0.2)
    tree = FakeTree()
    tree.forgetful = True
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        with pytest.raises(LoadFailed, match="events are still missing"):
            await bench.measure(Cell("fan-out", connections=2, task=Task.FAN_OUT), bench.subject.members(), PACE)
