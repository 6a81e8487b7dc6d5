"""The two kinds of servers that are judged: JKCS, and the real ZooKeeper that says what is right.

Both are processes on free ports of this machine, started and killed alike, so that every judge of this folder
runs against either. Called by the differential test, by the clients' judges and by tests/integration/test_kazoo*.

JKCS_JUDGED=zookeeper in the environment turns the tests of real clients on the real ZooKeeper: that is how a
judge itself is proven right.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from jkcs_server.bench.zookeeper import JAR, LOGGING_JAR, MAIN
from jkcs_server.cli.processes import LocalCluster, free_ports

HOST = "127.0.0.1"
START_SECONDS = 60.0
POLL_SECONDS = 0.05
LOG_SHOWN = 3_000
JUDGED = "JKCS_JUDGED"
REAL = "zookeeper"
OURS = "jkcs"

CONFIGURATION = """\
tickTime=500
minSessionTimeout=500
maxSessionTimeout=120000
initLimit=20
syncLimit=10
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
clientPortAddress=127.0.0.1
clientPort={port}
dataDir={data}
{servers}
"""


class Servers(Protocol):
    """Some servers that form one service."""

    name: str

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where clients connect; of all servers, running or not."""
        ...

    def leader(self) -> int:
        """The place in `addresses` of the server that leads now; waits until there is one."""
        ...

    def kill(self, number: int) -> None:
        """SIGKILL, and wait for the end of the process."""
        ...

    def restart(self, number: int) -> None:
        """A server that was killed comes back with its data. Does not wait until it serves."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def hosts(servers: Servers) -> str:
    """As ZooKeeper's clients want it: host:port,host:port."""
    return ",".join(f"{host}:{port}" for host, port in servers.addresses)


class Jkcs:
    """Processes of `jkcs serve`. See `Servers`."""

    name = OURS

    def __init__(self, directory: Path, size: int = 1, *, fsync: bool = False) -> None:
        arguments = ("--session-timeout-min", "0.5", "--session-timeout-max", "120", "--four-letter-words", "*")
        self._cluster = LocalCluster(directory, size, fsync=fsync, arguments=arguments)
        self._names = list(self._cluster.nodes)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [node.client_address for node in self._cluster.nodes.values()]

    def last_words(self) -> str:
        """The end of each server's log, for who looks at a failure."""
        nodes = self._cluster.nodes.items()
        return "\n".join(f"{name}:\n{node.log_path.read_text(errors='replace')[-LOG_SHOWN:]}" for name, node in nodes)

    def leader(self) -> int:
        return self._names.index(self._cluster.wait_for_leader())

    def kill(self, number: int) -> None:
        self._cluster.kill(self._names[number])

    def restart(self, number: int) -> None:
        self._cluster.restart(self._names[number])

    def __enter__(self) -> Self:
        self._cluster.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.stop()


class RealZooKeeper:
    """Servers of Debian's package `zookeeper`. See `Servers`.

    Without forced writes, for speed: nothing here asks what survives a power failure.
    """

    name = REAL

    def __init__(self, directory: Path, size: int = 1, *, check_interval_ms: int = 60_000) -> None:
        """`check_interval_ms`: how often empty containers and old TTL keys are looked for."""
        reason = real_zookeeper_missing()
        assert reason is None, reason
        self._directory = directory
        self._check_interval_ms = check_interval_ms
        self._addresses = [(HOST, port) for port in free_ports(size)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * size
        peers = free_ports(2 * size)
        lines = [f"server.{n + 1}={HOST}:{peers[2 * n]}:{peers[2 * n + 1]}" for n in range(size)] if size > 1 else []
        for number, (_, port) in enumerate(self._addresses):
            data = directory / f"z{number + 1}"
            data.mkdir(parents=True)
            (data / "myid").write_text(f"{number + 1}\n")
            text = CONFIGURATION.format(port=port, data=data, servers="\n".join(lines))
            (directory / f"z{number + 1}.cfg").write_text(text)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return list(self._addresses)

    def leader(self) -> int:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            running = [number for number, process in enumerate(self._processes) if process is not None]
            modes = {number: mode(self._addresses[number]) for number in running}
            leading = [number for number in running if modes[number] in ("leader", "standalone")]
            if len(leading) == 1 and all(modes[number] != "" for number in running):
                return leading[0]
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"ZooKeeper elected no leader within {START_SECONDS:g} s; logs are in {self._directory}")

    def kill(self, number: int) -> None:
        process = self._processes[number]
        assert process is not None, number
        process.kill()
        process.wait()
        self._processes[number] = None

    def restart(self, number: int) -> None:
        java, setpriv = shutil.which("java"), shutil.which("setpriv")
        assert java is not None
        # The kernel ends the servers when this process ends, however it ends.
        leash = [setpriv, "--pdeathsig", "KILL"] if setpriv is not None else []
        settings = {
            "zookeeper.forceSync": "no",
            "zookeeper.extendedTypesEnabled": "true",
            "zookeeper.enforceQuota": "true",
            "znode.container.checkIntervalMs": str(self._check_interval_ms),
            "org.slf4j.simpleLogger.defaultLogLevel": "warn",
        }
        jars = os.pathsep.join(str(jar) for jar in (JAR, LOGGING_JAR) if jar.exists())
        command = [
            *leash,
            java,
            "-Xmx512m",
            "-XX:+UseSerialGC",
            *(f"-D{key}={value}" for key, value in settings.items()),
        ]
        command += ["-cp", jars, MAIN, str(self._directory / f"z{number + 1}.cfg")]
        with (self._directory / f"z{number + 1}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self) -> Self:
        for number in range(len(self._addresses)):
            self.restart(number)
        try:
            self.leader()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, process in enumerate(self._processes):
            if process is not None:
                self.kill(number)


def real_zookeeper_missing() -> str | None:
    """Why there is no real ZooKeeper on this machine; None when there is one."""
    if shutil.which("java") is None:
        return "java is not in PATH (on Debian: apt-get install zookeeper)"
    if not JAR.exists():
        return f"there is no {JAR} (on Debian: apt-get install zookeeper)"
    return None


@contextmanager
def judged(directory: Path, size: int = 1) -> Iterator[Servers]:
    """The servers that real clients are tested with: ours, or the real ones when the environment says so."""
    if os.environ.get(JUDGED, OURS) == REAL:
        with RealZooKeeper(directory, size, check_interval_ms=1_000) as real:
            yield real
    else:
        with Jkcs(directory, size) as ours:
            yield ours


def four_letters(address: tuple[str, int], word: str) -> str:
    """The answer to a four-letter word; nothing when the server cannot be reached."""
    try:
        with socket.create_connection(address, timeout=5.0) as connection:
            connection.sendall(word.encode())
            answer = b""
            while data := connection.recv(65536):
                answer += data
    except OSError:
        return ""
    return answer.decode("utf-8", "replace")


def mode(address: tuple[str, int]) -> str:
    """What a server says it is: leader, follower, standalone; nothing when it does not serve."""
    for line in four_letters(address, "srvr").splitlines():
        if line.startswith("Mode: "):
            return line.removeprefix("Mode: ")
    return ""
