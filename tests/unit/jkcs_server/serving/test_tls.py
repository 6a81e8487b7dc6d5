"""The porch of the clients' port, over loopback sockets: TLS and plain clients, bad ones and slow ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jkcs_server.serving.crowd import Crowd
from jkcs_server.serving.listener import Listener
from jkcs_server.serving.native import Sink
from jkcs_server.serving.tls import ClientTls
from journal.clock import wall_milliseconds
from tests.support.certificates import CLIENT, Authority, save

PATIENCE = 20.0
AUTHORITY = Authority()


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ in what they tell and when."""
    return "asyncio", {"use_uvloop": request.param}


pytestmark = pytest.mark.anyio


class Echo:
    """A connection that gives back what it gets, and says who it got it from."""

    def __init__(self, sink: Sink, served: list[Echo]) -> None:
        self.sink = sink
        self.closed = False
        self.ended = asyncio.Event()
        self.identities: tuple[tuple[str, str], ...] = ()
        served.append(self)

    def receive(self, data: bytes) -> None:
        self.identities = self.sink.identities()  # type: ignore
        self.sink.write(data)
        if data.endswith(b"quit"):
            self.sink.close()

    def lost(self) -> None:
        self.ended.set()


class Port:
    def __init__(self, address: tuple[str, int], served: list[Echo], tls: ClientTls) -> None:
        self.address = address
        self.served = served
        self.tls = tls


@asynccontextmanager
async def port(directory: Path, **options: Any) -> AsyncIterator[Port]:
    pair = save(directory, "server", AUTHORITY.issue("server", ips=["127.0.0.1"], dns=["localhost"]))
    if "client_auth" in options:
        options["client_ca"] = AUTHORITY.write(directory / "clients.pem")
    tls = ClientTls(*pair, **options)
    served: list[Echo] = []
    listener = Listener(lambda sink: Echo(sink, served), Crowd(0), tls)  # type: ignore  # an echo in place of a connection
    try:
        yield Port(await listener.start(("127.0.0.1", 0)), served, tls)
    finally:
        await listener.close()
        for echo in served:
            echo.sink.close()


def client_context(directory: Path, pair: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    if pair is not None:
        context.load_cert_chain(*save(directory, "client", pair))
    return context


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: bytes) -> bytes:
    writer.write(question)
    async with asyncio.timeout(PATIENCE):
        return await reader.readexactly(len(question))


async def rest(reader: asyncio.StreamReader) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(65536):
                received += data
    return received


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while text not in caplog.text:
            await asyncio.sleep(0.002)


async def test_tls_and_plain_clients_come_in_by_the_same_door(tmp_path: Path) -> None:
    """A cluster moves to TLS client by client. Large values cross too."""
    async with port(tmp_path) as door:
        for context in (None, client_context(tmp_path)):
            reader, writer = await asyncio.open_connection(*door.address, ssl=context)
            for question in (b"J", b"x" * 300_000):
                assert await ask(reader, writer, question) == question
            assert door.served[-1].identities == (("ip", "127.0.0.1"),)
            assert door.served[-1].sink.is_local()
            writer.write(b"quit")
            assert await rest(reader) == b"quit"
            writer.close()
            async with asyncio.timeout(PATIENCE):
                await door.served[-1].ended.wait()


async def test_plain_clients_are_refused_where_tls_is_required(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a forgotten client would send its secrets in the clear for years."""
    async with port(tmp_path, only=True) as door:
        reader, writer = await asyncio.open_connection(*door.address)
        writer.write(b"JKCS")
        assert b"this server requires TLS" in await rest(reader)
        writer.close()
        await until_logged(caplog, "turned away a client from 127.0.0.1: it came without TLS")
        assert not door.served
        reader, writer = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path))
        assert await ask(reader, writer, b"J") == b"J"
        writer.transport.abort()


@pytest.mark.parametrize("auth", ["want", "need"])
async def test_a_client_is_known_by_its_verified_certificate(tmp_path: Path, auth: str) -> None:
    """In the form in which ZooKeeper's permissions name it."""
    async with port(tmp_path, client_auth=auth) as door:
        context = client_context(tmp_path, AUTHORITY.issue("web", purposes=[CLIENT]))
        reader, writer = await asyncio.open_connection(*door.address, ssl=context)
        await ask(reader, writer, b"J")
        assert door.served[0].identities == (("ip", "127.0.0.1"), ("x509", "CN=web,OU=shop,O=Example"))
        writer.transport.abort()


@pytest.mark.parametrize(
    ("auth", "what"), [("want", "stranger"), ("need", "stranger"), ("need", "none"), ("need", "expired")]
)
async def test_a_bad_certificate_or_none_ends_the_handshake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, auth: str, what: str
) -> None:
    """The client is told by an alert, the operator by the log."""
    pairs = {
        "stranger": Authority().issue("web"),
        "none": None,
        "expired": AUTHORITY.issue("web", days=-1.0),
    }
    async with port(tmp_path, client_auth=auth) as door:
        reader, writer = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path, pairs[what]))
        writer.write(b"J")
        with pytest.raises(OSError, match=r"(?i)alert"):
            async with asyncio.timeout(PATIENCE):
                await reader.read(100)
        writer.transport.abort()
        await until_logged(caplog, "turned away a client from 127.0.0.1: TLS failed: ")
        assert not door.served


