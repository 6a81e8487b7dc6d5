"""The proxies: what is cut stays cut and is not lost, what is torn is torn in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.links import Link

pytestmark = pytest.mark.asyncio
PATIENCE = 10.0
"""Seconds for what must happen; a test that fails waits so long."""
NOTHING_SECONDS = 0.1
"""What must not happen is looked for so long; too short can only let a test pass that should fail."""


class Sink:
    """A server that remembers what it was sent."""

    def __init__(self) -> None:
        self.received = b""
        self.connections = 0
        self.ended = 0
        self.changed = asyncio.Event()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.changed.set()
        try:
            while data := await reader.read(1024):
                self.received += data
                self.changed.set()
        except OSError:
            pass
        self.ended += 1
        self.changed.set()
        writer.close()

    async def until_received(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.received != data:
                self.changed.clear()
                await self.changed.wait()

    async def until_ended(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.ended < count:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Sink, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A link to a sink, and a connection through it."""
    sink = Sink()
    server = await asyncio.start_server(sink.accept, "127.0.0.1", 0)
    link = Link("a>b", server.sockets[0].getsockname())
    reader, writer = await asyncio.open_connection(*await link.start())
    try:
        yield link, sink, reader, writer
    finally:
        writer.close()
        await link.close()
        server.close()


async def test_bytes_pass() -> None:
    async with linked() as (_, sink, _, writer):
        writer.write(b"one")
        await sink.until_received(b"one")


async def test_a_cut_link_holds_bytes_back_and_loses_none() -> None:
    """As TCP does over a network that drops packets; neither side is told."""
    async with linked() as (link, sink, _, writer):
        writer.write(b"one")
        await sink.until_received(b"one")
        link.cut()
        writer.write(b"two")
        await asyncio.sleep(NOTHING_SECONDS)
        assert sink.received == b"one"
        assert sink.ended == 0
        link.heal()
        await sink.until_received(b"onetwo")


async def test_nobody_connects_through_a_cut_link_not_even_later() -> None:
    """A greeting that arrived after its sender had left would end the connection that took its place."""
    async with linked() as (link, sink, _, writer):
        writer.write(b"one")
        await sink.until_received(b"one")
        link.cut()
        assert link._server is not None
        reader, second = await asyncio.open_connection(*link._server.sockets[0].getsockname())
        second.write(b"hello")
        await asyncio.sleep(NOTHING_SECONDS)
        link.heal()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(OSError):
                if not await reader.read():
                    raise OSError("ended")
        assert sink.connections == 1
        second.close()


async def test_a_torn_frame_ends_in_its_middle() -> None:
    """The receiver gets the beginning, then the end of the connection."""
    async with linked() as (link, sink, _, writer):
        link.tear(3)
        writer.write(b"abcdef")
        await sink.until_ended(1)
        assert sink.received == b"abc"
        assert link.torn == 1


async def test_a_frame_shorter_than_the_tear_is_torn_before_its_last_byte() -> None:
    """Else nothing would be torn at all."""
    async with linked() as (link, sink, _, writer):
        link.tear(100)
        writer.write(b"abcdef")
        await sink.until_ended(1)
        assert sink.received == b"abcde"


async def test_a_slow_link_delays_what_it_carries() -> None:
    async with linked() as (link, sink, _, writer):
        link.slow(0.2)
        began = asyncio.get_running_loop().time()
        writer.write(b"one")
        await sink.until_received(b"one")
        assert asyncio.get_running_loop().time() - began >= 0.19


async def test_the_end_of_one_side_is_the_end_of_the_other() -> None:
    """Failover waits for the news that a process has died; a proxy must not keep it."""
    async with linked() as (_, sink, _, writer):
        writer.write(b"one")
        await sink.until_received(b"one")
        writer.transport.abort()
        await sink.until_ended(1)
