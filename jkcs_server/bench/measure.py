"""One cell on one cluster: prepare the keys, load, look at the clocks, and prove that the work was done.

Every answer's code is checked. After a cell of writes the keys are asked how often they were written: a
load whose answers do not add up to what the keys say is an error, however fast it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Sequence

from jkcs_server.bench.cells import Cell, Pace, Task
from jkcs_server.bench.driver import Connection, Meter, drain_all, errors_of, limited, opened, unless_lost
from jkcs_server.bench.fanout import FanOut
from jkcs_server.bench.figures import Latencies, Outcome, with_latencies
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.subject import Member, Subject
from jkcs_server.bench.turnstile import Turnstile
from jkcs_server.bench.usage import Stretch
from jkcs_server.bench.work import SEQUENCE_DIGITS, Kind, Seen, Work

KEYS_IN_PLAY = 1000
"""Keys that the cells of sets and gets go over."""
FILL = "fill"
FILL_CONNECTIONS = 16
FILL_WINDOW = 64
FILL_SECONDS = 1800.0
RETRY_SECONDS = 0.01
"""Between two attempts to reach a server that is starting, or two looks whether a slow one has answered."""
PATIENCE_SECONDS = 10.0
"""For the first answer, when none came within the time to be measured: a sync may take longer than that."""


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

    async def measure(self, cell: Cell, members: Sequence[Member], pace: Pace, *, at_leader: bool = False) -> Outcome:
        """One round of a cell that is measured for a time. Raises LoadFailed when it cannot be carried through."""
        targets = [_leader(members)] if at_leader or cell.at_leader else list(members)
        match cell.task:
            case Task.LOAD:
                return await self._load(cell, members, targets, pace)
            case Task.FAN_OUT:
                return await self._fan_out(cell, members, targets, pace)
            case _:
                assert cell.task is Task.CONNECT, cell
                turnstile = Turnstile(self.subject.line, [member.address for member in targets])
                return await turnstile.measure(cell.connections, _pids(members), pace)

    async def _load(self, cell: Cell, members: Sequence[Member], targets: Sequence[Member], pace: Pace) -> Outcome:
        assert cell.kind is not None, cell
        leader, meter = _leader(members), Meter()
        async with self._desk(leader) as desk:
            works = await self._works(desk, cell)
            before = await self._written(desk, works)
        connections = self._connections(targets, cell.connections, meter)
        async with opened(connections):
            outcome = await _measure(connections, works, cell.window, meter, _pids(members), pace)
            if not cell.kind.reads:
                async with self._desk(leader) as desk:
                    after = await self._written(desk, works)
                _compare(outcome, after - before, sum(each.line.written for each in connections))
            if cell.kind.creates:
                made = [_undo(work, each.line.answered) for work, each in zip(works, connections, strict=True)]
                await limited(connections, made, FILL_WINDOW)
                async with self._desk(leader) as desk:
                    await self._drop_folders(desk, [work.folder for work in works])
        return outcome

    async def _fan_out(self, cell: Cell, members: Sequence[Member], targets: Sequence[Member], pace: Pace) -> Outcome:
        leader, meter = _leader(members), Meter()
        async with self._desk(leader) as desk:
            folder = await self._values(desk, cell.value_bytes)
            change = Work(Kind.SET, folder, cell.value_bytes, cycle=1, limit=1)
            before = await self._written(desk, [change])
        watchers, [writer] = self._connections(targets, cell.connections, meter), self._connections([leader], 1, meter)
        async with opened([*watchers, writer]):
            fan_out = FanOut(writer, watchers, meter, change)
            outcome = await fan_out.measure(_pids(members), pace)
        async with self._desk(leader) as desk:
            _compare(outcome, await self._written(desk, [change]) - before, fan_out.rounds)
        return outcome

    async def fill(self, members: Sequence[Member], keys: int) -> None:
        """Create so many keys of 100 bytes. Raises LoadFailed."""
        async with self._desk(_leader(members)) as desk:
            folder = await self._folder(desk, FILL)
        share = -(-keys // FILL_CONNECTIONS)
        works = [Work(Kind.CREATE, folder, 100, first=at, limit=min(share, keys - at)) for at in range(0, keys, share)]
        connections = self._connections(members, len(works), Meter())
        async with opened(connections):
            await limited(connections, works, FILL_WINDOW, FILL_SECONDS)

    async def reach(self, member: Member, keys: int, patience: float) -> None:
        """Wait until a server answers a read of the last filled key. Raises LoadFailed when it does not in time."""
        work = Work(Kind.GET, f"{self._name(self._base)}/{FILL}0", 100, first=keys - 1, limit=1)
        deadline = time.monotonic() + patience
        while True:
            connection = Connection(member.address, self.subject.line(), Meter())
            try:
                async with opened([connection]):
                    await limited([connection], [work], 1, max(0.1, deadline - time.monotonic()))
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
                    await limited([desk], [_undo(made, made.limit)], FILL_WINDOW)
            await self._drop_folders(desk, [*self._folders])

    # ---- keys ----

    @contextlib.asynccontextmanager
    async def _desk(self, leader: Member) -> AsyncIterator[Connection]:
        """A connection for what is not measured. Not kept over a measurement: idle, its session might expire."""
        desk = Connection(leader.address, self.subject.line(), Meter())
        async with opened([desk]):
            yield desk

    def _connections(self, targets: Sequence[Member], count: int, meter: Meter) -> list[Connection]:
        """To the servers in turn, not opened yet."""
        places = [targets[number % len(targets)].address for number in range(count)]
        return [Connection(address, self.subject.line(), meter) for address in places]

    def _name(self, folder: Work) -> str:
        return folder.path(0)

    async def _folder(self, desk: Connection, stem: str) -> str:
        """Make sure of a folder below this run's own, named `stem` and 0, and return its path."""
        base = self._name(self._base)
        if not self._folders:
            await limited([desk], [self._base], 1)
            self._folders[base] = Work(Kind.CREATE, base, 0, limit=0)
        work = Work(Kind.CREATE, base, 0, stem=stem, limit=1)
        path = work.path(0)
        if path not in self._folders:
            await limited([desk], [work], 1)
            self._folders[path] = Work(Kind.CREATE, path, 0, limit=0)
        return path

    async def _works(self, desk: Connection, cell: Cell) -> list[Work]:
        """What each connection of the cell is to do; the folders and keys it needs are made."""
        assert cell.kind is not None
        self._rounds += 1
        if cell.kind.creates:
            folders = [await self._folder(desk, f"made-{self._rounds}-{n}-") for n in range(cell.connections)]
            digits = SEQUENCE_DIGITS if cell.kind is Kind.CREATE_SEQUENTIAL else 0
            return [Work(cell.kind, folder, cell.value_bytes, digits=digits) for folder in folders]
        folder = await self._values(desk, cell.value_bytes)
        return [
            Work(
                cell.kind, folder, cell.value_bytes, first=number * KEYS_IN_PLAY // cell.connections, cycle=KEYS_IN_PLAY
            )
            for number in range(cell.connections)
        ]

    async def _values(self, desk: Connection, value_bytes: int) -> str:
        """Make sure of the keys in play with values of this size, and return their folder."""
        folder = await self._folder(desk, f"values-{value_bytes}-")
        if not self._folders[folder].limit:
            make = Work(Kind.CREATE, folder, value_bytes, limit=KEYS_IN_PLAY)
            await limited([desk], [make], FILL_WINDOW)
            self._folders[folder] = make
        return folder

    async def _written(self, desk: Connection, works: Sequence[Work]) -> int:
        """How many writes the keys of these works have seen, by their own account."""
        kind, folder = works[0].kind, works[0].folder
        if kind in (Kind.SET, Kind.MIXED):
            look = Work(Kind.GET, folder, works[0].value_bytes, cycle=KEYS_IN_PLAY, limit=KEYS_IN_PLAY)
            return (await _look(desk, look)).versions
        if kind.creates:
            children = 0
            for work in works:
                parent, _, name = work.folder.rpartition("/")
                children += (await _look(desk, Work(Kind.GET, parent, 0, stem=name[:-1], limit=1))).children
            return children
        return 0

    async def _drop_folders(self, desk: Connection, folders: Sequence[str]) -> None:
        for folder in sorted(folders, reverse=True):  # what is below goes first
            parent, _, name = folder.rpartition("/")
            await limited([desk], [Work(Kind.DELETE, parent, 0, stem=name[:-1], limit=1)], 1)
            del self._folders[folder]


