"""One client's socket: what comes in one piece is handed on, in turns where the answers are large."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from jkcs_server.serving.crowd import Crowd
from jkcs_server.serving.greeting import Undecided
from jkcs_server.serving.listener import BURST_BYTES, SLICE_BYTES, ClientProtocol

pytestmark = pytest.mark.asyncio


class Transport(asyncio.Transport):
    def __init__(self, host: str | None = None, sock: socket.socket | None = None) -> None:
        super().__init__({"socket": sock} if host is None else {"peername": (host, 4711)})
        self.written = 0
        self.reading = True
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Connection:
    """Answers every slice with so many bytes."""

    def __init__(self, protocol: ClientProtocol, answer: int) -> None:
        self.protocol = protocol
        self.answer = answer
        self.closed = False
        self.got = b""
        self.pauses_at = -1

    def receive(self, data: bytes) -> None:
        assert len(data) <= SLICE_BYTES
        self.got += data
        self.protocol.write(bytes(self.answer))
        if 0 <= self.pauses_at < len(self.got):
            self.protocol.pause()

    def lost(self) -> None:
        self.closed = True


def client(answer: int) -> tuple[Transport, ClientProtocol, Connection]:
    made: list[Connection] = []

    def accept(sink: object) -> Undecided:
        made.append(Connection(cast("ClientProtocol", sink), answer))
        return cast("Undecided", made[0])

    protocol, transport = ClientProtocol(accept, Crowd(0)), Transport()
    protocol.connection_made(transport)
    return transport, protocol, made[0]


DATA = bytes(range(256)) * 1024


async def test_small_answers_are_made_in_one_go() -> None:
    """The usual case: nothing is held back, and no turn is lost."""
    transport, protocol, connection = client(100)
    protocol.data_received(DATA)
    assert connection.got == DATA and transport.reading


async def test_large_answers_give_the_others_their_turn() -> None:
    """Or a client that asks for large lists in small requests, and reads fast, would have the server to itself."""
    transport, protocol, connection = client(BURST_BYTES // 4)
    protocol.data_received(DATA)
    assert transport.written <= 2 * BURST_BYTES and not transport.reading
    protocol.data_received(b"more")  # what TLS had decrypted already
    turns = 0
    while not transport.reading:
        before = transport.written
        await asyncio.sleep(0)
        assert transport.written - before <= 2 * BURST_BYTES
        turns += 1
    assert connection.got == DATA + b"more" and turns > 5


async def test_a_connection_that_wants_no_more_is_given_no_more() -> None:
    """Until it says so."""
    transport, protocol, connection = client(10)
    connection.pauses_at = 3 * SLICE_BYTES - 1
    protocol.data_received(DATA)
    await asyncio.sleep(0)
    assert len(connection.got) == 3 * SLICE_BYTES and not transport.reading
    connection.pauses_at = -1
    protocol.resume()
    await asyncio.sleep(0)
    assert connection.got == DATA and transport.reading


async def test_what_is_held_for_a_client_that_is_gone_is_dropped() -> None:
    for leave in ("lost", "closing"):
        transport, protocol, connection = client(BURST_BYTES)
        protocol.data_received(DATA)
        held = len(connection.got)
        if leave == "lost":
            protocol.connection_lost(None)
        else:
            transport.close()
        await asyncio.sleep(0)
        assert len(connection.got) == held < len(DATA)
        assert protocol.unsent() > 0 or leave == "lost"


async def test_small_answers_are_not_held_back_by_the_kernel() -> None:
    """With two requests under way it would keep the second answer until the client's kernel has acknowledged the
    first, and that may take 40 ms."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        ClientProtocol(lambda sink: None, Crowd(0)).connection_made(Transport(sock=sock))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_client_on_a_socket_of_the_file_system_is_served_as_well() -> None:
    """It has no such option: to set it is an error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        transport = Transport(sock=sock)
        ClientProtocol(lambda sink: cast("Undecided", object()), Crowd(0)).connection_made(transport)
        assert not transport.closing


async def test_a_client_that_is_refused_is_closed() -> None:
    """There are limits; it may try another server."""
    transport = Transport()
    protocol = ClientProtocol(lambda sink: None, Crowd(0))
    protocol.connection_made(transport)
    protocol.data_received(DATA)
    assert transport.closing


@pytest.mark.parametrize(("host", "refused"), [("192.0.2.1", 1), ("::ffff:192.0.2.1", 1), ("127.0.0.1", 0), (None, 0)])
async def test_one_address_does_not_take_all_the_room(host: str | None, refused: int) -> None:
    """But for this machine's own, which is that of everybody behind a proxy."""
    crowd = Crowd(2)
    accepted: list[Connection] = []

    def accept(sink: object) -> Undecided:
        accepted.append(Connection(cast("ClientProtocol", sink), 0))
        return cast("Undecided", accepted[-1])

    clients = [(ClientProtocol(accept, crowd), Transport(host)) for _ in range(3)]
    for protocol, transport in clients:
        protocol.connection_made(transport)
    assert sum(transport.closing for _, transport in clients) == refused
    assert len(accepted) == 3 - refused
    for protocol, _ in clients:
        protocol.connection_lost(None)
    again = Transport(host)
    ClientProtocol(accept, crowd).connection_made(again)
    assert not again.closing
