"""The benchmark's cells against a real server: what the load asks is what the server understands."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from jkcs_client.address import Address
from jkcs_server import Node
from jkcs_server.bench import measure
from jkcs_server.bench.cells import CELLS, Cell, Pace, Task
from jkcs_server.bench.clusters import RunningJkcs
from jkcs_server.bench.line import Wire
from jkcs_server.bench.measure import Bench
from jkcs_server.bench.subject import Member
from jkcs_server.bench.work import Kind

PACE = Pace(0.02, 0.1)
KEYS = 100
SESSIONS_MAX = 40
NEW = (Kind.CREATE_SEQUENTIAL, Kind.CREATE_EPHEMERAL, Kind.MIXED, Kind.GET)
MEASURED = [cell for cell in CELLS if cell.kind in NEW or cell.task in (Task.FAN_OUT, Task.CONNECT)]


async def leads(node: Node) -> None:
    """Wait until it does: a session that is asked for earlier may be opened twice."""
    async with asyncio.timeout(20):
        while (status := node.status())["role"] != "leader" or not status["applied_index"] == status["last_index"] > 0:
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
@pytest.mark.parametrize("wire", Wire, ids=lambda wire: wire.value)
@pytest.mark.parametrize("cell", MEASURED, ids=lambda cell: cell.name)
async def test_a_cell_is_measured_without_an_error(
    cell: Cell, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is checked on the way, and every write is looked for afterwards; nothing is left behind."""
    monkeypatch.setattr(measure, "KEYS_IN_PLAY", KEYS)
    async with Node.single(tmp_path) as node:
        await leads(node)
        assert node.client_address is not None
        address: Address = node.client_address
        bench = Bench(RunningJkcs([address], wire=wire), "t")
        members = [Member(address, True, os.getpid())]
        small = replace(cell, connections=min(cell.connections, SESSIONS_MAX))
        outcome = await bench.measure(small, members, PACE)
        assert not outcome.errors
        figures = outcome.figures
        assert figures.ops_per_second and figures.worst_ms and figures.server_us_per_op is not None
        await bench.clean(members)
        status = node.status()
    assert status["sessions"] == 0