async def _measure(
    connections: Sequence[Connection],
    works: Sequence[Work],
    window: int,
    meter: Meter,
    pids: Sequence[int | None],
    pace: Pace,
) -> Outcome:
    """Load for a while, and measure while it is in full swing."""
    gc.collect()
    gc.disable()  # the generator makes no cycles worth a pause in the middle of a measurement
    try:
        for connection, work in zip(connections, works, strict=True):
            connection.run(work, window)
        await unless_lost(connections, pace.warmup)
        latencies = meter.latencies = Latencies()
        stretch, answered = Stretch(pids), meter.answered
        await unless_lost(connections, pace.seconds)
        while not latencies.count and stretch.seconds < pace.seconds + PATIENCE_SECONDS:
            await unless_lost(connections, RETRY_SECONDS)
        figures = stretch.figures(meter.answered - answered)
        meter.latencies = None
        await drain_all(connections)
    finally:
        gc.enable()
    if not latencies.count:
        raise LoadFailed("no request was answered while it was measured")
    return Outcome(with_latencies(figures, latencies), errors_of(connections))


async def _look(desk: Connection, work: Work) -> Seen:
    """Read, and return what was seen."""
    desk.line.seen.versions = desk.line.seen.children = 0
    await limited([desk], [work], FILL_WINDOW)
    return Seen(desk.line.seen.versions, desk.line.seen.children)


def _undo(work: Work, count: int) -> Work:
    return Work(Kind.DELETE, work.folder, 0, first=work.first, limit=count, stem=work.stem, digits=work.digits)


def _pids(members: Sequence[Member]) -> list[int | None]:
    return [member.pid for member in members]


def _leader(members: Sequence[Member]) -> Member:
    return next(member for member in members if member.leads)


def _compare(outcome: Outcome, found: int, acknowledged: int) -> None:
    if found != acknowledged:
        outcome.errors[f"{acknowledged} writes were acknowledged, the keys have seen {found}"] += 1
