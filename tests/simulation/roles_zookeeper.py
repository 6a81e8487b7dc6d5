"""Clients that speak ZooKeeper's protocol: registers, ephemeral and sequential keys, watches.

They share keys with the clients of the native protocol. What they are told is judged answer by answer by their
`SessionLog`; here it is added what calls and answers mean over time: a read behind a sync shows all that was committed
before, what was acknowledged is noted, and of what was lost with its connection it is not said that it failed. Called
by the workload.
"""

from __future__ import annotations

import random
from typing import Any

import anyio

from jkcs_client.protocol import errors
from jkcs_client.protocol import zookeeper as zk
from tests.simulation.actors import Actor, Load, WriteRecord
from tests.simulation.actors import Call as Action
from tests.simulation.checkers.linearizability import Operation
from tests.simulation.loop import Process
from tests.simulation.roles_keys import REGISTERS
from tests.simulation.zookeeper_client import Call, ZooKeeperClient
from tests.support import jute_client as jute

NUMBERED = "/numbered"
"""Under it are sequential keys only."""
GLANCE_SECONDS = 0.12
READER_RATE = 0.4
_PARENTS = ("/reg", "/eph", "/multi", "/watched", NUMBERED)
_OWN = ("/watched/a", "/watched/b")
"""Changed by those who watch, and by nobody else."""
_WATCHED = (*("/reg/0", "/reg/1", "/reg", "/eph", "/multi/a", "/dir-a", "/dir-a/x"), *_OWN, *_OWN, "/watched")
_REFUSALS = {
    errors.NoNode.code: "NoNode",
    errors.NodeExists.code: "NodeExists",
    errors.BadVersion.code: "BadVersion",
}
_OVER = errors.SessionExpired.code


class ZooKeeperActor(Actor):
    """What these roles have in common."""

    def __init__(self, load: Load, client: ZooKeeperClient, process: Process, chance: random.Random) -> None:
        super().__init__(load, client, process, chance)  # type: ignore[arg-type]  # of the client it uses little
        self._zk = client

    async def act(self) -> None:
        for path in _PARENTS:
            await self._zk.call(zk.CREATE2, jute.create(path), path)
        await super().act()

    async def _get(self, path: str, *, fresh: bool) -> jute.Answer | None:
        """getData; `fresh`: behind a sync, so that it shows all that is committed by now."""
        committed = self._committed if fresh else 0
        await self._zk.ready()
        if fresh:
            sync = self._zk.submit(zk.SYNC, jute.text(path), path)
        call = self._zk.submit(zk.GET_DATA, jute.read(path), path)
        await call.done.wait()
        if call.answer is not None:
            if fresh:
                assert sync.answer is not None, sync
                self._check_index("the log", sync.answer.zxid, at_least=committed)
            self._check_index(path, call.answer.zxid, at_least=committed)
        return call.answer

    def _new_record(self, what: str, value: bytes) -> WriteRecord:
        record = WriteRecord(f"{self._who} {what}", value, self._session)
        self._load.writes.append(record)
        self._load.calls += 1
        return record

    async def _write(self, op: int, body: bytes, path: str, *records: WriteRecord) -> Call:
        """One write of unique values; what came of it is noted."""
        committed = self._committed
        call = await self._zk.call(op, body, path, None, records)
        self._note(call, records, committed)
        return call

    def _note(self, call: Call, records: tuple[WriteRecord, ...], committed: int) -> None:
        answer = call.answer
        for record in records:
            if answer is None:
                # What was sent may have happened, or may yet, until the session is on another connection.
                record.refused = not call.sent
            elif answer.error:
                record.refused = True
            else:
                record.acknowledged = True
                record.index = answer.zxid
                self._load.verify(self._answers.check_time, record.what, answer.zxid, committed, self._committed)

    async def _delete(self, path: str) -> bool:
        """Whether the key is known to be gone."""
        call = await self._zk.call(zk.DELETE, jute.delete(path), path)
        return call.answer is not None and call.answer.error in (zk.OK, zk.NO_NODE)


