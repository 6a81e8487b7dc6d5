"""ZooKeeper under the same load: three servers of Debian's package, started for the occasion.

Durable as JKCS is (`forceSync`), with the collector that the JVM chooses, one GiB of heap, without the admin
server, logging at INFO to a file. Knows nothing of the load.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from jkcs_server.bench.jute import JuteLine, part
from jkcs_server.bench.line import Line
from jkcs_server.bench.parts import Parts
from jkcs_server.bench.subject import Address, Member, SubjectFailed
from jkcs_server.cli.processes import free_ports

JARS = Path("/usr/share/java")
JAR = JARS / "zookeeper.jar"
LOGGING_JAR = JARS / "slf4j-simple.jar"
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
SERVERS = 3
START_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
ANSWER_BYTES_MAX = 1 << 16

CONFIGURATION = """\
tickTime=2000
initLimit=10
syncLimit=5
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
clientPortAddress=127.0.0.1
clientPort={client_port}
dataDir={data_dir}
{servers}
"""


class ZooKeeper:
    """Three servers with their data below a directory. See `Subject`."""

    name = "zookeeper"
    folder = ""
    ours = True

    def __init__(self, directory: Path) -> None:
        """Raises SubjectFailed when Java or ZooKeeper is not installed."""
        java = shutil.which("java")
        if java is None or not JAR.exists():
            missing = "java is not in PATH" if java is None else f"there is no {JAR}"
            raise SubjectFailed(f"ZooKeeper is not installed ({missing}); on Debian: apt-get install zookeeper")
        self._java = java
        # The kernel ends the servers when this process ends, however it ends.
        setpriv = shutil.which("setpriv")
        self._leash = [setpriv, "--pdeathsig", "KILL"] if setpriv is not None else []
        self._directory = directory
        self._parts = Parts(part)
        self._addresses: list[Address] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def line(self) -> Line:
        return JuteLine(self._parts)

    def members(self) -> list[Member]:
        modes = [_mode(address) for address in self._addresses]
        if modes.count("leader") != 1 or modes.count("follower") != SERVERS - 1:
            raise SubjectFailed(f"ZooKeeper's servers are {', '.join(modes)}; logs are in {self._directory}")
        return [
            Member(address, mode == "leader", process.pid)
            for address, mode, process in zip(self._addresses, modes, self._processes, strict=True)
        ]

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def start(self) -> None:
        self._processes = []
        for number in range(1, SERVERS + 1):
            home = self._directory / f"z{number}"
            jars = os.pathsep.join(str(jar) for jar in (JAR, LOGGING_JAR) if jar.exists())
            command = [*self._leash, self._java, "-Xmx1g", "-Dzookeeper.forceSync=yes"]
            command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=info", "-cp", jars, MAIN, str(home / "zoo.cfg")]
            with (self._directory / f"z{number}.log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen(  # noqa: S603 - a program found in PATH with arguments of our own, no shell
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home, start_new_session=True
                    )
                )

    def __enter__(self) -> Self:
        self._configure()
        self.start()
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _configure(self) -> None:
        ports = free_ports(3 * SERVERS)
        servers = "\n".join(
            f"server.{n}=127.0.0.1:{ports[SERVERS + n - 1]}:{ports[2 * SERVERS + n - 1]}" for n in range(1, SERVERS + 1)
        )
        self._addresses = [("127.0.0.1", port) for port in ports[:SERVERS]]
        for number, (_, port) in enumerate(self._addresses, start=1):
            data = self._directory / f"z{number}" / "data"
            data.mkdir(parents=True)
            (data / "myid").write_text(f"{number}\n")
            (data.parent / "zoo.cfg").write_text(CONFIGURATION.format(client_port=port, data_dir=data, servers=servers))

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            for number, process in enumerate(self._processes, start=1):
                if process.poll() is not None:
                    log = self._directory / f"z{number}.log"
                    raise SubjectFailed(f"ZooKeeper's server {number} ended at once; its log is {log}")
            try:
                self.members()
                return
            except SubjectFailed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(POLL_SECONDS)


def _mode(address: Address) -> str:
    """What the server says it is: leader, follower; or why it says nothing."""
    try:
        with socket.create_connection(address, timeout=2.0) as connection:
            connection.sendall(b"srvr")
            answer = b""
            while (data := connection.recv(4096)) and len(answer) < ANSWER_BYTES_MAX:
                answer += data
    except OSError as error:
        return f"not reachable ({error.strerror or error})"
    for line in answer.decode("utf-8", "replace").splitlines():
        if line.startswith("Mode: "):
            return line.removeprefix("Mode: ")
    return "not serving"
