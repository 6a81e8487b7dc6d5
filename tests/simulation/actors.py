"""What every simulated client has in common: calls that are noted, and answers that are checked.

Uses the production client through its public API only. Reads are checked when they come; every write of a value
that nobody else writes is noted, to be found in the log when the run is over. What a client does with its session is
in the roles (`roles_keys`, `roles_watches`, `roles_locks`).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from jkcs_client import Client
from jkcs_client.protocol.errors import (
    AmbiguousError,
    BadVersion,
    ClientClosed,
    DefiniteError,
    Fenced,
    NodeExists,
    NoNode,
    NotEmpty,
    RetryableError,
    SessionExpired,
)
from jkcs_client.values import Stat
from tests.simulation.checkers.linearizability import Operation
from tests.simulation.checkers.locks import LockBook
from tests.simulation.checkers.watches import WatchLog
from tests.simulation.loop import Process
from tests.simulation.observer import WorldObserver
from tests.simulation.trace import Violation

Call = Callable[[], Awaitable[Any]]
CALM_SECONDS = 1.0
PAUSE_SECONDS_MAX = 4.0
"""A client that thinks with a lock in its hand must not keep the others waiting for longer than a run's end lasts."""
GONE = (RetryableError, SessionExpired, ClientClosed)
"""Errors after which nothing has happened, and perhaps nothing will in this session."""
REFUSED = (NoNode, BadVersion, NodeExists, NotEmpty)
"""Errors that tell something of the tree."""


@dataclass(slots=True)
class WriteRecord:
    """What became of one write of a value that nobody else writes."""

    what: str
    value: bytes
    session: int = 0
    acknowledged: bool = False
    refused: bool = False
    index: int | None = None
    latest: int | None = None
    """If it happened, then not behind this index."""


class Load(Protocol):
    """Where actors write down what they do and are told (`tests.simulation.workload.Workload`)."""

    stopping: bool
    pace: float
    calls: int
    registers: list[Operation]
    directories: list[Operation]
    writes: list[WriteRecord]
    pipelined: list[tuple[str, list[bytes]]]
    numbers: list[tuple[int, str]]
    locks: LockBook
    watch_logs: dict[Process, WatchLog]
    observer: WorldObserver
    history_events: int
    write_bytes: tuple[int, ...]
    clocks_agree: bool
    """Nothing happens to any clock in this run."""

    def now(self) -> float: ...

    def value(self, who: str, size: int = 0) -> bytes: ...

    def verify(self, check: Callable[..., Any], *args: Any, **keywords: Any) -> Any: ...

    def note(self, who: str, text: str) -> None: ...

    def see(self, state: str) -> None: ...

    def dialed(self, process: Process) -> int:
        """How many connections the client has had so far."""

    def move(self, process: Process) -> None:
        """Break the client's connection, so that its session goes to another server."""

    def freeze(self, process: Process, seconds: float) -> None:
        """Let the client's process stand still."""

    def vanish(self, process: Process) -> None:
        """End the client's process without a word to anybody."""


class Actor:
    """What one client does with one session. The roles add what they do to `actions`."""

    def __init__(self, load: Load, client: Client, process: Process, chance: random.Random) -> None:
        self._load = load
        self._client = client
        self._process = process
        self._who = process.name
        self._chance = chance
        self._ghost = load.observer.ghost
        self._answers = load.observer.answers
        self._session = client.session_id
        self._seen = 0
        """The highest index that this session has been shown."""

    @classmethod
    def credentials(cls, who: str) -> tuple[tuple[str, str], ...]:
        """What a client of this name proves itself with in each of its sessions."""
        return ()

    def actions(self) -> list[Call]:
        """What is done at the same time, until the run or the session ends."""
        raise NotImplementedError

    async def act(self) -> None:
        """Play the role until the run or the session ends."""
        async with anyio.create_task_group() as group:
            for action in self.actions():
                group.start_soon(action)
            await self._until_over()
            await self._finish(group.cancel_scope)

    async def _finish(self, scope: anyio.CancelScope) -> None:
        """It is over. What is open comes to its end by itself, or not at all, which is a finding."""

    @property
    def _over(self) -> bool:
        return self._load.stopping or self._client.lost.is_set()

    async def _until_over(self) -> None:
        while not self._over:
            self._load.verify(
                self._load.observer.sessions.check_same, self._session, self._client.session_id, self._who
            )
            await anyio.sleep(0.5)

    async def _pause(self, mean: float) -> None:
        """Think for a while, the longer the calmer the run; but not so long that its end has to wait."""
        calm = max(mean, min(mean * self._load.pace, CALM_SECONDS))
        await anyio.sleep(min(self._chance.expovariate(1.0 / calm), PAUSE_SECONDS_MAX))

    @property
    def _committed(self) -> int:
        """The newest index that anybody has committed: a linearizable read must show it, a write come after it."""
        return self._load.observer.raft.newest.index

    # Reads.

    def _check_read(self, key: str, index: int, value: bytes | None, version: int | None, *, at_least: int) -> None:
        self._load.verify(self._answers.check_read, self._who, key, index, value, version)
        self._check_index(key, index, at_least=at_least)

    def _check_index(self, what: str, index: int, *, at_least: int) -> None:
        self._load.verify(self._answers.check_index, f"{self._who} read {what}", index, at_least)
        self._seen = max(self._seen, index)

    async def _sync(self) -> int:
        committed = self._committed
        index = await self._client.sync()
        self._check_index("the log", index, at_least=committed)
        return index

    # Operations of the linearizability search.

    def _begin(self, history: list[Operation], kind: str, key: str, argument: Any) -> Operation:
        self._load.calls += 1
        operation = Operation(self._who, kind, key, argument, self._load.now())
        history.append(operation)
        return operation

    def _answer(self, operation: Operation, result: Any) -> None:
        operation.returned = self._load.now()
        operation.result = result

    # Writes.

    async def _record(self, what: str, value: bytes, call: Call, *, also: bytes | None = None) -> Any:
        """A write of a unique value, and perhaps of another in the same step; its result, or None."""
        values = [one for one in (value, also) if one is not None]
        records = [WriteRecord(f"{self._who} {what}", one, self._session) for one in values]
        self._load.writes += records
        self._load.calls += 1
        try:
            result = await call()
        except AmbiguousError:
            return None
        except (RetryableError, DefiniteError) as error:
            for record in records:
                record.refused = True
            if isinstance(error, Fenced):
                self._load.see("fenced write refused")
            if not isinstance(error, (*REFUSED, *GONE, Fenced)):
                raise
            return None
        for record in records:
            record.acknowledged = True
        return result

    def _acknowledge(self, record: WriteRecord, key: str, result: Any) -> Stat | None:
        """The write is done; the stat that came with its answer must be the key's at that index."""
        record.acknowledged = True
        stat = result[1] if isinstance(result, tuple) else result
        if not isinstance(stat, Stat):
            return None
        record.index = stat.index
        self._load.verify(self._answers.check_stat, record.what, key, stat.index, stat)
        return stat

    async def _attempt(self, call: Call) -> Any:
        """A call whose outcome the replay judges by itself."""
        self._load.calls += 1
        try:
            return await call()
        except (*REFUSED, *GONE, AmbiguousError):
            return None


def complain(violation: Violation) -> None:
    """For `Load.verify`: what was found is already known."""
    raise violation
