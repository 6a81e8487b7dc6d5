"""The faults of one run, drawn from its plan: what happens when, and how it ends.

Each event has a number and a stream of chance of its own, so that one of them can be left out and the others
stay what they were. When the chaos is over, `heal` takes the faults back: on all machines, or on a random
quorum of them only, and the others stay as they are for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from journal.raft.ready import Role
from tests.simulation.crash_points import FIRST_START
from tests.simulation.loop import Process
from tests.simulation.partitions import Ways, against_the_rest
from tests.simulation.plan import EVENT_FAULTS, Plan
from tests.simulation.world import Machine, World

ABANDONED = ("down", "cut off", "does not hear", "does not hear the leader", "stands still", "hangs")
"""What becomes of a server that is not healed."""
FOR_EVER_SECONDS = 1e6


class Chaos:
    """What an act of `acts.py` may use: the world, and chance of its own."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        clients: Callable[[], list[Process]],
        crash_client: Callable[..., None],
    ) -> None:
        self.world = world
        self.plan = plan
        self.clients = clients
        """The client processes of this moment."""
        self.crash_client = crash_client
        self.chance: random.Random = world.chance.stream("faults")
        self.over = False
        """Nothing that an act left to be done later happens any more."""

    def note(self, text: str) -> None:
        self.world.trace.add("*", text)

    def servers(self) -> list[str]:
        return list(map(str, self.world.machines))

    def client_names(self) -> list[str]:
        return [client.name for client in self.clients()]

    def everybody(self) -> list[str]:
        return self.servers() + self.client_names()

    def machine(self) -> Machine:
        """Any machine, running or not."""
        return self.chance.choice(list(self.world.machines.values()))

    def running_machine(self) -> Machine | None:
        """A running server, the leader more often than chance would have it."""
        running = [machine for machine in self.world.machines.values() if machine.running]
        if not running:
            return None
        leader = self.leader()
        if leader is not None and self.chance.random() < 0.4:
            return leader
        return self.chance.choice(running)

    def leader(self) -> Machine | None:
        """Who leads; the newest of several."""
        found: Machine | None = None
        for machine in self.world.machines.values():
            if machine.running and machine.server is not None and machine.server.replica.core.role is Role.LEADER:
                assert found is None or found.server is not None
                if found is None or machine.server.replica.core.term > found.server.replica.core.term:  # type: ignore[union-attr]
                    found = machine
        return found

    def for_some_time(self) -> float:
        return self.chance.expovariate(1.0 / self.plan.cut_seconds)

    def cut(self, ways: Ways, seconds: float) -> None:
        """Cut some ways for some time."""
        for way in ways:
            self.world.links.cut(*way)
        self.later(seconds, self._mend, ways)

    def clog(self, ways: Ways, seconds: float) -> None:
        """Let everything on some ways stand still for some time."""
        for way in ways:
            self.world.links.clog(*way)
        self.later(seconds, self.world.links.unclog, ways)

    def later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        """Do something after some time, unless all is over by then."""
        self.world.links.later(seconds, self._if_not_over, callback, arguments)

    def _if_not_over(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if not self.over:
            callback(*arguments)

    def _mend(self, ways: Ways) -> None:
        self.note("a partition ends")
        self.world.links.mend(ways)


Act = Callable[[Chaos], bool]
"""Makes one fault happen; False when there is nobody whom it could hit."""


class Faults:
    """Makes the faults of a plan happen."""

    def __init__(self, chaos: Chaos, acts: dict[str, Act], skip_events: frozenset[int]) -> None:
        self._chaos = chaos
        self._acts = acts
        self._world = chaos.world
        self._plan = chaos.plan
        self._skip = skip_events
        self._chance = chaos.world.chance.stream("faults")
        self._events = [kind for kind in EVENT_FAULTS if kind in chaos.plan.drawn]
        self._healed: list[Machine] = list(self._world.machines.values())
        """Set anew by `heal`."""
        self.events = 0
        """How many were drawn so far, those that were left out included."""

    @property
    def core(self) -> list[Machine]:
        """The servers that must come right in the end: those that were healed and did not refuse their disk."""
        return [machine for machine in self._healed if not machine.wrecked]

    def leader(self) -> Machine | None:
        """Who leads; the newest of several."""
        return self._chaos.leader()

    def begin(self) -> None:
        """Turn on what is there all the time."""
        links, plan = self._world.links, self._plan
        rates = {
            "drop": ("drop_rate", plan.drop_rate),
            "duplicate": ("duplicate_rate", plan.duplicate_rate),
            "reorder": ("reorder_rate", plan.reorder_rate),
            "replay": ("replay_rate", plan.replay_rate),
            "corrupt": ("corrupt_rate", plan.corrupt_rate),
            "half_frame": ("half_frame_rate", plan.half_frame_rate),
            "delay": ("slow_rate", plan.slow_rate),
        }
        for kind, (name, rate) in rates.items():
            if kind in plan.faults:
                setattr(links, name, rate)
        if "delay" in plan.faults:
            self._world.faults["delay"] += 1
        if "crash_point" in plan.faults:
            self._world.crash_points.arm(FIRST_START[plan.seed % len(FIRST_START)])

    async def rage(self, seconds: float) -> None:
        """Let faults happen for some time."""
        loop = self._world.loop
        end = loop.now + seconds
        while True:
            pause = self._chance.expovariate(1.0 / self._plan.fault_seconds)
            if not self._events or loop.now + pause >= end:
                await asyncio.sleep(max(0.0, end - loop.now))
                return
            await asyncio.sleep(pause)
            self._happen(self._chance.choice(self._events))

    def _happen(self, kind: str) -> None:
        number = self.events
        self.events += 1
        if kind not in self._plan.faults or number in self._skip:
            return
        self._chaos.chance = self._world.chance.stream(f"fault/{number}")
        self._world.trace.add("*", f"fault {number}: {kind}")
        if self._acts[kind](self._chaos):
            self._world.faults[kind] += 1

    def heal(self) -> None:
        """End the faults, and bring the machines back that are to come right."""
        self._chaos.over = True
        world = self._world
        world.crash_points.disarm()
        world.links.calm()
        world.links.heal()
        self._healed = self._draw_core()
        world.trace.add("*", f"{', '.join(machine.name for machine in self.core)} heal")
        for machine in world.machines.values():
            if machine in self.core:
                self._heal(machine)
            elif not machine.wrecked:
                self._abandon(machine)
        for client in self._chaos.clients():
            if client.paused:
                world.loop.resume(client)

    def _draw_core(self) -> list[Machine]:
        """Who comes right. A server whose disk has lost what it had promised may not be needed for that."""
        machines = list(self._world.machines.values())
        sound = [machine for machine in machines if not machine.rotted]
        quorum = len(machines) // 2 + 1
        assert len(sound) >= quorum, ("more disks were damaged than may be", [machine.name for machine in machines])
        if not self._plan.random_core or len(machines) == 1:
            return [machine for machine in machines if not machine.wrecked]
        drawn = self._world.chance.stream("core").sample(sound, quorum)
        return [machine for machine in machines if machine in drawn]

    def _heal(self, machine: Machine) -> None:
        world = self._world
        machine.disk.calm()
        machine.disk_seconds_mean = min(self._plan.disk_seconds, 0.002)
        machine.disk_stall_seconds = 0.0
        if machine.process is None:
            world.start(machine)
            return
        machine.process.step_seconds = 0.0
        if machine.process.paused:
            world.loop.resume(machine.process)

    def _is_known(self, leader: Machine) -> bool:
        """Whether all that come right have heard of a leader: one that has not would vote for another."""
        servers = [machine.server for machine in self.core if machine is not leader]
        return all(server is not None and server.replica.leadership.leader == leader.name for server in servers)

    def _abandon(self, machine: Machine) -> None:
        """Leave a server broken for ever, in one way or another."""
        world = self._world
        machine.abandoned = True
        fate = world.chance.stream(f"fate/{machine.name}").choice(ABANDONED)
        leader = self.leader()
        if fate == "does not hear the leader" and (
            leader is None or leader not in self.core or not self._is_known(leader)
        ):
            fate = "down"  # it might come to lead, and nothing would be wrong with that
        world.trace.add(machine.name, f"stays broken: {fate}")
        if fate == "down" or machine.process is None:
            world.crash(machine, power=True)
        elif fate == "cut off":
            for way in against_the_rest([machine.name], self._chaos.everybody()):
                world.links.cut(*way)
        elif fate == "does not hear the leader":
            assert leader is not None
            world.links.cut(leader.name, machine.name)
        elif fate == "does not hear":
            for server in self._chaos.servers():
                if server != machine.name:
                    world.links.cut(server, machine.name)
        elif fate == "stands still":
            world.loop.pause(machine.process)  # one that pauses already does not go on any more
        else:
            machine.disk_stall_seconds = FOR_EVER_SECONDS
