"""One run of the simulator: chaos, then healing, then the demand that everything comes right.

First only safety is asked for: whatever happens, no checker may object. Then the faults end, for all
servers or for a random quorum of them, and within a bounded time there must be a leader, every open call
must end, every session of a dead client must be gone, and all healed servers must hold the same state.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.acts import ACTS
from tests.simulation.checkers.books import overdue
from tests.simulation.faults import Chaos, Faults
from tests.simulation.loop import Deadlock, Livelock, SimLoop, quiet_disposal
from tests.simulation.observer import WorldObserver
from tests.simulation.plan import NOTHING_TAKEN, Narrowing, Plan, draw
from tests.simulation.trace import Trace, Violation
from tests.simulation.workload import Workload
from tests.simulation.world import World

LIVENESS_ELECTIONS = 20
"""Election timeouts within which everything must be well after the faults have ended."""
SESSION_SECONDS_MAX = 4.0
REAP_SECONDS_MAX = 4.0
"""So long a key that should go by itself may stay: its leader looks once a second."""
SEARCH_EVERY = 20
CALM_SECONDS = 1.0
CALM_ELECTIONS_MAX = 1
DISTURBED_SECONDS = 2.0
"""So long it is looked whether those who stay broken leave the others alone."""
HAND_OVERS_MAX = 2
HAND_OVER_EVERY = 4
"""In one seed of so many the leader has to hand over once all is well."""
"""The clients go on for so long after the faults have ended."""
RUN_SECONDS_MAX = 300.0
POLL_SECONDS = 0.05
TRACE_LINES_SHOWN = 60
FRAMES_SHOWN = 6


@dataclass(slots=True)
class Counts:
    """What happened how often, in one run or in many."""

    faults: Counter[str]
    """By kind."""
    points_reached: Counter[str]
    """Crash points, by name."""
    points_crashed: Counter[str]
    states: Counter[str]
    """Rare states, by name."""

    @staticmethod
    def nothing() -> Counts:
        return Counts(Counter(), Counter(), Counter(), Counter())

    def add(self, other: Counts) -> None:
        self.faults += other.faults
        self.points_reached += other.points_reached
        self.points_crashed += other.points_crashed
        self.states += other.states


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    plan: Plan
    invariant: str
    """The name of the promise that was broken, "" when none was."""
    detail: str
    """How it was broken, and where in the code that was noticed."""
    simulated_seconds: float
    cpu_seconds: float
    steps: int
    calls: int
    commits: int
    grants: int
    fingerprint: int
    """Of the whole trace: equal for equal runs."""
    events: int
    """Fault events drawn, those that were left out included."""
    counts: Counts
    lines: tuple[str, ...]


def run_seed(
    seed: int,
    narrowing: Narrowing = NOTHING_TAKEN,
    *,
    search: bool | None = None,
    echo: Callable[[str], None] | None = None,
) -> Outcome:
    """Run one seed to its end. Never raises for what the product does wrong: that is in the outcome.

    `search`: whether the histories are also put through the full search for a linear order; None: one seed in
    `SEARCH_EVERY`. The check by indices is made in every run.
    """
    began = time.process_time()
    plan = draw(seed, narrowing)
    # What the product would tell an operator is noise here, and costs time.
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quiet_disposal():
            run = _Run(plan, narrowing.skip_events, seed % SEARCH_EVERY == 0 if search is None else search, echo)
            failure = run.execute()
            outcome = run.outcome(failure, time.process_time() - began)
            del run, failure  # to be collected here, where nobody hears it
    finally:
        logging.disable(disabled)
    return outcome


class _Run:
    """Everything of one run."""

    def __init__(
        self, plan: Plan, skip_events: frozenset[int], search: bool, echo: Callable[[str], None] | None
    ) -> None:
        self._plan = plan
        self._search = search
        self._loop = SimLoop()
        self._trace = Trace(lambda: self._loop.now, echo=echo)
        self._observer = WorldObserver(self._loop, self._trace)
        self._world = World(plan, self._loop, self._trace, self._observer)
        if plan.edge:
            self._observer.begin_before(plan.edge)
        self._begun = self._observer.raft.newest.index
        """Where the log began."""
        self._observer.watch_disks(self._world.machines)
        self._observer.bind(self._world.reach, self._world.crash_points)
        self._load = Workload(self._world, self._observer)
        chaos = Chaos(self._world, plan, self._load.processes, self._load.crash)
        self._faults = Faults(chaos, ACTS, skip_events)

    def execute(self) -> BaseException | None:
        try:
            self._loop.run(self._main(), until=RUN_SECONDS_MAX)
        except (Exception, Deadlock, Livelock) as error:
            return error
        return None

    def outcome(self, failure: BaseException | None, cpu_seconds: float) -> Outcome:
        # Text only: an exception would keep the whole run alive, and does not travel between processes.
        return Outcome(
            self._plan.seed,
            self._plan,
            _name(failure),
            "" if failure is None else "".join(traceback.format_exception(failure)[-FRAMES_SHOWN:]).rstrip(),
            self._loop.now,
            cpu_seconds,
            self._loop.steps,
            self._load.calls,
            self._observer.raft.newest.index - self._begun,
            self._load.locks.grants,
            self._trace.fingerprint,
            self._faults.events,
            Counts(
                self._world.faults,
                self._world.crash_points.reached,
                self._world.crash_points.crashed,
                self._world.reach.seen,
            ),
            tuple(self._trace.lines)[-TRACE_LINES_SHOWN:] if failure is not None else (),
        )

    async def _main(self) -> None:
        self._faults.begin()
        for machine in self._world.machines.values():
            self._world.start(machine)
        self._load.start()
        await self._faults.rage(self._plan.chaos_seconds)
        self._faults.heal()
        await self._come_right()
        self._load.check(search=self._search)
        digests = set()
        for machine in self._faults.core:
            assert machine.server is not None
            self._observer.ghost.check_final(machine.name, machine.server.machine)
            digests.add(machine.server.machine.digest())
        if len(digests) > 1:
            raise Violation("I5", "the servers' digests differ at the end")

    async def _come_right(self) -> None:
        """What must happen once nothing is in the way."""
        bound = LIVENESS_ELECTIONS * self._plan.timing.election_timeout
        await self._eventually(bound, "no server leads", self._is_led)
        await asyncio.sleep(CALM_SECONDS)
        if self._plan.seed % HAND_OVER_EVERY == 0 and not self._plan.random_core:
            await self._hand_over(bound)
        calm_term = self._term()
        if self._plan.random_core:
            await asyncio.sleep(DISTURBED_SECONDS)
        self._load.stopping = True
        await self._eventually(
            bound + SESSION_SECONDS_MAX, lambda: f"calls do not end: {self._load.unfinished()}", lambda: self._load.done
        )
        sessions = self._observer.ghost.model.sessions
        await self._eventually(
            bound + SESSION_SECONDS_MAX,
            lambda: f"sessions {sorted(sessions)} of dead clients do not end",
            lambda: not sessions,
        )
        await self._eventually(
            bound + REAP_SECONDS_MAX, lambda: f"keys do not go by themselves: {self._overdue()}", self._is_reaped
        )
        await self._eventually(bound, self._describe_lag, self._is_level)
        # One may still have been under way, and one goes to whom the cluster prefers.
        if self._term() > calm_term + CALM_ELECTIONS_MAX:
            raise Violation("CALM", f"terms went from {calm_term} to {self._term()} though a leader was in office")

    async def _hand_over(self, seconds: float) -> None:
        """When nothing is in the way, a leader that is asked to hand over is succeeded in the very next term."""
        led = self._observer.raft.leaders
        asked: dict[int, float] = {}
        """When, by the leader's term."""

        def succeeded() -> bool:
            if any(led.get(term + 1, led[term]) != led[term] for term in asked):
                return True
            if len(asked) > HAND_OVERS_MAX:
                raise Violation("LIVENESS", f"nobody took over from the leaders of terms {sorted(asked)} in the next")
            leader = self._faults.leader()
            if leader is not None and leader.server is not None and leader.process is not None:
                replica = leader.server.replica
                if self._loop.now - asked.get(int(replica.core.term), 0.0) > 2 * self._plan.timing.election_timeout:
                    asked[int(replica.core.term)] = self._loop.now
                    self._loop.enter(leader.process, replica.hand_over)
            return False

        if len(self._faults.core) > 1:
            await self._eventually(seconds, "no leader has been succeeded by whom it handed over to", succeeded)

    def _term(self) -> int:
        """The highest that a healed server has entered."""
        return max(int(machine.server.replica.core.term) for machine in self._faults.core if machine.server)

    async def _eventually(self, seconds: float, complaint: str | Callable[[], str], holds: Callable[[], bool]) -> None:
        deadline = self._loop.now + seconds
        while not holds():
            if self._loop.now >= deadline:
                text = complaint if isinstance(complaint, str) else complaint()
                raise Violation("LIVENESS", f"{seconds:.1f} s after the faults ended {text}")
            await asyncio.sleep(POLL_SECONDS)

    def _is_led(self) -> bool:
        servers = [machine.server for machine in self._faults.core if machine.running]
        return any(server is not None and server.replica.leadership.serving for server in servers)

    def _is_reaped(self) -> bool:
        """Nothing is there any more that should have gone, by the clock of who leads."""
        return self._overdue() == []

    def _overdue(self) -> list[str] | None:
        leader = self._faults.leader()
        if leader is None:
            return None
        return overdue(self._observer.ghost.model, self._world.wall_ms(leader))

    def _is_level(self) -> bool:
        """All healed servers have applied all that was ever applied, and nothing is under way."""
        newest = self._observer.ghost.applied
        servers = [machine.server for machine in self._faults.core]
        return all(
            server is not None and server.replica.applied == newest == server.replica.core.last_index
            for server in servers
        )

    def _describe_lag(self) -> str:
        lag = []
        for machine in self._faults.core:
            if machine.server is None:
                lag.append(f"{machine.name} is down")
            else:
                replica = machine.server.replica
                lag.append(f"{machine.name} has applied {replica.applied} of {replica.core.last_index}")
        return f"servers differ: {'; '.join(lag)}"


def _name(failure: BaseException | None) -> str:
    if failure is None:
        return ""
    return failure.invariant if isinstance(failure, Violation) else type(failure).__name__
