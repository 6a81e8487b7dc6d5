"""The clients of a round: each does one kind of work and records what it saw.

Everything an actor touches lies below the top of its round; names are unique over all workers. What the records
prove is decided in `checks.py`. Started by `worker.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any, TypeVar

from anyio.abc import ByteStream

from jkcs_client import Client, connect
from jkcs_client.address import Address
from jkcs_client.dialer import dial_tcp
from jkcs_client.lifecycle import State
from jkcs_client.protocol.errors import (
    AmbiguousError,
    BadVersion,
    ClientClosed,
    Compacted,
    DefiniteError,
    JkcsError,
    NodeExists,
    RetryableError,
    SessionExpired,
)
from jkcs_client.protocol.messages import EventKind
from jkcs_client.recipes import Held, Lock, LockTimeout
from tests.chaos.history import (
    Added,
    Changed,
    Counted,
    Event,
    FencedWrite,
    Gap,
    HistoryFile,
    LockHeld,
    Outcome,
    Owned,
    RegisterCall,
    Seen,
    Tally,
    Watched,
)

T = TypeVar("T")
SESSION_TIMEOUT = 3.0
SHORT_SESSION_TIMEOUT = 1.5
"""Of the owners of ephemeral keys, so that some sessions expire in every round."""
REQUEST_TIMEOUT = 4.0
LOCK_TIMEOUT = 3.0
SLOT_SECONDS = 3.0
"""How long a register is used: calls without an answer stay open for ever, and few of them may meet on one key."""
REGISTERS_PER_SLOT = 2
PAUSE_SECONDS = 0.02
PATIENCE = 20.0
"""Seconds in which the last event must reach a watch after the end of the round; by then all faults are healed."""
LIVING = (State.CONNECTED, State.SUSPENDED)


class Scene:
    """What the actors of one worker share."""

    def __init__(self, url: str, top: str, worker: str, seed: int, history: HistoryFile) -> None:
        self.url = url
        self.top = top
        self.worker = worker
        self.stopping = False
        self.history = history
        self._seed = seed
        self._tally: Counter[tuple[str, Outcome]] = Counter()

    def random(self, name: str) -> Random:
        """Chance of its own for every actor."""
        return Random(f"{self._seed}/{self.top}/{name}")

    async def attempt(self, workload: str, call: Awaitable[T]) -> tuple[Outcome, T | None, str]:
        """How a call ended, with its result or the name of its error."""
        result = None
        detail = ""
        try:
            result = await call
            outcome = Outcome.ACKNOWLEDGED
        except (AmbiguousError, SessionExpired, ClientClosed) as error:
            # A write under way when its session ends may have been applied just before.
            outcome, detail = Outcome.UNKNOWN, type(error).__name__
        except RetryableError as error:
            outcome, detail = Outcome.FAILED, type(error).__name__
        except DefiniteError as error:
            outcome, detail = Outcome.REFUSED, type(error).__name__
        self._tally[workload, outcome] += 1
        return outcome, result, detail

    def finish(self) -> None:
        """Write down the counts."""
        for (workload, outcome), count in sorted(self._tally.items()):
            self.history.add(Tally(workload, outcome, count))


class Actor:
    """One client that acts until the round stops; a lost session is followed by a new one."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.scene = scene
        self.workload = type(self).__name__.lower()
        self.name = f"{scene.worker}-{self.workload}{number}"
        self.random = scene.random(self.name)
        self.count = 0

    async def live(self) -> None:
        """Until `scene.stopping`."""
        while not self.scene.stopping:
            try:
                async with connect(
                    self.scene.url, session_timeout=SESSION_TIMEOUT, request_timeout=REQUEST_TIMEOUT
                ) as client:
                    while not self.scene.stopping and client.state in LIVING:
                        await self.act(client)
                        await self.rest()
            except JkcsError:
                await self.rest()

    async def rest(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS * (0.5 + self.random.random()))

    async def act(self, client: Client) -> None:
        raise NotImplementedError

    async def attempt(self, call: Awaitable[T]) -> tuple[Outcome, T | None, str]:
        return await self.scene.attempt(self.workload, call)

    def path(self, below: str) -> str:
        return self.scene.top + below


