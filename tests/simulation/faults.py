"""The faults of one run, drawn from its plan: what happens when, and how it ends.

Acts on the world only through its public methods. When the chaos is over, `heal` takes every fault back,
so that what follows must go well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from journal.errors import DiskFailed
from journal.raft.ready import Role
from tests.simulation.links import Links
from tests.simulation.loop import Process
from tests.simulation.plan import DISK_FAULTS, EVENT_FAULTS, OTHER_FAULTS, Plan
from tests.simulation.world import Machine, World

SERVER_PAUSE_SECONDS_MAX = 3.0
CLIENT_PAUSE_SECONDS_MAX = 6.0
SLOW_DISK_SECONDS_MEAN = 0.08
HUNG_DISK_SECONDS_MAX = 4.0
CRASH_POINT_AHEAD_MAX = 40
CLOCK_JUMP_MS_MAX = 86_400_000


class Faults:
    """Makes the faults of a plan happen."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        clients: Callable[[], list[Process]],
        crash_client: Callable[..., None],
    ) -> None:
        self._world = world
        self._plan = plan
        self._clients = clients
        """The client processes of this moment."""
        self._crash_client_process = crash_client
        self._chance = world.chance.stream("faults")
        self._events = [kind for kind in EVENT_FAULTS + DISK_FAULTS + OTHER_FAULTS if kind in plan.faults]
        self._over = False

    def begin(self) -> None:
        """Turn on what is there all the time."""
        links, plan = self._world.links, self._plan
        if "drop" in plan.faults:
            links.drop_rate = plan.drop_rate
        if "duplicate" in plan.faults:
            links.duplicate_rate = plan.duplicate_rate
        if "reorder" in plan.faults:
            links.reorder_rate = plan.reorder_rate
        if "delay" in plan.faults:
            links.slow_rate = plan.slow_rate

    async def rage(self, seconds: float) -> None:
        """Let faults happen for some time."""
        loop = self._world.loop
        end = loop.time() + seconds
        while True:
            pause = self._chance.expovariate(1.0 / self._plan.fault_seconds)
            if not self._events or loop.time() + pause >= end:
                await asyncio.sleep(max(0.0, end - loop.time()))
                return
            await asyncio.sleep(pause)
            getattr(self, f"_{self._chance.choice(self._events)}")()

    def heal(self) -> None:
        """End all faults and bring every machine back."""
        self._over = True
        world = self._world
        world.trace.add("*", "everything heals")
        world.links.calm()
        world.links.heal()
        for machine in world.machines.values():
            machine.disk.crash_at = -1
            machine.disk.fail_next = None
            machine.disk_seconds_mean = min(self._plan.disk_seconds, 0.002)
            machine.disk_stall_seconds = 0.0
            if machine.process is None:
                world.start(machine)
            elif machine.process.paused:
                world.loop.resume(machine.process)
        for client in self._clients():
            if client.paused:
                world.loop.resume(client)

    # One method per kind of event, drawn by name.

    def _partition(self) -> None:
        """Cut a random group off from all others, both ways."""
        names = self._names()
        self._chance.shuffle(names)
        size = 1 if self._chance.random() < 0.5 else self._chance.randint(1, len(names) - 1)
        group = names[:size]
        leader = self._leader()
        if leader is not None and self._chance.random() < 0.4:
            # With some clients on its side, which go on asking it.
            group = [leader.name, *(client.name for client in self._clients() if self._chance.random() < 0.5)]
        self._world.trace.add("*", f"partition: {','.join(sorted(group))} against the rest")
        pairs = [(one, other) for one in group for other in self._names() if other not in group]
        self._cut([way for one, other in pairs for way in ((one, other), (other, one))])

    def _one_way(self) -> None:
        """Cut all ways to one machine, or from it, or a single one."""
        names = self._names()
        one = self._chance.choice(names)
        others = [name for name in names if name != one]
        if self._chance.random() < 0.5:
            others = [self._chance.choice(others)]
        outward = self._chance.random() < 0.5
        self._world.trace.add("*", f"{one} {'is not heard by' if outward else 'does not hear'} {','.join(others)}")
        self._cut([(one, other) if outward else (other, one) for other in others])

    def _crash(self) -> None:
        """kill -9 of a server."""
        machine = self._some_machine()
        if machine is not None:
            self._world.crash(machine)

    def _restart(self) -> None:
        """An operator restarts a server."""
        machine = self._some_machine()
        if machine is not None:
            self._world.stop(machine)

    def _power(self) -> None:
        """A machine loses power, seldom all of them at once."""
        if self._chance.random() < 0.1:
            for each in self._world.machines.values():
                self._world.crash(each, power=True)
        else:
            machine = self._some_machine()
            if machine is not None:
                self._world.crash(machine, power=True)

    def _pause_server(self) -> None:
        machine = self._some_machine()
        if machine is not None and machine.process is not None:
            self._world.pause(machine.process, self._chance.uniform(0.05, SERVER_PAUSE_SECONDS_MAX))

    def _pause_client(self) -> None:
        clients = self._clients()
        if clients:
            self._world.pause(self._chance.choice(clients), self._chance.uniform(0.05, CLIENT_PAUSE_SECONDS_MAX))

    def _crash_client(self) -> None:
        clients = self._clients()
        if clients:
            self._crash_client_process(self._chance.choice(clients), silent=self._chance.random() < 0.5)

    def _reset(self) -> None:
        names = list(self._world.machines)
        if len(names) > 1 and self._chance.random() < 0.5:
            one, other = self._chance.sample(names, 2)
            self._world.trace.add("*", f"connections between {one} and {other} break")
            self._world.fabric.reset(one, other)
        else:
            self._world.reset_connection(self._chance)

    def _slow_disk(self) -> None:
        machine = self._chance.choice(list(self._world.machines.values()))
        machine.disk_seconds_mean = self._chance.expovariate(1.0 / SLOW_DISK_SECONDS_MEAN) + 0.001
        self._world.trace.add(machine.name, f"disk takes {machine.disk_seconds_mean:.3f} s")

    def _hung_disk(self) -> None:
        machine = self._chance.choice(list(self._world.machines.values()))
        machine.disk_stall_seconds = self._chance.uniform(0.2, HUNG_DISK_SECONDS_MAX)
        self._world.trace.add(machine.name, f"disk hangs for {machine.disk_stall_seconds:.3f} s")

    def _failing_disk(self) -> None:
        machine = self._some_machine()
        if machine is not None:
            machine.disk.fail_next = DiskFailed(self._chance.choice(("input/output error", "no space left on device")))

    def _crash_point(self) -> None:
        """Crash between two particular operations on the disk."""
        machine = self._some_machine()
        if machine is not None:
            machine.disk.crash_at = machine.disk.operations + self._chance.randint(0, CRASH_POINT_AHEAD_MAX)

    def _clock_jump(self) -> None:
        machine = self._chance.choice(list(self._world.machines.values()))
        machine.wall_skew_ms = self._chance.randint(-CLOCK_JUMP_MS_MAX, CLOCK_JUMP_MS_MAX)
        self._world.trace.add(machine.name, f"wall clock jumps by {machine.wall_skew_ms} ms")

    # Inside.

    @property
    def _links(self) -> Links:
        return self._world.links

    def _names(self) -> list[str]:
        return [*map(str, self._world.machines), *(client.name for client in self._clients())]

    def _some_machine(self) -> Machine | None:
        """A running server, the leader more often than chance would have it."""
        running = [machine for machine in self._world.machines.values() if machine.running]
        if not running:
            return None
        leader = self._leader()
        if leader is not None and self._chance.random() < 0.4:
            return leader
        return self._chance.choice(running)

    def _leader(self) -> Machine | None:
        for machine in self._world.machines.values():
            if machine.running and machine.server is not None and machine.server.replica.core.role is Role.LEADER:
                return machine
        return None

    def _cut(self, ways: list[tuple[str, str]]) -> None:
        """Cut some ways for some time."""
        for way in ways:
            self._links.cut(*way)
        self._links.later(self._chance.expovariate(1.0 / self._plan.cut_seconds), self._mend, ways)

    def _mend(self, ways: list[tuple[str, str]]) -> None:
        if not self._over:
            self._world.trace.add("*", "a partition ends")
            self._links.mend(ways)
