"""One run: rounds of clients at work and servers in trouble, each judged before the next begins.

A round has keys of its own and new client processes, so that the histories of an hour stay small. After its last
nemesis everything is healed, the clients come to their end, every server must reach the same index, and the judge
compares what the clients saw with what each server holds. Called by `__main__.py`; decides nothing itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from jkcs_client import Client, connect
from jkcs_client.protocol.errors import JkcsError, NoNode
from jkcs_server.cli.processes import ProcessFailed
from tests.chaos.background import Background
from tests.chaos.checks import Key, check_round
from tests.chaos.cluster import POLL_INTERVAL, SMALL_LIMITS, ChaosCluster
from tests.chaos.history import Event, Gap, History, LockHeld, Outcome, Owned, Tally, read_history
from tests.chaos.nemeses import BY_NAME, Nemesis, Stage, sequence
from tests.chaos.worker import Worker
from tests.chaos.workloads import SESSION_TIMEOUT, SHORT_SESSION_TIMEOUT
from tests.simulation.trace import Violation

CONVERGE_TIMEOUT = 30.0
EXPIRY_BOUND = 5.0
"""Seconds after which, beyond its timeout, a session of a vanished client must be gone from a healed cluster."""
READS_AT_ONCE = 64
DELETES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to do."""

    directory: Path
    seed: int = 1
    servers: int = 3
    seconds: float = 60.0
    round_seconds: float = 20.0
    workers: int = 2
    nemeses: tuple[str, ...] = tuple(BY_NAME)
    small_disks: bool = False
    """Whether memory file systems of a fixed size can be mounted."""


@dataclass(slots=True)
class Summary:
    """What came of a run."""

    seed: int
    servers: int
    rounds: int = 0
    seconds: float = 0.0
    nemeses: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    """Nemeses that are impossible here, and why."""
    kills: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    grants: int = 0
    ephemerals: int = 0
    events: int = 0
    gaps: int = 0
    refusals: list[str] = field(default_factory=list)
    failure: str = ""
    """The promise that was broken, and how; "" for none."""

    def add(self, history: History) -> None:
        """Count what one round did."""
        for tally in history.of(Tally):
            self.outcomes[tally.outcome] += tally.count
        self.grants += len(history.of(LockHeld))
        self.ephemerals += len(history.of(Owned))
        self.events += len(history.of(Event))
        self.gaps += len(history.of(Gap))

    def as_document(self) -> dict[str, Any]:
        """For JSON."""
        answered = self.outcomes[Outcome.ACKNOWLEDGED] + self.outcomes[Outcome.REFUSED]
        return {
            "seed": self.seed,
            "servers": self.servers,
            "rounds": self.rounds,
            "seconds": round(self.seconds, 1),
            "nemeses": dict(sorted(self.nemeses.items())),
            "skipped": self.skipped,
            "kills_survived": self.kills,
            "operations": {
                "answered": answered,
                "ambiguous": self.outcomes[Outcome.UNKNOWN],
                "failed": self.outcomes[Outcome.FAILED],
            },
            "lock_grants": self.grants,
            "ephemerals": self.ephemerals,
            "watch_events": self.events,
            "watch_gaps": self.gaps,
            "refused_starts": self.refusals,
            "failure": self.failure,
        }


