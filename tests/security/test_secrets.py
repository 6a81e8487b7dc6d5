"""Where secrets stay: a node lives a whole life with secrets that are told apart by their names, at log level debug;
then everything that it wrote and said is searched for them (CVE-2026-24308, CVE-2021-28235, GHSA-528j).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from jkcs_client import connect
from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.messages import ADMIN
from jkcs_server import Node, NodeConfig
from jkcs_server.cli import serve
from jkcs_server.serving.words import WORDS
from journal.errors import CredentialsRefused
from journal.storage.disk import FileDisk
from tests.support import jute_client as jute
from tests.support.certificates import Authority, pem_of, save
from tests.support.jute_client import Wire

PASSWORD = "marker-of-alices-password"
ROOT_PASSWORD = "marker-of-the-super-users-password"
WRONG = "marker-of-a-wrong-password"
GUESS = b"marker-guess-16b"
ALICE = digest_id(f"alice:{PASSWORD}")
ROOT = digest_id(f"root:{ROOT_PASSWORD}")


def shapes_of(secret: bytes) -> list[bytes]:
    """As somebody might print it."""
    return [
        secret,
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"="),
        repr(secret)[2:-1].encode(),
        str(list(secret)).encode(),
    ]


def found(secret: bytes | str, *places: bytes) -> bool:
    raw = secret.encode() if isinstance(secret, str) else secret
    return any(shape in place for shape in shapes_of(raw) for place in places)


class Life:
    """What a node was told, and what it said."""

    def __init__(self) -> None:
        self.session_passwords: list[bytes] = []
        self.said = b""

    def lead(self, where: tuple[str, int]) -> None:
        """Clients of ZooKeeper's protocol: right and wrong ones."""
        with Wire(where) as alice, Wire(where) as root:
            for client, credentials in ((alice, f"alice:{PASSWORD}"), (root, f"root:{ROOT_PASSWORD}")):
                assert client.client.greeting is not None
                self.session_passwords.append(client.client.greeting.password)
                assert client.call(zk.AUTH, jute.auth("digest", credentials.encode()), zk.AUTH_XID).error == OK
            mine = ((31, "auth", ""),)
            assert alice.call(zk.CREATE, jute.create("/alices", b"", entries=mine)).error == OK
            assert root.call(zk.SET_DATA, jute.set_data("/alices", b"by root")).error == OK
            self.said += repr(root.call(zk.WHO_AM_I).value).encode()
            greeting = alice.client.greeting
            assert greeting is not None
            with Wire(where, jute.connect(session=greeting.session, password=GUESS)) as thief:
                assert thief.is_closed()
            for scheme in ("digest", "ip", "kerberos", f"x{WRONG}"):
                with Wire(where) as stranger, suppress(ConnectionError):
                    # All in one, because the first bad one of them closes it.
                    auth = stranger.client.auth(scheme, f"bob:{WRONG}".encode())
                    bad = b"\xff\xff\xff\xff" + WRONG.encode()
                    stranger.send(auth + stranger.client.request(zk.GET_DATA, jute.read("/alices")) + bad)
                    assert stranger.is_closed()
            for word in sorted(WORDS):
                with socket.create_connection(where, 10) as sock:
                    sock.sendall(word.encode())
                    while data := sock.recv(1 << 16):
                        self.said += data

    async def administer(self, url: str) -> None:
        async with connect(url) as client:
            self.said += repr(await client.status()).encode()
            for name in ("server_status", "configuration", "list_snapshots", "take_snapshot"):
                self.said += repr(await self.ask(client, name)).encode()

    async def ask(self, client: Any, name: str) -> Any:
        return await client._session.call(ADMIN, (name, {}), 10.0)


