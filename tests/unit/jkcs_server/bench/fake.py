"""A server of one node over a dictionary, in either protocol: enough for the load, and able to lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self, cast

from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import CLOSE, CREATE, DELETE, GET, PREFACE, SET, WATCH, CreateFlag, EventKind
from jkcs_server.bench.clusters import lines
from jkcs_server.bench.line import Wire
from jkcs_server.bench.subject import Member

NO_NODE, NODE_EXISTS = -101, -110
JUTE = {1: CREATE, 2: DELETE, 4: GET, 5: SET}
SYNC, CLOSE_SESSION = 9, -11


class FakeTree:
    """Path -> [value, version, children, sequence]."""

    def __init__(self) -> None:
        self.keys: dict[str, list[Any]] = {"/": [b"", 0, 0, 0]}
        self.watchers: dict[str, list[Callable[[], None]]] = {}
        """Told of the key's next change, once."""
        self.ephemerals = 0
        """Keys that were created as such."""
        self.forgetful = False
        """Acknowledges writes to existing keys without doing them."""
        self.fails_with = 0
        """Answers every write with this code."""
        self.farewell = False
        """Ends the connection at the first request."""
        self.refuses = False
        """Refuses every session."""
        self.keeps = False
        """Does not let a session end."""
        self.misnames = False
        """Gives every sequential key a number too high."""
        self.largest_batch = 0
        """Most requests that came in one frame, or in one piece."""
        self.sessions = 0
        self.opened = 0
        """Sessions, in all."""

    def write(self, op: int, path: str, value: bytes = b"", flags: int = 0) -> tuple[int, str]:
        """Code and path."""
        if self.fails_with:
            return self.fails_with, "no"
        if op == CREATE:
            return self._create(path, value, flags)
        if path not in self.keys:
            return NO_NODE, path
        if op == DELETE:
            del self.keys[path]
            self.keys[path.rpartition("/")[0] or "/"][2] -= 1
            return 0, path
        assert op == SET, op
        if not self.forgetful:
            self.keys[path][0] = value
            self.keys[path][1] += 1
            for told in self.watchers.pop(path, []):
                told()
        return 0, path

    def _create(self, path: str, value: bytes, flags: int) -> tuple[int, str]:
        parent = self.keys[path.rpartition("/")[0] or "/"]
        if flags & CreateFlag.SEQUENTIAL:
            path += f"{parent[3] + self.misnames:010d}"
        if path in self.keys:
            return NODE_EXISTS, path
        self.ephemerals += bool(flags & CreateFlag.EPHEMERAL)
        self.keys[path] = [value, 0, 0, 0]
        parent[2] += 1
        parent[3] += 1
        return 0, path


