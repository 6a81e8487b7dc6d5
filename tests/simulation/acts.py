"""One function per kind of fault: what it does to the world at the moment it is drawn.

Each takes the `Chaos` of the run, with chance of its own for this event, acts on the world through its public
methods only, and says whether there was anybody to hit. `ACTS` is the table of them.
"""

from __future__ import annotations

from collections.abc import Callable

from journal.errors import Busy, ChangeRefused, DiskFailed, NotLeader
from journal.replica import Replica
from journal.storage.metadata import MARK_NAME
from journal.values import NodeId
from tests.simulation import partitions
from tests.simulation.crash_points import NAMES
from tests.simulation.faults import Act, Chaos
from tests.simulation.loop import Process
from tests.simulation.world import Machine

SERVER_PAUSE_SECONDS_MAX = 3.0
CLIENT_PAUSE_SECONDS_MAX = 6.0
SLOW_DISK_SECONDS_MEAN = 0.08
HUNG_DISK_SECONDS_MAX = 4.0
SLOW_STEP_SECONDS_MAX = 0.004
SLOW_CPU_SECONDS_MAX = 3.0
FULL_DISK_SECONDS_MEAN = 1.5
UNREADABLE_MAX = 3
CRASH_POINT_AHEAD_MAX = 40
CRASH_LOOP_MAX = 6
ARMED = 4
CRASH_LOOP_SECONDS_MEAN = 0.15
CLOCK_JUMP_MS_MAX = 86_400_000
STROBES = 30
STROBE_SECONDS = 0.05
STROBE_MS_MAX = 500
FLAPS = 8

# The network.


def _cut(chaos: Chaos, what: str, group: list[str], ways: partitions.Ways) -> bool:
    if not ways:
        return False
    chaos.note(f"{what}: {','.join(sorted(group))}")
    chaos.cut(ways, chaos.for_some_time())
    return True


def _partition(chaos: Chaos) -> bool:
    return _cut(chaos, "cut off", *partitions.single(chaos.chance, chaos.everybody()))


def _halves(chaos: Chaos) -> bool:
    return _cut(chaos, "against the rest", *partitions.halves(chaos.chance, chaos.everybody()))


def _leader_alone(chaos: Chaos) -> bool:
    leader = chaos.leader()
    if leader is None or len(chaos.world.machines) == 1:
        return False
    names = chaos.client_names()
    return _cut(
        chaos,
        "leader and clients alone",
        *partitions.leader_with_clients(chaos.chance, leader.name, names, chaos.everybody()),
    )


def _without_leader(chaos: Chaos) -> bool:
    leader = chaos.leader()
    if leader is None or len(chaos.world.machines) == 1:
        return False
    shape = partitions.majority_without_leader(chaos.chance, leader.name, chaos.servers(), chaos.everybody())
    return _cut(chaos, "leader and a minority alone", *shape)


def _bridge(chaos: Chaos) -> bool:
    return _cut(chaos, "in a row or ring", *partitions.bridge(chaos.chance, chaos.servers()))


def _one_way(chaos: Chaos) -> bool:
    one, others, outward, ways = partitions.one_way(chaos.chance, chaos.everybody())
    chaos.note(f"{one} {'is not heard by' if outward else 'does not hear'} {','.join(others)}")
    chaos.cut(ways, chaos.for_some_time())
    return bool(ways)


def _flapping(chaos: Chaos) -> bool:
    """The same cut, again and again."""
    group, ways = partitions.single(chaos.chance, chaos.servers())
    if not ways:
        return False
    chaos.note(f"flaps: {','.join(group)}")
    at = 0.0
    for _ in range(chaos.chance.randint(2, FLAPS)):
        seconds = chaos.chance.uniform(0.05, 0.8)
        chaos.later(at, chaos.cut, ways, seconds)
        at += seconds + chaos.chance.uniform(0.05, 0.8)
    return True


def _client_cut(chaos: Chaos) -> bool:
    shape = partitions.clients_only(chaos.chance, chaos.client_names(), chaos.servers())
    return _cut(chaos, "clients without servers", *shape)


def _clog(chaos: Chaos) -> bool:
    names = chaos.everybody()
    one, other = chaos.chance.sample(names, 2)
    ways = [(one, other)] if chaos.chance.random() < 0.5 else [(one, other), (other, one)]
    chaos.note(f"clogged: {one} to {other}")
    chaos.clog(ways, chaos.for_some_time())
    return True