class ZooKeeperRegisterUser(ZooKeeperActor):
    """Reads and changes the keys that everybody wants, two keys in one step, and many requests in one go."""

    def actions(self) -> list[Action]:
        return [self._use_registers, self._send_together]

    async def _use_registers(self) -> None:
        version = 0
        while not self._over:
            await self._pause(0.06)
            key = f"/reg/{self._chance.randrange(REGISTERS)}"
            kind = self._chance.choices(
                ("get", "local", "exists", "set", "cas", "create", "delete", "multi", "move"),
                (25, 10, 5, 25, 15, 8, 3, 15, 3),
            )[0]
            if kind == "get":
                version = await self._get_register(key) or version
            elif kind == "local":
                answer = await self._get(key, fresh=False)
                version = version if answer is None or answer.error else answer.value[1].version
            elif kind == "exists":
                await self._zk.call(zk.EXISTS, jute.read(key), key, False)
            elif kind == "multi":
                await self._change_two()
            elif kind == "move":
                self._load.move(self._process)
            else:
                await self._change(key, kind, version)

    async def _get_register(self, key: str) -> int | None:
        operation = self._begin(self._load.registers, "get", key, None)
        answer = await self._get(key, fresh=True)
        if answer is None:
            self._load.registers.remove(operation)
            return None
        if answer.error:
            self._answer(operation, None)
            return None
        value, stat = answer.value
        self._answer(operation, (value, stat.version))
        return int(stat.version)

    async def _change(self, key: str, kind: str, version: int) -> None:
        value = self._load.value(self._who, self._chance.choice(self._load.write_bytes))
        wanted = version if kind == "cas" else -1
        if kind == "create":
            operation = self._begin(self._load.registers, "create", key, value)
            op, body = zk.CREATE2, jute.create(key, value)
        elif kind == "delete":
            operation = self._begin(self._load.registers, "delete", key, -1)
            op, body = zk.DELETE, jute.delete(key)
        else:
            operation = self._begin(self._load.registers, "set", key, (wanted, value))
            op, body = zk.SET_DATA, jute.set_data(key, value, wanted)
        records = () if kind == "delete" else (self._new_record(str(operation), value),)
        self._on_changed(await self._write(op, body, key, *records), key, kind, operation, wanted, value)

    def _on_changed(self, call: Call, key: str, kind: str, operation: Operation, wanted: int, value: bytes) -> None:
        answer = call.answer
        if answer is None or answer.error == _OVER:
            if not call.sent or answer is not None:
                self._load.registers.remove(operation)
        elif answer.error:
            why = _REFUSALS[answer.error]
            self._answer(operation, why)
            self._load.verify(self._answers.check_refusal, str(operation), why, key, answer.zxid, wanted)
        elif kind == "delete":
            self._answer(operation, "deleted")
        else:
            stat = answer.value[1] if kind == "create" else answer.value
            self._answer(operation, "created" if kind == "create" else stat.version)
            self._check_read(key, answer.zxid, value, stat.version, at_least=0)

    async def _change_two(self) -> None:
        """Both keys in one step, or, where the second is refused, none."""
        first, second = self._load.value(self._who), self._load.value(self._who)
        wrong = self._chance.random() < 0.3
        body = jute.multi(
            (zk.SET_DATA, jute.set_data("/multi/a", first)),
            (zk.SET_DATA, jute.set_data("/multi/b", second, 1 << 30 if wrong else -1)),
        )
        committed = self._committed
        records = (self._new_record("multi", first), self._new_record("multi", second))
        call = await self._zk.call(zk.MULTI, body, "/multi", None, records)
        failed = call.answer is not None and call.answer.value[-1][0] == zk.ERROR
        if not failed:
            self._note(call, records, committed)
            return
        for record in records:
            record.refused = True
        if self._chance.random() < 0.5:
            for path in ("/multi/a", "/multi/b"):
                await self._zk.call(zk.CREATE2, jute.create(path), path)

    async def _send_together(self) -> None:
        """Writes that nothing can refuse, and reads between them, on one connection or on two."""
        while not self._over:
            await self._pause(0.25)
            await self._zk.ready()
            values: dict[int, list[bytes]] = {}
            sent: list[tuple[Call, tuple[WriteRecord, ...]]] = []
            committed = self._committed
            moves_at = self._chance.randrange(8) if self._chance.random() < 0.3 else -1
            for place in range(self._chance.randint(3, 8)):
                sent.append(self._send_one(values))
                if place == moves_at:
                    await anyio.sleep(self._chance.choice((0.0, 0.0005, 0.002, 0.005)))
                    self._load.move(self._process)
            self._load.pipelined += [(self._who, one) for one in values.values()]
            for call, records in sent:
                await call.done.wait()
                self._note(call, records, committed)
                if records and call.answer is not None and not call.answer.error:
                    self._load.numbers.append((call.answer.zxid, call.answer.value[0]))

    def _send_one(self, values: dict[int, list[bytes]]) -> tuple[Call, tuple[WriteRecord, ...]]:
        kind = self._chance.choices(("write", "read", "sync"), (6, 2, 1))[0]
        if kind == "read":
            return self._zk.submit(zk.GET_CHILDREN2, jute.read(NUMBERED), NUMBERED, False), ()
        if kind == "sync":
            return self._zk.submit(zk.SYNC, jute.text("/"), "/"), ()
        value = self._load.value(self._who)
        # What was lost with one connection says nothing of what went out on the next.
        values.setdefault(self._zk.connections, []).append(value)
        records = (self._new_record("numbered", value),)
        body = jute.create(f"{NUMBERED}/n-", value, zk.PERSISTENT_SEQUENTIAL)
        return self._zk.submit(zk.CREATE2, body, NUMBERED, None, records), records


