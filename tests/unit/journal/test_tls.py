"""TLS without I/O: two channels that are given each other's bytes, and bytes that are none."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal.credentials import CredentialFiles, context_of
from journal.errors import TlsFailed
from journal.tls import HANDSHAKE_BYTES_MAX, NO_TLS, Channel
from tests.support.certificates import Authority, save

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server and of a client, each with a certificate that the other one believes."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority()
    files = CredentialFiles(*save(directory, "node", authority.issue()), authority.write(directory / "ca.pem"))
    return _made(files, ssl.PROTOCOL_TLS_SERVER), _made(files, ssl.PROTOCOL_TLS_CLIENT)


def _made(files: CredentialFiles, side: int) -> ssl.SSLContext:
    return context_of(files, side, verify=ssl.CERT_REQUIRED, oldest=V12)


def pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[Channel, Channel]:
    server, client = Channel(contexts[0], server_side=True), Channel(contexts[1], server_side=False)
    client.begin()
    return server, client


def exchange(server: Channel, client: Channel, piece: int = 1 << 20) -> tuple[bytes, bytes]:
    """Carry bytes to and fro until nobody says anything more; what each user got."""
    got = {server: b"", client: b""}
    quiet = False
    while not quiet:
        quiet = True
        for sender, receiver in ((client, server), (server, client)):
            data = sender.outgoing()
            for at in range(0, len(data), piece):
                quiet = False
                got[receiver] += receiver.receive(data[at : at + piece])
    return got[server], got[client]


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_bytes_arrive_whole_however_they_are_cut(contexts: tuple[ssl.SSLContext, ssl.SSLContext], piece: int) -> None:
    """The network cuts where it likes; records of sixteen kilobytes are longer than what is read at once."""
    server, client = pair(contexts)
    exchange(server, client, piece)
    assert server.established and client.established
    question, answer = bytes(range(256)) * 300, b"x"
    client.send(question)
    server.send(answer)
    assert exchange(server, client, piece) == (question, answer)
    assert server.certificate() == client.certificate() is not None


def test_what_follows_the_handshake_in_the_same_bytes_is_read(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """A client of TLS 1.3 may send its first request with the end of its handshake."""
    server, client = pair(contexts)
    server.receive(client.outgoing())
    client.receive(server.outgoing())
    assert client.established and not server.established
    client.send(b"hello")
    assert server.receive(client.outgoing()) == b"hello"
    assert server.established


def test_the_newest_version_is_spoken_and_old_ones_are_not(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """Nothing below 1.2; 1.3 where both can."""
    server, client = pair(contexts)
    exchange(server, client)
    assert server._object.version() == "TLSv1.3"
    for context in contexts:
        assert context.minimum_version == V12


def test_a_session_cannot_be_resumed(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A certificate that has expired meanwhile would come in with an old ticket."""
    server, client = pair(contexts)
    exchange(server, client)
    client.send(b"x")
    server.send(b"y")
    exchange(server, client)
    session = client._object.session
    assert session is None or not session.has_ticket


def test_farewell_is_heard(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """What came before it is not lost."""
    server, client = pair(contexts)
    exchange(server, client)
    client.send(b"last")
    client.close()
    assert server.receive(client.outgoing()) == b"last"
    assert server.ended
    server.close()
    assert client.receive(server.outgoing()) == b"" and client.ended


def test_other_protocols_are_told_apart(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Both sides say so in words: it is the most common mistake of all."""
    for side in (False, True):
        channel = Channel(contexts[1 - side], server_side=side)
        with pytest.raises(TlsFailed, match=NO_TLS):
            channel.receive(b"JKPR")


def test_endless_handshake_is_ended(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Records of a handshake that never becomes complete must not pile up."""
    server = Channel(contexts[0], server_side=True)
    hello = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(0x4000 - 4)
    with pytest.raises(TlsFailed):
        for _ in range(HANDSHAKE_BYTES_MAX // len(hello) + 2):
            server.receive(hello)


def test_a_certificate_of_another_authority_is_named_as_the_reason(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path
) -> None:
    """Both sides learn why: the one that refuses in its error, the other by the alert."""
    stranger = Authority()
    files = CredentialFiles(*save(tmp_path, "x", stranger.issue()), stranger.write(tmp_path / "ca.pem"))
    client = Channel(_made(files, ssl.PROTOCOL_TLS_CLIENT), server_side=False)
    server = Channel(contexts[0], server_side=True)
    client.begin()
    server.receive(client.outgoing())
    with pytest.raises(TlsFailed, match="the certificate is not accepted: "):
        client.receive(server.outgoing())
    with pytest.raises(TlsFailed, match="alert unknown ca"):
        server.receive(client.outgoing())


def test_a_changed_byte_is_noticed(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """That is what it is for."""
    server, client = pair(contexts)
    exchange(server, client)
    client.send(b"pay 10")
    record = bytearray(client.outgoing())
    record[-1] ^= 1
    with pytest.raises(TlsFailed):
        server.receive(bytes(record))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(junk=st.lists(st.binary(min_size=1, max_size=400), max_size=6), at=st.integers(0, 600))
def test_garbage_fails_by_name(contexts: tuple[ssl.SSLContext, ssl.SSLContext], junk: list[bytes], at: int) -> None:
    """Whatever comes, before or in the middle of a handshake: TlsFailed or silence, and never a plain byte."""
    server, client = pair(contexts)
    hello = client.outgoing()
    try:
        assert server.receive(hello[:at]) == b""
        for piece in junk:
            assert server.receive(piece) == b""
    except TlsFailed:
        pass
    assert not server.established or not junk


@pytest.fixture(autouse=True)
def no_prompt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody is asked for a passphrase."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a prompt"))
    yield
