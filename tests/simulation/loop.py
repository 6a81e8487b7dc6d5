"""An asyncio event loop whose time is virtual and whose callbacks belong to simulated processes.

Time stands still while callbacks run, apart from a small cost per pass, and jumps to the next timer
when nothing is ready. Every handle belongs to the process that its context names, so a whole server
or client can be paused (its handles wait and then run in a burst) or crashed (its handles never run
again). Files, sockets, threads and executors are refused. Knows nothing of servers, disks or networks.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import inspect
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

import sniffio
from anyio._backends import _asyncio as anyio_backend

T = TypeVar("T")

PASS_SECONDS = 10e-6
"""What one pass over the ready handles costs. Above zero, so that code that spins meets its timers."""
PASSES_PER_INSTANT_MAX = 200_000
"""Passes without a timer coming due, after which the run is given up as a livelock."""
CANCELLED_TIMERS_MAX = 512


class Deadlock(Exception):
    """Nothing is scheduled any more, and the run is not over."""


class Livelock(Exception):
    """Callbacks keep each other busy and time does not pass."""


class Ended(BaseException):
    """The process that runs was ended in the middle of its callback; this unwinds what is left of it.

    Passes through all of the product's own handlers, and through the loop's.
    """


class Refused(RuntimeError):
    """The code under simulation asked for something that only the real world has."""


class Process:
    """One simulated operating-system process. A restart is a new one of the same name."""

    __slots__ = (
        "after_step",
        "busy",
        "context",
        "dead",
        "held",
        "name",
        "paused",
        "pauses",
        "rate",
        "resumed_at",
        "step_seconds",
        "tasks",
    )

    def __init__(self, name: str, *, rate: float = 1.0) -> None:
        self.name = name
        self.rate = rate
        """How fast its monotonic clock runs. Fixed: a clock that changed its rate would have to jump."""
        self.dead = False
        self.paused = False
        self.step_seconds = 0.0
        """What each of its callbacks costs; above 0 on a machine whose processor is wanted elsewhere."""
        self.busy = False
        """Its last callback is still being paid for: the next ones wait in `held`."""
        self.pauses = 0
        """How often it was paused so far."""
        self.resumed_at = -1.0
        self.held: deque[asyncio.Handle] = deque()
        """What would have run while the process was paused or busy, in order."""
        self.tasks: set[asyncio.Task[Any]] = set()
        """Kept alive until the run ends: a task that is collected runs its `finally` clauses, which
        the code of a crashed process must not do."""
        self.after_step: Callable[[], None] | None = None
        """Called after each of its callbacks; this is where invariants are looked at."""
        self.context: Context = copy_context()
        """Callbacks from outside (a message, bytes, a finished job) enter the process with this."""
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process | None] = ContextVar("simulated_process", default=None)
WORLD: Context = Context()
"""The context of what belongs to no process: wires, disks, the faults themselves."""


class _SimTask(asyncio.Task[Any]):
    """A task that hashes to its number, so that sets of tasks have the same order in every run."""

    _numbers: Iterator[int] = itertools.count(1)

    def __init__(self, coroutine: Any, **arguments: Any) -> None:
        self._number = next(_SimTask._numbers)
        arguments.setdefault("name", f"task-{self._number}")
        if arguments["name"] is None:
            arguments["name"] = f"task-{self._number}"
        super().__init__(coroutine, **arguments)

    def __hash__(self) -> int:
        return self._number


class _SimCancelScope(anyio_backend.CancelScope):
    """The same for anyio's cancel scopes, which are kept in sets and cancelled in the set's order."""

    __slots__ = ("_number",)
    _numbers: Iterator[int] = itertools.count(1)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._number = next(_SimCancelScope._numbers)
        super().__init__(*arguments, **keywords)

    def __hash__(self) -> int:
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """The event loop of one run. Drive it with `run`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        """The true time. What a process calls time is in `time`."""
        self.clocks_differ = False
        """Some process's clock has a rate of its own. Set before anything runs."""
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._sequence = itertools.count()
        self._cancelled_timers = 0
        self._idle_passes = 0
        self._disposed = False
        self._thread = threading.get_ident()
        self.failure: BaseException | None = None
        """The first thing that went wrong, wherever it was noticed; `run` raises it."""
        self.steps = 0
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._on_exception)

    def time(self) -> float:
        """The monotonic clock of the process that asks."""
        if not self.clocks_differ:
            return self.now
        process = PROCESS.get()
        return self.now if process is None else self.now * process.rate

    # -- scheduling ------------------------------------------------------------------------------

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self._disposed:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._thread:
            raise Refused("a thread called into the simulated loop")
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if not self.clocks_differ:
            return self._at(when, callback, args, context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        return self._at(when if process is None else when / process.rate, callback, args, context)

    def call_at_true_time(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context
    ) -> asyncio.TimerHandle:
        """`call_at` for the world outside: `when` is by no process's clock, whoever's context it is."""
        return self._at(when, callback, args, context)

    def _at(
        self, due: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(due, callback, args, self, context)
        if not self._disposed:
            handle._scheduled = True
            heapq.heappush(self._timers, (due, next(self._sequence), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled_timers += 1
        if self._cancelled_timers > CANCELLED_TIMERS_MAX and self._cancelled_timers * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if not timer[2]._cancelled]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **arguments: Any) -> asyncio.Task[Any]:
        task = _SimTask(coroutine, loop=loop, **arguments)
        context = arguments.get("context")
        process = context.get(PROCESS) if context is not None else PROCESS.get()
        if process is not None:
            process.tasks.add(task)
            if len(process.tasks) % 256 == 0:
                process.tasks = {one for one in process.tasks if not one.done()}
        return task

    # -- one pass --------------------------------------------------------------------------------

    def _run_once(self) -> None:
        ready = self._ready
        timers = self._timers
        if not ready:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
                self._cancelled_timers -= 1
            if timers:
                self.now = max(self.now, timers[0][0])
            elif not self._stopping:
                raise Deadlock("nothing is scheduled any more")
        self.now += PASS_SECONDS
        self._idle_passes += 1
        while timers and timers[0][0] <= self.now:
            handle = heapq.heappop(timers)[2]
            handle._scheduled = False
            if handle._cancelled:
                self._cancelled_timers -= 1
            else:
                ready.append(handle)
                self._idle_passes = 0
        if self._idle_passes > PASSES_PER_INSTANT_MAX:
            raise Livelock(f"{PASSES_PER_INSTANT_MAX} passes without a timer; next in line: {list(ready)[:3]}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                self._step(handle)

    def _step(self, handle: asyncio.Handle) -> None:
        context = handle._context
        process = context.get(PROCESS)
        if process is not None:
            if process.dead:
                return
            if process.paused or process.busy:
                process.held.append(handle)
                return
            self.steps += 1
            if process.step_seconds:
                self._keep_busy(process)
        # As `Handle._run` does, a frame less deep: this runs thousands of times per simulated second.
        try:
            context.run(handle._callback, *handle._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._on_exception(self, {"exception": error})
        if process is not None and process.after_step is not None and not process.dead:
            process.after_step()
        if self.failure is not None:
            raise self.failure

    def _keep_busy(self, process: Process) -> None:
        """The callback that begins now takes its time; those behind it wait until then."""
        process.busy = True
        self._at(self.now + process.step_seconds, self._step_next, (process,), WORLD)

    def _step_next(self, process: Process) -> None:
        process.busy = False
        # While it is paused, too, it has nothing to run: `resume` brings back all that is held.
        while process.held and not process.busy and not process.paused and not process.dead:
            handle = process.held.popleft()
            if not handle._cancelled:
                self._step(handle)

    # -- processes -------------------------------------------------------------------------------

    def spawn(self, process: Process, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that belongs to `process`."""
        return self.create_task(coroutine, context=process.context.copy())

    def enter(self, process: Process, callback: Callable[..., Any], *args: Any) -> None:
        """Call into a process from outside: at its next turn, later if it is paused, never if it is dead."""
        self.call_soon(callback, *args, context=process.context)

    def pause(self, process: Process) -> None:
        """Let nothing of `process` run until `resume`. Its timers come due all the same."""
        process.paused = True
        process.pauses += 1

    def resume(self, process: Process) -> None:
        """Run what `process` missed, in the order in which it was due."""
        process.paused = False
        process.resumed_at = self.now
        if process.busy:
            return  # what it is paying for comes first; then `_step_next` runs what is held
        # Before what has become ready since: that is younger.
        self._ready.extendleft(reversed(process.held))
        process.held.clear()

    def crash(self, process: Process) -> None:
        """End `process` between two of its callbacks: nothing of it runs again, not even a `finally`."""
        process.dead = True
        process.held.clear()

    # -- the run ---------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T], *, until: float = float("inf")) -> T:
        """Run `main` to its end; the loop is unusable afterwards.

        Raises what `main` raises, or the first failure noticed anywhere, or `Deadlock`.
        """
        with _fixed_order(), _known_library():
            collecting = gc.isenabled()
            gc.disable()
            try:
                if until != float("inf"):
                    self.call_at(until, self._overdue, until)
                return self.run_until_complete(main)
            finally:
                self._dispose()
                if collecting:
                    gc.enable()

    def fail(self, error: BaseException) -> None:
        """Note a failure; the run ends after the callback under way. Only the first one counts."""
        if self.failure is None:
            self.failure = error

    def _overdue(self, until: float) -> None:
        self.fail(Livelock(f"the run is not over after {until} simulated seconds"))

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._disposed:
            return
        error = context.get("exception")
        if isinstance(error, Ended):
            return
        self.fail(error if error is not None else RuntimeError(str(context.get("message"))))

    def _dispose(self) -> None:
        """Drop what is left, without a word from the code that was cut off in the middle."""
        self._disposed = True
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()  # its process ended before it began: nothing of it runs
        self._ready.clear()
        self._timers.clear()
        self.close()

    # -- what the simulated world does not have ----------------------------------------------------

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise Refused("no threads in the simulation")

    def _process_events(self, event_list: Any) -> None:
        raise Refused("no selector in the simulation")

    def _write_to_self(self) -> None:
        raise Refused("no self-pipe in the simulation")

    def _make_socket_transport(self, *args: Any, **keywords: Any) -> Any:
        raise Refused("no sockets in the simulation")

    async def create_connection(self, *args: Any, **keywords: Any) -> Any:
        raise Refused("no sockets in the simulation")

    async def create_server(self, *args: Any, **keywords: Any) -> Any:
        raise Refused("no sockets in the simulation")

    async def getaddrinfo(self, *args: Any, **keywords: Any) -> Any:
        raise Refused("no name service in the simulation")

    def add_signal_handler(self, *args: Any, **keywords: Any) -> Any:
        raise Refused("no signals in the simulation")


@contextmanager
def _fixed_order() -> Iterator[None]:
    """Number tasks and cancel scopes from one, and let sets of them iterate by number."""
    _SimTask._numbers = itertools.count(1)
    _SimCancelScope._numbers = itertools.count(1)
    scope = anyio_backend.CancelScope
    anyio_backend.CancelScope = _SimCancelScope  # type: ignore[misc]
    try:
        yield
    finally:
        anyio_backend.CancelScope = scope  # type: ignore[misc]


@contextmanager
def _known_library() -> Iterator[None]:
    """Let anyio know without looking for it that asyncio is what runs: it asks at each of its calls."""
    before = sniffio.thread_local.name
    sniffio.thread_local.name = "asyncio"
    try:
        yield
    finally:
        sniffio.thread_local.name = before


@contextmanager
def quiet_disposal() -> Iterator[None]:
    """Collect what a finished run left behind, unheard.

    Coroutines that are cut off complain when they are collected; after the run that says nothing.
    """
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = hook
