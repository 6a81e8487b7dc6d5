"""What strangers and broken clients send to a real node: each is refused by name, and no other client notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jkcs_client import BadPath, Client, NoNode, TooLarge
from jkcs_client.protocol.errors import BadArguments, Busy, ProtocolError, SessionExpired, Unimplemented, WrongPassword
from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import CREATE, FRAME_BYTES_MAX, GET, LOCAL, MULTI, PREFACE, SET, VALUE_BYTES_MAX
from jkcs_server import Node
from jkcs_server.serving.arrivals import ARRIVALS_MAX

pytestmark = pytest.mark.asyncio

HELLO = frame([pack([0, b"", 10_000, 0])])


class Raw:
    """A connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._decoder = FrameDecoder()
        self._messages: list[list[Any]] = []

    async def next(self) -> list[Any] | None:
        """The next message; None when the server has closed."""
        async with asyncio.timeout(10):
            while not self._messages:
                data = await self._reader.read(1 << 16)
                if not data:
                    return None
                self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def ask(self, *request: Any) -> list[Any]:
        self.writer.write(frame([pack(request)]))
        answer = await self.next()
        assert answer is not None
        return answer


@asynccontextmanager
async def raw(node: Node, *first: bytes) -> AsyncIterator[Raw]:
    assert node.client_address is not None
    reader, writer = await asyncio.open_connection(*node.client_address)
    try:
        writer.write(b"".join(first))
        yield Raw(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def node_and_witness(directory: Path) -> AsyncIterator[tuple[Node, Client]]:
    """A node with a client that must not notice anything."""
    async with Node.single(directory) as node, node.client() as client:
        await client.create("/witness", b"before")
        yield node, client
        assert (await client.get("/witness"))[0] == b"before"
        await client.set("/witness", b"after")


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (b"JKCS\x63", ProtocolError.code, "version 99 is not spoken here"),
        (PREFACE + b"\xff\xff\xff\xff", ProtocolError.code, f"limit {FRAME_BYTES_MAX}"),
        (PREFACE + frame([b"\xc1\xc1"]), ProtocolError.code, "msgpack"),
        (PREFACE + frame([pack(["hello"])]), ProtocolError.code, "a hello is"),
        (PREFACE + frame([pack([12345, b"x" * 16, 10_000, 0])]), SessionExpired.code, "session 12345"),
    ],
)
async def test_a_connection_that_cannot_be_is_told_why_and_closed(
    tmp_path: Path, sent: bytes, code: int, said: str
) -> None:
    async with node_and_witness(tmp_path) as (node, _), raw(node, sent) as stranger:
        refusal = await stranger.next()
        assert refusal is not None and refusal[0] == code and said in refusal[1]
        assert await stranger.next() is None


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\x00" * 64])
async def test_another_protocol_is_closed(tmp_path: Path, sent: bytes) -> None:
    async with node_and_witness(tmp_path) as (node, _), raw(node, sent) as stranger:
        assert await stranger.next() is None


async def test_a_wrong_session_password_is_refused_and_the_session_keeps_its_owner(tmp_path: Path) -> None:
    async with node_and_witness(tmp_path) as (node, client):
        stolen = frame([pack([client.session_id, b"guess" * 3 + b"!", 10_000, 0])])
        async with raw(node, PREFACE, stolen) as thief:
            refusal = await thief.next()
            assert refusal is not None and refusal[0] == WrongPassword.code
            assert await thief.next() is None
        await client.create("/mine", b"", ephemeral=True)


async def test_bad_requests_are_answered_one_by_one_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with node_and_witness(tmp_path) as (node, _), raw(node, PREFACE, HELLO) as client:
        await client.next()
        assert (await client.ask(GET, -1, "no-slash", LOCAL))[1] == BadPath.code
        assert (await client.ask(99, 1, 0, "/x"))[1] == Unimplemented.code
        assert (await client.ask(SET, 2, 1, "/x", b"v" * (VALUE_BYTES_MAX + 1), -1))[1] == TooLarge.code
        assert (await client.ask(SET, 3, 2, "/x", "text", -1))[1] == BadArguments.code
        assert (await client.ask(SET, 4, 3, "/x", b"", -1))[1] == NoNode.code
        assert (await client.ask(MULTI, 5, 4, [[CREATE, "/a", b"", 0], [SET, "/none", b"", -1]]))[1] == NoNode.code
        assert (await client.ask(CREATE, 6, 5, "/a", b"", 0))[1] == 0


async def test_a_frame_cut_in_the_middle_harms_nobody(tmp_path: Path) -> None:
    async with node_and_witness(tmp_path) as (node, client):
        async with raw(node, PREFACE, HELLO) as broken:
            await broken.next()
            broken.writer.write(frame([pack([CREATE, 1, 0, "/half", b"x" * 1000, 0])])[:500])
            await broken.writer.drain()
        assert await client.exists("/half") is None


async def test_many_half_open_connections_leave_room_for_clients(tmp_path: Path) -> None:
    """Nothing is owed to a connection that says nothing."""
    async with node_and_witness(tmp_path) as (node, _):
        assert node.client_address is not None
        idle = [await asyncio.open_connection(*node.client_address) for _ in range(300)]
        async with raw(node, PREFACE, HELLO) as client:
            hello = await client.next()
            assert hello is not None and hello[0] == 0
        for _, writer in idle:
            writer.close()


async def test_a_client_too_many_is_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    """A full server answers: silence would make its clients wait for a server that will not have them."""
    async with Node.single(tmp_path) as node, node.client() as witness:
        assert node._server is not None
        requests = node._server.requests
        requests._connections_max = len(requests.connections) + 1
        async with raw(node, PREFACE, HELLO), raw(node, PREFACE, HELLO) as late:
            answer = await late.next()
            assert answer is not None and answer[0] == Busy.code and "clients already" in answer[1]
            assert await late.next() is None
            await witness.create("/a", b"")


async def test_new_sessions_are_turned_away_while_too_much_waits(tmp_path: Path) -> None:
    """Nothing may grow without end while the cluster has no leader to give it to."""
    async with Node.single(tmp_path) as node, node.client() as witness:
        assert node._server is not None
        node._server.requests.arrivals._opening.update(
            {b"%d" % number: (None, 10_000) for number in range(ARRIVALS_MAX)}
        )
        async with raw(node, PREFACE, HELLO) as late:
            answer = await late.next()
            assert answer is not None and answer[0] == Busy.code
        node._server.requests.arrivals._opening.clear()
        await witness.create("/a", b"")
