"""A cluster in memory for tests of the client: the native protocol over in-memory streams, obeying the test's script.

The tree is `ModelTree`; there is no consensus, no time and no task here: what a client sends is handled in
the call that sends it, unless the test says otherwise. It can refuse, hold, lose and break as a network would.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from jkcs_client import Address, Client, connect
from jkcs_client.protocol import errors
from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import (
    CHILDREN,
    CLOSE,
    EXISTS,
    FIRST_WRITE,
    GET,
    PING,
    PREFACE,
    STATUS,
    SYNC,
    UNWATCH,
    WATCH,
    EventKind,
    WatchMode,
)
from jkcs_server.tree.commands import EXPIRE, OPEN
from tests.support.model_tree import ModelTree

FIRST_INDEX = 100


class FakeStream(ByteStream):
    """The client's end of a connection."""

    def __init__(self, connection: FakeConnection) -> None:
        self._connection = connection
        self._incoming = bytearray()
        self._arrived = anyio.Event()
        self.broken = False
        """Sending and receiving fail from now on."""
        self.ended = False
        """The server has closed; what it sent before can still be read."""
        self.piece_bytes = 1 << 20
        """How much one `receive` gives at most."""

    def push(self, data: bytes) -> None:
        self._incoming += data
        self._arrived.set()

    def wake(self) -> None:
        self._arrived.set()

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.broken or self.ended:
            raise anyio.BrokenResourceError
        self._connection.receive(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while not self.broken:
            if self._incoming:
                size = min(max_bytes, self.piece_bytes)
                data = bytes(self._incoming[:size])
                del self._incoming[:size]
                return data
            if self.ended:
                raise anyio.EndOfStream
            self._arrived = anyio.Event()
            await self._arrived.wait()
        raise anyio.BrokenResourceError

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.broken = True
        self._connection.cluster.forget(self._connection)
        self._arrived.set()
        await anyio.lowlevel.checkpoint()


class FakeConnection:
    """The server's end."""

    def __init__(self, cluster: FakeCluster, node: str) -> None:
        self.cluster = cluster
        self.node = node
        self.stream = FakeStream(self)
        self.session = 0
        self.watches: dict[int, tuple[str, int, int]] = {}
        """By watch id: (path, mode, since)."""
        self._decoder = FrameDecoder()
        self._preface = b""
        self._greeted = False
        self._held: list[list[Any]] = []

    def receive(self, data: bytes) -> None:
        if len(self._preface) < len(PREFACE):
            missing = len(PREFACE) - len(self._preface)
            self._preface += data[:missing]
            data = data[missing:]
            assert PREFACE.startswith(self._preface), self._preface
        for message in self._decoder.feed(data):
            self.cluster.received.append(message)
            self._held.append(message)
        self.work()

    def work(self) -> None:
        """Handle what was received, unless the cluster holds it."""
        while self._held and not self.stream.broken:
            if self.cluster.holding if self._greeted else self.cluster.deaf:
                return
            message = self._held.pop(0)
            if not self._greeted:
                self._greeted = True
                self._hello(*message)
            elif self.cluster.intercept is None or not self.cluster.intercept(self, message):
                self._request(message)

    def emit(self, message: Any) -> None:
        """Send one message, in a frame of its own."""
        if not self.cluster.losing:
            self.stream.push(frame((pack(message),)))

    def cut(self) -> None:
        """Break the connection; what was sent and not read is lost."""
        self.stream.broken = True
        self.stream.wake()
        self.cluster.forget(self)

    def end(self, message: Any) -> None:
        """Send a last message and close."""
        self.emit(message)
        self.stream.ended = True
        self.stream.wake()
        self.cluster.forget(self)

    def _hello(self, session: int, password: bytes, timeout_ms: int, seen: int) -> None:
        cluster = self.cluster
        refusal = cluster.refuse_hello
        if refusal is not None:
            self.end((refusal.code, refusal.detail))
            return
        serial = 0
        if session:
            known = cluster.tree.sessions.get(session)
            if known is None:
                self.end((errors.SessionExpired.code, f"session {session}"))
                return
            if known.password != password:
                self.end((errors.WrongPassword.code, f"session {session}"))
                return
            serial = known.serial
        elif timeout_ms:
            # Of each session its own: an opening with a password in use is taken for one proposed twice.
            password = cluster.index.to_bytes(16, "big")
            cluster.apply((OPEN, 0, 0, 0, password, timeout_ms))
            session = cluster.index
        self.session = session
        timeout_ms = cluster.timeout_ms or timeout_ms
        limits = (1 << 20, cluster.in_flight_max)
        self.emit((errors.OK, session, password, timeout_ms, cluster.index, self.node, *limits, serial))

    def _request(self, message: list[Any]) -> None:
        op, number, *rest = message
        cluster = self.cluster
        if op >= FIRST_WRITE:
            answer = cluster.apply((op, self.session, number, *rest))
            if answer is not None:
                code, result = answer
                fields = result if code == errors.OK else (result,)
                self.emit((number, code, cluster.index, *fields))
            if op == CLOSE:
                self.stream.ended = True
                self.stream.wake()
            return
        try:
            self.emit((number, errors.OK, cluster.index, *self._answer(op, rest)))
        except errors.JkcsError as error:
            self.emit((number, error.code, cluster.index, error.detail))

    def _answer(self, op: int, arguments: list[Any]) -> tuple[Any, ...]:
        tree = self.cluster.tree
        if op in (PING, SYNC):
            return ()
        if op == STATUS:
            return ({"node": self.node},)
        if op == UNWATCH:
            self.watches.pop(arguments[0], None)
            return ()
        if op == WATCH:
            self._watch(*arguments)
            return ()
        path = arguments[0]
        if op == EXISTS:
            return (tree.stat(path) if path in tree.keys else None,)
        if path not in tree.keys:
            raise errors.NoNode(path)
        if op == GET:
            return tree.keys[path].data, tree.stat(path)
        assert op == CHILDREN, op
        return tree.children(path), tree.stat(path)

    def _watch(self, watch_id: int, path: str, mode: int, since: int) -> None:
        if since and since < self.cluster.compacted:
            raise errors.Compacted(f"events since index {since} are gone")
        self.watches[watch_id] = (path, mode, since)
        if since:
            for index, kind, event_path in self.cluster.history:
                if index > since:
                    self.tell(watch_id, kind, event_path, index)

    def tell(self, watch_id: int, kind: int, path: str, index: int) -> None:
        """Send one event to one watch, if it concerns it."""
        watch = self.watches.get(watch_id)
        if watch is None:
            return
        mine, mode, since = watch
        reported = _reported(mine, mode, kind, path)
        if reported is not None and index > since:
            if mode in (WatchMode.ONCE, WatchMode.ONCE_CHILDREN):
                del self.watches[watch_id]
            self.emit((0, watch_id, reported[0], index, reported[1]))


def _reported(mine: str, mode: int, kind: int, path: str) -> tuple[int, str] | None:
    if mode == WatchMode.RECURSIVE:
        return (kind, path) if path == mine or path.startswith(mine.rstrip("/") + "/") else None
    if path == mine:
        return (kind, path) if mode != WatchMode.ONCE_CHILDREN or kind == EventKind.DELETED else None
    parent = path[: path.rindex("/")] or "/"
    if mode != WatchMode.ONCE and kind in (EventKind.CREATED, EventKind.DELETED) and parent == mine:
        return int(EventKind.CHILDREN), mine
    return None


class FakeCluster:
    """Any number of servers over one tree. Give `dial` to the client as its dialer."""

    def __init__(self) -> None:
        self.tree = ModelTree()
        self.index = FIRST_INDEX
        self.history: list[tuple[int, int, str]] = []
        """(index, kind, path) of all events."""
        self.compacted = 0
        """A watch since an index below this is refused."""
        self.connections: list[FakeConnection] = []
        """Those that are open, oldest first."""
        self.dialed: list[Address] = []
        self.received: list[list[Any]] = []
        """All messages from all clients, hellos included."""
        self.down: set[str] = set()
        """Hosts that refuse connections."""
        self.holding = False
        """Requests are taken but not looked at, until `release`."""
        self.deaf = False
        """Hellos are not looked at."""
        self.losing = False
        """Requests are handled, but nothing that is sent arrives."""
        self.refuse_hello: errors.JkcsError | None = None
        self.intercept: Callable[[FakeConnection, list[Any]], bool] | None = None
        """Sees each request first; True: it has dealt with it."""
        self.timeout_ms = 0
        """The session timeout that is given, whatever is asked for; 0: as asked."""
        self.in_flight_max = 1024

    async def dial(self, address: Address) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        self.dialed.append(address)
        if address.host in self.down:
            raise ConnectionRefusedError(f"{address} refused")
        connection = FakeConnection(self, f"node-{address.host}")
        self.connections.append(connection)
        return connection.stream

    def forget(self, connection: FakeConnection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    @property
    def connection(self) -> FakeConnection:
        """The newest."""
        return self.connections[-1]

    def apply(self, command: Any) -> Any:
        """One log entry: the tree, then the watchers; the answer to send."""
        self.index += 1
        answer = self.tree.apply(self.index, 1_700_000_000_000 + self.index, command)
        for kind, path in self.tree.events:
            self.history.append((self.index, int(kind), path))
            for connection in list(self.connections):
                for watch_id in list(connection.watches):
                    connection.tell(watch_id, int(kind), path, self.index)
        return answer

    def cut(self) -> None:
        """Break every connection."""
        for connection in list(self.connections):
            connection.cut()

    def release(self) -> None:
        """Look at requests again, and at those that were held."""
        self.holding = False
        for connection in list(self.connections):
            connection.work()

    def expire(self, session: int) -> None:
        """The cluster gives a session up."""
        self.apply((EXPIRE, session, 0, 0, 0))
        for connection in list(self.connections):
            if connection.session == session:
                connection.end((0, errors.SessionExpired.code, self.index, f"session {session}"))

    def ops(self) -> list[int]:
        """The opcodes of all requests received so far, without pings and hellos."""
        return [message[0] for message in self.received if type(message[1]) is int and message[0] != PING]


def client_of(cluster: FakeCluster, url: str = "jkcs://a,b,c", **options: Any) -> Client:
    """A client of this cluster whose chance is always the same."""
    return connect(url, **{"dialer": cluster.dial, "random": Random(7), **options})
