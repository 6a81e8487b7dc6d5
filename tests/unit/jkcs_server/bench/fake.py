"""A server of one node that speaks the native protocol over a dictionary: enough for the load, and able to lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, cast

from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import CLOSE, CREATE, DELETE, GET, PREFACE, SET
from jkcs_server.bench.line import Line
from jkcs_server.bench.native import NativeLine, Parts
from jkcs_server.bench.subject import Member
from jkcs_server.bench.work import Kind

NO_NODE, NODE_EXISTS = -101, -110


class FakeTree:
    """Path -> [value, version, children]."""

    def __init__(self) -> None:
        self.keys: dict[str, list[Any]] = {"/": [b"", 0, 0]}
        self.forgetful = False
        """Acknowledges writes to existing keys without doing them."""
        self.fails_with = 0
        """Answers every write with this code."""
        self.farewell = False
        """Ends the connection at the first request."""
        self.refuses = False
        """Refuses every session."""
        self.largest_batch = 0
        """Most requests that came in one frame."""
        self.sessions = 0

    def answer(self, message: list[Any]) -> list[Any]:
        op, number, *arguments = message
        if op == GET:
            key = self.keys.get(arguments[0])
            return [number, NO_NODE, 7, arguments[0]] if key is None else [number, 0, 7, key[0], _stat(key)]
        if self.fails_with:
            return [number, self.fails_with, 7, "no"]
        if op == CLOSE:
            self.sessions -= 1
            return [number, 0, 7]
        path = arguments[1]
        parent = self.keys[path.rpartition("/")[0] or "/"]
        if op == CREATE:
            if path in self.keys:
                return [number, NODE_EXISTS, 7, path]
            self.keys[path] = [arguments[2], 0, 0]
            parent[2] += 1
            return [number, 0, 7, path, _stat(self.keys[path])]
        if path not in self.keys:
            return [number, NO_NODE, 7, path]
        if op == DELETE:
            del self.keys[path]
            parent[2] -= 1
            return [number, 0, 7]
        assert op == SET, message
        if not self.forgetful:
            self.keys[path][0] = arguments[2]
            self.keys[path][1] += 1
        return [number, 0, 7, _stat(self.keys[path])]


def _stat(key: list[Any]) -> list[int]:
    return [1, 1, 1, 0, 0, key[1], 0, 0, len(key[0]), key[2]]


class FakeConnection(asyncio.Protocol):
    """One client of a fake tree."""

    def __init__(self, tree: FakeTree) -> None:
        self.tree = tree
        self.decoder = FrameDecoder()
        self.preface = b""
        self.greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

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
            self.transport.write(frame([pack(self.tree.answer(message)) for message in messages]))

    def _greet(self, hello: list[Any]) -> None:
        self.greeted = True
        if self.tree.refuses:
            self.transport.write(frame([pack([-302, "nobody leads"])]))
            self.transport.close()
            return
        self.tree.sessions += 1
        self.transport.write(frame([pack([0, 5, bytes(16), hello[2], 7, "n1", 1 << 20, 1024, 0])]))


@contextlib.asynccontextmanager
async def serve(tree: FakeTree) -> AsyncIterator[tuple[str, int]]:
    """The address of a server over `tree`, in the running loop."""
    open_connections: list[FakeConnection] = []

    def accept() -> FakeConnection:
        open_connections.append(FakeConnection(tree))
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
    lacks: tuple[Kind, ...] = ()
    ours = True

    def __init__(self, tree: FakeTree, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.tree = tree
        self.address = address
        self.started = self.killed = 0
        self._parts = Parts()

    def line(self) -> Line:
        return NativeLine(self._parts)

    def members(self) -> list[Member]:
        return [Member(self.address, True, os.getpid())]

    def kill(self) -> None:
        self.killed += 1

    def start(self) -> None:
        self.started += 1

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self.address = self._stack.enter_context(_serve_in_thread(self.tree))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


@contextlib.contextmanager
def _serve_in_thread(tree: FakeTree) -> Iterator[tuple[str, int]]:
    ready, addresses = threading.Event(), []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def live() -> None:
        async with serve(tree) as address:
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
