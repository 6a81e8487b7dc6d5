"""JKCS under load, over either of its protocols: a cluster that the benchmark starts, or one that runs already."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jkcs_server.bench import jute, native
from jkcs_server.bench.line import Line, Wire
from jkcs_server.bench.parts import Parts
from jkcs_server.bench.subject import Address, Member, SubjectFailed
from jkcs_server.cli.probe import ProbeFailed, ask_each, leader_of
from jkcs_server.cli.processes import LocalCluster, ProcessFailed
from jkcs_server.config import show_address

JKCS = "jkcs"


class OwnJkcs:
    """Three `jkcs serve` processes on this machine, with their data below a directory. See `Subject`."""

    name = JKCS
    folder = ""
    ours = True

    def __init__(self, directory: Path, wire: Wire = Wire.NATIVE) -> None:
        self._cluster = LocalCluster(directory)
        self.line = lines(wire)

    def members(self) -> list[Member]:
        return _members([node.client_address for node in self._cluster.nodes.values()])

    def kill(self) -> None:
        for name in self._cluster.nodes:
            self._cluster.kill(name)

    def start(self) -> None:
        self._cluster.start()

    def __enter__(self) -> Self:
        try:
            self._cluster.__enter__()
        except ProcessFailed as failure:
            raise SubjectFailed(f"cannot start a cluster: {failure}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.stop()


class RunningJkcs:
    """A cluster that somebody else runs. See `Subject`."""

    name = JKCS
    ours = False

    def __init__(self, addresses: Sequence[Address], chroot: str = "", wire: Wire = Wire.NATIVE) -> None:
        self.folder = chroot
        self._addresses = list(addresses)
        self.line = lines(wire)

    def members(self) -> list[Member]:
        return _members(self._addresses)

    def kill(self) -> None:
        raise AssertionError("these processes are not ours to kill")

    def start(self) -> None:
        raise AssertionError("these processes are not ours to start")

    def __enter__(self) -> Self:
        self.members()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def lines(wire: Wire) -> Callable[[], Line]:
    """Makes the lines of one cluster."""
    if wire is Wire.ZOOKEEPER:
        parts = Parts(jute.part)
        return lambda: jute.JuteLine(parts)
    parts = Parts(native.part)
    return lambda: native.NativeLine(parts)


def _members(addresses: Sequence[Address]) -> list[Member]:
    answers = ask_each(addresses)
    statuses: list[dict[str, Any]] = []
    for address, answer in answers.items():
        if isinstance(answer, ProbeFailed):
            raise SubjectFailed(f"{show_address(address)} does not answer: {answer}")
        statuses.append(answer)
    leader = leader_of(statuses)
    if leader is None:
        raise SubjectFailed("none of the servers named leads; name all members of the cluster")
    return [
        Member(address, status["node"] == leader, status["pid"] if _is_loopback(address[0]) else None)
        for address, status in zip(answers, statuses, strict=True)
    ]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
