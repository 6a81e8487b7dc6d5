"""Clients that read and write keys: registers, directories, everything else of the tree, and readers.

Each call is checked by the index of its answer, and noted for the linearizability search where it belongs to a
register or a directory. Called by the workload.
"""

from __future__ import annotations

from math import inf
from typing import Any

import anyio
import anyio.lowlevel

from jkcs_client.protocol.errors import AmbiguousError, BadVersion, DefiniteError, NodeExists, NoNode, NotEmpty
from tests.simulation.actors import GONE, REFUSED, Actor, Call, WriteRecord
from tests.simulation.checkers.linearizability import Operation

REGISTERS = 3
DIRECTORIES = ("/dir-a", "/dir-b")
NAMES = ("x", "y", "z")
VANISH_SECONDS_MEAN = 1.5


class RegisterUser(Actor):
    """Reads and changes a few keys that everybody wants."""

    def actions(self) -> list[Call]:
        return [self._use_registers]

    async def _use_registers(self) -> None:
        version = 0
        while not self._over:
            await self._pause(0.06)
            key = f"/reg/{self._chance.randrange(REGISTERS)}"
            kind = self._chance.choices(("get", "local", "set", "cas", "create", "delete"), (30, 15, 30, 15, 8, 2))[0]
            if kind == "get":
                version = await self._get(key) or version
            elif kind == "local":
                version = await self._get_local(key) or version
            else:
                await self._change(key, kind, version)

    async def _get(self, key: str) -> int | None:
        """A linearizable read; returns the version it saw."""
        operation = self._begin(self._load.registers, "get", key, None)
        committed = self._committed
        try:
            value, stat = await self._client.get(key)
        except NoNode as error:
            self._answer(operation, None)
            self._check_read(key, error.index or 0, None, None, at_least=committed)
            return None
        except GONE:
            self._load.registers.remove(operation)
            return None
        self._answer(operation, (value, stat.version))
        self._check_read(key, stat.index, value, stat.version, at_least=committed)
        self._load.verify(self._answers.check_stat, self._who, key, stat.index, stat)
        return stat.version

    async def _get_local(self, key: str) -> int | None:
        try:
            value, stat = await self._client.get(key, read="local")
        except NoNode as error:
            self._check_read(key, error.index or 0, None, None, at_least=self._seen)
            return None
        except GONE:
            return None
        self._check_read(key, stat.index, value, stat.version, at_least=self._seen)
        return stat.version

    async def _change(self, key: str, kind: str, version: int) -> None:
        value = self._load.value(self._who, self._chance.choice(self._load.write_bytes))
        timeout = self._chance.choice((None, 0.3, 2.0))
        client = self._client
        wanted = version if kind == "cas" else -1
        if kind == "create":
            operation = self._begin(self._load.registers, "create", key, value)
            call: Call = lambda: client.create_with_stat(key, value, parents=True, timeout=timeout)  # noqa: E731
        elif kind == "delete":
            operation = self._begin(self._load.registers, "delete", key, -1)
            call = lambda: client.delete(key, timeout=timeout)  # noqa: E731
        else:
            operation = self._begin(self._load.registers, "set", key, (wanted, value))
            call = lambda: client.set(key, value, wanted, timeout=timeout)  # noqa: E731
        record = WriteRecord(str(operation), value, self._session)
        if kind != "delete":
            self._load.writes.append(record)
        committed = self._committed
        try:
            result = await call()
        except (NoNode, BadVersion, NodeExists) as error:
            record.refused = True
            why = type(error).__name__
            self._answer(operation, why)
            self._load.verify(self._answers.check_refusal, record.what, why, key, error.index or 0, wanted)
        except AmbiguousError:
            self._load.see("write without an answer")  # may have happened at any time from the call on
        except GONE:
            record.refused = True
            self._load.registers.remove(operation)
        else:
            self._on_changed(kind, key, operation, record, result, committed)

    def _on_changed(
        self, kind: str, key: str, operation: Operation, record: WriteRecord, result: Any, committed: int
    ) -> None:
        record.acknowledged = True
        if kind == "delete":
            self._answer(operation, "deleted")
            return
        stat = result[1] if kind == "create" else result
        record.index = stat.mzxid
        self._answer(operation, "created" if kind == "create" else stat.version)
        self._check_read(key, stat.mzxid, record.value, stat.version, at_least=0)
        self._load.verify(self._answers.check_time, record.what, stat.mzxid, committed, self._committed)


