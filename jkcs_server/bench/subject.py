"""What is measured: a running cluster of three, as the benchmark sees it. The seam to JKCS and to ZooKeeper."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from jkcs_server.bench.line import Line

Address = tuple[str, int]


class SubjectFailed(Exception):
    """The cluster cannot be started, or does not answer; the text says which part of it and why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One server of the cluster."""

    address: Address
    """Where clients connect."""
    leads: bool
    pid: int | None
    """None when it does not run on this machine: then its processor time cannot be known."""


class Subject(Protocol):
    """A cluster under load. A context manager: enter waits until it serves, exit stops what was started."""

    name: str
    folder: str
    """Below it all keys of the benchmark are made; "" for the root."""
    ours: bool
    """The processes were started by the benchmark, which may then also kill them."""

    def line(self) -> Line:
        """A new connection's protocol."""

    def members(self) -> list[Member]:
        """All servers, and who leads now. Blocks. Raises SubjectFailed unless all answer and one leads."""

    def kill(self) -> None:
        """`kill -9` of all servers. Only when `ours`."""

    def start(self) -> None:
        """Start the processes again on their data, without waiting until they serve. Only when `ours`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
