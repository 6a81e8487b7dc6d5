"""Clients' connections: ordered bytes both ways, cut up at random, stalled by cut wires, reset at any byte.

The client's end is an anyio `ByteStream`, the server's end an asyncio transport that drives the server's
protocol object, each in its own simulated process. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any
from zlib import crc32

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream

from tests.simulation.links import Links
from tests.simulation.loop import WORLD, Process

WRITE_BUFFER_HIGH = 64 * 1024
"""Bytes on their way beyond which a writer is held back."""
WRITE_BUFFER_LOW = 16 * 1024
SPLIT_BYTES_MAX = 4096


class _Pipe:
    """One direction of a connection: bytes arrive in the order in which they were written."""

    def __init__(self, links: Links, sender: str, receiver: str) -> None:
        self._links = links
        self._sender = sender
        self._receiver = receiver
        self._last_arrival = 0.0
        self._stalled: deque[bytes | None] = deque()
        """What could not pass while the wire is cut; a real network sends it again after the cut."""
        self.in_flight = 0
        """Bytes written that the receiving process has not taken in."""
        self.closed = False
        """Nothing that was not delivered ever will be. Set by `close`."""
        self.deliver: Callable[[bytes | None], None] = lambda data: None
        """Gets each piece, and None for the end."""
        self.split_rate = 0.3
        links.on_heal(self._flush)

    def close(self) -> None:
        self.closed = True
        self._stalled.clear()
        self._links.forget(self._flush)

    def write(self, data: bytes | None) -> None:
        for piece in self._pieces(data) if data is not None else (None,):
            self.in_flight += len(piece) if piece is not None else 0
            self._last_arrival = max(self._last_arrival, self._links.loop.now + self._links.delay())
            # At exactly this time, not after a difference of it: rounding would let a piece overtake another.
            self._links.loop.call_at_true_time(self._last_arrival, self._arrive, piece, context=WORLD)

    def _pieces(self, data: bytes) -> list[bytes]:
        chance = self._links.chance
        pieces = []
        while len(data) > 1 and chance.random() < self.split_rate:
            at = chance.randint(1, min(len(data) - 1, SPLIT_BYTES_MAX))
            pieces.append(data[:at])
            data = data[at:]
        pieces.append(data)
        return pieces

    def _arrive(self, piece: bytes | None) -> None:
        if self.closed:
            return
        if self._stalled or not self._links.is_open(self._sender, self._receiver):
            self._stalled.append(piece)
        else:
            self.deliver(piece)

    def _flush(self) -> None:
        if not self.closed and self._links.is_open(self._sender, self._receiver):
            while self._stalled:
                self.deliver(self._stalled.popleft())


class Connection:
    """One client's connection to one server process."""

    def __init__(self, links: Links, client: Process, server: Process) -> None:
        self.client = client
        self.server = server
        self.up = _Pipe(links, client.name, server.name)
        self.down = _Pipe(links, server.name, client.name)
        self.links = links
        self.stream = SimStream(self)
        self.transport = SimTransport(self)
        self.broken = False
        self.on_reply: Callable[[str], None] = lambda side: None
        """Told "before" and "after" of each write of the server."""
        self.on_sent: Callable[[bytes], None] = lambda data: None
        """Told what the client writes ..."""
        self.on_written: Callable[[bytes], None] = lambda data: None
        """... and what the server does."""
        self.up.deliver = lambda data: self._enter(server, self._to_server, data)
        self.down.deliver = lambda data: self._enter(client, self._to_client, data)

    def open(self, protocol: asyncio.Protocol) -> None:
        """Bind the server's protocol object; runs in the server's process."""
        self.transport.bind(protocol)

    def reset(self) -> None:
        """Break the connection: what is on its way is lost, and both ends notice."""
        if self.broken:
            return
        self.broken = True
        self.up.close()
        self.down.close()
        for process, lost in ((self.client, self.stream.on_reset), (self.server, self.transport.on_reset)):
            self.links.later(self.links.delay(), self._enter, process, lost)

    def vanish(self, process: Process) -> None:
        """One end's machine is gone without a word: the other end finds out when it hears nothing."""
        pipe = self.down if process is self.server else self.up
        pipe.close()

    def _to_server(self, data: bytes | None) -> None:
        self.up.in_flight -= len(data or b"")
        self.transport.on_data(data)
        if self.stream.wants_room and self.up.in_flight <= WRITE_BUFFER_HIGH:
            self._enter(self.client, self.stream.on_room)

    def _to_client(self, data: bytes | None) -> None:
        self.down.in_flight -= len(data or b"")
        self.stream.on_data(data)
        if self.transport.writing_paused:
            self._enter(self.server, self.transport.on_room)

    def _enter(self, process: Process, callback: Callable[..., None], *args: object) -> None:
        if not process.dead:
            self.links.loop.enter(process, callback, *args)


