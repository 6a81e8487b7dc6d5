"""Clusters with TLS, as their users see them: clients, peers, the command line, renewal, and what is not logged."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import queue
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jkcs_client import Acl, NoAuth, NotConnected, connect
from jkcs_server import Node, NodeConfig
from jkcs_server.cli.processes import free_ports
from jkcs_server.node import NodeThread
from tests.support.certificates import CLIENT, Authority, save
from tests.support.cluster import bound_socket

PATIENCE = 30.0
AUTHORITY = Authority()


class Papers:
    """Files of certificates for servers, clients and peers in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = AUTHORITY.write(directory / "ca.pem")
        self.server = save(directory, "server", AUTHORITY.issue("server", ips=["127.0.0.1"], dns=["localhost"]))
        self.client = save(directory, "client", AUTHORITY.issue("web", purposes=[CLIENT]))
        self.other = save(directory, "other", AUTHORITY.issue("other", purposes=[CLIENT]))

    def peer(self, name: str) -> dict[str, Path]:
        certificate, key = save(self.directory, name, AUTHORITY.issue(name, dns=[name]))
        return {"peer_tls_certificate": certificate, "peer_tls_key": key, "peer_tls_ca": self.ca}

    @property
    def shown(self) -> dict[str, Path]:
        """A client's arguments."""
        return {"ca": self.ca, "certificate": self.client[0], "key": self.client[1]}

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls_certificate": self.server[0], "tls_key": self.server[1]}


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


def url_of(node: Node | NodeThread, scheme: str = "jkcss") -> str:
    assert node.client_address is not None
    return f"{scheme}://127.0.0.1:{node.client_address[1]}"


@asynccontextmanager
async def single(papers: Papers, **settings: Any) -> AsyncIterator[Node]:
    config = NodeConfig(
        papers.directory / "data", "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", **papers.settings, **settings
    )
    async with Node(config) as node:
        yield node


@pytest.mark.asyncio
async def test_client_speaks_tls_and_plain_to_the_same_port(papers: Papers) -> None:
    """Values larger than a record of TLS, and a watch, cross like any others."""
    async with single(papers) as node, connect(url_of(node), ca=papers.ca) as client:
        await client.create("/large", b"x" * 500_000)
        async with connect(url_of(node, "jkcs")) as plain:
            value, _ = await plain.get("/large")
            assert value == b"x" * 500_000
            await plain.set("/large", b"y")
        assert (await client.get("/large"))[0] == b"y"


@pytest.mark.asyncio
async def test_what_a_client_lacks_is_told_by_name(papers: Papers) -> None:
    """Whoever sets up TLS gets it wrong at first, and must see what is wrong."""
    async with single(papers, tls_only=True, tls_client_ca=papers.ca, tls_client_auth="need") as node:
        for url, options, why in (
            (url_of(node), papers.shown, None),
            (url_of(node), {"ca": papers.ca}, "(?i)certificate.required"),
            (url_of(node), {}, "the server's certificate is not accepted"),
            (url_of(node, "jkcs"), {}, "this server requires TLS: use a jkcss:// URL"),
        ):
            if why is None:
                async with connect(url, **options) as client:
                    await client.create("/a", b"")
            else:
                with pytest.raises(NotConnected, match=why):
                    async with connect(url, request_timeout=1.0, **options):
                        pass


@pytest.mark.asyncio
async def test_a_certificate_is_an_identity_and_one_may_do_everything(papers: Papers) -> None:
    """Without a word more of the client; the same certificate on another connection is the same somebody."""
    other = {"ca": papers.ca, "certificate": papers.other[0], "key": papers.other[1]}
    asked = {"tls_client_ca": papers.ca, "tls_client_auth": "want"}
    async with single(papers, **asked) as node, connect(url_of(node), **papers.shown) as client:
        (_, (scheme, subject)) = await client.identities()
        assert scheme == "x509" and "web" in subject
        await client.create("/k", acl=[Acl.creator()])
        assert (await client.get_acl("/k"))[0] == [Acl.x509(subject)]
        async with connect(url_of(node), **other) as somebody:
            with pytest.raises(NoAuth):
                await somebody.get("/k")
            (_, (_, name)) = await somebody.identities()
    async with single(papers, **asked, x509_super=name) as node, connect(url_of(node), **other) as somebody:
        assert ("super", "") in await somebody.identities()
        await somebody.delete("/k")


