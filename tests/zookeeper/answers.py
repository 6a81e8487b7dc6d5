"""A server's answers as plain values that can be laid beside another server's.

What two servers may choose differently comes out marked: a zxid as `Zxid`, a session as `Owner`. Times are left
out. Children and other sets come out sorted. Knows nothing of sockets. Called by `session.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.zookeeper.operations import CODES, Operation

NAMES = {code: name for name, code in CODES.items()}
_INT, _LONG = struct.Struct(">i"), struct.Struct(">q")


@dataclass(frozen=True)
class Zxid:
    """Compared by its place in the order of all zxids, not by its number."""

    number: int


@dataclass(frozen=True)
class Owner:
    """A session, which each server numbers as it likes; or what a container or TTL key has in its place."""

    number: int


@dataclass(frozen=True)
class Stat:
    """A stat without its times."""

    czxid: Zxid
    mzxid: Zxid
    version: int
    cversion: int
    aversion: int
    owner: Owner
    data_length: int
    children: int
    pzxid: Zxid


class Reader:
    """Reads one body from its beginning to its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def rest(self) -> bytes:
        rest = self._body[self._at :]
        self._at = len(self._body)
        return rest

    def byte(self) -> int:
        return self._take(1)[0]

    def int(self) -> int:
        value: int = _INT.unpack(self._take(4))[0]
        return value

    def long(self) -> int:
        value: int = _LONG.unpack(self._take(8))[0]
        return value

    def buffer(self) -> bytes | None:
        size = self.int()
        return None if size < 0 else self._take(size)

    def text(self) -> str:
        value = self.buffer()
        return "<none>" if value is None else value.decode("utf-8", "backslashreplace")

    def texts(self) -> tuple[str, ...]:
        return tuple(sorted(self.text() for _ in range(self.int())))

    def acl(self) -> tuple[tuple[int, str, str], ...]:
        return tuple((self.int(), self.text(), self.text()) for _ in range(self.int()))

    def stat(self) -> Stat:
        czxid, mzxid = Zxid(self.long()), Zxid(self.long())
        self.long(), self.long()
        version, cversion, aversion = self.int(), self.int(), self.int()
        owner, length, children = Owner(self.long()), self.int(), self.int()
        return Stat(czxid, mzxid, version, cversion, aversion, owner, length, children, Zxid(self.long()))

    def _take(self, size: int) -> bytes:
        taken = self._body[self._at : self._at + size]
        if len(taken) < size:
            raise ValueError(f"a body of {len(self._body)} bytes ends too early")
        self._at += size
        return taken


def answer(operation: Operation, error: int, body: bytes) -> tuple[object, ...]:
    """What follows the header of a reply."""
    reader = Reader(body)
    values = _values(operation.kind, reader) if (error == 0 or operation.kind == "multi") and body else ()
    rest = reader.rest()
    return (*values, rest) if rest else values


def _values(kind: str, reader: Reader) -> tuple[object, ...]:
    match kind:
        case "create" | "sync":
            return (reader.text(),)
        case "create2" | "createContainer" | "createTTL":
            return (reader.text(), reader.stat())
        case "exists" | "setData" | "setACL" | "check":
            return (reader.stat(),)
        case "getData":
            return (reader.buffer(), reader.stat())
        case "getACL":
            return (reader.acl(), reader.stat())
        case "getChildren" | "getEphemerals":
            return (reader.texts(),)
        case "getChildren2":
            return (reader.texts(), reader.stat())
        case "getAllChildrenNumber" | "addWatch":
            return (reader.int(),)
        case "whoAmI":
            return (tuple(sorted((reader.text(), reader.text()) for _ in range(reader.int()))),)
        case "multi" | "multiRead":
            return tuple(_results(reader))
        case _:
            return ()


def _results(reader: Reader) -> list[object]:
    results: list[object] = []
    while True:
        kind, done, error = reader.int(), reader.byte(), reader.int()
        if done:
            return results
        if kind == -1:
            results.append(("error", error, reader.int()))
        else:
            name = NAMES.get(kind, str(kind))
            # Inside a multi, a check or a deletion that succeeded has no body.
            results.append((name, error, *(() if name in ("check", "delete") else _values(name, reader))))
