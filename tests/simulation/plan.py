"""What one seed means: the cluster's shape, its limits, and which faults it meets and how often.

Swarm testing: each seed draws its own subset of faults, because a run that always does everything never
does much of anything; one seed in ten has none. Knows nothing of how faults are made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import gcd

from journal.limits import Limits, Timing
from tests.simulation.chance import Chance
from tests.simulation.crash_points import AROUND_MOVES, AROUND_SNAPSHOTS, NAMES
from tests.simulation.edge import EDGES

SERVERS = (3, 3, 3, 3, 3, 3, 3, 5, 1)
CHAOS_SECONDS = 20.0
KIB = 1024
PACES = (1.0, 5.0, 10.0, 10.0, 20.0, 20.0)
"""A busy run meets more races, a calm one more faults in the same time of our processor."""

PACKET_FAULTS = ("drop", "delay", "duplicate", "reorder", "replay", "corrupt", "half_frame")
"""There all the time, each packet with some chance."""
LINK_FAULTS = (
    *("partition", "halves", "leader_alone", "without_leader", "bridge", "one_way", "flapping", "client_cut"),
    *("clog", "swizzle_clog", "reset"),
)
PROCESS_FAULTS = (
    *("crash", "crash_loop", "crash_all", "power", "power_all", "lost_names", "restart", "crash_point"),
    *("pause_server", "slow_cpu", "pause_client", "crash_client"),
)
DISK_FAULTS = (
    *("slow_disk", "hung_disk", "failing_disk", "failing_sync", "unreadable_disk", "disk_full"),
    *("rot_log", "rot_snapshot", "lost_tail", "lost_mark"),
)
CLOCK_FAULTS = ("clock_jump", "clock_strobe", "clock_drift")
ADMIN_FAULTS = ("transfer", "snapshot_now", "prefer_leader", "change_role")
EVENT_FAULTS = (
    *LINK_FAULTS,
    *PROCESS_FAULTS,
    *DISK_FAULTS,
    *(kind for kind in CLOCK_FAULTS if kind != "clock_drift"),
    *ADMIN_FAULTS,
)
"""What happens at some moments; each is a row of a table in `faults.py`."""
ALL_FAULTS = PACKET_FAULTS + LINK_FAULTS + PROCESS_FAULTS + DISK_FAULTS + CLOCK_FAULTS + ADMIN_FAULTS
ROLES = (
    *("registers", "registers", "directories", "directories", "tree", "reader", "watcher", "watcher"),
    *("locker", "locker", "locker", "reckless", "quitter", "sleeper", "sleeper"),
)
"""What the clients do, one each."""
FAR_BEHIND_ROLES = ("registers",) * 4 + ("reader", "watcher", "watcher", "tree", "locker", "sleeper")
ZOOKEEPER_ROLES = ("zookeeper registers", "zookeeper ephemerals", "zookeeper watcher")
"""Some seeds have one or two of these clients besides, which speak the other protocol."""
ZOOKEEPER_RATE = 0.35
RARE_ROLES = ("owner", "owner", "stranger", "insider", "lifetimes", "lifetimes", "quotas")
"""What more clients do in a part of all seeds: permissions, lifetimes, quotas."""
RARE_RATE = 0.35
CODEC_EVERY = 10
"""One seed in so many lets servers talk through the production codec."""
CORE_EVERY = 3
"""One seed in so many heals no more servers than it must."""
FAR_BEHIND_EVERY, FAR_BEHIND_AT = 6, 4
"""One seed in so many keeps little of its log and writes much: who was away needs a snapshot."""
FAR_BEHIND_FAULTS = (
    *("partition", "without_leader", "crash_loop", "restart", "drop", "transfer", "slow_disk", "power_all"),
    *("pause_server", "lost_tail", "clog", "disk_full", "crash_all", "replay", "replay", "hung_disk", "rot_snapshot"),
)
EDGE_EVERY, EDGE_AT = 14, 9
"""One seed in so many begins right before counters pass 31 or 32 bits."""
AGENDA = 10
"""Crash points that one seed looks for."""
LARGE_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is drawn before a run begins."""

    seed: int
    servers: int
    faults: tuple[str, ...]
    """Sorted."""
    drawn: tuple[str, ...]
    """Those that the seed drew, of which `faults` may be a part. Sorted. An event is drawn from these even
    when it is then left out, so that leaving some out does not change what and when the others are."""
    roles: tuple[str, ...]
    """What each client does."""
    far_behind: bool
    """Servers fall so far behind that only a snapshot brings them back."""
    edge: int
    """A number that index, term and sequences are about to pass; 0: they begin at the beginning."""
    agenda: tuple[str, ...]
    """Crash points that this seed looks for more than for others."""
    write_bytes: tuple[int, ...]
    """Sizes of what is written to registers. Large ones fill the log's segments, so that it is cut."""
    pace: float
    """How much longer than at the busiest the clients wait between their calls."""
    codec: bool
    """Servers' messages travel as the production codec's bytes."""
    random_core: bool
    """In the end only as many servers are healed as are needed to go on; the others stay as they are."""
    fault_seconds: float
    chaos_seconds: float
    drop_rate: float
    duplicate_rate: float
    reorder_rate: float
    replay_rate: float
    corrupt_rate: float
    half_frame_rate: float
    slow_rate: float
    disk_seconds: float
    """Mean duration of a sync."""
    down_seconds: float
    """Mean time from a crash to the next start."""
    cut_seconds: float
    """Mean duration of a partition."""
    background_factor: float
    """How much slower the disk is for what is not urgent."""
    limits: Limits
    hoarder_segment_bytes: int
    """Of the first server: with larger segments than the others it keeps more of its log."""
    timing: Timing
    history_events: int

    def describe(self) -> str:
        return (
            f"{self.servers} servers, pace 1/{self.pace:g}, faults: {', '.join(self.faults) or 'none'}; "
            f"snapshot every {self.limits.snapshot_entries}, segments of {self.limits.segment_bytes}"
        )


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What is taken away from a seed's plan, to see how little of it still fails. None: nothing."""

    faults: frozenset[str] | None = None
    skip_events: frozenset[int] = frozenset()
    """Numbers of single fault events that do not happen."""
    roles: tuple[str, ...] | None = None
    servers: int | None = None
    seconds: float | None = None
    """Of chaos."""

    def options(self) -> str:
        """The command line's options that say the same."""
        parts = []
        if self.faults is not None:
            parts.append(f"--faults {','.join(sorted(self.faults)) or 'none'}")
        if self.skip_events:
            parts.append(f"--skip-events {ranges_of(self.skip_events)}")
        if self.roles is not None:
            parts.append(f"--roles {','.join(self.roles) or 'none'}")
        if self.servers is not None:
            parts.append(f"--servers {self.servers}")
        if self.seconds is not None:
            parts.append(f"--seconds {self.seconds:g}")
        return " ".join(parts)


