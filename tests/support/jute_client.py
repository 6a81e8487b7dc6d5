"""A client of ZooKeeper's protocol for tests, without I/O: requests to bytes, bytes to answers and events.

It sends whatever it is told to, also what no client should. `JuteClient` numbers its requests and knows what each
answer is made of; `Wire` is the same on a blocking socket.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.jute import (
    CONNECT,
    CONNECTED,
    INT,
    LONG,
    MULTI_END,
    MULTI_HEADER,
    REQUEST,
    acl,
    buffer,
    framed,
    read_acl,
    read_buffer,
    read_int,
    read_multi_header,
    read_text,
    read_texts,
    text,
    texts,
)

OPEN_ACL = ((31, "world", "anyone"),)
READ_ACL = ((1, "world", "anyone"),)
_STAT = struct.Struct(">qqqqiiiqiiq")


class Stat(NamedTuple):
    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    owner: int
    length: int
    children: int
    pzxid: int


class Greeting(NamedTuple):
    timeout_ms: int
    session: int
    password: bytes
    read_only: bool | None


class Answer(NamedTuple):
    xid: int
    zxid: int
    error: int
    value: Any


class Event(NamedTuple):
    zxid: int
    kind: int
    state: int
    path: str


def connect(
    timeout_ms: int = 10_000,
    session: int = 0,
    password: bytes = bytes(16),
    seen: int = 0,
    read_only: bool | None = False,
) -> bytes:
    """A connect request; `read_only` None: of a client that does not know the flag."""
    body = CONNECT.pack(0, seen, timeout_ms, session) + buffer(password)
    return framed(body if read_only is None else body + bytes([read_only]))


def request(xid: int, op: int, body: bytes = b"") -> bytes:
    return framed(REQUEST.pack(xid, op) + body)


# Records.


def create(path: str, data: bytes = b"", mode: int = 0, entries: Iterable[tuple[int, str, str]] = OPEN_ACL) -> bytes:
    return text(path) + buffer(data) + acl(entries) + INT.pack(mode)


def create_ttl(path: str, ttl: int, mode: int = zk.PERSISTENT_TTL, data: bytes = b"") -> bytes:
    return create(path, data, mode) + LONG.pack(ttl)


def set_data(path: str, data: bytes, version: int = -1) -> bytes:
    return text(path) + buffer(data) + INT.pack(version)


def delete(path: str, version: int = -1) -> bytes:
    return text(path) + INT.pack(version)


check = delete


def read(path: str, watch: bool = False) -> bytes:
    return text(path) + bytes([watch])


def numbered(path: str, number: int) -> bytes:
    """addWatch, removeWatches, checkWatches."""
    return text(path) + INT.pack(number)


def set_acl(path: str, entries: Iterable[tuple[int, str, str]], version: int = -1) -> bytes:
    return text(path) + acl(entries) + INT.pack(version)


def auth(scheme: str, credentials: bytes) -> bytes:
    return INT.pack(0) + text(scheme) + buffer(credentials)


def set_watches(since: int, *lists: Sequence[str]) -> bytes:
    return LONG.pack(since) + b"".join(texts(paths) for paths in lists)


def multi(*steps: tuple[int, bytes]) -> bytes:
    return b"".join(MULTI_HEADER.pack(op, False, -1) + body for op, body in steps) + MULTI_END


def reconfig(joining: str = "", leaving: str = "", members: str = "", version: int = -1) -> bytes:
    return text(joining) + text(leaving) + text(members) + LONG.pack(version)


class JuteClient:
    """One connection's end: what it was sent, in order."""

    def __init__(self) -> None:
        self.greeting: Greeting | None = None
        self.xid = 0
        """Of the last request."""
        self._buffer = b""
        self._ops: dict[int, deque[int]] = {}
        """The operations that wait for an answer, by xid."""

    def request(self, op: int, body: bytes = b"", xid: int | None = None) -> bytes:
        if xid is None:
            self.xid += 1
            xid = self.xid
        self._ops.setdefault(xid, deque()).append(op)
        return request(xid, op, body)

    def ping(self) -> bytes:
        return self.request(zk.PING, xid=zk.PING_XID)

    def auth(self, scheme: str, credentials: bytes) -> bytes:
        return self.request(zk.AUTH, auth(scheme, credentials), zk.AUTH_XID)

    def feed(self, data: bytes) -> list[Answer | Event]:
        self._buffer += data
        got: list[Answer | Event] = []
        while len(self._buffer) >= 4:
            length, _ = read_int(self._buffer, 0)
            if len(self._buffer) < 4 + length:
                break
            body, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
            if self.greeting is None:
                self.greeting = _greeting(body)
            else:
                got.append(self._read(body))
        return got

    def _read(self, body: bytes) -> Answer | Event:
        xid, zxid, error = struct.unpack_from(">iqi", body)
        if xid == zk.NOTIFICATION_XID:
            kind, at = read_int(body, 16)
            state, at = read_int(body, at)
            return Event(zxid, kind, state, read_text(body, at)[0])
        op = self._ops[xid].popleft()
        value, at = _value(op, body, 16) if not error else (None, 16)
        assert at == len(body), (op, body)
        return Answer(xid, zxid, error, value)


