"""The client's side of TLS: when it is spoken, whom it believes, and what it says when it does not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener
from cryptography.hazmat.primitives.asymmetric import ec

from jkcs_client import connect
from jkcs_client.address import Address
from jkcs_client.dialer import dial_tcp
from jkcs_client.protocol.errors import BadArguments
from jkcs_client.tls import context_for, securing
from tests.support.certificates import Authority, pem_of, save

AUTHORITY = Authority()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Real sockets need real time."""
    backend: str = request.param
    return backend


@asynccontextmanager
async def server(directory: Path, pair: tuple[bytes, bytes] | None) -> AsyncIterator[int]:
    """Echoes, with the certificate or without TLS."""
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = tcp.extra(SocketAttribute.local_port)
    listener = tcp
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*save(directory, "server", pair))
        listener = Quiet(tcp, context, standard_compatible=False)  # type: ignore

    async def echo(stream: ByteStream) -> None:
        async with stream:
            try:
                await stream.send(await stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        yield port
        tasks.cancel_scope.cancel()


class Quiet(TLSListener):
    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: object) -> None:
        await anyio.aclose_forcefully(stream)  # type: ignore


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return AUTHORITY.write(tmp_path / "ca.pem")


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_that_names_the_host_is_believed(tmp_path: Path, ca: Path, host: str) -> None:
    """By address or by name, as the URL says."""
    pair = AUTHORITY.issue(ips=["127.0.0.1"], dns=["localhost"])
    async with server(tmp_path, pair) as port:
        stream = await securing(dial_tcp, context_for(ca))(Address(host, port))
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        await stream.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("other name", "the server's certificate is not accepted: .*127.0.0.1"),
        ("expired", "the server's certificate is not accepted: certificate has expired"),
        ("stranger", "the server's certificate is not accepted: "),
        ("plain", "TLS failed: "),
    ],
)
async def test_another_server_is_refused_with_the_reason(tmp_path: Path, ca: Path, what: str, why: str) -> None:
    """As the one kind of error that the session expects: it tries the next server, and tells why in the end."""
    pair = {
        "other name": AUTHORITY.issue(dns=["other.example"]),
        "expired": AUTHORITY.issue(ips=["127.0.0.1"], days=-1),
        "stranger": Authority().issue(ips=["127.0.0.1"]),
        "plain": None,
    }[what]
    async with server(tmp_path, pair) as port:
        with pytest.raises(OSError, match=why):
            await securing(dial_tcp, context_for(ca))(Address("127.0.0.1", port))


@pytest.mark.anyio
async def test_a_silent_server_is_given_up(ca: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are others to try."""
    monkeypatch.setattr("jkcs_client.tls.CONNECT_TIMEOUT", 0.1)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port: int = listener.extra(SocketAttribute.local_port)
        with pytest.raises(OSError, match="no TLS handshake within"):
            await securing(dial_tcp, context_for(ca))(Address("127.0.0.1", port))


def test_files_that_cannot_be_used_are_named(tmp_path: Path, ca: Path) -> None:
    """Before anything is connected, and without their content."""
    certificate, key = save(tmp_path, "client", AUTHORITY.issue())
    locked = tmp_path / "locked.key"
    locked.write_bytes(pem_of(ec.generate_private_key(ec.SECP256R1()), b"tell-nobody-7"))
    junk = tmp_path / "junk"
    junk.write_text("junk")
    for arguments, why in (
        ((tmp_path / "gone",), "ca: cannot read .*gone: no such file"),
        ((junk,), "ca: cannot use .*junk"),
        ((ca, tmp_path / "gone", key), "cannot read .*: no such file"),
        ((ca, certificate, junk), "cannot use .*junk"),
        ((ca, certificate, locked), "has a passphrase"),
        ((ca, None, key), "no certificate that it belongs to"),
    ):
        with pytest.raises(BadArguments, match=why):
            context_for(*arguments)


def test_contradictions_are_refused(ca: Path) -> None:
    """Whoever asks for TLS in one place and for none in another must not get either by chance."""
    for url, options in (
        ("jkcss://h:1", {"tls": False}),
        ("jkcs://h:1", {"tls": False, "ca": ca}),
        ("jkcs://h:1", {"tls": ssl.create_default_context(), "ca": ca}),
        ("jkcs://h:1", {"key": ca}),
    ):
        with pytest.raises(BadArguments):
            connect(url, **options)  # type: ignore


@pytest.mark.parametrize(
    ("url", "options", "secured"),
    [
        ("jkcs://h:1", {}, False),
        ("jkcs://h:1", {"tls": False}, False),
        ("jkcss://h:1", {}, True),
        ("jkcs://h:1", {"tls": True}, True),
        ("jkcs://h:1", {"ca": "CA"}, True),
        ("jkcs://h:1", {"tls": ssl.create_default_context()}, True),
    ],
)
def test_tls_is_spoken_when_any_sign_of_it_is_given(
    monkeypatch: pytest.MonkeyPatch, ca: Path, url: str, options: dict[str, object], secured: bool
) -> None:
    """A file of authorities that went unused would be the worst of all."""
    found = []
    monkeypatch.setattr("jkcs_client.client.securing", lambda dialer, context: found.append(context) or dialer)
    connect(url, **{name: ca if value == "CA" else value for name, value in options.items()})  # type: ignore
    assert bool(found) == secured