def ranges_of(numbers: frozenset[int]) -> str:
    """`1,4-9` for 1 and 4 to 9."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def numbers_in(text: str) -> frozenset[int]:
    """The reverse of `ranges_of`. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


NOTHING_TAKEN = Narrowing()


def draw(seed: int, narrowing: Narrowing = NOTHING_TAKEN) -> Plan:
    """The plan of a seed, or of what is left of it."""
    faults = narrowing.faults
    chance = Chance(seed).stream("plan")
    drawn = _draw_faults(chance)
    servers = chance.choice(SERVERS)
    far_behind = seed % FAR_BEHIND_EVERY == FAR_BEHIND_AT
    if far_behind:
        drawn |= {"crash", "power", "crash_point", *Chance(seed).stream("far behind").sample(FAR_BEHIND_FAULTS, 5)}
    kept = drawn if faults is None else drawn & faults
    chaos_seconds = CHAOS_SECONDS * chance.uniform(0.5, 1.5)
    plan = Plan(
        seed=seed,
        servers=servers if narrowing.servers is None else narrowing.servers,
        faults=tuple(sorted(kept)),
        drawn=tuple(sorted(drawn)),
        roles=_roles(seed, far_behind) if narrowing.roles is None else narrowing.roles,
        far_behind=far_behind,
        edge=EDGES[seed // EDGE_EVERY % len(EDGES)] if seed % EDGE_EVERY == EDGE_AT else 0,
        agenda=_draw_agenda(seed, far_behind),
        write_bytes=(LARGE_BYTES,) if far_behind else (0, 0, LARGE_BYTES),
        pace=chance.choice(PACES),
        codec=seed % CODEC_EVERY == 0 or bool(drawn & {"corrupt", "half_frame"}),
        # A quorum of fewer voters is another one: then all are healed.
        random_core=seed % CORE_EVERY == 0 and "change_role" not in drawn,
        fault_seconds=chance.choice((0.4, 1.0, 2.0)),
        chaos_seconds=chaos_seconds if narrowing.seconds is None else narrowing.seconds,
        drop_rate=chance.choice((0.01, 0.05, 0.2)),
        duplicate_rate=chance.choice((0.02, 0.2)),
        reorder_rate=chance.choice((0.05, 0.3)),
        replay_rate=chance.choice((0.01, 0.1)),
        corrupt_rate=chance.choice((0.001, 0.01)),
        half_frame_rate=chance.choice((0.001, 0.01)),
        slow_rate=chance.choice((0.01, 0.05, 0.2)),
        disk_seconds=chance.choice((0.0005, 0.002, 0.01)),
        down_seconds=chance.choice((0.1, 0.8, 3.0, 6.0)),
        cut_seconds=chance.choice((0.3, 1.5, 4.0, 8.0)),
        background_factor=1.0,
        limits=(limits := _draw_limits(chance)),
        hoarder_segment_bytes=limits.segment_bytes,
        # With few heartbeats in an election timeout an isolated leader stays in office longer than it should.
        timing=Timing(heartbeat_interval=chance.choice((0.05, 0.1, 0.19))),
        history_events=chance.choice((50, 1000, 100_000)),
    )
    if far_behind:
        plan = _fall_behind(plan, narrowing.servers)
    plan.limits.check()
    return plan


def _roles(seed: int, far_behind: bool) -> tuple[str, ...]:
    usual = FAR_BEHIND_ROLES if far_behind else ROLES
    # By streams of their own, and behind the others: those keep their numbers, and what they draw.
    rare = RARE_ROLES if Chance(seed).stream("rare roles").random() < RARE_RATE else ()
    return usual + _draw_zookeeper_roles(seed) + rare


def _draw_zookeeper_roles(seed: int) -> tuple[str, ...]:
    chance = Chance(seed).stream("draw zookeeper")
    if chance.random() >= ZOOKEEPER_RATE:
        return ()
    return tuple(chance.sample(ZOOKEEPER_ROLES, chance.randint(1, 2)))


def _draw_agenda(seed: int, far_behind: bool) -> tuple[str, ...]:
    """Some names of all, one after another from seed to seed, so that every one has its turn; and those that only
    clients of ZooKeeper's protocol lead to, where there are some."""
    names = AROUND_SNAPSHOTS if far_behind else tuple(name for name in NAMES if name not in AROUND_MOVES)
    moves = AROUND_MOVES if not far_behind and _draw_zookeeper_roles(seed) else ()
    return _draw_names(seed, names, far_behind) + moves


def _draw_names(seed: int, names: tuple[str, ...], far_behind: bool) -> tuple[str, ...]:
    # Those of one seed lie far apart: a server that is ended at each step of a row never gets to its end.
    stride = next(step for step in range(len(names) // AGENDA + 1, len(names)) if gcd(step, len(names)) == 1)
    first = seed // FAR_BEHIND_EVERY if far_behind else seed
    return tuple(names[(first + number * stride) % len(names)] for number in range(AGENDA))


def _fall_behind(plan: Plan, servers: int | None) -> Plan:
    """Much is written, little is kept, and whoever is away is away for long."""
    chance = Chance(plan.seed).stream("far behind/limits")
    record = 16 * KIB
    return replace(
        plan,
        servers=max(plan.servers, 3) if servers is None else servers,
        pace=2.0,
        fault_seconds=1.0,
        down_seconds=chance.choice((0.8, 2.0, 4.0)),
        cut_seconds=chance.choice((1.5, 4.0)),
        disk_seconds=chance.choice((0.002, 0.01)),
        background_factor=chance.choice((1.0, 10.0, 30.0)),
        hoarder_segment_bytes=32 * record,
        limits=replace(
            plan.limits,
            record_bytes_max=record,
            append_bytes_max=min(plan.limits.append_bytes_max, record),
            segment_bytes=2 * record,
            snapshot_entries=20,
            snapshot_chunk_bytes=chance.choice((256, 1024, 4 * KIB, 64 * KIB)),
        ),
    )


def _draw_faults(chance: random.Random) -> frozenset[str]:
    if chance.random() < 0.1:
        return frozenset()
    rate = chance.choice((0.08, 0.2, 0.4))
    # Of crash points there are many, and an armed one may not be met.
    rates = {"crash_point": min(1.0, 2.5 * rate)}
    return frozenset(kind for kind in ALL_FAULTS if chance.random() < rates.get(kind, rate))


def _draw_limits(chance: random.Random) -> Limits:
    """Small sizes, so that a short run meets what a large cluster meets in a year."""
    # Not less: the whole state, in one chunk of a snapshot, must fit into two records.
    record = chance.choice((16 * KIB, 16 * KIB, 64 * KIB))
    return Limits(
        record_bytes_max=record,
        append_bytes_max=chance.choice((512, record)),
        appends_in_flight_max=chance.choice((1, 2, 4)),
        uncommitted_bytes_max=chance.choice((64 * KIB, 1024 * KIB)),
        apply_bytes_max=chance.choice((1, 2 * KIB, 1024 * KIB)),
        log_memory_bytes_max=chance.choice((1, 4 * KIB, 1024 * KIB)),
        segment_bytes=record * chance.choice((2, 4)),
        snapshot_entries=chance.choice((20, 20, 50, 100, 400, 100_000)),
        snapshot_seconds=chance.choice((1, 4, 3600, 3600)),
        snapshot_chunk_bytes=chance.choice((256, 4 * KIB)),
        snapshot_chunks_in_flight_max=chance.choice((1, 4)),
        peer_frame_bytes_max=1024 * KIB,
        proposals_bytes_max=chance.choice((4 * KIB, 1024 * KIB)),
    )