def files_below(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.asyncio
async def test_secrets_are_found_nowhere_and_hashes_only_where_they_must_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    authority = Authority()
    certificate, key = save(tmp_path, "server", authority.issue("server", ips=["127.0.0.1"]))
    config = NodeConfig(
        tmp_path / "data",
        "n1",
        "n1=127.0.0.1:0",
        listen="127.0.0.1:0",
        tls_certificate=certificate,
        tls_key=key,
        four_letter_words="*",
        super_digest=ROOT,
    )
    life = Life()
    for _ in range(2):  # the second time from what the first has left on the disk
        async with Node(config) as node:
            assert node.client_address is not None and node._server is not None
            if not life.session_passwords:
                await asyncio.to_thread(life.lead, node.client_address)
            await life.administer(f"jkcs://127.0.0.1:{node.client_address[1]}")
            snapshots = node._server.replica.snapshots
            async with asyncio.timeout(20):
                while snapshots.newest is None:
                    await asyncio.sleep(0.01)

    logs = "\n".join(record.getMessage() + (record.exc_text or "") for record in caplog.records).encode()
    files = files_below(tmp_path / "data")
    assert logs and files and life.said
    everything = [logs, life.said, *files.values(), repr(config).encode(), str(config).encode()]
    for secret in (PASSWORD, ROOT_PASSWORD, WRONG, GUESS):
        assert not found(secret, *everything), secret
    private = "".join(key.read_text().splitlines()[1:3])
    assert not found(private, *everything)

    spoken = [logs, life.said, repr(config).encode()]
    for hashed in (ALICE, ROOT):
        assert not found(hashed, *spoken) and not found(hashed.split(":")[1], *spoken), hashed
    # Lists of permissions are state: alice's hash is in hers, on the disk. The super user's is in no list.
    assert found(ALICE, *files.values())
    assert not found(ROOT, *(data for path, data in files.items() if "snapshot" in path.name))

    for password in life.session_passwords:
        assert not found(password, logs, life.said)
    # Every server must know a session's password, so the log and snapshots have it; nobody else reads those files.
    assert found(life.session_passwords[0], *files.values())
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("value", [f"root:{ROOT_PASSWORD}", ROOT_PASSWORD, f"root:{ROOT.split(':')[1]}="])
def test_a_super_digest_that_cannot_be_is_refused_without_being_shown(tmp_path: Path, value: str) -> None:
    """Whoever writes the password where its hash should be must not find it in the log of the service manager."""
    arguments = ["--me", "n1", "--peers", "n1=127.0.0.1:0", "--data-dir", str(tmp_path)]
    done = CliRunner().invoke(serve.serve, arguments, env={"JKCS_SUPER_DIGEST": value})
    assert done.exit_code != 0 and "super_digest" in done.output
    assert ROOT_PASSWORD not in done.output and ROOT.split(":")[1] not in done.output


def test_a_configuration_does_not_print_its_secret() -> None:
    """Those who embed a node log its configuration."""
    config = NodeConfig("/data", "n1", "n1=127.0.0.1:0", super_digest=ROOT)
    assert ROOT not in repr(config) and config.super_digest == ROOT


@pytest.mark.asyncio
async def test_a_key_with_a_passphrase_is_refused_and_neither_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is asked for it, and none is taken from anywhere."""
    caplog.set_level(logging.DEBUG)
    authority = Authority()
    passphrase = b"marker-of-a-passphrase"
    certificate, _ = authority.issue("server", ips=["127.0.0.1"])
    locked = pem_of(ec.generate_private_key(ec.SECP256R1()), passphrase)
    paths = save(tmp_path, "server", (certificate, locked))
    config = NodeConfig(
        tmp_path / "data", "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", tls_certificate=paths[0], tls_key=paths[1]
    )
    with pytest.raises(CredentialsRefused, match="protected by a passphrase") as refused:
        async with Node(config):
            pass
    body = locked.splitlines()[1].decode()
    for text in (str(refused.value), repr(refused.value), caplog.text):
        assert passphrase.decode() not in text and body not in text


def test_files_that_others_could_read_are_made_private_when_they_are_opened(tmp_path: Path) -> None:
    """A data directory that was copied, or unpacked from an archive, has whatever modes the copying gave it."""
    before = os.umask(0)
    try:
        disk = FileDisk(tmp_path / "data")
        disk.create("a", 0)
        disk.close()
        for path in ((tmp_path / "data" / "a"), (tmp_path / "data" / "lock")):
            path.chmod(0o666)
        FileDisk(tmp_path / "data").close()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o600}
