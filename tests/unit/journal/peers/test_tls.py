"""Peers with TLS over loopback sockets: who is let in by his certificate, and what both sides say if not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from journal.errors import PeerRefused
from journal.limits import MIB
from journal.peers.handshake import Identity, hello, take_greeting
from journal.peers.tcp import TcpNetwork
from journal.peers.tls import PeerTls, check_names
from journal.raft.messages import Proposal
from journal.values import Term
from tests.support.certificates import CLIENT, SERVER, Authority, save
from tests.unit.journal.peers.test_tcp import (
    CLUSTER,
    LIMITS,
    N1,
    N2,
    PATIENCE,
    Recorder,
    beat,
    bound,
    connect,
    read_to_end,
    until_logged,
)

Pair = tuple[bytes, bytes]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops: their transports differ in what they tell and when."""
    return "asyncio", {"use_uvloop": request.param}


pytestmark = pytest.mark.anyio


@dataclass
class Place:
    """Two addresses, and the files of an authority that both nodes believe."""

    directory: Path
    authority: Authority

    def tls(self, name: str, pair: Pair, authority: Authority | None = None) -> PeerTls:
        ca = (authority or self.authority).write(self.directory / f"{name}-ca.pem")
        return PeerTls(*save(self.directory, name, pair), ca)

    def named(self, node: str, **issued: object) -> PeerTls:
        return self.tls(node, self.authority.issue(node, **{"dns": [node], **issued}))  # type: ignore


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, Authority())


@asynccontextmanager
async def two(first: PeerTls | None, second: PeerTls | None) -> AsyncIterator[tuple[Recorder, Recorder, Networks]]:
    sockets = {N1: bound(), N2: bound()}
    addresses = {node: sock.getsockname() for node, sock in sockets.items()}
    recorders = Recorder(), Recorder()
    networks = tuple(
        TcpNetwork(node, CLUSTER, ("127.0.0.1", 0), addresses, LIMITS, sock=sockets[node], tls=tls)
        for node, tls in ((N1, first), (N2, second))
    )
    try:
        for network, recorder in zip(networks, recorders, strict=True):
            await network.start(recorder)
        yield *recorders, networks
    finally:
        for network in networks:
            await network.close()


Networks = tuple[TcpNetwork, ...]


async def test_named_peers_speak_and_large_messages_arrive_whole(place: Place) -> None:
    """Everything that a connection does without TLS, it does with it, in both directions."""
    async with two(place.named("n1"), place.named("n2")) as (first, second, (left, right)):
        await first.until(lambda: first.connected == [N2])
        await second.until(lambda: second.connected == [N1])
        large = Proposal(Term(1), 0, 0, 1, bytes(3 * MIB))
        left.send(N2, beat(1))
        left.send(N2, large)
        right.send(N1, beat(2))
        await second.until(lambda: len(second.messages) == 2)
        await first.until(lambda: len(first.messages) == 1)
        assert second.messages == [(N1, beat(1)), (N1, large)] and first.messages == [(N2, beat(2))]


async def test_a_name_may_be_given_as_a_uri_of_the_cluster(place: Place) -> None:
    """It says which cluster is meant, too."""
    first, second = (place.named(node, dns=[], uris=[f"jkcs://{CLUSTER}/{node}"]) for node in ("n1", "n2"))
    async with two(first, second) as (one, other, _):
        await one.until(lambda: one.connected == [N2])
        await other.until(lambda: other.connected == [N1])


@pytest.mark.parametrize(
    ("names", "has"),
    [
        ({"dns": ["n3"]}, "and has 'n3'"),
        ({"dns": []}, "and has nothing"),
        ({"dns": ["*"]}, r"and has '\*'"),
        ({"dns": ["*.n2", "n*"]}, r"and has '\*.n2', 'n\*'"),
        ({"dns": ["N2"]}, "and has 'N2'"),
        ({"dns": ["n2.example"]}, "and has 'n2.example'"),
        ({"dns": ["n2"], "uris": ["jkcs://other/n2"]}, "jkcs://other/n2"),
        ({"dns": [], "uris": [f"jkcs://{CLUSTER}/n3"]}, "n3"),
        ({"dns": [], "uris": [f"jkcs://{CLUSTER}/n2/"]}, "n2/"),
        ({"dns": [], "ips": ["127.0.0.1"]}, "and has nothing"),
    ],
)
async def test_another_name_is_refused_in_both_directions(
    place: Place, caplog: pytest.LogCaptureFixture, names: dict[str, Sequence[str]], has: str
) -> None:
    """A valid certificate says only that the authority gave it out. Its common name, n2, counts for nothing."""
    async with two(place.named("n1"), place.named("n2", **names)) as (first, second, _):
        # n1, which dialed, says so itself; n2, which dialed too, is told so by n1.
        await until_logged(
            caplog,
            "cannot connect to peer n2",
            "n1' of cluster 'blue' refused this node: the certificate 'CN=n2,",
            "does not name node 'n2' of cluster 'blue'",
            "turned away a connection from 127.0.0.1: the certificate 'CN=n2,",
        )
        assert not first.connected and not second.connected
        with pytest.raises(PeerRefused, match=has):
            pair = place.authority.issue("n2", **names)  # type: ignore
            check_names(ssl.PEM_cert_to_DER_cert(pair[0].decode()), CLUSTER, N2)


