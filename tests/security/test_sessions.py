"""Whose session it is: nobody else's, whatever he knows short of its password, and whoever he says he is."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import ssl
from pathlib import Path

import pytest

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.messages import PASSWORD_BYTES
from jkcs_server import Node, NodeConfig
from jkcs_server.serving.listener import plain_address
from tests.support import jute_client as jute
from tests.support.certificates import CLIENT, Authority, save
from tests.support.jute_client import Wire
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

MINE = ((31, "digest", digest_id("me:secret")),)


def greeting_of(client: Client) -> jute.Greeting:
    assert client.jute.greeting is not None
    return client.jute.greeting


def come_back(desk: Desk, session: int, password: bytes, address: str = "192.0.2.9") -> Client:
    client = Client(desk, address)
    client.send(jute.connect(session=session, password=password))
    for _ in range(2):
        desk.confirm()
        desk.apply()
    return client


def test_a_password_that_is_nearly_right_is_wrong() -> None:
    """Of any length, and right but for one bit; the owner notices nothing."""
    desk, owner = connected()
    session, password = greeting_of(owner).session, greeting_of(owner).password
    assert len(password) == PASSWORD_BYTES == 16
    almost = password[:-1] + bytes([password[-1] ^ 1])
    for guess in (b"", bytes(16), almost, password[:-1], password + b"\0", password[::-1]):
        thief = come_back(desk, session, guess)
        assert thief.closed and greeting_of(thief) == jute.Greeting(0, 0, bytes(16), False)
    assert not owner.closed and owner.call(zk.SYNC, jute.text("/")).error == OK


def test_an_unknown_session_and_a_wrong_password_sound_the_same() -> None:
    """Or sessions could be counted by asking."""
    desk, owner = connected()
    session = greeting_of(owner).session
    answers = {repr(greeting_of(come_back(desk, number, b"x" * 16))) for number in (session, session + 7, -1, 2**62)}
    assert len(answers) == 1


@pytest.mark.asyncio
async def test_passwords_come_from_the_system_and_not_from_a_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator could be wound forward from what it gave before."""
    drawn: list[bytes] = []
    real = secrets.token_bytes

    def draw(count: int | None = None) -> bytes:
        drawn.append(real(count))
        return drawn[-1]

    def passwords(where: tuple[str, int]) -> set[bytes]:
        with Wire(where) as one, Wire(where) as two:
            assert one.client.greeting is not None and two.client.greeting is not None
            return {one.client.greeting.password, two.client.greeting.password}

    monkeypatch.setattr(secrets, "token_bytes", draw)
    async with Node.single(tmp_path) as node:
        assert node.client_address is not None
        found = await asyncio.to_thread(passwords, node.client_address)
    assert len(found) == 2 and found <= set(drawn)


def test_a_session_that_is_taken_over_brings_no_identity_along() -> None:
    """Identities belong to the connection that proved them (ZK-4839): the next one proves its own."""
    desk, owner = connected()
    owner.call(zk.AUTH, jute.auth("digest", b"me:secret"), zk.AUTH_XID)
    assert owner.call(zk.CREATE, jute.create("/mine", b"gold", entries=MINE)).error == OK
    session, password = greeting_of(owner).session, greeting_of(owner).password
    other = come_back(desk, session, password)
    assert owner.closed and greeting_of(other).session == session
    assert other.call(zk.GET_DATA, jute.read("/mine")).error == zk.NO_AUTH
    assert other.call(zk.SET_DATA, jute.set_data("/mine", b"")).error == zk.NO_AUTH
    assert ("ip", "192.0.2.9") in other.connection.ids and ("ip", "192.0.2.1") not in other.connection.ids


