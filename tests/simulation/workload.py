"""The clients of one run, and the record of what they were told.

Each client runs in a simulated process of its own, opens one session after another and plays a role in
each (`actors` and `roles_*`). Every call and answer is noted with its true time; histories are judged when the run is
over. Knows nothing of servers' insides but what the observer keeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

from jkcs_client import connect
from jkcs_client.address import parse
from jkcs_client.protocol.errors import ClientClosed, RetryableError, SessionExpired
from tests.simulation.actors import Actor, WriteRecord
from tests.simulation.checkers.linearizability import Operation
from tests.simulation.checkers.locks import LockBook, check_fenced_writes, check_no_orphans
from tests.simulation.checkers.models import check_full
from tests.simulation.checkers.watches import WatchLog
from tests.simulation.checkers.zookeeper import SessionLog
from tests.simulation.loop import Process
from tests.simulation.observer import WorldObserver
from tests.simulation.plan import CLOCK_FAULTS
from tests.simulation.roles_keys import DirectoryUser, Quitter, Reader, RegisterUser, Sleeper, TreeUser
from tests.simulation.roles_lifetimes import LifetimeUser, QuotaUser
from tests.simulation.roles_locks import ALL_LOCKS, LockUser, RecklessUser, fenced_key
from tests.simulation.roles_rights import Insider, Owner, Stranger
from tests.simulation.roles_watches import WatchUser
from tests.simulation.roles_zookeeper import (
    NUMBERED,
    ZooKeeperActor,
    ZooKeeperEphemeralUser,
    ZooKeeperRegisterUser,
    ZooKeeperWatchUser,
)
from tests.simulation.trace import Violation
from tests.simulation.world import World
from tests.simulation.zookeeper_client import ZooKeeperClient, open_session

ROLES: dict[str, type[Actor]] = {
    "registers": RegisterUser,
    "directories": DirectoryUser,
    "tree": TreeUser,
    "reader": Reader,
    "watcher": WatchUser,
    "locker": LockUser,
    "reckless": RecklessUser,
    "quitter": Quitter,
    "sleeper": Sleeper,
    "zookeeper registers": ZooKeeperRegisterUser,
    "zookeeper ephemerals": ZooKeeperEphemeralUser,
    "zookeeper watcher": ZooKeeperWatchUser,
    "owner": Owner,
    "insider": Insider,
    "stranger": Stranger,
    "lifetimes": LifetimeUser,
    "quotas": QuotaUser,
}
"""By the names in a plan."""
RESTART_SECONDS_MEAN = 0.5


class Workload:
    """All clients of one run."""

    def __init__(self, world: World, observer: WorldObserver) -> None:
        self._world = world
        self.observer = observer
        self._running: dict[Process, type[Actor]] = {}
        """Process -> role."""
        self._values = 0
        self.pace = world.plan.pace
        self._stopping_at: float | None = None
        self.registers: list[Operation] = []
        self.directories: list[Operation] = []
        self.writes: list[WriteRecord] = []
        self.pipelined: list[tuple[str, list[bytes]]] = []
        """Values of writes that went out one behind the other, and who sent them."""
        self.numbers: list[tuple[int, str]] = []
        """Index and name of sequential keys, all under `NUMBERED`."""
        self.locks = LockBook()
        self.calls = 0
        self.watch_logs: dict[Process, WatchLog] = {}
        """The recursive watch of each client that has one now."""
        self.history_events = world.plan.history_events
        self.write_bytes = world.plan.write_bytes
        self.clocks_agree = not set(CLOCK_FAULTS) & set(world.plan.faults)

    @property
    def stopping(self) -> bool:
        """No new calls; those under way come to their end."""
        return self._stopping_at is not None

    @stopping.setter
    def stopping(self, stopping: bool) -> None:
        self._stopping_at = self.now() if stopping else None

    def start(self) -> None:
        for number, role in enumerate(self._world.plan.roles, start=1):
            self._start(f"c{number}", ROLES[role])

    def processes(self) -> list[Process]:
        return list(self._running)

    def crash(self, process: Process, *, silent: bool) -> None:
        """A client's process dies; another takes its place."""
        role = self._running.pop(process)
        self.watch_logs.pop(process, None)
        self._world.crash_client(process, silent=silent)
        self.observer.sessions.on_killed(process, held_lock=self.locks.holds(process))
        seconds = self._chance(f"restart/{process.name}/{self.calls}").expovariate(1.0 / RESTART_SECONDS_MEAN)
        self._world.links.later(seconds, self._start, process.name, role)

    @property
    def done(self) -> bool:
        return not self._running

    def unfinished(self) -> str:
        return ", ".join(f"{process.name} ({role.__name__})" for process, role in self._running.items())

    # When all is over.

    def check(self, *, search: bool) -> None:
        """Judge the histories: by the indices of their answers, and with `search` by looking for an order too."""
        ghost, sessions = self.observer.ghost, self.observer.sessions
        answers = self.observer.answers
        for write in self.writes:
            answers.check_write(
                write.what,
                write.value,
                acknowledged=write.acknowledged,
                refused=write.refused,
                index=write.index,
                latest=write.latest,
            )
            if write.acknowledged:
                (index,) = ghost.ok_writes[write.value]
                answers.check_session(write.what, index, sessions.end_of(write.session))
        for who, values in self.pipelined:
            answers.check_pipelined(who, values)
        answers.check_numbers(NUMBERED, self.numbers)
        if search:
            check_full(self.registers, self.directories)
        for path in ALL_LOCKS:
            states = ghost.annals.histories.get(fenced_key(path), [])
            check_fenced_writes(path, [int(state.value.split(b":")[1]) for state in states if state.value])
            check_no_orphans(path, ghost.model.children(path))
        assert self._stopping_at is not None
        sessions.check_ends(self._stopping_at)

    # One client.

    def _start(self, name: str, role: type[Actor]) -> None:
        if self.stopping:
            return
        process = self._world.client(name)
        self._running[process] = role
        seed = self._chance(f"{name}/{self._world.loop.now:.6f}")
        self._world.run_in(process, self._life(process, role, seed))

    def _chance(self, name: str) -> random.Random:
        return self._world.chance.stream(f"load/{name}")

    async def _life(self, process: Process, role: type[Actor], chance: random.Random) -> None:
        """One process: a session, and when that is lost another one."""
        while not self.stopping:
            timeout = chance.choice((1.0, 2.0, 4.0))
            try:
                async with self._session(process, role, timeout, chance) as client:
                    self._world.trace.add(process.name, f"has session {client.session_id}")
                    is_lost = client.is_suspended if isinstance(client, ZooKeeperClient) else client.lost.is_set
                    self.verify(self.observer.sessions.on_session, client.session_id, process, is_lost, timeout)
                    await role(self, client, process, chance).act()
            except (RetryableError, SessionExpired, ClientClosed) as error:
                self._world.trace.add(process.name, f"starts over: {type(error).__name__}")
                if isinstance(error, SessionExpired):
                    self.see("client lost its session")
                await anyio.sleep(chance.uniform(0.1, 0.5))
        self._running.pop(process, None)

    def _session(
        self, process: Process, role: type[Actor], timeout: float, chance: random.Random
    ) -> AbstractAsyncContextManager[Any]:
        """A new session, of the protocol that the role speaks."""
        dialer = self._world.dialer(process)
        if issubclass(role, ZooKeeperActor):
            log = SessionLog(process.name, self.observer.ghost, self.observer.answers)
            servers = parse(self._world.url).addresses
            own = random.Random(chance.random())
            return open_session(ZooKeeperClient(dialer, servers, timeout, own, log, self.verify, self.see))
        return connect(
            self._world.url,
            session_timeout=timeout,
            request_timeout=chance.choice((1.0, 3.0, 10.0)),
            dialer=dialer,
            random=random.Random(chance.random()),
            auth=role.credentials(process.name),
        )

    # What the actors write down.

    def now(self) -> float:
        return self._world.loop.now

    def value(self, who: str, size: int = 0) -> bytes:
        """A value that was never used before, at least `size` bytes long."""
        self._values += 1
        return f"{who}-{self._values}".encode().ljust(size, b".")

    def verify(self, check: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Run a checker; what it finds ends the run, not only the client."""
        try:
            return check(*args, **keywords)
        except Violation as violation:
            self._world.fail(violation)
            return None

    def see(self, state: str) -> None:
        self._world.reach.see(state)

    def dialed(self, process: Process) -> int:
        """How many connections a client has had so far."""
        return self._world.dialed[process]

    def move(self, process: Process) -> None:
        """Break a client's connection: its session goes on at another server."""
        for connection in list(self._world.connections):
            if connection.client is process and not connection.broken:
                self.note(process.name, f"leaves {connection.server.name}")
                del self._world.connections[connection]
                connection.reset()

    def freeze(self, process: Process, seconds: float) -> None:
        """Let a client's process stand still for some time."""
        self._world.links.later(0.0, self._world.pause, process, seconds)

    def vanish(self, process: Process) -> None:
        """End a client's process without a word; another takes its place."""
        self._world.links.later(0.0, self._vanish, process)

    def _vanish(self, process: Process) -> None:
        if process in self._running:
            self.crash(process, silent=True)

    def note(self, who: str, text: str) -> None:
        self._world.trace.add(who, text)
