"""The simulated world: machines with disks, server processes on them, clients, and the wires between.

Builds the production server on simulated edges, starts it again on what a crash left on its disk, and
tells the observer what happens. The faults and the workload act through this module; it decides nothing
by itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Protocol

import anyio
from anyio.abc import ByteStream

from jkcs_client.address import Address
from jkcs_server.config import NodeConfig
from jkcs_server.server import Edges, Server, first_configuration
from journal.errors import CorruptRecord, DiskFailed, DiskFull, StorageError
from journal.limits import Limits
from journal.raft.messages import Message
from journal.storage.metadata import INCARNATION_BYTES, MARK_NAME, Identity
from journal.storage.segment import HEADER_BYTES
from journal.values import NodeId
from tests.simulation import edge
from tests.simulation.chance import Chance
from tests.simulation.crash_points import DISK_STEPS, CrashPoints, DiskSteps, send_names
from tests.simulation.disk import SimDisk
from tests.simulation.links import Links
from tests.simulation.loop import Ended, Process, SimLoop
from tests.simulation.network import Fabric, SimNetwork
from tests.simulation.plan import Plan
from tests.simulation.reach import Reach
from tests.simulation.streams import Connection
from tests.simulation.trace import Trace, Violation
from tests.simulation.worker import SimWorker

CLIENT_PORT = 2181
PEER_PORT = 2182
CONNECT_SECONDS_MAX = 3.0
WALL_START_MS = 1_700_000_000_000
CUT_OPERATIONS_MAX = 12
HAND_OVER_SECONDS = 0.5
CLOCK_RATE_ERROR_MAX = 0.05
LOST_BYTES_MAX = 6000
POINTS_OUTSIDE = ("commit.advance", "start.recovered")
"""Crash points that are reached between two callbacks, where there is nothing to unwind."""


class Observer(Protocol):
    """Who checks what happens. Any of these may raise Violation."""

    def on_boot(self, machine: Machine) -> None:
        """A server process has recovered and is about to take part."""

    def on_step(self, machine: Machine) -> None:
        """One callback of a server process has run."""

    def on_send(self, sender: NodeId, to: NodeId, message: Message) -> None: ...

    def on_connection(self, connection: Connection) -> None:
        """A client is about to talk to a server."""


class Machine:
    """One simulated computer: its disk stays, its server process comes and goes."""

    def __init__(self, name: NodeId, disk: SimDisk) -> None:
        self.name = name
        self.disk = disk
        self.process: Process | None = None
        """The server process that runs; None between a crash and the next start."""
        self.server: Server | None = None
        """Set once the process has recovered."""
        self.network: SimNetwork | None = None
        self.workers: list[SimWorker] = []
        self.stopping = False
        """The process was told to stop."""
        self.powered = True
        """A machine without power does not even refuse connections."""
        self.starts = 0
        self.rotted = False
        """Something on its disk was damaged at rest: what it once promised may be gone."""
        self.wrecked = False
        """It refuses to start on what is left, and rightly so. It needs an operator, whom nobody plays here."""
        self.abandoned = False
        """It is never repaired again."""
        self.clock_rate = 1.0
        self.wall_skew_ms = 0
        self.disk_seconds_mean = 0.001
        self.disk_stall_seconds = 0.0
        """Added to the next job of the disk."""

    @property
    def running(self) -> bool:
        return self.server is not None and self.process is not None and not self.process.dead


class World:
    """Everything that exists in one run."""

    def __init__(self, plan: Plan, loop: SimLoop, trace: Trace, observer: Observer) -> None:
        self.plan = plan
        self.loop = loop
        loop.clocks_differ = "clock_drift" in plan.faults
        self.trace = trace
        self.observer = observer
        self.chance = Chance(plan.seed)
        self.links = Links(loop, self.chance.stream("links"))
        self.faults: Counter[str] = Counter()
        """How many of each kind have happened."""
        self.reach = Reach(lambda: self.machines)
        self.crash_points = CrashPoints(self._end_at)
        self.fabric = Fabric(self.links, plan.limits, codec=plan.codec)
        self.fabric.on_send = self._on_send
        self.fabric.on_sent = self._on_sent
        self.fabric.on_fault = self._count_fault
        self.fabric.on_refused = lambda node: self.reach.see("frame refused")
        names = tuple(NodeId(f"n{number}") for number in range(1, plan.servers + 1))
        self.machines = {name: Machine(name, SimDisk(self.chance.stream(f"disk/{name}"))) for name in names}
        for machine in self.machines.values():
            machine.disk_seconds_mean = plan.disk_seconds
            if "clock_drift" in plan.faults:
                self._count_fault("clock_drift")
                machine.clock_rate = self._draw_clock_rate(machine.name)
            self._watch_steps(machine)
        self.peers = {str(name): (str(name), PEER_PORT) for name in names}
        self.url = "jkcs://" + ",".join(f"{name}:{CLIENT_PORT}" for name in names)
        self.connections: dict[Connection, None] = {}
        self.dialed: Counter[Process] = Counter()
        """How many connections each client has had."""
        self._restart_chance = self.chance.stream("restart")
        self._worker_chance = self.chance.stream("worker")

    # Servers.

    def start(self, machine: Machine) -> None:
        """Start a server process on whatever the machine's disk holds."""
        assert machine.process is None and not machine.wrecked, machine.name
        if self.plan.edge and not machine.starts:
            self._put_before_the_edge(machine)
        machine.powered = True
        machine.stopping = False
        machine.starts += 1
        machine.process = process = Process(machine.name, rate=machine.clock_rate)
        self.trace.add(machine.name, f"starts ({machine.starts})")
        self.run_in(process, self._boot(machine, process))

    def _put_before_the_edge(self, machine: Machine) -> None:
        config = self._config(machine)
        identity = Identity(config.cluster, machine.name)
        incarnation = self.chance.stream(f"incarnation/{machine.name}").randbytes(INCARNATION_BYTES)
        configuration = first_configuration(config)
        edge.prepare(machine.disk, identity, config.limits, configuration, incarnation, self.plan.edge)

    async def _boot(self, machine: Machine, process: Process) -> None:
        self.reach.before_boot(machine)
        try:
            server = self._build(machine, process)
        except StorageError as error:
            self._on_refused(machine, process, error)
            return
        except (DiskFailed, DiskFull, Ended) as error:
            if isinstance(error, DiskFull) and not machine.rotted:
                self.fail(error)  # a full disk alone keeps nobody from starting
                return
            if not isinstance(error, Ended):
                self.reach.see("start failed by the disk")
            self.links.later(0.0, self._crash_if_same, machine, process, False)
            return
        machine.disk.fail_reads = 0  # it was not read often enough to meet the rest
        machine.server = server
        self.reach.on_boot(machine)
        self.crash_points.stand_around(machine.name, server)
        self.observer.on_boot(machine)
        if process.dead:
            return  # a crash point: on its own feet, and no further
        process.after_step = lambda: self.observer.on_step(machine)
        # Connections of the last process that nobody has told of its end are refused now.
        self._end_connections(lambda connection: connection.server.name == machine.name and connection.server.dead)
        await server.start()

    def _on_refused(self, machine: Machine, process: Process, error: StorageError) -> None:
        """A server does not start on its disk: right only where that was damaged at rest."""
        if not machine.rotted:
            self.fail(Violation("I11", f"{machine.name} cannot read its own disk: {error}"))
            return
        self.trace.add(machine.name, f"refuses to start: {error}")
        self.reach.see("start refused")
        machine.wrecked = True
        self.links.later(0.0, self._crash_if_same, machine, process, False)

    def _build(self, machine: Machine, process: Process) -> Server:
        stream = f"{machine.name}/{machine.starts}"
        machine.workers = [
            self._worker(machine, process),
            self._worker(machine, process, self.plan.background_factor),
        ]
        machine.network = SimNetwork(self.fabric, process, machine.name, tuple(self.machines))
        entropy = self.chance.stream(f"entropy/{stream}")
        edges = Edges(
            self.loop,
            machine.disk,
            machine.workers[0],
            machine.workers[1],
            machine.network,
            self.chance.stream(f"raft/{stream}"),
            lambda: self.wall_ms(machine),
            entropy.randbytes,
        )
        server = Server(self._config(machine), edges)
        server.on_failed = lambda error: self._on_failed(machine, error)
        return server

    def wall_ms(self, machine: Machine) -> int:
        """What a machine's clock shows."""
        return WALL_START_MS + int(self.loop.now * 1000) + machine.wall_skew_ms

    def _config(self, machine: Machine) -> NodeConfig:
        return NodeConfig(
            "simulated",
            machine.name,
            self.peers,
            listen=(machine.name, CLIENT_PORT),
            limits=self._limits_of(machine),
            timing=self.plan.timing,
            history_events=self.plan.history_events,
        )

    def _limits_of(self, machine: Machine) -> Limits:
        limits = self.plan.limits
        if machine is next(iter(self.machines.values())):
            limits = replace(limits, segment_bytes=self.plan.hoarder_segment_bytes)
        return limits

    def _worker(self, machine: Machine, process: Process, factor: float = 1.0) -> SimWorker:
        def crash() -> None:
            self.crash(machine, power=self._worker_chance.random() < 0.5)

        return SimWorker(self.loop, process, machine.disk, lambda: self._disk_seconds(machine, factor), crash)

    def crash(self, machine: Machine, *, power: bool = False, keep_names: bool = True) -> None:
        """End a server process at this moment; with `power` its machine too, and what was not synced.

        `keep_names` False: nothing that was done to names since their last sync survives the power cut.
        """
        process = machine.process
        if process is None:
            return
        self.reach.on_end(machine)
        self.trace.add(machine.name, "loses power" if power else "is killed")
        self.loop.crash(process)
        for worker in machine.workers:
            worker.cut_short(self._worker_chance.randint(0, CUT_OPERATIONS_MAX))
        if power:
            machine.disk.lose_power(keep_names=keep_names)
            machine.powered = False
        else:
            machine.disk.keep_cache()
        machine.process = machine.server = None
        if machine.network is not None:
            self.fabric.leave(machine.network, silent=power)
        self._end_connections(lambda connection: connection.server is process, silent=process if power else None)
        self.links.later(self._restart_chance.expovariate(1.0 / self.plan.down_seconds), self._restart, machine)

    def _restart(self, machine: Machine) -> None:
        if machine.process is None and not machine.wrecked and not machine.abandoned:
            self.start(machine)

    def rot(self, machine: Machine, prefix: str, chance: random.Random) -> bool:
        """End a server and flip a bit in one of its files."""
        if not self._may_be_damaged(machine):
            return False
        self.crash(machine, power=chance.random() < 0.5)
        names = [name for name in machine.disk.names() if name.startswith(prefix)]
        if not names or not machine.disk.rot(chance.choice(names), chance):
            return False
        machine.rotted = True
        self.trace.add(machine.name, f"a bit of its {prefix}* flips")
        return True

    def lose_tail(self, machine: Machine, chance: random.Random) -> bool:
        """End a server and take away what was written to its log last, as a disk does that lies about its syncs."""
        if not self._may_be_damaged(machine):
            return False
        self.crash(machine)
        names = [name for name in machine.disk.names() if name.startswith("log-")]
        machine.disk.write_back(MARK_NAME)
        if not names or not machine.disk.lose_tail(names[-1], HEADER_BYTES, chance.randint(1, LOST_BYTES_MAX)):
            return False
        machine.rotted = True
        self.trace.add(machine.name, f"the end of {names[-1]} is gone")
        return True

    def _may_be_damaged(self, machine: Machine) -> bool:
        """Never so many disks that data could be lost for good."""
        if "change_role" in self.plan.faults:
            return False  # how many copies there are of an entry then depends on who votes
        rotted = [one for one in self.machines.values() if one.rotted and one is not machine]
        return len(rotted) < (len(self.machines) - 1) // 2

    def stop(self, machine: Machine) -> None:
        """Stop a server in good order, as SIGTERM does, and start it again later."""
        server, process = machine.server, machine.process
        assert server is not None and process is not None, machine.name
        if machine.stopping:
            return
        machine.stopping = True
        self.trace.add(machine.name, "is told to stop")
        self.run_in(process, self._stop(machine, process, server))

    async def _stop(self, machine: Machine, process: Process, server: Server) -> None:
        await server.hand_over(HAND_OVER_SECONDS)
        await server.stop()
        self.links.later(0.0, self._crash_if_same, machine, process, False)

    def _on_failed(self, machine: Machine, error: BaseException) -> None:
        """A server has stopped by itself, which only a failing disk may make it do."""
        if not isinstance(error, DiskFailed) and not (
            machine.rotted and isinstance(error, CorruptRecord | StorageError)
        ):
            self.fail(error)
            return
        self.trace.add(machine.name, f"stops: {error}")
        # What a failed sync left is not known: the machine comes back with what is surely on its disk.
        self.links.later(0.01, self._crash_if_same, machine, machine.process, True)

    def _crash_if_same(self, machine: Machine, process: Process | None, power: bool) -> None:
        if machine.process is process:
            self.crash(machine, power=power)

    def _disk_seconds(self, machine: Machine, factor: float) -> float:
        # A job may be larger than others; a disk that hangs does so for all of them alike.
        stall, machine.disk_stall_seconds = machine.disk_stall_seconds, 0.0
        return stall + factor * self._worker_chance.expovariate(1.0 / machine.disk_seconds_mean)

    # Clients.

    def client(self, name: str) -> Process:
        """A process for a client to run in."""
        rate = self._draw_clock_rate(name) if "clock_drift" in self.plan.faults else 1.0
        return Process(name, rate=rate)

    def _draw_clock_rate(self, name: str) -> float:
        return 1.0 + self.chance.stream(f"clock/{name}").uniform(-CLOCK_RATE_ERROR_MAX, CLOCK_RATE_ERROR_MAX)

    def run_in(self, process: Process, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run code of a process. What it raises fails the run."""
        task = self.loop.spawn(process, coroutine)
        task.add_done_callback(lambda done: self._on_done(done.exception()))

    def _on_done(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Ended):
            self.fail(error)

    def dialer(self, process: Process) -> Any:
        """The way from a client's process to the servers (see `jkcs_client.dialer`)."""

        async def dial(address: Address) -> ByteStream:
            machine = self.machines[NodeId(address.host)]
            deadline = self.loop.now + CONNECT_SECONDS_MAX
            await anyio.sleep(self.links.delay())
            while not (machine.powered and self.links.is_open_both_ways(process.name, machine.name)):
                if self.loop.now > deadline:
                    raise TimeoutError(f"{address} does not answer")
                await anyio.sleep(0.25)
            await anyio.sleep(self.links.delay())
            if not machine.running:
                raise ConnectionRefusedError(f"{address} refuses")
            return self._connect(process, machine)

        return dial

    def crash_client(self, process: Process, *, silent: bool) -> None:
        self.trace.add(process.name, "vanishes" if silent else "is killed")
        self.loop.crash(process)
        self._end_connections(lambda connection: connection.client is process, silent=process if silent else None)

    def _connect(self, process: Process, machine: Machine) -> ByteStream:
        server, server_process = machine.server, machine.process
        assert server is not None and server_process is not None
        connection = Connection(self.links, process, server_process)
        connection.on_reply = lambda side: self.crash_points.reach(machine.name, f"reply.client.{side}")
        self.observer.on_connection(connection)
        self.connections[connection] = None
        self.dialed[process] += 1
        self.loop.enter(server_process, lambda: connection.open(server.accept()))
        return connection.stream

    def _end_connections(self, which: Any, *, silent: Process | None = None) -> None:
        for connection in [one for one in self.connections if which(one)]:
            del self.connections[connection]
            if silent is not None:
                connection.vanish(silent)
                self.connections[connection] = None
            else:
                connection.reset()

    # Faults that several parts share.

    def pause(self, process: Process, seconds: float) -> None:
        """Stop a process for some time, as SIGSTOP does."""
        if process.dead or process.paused:
            return
        self.trace.add(process.name, f"pauses for {seconds:.3f} s")
        self.loop.pause(process)
        self.links.later(seconds, self._resume, process, process.pauses)

    def _resume(self, process: Process, pauses: int) -> None:
        """Unless it has been paused once more since, for longer."""
        if process.paused and process.pauses == pauses and not process.dead:
            self.trace.add(process.name, "goes on")
            self.loop.resume(process)

    def reset_connection(self, chance: random.Random) -> bool:
        """Break one client's connection. False when there is none."""
        open_ones = [connection for connection in self.connections if not connection.broken]
        if open_ones:
            connection = chance.choice(open_ones)
            self.trace.add(connection.client.name, f"connection to {connection.server.name} breaks")
            del self.connections[connection]
            connection.reset()
        return bool(open_ones)

    def fail(self, error: BaseException | None) -> None:
        assert error is not None
        self.loop.fail(error)

    def _on_send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        try:
            self.observer.on_send(sender, to, message)
        except Violation as violation:
            # Raised inside the product's code, which must not have a say in it.
            self.fail(violation)
        self.reach.on_send(sender, to, message)
        self.crash_points.reach(sender, send_names(message)[0])

    def _on_sent(self, sender: NodeId, to: NodeId, message: Message) -> None:
        self.crash_points.reach(sender, send_names(message)[1])

    # What faults and checkers must know of.

    def _count_fault(self, kind: str) -> None:
        self.faults[kind] += 1

    def _watch_steps(self, machine: Machine) -> None:
        """Name what is done to a machine's disk, for the crash points."""
        steps = DiskSteps()
        step = ""

        def before(operation: str, file: str) -> None:
            nonlocal step
            # What a job still does to the disk after its process has ended is nobody's step.
            if machine.process is None or machine.process.dead:
                step = ""
                return
            starting = machine.server is None
            step = steps.name(operation, file, starting=starting)
            self.reach.on_disk_step(step, starting=starting)
            self.crash_points.reach(machine.name, f"{step}.before")

        def after(operation: str, file: str) -> None:
            if step:
                self.crash_points.reach(machine.name, f"{step}.after")

        machine.disk.on_before = before
        machine.disk.on_after = after

    def _end_at(self, node: str, name: str) -> None:
        """A server has come to a crash point that was armed."""
        machine = self.machines[NodeId(node)]
        self.trace.add(node, f"comes to {name}")
        if machine.server is None or name.rpartition(".")[0] in DISK_STEPS:
            raise Ended  # whoever runs the job, or the start, ends the machine
        self.crash(machine, power=self._worker_chance.random() < 0.5)
        if name not in POINTS_OUTSIDE:
            raise Ended
