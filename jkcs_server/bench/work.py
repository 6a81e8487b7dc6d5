"""What one connection is to ask of a server, said without any wire protocol.

Keys are numbered; from a number follow its path and its value, so that answers can be checked without
remembering what was written. Used by the lines (`native.py`, `jute.py`), which turn work into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SEQUENCE_DIGITS = 10
"""What a server adds to the name of a sequential key."""
READS_PER_WRITE = 9
"""In mixed work: of ten requests, one writes."""


class Kind(Enum):
    """The operations that are measured, and those that prepare, check and clean up."""

    CREATE = "create"
    CREATE_SEQUENTIAL = "create sequential"
    """Every request names the stem alone; the server adds the number."""
    CREATE_EPHEMERAL = "create ephemeral"
    SET = "set"
    GET = "get"
    GET_LOCAL = "get local"
    MIXED = "mixed"
    """Nine local reads, then one `set`."""
    WATCH = "watch"
    """A local read that leaves a watch for the key's next change."""
    DELETE = "delete"

    @property
    def reads(self) -> bool:
        return self in (Kind.GET, Kind.GET_LOCAL, Kind.WATCH)

    @property
    def creates(self) -> bool:
        return self in (Kind.CREATE, Kind.CREATE_SEQUENTIAL, Kind.CREATE_EPHEMERAL)


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
    digits: int = 0
    """The number is filled up to so many digits with zeros in front."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All that `kind_of` says of its requests."""
        return (Kind.SET, Kind.GET_LOCAL) if self.kind is Kind.MIXED else (self.kind,)

    def key(self, number: int) -> int:
        """The key that request `number`, from 0, is about."""
        key = self.first + number
        return key % self.cycle if self.cycle is not None else key

    def kind_of(self, number: int) -> Kind:
        """What request `number` does: the work's kind, unless that is a mixture."""
        if self.kind is not Kind.MIXED:
            return self.kind
        # Connections begin at different keys, and at different turns: they do not all write at once, and between
        # them they write all keys.
        turn = (number + self.first // (READS_PER_WRITE + 1)) % (READS_PER_WRITE + 1)
        return Kind.SET if turn == READS_PER_WRITE else Kind.GET_LOCAL

    def path(self, key: int) -> str:
        return f"{self.folder}/{self.stem}{key:0{self.digits}}" if self.digits else f"{self.folder}/{self.stem}{key}"

    def asked(self, key: int) -> str:
        """The path that a request about the key names: the key's own, unless the server is to number it."""
        return f"{self.folder}/{self.stem}" if self.kind is Kind.CREATE_SEQUENTIAL else self.path(key)

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