@pytest.mark.parametrize("purposes", [[CLIENT], [SERVER]])
async def test_a_certificate_for_one_side_alone_is_refused(
    place: Place, caplog: pytest.LogCaptureFixture, purposes: list[object]
) -> None:
    """A client whose name happens to be a node's must not become the node: peers are both sides at once."""
    async with two(place.named("n1"), place.named("n2", purposes=purposes)) as (first, second, _):
        await until_logged(caplog, "cannot connect to peer n1", "cannot connect to peer n2")
        assert not first.connected and not second.connected
    for subject in (CLIENT, SERVER):
        pair = place.authority.issue("n2", dns=["n2"], purposes=[subject])
        with pytest.raises(PeerRefused, match="is no peer's: it is not for both serverAuth and clientAuth"):
            check_names(ssl.PEM_cert_to_DER_cert(pair[0].decode()), CLUSTER, N2)


@pytest.mark.parametrize("what", ["expired", "stranger"])
async def test_an_invalid_certificate_is_refused(place: Place, caplog: pytest.LogCaptureFixture, what: str) -> None:
    """Whatever it names."""
    if what == "expired":
        second, why = place.named("n2", days=-1.0), "certificate has expired"
    else:
        second, why = place.tls("n2", Authority().issue("n2", dns=["n2"])), "the certificate is not accepted"
    async with two(place.named("n1"), second) as (one, other, _):
        await until_logged(caplog, "cannot connect to peer n2", why, "turned away a connection from 127.0.0.1: TLS")
        assert not one.connected and not other.connected


async def test_no_certificate_is_refused(place: Place) -> None:
    """Without one nobody gets as far as the first greeting."""
    async with two(place.named("n1"), place.named("n2")) as (_, _, (left, _)):
        context = ssl.create_default_context(cadata=place.authority.pem.decode())
        context.check_hostname = False
        reader, writer = await asyncio.open_connection(*left.address, ssl=context)
        writer.write(hello(Identity(CLUSTER, N2), N1))
        with pytest.raises(OSError, match=r"(?i)certificate.required"):
            async with asyncio.timeout(PATIENCE):
                await reader.read(100)
        writer.transport.abort()


@pytest.mark.parametrize("with_tls", [0, 1])
async def test_tls_and_plain_peers_tell_each_other_apart(
    place: Place, caplog: pytest.LogCaptureFixture, with_tls: int
) -> None:
    """One of the two was configured wrong, and whichever log is read first must say so."""
    sides = [None, place.named("n2")] if with_tls else [place.named("n1"), None]
    async with two(*sides) as (first, second, _):
        plain, secured = ("n1", "n2") if with_tls else ("n2", "n1")
        await until_logged(
            caplog,
            f"cannot connect to peer {secured}",
            f"node {secured!r} of cluster 'blue' refused this node: this node speaks TLS with its peers",
            f"cannot connect to peer {plain}",
            "it does not speak TLS with its peers, and this node does",
            "turned away a connection from 127.0.0.1: it is a peer without TLS, and this node speaks TLS",
            "turned away a connection from 127.0.0.1: it speaks TLS with its peers, and this node does not",
        )
        assert not first.connected and not second.connected


async def test_a_plain_peer_is_answered_in_plain_words(place: Place) -> None:
    """The node it belongs to has no other language."""
    async with two(place.named("n1"), place.named("n2")) as (_, _, (left, _)):
        reader, writer = await connect(left.address)
        writer.write(hello(Identity(CLUSTER, N2), N1))
        answer = take_greeting(await read_to_end(reader))
        writer.close()
        assert answer is not None and answer[0][0] is False and "speaks TLS" in answer[0][3]


async def test_a_silent_handshake_is_cut_off(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends a byte now and then would hold one of few places for ever."""
    monkeypatch.setattr("journal.peers.links.HANDSHAKE_SECONDS", 0.2)
    async with two(place.named("n1"), None) as (_, _, (left, _)):
        reader, writer = await connect(left.address)
        writer.write(b"\x16\x03\x01")
        assert await read_to_end(reader) == b""
        writer.close()
        await until_logged(caplog, "turned away a connection from 127.0.0.1: no hello in time")


async def test_renewed_certificates_are_used_by_the_next_connection(place: Place) -> None:
    """Both sides take new files while they run; the connection that stands stays."""
    first, second = place.named("n1"), place.named("n2")
    async with two(first, second) as (one, other, (left, _)):
        await one.until(lambda: one.connected == [N2])
        await other.until(lambda: other.connected == [N1])
        renewed = Authority()
        for node, tls in (("n1", first), ("n2", second)):
            save(place.directory, node, renewed.issue(node, dns=[node]))
            renewed.write(place.directory / f"{node}-ca.pem")
            tls.reload()
        left.send(N2, beat(1))
        await other.until(lambda: len(other.messages) == 1)
        assert not one.lost and not other.lost
        left._dialed[N2].end("a test")
        await one.until(lambda: one.connected == [N2, N2])
        left.send(N2, beat(2))
        await other.until(lambda: len(other.messages) == 2)


async def test_losing_a_peer_is_news_with_tls_too(place: Place) -> None:
    """Failover waits for it."""
    async with two(place.named("n1"), place.named("n2")) as (one, other, (_, right)):
        await one.until(lambda: one.connected == [N2])
        await other.until(lambda: other.connected == [N1])
        await right.close()
        await one.until(lambda: one.lost[:1] == [N2])
