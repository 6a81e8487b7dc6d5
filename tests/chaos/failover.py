"""How long nobody can write when the leader is lost: killed, paused, or cut off from the others.

Three servers with default settings. One writer for each server, connected to that server alone, tells when the
*cluster* takes writes again; one client that knows all servers, and is on the leader when the fault comes, tells when
a *user* writes again. The gap of a fault is the longest time without an acknowledged write around it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jkcs_client import Client, connect
from jkcs_client.lifecycle import State
from jkcs_client.protocol.errors import JkcsError, SessionExpired
from tests.chaos.background import Background
from tests.chaos.cluster import ChaosCluster

KINDS = ("kill", "pause", "partition")
GAP_AIMS = {"kill": 0.8, "pause": 1.5, "partition": 1.5}
"""Seconds: a longer gap is reported with all that is known of it."""
WRITE_INTERVAL = 0.003
"""Seconds between the answer to one write and the next; the gaps are known no better."""
CALM_SECONDS = 0.7
"""Before a fault every writer writes for so long without one."""
FAULT_SECONDS = 3.0
"""How long the leader is gone."""
WATCHED_SECONDS = 6.0
"""After the fault began: a longer gap than this is counted as this long."""
SETTLE_TIMEOUT = 30.0
TIMES_KEPT = 20_000
"""Acknowledgements that a writer remembers: enough for one fault, and for the calm around it."""


@dataclass(slots=True)
class Gaps:
    """What one kind of fault cost."""

    kind: str
    cluster: list[float] = field(default_factory=list)
    """Seconds without a write acknowledged to any of the writers of single servers."""
    user: list[float] = field(default_factory=list)
    """The same for the client that knew all servers and was on the leader."""
    notes: list[str] = field(default_factory=list)
    """What is known of gaps above the aim."""

    def as_document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "faults": len(self.cluster),
            "cluster": spread(self.cluster),
            "user": spread(self.user),
            "above_aim": self.notes,
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 90th percentile and worst, in seconds."""
    ordered = sorted(values)
    if not ordered:
        return {}
    at = min(len(ordered) - 1, round(0.9 * (len(ordered) - 1)))
    return {"median": statistics.median(ordered), "p90": ordered[at], "worst": ordered[-1]}


def longest_gap(times: Sequence[float], since: float, until: float) -> tuple[float, float]:
    """The longest time between two acknowledgements that ends after `since` and begins before `until`; where it began.

    `times` are sorted. A gap that had not ended at `until` counts up to there.
    """
    first = max(0, bisect_left(times, since) - 1)
    last = bisect_left(times, until)
    around = [*(times[first:last] or [since]), until]
    return max((after - before, before) for before, after in pairwise(around))


class Writer:
    """Sets one key again and again, and remembers when each write was acknowledged."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.times: deque[float] = deque(maxlen=TIMES_KEPT)
        self.states: deque[tuple[float, str]] = deque(maxlen=TIMES_KEPT)
        """When the client's state changed, and to what."""
        self.node = ""
        """The server it is connected to."""
        self._url = url
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def reconnect(self) -> None:
        """A new client, on a server chosen anew."""
        await self.stop()
        self.node = ""
        await self.start()

    async def _run(self) -> None:
        while True:
            try:
                async with connect(self._url) as client:
                    noting = asyncio.create_task(self._note(client))
                    try:
                        await self._write(client)
                    finally:
                        noting.cancel()
            except JkcsError:
                await asyncio.sleep(0.05)

    async def _note(self, client: Client) -> None:
        async for state in client.states():
            self.states.append((time.monotonic(), state.value))
            if state is State.CONNECTED:
                self.node = (await client.status(timeout=60))["node"]

    async def _write(self, client: Client) -> None:
        path = f"/failover-{self.name}"
        if await client.exists(path) is None:
            await client.create(path)
        while True:
            try:
                await client.set(path, b"x", timeout=60)
            except SessionExpired:
                return
            except JkcsError:
                await asyncio.sleep(WRITE_INTERVAL)
                continue
            self.times.append(time.monotonic())
            await asyncio.sleep(WRITE_INTERVAL)