def test_an_address_is_what_the_socket_says() -> None:
    """CVE-2024-51504: who may say in a header where he comes from is whoever he likes. There is no such header here,
    and no credential for it either."""
    desk, client = connected(address="192.0.2.1")
    for scheme, claim in (("ip", b"127.0.0.1"), ("ip", b"X-Forwarded-For: 127.0.0.1"), ("world", b"anyone")):
        ids = client.connection.ids
        fresh = connected(desk, "192.0.2.1")[1]
        answer = fresh.call(zk.AUTH, jute.auth(scheme, claim), zk.AUTH_XID)
        assert (answer.error == OK) == (scheme == "ip"), "asking for what the connection proves is no mistake"
        assert fresh.connection.ids == ids == (("ip", "192.0.2.1"),)
    for scheme in ("super", "x509", "auth", "sasl", "digest "):
        fresh = connected(desk, "192.0.2.1")[1]
        fresh.call(zk.AUTH, jute.auth(scheme, b"super:"), zk.AUTH_XID)
        assert fresh.closed and fresh.connection.ids == (("ip", "192.0.2.1"),)


def test_names_are_never_asked_for_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-24281: whoever answers for an address in the DNS would choose his own name."""

    def asked(*_: object) -> None:
        raise AssertionError("reverse DNS was asked")

    for name in ("gethostbyaddr", "getfqdn", "getnameinfo"):
        monkeypatch.setattr(socket, name, asked)
    assert plain_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain_address("fe80::1%eth0") == str(ipaddress.ip_address("fe80::1"))
    assert plain_address("host.example") == "host.example", "a name is no address, and no list names it"


def test_no_module_asks_for_names_backwards() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [path for package in ("journal", "jkcs_server", "jkcs_client") for path in (root / package).rglob("*.py")]
    assert sources
    asked = ("gethostbyaddr", "getnameinfo", "getfqdn")
    found = [str(path) for path in sources if any(name in path.read_text(encoding="utf-8") for name in asked)]
    assert found == []


@pytest.mark.asyncio
async def test_who_fails_to_prove_himself_has_no_session(tmp_path: Path) -> None:
    """ZK-3905: there a session was made first, and the certificate looked at afterwards."""
    authority, stranger = Authority(), Authority()
    ca = authority.write(tmp_path / "ca.pem")
    server = save(tmp_path, "server", authority.issue("server", ips=["127.0.0.1"]))
    bad = save(tmp_path, "bad", stranger.issue("web", purposes=[CLIENT]))
    good = save(tmp_path, "good", authority.issue("web", purposes=[CLIENT]))
    config = NodeConfig(
        tmp_path / "data",
        "n1",
        "n1=127.0.0.1:0",
        listen="127.0.0.1:0",
        tls_certificate=server[0],
        tls_key=server[1],
        tls_client_ca=ca,
        tls_client_auth="need",
        tls_only=True,
    )
    async with Node(config) as node:
        assert node._server is not None and node.client_address is not None
        machine, where = node._server.machine, node.client_address

        def knock(pair: tuple[Path, Path] | None) -> bool:
            """Whether a session was given."""
            context = ssl.create_default_context(cafile=str(ca))
            if pair is not None:
                context.load_cert_chain(*pair)
            try:
                with (
                    socket.create_connection(where, 10) as sock,
                    context.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
                ):
                    secured.sendall(jute.connect())
                    return bool(secured.recv(4096))
            except (ssl.SSLError, ConnectionError):
                return False

        before = machine.applied
        assert not await asyncio.to_thread(knock, None)
        assert not await asyncio.to_thread(knock, bad)
        assert len(machine.sessions) == 0 and machine.applied == before, "nothing was even proposed"
        assert await asyncio.to_thread(knock, good)
        assert len(machine.sessions) == 1


@pytest.mark.asyncio
async def test_a_wrong_password_makes_no_session_and_ends_none(tmp_path: Path) -> None:
    """Over real sockets, beside the owner."""

    def work(where: tuple[str, int]) -> None:
        with Wire(where) as owner:
            assert owner.client.greeting is not None
            session = owner.client.greeting.session
            for password in (b"x" * 16, b"", b"x" * 1000):
                with Wire(where, jute.connect(session=session, password=password)) as thief:
                    assert thief.client.greeting == jute.Greeting(0, 0, bytes(16), False)
                    assert thief.is_closed()
            assert owner.call(zk.CREATE, jute.create("/mine", mode=zk.EPHEMERAL)).error == OK

    async with Node.single(tmp_path) as node:
        assert node.client_address is not None and node._server is not None
        await asyncio.to_thread(work, node.client_address)
        assert len(node._server.machine.sessions) == 1