class DirectoryUser(Actor):
    """Fills and empties a few directories, whose parents come and go too."""

    def actions(self) -> list[Call]:
        return [self._use_directories]

    async def _use_directories(self) -> None:
        while not self._over:
            await self._pause(0.12)
            top = self._chance.choice(DIRECTORIES)
            kind = self._chance.choices(
                ("children", "get", "create", "sequential", "set", "delete", "multi", "make", "remove"),
                (20, 15, 15, 5, 15, 15, 10, 4, 1),
            )[0]
            if kind == "multi":
                await self._change_all(top)
            else:
                await self._do(top, kind, self._draw(kind))

    def _draw(self, kind: str) -> Any:
        """The arguments of one operation (see `models.directory_step`)."""
        name = self._chance.choice(NAMES)
        value = self._load.value(self._who)
        wanted = self._chance.choice((-1, -1, 0, 1))
        return {
            "get": name,
            "create": (name, value),
            "sequential": ("s-", value),
            "set": (name, wanted, value),
            "delete": (name, wanted),
        }.get(kind)

    async def _do(self, top: str, kind: str, argument: Any) -> None:
        operation = self._begin(self._load.directories, kind, top, argument)
        committed = self._committed
        try:
            result = await self._call(top, kind, argument)
        except REFUSED as error:
            result = None if kind in ("get", "children") else type(error).__name__
        except AmbiguousError:
            return
        except GONE:
            self._load.directories.remove(operation)
            return
        self._answer(operation, result)
        if kind == "children":
            names = None if result is None else list(result)
            self._load.verify(self._answers.check_children, self._who, top, names, committed, self._ghost.applied)

    async def _call(self, top: str, kind: str, argument: Any) -> Any:
        """Make one call; its answer as the model has it."""
        client = self._client
        if kind == "children":
            return tuple(await client.children(top))
        if kind == "make":
            await client.create(top)
            return "created"
        if kind == "remove":
            await client.delete(top)
            return "deleted"
        if kind == "get":
            value, stat = await client.get(f"{top}/{argument}")
            return value, stat.version
        path = f"{top}/{argument[0]}"
        if kind == "create":
            await client.create(path, argument[1])
            return "created"
        if kind == "sequential":
            return (await client.create(path, argument[1], sequential=True)).rpartition("/")[2]
        if kind == "set":
            return (await client.set(path, argument[2], argument[1])).version
        await client.delete(path, argument[1])
        return "deleted"

    async def _change_all(self, top: str) -> None:
        """A transaction over several keys of one directory."""
        kinds = [self._chance.choice(("create", "set", "delete")) for _ in range(self._chance.randint(2, 3))]
        steps = tuple((kind, self._draw(kind)) for kind in kinds)
        operation = self._begin(self._load.directories, "multi", top, steps)
        try:
            async with self._client.transaction() as transaction:
                for kind, argument in steps:
                    path = f"{top}/{argument[0]}"
                    if kind == "create":
                        transaction.create(path, argument[1])
                    elif kind == "set":
                        transaction.set(path, argument[2], argument[1])
                    else:
                        transaction.delete(path, argument[1])
        except (NoNode, NodeExists, BadVersion, NotEmpty) as error:
            self._answer(operation, ("failed", error.operation, type(error).__name__))
        except AmbiguousError:
            return
        except GONE:
            self._load.directories.remove(operation)
        else:
            words = {"create": "created", "delete": "deleted"}
            results = zip(kinds, transaction.results, strict=True)
            answers = [words.get(kind) or getattr(result, "version", None) for kind, result in results]
            self._answer(operation, tuple(answers))


class TreeUser(Actor):
    """Ephemeral and sequential keys, transactions, and a session that changes servers now and then."""

    def actions(self) -> list[Call]:
        return [self._use_tree]

    async def _use_tree(self) -> None:
        numbers = iter(range(1_000_000))
        while not self._over:
            await self._pause(0.08)
            kind = self._chance.choices(
                ("ephemeral", "sequential", "multi", "read", "list", "move"), (20, 20, 20, 20, 20, 2)
            )[0]
            if kind == "ephemeral":
                await self._use_ephemeral(f"/eph/{self._who}-{self._session}-{next(numbers)}")
            elif kind == "sequential":
                await self._use_sequential()
            elif kind == "multi":
                await self._use_multi()
            elif kind == "read":
                await self._read_multi()
            elif kind == "move":
                self._load.move(self._process)
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
        committed = self._committed
        try:
            value, stat = await self._client.get("/multi/a")
        except (NoNode, *GONE):
            return
        self._check_read("/multi/a", stat.index, value, stat.version, at_least=committed)


