"""One sitting: all cells, on all clusters, in rounds.

Machines change speed within seconds, so clusters are compared only within a sitting, and take turns cell by
cell: A, B, A, B. Blocks; each cell runs in an event loop of its own so that nothing is left over from the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jkcs_server.bench.cells import CELLS, Cell, Pace, Task
from jkcs_server.bench.figures import Figures, Outcome, medians
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.measure import Bench
from jkcs_server.bench.subject import Member, Subject, SubjectFailed
from jkcs_server.bench.usage import NoSuchProcess, resident_bytes

T = TypeVar("T")

RESTART_SECONDS_MAX = 120.0
SETTLE_SECONDS = 1.0
"""After filling, before the memory is looked at: what was under way is done, nothing was tidied up."""
POLL_SECONDS = 0.05
OF_MANY_KEYS = (Task.RESTART, Task.MEMORY)
"""Each number of keys takes a cluster of its own, that nothing else was done with."""
WARM_UP = ("set-64x1", "set-16x64", "get-64x1", "get-16x64", "create-16x64", "fan-out", "connect-32")

Starter = Callable[[Path], Subject]
"""Makes a cluster, not started yet, with its data below a directory of its own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured in a sitting, and for how long."""

    cells: Sequence[Cell]
    pace: Pace
    rounds: int
    keys: int
    """For the cells of restart and memory that have no number of their own."""
    at_leader: bool = False
    """All connections of every cell go to the leader."""
    warm_up: Sequence[tuple[str, float]] = ()
    """Names of clusters that are loaded for so many seconds before anything is measured: compilers need it."""


@dataclass(slots=True)
class Result:
    """What came of one cell on one cluster."""

    cell: Cell
    subject: str
    rounds: list[Figures] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    skipped: str = ""
    """Why it was not measured; empty when it was."""

    @property
    def figures(self) -> Figures:
        """The medians over the rounds."""
        return medians(self.rounds)

    @property
    def failed(self) -> bool:
        return bool(self.errors)


class Sitting:
    """Runs a plan. Results are complete when `run` returns; `tell` is told what goes on meanwhile."""

    def __init__(self, plan: Plan, starters: Sequence[Starter], directory: Path, tell: Callable[[str], None]) -> None:
        self.plan = plan
        self.results: list[Result] = []
        self._starters = starters
        self._directory = directory
        self._tell = tell

    def run(self) -> list[Result]:
        """Raises SubjectFailed when a cluster cannot be started; what fails later fails its cell."""
        loads = [cell for cell in self.plan.cells if cell.task not in OF_MANY_KEYS]
        if loads:
            self._run_loads(loads)
        for keys in sorted({self._keys(cell) for cell in self.plan.cells if cell.task in OF_MANY_KEYS}):
            cells = [cell for cell in self.plan.cells if cell.task in OF_MANY_KEYS and self._keys(cell) == keys]
            for number, starter in enumerate(self._starters):
                self._run_keys(cells, keys, starter(self._directory / f"keys-{keys}-{number}"))
        order = [cell.name for cell in CELLS]
        self.results.sort(key=lambda result: order.index(result.cell.name))  # stable: clusters stay in their order
        return self.results

    def _keys(self, cell: Cell) -> int:
        return cell.keys or self.plan.keys

    # ---- cells that are measured for a time ----

    def _run_loads(self, cells: Sequence[Cell]) -> None:
        with contextlib.ExitStack() as stack:
            benches = []
            for number, starter in enumerate(self._starters):
                subject = starter(self._directory / f"loads-{number}")
                self._tell(f"{subject.name}: starting")
                stack.enter_context(subject)
                benches.append(Bench(subject, secrets.token_hex(4)))
            found = {(cell, at): Result(cell, bench.subject.name) for cell in cells for at, bench in enumerate(benches)}
            self.results += found.values()
            for bench in benches:
                self._warm_up(bench)
            for number in range(self.plan.rounds):
                for cell in cells:
                    for at, bench in enumerate(benches):
                        result = found[cell, at]
                        self._one_round(bench, result, f"round {number + 1}/{self.plan.rounds}")
            for bench in benches:
                if not bench.subject.ours:
                    self._clean(bench)

    def _warm_up(self, bench: Bench) -> None:
        seconds = dict(self.plan.warm_up).get(bench.subject.name, 0.0)
        if not seconds:
            return
        self._tell(f"{bench.subject.name}: warming up for {seconds:.0f} s")
        for cell in CELLS:
            if cell.name in WARM_UP:
                with contextlib.suppress(LoadFailed, NoSuchProcess):  # what is wrong will show when it is measured
                    _in_loop(bench.measure(cell, bench.subject.members(), Pace(0.0, seconds / len(WARM_UP))))

    def _one_round(self, bench: Bench, result: Result, label: str) -> None:
        where = f"{label} {result.cell.name} {result.subject}"
        outcome = Outcome()
        try:
            members = bench.subject.members()
            outcome = _in_loop(bench.measure(result.cell, members, self.plan.pace, at_leader=self.plan.at_leader))
            result.rounds.append(outcome.figures)
            figures = outcome.figures
            cpu = "" if figures.server_us_per_op is None else f", {figures.server_us_per_op:.1f} us/op"
            self._tell(f"{where}: {figures.ops_per_second:,.0f} ops/s{cpu}")
        except (LoadFailed, SubjectFailed, NoSuchProcess) as error:
            outcome.errors[str(error)] += 1
        for reason, count in outcome.errors.items():
            self._tell(f"{where}: ERROR, {count} times: {reason}")
        result.errors += outcome.errors

    def _clean(self, bench: Bench) -> None:
        try:
            _in_loop(bench.clean(bench.subject.members()))
        except (LoadFailed, SubjectFailed) as error:
            self._tell(f"{bench.subject.name}: could not delete the benchmark's keys: {error}")

    # ---- cells about many keys ----

    def _run_keys(self, cells: Sequence[Cell], keys: int, subject: Subject) -> None:
        results = [Result(cell, subject.name) for cell in cells]
        self.results += results
        if not subject.ours:
            for result in results:
                result.skipped = "only on a cluster that the benchmark starts itself"
            return
        try:
            self._tell(f"{subject.name}: creating {keys:,} keys")
            with subject:
                self._with_keys(results, keys, subject)
        except (LoadFailed, SubjectFailed, NoSuchProcess) as error:
            for result in results:
                result.errors[str(error)] += 1
            self._tell(f"{subject.name}: ERROR: {error}")

    def _with_keys(self, results: Sequence[Result], keys: int, subject: Subject) -> None:
        bench = Bench(subject, secrets.token_hex(4))
        empty = sum(_resident(subject.members()))
        began = time.monotonic()
        _in_loop(bench.fill(subject.members(), keys))
        seconds = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        for result in results:
            if result.cell.task is Task.MEMORY:
                figures = _memory(_resident(subject.members()), empty, keys, seconds)
                result.rounds.append(figures)
                self._tell(f"{result.cell.name} {result.subject}: {figures.megabytes:.0f} MB")
        for result in results:
            for _ in range(self.plan.rounds if result.cell.task is Task.RESTART else 0):
                self._restart(result, bench, keys)

    def _restart(self, result: Result, bench: Bench, keys: int) -> None:
        """`kill -9` of all, so that nothing was made ready; then from the start until the last of them answers."""
        subject = bench.subject
        members = subject.members()
        subject.kill()
        began = time.monotonic()
        subject.start()
        _in_loop(_reach_all(bench, members, keys))
        seconds = time.monotonic() - began
        result.rounds.append(Figures(seconds=seconds))
        self._tell(f"restart {result.subject}: {seconds:.2f} s")
        found = _in_loop(bench.count_filled(_settled(subject)))
        if found != keys:
            result.errors[f"{keys} keys were created, {found} are there after a restart"] += 1


async def _reach_all(bench: Bench, members: Sequence[Member], keys: int) -> None:
    await asyncio.gather(*(bench.reach(member, keys, RESTART_SECONDS_MAX) for member in members))


def _resident(members: Sequence[Member]) -> list[int]:
    """Bytes of memory of each server."""
    return [resident_bytes(member.pid) for member in members if member.pid is not None]


def _memory(full: Sequence[int], empty: int, keys: int, seconds: float) -> Figures:
    """The figures of a memory cell, from the memory of each server and that of all together before the filling."""
    return Figures(
        megabytes=max(full) / 1e6,
        megabytes_all=sum(full) / 1e6,
        bytes_per_key=(sum(full) - empty) / len(full) / keys,
        load_seconds=seconds,
    )


def _settled(subject: Subject) -> list[Member]:
    """The members once all of them agree that one leads. Raises SubjectFailed when they do not."""
    deadline = time.monotonic() + RESTART_SECONDS_MAX
    while True:
        try:
            return subject.members()
        except SubjectFailed:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def _in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run it in the fastest event loop there is here, which ends with it."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(work)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