class Register(Actor):
    """Creates, sets, compares and sets, deletes and reads a few keys that all workers share for a short time."""

    def __init__(self, scene: Scene, number: int) -> None:
        super().__init__(scene, number)
        self._shunned: set[str] = set()
        """Keys on which a call of this client is still open: it stays away, so that few such calls meet."""
        self._versions: dict[str, int] = {}

    async def act(self, client: Client) -> None:
        slot = int(time.monotonic() / SLOT_SECONDS)
        key = f"/register/{slot}-{self.random.randrange(REGISTERS_PER_SLOT)}"
        if key in self._shunned:
            return
        kind, argument, call = self._choose(client, key)
        called = time.monotonic()
        outcome, result, detail = await self.attempt(call())
        returned = time.monotonic()
        if outcome is Outcome.FAILED or (kind == "get" and outcome is Outcome.UNKNOWN):
            return
        if outcome is Outcome.UNKNOWN:
            self._shunned.add(key)
            self.scene.history.add(RegisterCall(self.name, kind, key, argument, called, None, None))
            return
        answer = detail if outcome is Outcome.REFUSED else self._answer(key, kind, result)
        if kind == "get" and answer == "NoNode":
            answer = None
        self.scene.history.add(RegisterCall(self.name, kind, key, argument, called, returned, answer))

    def _choose(self, client: Client, key: str) -> tuple[str, Any, Callable[[], Awaitable[Any]]]:
        path = self.path(key)
        self.count += 1
        value = f"{self.name}/{self.count}"
        chance = self.random.random()
        if chance < 0.4:
            return "get", None, partial(client.get, path)
        if chance < 0.55:
            return "set", (-1, value), partial(client.set, path, value.encode())
        if chance < 0.75:
            version = self._versions.get(key, 0)
            return "set", (version, value), partial(client.set, path, value.encode(), version)
        if chance < 0.92:
            return "create", value, partial(client.create, path, value.encode())
        return "delete", -1, partial(client.delete, path)

    def _answer(self, key: str, kind: str, result: Any) -> Any:
        if kind == "get":
            value, stat = result
            self._versions[key] = stat.version
            return value.decode(), stat.version
        if kind == "set":
            self._versions[key] = result.version
            return result.version
        return "created" if kind == "create" else "deleted"


class Adder(Actor):
    """Creates keys that nobody else creates."""

    async def act(self, client: Client) -> None:
        self.count += 1
        name = f"{self.name}-{self.count:06d}"
        outcome, _, detail = await self.attempt(client.create(self.path(f"/set/{name}"), name.encode()))
        self.scene.history.add(Added(name, outcome, detail))


class CounterActor(Actor):
    """Raises the one counter, and leaves a marker for it in the same transaction."""

    def __init__(self, scene: Scene, number: int) -> None:
        super().__init__(scene, number)
        self.workload = "counter"

    async def act(self, client: Client) -> None:
        outcome, found, _ = await self.attempt(client.get(self.path("/counter")))
        if outcome is not Outcome.ACKNOWLEDGED or found is None:
            return
        value, stat = found
        self.count += 1
        marker = f"{self.name}-{self.count:06d}"
        outcome, _, detail = await self.attempt(self._raise(client, int(value) + 1, stat.version, marker))
        if outcome is Outcome.REFUSED:
            # Somebody else was faster; that is an answer, and nothing happened.
            assert detail == BadVersion.__name__, detail
            outcome = Outcome.FAILED
        self.scene.history.add(Counted(marker, outcome))

    async def _raise(self, client: Client, value: int, version: int, marker: str) -> None:
        async with client.transaction() as transaction:
            transaction.set(self.path("/counter"), str(value).encode(), version)
            transaction.create(self.path(f"/counter/by/{marker}"))