class Failover:
    """One cluster, its writers, and faults one after another."""

    def __init__(self, directory: Path, background: Background, say: Callable[[str], None]) -> None:
        self.cluster = ChaosCluster(directory, 3, background)
        self._background = background
        self._say = say
        self._writers = [Writer(name, self.cluster.url_of(name)) for name in self.cluster.nodes]
        self._user = Writer("user", self.cluster.url)

    def run(self, faults: Iterable[tuple[str, int]]) -> list[Gaps]:
        """So many faults of each kind."""
        results = []
        with self.cluster:
            for writer in [*self._writers, self._user]:
                self._background.call(writer.start())
            try:
                for kind, count in faults:
                    gaps = Gaps(kind)
                    for number in range(count):
                        self._once(gaps, number)
                    results.append(gaps)
            finally:
                for writer in [*self._writers, self._user]:
                    self._background.call(writer.stop())
        return results

    def _once(self, gaps: Gaps, number: int) -> None:
        leader = self._settle()
        time.sleep(CALM_SECONDS)
        term = self.cluster.status(leader)["term"]
        began = time.monotonic()
        self._begin(gaps.kind, leader)
        elected = self._watch_election(leader, term)
        time.sleep(max(0.0, began + FAULT_SECONDS - time.monotonic()))
        self._end(gaps.kind, leader)
        time.sleep(max(0.0, began + WATCHED_SECONDS - time.monotonic()))
        until = time.monotonic()
        merged = sorted(at for writer in self._writers for at in list(writer.times))
        cluster, cluster_from = longest_gap(merged, began, until)
        user, user_from = longest_gap(list(self._user.times), began, until)
        gaps.cluster.append(cluster)
        gaps.user.append(user)
        line = (
            f"{gaps.kind} {number + 1}: {leader} lost; the cluster took no write for {cluster:.3f} s "
            f"(from {cluster_from - began:+.3f}), the client on it for {user:.3f} s (from {user_from - began:+.3f}); "
            f"new leader seen after {elected - began:.3f} s"
        )
        self._say(line)
        if max(cluster, user) > GAP_AIMS[gaps.kind]:
            moves = ", ".join(f"{what} {at - began:+.3f}" for at, what in list(self._user.states) if at >= began)
            gaps.notes.append(f"{line}; the client: {moves or 'noticed nothing'}")

    def _settle(self) -> str:
        """Wait until all is well and every writer writes, and have the user's client on the leader."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        while True:
            leader = self.cluster.wait_for_leader(SETTLE_TIMEOUT)
            now = time.monotonic()
            # A user's client connects anywhere; on the leader it is hit hardest.
            if self._user.node != leader:
                self._background.call(self._user.reconnect())
            time.sleep(0.3)
            writing = all(writer.times and writer.times[-1] > now for writer in [*self._writers, self._user])
            if writing and self._user.node == leader:
                return leader
            if now > deadline:
                raise AssertionError(f"no calm within {SETTLE_TIMEOUT:g} s: user on {self._user.node}, leader {leader}")

    def _begin(self, kind: str, leader: str) -> None:
        if kind == "kill":
            self.cluster.kill(leader)
        elif kind == "pause":
            self.cluster.pause(leader)
        else:
            assert kind == "partition", kind
            self.cluster.isolate([leader])

    def _end(self, kind: str, leader: str) -> None:
        if kind == "kill":
            self.cluster.restart(leader)
        elif kind == "pause":
            self.cluster.resume(leader)
        else:
            self.cluster.heal_links()

    def _watch_election(self, former: str, term: int) -> float:
        """When another node says that it leads; the end of the fault if none does."""
        deadline = time.monotonic() + FAULT_SECONDS
        while time.monotonic() < deadline:
            for name, status in self.cluster.heard().items():
                if name != former and status["role"] == "leader" and status["term"] > term:
                    return time.monotonic()
            time.sleep(0.01)
        return deadline


def measure_failover(faults: Sequence[tuple[str, int]], say: Callable[[str], None]) -> list[Gaps]:
    """Run the faults in a fresh cluster."""
    with tempfile.TemporaryDirectory(prefix="jkcs-failover-") as scratch, Background() as background:
        return Failover(Path(scratch), background, say).run(faults)


def report(results: Sequence[Gaps]) -> str:
    """The figures as a table for people."""
    lines = ["fault      count  who       median     p90   worst"]
    for gaps in results:
        for who, values in (("cluster", gaps.cluster), ("client", gaps.user)):
            if found := spread(values):
                lines.append(
                    f"{gaps.kind:<10} {len(values):>5}  {who:<8} "
                    f"{found['median']:>7.3f} {found['p90']:>7.3f} {found['worst']:>7.3f}"
                )
    lines += [note for gaps in results for note in gaps.notes]
    return "\n".join(lines)