@pytest.mark.asyncio
async def test_renewal_changes_what_the_next_client_sees_and_no_session(papers: Papers) -> None:
    """Certificates are renewed while locks are held."""
    async with single(papers) as node, connect(url_of(node), ca=papers.ca) as client:
        await client.create("/mine", b"", ephemeral=True)
        first = await asyncio.to_thread(shown_by, node)
        save(papers.directory, "server", AUTHORITY.issue("server", ips=["127.0.0.1"]))
        node.reload_certificates()
        second = await asyncio.to_thread(shown_by, node)
        assert first != second
        papers.server[1].write_text("no key")
        node.reload_certificates()
        assert await asyncio.to_thread(shown_by, node) == second
        assert (await client.exists("/mine")) is not None


def shown_by(node: Node) -> str:
    assert node.client_address is not None
    return ssl.get_server_certificate(("127.0.0.1", node.client_address[1]))


@pytest.mark.asyncio
async def test_three_nodes_with_tls_between_them_survive_their_leader(papers: Papers) -> None:
    """Everything that a cluster does goes through these connections."""
    sockets = [bound_socket() for _ in range(3)]
    peers = ",".join(f"n{number}=127.0.0.1:{sock.getsockname()[1]}" for number, sock in enumerate(sockets))
    base = NodeConfig("d", "n0", peers, listen="127.0.0.1:0", fsync=False)
    nodes = []
    for number, sock in enumerate(sockets):
        name = f"n{number}"
        config = dataclasses.replace(base, me=name, data_dir=papers.directory / f"data-{name}", **papers.peer(name))
        nodes.append(Node(config, peer_socket=sock))
    try:
        for node in nodes:
            await node.start()
        url = "jkcs://" + ",".join(url_of(node).partition("://")[2] for node in nodes)
        async with connect(url, request_timeout=PATIENCE) as client:
            await client.create("/a", b"x" * 900_000)
            leader = next(node for node in nodes if node.status()["role"] == "leader")
            await leader.stop()
            await client.set("/a", b"after")
            assert (await client.get("/a"))[0] == b"after"
    finally:
        for node in nodes:
            await node.stop()


# --- the command line ---------------------------------------------------------------------------------------


