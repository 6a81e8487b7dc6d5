"""Quotas as the caller sees them, and the keys and texts that ZooKeeper keeps them in.

Pure: no session and no I/O here. Used by `keys`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jkcs_client.operations import COUNTER_MAX, Operation
from jkcs_client.protocol.errors import BadArguments
from jkcs_client.protocol.messages import ANY_VERSION, CREATE, DELETE, SET, CreateFlag

ROOT = "/zookeeper/quota"
_NONE = -1
_PAIR = re.compile(rb"([A-Za-z]+)=(-?[0-9]{1,18})(?=[,;]|\Z)")


@dataclass(frozen=True, slots=True)
class Quota:
    """What may be at and below a key, and what there is. None: no such limit."""

    keys: int | None
    """More keys are refused."""
    bytes: int | None
    """More bytes of values are refused."""
    soft_keys: int | None
    """More keys are written to the servers' log."""
    soft_bytes: int | None
    """So are more bytes."""
    keys_used: int
    """The key itself counts."""
    bytes_used: int


def quota_of(limits: bytes, stats: bytes) -> Quota:
    """From the texts of the two keys."""
    said, used = _pairs(limits), _pairs(stats)

    def limit(name: bytes) -> int | None:
        value = said.get(name, _NONE)
        return None if value < 0 else value

    return Quota(
        keys=limit(b"countHardLimit"),
        bytes=limit(b"byteHardLimit"),
        soft_keys=limit(b"count"),
        soft_bytes=limit(b"bytes"),
        keys_used=used.get(b"count", 0),
        bytes_used=used.get(b"bytes", 0),
    )


def _pairs(text: bytes) -> dict[bytes, int]:
    return {name: int(value) for name, value in _PAIR.findall(text)}


def limits_text(keys: int | None, size: int | None, *, hard: bool) -> bytes:
    """What the key of limits says. Raises BadArguments."""
    if keys is None and size is None:
        raise BadArguments("a quota limits keys, bytes, or both")
    for name, value in (("keys", keys), ("bytes", size)):
        if value is not None and (type(value) is not int or not 0 <= value <= COUNTER_MAX // 10):
            raise BadArguments(f"{name} is a number from 0 on, not {value!r}")
    count, length = (_NONE if keys is None else keys, _NONE if size is None else size)
    if hard:
        return b"count=-1,bytes=-1;byteHardLimit=%d;countHardLimit=%d" % (length, count)
    return b"count=%d,bytes=%d" % (count, length)


def place_of(full: str) -> str:
    """The key that has the quota on `full`, a path as the server names it. Raises BadArguments."""
    if full == "/":
        raise BadArguments("the root can have no quota")
    return ROOT + full


def limits_key(full: str) -> str:
    """Where the limits stand."""
    return place_of(full) + "/zookeeper_limits"


def stats_key(full: str) -> str:
    """Where the servers say how much there is."""
    return place_of(full) + "/zookeeper_stats"


def creation(full: str, text: bytes) -> list[Operation]:
    """The operations that set a quota where there is none."""
    parents = int(CreateFlag.PARENTS)
    return [(CREATE, limits_key(full), text, parents), (CREATE, stats_key(full), b"count=0,bytes=0", parents)]


def change(full: str, text: bytes) -> list[Operation]:
    """The operation that changes it where there is one."""
    return [(SET, limits_key(full), text, ANY_VERSION)]


def removal(full: str) -> list[Operation]:
    """The operations that remove it, and leave the keys above."""
    return [(DELETE, limits_key(full), ANY_VERSION), (DELETE, stats_key(full), ANY_VERSION)]


def places_above(full: str) -> list[str]:
    """The keys that may be left empty by a removal, the deepest first."""
    place = place_of(full)
    found = []
    while place != ROOT:
        found.append(place)
        place = place.rpartition("/")[0]
    return found
