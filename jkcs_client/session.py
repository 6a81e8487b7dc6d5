"""The driver of one client: it keeps a session alive over connections that come and go.

Joins the rules (`connection`, `liveness`, `lifecycle`, `backoff`) to the dialer and the clock. Its tasks: one
that attaches to a server and reattaches, with a reader, a writer and a pinger for each connection; one that
watches the clock. Callers come in through `call` and `register`. Runs on asyncio and on trio.

The session is lost when the server says so, or when `liveness` says so by this client's own clock. The clock is
asked by its task and again around each call: an event loop that stood still for longer than the session
lives must not report a success first and the loss afterwards.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import Any

import anyio
from anyio.abc import ByteStream

from jkcs_client.address import Address
from jkcs_client.backoff import Backoff
from jkcs_client.bell import Bell
from jkcs_client.connection import Connection
from jkcs_client.dialer import Dialer
from jkcs_client.lifecycle import Lifecycle, State, Trigger
from jkcs_client.liveness import Liveness
from jkcs_client.protocol.errors import (
    OK,
    BadArguments,
    ClientClosed,
    JkcsError,
    NotConnected,
    OutcomeUnknown,
    RequestTimeout,
    SessionExpired,
    TooLarge,
    WrongPassword,
    error_for,
)
from jkcs_client.protocol.messages import (
    CLOSE,
    OP_NAMES,
    SESSION_TIMEOUT_MS_MAX,
    SESSION_TIMEOUT_MS_MIN,
    WATCHES_PER_CONNECTION_MAX,
)
from jkcs_client.requests import Request
from jkcs_client.watches import Watch

OUTSTANDING_MAX = 4096
"""Calls that are queued or in flight; further callers wait."""
CLOSE_TIMEOUT = 1.0
"""Seconds that closing may take to tell the server; a server that was not told lets the session time out."""
ATTACH_TIMEOUT_MAX = 5.0
"""Seconds that one attempt to attach may take, however long the session lives: the next server may be well."""
OPEN_TIMEOUT_MIN = 2.0
"""Seconds that an attempt to open a new session gets at least: it needs a log entry, and nothing can expire yet."""
RECEIVE_BYTES = 256 * 1024
STATES_KEPT_MAX = 64
"""Transitions that a reader of `states` may be behind; beyond it the oldest are dropped, the newest never."""

_BROKEN = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, anyio.BusyResourceError)
"""What a stream raises when it is of no more use."""


class Session:
    """One session with the cluster. `run` must be running while anything else is awaited."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        session_timeout: float,
        request_timeout: float,
        dialer: Dialer,
        random: Random,
    ) -> None:
        low, high = SESSION_TIMEOUT_MS_MIN / 1000, SESSION_TIMEOUT_MS_MAX / 1000
        if session_timeout and not low <= session_timeout <= high:
            raise BadArguments(f"session_timeout is {low:g} to {high:g} s, or 0 for no session, not {session_timeout}")
        self.connection = Connection(round(session_timeout * 1000))
        self.lost = anyio.Event()
        """Set when the session has ended, for whatever reason."""
        self._lifecycle = Lifecycle()
        self._liveness = Liveness(session_timeout)
        self._backoff = Backoff()
        self._addresses = list(addresses)
        self._dialer = dialer
        self._random = random
        self.request_timeout = request_timeout
        """Of calls that name none."""
        self._process = os.getpid()
        self._scope = anyio.CancelScope()
        """Around `run`."""
        self._conversation: anyio.CancelScope | None = None
        """Around the tasks of the present connection."""
        self._opened = anyio.Event()
        """There is, or was, a session."""
        self._has_output = Bell()
        self._slots = anyio.Semaphore(OUTSTANDING_MAX)
        """One for each request in `connection`, from before it is submitted until it is settled or gone."""
        self._why: dict[Address, str] = {}
        """Why the last attempt to attach to each server failed."""
        self._error: JkcsError = ClientClosed()
        """What calls get once the session has ended."""
        self._closing = False
        self._listeners: list[tuple[deque[State], Bell]] = []
        self._forgotten: deque[Watch] = deque()
        """Watches whose owner was collected as garbage; no more than there are watches."""

    # What the caller sees.

    @property
    def state(self) -> State:
        """Where the session is, by the clock of this moment."""
        if not self._lifecycle.ended:
            self._check_clock()
        return self._lifecycle.state

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended. Does not look at the clock."""
        return self._lifecycle.ended

    async def opened(self) -> None:
        """Wait for the first connection. Raises NotConnected, naming each server and why, at the default deadline."""
        with anyio.move_on_after(self.request_timeout):
            await self._opened.wait()
        if self._lifecycle.state is State.CONNECTING:
            raise NotConnected(f"after {self.request_timeout:g} s: {self._reasons()}")
        self.check()

    async def call(self, op: int, arguments: tuple[Any, ...], timeout: float | None = None) -> Request:
        """Send a request and wait for its answer, which is OK; everything else is raised.

        After `timeout` seconds (the client's default if None) it raises RequestTimeout, or OutcomeUnknown for
        a write that was put on the wire.
        """
        self.check()
        return await self._call(op, arguments, self.request_timeout if timeout is None else timeout)

    async def register(self, watch: Watch, bell: Bell, timeout: float | None) -> None:
        """Add a watch and wait until a server has taken it, or it has ended. Its `wake` must ring the bell."""
        self.check()
        if self.connection.watch_count >= WATCHES_PER_CONNECTION_MAX:
            raise TooLarge(f"{WATCHES_PER_CONNECTION_MAX} watches are the most that a client can have")
        seconds = self.request_timeout if timeout is None else timeout
        self.connection.watch(watch)
        self._has_output.ring()
        taken = False
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + seconds):
                while not (watch.registered or watch.buffer or watch.code != OK):
                    await bell.wait()
                taken = True
        finally:
            if not taken:
                self.forget(watch)
        if not taken:
            raise RequestTimeout(f"watch not registered within {seconds:g} s{self._unreached()}", node=self._node)

    def forget(self, watch: Watch) -> None:
        """The owner of a watch has gone. May be called in any state."""
        self.connection.unwatch(watch)
        self._has_output.ring()

    def forget_later(self, watch: Watch) -> None:
        """The same for a finalizer, which may run at any moment and in any thread."""
        self._forgotten.append(watch)

    async def states(self) -> AsyncIterator[State]:
        """The present state, then each that follows, until the client is closed."""
        missed: deque[State] = deque([self.state], maxlen=STATES_KEPT_MAX)
        listener = (missed, Bell())
        self._listeners.append(listener)
        try:
            while True:
                while missed:
                    state = missed.popleft()
                    yield state
                    if state is State.CLOSED:
                        return
                await listener[1].wait()
        finally:
            self._listeners.remove(listener)

    async def close(self) -> None:
        """End the session at once, if a server can be told in a short time. Never hangs, raises nothing."""
        try:
            if self.connection.session_id and not (self.ended or self._closing) and os.getpid() == self._process:
                self._closing = True
                with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
                    await self._call(CLOSE, (), CLOSE_TIMEOUT)
        except JkcsError:
            return
        finally:
            if self._lifecycle.state is not State.CLOSED:
                self._end(Trigger.CLOSED, ClientClosed())

    # A call.

    def check(self) -> None:
        """Raise if no call can succeed any more."""
        if os.getpid() != self._process:
            raise ClientClosed(f"it belongs to process {self._process}; after a fork, connect anew")
        if not self.ended:
            self._check_clock()
        if self.ended:
            raise self._ended_error()
        if self._closing:
            raise ClientClosed("it is being closed")

    def _check_clock(self) -> None:
        """End the session if its time is over. Must come before anything that reports a success."""
        now, liveness = anyio.current_time(), self._liveness
        if now >= liveness.lost_at:
            silence = now - liveness.acknowledged_at
            why = f"no ping was acknowledged for {silence:.3f} s, the timeout is {liveness.timeout:g} s"
            self._end(Trigger.EXPIRED, SessionExpired(why, node=self._node))

    def _ended_error(self) -> JkcsError:
        """A fresh error for each caller: a shared one would gather tracebacks."""
        error = self._error
        return error_for(error.code, error.detail, node=error.node, index=error.index)

    async def _call(self, op: int, arguments: tuple[Any, ...], seconds: float) -> Request:
        request = Request(op, arguments)
        settled = anyio.Event()
        request.wake = settled.set
        with anyio.CancelScope(deadline=anyio.current_time() + seconds):
            await self._take_slot()
            self.connection.submit(request)
            self._has_output.ring()
            try:
                await settled.wait()
            finally:
                if not request.settled and self.connection.abandon(request):
                    self._slots.release()
        return self._outcome(request, seconds)

    async def _take_slot(self) -> None:
        try:
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._slots.acquire()
        if self.ended:
            self._slots.release()
            raise self._ended_error()

    def _outcome(self, request: Request, seconds: float) -> Request:
        """The answered request, or why there is none."""
        name = OP_NAMES[request.op]
        if not request.settled:
            if request.may_have_happened:
                raise OutcomeUnknown(f"{name} sent, no answer within {seconds:g} s{self._unreached()}", node=self._node)
            raise RequestTimeout(f"{name} within {seconds:g} s{self._unreached()}", node=self._node)
        if not self.ended:
            self._check_clock()
        if request.code != OK:
            raise error_for(request.code, request.result, node=self._node, index=request.index or None)
        if self._lifecycle.state is State.EXPIRED:
            # Answered, but the session was lost before the caller could run.
            if request.is_write:
                raise OutcomeUnknown(f"{name} was answered after its session was lost", node=self._node)
            raise self._ended_error()
        return request

    def _wake(self) -> None:
        """Wake whoever waits for what the connection has settled."""
        for woken in self.connection.take_woken():
            if isinstance(woken, Request):
                self._slots.release()
            woken.wake()

    # The session's own tasks.

    async def run(self) -> None:
        """Keep the session attached until it ends."""
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_clock)
                await self._stay_attached()

    async def _watch_clock(self) -> None:
        await self._opened.wait()
        while self.connection.timeout_ms:
            await anyio.sleep_until(self._liveness.lost_at)
            self._check_clock()

    async def _stay_attached(self) -> None:
        last: Address | None = None
        while True:
            last, stream = await self._attach(last)
            attached_at = anyio.current_time()
            await self._converse(stream)
            if self.ended:
                return
            self._move(Trigger.DETACHED)
            for _ in range(self.connection.on_connection_lost()):
                self._slots.release()
            self._wake()
            self._backoff.on_connection_ended(anyio.current_time() - attached_at)
            await anyio.sleep(self._backoff.next_delay(self._random.random()))

    async def _attach(self, last: Address | None) -> tuple[Address, ByteStream]:
        """Try all servers, in an order of chance, with the last one last, until one accepts the session."""
        while True:
            order = self._random.sample(self._addresses, len(self._addresses))
            order.sort(key=lambda address: address == last)
            for address in order:
                try:
                    return address, await self._greet(address)
                except (SessionExpired, WrongPassword) as error:
                    if self.connection.session_id:
                        self._end(Trigger.EXPIRED, error)
                        await anyio.sleep_forever()
                    # It ended before anybody had it: the next attempt opens another.
                    self._why[address] = _describe(error)
                except TimeoutError:
                    self._why[address] = f"no answer within {self._attach_timeout:g} s"
                except (*_BROKEN, JkcsError) as error:
                    self._why[address] = _describe(error)
            await anyio.sleep(self._backoff.next_delay(self._random.random()))

    async def _greet(self, address: Address) -> ByteStream:
        """Dial one server and exchange hellos."""
        connection = self.connection
        fresh = not connection.session_id
        with anyio.fail_after(self._attach_timeout):
            stream = await self._dialer(address)
            try:
                asked_at = anyio.current_time()
                await stream.send(connection.open())
                while not connection.greeted:
                    connection.receive(await stream.receive(RECEIVE_BYTES), anyio.current_time())
                self._check_clock()
                if self.ended:
                    raise self._ended_error()
            except BaseException:
                connection.on_connection_lost()
                if fresh:
                    # Nobody has seen this session; were it kept, it might be found expired before it was open.
                    connection.forget_session()
                await anyio.aclose_forcefully(stream)
                raise
        if fresh:
            self._liveness.on_opened(asked_at, connection.timeout_ms / 1000)
        self._why.pop(address, None)
        self._liveness.on_attached()
        self._move(Trigger.ATTACHED)
        self._opened.set()
        return stream

    @property
    def _attach_timeout(self) -> float:
        least = 0.0 if self.connection.session_id else OPEN_TIMEOUT_MIN
        return min(max(self._liveness.interval, least), ATTACH_TIMEOUT_MAX)

    # One connection.

    async def _converse(self, stream: ByteStream) -> None:
        """Read, write and ping until the connection breaks or the session ends."""
        try:
            async with anyio.create_task_group() as tasks:
                self._conversation = tasks.cancel_scope
                for task in (self._read, self._write, self._ping):
                    tasks.start_soon(self._until_broken, task, stream)
        finally:
            self._conversation = None
            await anyio.aclose_forcefully(stream)

    async def _until_broken(self, task: Callable[[ByteStream], Awaitable[None]], stream: ByteStream) -> None:
        """One task of a connection; whatever ends it ends the others."""
        try:
            await task(stream)
        except (SessionExpired, WrongPassword) as error:
            self._end(Trigger.EXPIRED, error)
        except (*_BROKEN, JkcsError):
            if self._conversation is not None:
                self._conversation.cancel()

    async def _read(self, stream: ByteStream) -> None:
        connection, liveness = self.connection, self._liveness
        while True:
            data = await stream.receive(RECEIVE_BYTES)
            now = anyio.current_time()
            try:
                connection.receive(data, now)
            finally:
                liveness.on_received(now, connection.in_flight)
                liveness.on_acknowledged(connection.acknowledged_at)
                self._check_clock()
                self._wake()
            if connection.has_output:
                self._has_output.ring()

    async def _write(self, stream: ByteStream) -> None:
        while True:
            now = anyio.current_time()
            data = self.connection.data_to_send(now)
            if data:
                self._liveness.on_sent(now)
                await stream.send(data)
            else:
                await self._has_output.wait()

    async def _ping(self, stream: ByteStream) -> None:
        liveness = self._liveness
        while True:
            while self._forgotten:
                self.forget(self._forgotten.popleft())
            now = anyio.current_time()
            if now >= liveness.silent_at:
                raise NotConnected(f"{self._node} has been silent for {liveness.patience:g} s")
            if now >= liveness.ping_at:
                liveness.on_pinged(now)
                self.connection.ping()
                self._has_output.ring()
            # A request that is sent while this sleeps cannot be overdue before its patience is over.
            await anyio.sleep_until(min(liveness.ping_at, liveness.silent_at, now + liveness.patience / 2))

    # Transitions.

    def _move(self, trigger: Trigger) -> None:
        state = self._lifecycle.on(trigger)
        for missed, bell in self._listeners:
            missed.append(state)
            bell.ring()

    def _end(self, trigger: Trigger, error: JkcsError) -> None:
        """The session is over: everybody learns it now, in this very step."""
        if trigger is Trigger.EXPIRED and self.ended:
            return
        self._error = error
        self._move(trigger)
        self.connection.end(error.code, error.detail)
        self._wake()
        self.lost.set()
        self._opened.set()
        self._scope.cancel()

    @property
    def _node(self) -> str | None:
        return self.connection.node or None

    def _unreached(self) -> str:
        """Why no server is connected, for an error's text; "" when one is."""
        return "" if self.connection.greeted else f"; not connected: {self._reasons()}"

    def _reasons(self) -> str:
        return "; ".join(f"{address}: {self._why.get(address, 'no answer yet')}" for address in self._addresses)


def _describe(error: Exception) -> str:
    text = str(error)
    if isinstance(error, JkcsError) or (isinstance(error, OSError) and text):
        return text
    return f"the connection broke ({type(error).__name__})"