async def test_a_resumed_handshake_does_not_outlive_its_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS 1.2 verifies nothing anew when a client comes back to an earlier handshake."""
    ahead = [0]
    async with port(tmp_path, client_auth="need", wall=lambda: wall_milliseconds() + ahead[0]) as door:
        context = client_context(tmp_path, AUTHORITY.issue("web", purposes=[CLIENT], days=1))
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def visit(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection(door.address, timeout=PATIENCE) as raw,
                context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as secured,
            ):
                secured.sendall(b"J")
                return (secured.session, secured.session_reused) if secured.recv(1) == b"J" else (None, None)

        first, resumed = await asyncio.to_thread(visit, None)
        assert first is not None and not resumed
        again, resumed = await asyncio.to_thread(visit, first)
        assert again is not None and resumed
        ahead[0] = 2 * 86_400_000
        with contextlib.suppress(OSError):
            assert await asyncio.to_thread(visit, first) == (None, None)
        await until_logged(caplog, "its certificate has expired")
        assert len(door.served) == 2


async def test_a_client_without_certificate_is_welcome_where_it_is_only_wanted(tmp_path: Path) -> None:
    async with port(tmp_path, client_auth="want") as door:
        reader, writer = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path))
        await ask(reader, writer, b"J")
        assert door.served[0].identities == (("ip", "127.0.0.1"),)
        writer.transport.abort()


async def test_a_client_that_gives_a_byte_now_and_then_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The deadline is for the whole handshake, not for a silence."""
    async with port(tmp_path, handshake_seconds=0.3) as door:
        reader, writer = await asyncio.open_connection(*door.address)
        for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.01)
        assert await rest(reader) == b""
        writer.close()
        await until_logged(caplog, "it was not done after 0.3 s")
        silent = await asyncio.open_connection(*door.address)
        assert await rest(silent[0]) == b""
        silent[1].close()
        assert not door.served and not door.tls._waiting


async def test_handshakes_have_a_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each costs memory, and whoever reaches the port can begin one. Who has come in is not counted."""
    async with port(tmp_path, handshakes_max=2) as door:
        inside = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path))
        await ask(*inside, b"J")
        waiting = [await asyncio.open_connection(*door.address) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            while len(door.tls._waiting) < 2:
                await asyncio.sleep(0.002)
        reader, writer = await asyncio.open_connection(*door.address)
        assert await rest(reader) == b""
        writer.close()
        await until_logged(caplog, "too many clients that have not introduced themselves")
        for _, each in waiting:
            each.close()
        async with asyncio.timeout(PATIENCE):
            while door.tls._waiting:
                await asyncio.sleep(0.002)
        assert await ask(*inside, b"still here") == b"still here"
        inside[1].transport.abort()


@pytest.mark.parametrize(
    "junk", [b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x16" * 70_000, b"\x16\x03\x01\xff\xff" + bytes(70_000)]
)
async def test_garbage_that_begins_like_tls_ends_its_connection_alone(tmp_path: Path, junk: bytes) -> None:
    """Nobody else notices."""
    async with port(tmp_path) as door:
        reader, writer = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path))
        await ask(reader, writer, b"J")
        with socket.create_connection(door.address) as bad:
            bad.sendall(junk)
            bad.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(PATIENCE):
                bad.setblocking(False)
                loop = asyncio.get_running_loop()
                with contextlib.suppress(ConnectionError):
                    while await loop.sock_recv(bad, 65536):
                        pass
        assert await ask(reader, writer, b"undisturbed") == b"undisturbed"
        assert len(door.served) == 1
        writer.transport.abort()


async def test_a_renewed_certificate_is_shown_to_the_next_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a restart; who is connected stays so. A broken file changes nothing."""
    monkeypatch.setattr("journal.credentials.LOOK_SECONDS", 0.0)

    async def shown() -> bytes | None:
        _, writer = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path))
        certificate: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return certificate

    async with port(tmp_path) as door:
        first = await shown()
        standing = await asyncio.open_connection(*door.address, ssl=client_context(tmp_path))
        await ask(*standing, b"J")
        (tmp_path / "server.pem").write_text("half a file")
        assert await shown() == first
        save(tmp_path, "server", AUTHORITY.issue("server", ips=["127.0.0.1"]))
        assert await shown() != first
        assert await ask(*standing, b"still here") == b"still here"
        standing[1].transport.abort()
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