class Locker(Actor):
    """Takes the one lock, and writes under its guard while it holds it; sometimes too late."""

    async def act(self, client: Client) -> None:
        # Who leaves the queue from its middle must not let those behind it in.
        impatient = self.random.random() < 0.3
        timeout = self.random.uniform(0.02, 0.2) if impatient else LOCK_TIMEOUT
        try:
            async with Lock(client, self.path("/lock"), timeout=timeout, name=self.name) as held:
                await self._hold(client, held)
        except LockTimeout:
            return
        if self.random.random() < 0.3:
            # The guard is let go, and somebody else holds the lock by now: this write must not get through.
            await asyncio.sleep(self.random.uniform(0.05, 0.3))
            await self._write(client, held)

    async def _hold(self, client: Client, held: Held) -> None:
        # The time is taken first: this process may be stopped between any two steps.
        entered = believed = time.monotonic()
        if client.state not in LIVING:
            return
        try:
            for _ in range(self.random.randrange(1, 6)):
                await self._write(client, held)
                await self.rest()
                now = time.monotonic()
                if client.state not in LIVING:
                    break
                believed = now
        finally:
            self.scene.history.add(LockHeld(self.name, held.token, entered, believed))

    async def _write(self, client: Client, held: Held) -> None:
        guarded = client.fenced_by(held)
        outcome, stat, _ = await self.attempt(guarded.set(self.path("/resource"), self.name.encode()))
        if outcome is Outcome.ACKNOWLEDGED and stat is not None:
            self.scene.history.add(FencedWrite(self.name, held.token, stat.mzxid))


class Line:
    """A dialer that can be severed for good: then its client is as good as dead, and has told nobody."""

    def __init__(self) -> None:
        self._streams: list[ByteStream] = []
        self._severed = False

    async def dial(self, address: Address) -> ByteStream:
        if self._severed:
            raise OSError("severed")
        stream = await dial_tcp(address)
        self._streams.append(stream)
        return stream

    async def sever(self) -> None:
        self._severed = True
        for stream in self._streams:
            await stream.aclose()


class Owner(Actor):
    """Owns an ephemeral key for a while, looks at it as somebody else, and leaves or vanishes."""

    async def live(self) -> None:
        while not self.scene.stopping:
            try:
                async with connect(self.scene.url, session_timeout=0, request_timeout=REQUEST_TIMEOUT) as observer:
                    while not self.scene.stopping and observer.state in LIVING:
                        await self._once(observer)
            except JkcsError:
                await self.rest()

    async def _once(self, observer: Client) -> None:
        line = Line()
        async with connect(
            self.scene.url,
            session_timeout=SHORT_SESSION_TIMEOUT,
            request_timeout=REQUEST_TIMEOUT,
            dialer=line.dial,
        ) as owner:
            self.count += 1
            path = self.path(f"/ephemeral/{self.name}-{self.count}")
            outcome, _, _ = await self.attempt(owner.create(path, ephemeral=True))
            if outcome is not Outcome.ACKNOWLEDGED:
                return
            session = owner.session_id
            created = believed = time.monotonic()
            until = created + self.random.uniform(0.3, 2.0)
            vanishes = self.random.random() < 0.5
            while True:
                now = time.monotonic()
                if owner.state not in LIVING:
                    break
                believed = now
                if (believed > until and not vanishes) or self.scene.stopping:
                    break
                if believed > until:
                    await line.sever()
                    until = float("inf")
                await self._look(observer, path)
                await self.rest()
            self.scene.history.add(Owned(path, session, created, believed))
            if vanishes:
                await line.sever()
        await self._look(observer, path)

    async def _look(self, observer: Client, path: str) -> None:
        called = time.monotonic()
        outcome, stat, _ = await self.attempt(observer.exists(path))
        if outcome is Outcome.ACKNOWLEDGED:
            owner = None if stat is None else stat.ephemeral_owner
            self.scene.history.add(Seen(path, owner, called, time.monotonic()))


