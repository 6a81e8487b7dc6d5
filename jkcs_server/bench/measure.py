"""One cell on one cluster: prepare the keys, load, look at the clocks, and prove that the work was done.

Every answer's code is checked. After a cell of writes the keys are asked how often they were written: a
load whose answers do not add up to what the keys say is an error, however fast it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from jkcs_server.bench.cells import Cell
from jkcs_server.bench.driver import Connection, Meter, close_all, drain_all, finish_all, open_all
from jkcs_server.bench.figures import Figures, Latencies
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.subject import Member, Subject
from jkcs_server.bench.usage import cpu_seconds
from jkcs_server.bench.work import Kind, Seen, Work

KEYS_IN_PLAY = 1000
"""Keys that the cells of sets and gets go over."""
FILL = "fill"
FILL_CONNECTIONS = 16
FILL_WINDOW = 64
SETUP_SECONDS = 120.0
"""For preparing, checking and cleaning up, each."""
FILL_SECONDS = 1800.0
RETRY_SECONDS = 0.01
"""Between two attempts to reach a server that is starting."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is measured."""

    warmup: float
    seconds: float


@dataclass(slots=True)
class Outcome:
    """One round of one cell."""

    figures: Figures = Figures()
    errors: Counter[str] = field(default_factory=Counter)
    """What went wrong, and how often. Anything here fails the cell."""