class SimStream(ByteStream):
    """The client's end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._received = bytearray()
        self._ended = False
        self._reset = False
        self._closed = False
        self._wake = anyio.Event()
        self.wants_room = False
        """A writer waits until the server has taken bytes in."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._received:
                data = bytes(self._received[:max_bytes])
                del self._received[:max_bytes]
                return data
            if self._reset:
                raise anyio.BrokenResourceError
            if self._ended:
                raise anyio.EndOfStream
            await self._wait()

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        while self._connection.up.in_flight > WRITE_BUFFER_HIGH and not self._reset and not self._closed:
            self.wants_room = True
            await self._wait()
        if self._closed:
            raise anyio.ClosedResourceError
        if self._reset:
            raise anyio.BrokenResourceError
        self._connection.on_sent(item)
        self._connection.up.write(bytes(item))

    async def send_eof(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._connection.up.write(None)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._signal()
            self._connection.up.write(None)
        await anyio.lowlevel.checkpoint()

    def on_data(self, data: bytes | None) -> None:
        if data is None:
            self._ended = True
        else:
            self._received += data
        self._signal()

    def on_room(self) -> None:
        """The server took bytes in."""
        self.wants_room = False
        self._signal()

    def on_reset(self) -> None:
        self._reset = True
        self._signal()

    async def _wait(self) -> None:
        await self._wake.wait()

    def _signal(self) -> None:
        self._wake.set()
        self._wake = anyio.Event()


def address_of(name: str) -> str:
    """Each client is a machine of its own, whose name decides its address."""
    return str(IPv4Address(10 << 24 | crc32(name.encode()) & 0xFFFFFF))


class SimTransport(asyncio.Transport):
    """The server's end."""

    def __init__(self, connection: Connection) -> None:
        peer = (address_of(connection.client.name), 1)
        super().__init__(extra={"peername": peer, "sockname": (connection.server.name, 1)})
        self._connection = connection
        self._protocol: Any = None
        self._reading = True
        self._waiting: deque[bytes | None] = deque()
        """Arrived while reading was paused."""
        self._closing = False
        self._lost = False
        self.writing_paused = False
        self._high = WRITE_BUFFER_HIGH
        self._low = WRITE_BUFFER_LOW

    def bind(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    # What asyncio.Transport promises.

    def write(self, data: Any) -> None:
        if self._closing or self._lost:
            return
        data = bytes(data)
        if data:
            self._connection.on_written(data)
            self._connection.on_reply("before")
            self._connection.down.write(data)
            self._connection.on_reply("after")
            if not self.writing_paused and self._connection.down.in_flight > self._high:
                self.writing_paused = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._connection.down.write(None)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._connection.down.write(None)
            self._connection.links.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._closing = True
        self._connection.reset()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._connection.links.loop.call_soon(self._drain)

    def is_reading(self) -> bool:
        return self._reading

    def get_write_buffer_size(self) -> int:
        return self._connection.down.in_flight

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = WRITE_BUFFER_HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    # What the wire tells.

    def on_data(self, data: bytes | None) -> None:
        self._waiting.append(data)
        self._drain()

    def on_reset(self) -> None:
        self._lose(ConnectionResetError("the connection was reset"))

    def on_room(self) -> None:
        """The client took bytes in: tell the server's protocol when there is room again."""
        if self.writing_paused and self._connection.down.in_flight <= self._low:
            self.writing_paused = False
            if not self._lost:
                self._protocol.resume_writing()

    def _drain(self) -> None:
        while self._reading and self._waiting and not self._closing and not self._lost:
            data = self._waiting.popleft()
            if data is not None:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._closing = self._lost = True
            self._protocol.connection_lost(error)