class Changer(Actor):
    """Creates, changes and deletes keys under a watch: each key once, by this worker alone."""

    async def act(self, client: Client) -> None:
        self.count += 1
        path = self.path(f"/watch/{self.scene.worker}/{self.count:06d}")
        outcome, created, _ = await self.attempt(client.create_with_stat(path, b"1"))
        self._note(EventKind.CREATED, path, created[1].czxid if created else 0, outcome)
        if outcome is not Outcome.ACKNOWLEDGED:
            return
        for _ in range(self.random.randrange(3)):
            outcome, stat, _ = await self.attempt(client.set(path, b"2"))
            self._note(EventKind.CHANGED, path, stat.mzxid if stat else 0, outcome)
        if self.random.random() < 0.5:
            outcome, _, _ = await self.attempt(client.delete(path))
            self._note(EventKind.DELETED, path, 0, outcome)

    def _note(self, kind: EventKind, path: str, index: int, outcome: Outcome) -> None:
        self.scene.history.add(Changed(self.scene.worker, kind, path, index, outcome))


class WatcherActor(Actor):
    """Watches all that its worker's `Changer` does; over lost sessions, from the last event on."""

    def __init__(self, scene: Scene, number: int) -> None:
        super().__init__(scene, number)
        self.workload = "watch"
        self._top = self.path(f"/watch/{scene.worker}")
        self._since = -1
        self._first = 0
        self._ended = asyncio.Event()
        """The last event has come."""
        self.ready = asyncio.Event()
        """It is known from which index on to watch."""

    @property
    def last_path(self) -> str:
        """The key that is created last of all."""
        return f"{self._top}/end"

    async def live(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                async with connect(
                    self.scene.url, session_timeout=SESSION_TIMEOUT, request_timeout=REQUEST_TIMEOUT
                ) as client:
                    await self._watch(client)
            except JkcsError:
                await self.rest()

    async def _watch(self, client: Client) -> None:
        if self._since < 0:
            stat = await client.exists(self._top)
            assert stat is not None
            self._since = self._first = stat.index
            self.ready.set()
        while True:
            try:
                async for event in client.watch(self._top, recursive=True, since=self._since):
                    self.scene.history.add(Event(self.scene.worker, event.kind, event.path, event.index))
                    self._since = event.index
                    if event.path == self.last_path:
                        self._ended.set()
            except Compacted:
                stat = await client.exists(self._top)
                assert stat is not None
                self.scene.history.add(Gap(self.scene.worker, self._since, stat.index))
                self._since = stat.index
                if await client.exists(self.last_path):
                    self._ended.set()

    async def finish(self) -> None:
        """The changes are over: make a last one, and see that it arrives."""
        complete = False
        try:
            async with asyncio.timeout(PATIENCE):
                index = await self._make_last()
                self.scene.history.add(
                    Changed(self.scene.worker, EventKind.CREATED, self.last_path, index, Outcome.ACKNOWLEDGED)
                )
                await self._ended.wait()
                complete = True
        except TimeoutError:
            pass
        self.scene.history.add(Watched(self.scene.worker, self._first, complete))

    async def _make_last(self) -> int:
        while True:
            try:
                async with connect(self.scene.url, session_timeout=SESSION_TIMEOUT) as client:
                    try:
                        await client.create(self.last_path)
                    except NodeExists:
                        pass
                    stat = await client.exists(self.last_path)
                    assert stat is not None
                    return stat.czxid
            except JkcsError:
                await self.rest()


ACTORS: tuple[type[Actor], ...] = (
    Register,
    Register,
    Register,
    Adder,
    Adder,
    CounterActor,
    Locker,
    Locker,
    Owner,
    Changer,
)
"""What one worker runs, besides its watcher."""
