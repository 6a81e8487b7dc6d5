"""What the client hands to its caller about keys: `Stat` and `Event`.

Values only; made from the protocol's arrays, which they check. Knows nothing of connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jkcs_client.protocol.errors import ProtocolError
from jkcs_client.protocol.messages import CONTAINER_TTL, STAT_FIELDS, EventKind

MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Stat:
    """A key's facts, under ZooKeeper's names, and the log index as of which they are true."""

    czxid: int
    """Log index at which the key was created; no other key of this path ever has the same."""
    mzxid: int
    """Log index of the last change of the key's value."""
    pzxid: int
    """Log index of the last change of its list of children."""
    ctime: float
    """When it was created, in seconds since 1970 by the clock of the leader of that time."""
    mtime: float
    """When its value was last changed, likewise."""
    version: int
    """How often the value has been changed."""
    cversion: int
    """How often the list of children has been changed."""
    ephemeral_owner: int
    """The session that the key ends with, or 0."""
    data_length: int
    num_children: int
    index: int
    """The log index as of which all this is true: a watch with `since=index` misses nothing."""
    aversion: int = 0
    """How often the access control list has been changed."""
    ttl: float | None = None
    """Seconds without a new value and without children after which the key goes, or None."""
    container: bool = False
    """Whether the key goes when its last child has gone."""

    @classmethod
    def of(cls, fields: Any, index: int) -> Stat:
        """From the protocol's array. Raises ProtocolError when it is none."""
        if type(fields) is not list or len(fields) != len(STAT_FIELDS) or not all(type(x) is int for x in fields):
            raise ProtocolError(f"a stat has {len(STAT_FIELDS)} integers, got {fields!r:.200}")
        czxid, mzxid, pzxid, ctime, mtime, version, cversion, owner, length, children, aversion, ttl_ms = fields
        times = (ctime / MILLISECONDS, mtime / MILLISECONDS)
        numbers = (version, cversion, owner, length, children, index, aversion)
        ttl = ttl_ms / MILLISECONDS if ttl_ms > 0 else None
        return cls(czxid, mzxid, pzxid, *times, *numbers, ttl, ttl_ms == CONTAINER_TTL)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a key that is watched."""

    kind: EventKind
    path: str
    """The key it happened to, as the caller would name it."""
    index: int
    """The log index of the command that did it."""