def run(options: Options, say: Callable[[str], None]) -> Summary:
    """A whole run. A broken promise ends it, and is in the summary; what lies in the directory then stays there."""
    summary = Summary(options.seed, options.servers)
    began = time.monotonic()
    small = [f"n{number}" for number in range(1, (options.servers - 1) // 2 + 1)] if options.small_disks else []
    with Background() as background:
        cluster = ChaosCluster(
            options.directory, options.servers, background, small_disks=small, environment=SMALL_LIMITS
        )
        good = False
        try:
            with cluster:
                _Run(options, cluster, summary, say).rounds()
            good = True
        except (Violation, ProcessFailed) as error:
            summary.failure = str(error)
        except JkcsError as error:
            # The judge is a client like any other, in a cluster that has been healed.
            summary.failure = f"LIVENESS: the judge could not do its work: {error}"
        finally:
            cluster.unmount(keep=not good)
    summary.seconds = time.monotonic() - began
    return summary


class _Run:
    """The rounds of one run."""

    def __init__(self, options: Options, cluster: ChaosCluster, summary: Summary, say: Callable[[str], None]) -> None:
        self._options = options
        self._cluster = cluster
        self._summary = summary
        self._say = say
        self._stage = Stage(cluster, Random(f"{options.seed}/stage"))
        possible: list[Nemesis] = []
        for name in options.nemeses:
            why_not = BY_NAME[name].why_not(cluster)
            if why_not:
                summary.skipped[name] = why_not
                say(f"{name} is skipped: {why_not}")
            else:
                possible.append(BY_NAME[name])
        if not possible:
            raise ProcessFailed("none of the nemeses asked for is possible here")
        self._due = {nemesis.name for nemesis in possible}
        """Those that have not been yet."""
        self._nemeses = sequence(Random(f"{options.seed}/nemeses"), possible)
        self._deadline = time.monotonic() + options.seconds

    def rounds(self) -> None:
        """Until the time is over and every nemesis has been once."""
        while self._due or time.monotonic() < self._deadline:
            self._round(f"/chaos-{self._summary.rounds + 1:05d}")
            self._summary.rounds += 1

    def _round(self, top: str) -> None:
        options, cluster = self._options, self._cluster
        asyncio.run(_prepare(cluster.url, top, options.workers))
        names = [f"w{number}" for number in range(options.workers)]
        workers = [Worker(cluster.client_url, top, name, options.seed, options.directory) for name in names]
        self._stage.workers = workers
        try:
            for worker in workers:
                if not worker.wait_ready():
                    raise Violation("WORKLOAD", worker.wait())
            self._trouble(time.monotonic() + options.round_seconds)
            for worker in workers:
                worker.stop()
            for worker in workers:
                if words := worker.wait():
                    raise Violation("WORKLOAD", words)
        finally:
            self._stage.workers = ()
            for worker in workers:
                worker.kill()
        self._judge(top, workers)

    def _trouble(self, until: float) -> None:
        until = min(until, max(self._deadline, time.monotonic() + 1.0)) if not self._due else until
        while time.monotonic() < until:
            nemesis = next(self._nemeses)
            self._stage.hold(0.2, 1.0)
            began = time.monotonic()
            what = nemesis.strike(self._stage)
            self._stage.settle()
            self._say(f"{nemesis.name}: {what} ({time.monotonic() - began:.1f} s)")
            self._due.discard(nemesis.name)
            self._summary.nemeses[nemesis.name] += 1
            self._summary.kills = self._stage.kills
            self._summary.refusals = self._stage.refusals

    def _judge(self, top: str, workers: Sequence[Worker]) -> None:
        began = time.monotonic()
        _wait_until_alike(self._cluster)
        asyncio.run(_wait_for_expiry(self._cluster.url, (f"{top}/ephemeral", f"{top}/lock")))
        _wait_until_alike(self._cluster)
        called = time.monotonic()
        trees = {name: asyncio.run(_read_tree(self._cluster.url_of(name), top)) for name in self._cluster.nodes}
        read_at = (called, time.monotonic())
        history = read_history([worker.history for worker in workers])
        check_round(history, trees, read_at)
        self._summary.add(history)
        asyncio.run(_delete_tree(self._cluster.url, top, next(iter(trees.values()))))
        for worker in workers:
            worker.history.unlink()
            worker.log.unlink()
        calls = sum(tally.count for tally in history.of(Tally))
        self._say(f"round {self._summary.rounds + 1} holds: {calls} calls, judged in {time.monotonic() - began:.1f} s")


def _wait_until_alike(cluster: ChaosCluster) -> None:
    """Every server has applied all that the leader has committed, at one moment."""
    deadline = time.monotonic() + CONVERGE_TIMEOUT
    while True:
        statuses = cluster.heard()
        indices = {status["applied_index"] for status in statuses.values()}
        indices |= {status["commit_index"] for status in statuses.values()}
        if len(statuses) == len(cluster.nodes) and len(indices) == 1:
            return
        if time.monotonic() > deadline:
            told = {name: (status["applied_index"], status["commit_index"]) for name, status in statuses.items()}
            raise Violation("CONVERGENCE", f"after {CONVERGE_TIMEOUT:g} s in peace (applied, committed) are {told}")
        time.sleep(POLL_INTERVAL)


async def _prepare(url: str, top: str, workers: int) -> None:
    async with connect(url, request_timeout=CONVERGE_TIMEOUT) as client:
        await client.create(top)
        for name in ("register", "set", "lock", "ephemeral", "watch", "resource"):
            await client.create(f"{top}/{name}")
        await client.create(f"{top}/counter", b"0")
        await client.create(f"{top}/counter/by")
        for number in range(workers):
            await client.create(f"{top}/watch/w{number}")


async def _wait_for_expiry(url: str, paths: Sequence[str]) -> None:
    """The ephemeral keys of clients that have gone, well or badly, go when nothing is in the way any more."""
    deadline = time.monotonic() + max(SESSION_TIMEOUT, SHORT_SESSION_TIMEOUT) + EXPIRY_BOUND
    async with connect(url, session_timeout=0) as client:
        for path in paths:
            while left := await client.children(path):
                if time.monotonic() > deadline:
                    raise Violation("S3", f"sessions outlive their timeout by {EXPIRY_BOUND:g} s: {path} has {left}")
                await asyncio.sleep(POLL_INTERVAL)


async def _read_tree(url: str, top: str) -> dict[str, Key]:
    """Every key below `top`, as one server has it."""
    found: dict[str, Key] = {}
    async with connect(url, session_timeout=0) as client:
        await client.sync()
        level = [top]
        while level:
            below: list[str] = []
            for at in range(0, len(level), READS_AT_ONCE):
                for keys in await asyncio.gather(*(_read_key(client, path) for path in level[at : at + READS_AT_ONCE])):
                    path, key, children = keys
                    if key is not None:
                        found[path.removeprefix(top)] = key
                        below += [f"{path}/{child}" for child in children]
            level = below
    return found


async def _read_key(client: Client, path: str) -> tuple[str, Key | None, list[str]]:
    try:
        value, stat = await client.get(path, read="local")
        children = await client.children(path, read="local") if stat.num_children else []
    except NoNode:
        return path, None, []
    return path, Key(value, stat.version, stat.czxid, stat.mzxid), children


async def _delete_tree(url: str, top: str, tree: dict[str, Key]) -> None:
    """Children before parents: their paths are longer."""
    paths = sorted((top + path for path in tree), key=len, reverse=True)
    async with connect(url, request_timeout=CONVERGE_TIMEOUT) as client:
        for at in range(0, len(paths), DELETES_AT_ONCE):
            async with client.transaction() as transaction:
                for path in paths[at : at + DELETES_AT_ONCE]:
                    transaction.delete(path)