def _greeting(body: bytes) -> Greeting:
    version, timeout, session = CONNECTED.unpack_from(body)
    assert version == 0, version
    password, at = read_buffer(body, CONNECTED.size)
    return Greeting(timeout, session, password, bool(body[at]) if at < len(body) else None)


def _stat(body: bytes, at: int) -> tuple[Stat, int]:
    return Stat(*_STAT.unpack_from(body, at)), at + _STAT.size


def _value(op: int, body: bytes, at: int) -> tuple[Any, int]:
    match op:
        case zk.CREATE | zk.SYNC:
            return read_text(body, at)
        case zk.CREATE2 | zk.CREATE_CONTAINER | zk.CREATE_TTL:
            path, at = read_text(body, at)
            stat, at = _stat(body, at)
            return (path, stat), at
        case zk.EXISTS | zk.SET_DATA | zk.SET_ACL:
            return _stat(body, at)
        case zk.GET_DATA | zk.RECONFIG:
            data, at = read_buffer(body, at)
            stat, at = _stat(body, at)
            return (data, stat), at
        case zk.GET_CHILDREN | zk.GET_EPHEMERALS:
            return read_texts(body, at)
        case zk.GET_CHILDREN2:
            names, at = read_texts(body, at)
            stat, at = _stat(body, at)
            return (names, stat), at
        case zk.GET_ACL:
            entries, at = read_acl(body, at)
            stat, at = _stat(body, at)
            return (entries, stat), at
        case zk.GET_ALL_CHILDREN_NUMBER | zk.ADD_WATCH:
            return read_int(body, at)
        case zk.WHO_AM_I:
            return _who(body, at)
        case zk.MULTI | zk.MULTI_READ:
            return _results(body, at)
        case _:
            return None, at


def _who(body: bytes, at: int) -> tuple[list[tuple[str, str]], int]:
    count, at = read_int(body, at)
    found = []
    for _ in range(count):
        scheme, at = read_text(body, at)
        user, at = read_text(body, at)
        found.append((scheme, user))
    return found, at


def _results(body: bytes, at: int) -> tuple[list[tuple[int, Any]], int]:
    """Of each operation its type and result; of one that failed ERROR and the code."""
    found: list[tuple[int, Any]] = []
    while True:
        op, end, at = read_multi_header(body, at)
        if end:
            return found, at
        value, at = read_int(body, at) if op == zk.ERROR else _value(op, body, at)
        found.append((op, value))


class Wire:
    """A client on a blocking socket, which waits for each answer."""

    def __init__(self, address: tuple[str, int], greet: bytes | None = None, seconds: float = 10.0) -> None:
        self.client = JuteClient()
        self.events: list[Event] = []
        self._answers: deque[Answer] = deque()
        self._socket = socket.create_connection(address, seconds)
        if greet is None:
            greet = connect()
        self.send(greet)
        if greet:
            while self.client.greeting is None and self._receive():
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()

    def call(self, op: int, body: bytes = b"", xid: int | None = None) -> Answer:
        """Raises ConnectionError when the server closes instead."""
        self.send(self.client.request(op, body, xid))
        return self.next()

    def next(self) -> Answer:
        while not self._answers:
            if not self._receive():
                raise ConnectionError("closed by the server")
        return self._answers.popleft()

    def next_event(self) -> Event:
        while not self.events:
            if not self._receive():
                raise ConnectionError("closed by the server")
        return self.events.pop(0)

    def is_closed(self) -> bool:
        """Wait until the server closes; what it says before is kept."""
        while self._receive():
            pass
        return True

    def _receive(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        for got in self.client.feed(data):
            if isinstance(got, Event):
                self.events.append(got)
            else:
                self._answers.append(got)
        return bool(data)