class Reader(Actor):
    """Reads only, but for writes that it sends together with reads to see their order kept."""

    def actions(self) -> list[Call]:
        return [self._read]

    async def _read(self) -> None:
        while not self._over:
            await self._pause(0.06)
            if self._chance.random() < 0.25:
                await self._send_together()
                continue
            if self._chance.random() < 0.1:
                await self._attempt(self._sync)
                continue
            path = self._chance.choice(("/reg/0", "/reg/1", "/reg", "/dir-a", "/dir-b", "/multi", "/eph", "/"))
            await self._exists(path)

    async def _exists(self, path: str) -> None:
        local = self._chance.random() < 0.2
        at_least = self._seen if local else self._committed
        try:
            stat = await self._client.exists(path, read="local" if local else "linearizable")
        except GONE:
            return
        if stat is not None:
            self._load.verify(self._answers.check_stat, self._who, path, stat.index, stat)
            self._check_index(path, stat.index, at_least=at_least)

    async def _send_together(self) -> None:
        """Several calls of one session on their way at once: they are carried out in the order of their calls."""
        if self._chance.random() < 0.5:
            kinds = ["read", "write"] * self._chance.randint(2, 3)
        else:
            kinds = [self._chance.choice(("local", "read", "write")) for _ in range(self._chance.randint(3, 6))]
        indices: list[tuple[str, int] | None] = [None] * len(kinds)
        dialed = self._load.dialed(self._process)
        # In one frame, or while the round of the one before is under way.
        spread = self._chance.choice((0.0, 0.001, 0.002, 0.005))
        # Those after it wait together with what was under way.
        moves_at = self._chance.randrange(len(kinds)) if self._chance.random() < 0.15 else -1

        async def call(place: int, kind: str) -> None:
            try:
                if kind == "write":
                    key = f"/order/{self._who}"
                    # Without a deadline: an answer that is lost for good keeps the run from ending.
                    _, stat = await self._client.create_with_stat(
                        f"{key}-", b"", sequential=True, parents=True, timeout=inf
                    )
                    indices[place] = ("write", stat.czxid)
                else:
                    root = await self._client.exists("/", read="local" if kind == "local" else "linearizable")
                    assert root is not None, "the root always exists"
                    indices[place] = ("read", root.index)
            except (*GONE, AmbiguousError, DefiniteError):
                return

        async with anyio.create_task_group() as group:
            for place, kind in enumerate(kinds):
                group.start_soon(call, place, kind)
                # Each call must be made before the next; a task's first step is its call.
                await anyio.lowlevel.checkpoint()
                if place == moves_at:
                    self._load.move(self._process)
                if spread:
                    await anyio.sleep(self._chance.expovariate(1.0 / spread))
        known = [one for one in indices if one is not None]
        # When a connection broke in between, reads are asked again behind the writes.
        if len(known) == len(kinds) and dialed == self._load.dialed(self._process):
            self._load.verify(self._answers.check_order, self._who, known)
        self._load.verify(self._answers.check_own_writes, self._who, known)


class Quitter(Actor):
    """Makes ephemeral keys, and is gone without a word: its session has to expire."""

    def actions(self) -> list[Call]:
        return [self._quit]

    async def _quit(self) -> None:
        for number in range(self._chance.randint(1, 4)):
            value = self._load.value(self._who)
            path = f"/eph/{self._who}-{self._session}-{number}"
            await self._record(
                f"ephemeral {path}",
                value,
                lambda: self._client.create(path, value, ephemeral=True, parents=True),  # noqa: B023
            )
        await self._pause(VANISH_SECONDS_MEAN)
        if not self._over:
            self._load.vanish(self._process)


class Sleeper(Actor):
    """Owns a key and asks the cluster for nothing: only its pings tell that it lives."""

    def actions(self) -> list[Call]:
        return [self._sleep]

    async def _sleep(self) -> None:
        value = self._load.value(self._who)
        path = f"/eph/{self._who}-{self._session}-asleep"
        await self._record(
            f"ephemeral {path}", value, lambda: self._client.create(path, value, ephemeral=True, parents=True)
        )
        # What its own server answers by itself keeps nothing alive.
        glances = self._chance.random() < 0.6
        while not self._over:
            await self._pause(0.1)
            if glances:
                await self._glance(path)
                await self._glance(f"/reg/{self._chance.randrange(REGISTERS)}")

    async def _glance(self, key: str) -> None:
        try:
            value, stat = await self._client.get(key, read="local")
        except NoNode as error:
            self._check_read(key, error.index or 0, None, None, at_least=self._seen)
        except GONE:
            return
        else:
            self._check_read(key, stat.index, value, stat.version, at_least=self._seen)
