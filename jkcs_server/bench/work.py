"""What one connection is to ask of a server, said without any wire protocol.

Keys are numbered; from a number follow its path and its value, so that answers can be checked without
remembering what was written. Used by the lines (`native.py`, `jute.py`), which turn work into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The operations that are measured, and those that prepare, check and clean up."""

    CREATE = "create"
    SET = "set"
    GET = "get"
    GET_LOCAL = "get local"
    DELETE = "delete"

    @property
    def reads(self) -> bool:
        return self in (Kind.GET, Kind.GET_LOCAL)


@dataclass(frozen=True, slots=True)
class Work:
    """A stream of requests of one kind, on keys `folder/k0`, `folder/k1`, ..."""

    kind: Kind
    folder: str
    value_bytes: int
    first: int = 0
    cycle: int | None = None
    """Over keys 0 to `cycle` - 1 again and again, beginning with `first`; None: `first`, `first` + 1, ..."""
    limit: int | None = None
    """Requests in all; None: without end."""
    stem: str = "k"
    """What a key's name begins with, before its number."""

    def key(self, number: int) -> int:
        """The key that request `number`, from 0, is about."""
        key = self.first + number
        return key % self.cycle if self.cycle is not None else key

    def path(self, key: int) -> str:
        return f"{self.folder}/{self.stem}{key}"

    def value(self, key: int) -> bytes:
        """Recognizable, and of the size that was asked for."""
        return (b"%d." % key).ljust(self.value_bytes, b"v")[: self.value_bytes]


@dataclass(slots=True)
class Seen:
    """What the stats in the answers of a read added up to: the proof that writes took place."""

    versions: int = 0
    """Each `set` raises its key's version by one."""
    children: int = 0
    """Each `create` gives its folder one child more."""
