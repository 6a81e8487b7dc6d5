"""What one seed means: the cluster's shape, its limits, and which faults it meets and how often.

Swarm testing: each seed draws its own subset of faults, because a run that always does everything never
does much of anything; one seed in ten has none. Knows nothing of how faults are made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from journal.limits import Limits, Timing
from tests.simulation.chance import Chance

SERVERS = (3, 3, 3, 3, 3, 3, 5, 5, 1)
CHAOS_SECONDS = 12.0
KIB = 1024

PACKET_FAULTS = ("drop", "delay", "duplicate", "reorder")
EVENT_FAULTS = (
    *("partition", "one_way", "reset"),
    *("crash", "power", "restart", "pause_server"),
    *("pause_client", "crash_client"),
)
DISK_FAULTS = ("slow_disk", "hung_disk", "failing_disk", "crash_point")
OTHER_FAULTS = ("clock_jump",)
ALL_FAULTS = PACKET_FAULTS + EVENT_FAULTS + DISK_FAULTS + OTHER_FAULTS


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is drawn before a run begins."""

    seed: int
    servers: int
    faults: tuple[str, ...]
    """Sorted. Events and disk faults happen about once in `fault_seconds`."""
    fault_seconds: float
    chaos_seconds: float
    drop_rate: float
    duplicate_rate: float
    reorder_rate: float
    slow_rate: float
    disk_seconds: float
    """Mean duration of a sync."""
    down_seconds: float
    """Mean time from a crash to the next start."""
    cut_seconds: float
    """Mean duration of a partition."""
    limits: Limits
    timing: Timing
    history_events: int

    def describe(self) -> str:
        return (
            f"{self.servers} servers, faults: {', '.join(self.faults) or 'none'}; "
            f"snapshot every {self.limits.snapshot_entries}, segments of {self.limits.segment_bytes}"
        )


def draw(seed: int, *, faults: frozenset[str] | None = None) -> Plan:
    """The plan of a seed; `faults` narrows it to some kinds."""
    chance = Chance(seed).stream("plan")
    drawn = _draw_faults(chance)
    servers = chance.choice(SERVERS)
    plan = Plan(
        seed=seed,
        servers=servers,
        faults=tuple(sorted(drawn if faults is None else drawn & faults)),
        fault_seconds=chance.choice((0.4, 1.0, 2.0)),
        chaos_seconds=CHAOS_SECONDS * chance.uniform(0.5, 1.5),
        drop_rate=chance.choice((0.01, 0.05, 0.2)),
        duplicate_rate=chance.choice((0.02, 0.2)),
        reorder_rate=chance.choice((0.05, 0.3)),
        slow_rate=chance.choice((0.01, 0.05, 0.2)),
        disk_seconds=chance.choice((0.0005, 0.002, 0.01)),
        down_seconds=chance.choice((0.1, 0.8, 3.0)),
        cut_seconds=chance.choice((0.3, 1.5, 4.0)),
        limits=_draw_limits(chance),
        # With few heartbeats in an election timeout an isolated leader stays in office longer than it should.
        timing=Timing(heartbeat_interval=chance.choice((0.05, 0.1, 0.19))),
        history_events=chance.choice((50, 1000, 100_000)),
    )
    plan.limits.check()
    return plan


def _draw_faults(chance: random.Random) -> frozenset[str]:
    if chance.random() < 0.1:
        return frozenset()
    rate = chance.choice((0.15, 0.3, 0.6))
    return frozenset(kind for kind in ALL_FAULTS if chance.random() < rate)


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
        snapshot_entries=chance.choice((20, 50, 100, 400, 100_000)),
        snapshot_chunk_bytes=chance.choice((256, 4 * KIB)),
        snapshot_chunks_in_flight_max=chance.choice((1, 4)),
        peer_frame_bytes_max=1024 * KIB,
        proposals_bytes_max=chance.choice((4 * KIB, 1024 * KIB)),
    )
