"""The cells of the benchmark: what is asked, over how many connections, and what must come of it.

The targets are those the project set itself, for three servers and the load on two processors; see
docs/how-to/benchmark.md. Values only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from jkcs_server.bench.work import Kind


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is measured."""

    warmup: float
    seconds: float


class Task(Enum):
    """What kind of thing a cell measures."""

    LOAD = "load"
    FAN_OUT = "fan-out"
    """One change after another, each seen by all connections through their watches."""
    CONNECT = "connect"
    """Sessions opened and ended, on so many connections at a time."""
    RESTART = "restart"
    MEMORY = "memory"


class Unit(Enum):
    """What a cell's targets count."""

    US_PER_OP = "us/op"
    SECONDS = "s"
    MEGABYTES = "MB"


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table."""

    name: str
    kind: Kind | None = None
    """Of a load; None for all else."""
    connections: int = 1
    window: int = 1
    """Requests that each connection keeps in flight."""
    value_bytes: int = 100
    at_leader: bool = False
    """All connections go to the leader; otherwise they are spread over the servers in turn."""
    unit: Unit = Unit.US_PER_OP
    task: Task = Task.LOAD
    keys: int | None = None
    """Of a memory cell, when it has a number of its own."""
    named_only: bool = False
    """Measured only when it is asked for by its name: it takes long, and much memory."""
    accept: float | None = None
    aim: float | None = None
    accept_rate: float | None = None
    """Operations per second."""
    aim_rate: float | None = None


CELLS: tuple[Cell, ...] = (
    Cell("set-1x1", Kind.SET, 1, 1, 100, True, accept=780, aim=600, accept_rate=1_200, aim_rate=1_700),
    Cell("set-64x1", Kind.SET, 64, 1, accept=110, aim=75, accept_rate=11_000, aim_rate=17_000),
    Cell("set-16x64", Kind.SET, 16, 64, accept=40, aim=25, accept_rate=40_000, aim_rate=60_000),
    Cell("get-1x1", Kind.GET_LOCAL, 1, 1, 100, True, accept=90, aim=70, accept_rate=6_500, aim_rate=7_400),
    Cell("get-64x1", Kind.GET_LOCAL, 64, 1, accept=40, aim=28, accept_rate=28_000, aim_rate=41_000),
    Cell("get-16x64", Kind.GET_LOCAL, 16, 64, accept=10, aim=5, accept_rate=150_000, aim_rate=300_000),
    # A half and a quarter of what etcd needs; ZooKeeper has no such read.
    Cell("get-linearizable-64x1", Kind.GET, 64, 1, accept=99, aim=49.5),
    Cell("get-linearizable-16x64", Kind.GET, 16, 64, accept=61.5, aim=30.75),
    Cell("create-16x64", Kind.CREATE, 16, 64, accept=45, aim=25, accept_rate=40_000, aim_rate=60_000),
    Cell("create-sequential-16x64", Kind.CREATE_SEQUENTIAL, 16, 64, accept=50),
    Cell("create-ephemeral-16x64", Kind.CREATE_EPHEMERAL, 16, 64, accept=55),
    Cell("mixed-64x4", Kind.MIXED, 64, 4, accept=40),
    Cell("set-1k-16x16", Kind.SET, 16, 16, 1024, accept=65, aim=43, accept_rate=25_000, aim_rate=31_000),
    Cell("set-16k-16x16", Kind.SET, 16, 16, 16384, accept=260, aim=170, accept_rate=6_000, aim_rate=8_000),
    Cell("fan-out", connections=500, task=Task.FAN_OUT),
    Cell("connect-1", connections=1, task=Task.CONNECT),
    Cell("connect-32", connections=32, task=Task.CONNECT),
    Cell("restart", unit=Unit.SECONDS, task=Task.RESTART, accept=2, aim=1),
    Cell("memory", unit=Unit.MEGABYTES, task=Task.MEMORY, accept=200, aim=120),
    Cell("memory-1m", unit=Unit.MEGABYTES, task=Task.MEMORY, keys=1_000_000, named_only=True),
)


def choose(patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names match one of the patterns (`set-*`), in the order of the table.

    Without patterns, all but those that must be named. Raises ValueError naming a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in CELLS):
            raise ValueError(f"no cell matches {pattern!r}; there are {', '.join(cell.name for cell in CELLS)}")
    if not patterns:
        return [cell for cell in CELLS if not cell.named_only]
    return [cell for cell in CELLS if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
