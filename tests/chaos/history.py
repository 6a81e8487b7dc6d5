"""What the clients of one round saw: records, and the file they travel in from the workers to the judge.

One JSON array a line: the record's name, then its fields. Times are seconds of the machine's monotonic clock, which
all processes share. Knows nothing of how records come about (`workloads.py`) nor of what they prove (`checks.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO, TypeVar

R = TypeVar("R")


class Outcome(StrEnum):
    """How a call ended."""

    ACKNOWLEDGED = "acknowledged"
    """With a result."""
    REFUSED = "refused"
    """With a definite error: that is an answer, too."""
    UNKNOWN = "unknown"
    """Without an answer; it may have happened."""
    FAILED = "failed"
    """With a promise that nothing has happened."""


@dataclass(frozen=True, slots=True)
class RegisterCall:
    """One call on one key: create, set, delete or get; see `register_step` for arguments and results."""

    client: str
    kind: str
    key: str
    argument: Any
    called: float
    returned: float | None
    """None: never answered."""
    result: Any


@dataclass(frozen=True, slots=True)
class Added:
    """A child of the set was created, or that was tried."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class Counted:
    """The counter was raised and `marker` created in one transaction, or that was tried."""

    marker: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LockHeld:
    """A lock was held."""

    client: str
    token: int
    entered: float
    believed: float
    """The last moment at which the holder looked and still believed in it."""


@dataclass(frozen=True, slots=True)
class FencedWrite:
    """A write under the guard of a lock was acknowledged."""

    client: str
    token: int
    index: int


@dataclass(frozen=True, slots=True)
class Owned:
    """An ephemeral key was created."""

    path: str
    session: int
    created: float
    """When the creation was acknowledged."""
    believed: float
    """The last moment at which its owner looked and its session lived, with no attempt to end it yet."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An ephemeral key was looked at by another client."""

    path: str
    owner: int | None
    """The session it belongs to; None when there is no such key."""
    called: float
    returned: float


@dataclass(frozen=True, slots=True)
class Changed:
    """A key under a recursive watch was changed, or that was tried."""

    watcher: str
    kind: int
    path: str
    index: int
    """0: not known, for a deletion or a call that was not acknowledged."""
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Event:
    """A watch delivered an event."""

    watcher: str
    kind: int
    path: str
    index: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A watch said that what lies above `after` and up to `until` was not all shown."""

    watcher: str
    after: int
    until: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A watch, from the index after `since` on; whether it came to the last event before the end."""

    watcher: str
    since: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """How many calls of a workload ended how."""

    workload: str
    outcome: Outcome
    count: int


Record = (
    RegisterCall | Added | Counted | LockHeld | FencedWrite | Owned | Seen | Changed | Event | Gap | Watched | Tally
)
_BY_NAME: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        RegisterCall,
        Added,
        Counted,
        LockHeld,
        FencedWrite,
        Owned,
        Seen,
        Changed,
        Event,
        Gap,
        Watched,
        Tally,
    )
}


class History:
    """All records of a round, by kind."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._by_kind: dict[type[Any], list[Any]] = {}
        for record in records:
            self._by_kind.setdefault(type(record), []).append(record)

    def of(self, kind: type[R]) -> list[R]:
        """The records of one kind, in the order in which each worker made them."""
        return list(self._by_kind.get(kind, ()))


class HistoryFile:
    """The writing end."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, record: Record) -> None:
        values = [getattr(record, field.name) for field in fields(record)]
        self._file.write(json.dumps([type(record).__name__, *values]) + "\n")


def read_history(paths: Iterable[Path]) -> History:
    """The records of all workers. A last line that was cut short is left out: its worker was killed."""
    records: list[Record] = []
    for path in paths:
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                name, *values = json.loads(line)
                records.append(_record(_BY_NAME[name], values))
    return History(records)


def _record(cls: type[Any], values: list[Any]) -> Any:
    made = [
        Outcome(value) if field.name == "outcome" else _tuples(value)
        for field, value in zip(fields(cls), values, strict=True)
    ]
    return cls(*made)


def _tuples(value: Any) -> Any:
    """JSON knows lists only; states of the models are tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
