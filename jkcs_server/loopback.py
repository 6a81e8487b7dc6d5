"""A client connection without a socket: the two ends of a pipe inside one event loop.

For a client that lives in the same process as its node. The client's end is an anyio byte stream, the
server's end an asyncio transport; bytes cross in the next turn of the loop, in order, so neither side is
ever called from within its own call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import ByteStream

UNREAD_BYTES_MAX = 1 << 20
"""Beyond this much unread by the server, the client's `send` waits."""


class LoopbackStream(ByteStream):
    """The client's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        self._loop = loop
        self._protocol = protocol
        self._transport = _LoopbackTransport(self)
        self._received: deque[bytes] = deque()
        self._arrived = anyio.Event()
        self._room = anyio.Event()
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self.closed = False
        """By either end."""
        loop.call_soon(self._open)

    def _open(self) -> None:
        self._protocol.connection_made(self._transport)

    # The client's calls.

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while not self._received:
            if self.closed:
                raise anyio.EndOfStream
            self._arrived = anyio.Event()
            await self._arrived.wait()
        data = self._received.popleft()
        if len(data) > max_bytes:
            self._received.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        return data

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        while self._outgoing_bytes > UNREAD_BYTES_MAX and not self.closed:
            self._room = anyio.Event()
            await self._room.wait()
        if self.closed:
            raise anyio.BrokenResourceError
        self._outgoing.append(item)
        self._outgoing_bytes += len(item)
        self._loop.call_soon(self._deliver)

    async def send_eof(self) -> None:
        self.hang_up()

    async def aclose(self) -> None:
        self.hang_up()
        await anyio.lowlevel.checkpoint()

    # Between the ends.

    def _deliver(self) -> None:
        """Give the server what it has not read, unless it has asked for a pause."""
        while self._outgoing and not self.closed and not self._transport.paused:
            data = self._outgoing.popleft()
            self._outgoing_bytes -= len(data)
            self._protocol.data_received(data)
        if self._outgoing_bytes <= UNREAD_BYTES_MAX:
            self._room.set()

    def resume(self) -> None:
        self._loop.call_soon(self._deliver)

    def arrive(self, data: bytes) -> None:
        """The server has written."""
        if not self.closed:
            self._received.append(data)
            self._arrived.set()

    def unread(self) -> int:
        return sum(map(len, self._received))

    def hang_up(self) -> None:
        """Either end is done: the client may still read what had arrived."""
        if not self.closed:
            self.closed = True
            self._arrived.set()
            self._room.set()
            self._loop.call_soon(self._protocol.connection_lost, None)


class _LoopbackTransport(asyncio.Transport):
    """The server's end."""

    def __init__(self, stream: LoopbackStream) -> None:
        super().__init__()
        self._stream = stream
        self.paused = False

    def write(self, data: Any) -> None:
        self._stream.arrive(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self._stream.unread()

    def is_closing(self) -> bool:
        return self._stream.closed

    def close(self) -> None:
        self._stream.hang_up()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self._stream.resume()


def connect_to(accept: Callable[[], asyncio.Protocol]) -> LoopbackStream:
    """A new connection to a server in this event loop."""
    return LoopbackStream(asyncio.get_running_loop(), accept())
