"""Full load and nothing else: a cluster that elects nobody new for as long as its leader is well.

One process writes as fast as it can over one connection to each server, default settings. Counted are the terms: each
election, and each attempt at one, raises the term. Called by `__main__.py`.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jkcs_client import connect
from jkcs_client.protocol.errors import JkcsError
from jkcs_server.cli.processes import LocalCluster
from tests.chaos.background import Background

WRITERS_PER_SERVER = 64
SAY_INTERVAL = 30.0


@dataclass(slots=True)
class Calm:
    """What came of it."""

    seconds: float = 0.0
    elections: int = 0
    writes: int = 0
    failed: int = 0
    longest_gap: float = 0.0
    """Seconds without any acknowledgement, at most."""

    def as_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seconds": round(self.seconds, 1),
            "elections": self.elections,
            "writes": self.writes,
            "failed": self.failed,
            "longest_gap": round(self.longest_gap, 3),
        }

    def report(self) -> str:
        """For people."""
        return (
            f"{self.elections} elections in {self.seconds:.0f} s; {self.writes} writes "
            f"({self.writes / max(self.seconds, 0.001):.0f} a second), {self.failed} failed, "
            f"longest gap {self.longest_gap:.3f} s"
        )


def run_calm(seconds: float, say: Callable[[str], None]) -> Calm:
    """Load a cluster of three for so long."""
    calm = Calm()
    with (
        tempfile.TemporaryDirectory(prefix="jkcs-calm-") as scratch,
        Background() as background,
        LocalCluster(Path(scratch), 3) as cluster,
    ):
        leader = cluster.wait_for_leader()
        term = cluster.status(leader)["term"]
        writing = [
            asyncio.run_coroutine_threadsafe(_load(cluster, name, calm), background.loop) for name in cluster.nodes
        ]
        began = time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            time.sleep(min(left, SAY_INTERVAL))
            for task in writing:
                if task.done():
                    task.result()
            say(f"{time.monotonic() - began:.0f} s: {calm.writes} writes")
        calm.seconds = time.monotonic() - began
        background.call(_nothing())
        calm.elections = cluster.status(cluster.wait_for_leader())["term"] - term
        for task in writing:
            task.cancel()
    return calm


async def _nothing() -> None:
    """Reaching this proves that the loop of the writers is not stuck."""


async def _load(cluster: LocalCluster, name: str, calm: Calm) -> None:
    """Write through one server, until cancelled."""
    host, port = cluster.nodes[name].client_address
    last = time.monotonic()

    async def write(number: int) -> None:
        nonlocal last
        path = f"/calm-{name}-{number}"
        await client.create(path)
        while True:
            try:
                await client.set(path, b"x" * 100)
            except JkcsError:
                calm.failed += 1
                await asyncio.sleep(0.05)
                continue
            now = time.monotonic()
            calm.writes += 1
            calm.longest_gap = max(calm.longest_gap, now - last)
            last = now

    async with connect(f"jkcs://{host}:{port}") as client, asyncio.TaskGroup() as group:
        for number in range(WRITERS_PER_SERVER):
            group.create_task(write(number))
