"""A client of ZooKeeper's protocol for the simulator, which does what the protocol allows and no more.

It pipelines requests and matches answers in their order, keeps its session by pings, and when its connection is lost
takes the session to another server, where it sets its watches again. A request that was sent and not answered may have
been carried out or not: whoever called it is told that it was lost. It repeats nothing by itself. What it is told goes
to its `SessionLog`, in the order in which it comes. The records are those of `tests.support.jute_client`.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio
from anyio.abc import ByteStream

from jkcs_client.address import Address
from jkcs_client.dialer import Dialer
from jkcs_client.protocol import zookeeper as zk
from tests.simulation.checkers.zookeeper import SessionLog
from tests.simulation.trace import Violation
from tests.support import jute_client as jute

PING = 1 / 3
"""Of the session's timeout: so often it pings, or, as most clients do, when it has sent nothing else for so long."""
SILENCE_MAX = 2 / 3
"""Of the timeout: when no ping that is younger has been answered, or, as with most clients, nothing at all, the
connection is given up."""
LATELY = 1 / 4
"""Of the timeout: a client that counts every answer as a sign believes in its session for so long after each."""
BEAT = 1 / 20
"""Of the timeout: so often it looks at both."""
REDIAL_SECONDS = (0.02, 0.3)
_ENDS = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Record(Protocol):
    """A write of which it is not known whether it happened."""

    latest: int | None


class Call:
    """One request, and what came of it."""

    __slots__ = ("answer", "argument", "body", "called_at", "done", "op", "path", "records", "sent", "xid")

    def __init__(self, op: int, body: bytes, path: str, argument: Any, records: Sequence[Record] = ()) -> None:
        self.op = op
        self.body = body
        self.path = path
        self.argument = argument
        """See `SessionLog.on_answer`."""
        self.records = records
        """Where it is noted by when the request must have happened if it was lost."""
        self.answer: jute.Answer | None = None
        """None: its connection or its session ended before."""
        self.sent = False
        """A server may have it."""
        self.xid = 0
        self.called_at = 0.0
        self.done = anyio.Event()


class _Link:
    """One connection."""

    def __init__(self, stream: ByteStream, xid: int) -> None:
        self.stream = stream
        self.wire = jute.JuteClient()
        self.wire.xid = xid
        self.pending: deque[Call] = deque()
        """Without an answer, oldest first."""
        self.outbox: list[tuple[Call, bytes]] = []
        """Of these, those that were not sent yet."""
        self.wake = anyio.Event()
        self.attached = False
        self.confirmed_at = anyio.current_time()
        """When the youngest ping, or the connect request, was sent that was answered; at first, that will be."""
        self.heard_at = self.confirmed_at
        self.sent_at = self.pinged_at = float("-inf")
        self.given_up = False

    def put(self, call: Call, xid: int | None = None) -> None:
        frame = self.wire.request(call.op, call.body, xid)
        call.xid = self.wire.xid if xid is None else xid
        call.called_at = self.sent_at = anyio.current_time()
        self.pending.append(call)
        self.outbox.append((call, frame))
        self.wake.set()

    async def write(self) -> None:
        """Send what is put in, until the connection breaks."""
        while True:
            await self.wake.wait()
            self.wake = anyio.Event()
            due, self.outbox = self.outbox, []
            for call, _ in due:
                call.sent = True
            try:
                await self.stream.send(b"".join(frame for _, frame in due))
            except _ENDS:
                return