def _swizzle_clog(chaos: Chaos) -> bool:
    """Servers are clogged one after another, and open again in another order."""
    names = [name for name in chaos.servers() if chaos.chance.random() < 0.7] or chaos.servers()[:1]
    end = chaos.for_some_time() + 0.2
    chaos.note(f"swizzled: {','.join(names)}")
    for name in names:
        start = chaos.chance.uniform(0.0, end / 2)
        ways = partitions.against_the_rest([name], chaos.everybody())
        chaos.later(start, chaos.clog, ways, chaos.chance.uniform(end / 2, end) - start)
    return True


def _reset(chaos: Chaos) -> bool:
    names = list(chaos.world.machines)
    if len(names) > 1 and chaos.chance.random() < 0.5:
        one, other = chaos.chance.sample(names, 2)
        chaos.note(f"connections between {one} and {other} break")
        chaos.world.fabric.reset(one, other)
        return True
    return chaos.world.reset_connection(chaos.chance)


# Processes and machines.


def _crash(chaos: Chaos) -> bool:
    """kill -9 of a server."""
    machine = chaos.running_machine()
    if machine is not None:
        chaos.world.crash(machine)
    return machine is not None


def _crash_loop(chaos: Chaos) -> bool:
    """A server that is killed each time it is back for a moment."""
    machine = chaos.running_machine()
    if machine is None:
        return False
    at = 0.0
    for _ in range(chaos.chance.randint(2, CRASH_LOOP_MAX)):
        chaos.later(at, _crash_and_start, chaos, machine, chaos.chance.random() < 0.3)
        at += chaos.chance.expovariate(1.0 / CRASH_LOOP_SECONDS_MEAN)
    return True


def _crash_and_start(chaos: Chaos, machine: Machine, power: bool) -> None:
    chaos.world.crash(machine, power=power)
    if machine.process is None and not machine.wrecked:
        chaos.world.start(machine)


def _crash_all(chaos: Chaos) -> bool:
    for machine in chaos.world.machines.values():
        chaos.world.crash(machine)
    return True


def _power(chaos: Chaos) -> bool:
    machine = chaos.running_machine()
    if machine is not None:
        chaos.world.crash(machine, power=True)
    return machine is not None


def _power_all(chaos: Chaos) -> bool:
    for machine in chaos.world.machines.values():
        chaos.world.crash(machine, power=True)
    return True


def _lost_names(chaos: Chaos) -> bool:
    """A power cut after which no rename, create or remove that was not synced has happened."""
    machine = chaos.running_machine()
    if machine is not None:
        chaos.world.crash(machine, power=True, keep_names=False)
    return machine is not None


def _restart(chaos: Chaos) -> bool:
    """SIGTERM, and a start some time later."""
    machine = chaos.running_machine()
    if machine is not None:
        chaos.world.stop(machine)
    return machine is not None


def _crash_point(chaos: Chaos) -> bool:
    """Crash at a named place, or between two particular operations on a disk."""
    if chaos.chance.random() < 0.8:
        points = chaos.world.crash_points
        # One that is certain to come again, and a few of which this is the seed to come to them.
        agenda = chaos.plan.agenda
        for name in (chaos.chance.choice(points.rarest() or NAMES), *chaos.chance.sample(agenda, ARMED)):
            chaos.note(f"armed: {name}")
            points.arm(name)
        return True
    machine = chaos.running_machine()
    if machine is not None:
        machine.disk.crash_at = machine.disk.operations + chaos.chance.randint(0, CRASH_POINT_AHEAD_MAX)
    return machine is not None


def _pause_server(chaos: Chaos) -> bool:
    machine = chaos.running_machine()
    if machine is None or machine.process is None:
        return False
    chaos.world.pause(machine.process, chaos.chance.uniform(0.05, SERVER_PAUSE_SECONDS_MAX))
    return True