class Bench:
    """The keys of one cluster under load, and what is done with them. One event loop, one cell at a time."""

    def __init__(self, subject: Subject, token: str) -> None:
        """`token` makes the names of the keys this run's own."""
        self.subject = subject
        self._base = Work(Kind.CREATE, subject.folder, 0, stem=f"jkcs-bench-{token}-", limit=1)
        self._folders: dict[str, Work] = {}
        """Folders that exist and the work that made the keys in each."""
        self._rounds = 0

    # ---- cells ----

    async def load(self, cell: Cell, members: Sequence[Member], pace: Pace, *, at_leader: bool = False) -> Outcome:
        """One round of a cell. Raises LoadFailed when it cannot be carried through."""
        assert cell.kind is not None, cell
        leader = _leader(members)
        async with self._desk(leader) as desk:
            works = await self._works(desk, cell)
            before = await self._written(desk, works)
        targets = [leader] if at_leader or cell.at_leader else list(members)
        meter = Meter()
        connections = [
            Connection(targets[number % len(targets)].address, self.subject.line(), meter)
            for number in range(cell.connections)
        ]
        async with _opened(connections):
            outcome = await _measure(connections, works, cell.window, meter, members, pace)
            if not cell.kind.reads:
                async with self._desk(leader) as desk:
                    after = await self._written(desk, works)
                _compare(outcome, after - before, meter.answered - outcome.errors.total())
            if cell.kind is Kind.CREATE:
                made = [_undo(work, each.line.answered) for work, each in zip(works, connections, strict=True)]
                await _limited(connections, made, FILL_WINDOW)
                async with self._desk(leader) as desk:
                    await self._drop_folders(desk, [work.folder for work in works])
        return outcome

    async def fill(self, members: Sequence[Member], keys: int) -> None:
        """Create so many keys of 100 bytes. Raises LoadFailed."""
        async with self._desk(_leader(members)) as desk:
            folder = await self._folder(desk, FILL)
        share = -(-keys // FILL_CONNECTIONS)
        works = [Work(Kind.CREATE, folder, 100, first=at, limit=min(share, keys - at)) for at in range(0, keys, share)]
        places = [members[number % len(members)].address for number in range(len(works))]
        connections = [Connection(address, self.subject.line(), Meter()) for address in places]
        async with _opened(connections):
            await _limited(connections, works, FILL_WINDOW, FILL_SECONDS)

    async def reach(self, member: Member, keys: int, patience: float) -> None:
        """Wait until a server answers a read of the last filled key. Raises LoadFailed when it does not in time."""
        work = Work(Kind.GET, f"{self._name(self._base)}/{FILL}0", 100, first=keys - 1, limit=1)
        deadline = time.monotonic() + patience
        while True:
            connection = Connection(member.address, self.subject.line(), Meter())
            try:
                async with _opened([connection]):
                    await _limited([connection], [work], 1, max(0.1, deadline - time.monotonic()))
                return
            except LoadFailed:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def count_filled(self, members: Sequence[Member]) -> int:
        """How many keys `fill` has made, as the leader knows. Raises LoadFailed."""
        async with self._desk(_leader(members)) as desk:
            return (await _look(desk, Work(Kind.GET, self._name(self._base), 0, stem=FILL, limit=1))).children

    async def clean(self, members: Sequence[Member]) -> None:
        """Delete all keys that were made. Raises LoadFailed."""
        async with self._desk(_leader(members)) as desk:
            for made in self._folders.values():
                if made.limit:
                    await _limited([desk], [_undo(made, made.limit)], FILL_WINDOW)
            await self._drop_folders(desk, [*self._folders])

    # ---- keys ----

    @contextlib.asynccontextmanager
    async def _desk(self, leader: Member) -> AsyncIterator[Connection]:
        """A connection for what is not measured. Not kept over a measurement: idle, its session might expire."""
        desk = Connection(leader.address, self.subject.line(), Meter())
        async with _opened([desk]):
            yield desk

    def _name(self, folder: Work) -> str:
        return folder.path(0)

    async def _folder(self, desk: Connection, stem: str) -> str:
        """Make sure of a folder below this run's own, named `stem` and 0, and return its path."""
        base = self._name(self._base)
        if not self._folders:
            await _limited([desk], [self._base], 1)
            self._folders[base] = Work(Kind.CREATE, base, 0, limit=0)
        work = Work(Kind.CREATE, base, 0, stem=stem, limit=1)
        path = work.path(0)
        if path not in self._folders:
            await _limited([desk], [work], 1)
            self._folders[path] = Work(Kind.CREATE, path, 0, limit=0)
        return path

    async def _works(self, desk: Connection, cell: Cell) -> list[Work]:
        """What each connection of the cell is to do; the folders and keys it needs are made."""
        assert cell.kind is not None
        self._rounds += 1
        if cell.kind is Kind.CREATE:
            folders = [await self._folder(desk, f"made-{self._rounds}-{n}-") for n in range(cell.connections)]
            return [Work(Kind.CREATE, folder, cell.value_bytes) for folder in folders]
        folder = await self._folder(desk, f"values-{cell.value_bytes}-")
        if not self._folders[folder].limit:
            make = Work(Kind.CREATE, folder, cell.value_bytes, limit=KEYS_IN_PLAY)
            await _limited([desk], [make], FILL_WINDOW)
            self._folders[folder] = make
        return [
            Work(
                cell.kind, folder, cell.value_bytes, first=number * KEYS_IN_PLAY // cell.connections, cycle=KEYS_IN_PLAY
            )
            for number in range(cell.connections)
        ]

    async def _written(self, desk: Connection, works: Sequence[Work]) -> int:
        """How many writes the keys of these works have seen, by their own account."""
        kind, folder = works[0].kind, works[0].folder
        if kind is Kind.SET:
            look = Work(Kind.GET, folder, works[0].value_bytes, cycle=KEYS_IN_PLAY, limit=KEYS_IN_PLAY)
            return (await _look(desk, look)).versions
        if kind is Kind.CREATE:
            children = 0
            for work in works:
                parent, _, name = work.folder.rpartition("/")
                children += (await _look(desk, Work(Kind.GET, parent, 0, stem=name[:-1], limit=1))).children
            return children
        return 0

    async def _drop_folders(self, desk: Connection, folders: Sequence[str]) -> None:
        for folder in sorted(folders, reverse=True):  # what is below goes first
            parent, _, name = folder.rpartition("/")
            await _limited([desk], [Work(Kind.DELETE, parent, 0, stem=name[:-1], limit=1)], 1)
            del self._folders[folder]


@contextlib.asynccontextmanager
async def _opened(connections: Sequence[Connection]) -> AsyncIterator[None]:
    """Open them for a while. Raises LoadFailed; none is left open however it ends."""
    try:
        await open_all(connections)
        yield
        await close_all(connections)
    finally:
        for connection in connections:
            connection.abort()


async def _measure(
    connections: Sequence[Connection],
    works: Sequence[Work],
    window: int,
    meter: Meter,
    members: Sequence[Member],
    pace: Pace,
) -> Outcome:
    """Load for a while, and measure while it is in full swing."""
    pids = [member.pid for member in members if member.pid is not None]
    known = len(pids) == len(members)
    gc.collect()
    gc.disable()  # the generator makes no cycles worth a pause in the middle of a measurement
    try:
        for connection, work in zip(connections, works, strict=True):
            connection.run(work, window)
        await _unless_lost(connections, pace.warmup)
        latencies = meter.latencies = Latencies()
        began, own, servers, answered = time.perf_counter(), time.process_time(), cpu_seconds(pids), meter.answered
        await _unless_lost(connections, pace.seconds)
        seconds = time.perf_counter() - began
        own, servers, answered = time.process_time() - own, cpu_seconds(pids) - servers, meter.answered - answered
        meter.latencies = None
        await drain_all(connections)
    finally:
        gc.enable()
    if not answered:
        raise LoadFailed("no request was answered while it was measured")
    p50, p95, p99 = (1000 * each for each in latencies.percentiles((0.5, 0.95, 0.99)))
    per_op = 1e6 * servers / answered if known else None
    errors = sum((connection.line.errors for connection in connections), Counter[str]())
    return Outcome(Figures(answered / seconds, p50, p95, p99, per_op, 100 * own / seconds), errors)


async def _unless_lost(connections: Sequence[Connection], seconds: float) -> None:
    """Let the load run; when a connection fails meanwhile, say so at once. Raises LoadFailed."""
    waiting = [asyncio.ensure_future(connection.drained()) for connection in connections]
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for each in done:
            each.result()
    finally:
        for each in waiting:
            each.cancel()


async def _limited(
    connections: Sequence[Connection], works: Sequence[Work], window: int, seconds: float = SETUP_SECONDS
) -> None:
    """Do works that have a limit, one on each connection, to their end. Raises LoadFailed also for any error."""
    for connection, work in zip(connections, works, strict=True):
        connection.line.errors.clear()
        connection.run(work, window)
    await finish_all(connections, seconds)
    for connection, work in zip(connections, works, strict=True):
        if connection.line.errors:
            reason, count = connection.line.errors.most_common(1)[0]
            raise LoadFailed(f"{work.kind.value} in {work.folder or '/'}: {reason} ({count} times)")


async def _look(desk: Connection, work: Work) -> Seen:
    """Read, and return what was seen."""
    desk.line.seen.versions = desk.line.seen.children = 0
    await _limited([desk], [work], FILL_WINDOW)
    return Seen(desk.line.seen.versions, desk.line.seen.children)


def _undo(work: Work, count: int) -> Work:
    return Work(Kind.DELETE, work.folder, 0, first=work.first, limit=count, stem=work.stem)


def _leader(members: Sequence[Member]) -> Member:
    return next(member for member in members if member.leads)


def _compare(outcome: Outcome, found: int, acknowledged: int) -> None:
    if found != acknowledged:
        outcome.errors[f"{acknowledged} writes were acknowledged, the keys have seen {found}"] += 1
