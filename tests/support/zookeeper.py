"""A real ZooKeeper of its own for a test: one server, started from Debian's package; tests are skipped without it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jkcs_server.bench.zookeeper import JAR, LOGGING_JAR
from jkcs_server.cli.processes import free_ports

SUPER = "super:secret-of-tests"
START_SECONDS = 60.0
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
CONFIGURATION = """\
tickTime=2000
admin.enableServer=false
4lw.commands.whitelist=*
clientPortAddress=127.0.0.1
clientPort={port}
dataDir={home}/data
"""


def super_digest() -> str:
    """What ZooKeeper is told of `SUPER`: the name, and the hash of all."""
    return f"super:{base64.b64encode(hashlib.sha1(SUPER.encode()).digest()).decode()}"


def ask(address: tuple[str, int], word: str) -> bytes:
    """A four-letter word's answer."""
    with socket.create_connection(address, timeout=5.0) as connection:
        connection.sendall(word.encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


@contextmanager
def one_zookeeper(home: Path) -> Iterator[tuple[str, int]]:
    """Its address. It ends with this process at the latest."""
    java = shutil.which("java")
    if java is None or not JAR.exists():
        pytest.skip("ZooKeeper is not installed (on Debian: apt-get install zookeeper)")
    setpriv = shutil.which("setpriv")
    leash = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    (port,) = free_ports(1)
    (home / "data").mkdir(parents=True)
    (home / "zoo.cfg").write_text(CONFIGURATION.format(port=port, home=home))
    jars = os.pathsep.join(str(jar) for jar in (JAR, LOGGING_JAR) if jar.exists())
    flags = ["-Xmx256m", "-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=200"]
    flags += [f"-Dzookeeper.DigestAuthenticationProvider.superDigest={super_digest()}"]
    with (home / "log").open("ab") as log:
        command = [*leash, java, *flags, "-cp", jars, MAIN, str(home / "zoo.cfg")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _serves(("127.0.0.1", port)):
            assert process.poll() is None, f"ZooKeeper ended at once; its log is {home / 'log'}"
            assert time.monotonic() < deadline, f"ZooKeeper does not serve; its log is {home / 'log'}"
            time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.kill()
        process.wait()


def _serves(address: tuple[str, int]) -> bool:
    try:
        return b"Mode: standalone" in ask(address, "srvr")
    except OSError:
        return False