def _slow_cpu(chaos: Chaos) -> bool:
    """Each callback of a server takes its time, and the next one waits for it."""
    machine = chaos.running_machine()
    if machine is None or machine.process is None:
        return False
    machine.process.step_seconds = chaos.chance.uniform(0.0002, SLOW_STEP_SECONDS_MAX)
    chaos.world.trace.add(machine.name, f"takes {machine.process.step_seconds:.4f} s for each step")
    chaos.later(chaos.chance.uniform(0.1, SLOW_CPU_SECONDS_MAX), _full_speed, machine.process)
    return True


def _full_speed(process: Process) -> None:
    process.step_seconds = 0.0


def _pause_client(chaos: Chaos) -> bool:
    clients = chaos.clients()
    if clients:
        chaos.world.pause(chaos.chance.choice(clients), chaos.chance.uniform(0.05, CLIENT_PAUSE_SECONDS_MAX))
    return bool(clients)


def _crash_client(chaos: Chaos) -> bool:
    clients = chaos.clients()
    if clients:
        chaos.crash_client(chaos.chance.choice(clients), silent=chaos.chance.random() < 0.5)
    return bool(clients)


# Disks.


def _slow_disk(chaos: Chaos) -> bool:
    machine = chaos.machine()
    machine.disk_seconds_mean = chaos.chance.expovariate(1.0 / SLOW_DISK_SECONDS_MEAN) + 0.001
    chaos.world.trace.add(machine.name, f"disk takes {machine.disk_seconds_mean:.3f} s")
    return True


def _hung_disk(chaos: Chaos) -> bool:
    machine = chaos.machine()
    machine.disk_stall_seconds = chaos.chance.uniform(0.2, HUNG_DISK_SECONDS_MAX)
    chaos.world.trace.add(machine.name, f"disk hangs for {machine.disk_stall_seconds:.3f} s")
    return True


def _failing_disk(chaos: Chaos) -> bool:
    machine = chaos.running_machine()
    if machine is not None:
        machine.disk.fail_next = DiskFailed("input/output error")
    return machine is not None


def _failing_sync(chaos: Chaos) -> bool:
    machine = chaos.running_machine()
    if machine is not None:
        machine.disk.fail_sync = True
    return machine is not None


def _unreadable_disk(chaos: Chaos) -> bool:
    """A server is killed, and its disk cannot be read when it starts."""
    machine = chaos.running_machine()
    if machine is not None:
        chaos.world.crash(machine)
        machine.disk.fail_reads = chaos.chance.randint(1, UNREADABLE_MAX)
    return machine is not None


def _disk_full(chaos: Chaos) -> bool:
    machine = chaos.running_machine()
    if machine is None:
        return False
    machine.disk.full = True
    chaos.world.trace.add(machine.name, "disk is full")
    chaos.later(chaos.chance.expovariate(1.0 / FULL_DISK_SECONDS_MEAN), _room_again, chaos, machine)
    return True


def _room_again(chaos: Chaos, machine: Machine) -> None:
    machine.disk.full = False
    chaos.world.trace.add(machine.name, "disk has room again")


def _rot_log(chaos: Chaos) -> bool:
    return _rot(chaos, "log-")


def _rot_snapshot(chaos: Chaos) -> bool:
    return _rot(chaos, "snap-")


def _lost_mark(chaos: Chaos) -> bool:
    return _rot(chaos, MARK_NAME)


def _lost_tail(chaos: Chaos) -> bool:
    """A server is ended, and the end of its log, which its disk had promised to keep, is gone."""
    machine = chaos.running_machine()
    return machine is not None and chaos.world.lose_tail(machine, chaos.chance)


def _rot(chaos: Chaos, prefix: str) -> bool:
    """A server is ended, and a bit of its log or of a snapshot flips before it is back."""
    machine = chaos.running_machine()
    return machine is not None and chaos.world.rot(machine, prefix, chaos.chance)


# Clocks.


def _clock_jump(chaos: Chaos) -> bool:
    machine = chaos.machine()
    machine.wall_skew_ms = chaos.chance.randint(-CLOCK_JUMP_MS_MAX, CLOCK_JUMP_MS_MAX)
    chaos.world.trace.add(machine.name, f"wall clock jumps by {machine.wall_skew_ms} ms")
    return True