class ZooKeeperEphemeralUser(ZooKeeperActor):
    """Holds keys that end with its session, and ends that in every way there is: closes it, goes without a word, stays
    away for too long, or nearly."""

    def actions(self) -> list[Action]:
        return [self._hold, self._glance]

    async def _glance(self) -> None:
        """Read what its own server knows, more often than anybody pings: while it is answered, it holds its keys."""
        while not self._over:
            await anyio.sleep(self._chance.expovariate(1.0 / GLANCE_SECONDS))
            await self._get("/eph", fresh=False)

    async def _hold(self) -> None:
        held: list[str] = []
        if self._chance.random() < READER_RATE:
            await self._create(held, sequential=False)
            return  # from now on it only reads
        while not self._over:
            await self._pause(0.15)
            kind = self._chance.choices(
                ("create", "sequential", "read", "list", "delete", "move", "away", "close", "vanish"),
                (25, 20, 20, 10, 15, 5, 3, 2, 1),
            )[0]
            if kind in ("create", "sequential"):
                await self._create(held, sequential=kind == "sequential")
            elif kind == "read":
                await self._get(self._chance.choice(held or ["/eph"]), fresh=self._chance.random() < 0.5)
            elif kind == "list":
                await self._zk.call(zk.GET_EPHEMERALS, jute.text("/"), "/", self._session)
            elif kind == "delete" and held:
                path = self._chance.choice(held)
                if await self._delete(path):
                    held.remove(path)
            elif kind == "move":
                self._load.move(self._process)
            elif kind == "away":
                self._zk.stay_away(self._chance.choice((0.3, 1.0, 2.5, 5.0)))
            elif kind == "close":
                await self._zk.close()
            elif kind == "vanish":
                self._load.vanish(self._process)

    async def _create(self, held: list[str], *, sequential: bool) -> None:
        value = self._load.value(self._who)
        if sequential:
            path, parent, mode = f"{NUMBERED}/e-{self._who}-", NUMBERED, zk.EPHEMERAL_SEQUENTIAL
        else:
            path = f"/eph/{value.decode()}"
            parent, mode = path, zk.EPHEMERAL
        record = self._new_record(f"ephemeral {path}", value)
        call = await self._write(zk.CREATE2, jute.create(path, value, mode), parent, record)
        if call.answer is not None and not call.answer.error:
            held.append(call.answer.value[0])


class ZooKeeperWatchUser(ZooKeeperActor):
    """Sets watches of all kinds and removes some, while its session goes from server to server."""

    def actions(self) -> list[Action]:
        return [self._watch, self._read_beside]

    async def _finish(self, scope: anyio.CancelScope) -> None:
        """Nothing that happened may be missing."""
        await self._get("/reg/0", fresh=True)

    async def _watch(self) -> None:
        while not self._over:
            await self._pause(0.08)
            path = self._chance.choice(_WATCHED)
            kind = self._chance.choices(
                ("data", "exists", "children", "persistent", "recursive", "remove", "check", "write", "move", "away"),
                (25, 15, 15, 3, 2, 5, 5, 20, 6, 2),
            )[0]
            if kind == "write":
                await self._write_and_read()
            else:
                await self._do(kind, path)

    async def _write_and_read(self) -> None:
        """Changes of its own are told before their answers, too."""
        path = self._chance.choice(_OWN)
        value = self._load.value(self._who)
        op, body, records = self._chance.choice(
            (
                (zk.CREATE2, jute.create(path, value), True),
                (zk.SET_DATA, jute.set_data(path, value), True),
                (zk.DELETE, jute.delete(path), False),
            )
        )
        await self._write(op, body, path, *([self._new_record(f"{path} watched", value)] if records else []))

    async def _do(self, kind: str, path: str) -> Any:
        client = self._zk
        if kind == "data":
            return await client.call(zk.GET_DATA, jute.read(path, True), path, True)
        if kind == "exists":
            return await client.call(zk.EXISTS, jute.read(path, True), path, True)
        if kind == "children":
            return await client.call(zk.GET_CHILDREN2, jute.read(path, True), path, True)
        if kind == "move":
            return self._load.move(self._process)
        if kind == "away":
            return client.stay_away(self._chance.choice((0.2, 0.8, 2.0)))
        number = {
            "persistent": zk.WATCH_PERSISTENT,
            "recursive": zk.WATCH_RECURSIVE,
        }.get(kind, self._chance.choice((zk.WATCHER_CHILDREN, zk.WATCHER_DATA, zk.WATCHER_ANY)))
        op = {"remove": zk.REMOVE_WATCHES, "check": zk.CHECK_WATCHES}.get(kind, zk.ADD_WATCH)
        return await client.call(op, jute.numbered(path, number), path, number)

    async def _read_beside(self) -> None:
        """Whatever these show must have been told before."""
        while not self._over:
            await self._pause(0.06)
            await self._get(f"/reg/{self._chance.randrange(REGISTERS)}", fresh=self._chance.random() < 0.3)