class FakeConnection(asyncio.Protocol):
    """One client of a fake tree."""

    def __init__(self, tree: FakeTree) -> None:
        self.tree = tree
        self.greeted = False
        self.out: list[bytes] = []
        """Messages that leave at the end of the turn."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def flush(self) -> None:
        if self.out and not self.transport.is_closing():
            self.transport.write(self.join(self.out))
        self.out = []

    def join(self, messages: list[bytes]) -> bytes:
        raise NotImplementedError

    def open_session(self) -> None:
        self.greeted = True
        self.tree.sessions += 1
        self.tree.opened += 1


class NativeFake(FakeConnection):
    """In the native protocol."""

    def __init__(self, tree: FakeTree) -> None:
        super().__init__(tree)
        self.decoder = FrameDecoder()
        self.preface = b""

    def join(self, messages: list[bytes]) -> bytes:
        return frame(messages)

    def data_received(self, data: bytes) -> None:
        if len(self.preface) < len(PREFACE):
            self.preface += data
            data, self.preface = self.preface[len(PREFACE) :], self.preface[: len(PREFACE)]
        messages = self.decoder.feed(data)
        if messages and not self.greeted:
            self._greet(messages.pop(0))
        if messages and self.tree.farewell:
            self.transport.write(frame([pack([0, -301, 7, "too much"])]))
            self.transport.close()
        elif messages:
            self.tree.largest_batch = max(self.tree.largest_batch, len(messages))
            self.out += [pack(self._answer(message)) for message in messages]
            self.flush()

    def _greet(self, hello: list[Any]) -> None:
        if self.tree.refuses:
            self.transport.write(frame([pack([-302, "nobody leads"])]))
            self.transport.close()
            return
        self.open_session()
        self.transport.write(frame([pack([0, 5, bytes(16), hello[2], 7, "n1", 1 << 20, 1024, 0])]))

    def _answer(self, message: list[Any]) -> list[Any]:
        op, number, *arguments = message
        if op == GET:
            key = self.tree.keys.get(arguments[0])
            return [number, NO_NODE, 7, arguments[0]] if key is None else [number, 0, 7, key[0], _stat(key)]
        if op == WATCH:
            event = pack([0, arguments[0], int(EventKind.CHANGED), 8, arguments[1]])
            self.tree.watchers.setdefault(arguments[1], []).append(lambda: self._tell(event))
            return [number, 0, 7]
        if op == CLOSE:
            if self.tree.keeps:
                return [number, -301, 7, "busy"]
            self.tree.sessions -= 1
            return [number, 0, 7]
        code, path = self.tree.write(op, arguments[1], *_value_and_flags(op, arguments))
        if code:
            return [number, code, 7, path]
        if op == DELETE:
            return [number, 0, 7]
        return [number, 0, 7, *([path] if op == CREATE else []), _stat(self.tree.keys[path])]

    def _tell(self, event: bytes) -> None:
        self.out.append(event)
        asyncio.get_running_loop().call_soon(self.flush)


class JuteFake(FakeConnection):
    """In ZooKeeper's protocol."""

    def __init__(self, tree: FakeTree) -> None:
        super().__init__(tree)
        self.buffer = b""

    def join(self, messages: list[bytes]) -> bytes:
        return b"".join(struct.pack(">i", len(message)) + message for message in messages)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        requests = 0
        while len(self.buffer) >= 4 and len(self.buffer) >= 4 + (size := struct.unpack_from(">i", self.buffer)[0]):
            body, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
            requests += 1
            if self.greeted:
                self.out.append(self._answer(body))
            else:
                self.open_session()
                self.out.append(struct.pack(">iiqi16s?", 0, 40_000, 5, 16, bytes(16), False))
        self.tree.largest_batch = max(self.tree.largest_batch, requests)
        self.flush()

    def _answer(self, body: bytes) -> bytes:
        xid, op = struct.unpack_from(">ii", body)
        code, result = self._do(op, body[8:])
        return struct.pack(">iqi", xid, 7, code) + result

    def _do(self, op: int, body: bytes) -> tuple[int, bytes]:
        if op == CLOSE_SESSION:
            self.tree.sessions -= not self.tree.keeps
            return (-301 if self.tree.keeps else 0), b""
        path, rest = _take(body)
        if op == SYNC:
            return 0, _buffer(path)
        name = path.decode()
        if JUTE[op] == GET:
            key = self.tree.keys.get(name)
            if rest == b"\x01":
                event = struct.pack(">iqiii", -1, 8, 0, 3, 3) + _buffer(path)
                self.tree.watchers.setdefault(name, []).append(lambda: self._tell(event))
            return (NO_NODE, b"") if key is None else (0, _buffer(key[0]) + _jute_stat(key))
        value = _take(rest)[0] if JUTE[op] != DELETE else b""
        flags = struct.unpack(">i", rest[-4:])[0] if JUTE[op] == CREATE else 0
        code, made = self.tree.write(JUTE[op], name, value, flags)
        if code or JUTE[op] == DELETE:
            return code, b""
        return 0, _buffer(made.encode()) if JUTE[op] == CREATE else _jute_stat(self.tree.keys[name])

    def _tell(self, event: bytes) -> None:
        self.out.append(event)
        asyncio.get_running_loop().call_soon(self.flush)


def _value_and_flags(op: int, arguments: list[Any]) -> list[Any]:
    return {CREATE: arguments[2:4], SET: arguments[2:3], DELETE: []}[op]


def _stat(key: list[Any]) -> list[int]:
    return [1, 1, 1, 0, 0, key[1], 0, 0, len(key[0]), key[2]]


def _jute_stat(key: list[Any]) -> bytes:
    return struct.pack(">qqqqiiiqiiq", 1, 1, 0, 0, key[1], 0, 0, 0, len(key[0]), key[2], 1)


def _buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    size = struct.unpack_from(">i", data)[0]
    return data[4 : 4 + size], data[4 + size :]


FAKES: dict[Wire, Callable[[FakeTree], FakeConnection]] = {Wire.NATIVE: NativeFake, Wire.ZOOKEEPER: JuteFake}


@contextlib.asynccontextmanager
async def serve(tree: FakeTree, wire: Wire = Wire.NATIVE) -> AsyncIterator[tuple[str, int]]:
    """The address of a server over `tree`, in the running loop."""
    open_connections: list[FakeConnection] = []

    def accept() -> FakeConnection:
        open_connections.append(FAKES[wire](tree))
        return open_connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        for connection in open_connections:
            connection.transport.abort()
        await asyncio.sleep(0)


class FakeSubject:
    """A cluster of one fake server. Entered, it serves from a thread of its own; see `Subject`."""

    name = "jkcs"
    folder = ""
    ours = True

    def __init__(self, tree: FakeTree, address: tuple[str, int] = ("127.0.0.1", 0), wire: Wire = Wire.NATIVE) -> None:
        self.tree = tree
        self.address = address
        self.started = self.killed = 0
        self.wire = wire
        self.line = lines(wire)

    def members(self) -> list[Member]:
        return [Member(self.address, True, os.getpid())]

    def kill(self) -> None:
        self.killed += 1

    def start(self) -> None:
        self.started += 1

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self.address = self._stack.enter_context(_serve_in_thread(self.tree, self.wire))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@contextlib.contextmanager
def _serve_in_thread(tree: FakeTree, wire: Wire) -> Iterator[tuple[str, int]]:
    ready, addresses = threading.Event(), []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def live() -> None:
        async with serve(tree, wire) as address:
            addresses.append(address)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    assert ready.wait(20)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
