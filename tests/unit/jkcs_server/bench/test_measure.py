"""A cell from its first key to its last: the load does what it claims, and a lying server is found out."""

from __future__ import annotations

import os
import re

import pytest

from jkcs_server.bench import measure
from jkcs_server.bench.cells import CELLS, Cell, Pace, Task
from jkcs_server.bench.line import LoadFailed, Wire
from jkcs_server.bench.measure import Bench
from jkcs_server.bench.subject import Member
from tests.unit.jkcs_server.bench.fake import FakeSubject, FakeTree, serve

PACE = Pace(0.01, 0.05)
BY_NAME = {cell.name: cell for cell in CELLS}
KEYS = 64


@pytest.fixture(autouse=True)
def few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested does not depend on how many there are."""
    monkeypatch.setattr(measure, "KEYS_IN_PLAY", KEYS)


@pytest.mark.asyncio
@pytest.mark.parametrize("wire", Wire)
@pytest.mark.parametrize("name", [cell.name for cell in CELLS if cell.kind is not None and cell.value_bytes < 10_000])
async def test_a_cell_yields_figures_and_no_errors(name: str, wire: Wire) -> None:
    """Every kind of load, in both protocols, against a server that does as it is told."""
    tree = FakeTree()
    async with serve(tree, wire) as address:
        bench = Bench(FakeSubject(tree, address, wire), "t")
        outcome = await bench.measure(BY_NAME[name], bench.subject.members(), PACE)
    assert not outcome.errors
    figures = outcome.figures
    assert figures.ops_per_second and figures.server_us_per_op is not None and figures.load_percent
    assert 0 < figures.p50_ms <= figures.p95_ms <= figures.p99_ms <= figures.worst_ms
    assert tree.sessions == 0
    assert bool(tree.ephemerals) == ("ephemeral" in name)


@pytest.mark.asyncio
async def test_keys_are_made_once_and_cleaned_up_at_the_end() -> None:
    """Another's cluster is left as it was."""
    tree = FakeTree()
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        members = bench.subject.members()
        for name in ("set-1x1", "get-1x1", "create-16x64", "create-sequential-16x64", "mixed-64x4", "set-1k-16x16"):
            assert not (await bench.measure(BY_NAME[name], members, PACE)).errors
        made = [path for path in tree.keys if re.search(r"/k\d+$", path)]
        assert len(made) == 2 * KEYS  # for each size; what `create` made is gone already
        await bench.clean(members)
    assert list(tree.keys) == ["/"]


@pytest.mark.asyncio
async def test_writes_that_are_acknowledged_but_not_done_fail_the_cell() -> None:
    """Speed without work is the classic mistake of benchmarks."""
    tree = FakeTree()
    tree.forgetful = True
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        outcome = await bench.measure(BY_NAME["set-64x1"], bench.subject.members(), PACE)
    [reason] = outcome.errors
    assert re.fullmatch(r"\d+ writes were acknowledged, the keys have seen 0", reason)


@pytest.mark.asyncio
async def test_a_server_slower_than_the_pace_is_measured_all_the_same() -> None:
    """What is measured ends with the first answer at the earliest: a sync on a busy disk may outlast the pace."""
    tree = FakeTree()
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        for cell in (BY_NAME["set-1x1"], Cell("connect", task=Task.CONNECT)):
            outcome = await bench.measure(cell, bench.subject.members(), Pace(0.0, 0.0))
            assert outcome.figures.ops_per_second and outcome.figures.p50_ms


@pytest.mark.asyncio
async def test_names_that_are_not_what_was_asked_for_fail_the_cell() -> None:
    """Here they cannot even be deleted."""
    tree = FakeTree()
    tree.misnames = True
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        with pytest.raises(LoadFailed, match=r"delete in .*NoNode"):
            await bench.measure(BY_NAME["create-sequential-16x64"], bench.subject.members(), PACE)


@pytest.mark.asyncio
async def test_errors_in_answers_fail_the_cell() -> None:
    """They are counted by what they say."""
    tree = FakeTree()
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        members = bench.subject.members()
        await bench.measure(BY_NAME["get-1x1"], members, PACE)
        tree.fails_with = -301
        outcome = await bench.measure(BY_NAME["set-1x1"], members, PACE)
        assert list(outcome.errors) == ["Busy: ['no']"]
        with pytest.raises(LoadFailed, match="create in /jkcs-bench-t-0: Busy"):
            await bench.measure(BY_NAME["set-1k-16x16"], members, PACE)


@pytest.mark.asyncio
async def test_many_keys_are_filled_found_and_counted() -> None:
    """The cells of restart and memory stand on these."""
    tree = FakeTree()
    async with serve(tree) as address:
        bench = Bench(FakeSubject(tree, address), "t")
        members = bench.subject.members()
        await bench.fill(members, 1003)
        await bench.reach(members[0], 1003, patience=20.0)
        assert await bench.count_filled(members) == 1003
        with pytest.raises(LoadFailed, match="NoNode"):
            await bench.reach(members[0], 1004, patience=0.0)


@pytest.mark.asyncio
async def test_connections_are_spread_or_sent_to_the_leader() -> None:
    """And without the processes' ids their cost is unknown, not zero."""
    first, second = FakeTree(), FakeTree()
    second.keys = first.keys  # one tree behind two servers
    async with serve(first) as one, serve(second) as two:
        bench = Bench(FakeSubject(first, one), "t")
        members = [Member(one, True, os.getpid()), Member(two, False, None)]
        cell = Cell("get", BY_NAME["get-64x1"].kind, connections=4)
        outcome = await bench.measure(cell, members, PACE)
        assert first.largest_batch and second.largest_batch
        assert outcome.figures.server_us_per_op is None and outcome.figures.ops_per_second
        second.largest_batch = 0
        await bench.measure(cell, members, PACE, at_leader=True)
        assert second.largest_batch == 0