def _clock_strobe(chaos: Chaos) -> bool:
    """The wall clock goes to and fro."""
    machine = chaos.machine()
    home = machine.wall_skew_ms
    chaos.world.trace.add(machine.name, "wall clock strobes")
    for number in range(STROBES):
        skew = home if number == STROBES - 1 else home + chaos.chance.randint(-STROBE_MS_MAX, STROBE_MS_MAX)
        chaos.later(number * STROBE_SECONDS, setattr, machine, "wall_skew_ms", skew)
    return True


# Administration.


def _transfer(chaos: Chaos) -> bool:
    """The leader is asked to hand over, without being stopped; now and then to one whom it, or nobody, can hear."""
    leader = chaos.leader()
    if leader is None or leader.server is None or leader.process is None:
        return False
    replica = leader.server.replica
    chaos.world.loop.enter(leader.process, replica.hand_over)
    heir = replica.core._leader._transferee if replica.core._leader is not None else None
    if heir is not None and chaos.chance.random() < 0.4:
        deaf = [leader.name] if chaos.chance.random() < 0.5 else [name for name in chaos.servers() if name != heir]
        chaos.note(f"{heir} is not heard by {','.join(deaf)}")
        chaos.cut([(str(heir), other) for other in deaf], chaos.for_some_time())
    return True


def _snapshot_now(chaos: Chaos) -> bool:
    """A SNAPSHOT entry although none is due."""
    leader = chaos.leader()
    if leader is None or leader.server is None or leader.process is None:
        return False
    chaos.world.loop.enter(leader.process, leader.server.replica.take_snapshot)
    return True


def _change_role(chaos: Chaos) -> bool:
    """A voter becomes an observer, or the observer a voter again: at most one at a time."""
    leader = chaos.leader()
    if leader is None or len(chaos.world.machines) < 3:
        return False
    node = NodeId(chaos.chance.choice(chaos.servers()))

    def change(replica: Replica, now: float) -> None:
        observers = replica.core.configuration.observers
        replica.core.convert_role(*((observers[0], "voter") if observers else (node, "observer")), "", now)

    return _administer(chaos, leader, change)


def _prefer_leader(chaos: Chaos) -> bool:
    """Somebody shall lead whenever he can, or nobody in particular."""
    leader = chaos.leader()
    if leader is None:
        return False
    node = chaos.chance.choice([None, *map(NodeId, chaos.servers())])
    return _administer(chaos, leader, lambda replica, now: replica.core.set_preferred_leader(node, now))


def _administer(chaos: Chaos, leader: Machine, change: Callable[[Replica, float], object]) -> bool:
    """Let the leader's process make a change, which it may refuse."""
    if leader.server is None or leader.process is None:
        return False
    replica = leader.server.replica

    def act() -> None:
        try:
            change(replica, chaos.world.loop.time())
        except (Busy, ChangeRefused, NotLeader) as error:
            chaos.world.trace.add(leader.name, f"refuses a change: {error}")
        replica.kick()

    chaos.world.loop.enter(leader.process, act)
    return True


ACTS: dict[str, Act] = {
    "partition": _partition,
    "halves": _halves,
    "leader_alone": _leader_alone,
    "without_leader": _without_leader,
    "bridge": _bridge,
    "one_way": _one_way,
    "flapping": _flapping,
    "client_cut": _client_cut,
    "clog": _clog,
    "swizzle_clog": _swizzle_clog,
    "reset": _reset,
    "crash": _crash,
    "crash_loop": _crash_loop,
    "crash_all": _crash_all,
    "power": _power,
    "power_all": _power_all,
    "lost_names": _lost_names,
    "restart": _restart,
    "crash_point": _crash_point,
    "pause_server": _pause_server,
    "slow_cpu": _slow_cpu,
    "pause_client": _pause_client,
    "crash_client": _crash_client,
    "slow_disk": _slow_disk,
    "hung_disk": _hung_disk,
    "failing_disk": _failing_disk,
    "failing_sync": _failing_sync,
    "unreadable_disk": _unreadable_disk,
    "disk_full": _disk_full,
    "rot_log": _rot_log,
    "rot_snapshot": _rot_snapshot,
    "lost_tail": _lost_tail,
    "lost_mark": _lost_mark,
    "clock_jump": _clock_jump,
    "clock_strobe": _clock_strobe,
    "transfer": _transfer,
    "snapshot_now": _snapshot_now,
    "change_role": _change_role,
    "prefer_leader": _prefer_leader,
}
