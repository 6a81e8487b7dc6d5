"""What a client does with a session: the roles of the simulated clients.

Uses the production client and Lock through their public API only. Reads and events are checked when they
come; every write of a value that nobody else writes is noted, to be found in the log when the run is over.
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
    Compacted,
    DefiniteError,
    Fenced,
    LockLost,
    LockTimeout,
    NodeExists,
    NoNode,
    RetryableError,
    SessionExpired,
)
from jkcs_client.recipes import Held, Lock
from tests.simulation.checkers.linearizability import Operation
from tests.simulation.checkers.locks import LockBook
from tests.simulation.checkers.watches import WatchLog, check_one_shot
from tests.simulation.loop import Process
from tests.simulation.observer import WorldObserver
from tests.simulation.trace import Violation

REGISTERS = 3
LARGE_BYTES = 4000
EVENT_SECONDS = 0.001
"""How long an event that was delivered may take to reach the task that waits for it."""
LOCKS = ("/locks/a", "/locks/b")

Call = Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class WriteRecord:
    """What became of one write of a value that nobody else writes."""

    what: str
    value: bytes
    acknowledged: bool = False
    refused: bool = False
    index: int | None = None


class Load(Protocol):
    """Where actors write down what they do and are told (`tests.simulation.workload.Workload`)."""

    stopping: bool
    pace: float
    calls: int
    registers: list[Operation]
    writes: list[WriteRecord]
    locks: LockBook
    watch_logs: dict[Process, WatchLog]
    observer: WorldObserver

    def now(self) -> float: ...

    def value(self, who: str, size: int = 0) -> bytes: ...

    def verify(self, check: Callable[..., Any], *args: Any, **keywords: Any) -> Any: ...

    def note(self, who: str, text: str) -> None: ...

    def see(self, state: str) -> None: ...


class Actor:
    """What one client does with one session."""

    def __init__(self, load: Load, client: Client, process: Process, chance: random.Random) -> None:
        self._load = load
        self._client = client
        self._process = process
        self._who = process.name
        self._chance = chance
        self._ghost = load.observer.ghost
        self._seen = 0
        """The highest index that this session has been shown."""

    async def act(self, role: str) -> None:
        """Play a role until the run or the session ends."""
        actions = {
            "registers": [self._use_registers],
            "reader": [self._read_registers],
            "tree": [self._use_tree],
            "watcher": [self._watch_all, self._read_beside],
            "locker": [self._lock],
        }[role]
        try:
            async with anyio.create_task_group() as group:
                for action in actions:
                    group.start_soon(action)
                await self._until_over()
                if role == "watcher":
                    await self._check_all_seen()
                    group.cancel_scope.cancel()
        finally:
            self._load.watch_logs.pop(self._process, None)

    @property
    def _over(self) -> bool:
        return self._load.stopping or self._client.lost.is_set()

    async def _until_over(self) -> None:
        while not self._over:
            await anyio.sleep(0.5)

    async def _pause(self, mean: float) -> None:
        await anyio.sleep(self._chance.expovariate(1.0 / (mean * self._load.pace)))

    # Registers.

    async def _use_registers(self) -> None:
        version = 0
        while not self._over:
            await self._pause(0.04)
            key = f"/reg/{self._chance.randrange(REGISTERS)}"
            kind = self._chance.choices(("get", "local", "set", "cas", "create", "delete"), (30, 15, 30, 15, 8, 2))[0]
            if kind == "get":
                version = await self._get(key) or version
            elif kind == "local":
                version = await self._get_local(key) or version
            else:
                await self._change(key, kind, version)

    async def _read_registers(self) -> None:
        """Only reads: nothing that it waits for needs a commit, so a leader that is alone can answer it wrongly."""
        while not self._over:
            await self._pause(0.02)
            key = f"/reg/{self._chance.randrange(REGISTERS)}"
            if self._chance.random() < 0.8:
                await self._get(key)
            else:
                await self._get_local(key)

    async def _get(self, key: str) -> int | None:
        """A linearizable read; returns the version it saw."""
        operation = self._call("get", key, None)
        committed = self._load.observer.raft.newest.index
        try:
            value, stat = await self._client.get(key)
        except NoNode as error:
            self._answer(operation, None)
            self._check_read(key, error.index or 0, None, None, at_least=committed)
            return None
        except (RetryableError, SessionExpired, ClientClosed):
            self._load.registers.remove(operation)
            return None
        self._answer(operation, (value, stat.version))
        self._check_read(key, stat.index, value, stat.version, at_least=committed)
        return stat.version

    async def _get_local(self, key: str) -> int | None:
        try:
            value, stat = await self._client.get(key, read="local")
        except NoNode as error:
            self._check_read(key, error.index or 0, None, None, at_least=self._seen)
            return None
        except (RetryableError, SessionExpired, ClientClosed):
            return None
        self._check_read(key, stat.index, value, stat.version, at_least=self._seen)
        return stat.version

    def _check_read(self, key: str, index: int, value: bytes | None, version: int | None, *, at_least: int) -> None:
        self._load.verify(self._ghost.check_read, self._who, key, index, value, version)
        self._check_index(key, index, at_least=at_least)

    def _check_index(self, what: str, index: int, *, at_least: int) -> None:
        if index < at_least:
            violation = Violation("I14", f"{self._who} read {what} as of {index}, but had to see {at_least}")
            self._load.verify(_raise, violation)
        self._seen = max(self._seen, index)

    async def _change(self, key: str, kind: str, version: int) -> None:
        # Large ones fill the log's segments, so that it is cut behind snapshots.
        value = self._load.value(self._who, self._chance.choice((0, 0, LARGE_BYTES)))
        timeout = self._chance.choice((None, 0.3, 2.0))
        client = self._client
        if kind == "create":
            operation = self._call("create", key, value)
            call: Call = lambda: client.create_with_stat(key, value, parents=True, timeout=timeout)  # noqa: E731
        elif kind == "delete":
            operation = self._call("delete", key, -1)
            call = lambda: client.delete(key, timeout=timeout)  # noqa: E731
        else:
            wanted = version if kind == "cas" else -1
            operation = self._call("set", key, (wanted, value))
            call = lambda: client.set(key, value, wanted, timeout=timeout)  # noqa: E731
        record = WriteRecord(str(operation), value)
        if kind != "delete":
            self._load.writes.append(record)
        try:
            result = await call()
        except (NoNode, BadVersion, NodeExists) as error:
            record.refused = True
            self._answer(operation, type(error).__name__)
        except AmbiguousError:
            self._load.see("write without an answer")  # may have happened at any time from the call on
        except (RetryableError, SessionExpired, ClientClosed):
            record.refused = True
            self._load.registers.remove(operation)
        else:
            record.acknowledged = True
            if kind == "create":
                record.index = result[1].czxid
                self._answer(operation, "created")
            elif kind == "delete":
                self._answer(operation, "deleted")
            else:
                record.index = result.mzxid
                self._answer(operation, result.version)
            self._seen = max(self._seen, record.index or 0)

    def _call(self, kind: str, key: str, argument: Any) -> Operation:
        self._load.calls += 1
        operation = Operation(self._who, kind, key, argument, self._load.now())
        self._load.registers.append(operation)
        return operation

    def _answer(self, operation: Operation, result: Any) -> None:
        operation.returned = self._load.now()
        operation.result = result

    # Everything else in the tree.

    async def _use_tree(self) -> None:
        numbers = iter(range(1_000_000))
        while not self._over:
            await self._pause(0.05)
            kind = self._chance.choice(("ephemeral", "sequential", "multi", "read", "list"))
            if kind == "ephemeral":
                await self._use_ephemeral(f"/eph/{self._who}-{self._client.session_id}-{next(numbers)}")
            elif kind == "sequential":
                await self._use_sequential()
            elif kind == "multi":
                await self._use_multi()
            elif kind == "read":
                await self._read_multi()
            else:
                await self._attempt(lambda: self._client.children("/seq"))
                await self._attempt(self._client.status)

    async def _use_ephemeral(self, path: str) -> None:
        value = self._load.value(self._who)
        created = await self._record(
            f"ephemeral {path}", value, lambda: self._client.create(path, value, ephemeral=True, parents=True)
        )
        if created is not None and self._chance.random() < 0.7:
            await self._pause(0.1)
            await self._attempt(lambda: self._client.delete(path))

    async def _use_sequential(self) -> None:
        value = self._load.value(self._who)
        path = await self._record(
            "sequential /seq/s-",
            value,
            lambda: self._client.create("/seq/s-", value, sequential=True, parents=True),
        )
        if path is not None:
            await self._attempt(lambda: self._client.delete(path))

    async def _use_multi(self) -> None:
        """Two keys that always change together, or not at all."""
        first, second = self._load.value(self._who), self._load.value(self._who)
        wrong = self._chance.random() < 0.2

        async def commit() -> Any:
            async with self._client.transaction() as transaction:
                transaction.set("/multi/a", first)
                transaction.set("/multi/b", second, version=1 << 40 if wrong else -1)
            return transaction.results

        done = await self._record("multi", first, commit, also=second)
        if done is None and self._chance.random() < 0.3:
            await self._attempt(lambda: self._client.create("/multi/a", b"", parents=True))
            await self._attempt(lambda: self._client.create("/multi/b", b"", parents=True))

    async def _read_multi(self) -> None:
        committed = self._load.observer.raft.newest.index
        try:
            value, stat = await self._client.get("/multi/a")
        except (NoNode, RetryableError, SessionExpired, ClientClosed):
            return
        self._check_read("/multi/a", stat.index, value, stat.version, at_least=committed)

    async def _record(self, what: str, value: bytes, call: Call, *, also: bytes | None = None) -> Any:
        """A write of a unique value, and perhaps of another in the same step; its result, or None."""
        records = [WriteRecord(f"{self._who} {what}", one) for one in (value, also) if one is not None]
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
            if not isinstance(
                error, NoNode | BadVersion | NodeExists | RetryableError | SessionExpired | ClientClosed | Fenced
            ):
                raise
            return None
        for record in records:
            record.acknowledged = True
        return result

    async def _attempt(self, call: Call) -> Any:
        """A call whose outcome the replay judges by itself."""
        self._load.calls += 1
        try:
            return await call()
        except (NoNode, NodeExists, RetryableError, AmbiguousError, SessionExpired, ClientClosed):
            return None

    # Watches.

    async def _watch_all(self) -> None:
        """Follow everything below a key, from the index of a read on."""
        top = self._chance.choice(("/reg", "/", "/eph"))
        while not self._over:
            try:
                since = await self._sync()
                log = WatchLog(self._who, top, since, self._ghost.events)
                async with self._client.watch(top, recursive=True, since=since) as events:
                    self._load.watch_logs[self._process] = log
                    async for event in events:
                        self._load.verify(log.on_event, int(event.kind), event.path, event.index)
            except (Compacted, RetryableError) as error:
                if isinstance(error, Compacted):
                    self._load.see("watch compacted")
                self._load.watch_logs.pop(self._process, None)
                await self._pause(0.1)
            except (SessionExpired, ClientClosed):
                return

    async def _sync(self) -> int:
        committed = self._load.observer.raft.newest.index
        index = await self._client.sync()
        self._check_index("the log", index, at_least=committed)
        return index

    async def _read_beside(self) -> None:
        """Reads on the same session: what they show must have been announced before."""
        while not self._over:
            await self._pause(0.05)
            key = f"/reg/{self._chance.randrange(REGISTERS)}"
            local = self._chance.random() < 0.5
            if self._chance.random() < 0.2:
                await self._wait_once(key)
                continue
            at_least = self._seen if local else self._load.observer.raft.newest.index
            try:
                _, stat = await self._client.get(key, read="local" if local else "linearizable")
                index = stat.index
            except NoNode as error:
                index = error.index or 0
            except (RetryableError, SessionExpired, ClientClosed):
                continue
            self._check_index(key, index, at_least=at_least)
            await self._check_seen(index, f"{key} was read")

    async def _check_all_seen(self) -> None:
        """At the end: nothing that happened may be missing."""
        try:
            await self._check_seen(await self._sync(), "the end of the run")
        except (RetryableError, SessionExpired, ClientClosed):
            return

    async def _check_seen(self, index: int, what: str) -> None:
        """State as of `index` was shown: the events up to there were taken in before it."""
        log = self._load.watch_logs.get(self._process)
        # The task that waits for the events may need a turn of the loop.
        await anyio.sleep(EVENT_SECONDS)
        if log is not None and self._load.watch_logs.get(self._process) is log:
            self._load.verify(log.check_seen_up_to, index, what)

    async def _wait_once(self, key: str) -> None:
        try:
            since = await self._sync()
            with anyio.move_on_after(2.0):
                event = await self._client.changed(key, since=since)
                seen = (int(event.kind), event.path, event.index)
                self._load.verify(check_one_shot, self._who, key, since, seen, self._ghost.events)
        except (Compacted, RetryableError, SessionExpired, ClientClosed):
            return

    # Locks.

    async def _lock(self) -> None:
        while not self._over:
            await self._pause(0.1)
            path = self._chance.choice(LOCKS)
            try:
                async with Lock(self._client, path, timeout=self._chance.choice((0.5, 2.0, 5.0))) as held:
                    await self._hold(path, held)
                if self._chance.random() < 0.3:
                    await self._write_too_late(path, held)
            except (LockLost, LockTimeout, SessionExpired, ClientClosed) as error:
                self._load.note(self._who, f"{path}: {type(error).__name__}")
                if isinstance(error, LockTimeout):
                    self._load.see("lock wait given up")
                elif isinstance(error, LockLost):
                    self._load.see("lock lost")

    async def _hold(self, path: str, held: Held) -> None:
        hold = self._load.verify(self._load.locks.enter, path, held.token, self._process)
        self._load.note(self._who, f"holds {path} with token {held.token}")
        fenced = self._client.fenced_by(held)
        try:
            if self._chance.random() < 0.15:
                # A block that asks the cluster nothing can only learn of its loss by being cancelled.
                await anyio.sleep(self._chance.uniform(0.5, 4.0))
            for _ in range(self._chance.randint(1, 4)):
                await self._pause(0.05)
                self._load.locks.write(path, held.token)
                value = b"%s:%d" % (self._load.value(self._who), held.token)
                await self._record(
                    f"fenced {path}",
                    value,
                    lambda: fenced.set(fenced_key(path), value),  # noqa: B023
                )
                if self._chance.random() < 0.3:
                    await self._attempt(lambda: self._client.create(fenced_key(path), b"", parents=True))
        finally:
            if hold is not None:
                self._load.locks.leave(hold)

    async def _write_too_late(self, path: str, held: Held) -> None:
        """A write under a lock that was given back: its guard must refuse it."""
        value = b"%s:%d" % (self._load.value(self._who), held.token)
        fenced = self._client.fenced_by(held)
        if await self._record(f"late {path}", value, lambda: fenced.set(fenced_key(path), value)) is not None:
            self._load.verify(
                _raise, Violation("M1", f"{self._who} wrote under token {held.token} after giving it back")
            )


def fenced_key(lock: str) -> str:
    return "/fenced" + lock


def _raise(violation: Violation) -> None:
    raise violation