class ZooKeeperClient:
    """One session, over one connection after another."""

    def __init__(
        self,
        dialer: Dialer,
        servers: Sequence[Address],
        timeout: float,
        chance: random.Random,
        log: SessionLog,
        verify: Callable[..., Any],
        see: Callable[[str], None],
    ) -> None:
        """`verify` runs a check and lets what it finds end the run; `see` counts rare states."""
        self._dialer = dialer
        self._servers = chance.sample(list(servers), len(servers))
        self._timeout = timeout
        self._chance = chance
        self._log = log
        self._verify = verify
        self._see = see
        self._by_pings = chance.random() < 0.5
        """It believes in its session by its pings alone, and not by every answer."""
        self.connections = 0
        """How many have had the session."""
        self._password = bytes(zk.PASSWORD_BYTES)
        self._xid = 0
        self._link: _Link | None = None
        """The connection that has the session."""
        self._away_until = 0.0
        self._lost_calls: list[Call] = []
        """Sent on the last connection, and never answered."""
        self._changed = anyio.Event()
        self.session_id = 0
        self.opened = anyio.Event()
        self.lost = anyio.Event()
        """The session is over: closed, or the cluster said so."""
        self.on_event: Callable[[jute.Event], None] = lambda event: None

    def is_suspended(self) -> bool:
        """It does not believe in its session, for now or for ever."""
        if self._link is None or self.lost.is_set():
            return True
        return not self._by_pings and anyio.current_time() - self._link.heard_at > LATELY * self._timeout

    # Requests.

    def submit(self, op: int, body: bytes = b"", path: str = "", argument: Any = None, records: Any = ()) -> Call:
        """Send a request behind those before it. Without a connection it is lost at once, and was not sent."""
        call = Call(op, body, path, argument, records)
        if self._link is None:
            call.done.set()
        else:
            self._link.put(call)
        return call

    async def call(self, op: int, body: bytes = b"", path: str = "", argument: Any = None, records: Any = ()) -> Call:
        """Wait for a connection, send a request, and wait until it is answered or lost."""
        await self.ready()
        call = self.submit(op, body, path, argument, records)
        await call.done.wait()
        return call

    async def ready(self) -> None:
        """Wait until the session is on a connection, or over."""
        while self._link is None and not self.lost.is_set():
            await self._changed.wait()

    async def close(self) -> None:
        """End the session."""
        while not self.lost.is_set():
            call = await self.call(zk.CLOSE_SESSION, argument=self.session_id)
            if call.answer is not None:
                self._end()

    def stay_away(self, seconds: float) -> None:
        """Give the connection up, and do not come back for some time."""
        self._away_until = anyio.current_time() + seconds
        if self._link is not None:
            self._link.given_up = True

    # Connections.

    async def run(self) -> None:
        """Keep the session on some connection until it is over."""
        number = 0
        while not self.lost.is_set():
            address = self._servers[number % len(self._servers)]
            number += 1
            stream: ByteStream | None = None
            try:
                with anyio.move_on_after(self._timeout * PING):
                    stream = await self._dialer(address)
            except OSError:
                pass
            if stream is not None:
                await self._serve(_Link(stream, self._xid))
            await anyio.sleep(max(self._chance.uniform(*REDIAL_SECONDS), self._away_until - anyio.current_time()))

    async def _serve(self, link: _Link) -> None:
        """Speak on one connection until it ends."""
        hello = jute.connect(int(self._timeout * 1000), self.session_id, self._password, self._log.last_zxid)
        try:
            await link.stream.send(hello)
            async with anyio.create_task_group() as group:
                group.start_soon(self._beat, link, group.cancel_scope)
                await self._read(link, group)
                group.cancel_scope.cancel()
        except _ENDS:
            pass
        finally:
            self._drop(link)
            await link.stream.aclose()

    async def _read(self, link: _Link, group: Any) -> None:
        while True:
            try:
                data = await link.stream.receive()
            except _ENDS:
                return
            try:
                got = link.wire.feed(data)
            except (KeyError, IndexError, AssertionError, struct.error) as error:
                self._verify(_complain, f"a frame that answers nothing: {error!r}")
                return
            if link.wire.greeting is not None and not link.attached:
                if not self._attach(link, link.wire.greeting):
                    return
                group.start_soon(link.write)
            for one in got:
                self._take(link, one)

    def _attach(self, link: _Link, greeting: jute.Greeting) -> bool:
        """The server has answered the connect request. False when the session is over."""
        if not greeting.session:
            self._see("zookeeper session gone on return")
            self._verify(self._log.on_ended, self.session_id)
            self._end()
            return False
        if self.session_id and (greeting.session, greeting.password) != (self.session_id, self._password):
            self._verify(_complain, f"session {self.session_id} goes on as {greeting.session}", "S5")
        self.session_id, self._password = greeting.session, greeting.password
        self._timeout = greeting.timeout_ms / 1000
        link.attached = True
        self._link = link
        self.connections += 1
        lists = self._log.set_again()
        if lists is not None:
            since = self._log.last_zxid
            link.put(Call(zk.SET_WATCHES2, jute.set_watches(since, *lists), "", since), zk.SET_WATCHES_XID)
            self._see("watches set again")
        self.opened.set()
        self._change()
        return True

    def _take(self, link: _Link, got: jute.Answer | jute.Event) -> None:
        if isinstance(got, jute.Event):
            if got.zxid == zk.NO_ZXID:
                self._see("event told on return")
            self._verify(self._log.on_event, got.kind, got.path, got.zxid)
            self.on_event(got)
            return
        call = link.pending.popleft()
        if call.xid != got.xid:
            self._verify(_complain, f"request {got.xid} was answered where {call.xid} was due")
        link.heard_at = anyio.current_time()
        if call.op == zk.PING:
            link.confirmed_at = max(link.confirmed_at, call.called_at)
        self._verify(self._log.on_answer, call.op, call.path, call.argument, got)
        # Behind the move of the session nothing of its earlier connections is carried out any more.
        for lost in self._lost_calls:
            for record in lost.records:
                record.latest = got.zxid
        self._lost_calls.clear()
        call.answer = got
        call.done.set()

    async def _beat(self, link: _Link, scope: anyio.CancelScope) -> None:
        """Ping; give the connection up when that is not answered."""
        while True:
            now = anyio.current_time()
            silent_since = link.confirmed_at if self._by_pings else link.heard_at
            if link.given_up or now - silent_since >= SILENCE_MAX * self._timeout:
                scope.cancel()
                return
            quiet_since = link.pinged_at if self._by_pings else link.sent_at
            if link.attached and now - quiet_since >= PING * self._timeout:
                link.pinged_at = now
                link.put(Call(zk.PING, b"", "", None), zk.PING_XID)
            await anyio.sleep(BEAT * self._timeout)

    def _drop(self, link: _Link) -> None:
        if self._link is link:
            self._link = None
        self._xid = link.wire.xid
        lost = [call for call in link.pending if call.sent]
        if any(call.records for call in lost):
            self._see("zookeeper write lost with its connection")
        self._lost_calls += lost
        for call in link.pending:
            call.done.set()
        link.pending.clear()
        self._change()

    def _end(self) -> None:
        self.lost.set()
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _complain(text: str, invariant: str = "S6") -> None:
    raise Violation(invariant, text)


@asynccontextmanager
async def open_session(client: ZooKeeperClient) -> AsyncIterator[ZooKeeperClient]:
    """A session from its opening to its end."""
    async with anyio.create_task_group() as group:
        group.start_soon(client.run)
        await client.opened.wait()
        yield client
        await client.close()
        group.cancel_scope.cancel()