@contextmanager
def served(papers: Papers, **environment: str) -> Iterator[tuple[str, list[str], subprocess.Popen[str]]]:
    """`jkcs serve` with TLS alone: the address of its clients, its log as it grows, the process."""
    [peers] = free_ports(1)  # `jkcs status` shows it
    command = [sys.executable, "-m", "jkcs_server.cli.main", "serve", "--me", "n1", "--peers", f"n1=127.0.0.1:{peers}"]
    command += ["--listen", "127.0.0.1:0", "--data-dir", str(papers.directory / "served"), "--log-level", "debug"]
    command += ["--tls-certificate", str(papers.server[0]), "--tls-key", str(papers.server[1]), "--tls-only"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    lines: list[str] = []
    news: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            news.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        address = ""
        while not address:
            found = re.search(r"serves clients on (\S+),", news.get(timeout=PATIENCE))
            address = found[1] if found else ""
        yield address, lines, process
    finally:
        process.terminate()
        process.wait(PATIENCE)
        reader.join(PATIENCE)


def jkcs(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jkcs_server.cli.main", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=env)


def test_commands_speak_tls_and_a_signal_reads_the_certificates(papers: Papers) -> None:
    """Shell, status and admin, by option and by environment; and no key in the log of all that."""
    with served(papers) as (address, lines, process):
        ca = str(papers.ca)
        done = jkcs("shell", f"jkcss://{address}", "--ca", ca, "-c", "create /a b; get /a")
        assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["b"]), done.stderr
        done = jkcs("status", "--json", JKCS_URL=f"jkcss://{address}", JKCS_CA=ca)
        assert done.returncode == 0 and json.loads(done.stdout)["leader"] == "n1", done.stderr
        done = jkcs("admin", "members", "--url", f"jkcs://{address}", "--ca", ca, "--json")
        assert done.returncode == 0, done.stderr
        done = jkcs("backup", "--from", f"jkcss://{address}", "--ca", ca, str(papers.directory / "a.backup"))
        assert done.returncode == 0, done.stderr
        done = jkcs("status", f"jkcss://{address}")
        assert done.returncode == 3 and "certificate is not accepted" in done.stdout
        done = jkcs("status", f"jkcss://{address}", "--ca", str(papers.directory / "gone"))
        assert done.returncode == 2 and "gone: no such file" in done.stderr

        before = sum("valid until" in line for line in lines)
        process.send_signal(signal.SIGHUP)
        done = jkcs("shell", f"jkcss://{address}", "--ca", ca, "-c", "get /a")
        assert done.returncode == 0 and sum("valid until" in line for line in lines) == before + 1
    text = "".join(lines)
    secret = papers.server[1].read_text().splitlines()[1]
    assert "CN=server" in text and secret[:20] not in text and "PRIVATE" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--listen", "0.0.0.0:0"], 2, "clients may come there without TLS"),
        (["--peer-listen", "0.0.0.0:0"], 2, "peers may come there without TLS"),
        (["--tls-certificate", "gone.pem", "--tls-key", "gone.key"], 1, "cannot read gone.pem: no such file"),
        (["--tls-certificate", "gone.pem"], 2, "tls_key: is missing"),
    ],
)
def test_a_node_that_would_be_open_or_has_no_certificate_does_not_start(
    papers: Papers, arguments: list[str], code: int, why: str
) -> None:
    """One line says why, and where to change it."""
    base = ["serve", "--me", "n1", "--peers", "n1=127.0.0.1:0", "--listen", "127.0.0.1:0"]
    done = jkcs(*base, "--data-dir", str(papers.directory / "never"), *arguments)
    assert done.returncode == code and why in done.stderr.splitlines()[-1], done.stderr


# --- a client of ZooKeeper's --------------------------------------------------------------------------------


def test_kazoo_speaks_tls(papers: Papers) -> None:
    """Unmodified clients, each with a certificate of its own, known to the tree by its name."""
    from kazoo.exceptions import NoAuthError
    from kazoo.security import ACL, Id

    config = NodeConfig(
        papers.directory / "data",
        "n1",
        "n1=127.0.0.1:0",
        listen="127.0.0.1:0",
        tls_only=True,
        tls_client_ca=papers.ca,
        tls_client_auth="need",
        **papers.settings,
    )
    with NodeThread(config) as node:
        host = url_of(node).partition("://")[2]
        owner, other = (kazoo_with(host, papers, pair) for pair in (papers.client, papers.other))
        try:
            owner.start(timeout=PATIENCE)
            other.start(timeout=PATIENCE)
            owner.create("/mine", b"secret", acl=[ACL(31, Id("x509", "CN=web,OU=shop,O=Example"))])
            assert owner.get("/mine")[0] == b"secret"
            with pytest.raises(NoAuthError):
                other.get("/mine")
        finally:
            for client in (owner, other):
                client.stop()
                client.close()


def kazoo_with(host: str, papers: Papers, pair: tuple[Path, Path]) -> Any:
    """kazoo compares no names; whom it believes is what it is told."""
    from kazoo.client import KazooClient

    certificate, key = map(str, pair)
    files = {"ca": str(papers.ca), "certfile": certificate, "keyfile": key}
    return KazooClient(hosts=host, use_ssl=True, verify_certs=True, **files)
