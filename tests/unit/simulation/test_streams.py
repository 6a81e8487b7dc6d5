"""The simulated connections of clients."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import anyio
import pytest

from tests.simulation.links import Links
from tests.simulation.loop import Process, SimLoop
from tests.simulation.streams import WRITE_BUFFER_HIGH, Connection


class Echo(asyncio.Protocol):
    """Sends back what it gets, and writes down its life."""

    def __init__(self, *, mute: bool = False) -> None:
        self.life: list[str] = []
        self.received = b""
        self.transport: Any = None
        self.mute = mute

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.life.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.mute:
            self.transport.write(data)

    def eof_received(self) -> bool:
        self.life.append("eof")
        return False

    def pause_writing(self) -> None:
        self.life.append("pause")

    def resume_writing(self) -> None:
        self.life.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.life.append("lost" if error is None else "reset")


class Line:
    """One client's connection to one echoing server."""

    def __init__(self, *, mute: bool = False) -> None:
        self.loop = SimLoop()
        self.links = Links(self.loop, random.Random(3))
        self.client, self.server = Process("c1"), Process("n1")
        self.connection = Connection(self.links, self.client, self.server)
        self.echo = Echo(mute=mute)
        self.connection.open(self.echo)


def test_bytes_come_back_in_order_in_pieces() -> None:
    """A decoder that counts on whole frames must be found out."""
    line = Line()
    data = bytes(range(256)) * 40

    async def inside() -> int:
        await line.connection.stream.send(data)
        received, pieces = b"", 0
        while len(received) < len(data):
            received += await line.connection.stream.receive()
            pieces += 1
        assert received == data
        return pieces

    async def main() -> int:
        return await line.loop.spawn(line.client, inside())

    assert line.loop.run(main()) > 1


def test_pieces_that_arrive_at_one_instant_keep_their_order() -> None:
    """A slow packet holds up those behind it, whenever they were sent; a stream never reorders."""
    line = Line(mute=True)
    line.links.slow_rate = 0.1

    async def inside() -> None:
        for number in range(2000):
            await line.connection.stream.send(b"%05d" % number)
            await anyio.sleep(0.0007)
        await anyio.sleep(1)

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())
    assert line.echo.received == b"".join(b"%05d" % number for number in range(2000))


def test_cut_wire_stalls_bytes_until_it_heals() -> None:
    """A stream loses nothing in a partition that ends: it is late."""
    line = Line()

    async def inside() -> bytes:
        line.links.cut("c1", "n1")
        await line.connection.stream.send(b"abc")
        with anyio.move_on_after(5):
            await line.connection.stream.receive()
            pytest.fail("the wire is cut")
        line.links.heal()
        received = b""
        while len(received) < 3:
            received += await line.connection.stream.receive()
        return received

    async def main() -> bytes:
        return await line.loop.spawn(line.client, inside())

    assert line.loop.run(main()) == b"abc"


def test_reset_reaches_both_ends() -> None:
    """Both sides have code for it, and both must be run."""
    line = Line()

    async def inside() -> None:
        line.connection.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await line.connection.stream.receive()
        await anyio.sleep(1)
        assert line.echo.life == ["made", "reset"]

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())


def test_close_ends_both_sides_in_order() -> None:
    """What was written before a close arrives before the end."""
    line = Line()

    async def inside() -> None:
        await line.connection.stream.send(b"last words")
        await line.connection.stream.aclose()
        await anyio.sleep(1)
        assert line.echo.received == b"last words"
        assert line.echo.life == ["made", "eof", "lost"]

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())


def test_client_that_does_not_take_bytes_in_holds_the_server_back() -> None:
    """Without back-pressure a slow client would fill the server's memory."""
    line = Line(mute=True)

    async def main() -> None:
        line.loop.pause(line.client)
        line.echo.transport.write(b"x" * (WRITE_BUFFER_HIGH + 1))
        await asyncio.sleep(1)
        assert line.echo.life == ["made", "pause"]
        line.loop.resume(line.client)
        await asyncio.sleep(1)
        assert line.echo.life == ["made", "pause", "resume"]

    line.loop.run(main())


def test_server_that_pauses_reading_gets_the_bytes_later() -> None:
    """A server with too many requests in flight stops reading and must lose nothing by it."""
    line = Line(mute=True)

    async def inside() -> None:
        line.echo.transport.pause_reading()
        await line.connection.stream.send(b"abc")
        await anyio.sleep(1)
        assert line.echo.received == b""
        line.echo.transport.resume_reading()
        await anyio.sleep(1)
        assert line.echo.received == b"abc"

    async def main() -> None:
        await line.loop.spawn(line.client, inside())

    line.loop.run(main())
