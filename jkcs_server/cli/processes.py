"""A cluster of real `jkcs serve` processes on this machine: started, watched, killed, started again.

Knows nothing of what is done with the cluster. Called by `jkcs dev`, `jkcs demo`, `jkcs bench` and by tests.
Everything here blocks; processes are started from the main thread only (see `parent.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from jkcs_server.cli.probe import ProbeFailed, ask_each, ask_status, leader_of
from jkcs_server.config import Address, show_address

T = TypeVar("T")
HOST = "127.0.0.1"
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
POLL_INTERVAL = 0.05
PEER_PORT_OFFSET = 100
"""With a fixed base port, members listen for each other this far above where they listen for clients."""
_EPHEMERAL_FIRST_USUAL = 32768
_PORT_MIN = 10_000


class ProcessFailed(Exception):
    """A server process could not be started, ended by itself, or does not serve in time; says which and why."""


class Unwanted(Exception):
    """What was waited for is not wanted any more."""


@dataclass(slots=True)
class LocalNode:
    """One member of a `LocalCluster`."""

    name: str
    client_address: Address
    peer_address: Address
    data_dir: Path
    log_path: Path
    process: subprocess.Popen[bytes] | None = field(default=None)
    """None before the first start. A process that has ended stays here until the next start."""
    wanted: bool = False
    """Started and not stopped since: if it does not run, it ended by itself."""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process started last."""
        assert self.process is not None, self.name
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """Of the process started last; None while it runs. A signal's number below zero, as in `subprocess`."""
        return None if self.process is None else self.process.poll()

    def last_words(self) -> str:
        """The last line of its log that is not empty."""
        with contextlib.suppress(OSError):
            lines = [line for line in self.log_path.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return lines[-1].strip()
        return "its log is empty"


class LocalCluster:
    """Nodes `n1`, `n2`, ... with data and logs under one directory, on free ports or from a base port on.

    A context manager: enter starts all nodes and waits until a leader serves, exit stops them. The processes
    never outlive this one: they are stopped at exit, and the kernel kills them if this process is killed.
    """

    def __init__(
        self,
        directory: str | Path,
        nodes: int = 3,
        *,
        base_port: int | None = None,
        cluster: str = "jkcs",
        fsync: bool = True,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`arguments` are more flags for `jkcs serve`; `environment` adds variables (JKCS_* of this process are
        not passed on: they speak of another node)."""
        self.directory = Path(directory).absolute()
        self._cluster = cluster
        self._arguments = [*arguments, *(() if fsync else ("--no-fsync",))]
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("JKCS_")}
        self._environment.update(environment or {})
        clients, peers = _ports(nodes, base_port)
        self.nodes: dict[str, LocalNode] = {}
        """By name, in order."""
        for number, (client_port, peer_port) in enumerate(zip(clients, peers, strict=True), start=1):
            name = f"n{number}"
            self.nodes[name] = LocalNode(
                name,
                (HOST, client_port),
                (HOST, peer_port),
                self.directory / name,
                self.directory / f"{name}.log",
            )

    @property
    def url(self) -> str:
        """For clients; names every member."""
        return "jkcs://" + ",".join(show_address(node.client_address) for node in self.nodes.values())

    def __enter__(self) -> LocalCluster:
        try:
            self.start()
            self.wait_for_leader()
        except BaseException:
            self.stop(timeout=0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str | None = None) -> None:
        """Start one node, or all that do not run. Does not wait until they serve."""
        assert threading.current_thread() is threading.main_thread(), "a child ends with the thread that started it"
        self.directory.mkdir(parents=True, exist_ok=True)
        atexit.register(self._kill_all)
        for node in [self.nodes[name]] if name is not None else self.nodes.values():
            if not node.running:
                self._start_one(node)

    def peers_of(self, node: LocalNode) -> Mapping[str, Address]:
        """Where `node` is told to find each member, and to listen itself. A test may put something in between."""
        return {each.name: each.peer_address for each in self.nodes.values()}

    def _start_one(self, node: LocalNode) -> None:
        peers = ",".join(f"{name}={show_address(at)}" for name, at in self.peers_of(node).items())
        command = [sys.executable, "-m", "jkcs_server.cli.main", "serve"]
        command += ["--me", node.name, "--peers", peers, "--listen", show_address(node.client_address)]
        command += ["--data-dir", str(node.data_dir), "--cluster", self._cluster]
        command += ["--parent-pid", str(os.getpid()), *self._arguments]
        node.wanted = True
        with node.log_path.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for us, who stop the nodes in order.
            node.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    restart = start
    """A node that was killed comes back with its data."""

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> float:
        """Send a signal, wait for the end of the process, and say how many seconds that took."""
        node = self.nodes[name]
        assert node.process is not None, name
        node.wanted = False
        began = time.monotonic()
        node.process.send_signal(number)
        try:
            node.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{name} did not end within {STOP_TIMEOUT:g} s of {number.name}") from None
        return time.monotonic() - began

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """SIGTERM to all at once; what is still there after `timeout` seconds is killed."""
        running = [node.process for node in self.nodes.values() if node.process is not None and node.running]
        for node in self.nodes.values():
            node.wanted = False
        for process in running if timeout > 0 else ():
            process.terminate()
        deadline = time.monotonic() + timeout
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self._kill_all()
        atexit.unregister(self._kill_all)

    def _kill_all(self) -> None:
        for node in self.nodes.values():
            if node.process is not None and node.running:
                node.process.kill()
                node.process.wait()

    def status(self, name: str, timeout: float = 2.0) -> dict[str, Any]:
        """The node's STATUS. Raises ProbeFailed when it does not answer."""
        return ask_status(self.nodes[name].client_address, timeout=timeout)

    def statuses(self, timeout: float = 2.0) -> dict[str, dict[str, Any]]:
        """Of all running nodes that answer, by name."""
        asked = {node.client_address: name for name, node in self.nodes.items() if node.running}
        answers = ask_each(asked, timeout=timeout)
        return {asked[at]: answer for at, answer in answers.items() if not isinstance(answer, ProbeFailed)}

    def wait_serving(self, name: str, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """Wait until a node answers; its status. Raises ProcessFailed when it ended or the time is over."""
        return self._wait(f"{name} does not serve", lambda: self._try_status(name), timeout)

    def wait_for_leader(self, timeout: float = START_TIMEOUT, *, unless: Callable[[], bool] = lambda: False) -> str:
        """Wait until every running node answers and knows the same leader; its name. Raises Unwanted once
        `unless` says so."""

        def attempt() -> str | None:
            if unless():
                raise Unwanted
            return self._agreed_leader()

        return self._wait("no leader was elected", attempt, timeout)

    def wait_for_index(self, name: str, index: int, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """Wait until a node has applied the log up to `index`; its status."""

        def caught_up() -> dict[str, Any] | None:
            status = self._try_status(name)
            return status if status is not None and status["applied_index"] >= index else None

        return self._wait(f"{name} has not caught up", caught_up, timeout)

    def _agreed_leader(self) -> str | None:
        statuses = self.statuses()
        if len(statuses) < sum(node.running for node in self.nodes.values()):
            return None
        leader = leader_of(statuses.values())
        agreed = bool(statuses) and all(status["leader"] == leader for status in statuses.values())
        return leader if agreed else None

    def _try_status(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(ProbeFailed):
            return self.status(name)
        return None

    def _wait(self, what: str, attempt: Callable[[], T | None], timeout: float) -> T:
        deadline = time.monotonic() + timeout
        while (result := attempt()) is None:
            for node in self.nodes.values():
                if node.wanted and not node.running:
                    raise ProcessFailed(f"{node.name} ended by itself: {node.last_words()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{what} within {timeout:g} s; logs are in {self.directory}")
            time.sleep(POLL_INTERVAL)
        return result


def _ports(nodes: int, base_port: int | None) -> tuple[list[int], list[int]]:
    if base_port is not None:
        clients = list(range(base_port, base_port + nodes))
        return clients, [port + PEER_PORT_OFFSET for port in clients]
    free = free_ports(2 * nodes)
    return free[:nodes], free[nodes:]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, outside the range from which the kernel takes the ports of outgoing connections.

    Inside that range, a connection could take the port of a node between its end and its next start.
    """
    with contextlib.ExitStack() as held:
        return [_bound_port(held, candidates) for candidates in [_candidates()] for _ in range(count)]


def _candidates() -> Iterator[int]:
    first = _EPHEMERAL_FIRST_USUAL
    with contextlib.suppress(OSError, ValueError, IndexError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = list(range(_PORT_MIN, first)) or list(range(_PORT_MIN, _EPHEMERAL_FIRST_USUAL))
    random.shuffle(ports)
    return iter(ports)


def _bound_port(held: contextlib.ExitStack, candidates: Iterator[int]) -> int:
    """The next port that can be bound; it stays bound until `held` is left, so that none is found twice."""
    for port in candidates:
        candidate = held.enter_context(socket.socket())
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            candidate.bind((HOST, port))
            return port
    raise ProcessFailed("no free port on this machine")
