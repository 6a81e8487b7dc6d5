"""What one seed means: the cluster's shape, its limits, and which faults it meets and how often.

Swarm testing: each seed draws its own subset of faults and its own rates, because a run that always does
everything never does much of anything; one seed in ten has no fault at all. Knows nothing of how faults
are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from random import Random

from journal.limits import Limits, Timing


class Fault(Enum):
    """Everything that may go wrong. The first six happen to messages, the rest to nodes, links and disks."""

    LOSS = "loss"
    SLOW_LINK = "slow link"
    DOUBLE = "double"
    REORDER = "reorder"
    REPLAY = "replay"
    POISON = "poison"
    ISOLATE = "isolate"
    LEADER_ALONE = "leader alone"
    HALVES = "halves"
    ONE_WAY = "one way"
    FLAPPING = "flapping"
    RESET = "reset"
    CRASH = "crash"
    CRASH_AT_EFFECT = "crash at effect"
    CRASH_LOOP = "crash loop"
    CRASH_ALL = "crash all"
    PAUSE = "pause"
    SLOW_DISK = "slow disk"
    HUNG_DISK = "hung disk"
    LOST_TAIL = "lost tail"
    CLOCK_RATE = "clock rate"
    SNAPSHOT = "snapshot"
    TRANSFER = "transfer"
    MEMBERS = "members"


MESSAGE_FAULTS = (Fault.LOSS, Fault.SLOW_LINK, Fault.DOUBLE, Fault.REORDER, Fault.REPLAY, Fault.POISON)
EVENT_FAULTS = tuple(fault for fault in Fault if fault not in MESSAGE_FAULTS and fault is not Fault.CLOCK_RATE)
SIZES = (1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5, 7)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is drawn before a run begins. Times in seconds, rates as parts of one."""

    seed: int
    voters: int
    learners: int
    joint: bool
    """The cluster begins in a joint configuration: the outgoing half are all voters but the last."""
    spares: int
    """Nodes that do not belong to the cluster yet."""
    faults: tuple[Fault, ...]
    """In the order of `Fault`."""
    storm_seconds: float
    fault_seconds: float
    """Mean time between two faults of `EVENT_FAULTS`."""
    loss: float
    doubles: float
    reorders: float
    replays: float
    poisons: float
    delay_least: float
    delay_mean: float
    write_mean: float
    down_mean: float
    cut_mean: float
    pause_mean: float
    hang_mean: float
    load_mean: float
    """Mean time between two requests of the clients."""
    read_share: float
    limits: Limits
    timing: Timing

    def describe(self) -> str:
        faults = ", ".join(fault.value for fault in self.faults) or "none"
        joint = ", joint" if self.joint else ""
        return f"{self.voters} voters, {self.learners} learners, {self.spares} spares{joint}; faults: {faults}"


def draw_plan(seed: int, only: frozenset[Fault] | None = None) -> Plan:
    """The plan of a seed; `only` allows no faults but these and leaves all other draws as they are."""
    random = Random(f"{seed}/plan")  # a string seed goes through SHA-512, which is the same in every process
    voters = random.choice(SIZES)
    faults = _draw_faults(random, voters)
    if only is not None:
        faults = tuple(fault for fault in faults if fault in only)

    def drawn(fault: Fault, values: tuple[float, ...], otherwise: float) -> float:
        """Drawn in any case, so that fewer faults change nothing else."""
        value = random.choice(values)
        return value if fault in faults else otherwise

    return Plan(
        seed=seed,
        voters=voters,
        learners=random.choice((0, 0, 0, 1, 2)) if voters > 1 else 0,
        joint=voters > 3 and random.random() < 0.2,
        faults=faults,
        spares=int(drawn(Fault.MEMBERS, (1, 2, 3), 0)),
        storm_seconds=random.choice((10.0, 20.0, 40.0)),
        fault_seconds=random.choice((0.15, 0.4, 0.8, 1.5)),
        loss=drawn(Fault.LOSS, (0.01, 0.05, 0.3), 0.0),
        doubles=drawn(Fault.DOUBLE, (0.01, 0.1), 0.0),
        reorders=drawn(Fault.REORDER, (0.05, 1.0), 0.0),
        replays=drawn(Fault.REPLAY, (0.01, 0.05), 0.0),
        poisons=drawn(Fault.POISON, (0.002, 0.02), 0.0),
        delay_least=random.choice((0.0001, 0.0005)),
        delay_mean=drawn(Fault.SLOW_LINK, (0.01, 0.05, 0.1), 0.0005),
        write_mean=drawn(Fault.SLOW_DISK, (0.02, 0.1), random.choice((0.0002, 0.002))),
        down_mean=random.choice((0.05, 0.5, 3.0)),
        cut_mean=random.choice((0.3, 1.0, 3.0)),
        pause_mean=random.choice((0.1, 0.7, 3.0)),
        hang_mean=random.choice((0.1, 1.0, 3.0)),
        load_mean=random.choice((0.02, 0.05, 0.1)),
        read_share=random.choice((0.0, 0.2, 0.5)),
        limits=_draw_limits(random),
        timing=Timing(),
    )


def _draw_faults(random: Random, voters: int) -> tuple[Fault, ...]:
    if random.random() < 0.1:
        return ()
    share = random.choice((0.2, 0.4, 0.8))
    faults = [fault for fault in Fault if random.random() < share]
    if voters < 3:
        # Such a cluster refuses to work with a lost tail: nobody has what was lost.
        faults = [fault for fault in faults if fault is not Fault.LOST_TAIL]
    return tuple(faults)


def _draw_limits(random: Random) -> Limits:
    """Small ones, so that pages, windows and memory end within a run."""
    return Limits(
        append_bytes_max=random.choice((150, 400, 4000)),
        appends_in_flight_max=random.choice((1, 2, 4)),
        apply_bytes_max=random.choice((100, 300, 4000)),
        log_memory_bytes_max=random.choice((400, 2000, 20_000)),
        uncommitted_bytes_max=random.choice((400, 4000, 40_000)),
        reads_waiting_max=random.choice((3, 100)),
    )
