"""Frames that no decent client sends, byte by byte: is each refused as ZooKeeper refuses it?

A case is what is sent over a new connection; its outcome is what a server answers, and whether it hangs up. Called by
`differential.py` and by the test of it.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from tests.zookeeper.answers import Reader
from tests.zookeeper.operations import Operation, buffer, connect_request, request

PATIENCE_SECONDS = 10.0
SILENCE_SECONDS = 1.0
LIMIT = 0xFFFFF
"""ZooKeeper's jute.maxbuffer."""
_INT = struct.Struct(">i")
_HELLO = connect_request(10_000, 0, bytes(16), 0, read_only=False)
_PING = _INT.pack(8) + struct.pack(">ii", -2, 11)


@dataclass(frozen=True)
class Case:
    """Bytes to send; after a connect request and its answer unless they begin the connection themselves."""

    name: str
    sent: bytes
    begins: bool = False
    ends: bool = False
    """The server hangs up once it has answered; ZooKeeper may do so a little late, after the answer to a ping."""


def _framed(xid: int, code: int, body: bytes) -> bytes:
    return _INT.pack(8 + len(body)) + struct.pack(">ii", xid, code) + body


def _asks(kind: str, path: str = "/frames-none", **fields: object) -> bytes:
    return request(Operation(kind, path, **fields), 1, "", [])  # type: ignore[arg-type]


_PATH = buffer(b"/frames-none")

CASES = (
    Case("a connect request of an old client, without the read-only flag", _HELLO[:3] + b"\x2c" + _HELLO[4:-1], True),
    Case("a connect request that wants a read-only server", _HELLO[:-1] + b"\x01", True),
    Case("another version of the protocol", _HELLO[:4] + _INT.pack(7) + _HELLO[8:], True),
    Case("no time at all", connect_request(0, 0, bytes(16), 0, read_only=False), True),
    Case("a negative time", connect_request(-5, 0, bytes(16), 0, read_only=False), True),
    Case("all the time of the world", connect_request(2**31 - 1, 0, bytes(16), 0, read_only=False), True),
    Case("a session that nobody knows", connect_request(10_000, 4711, bytes(16), 0, read_only=False), True),
    Case("a zxid that is ahead", connect_request(10_000, 0, bytes(16), 1 << 60, read_only=False), True),
    Case(
        "a new session with a password of eight bytes", connect_request(10_000, 0, bytes(8), 0, read_only=False), True
    ),
    Case("a new session without a password", connect_request(10_000, 0, b"", 0, read_only=False), True),
    Case("a negative length first", b"\xff\xff\xff\xff" + bytes(8), True),
    Case("an empty frame first", _INT.pack(0), True),
    Case("a frame over the limit first", _INT.pack(LIMIT + 2000) + bytes(100), True),
    Case("a negative length", b"\xff\xff\xff\xff"),
    Case("two GiB", b"\x7f\xff\xff\xff" + bytes(64)),
    Case("a frame over the limit", _INT.pack(LIMIT + 2000) + bytes(100)),
    Case("an empty frame", _INT.pack(0)),
    Case("half a header", _INT.pack(4) + bytes(4)),
    Case("a header without its record", _framed(1, 3, b"")),
    Case("a path that ends too early", _framed(1, 3, _INT.pack(50) + b"/short")),
    Case("a path of negative length", _framed(1, 4, _INT.pack(-5) + b"\x00")),
    Case("a create that ends after its path", _framed(1, 1, _PATH)),
    Case("an ACL of two billion entries", _framed(1, 1, _PATH + buffer(b"") + _INT.pack(2**31 - 1))),
    Case("watches of two billion paths", _framed(-8, 101, bytes(8) + _INT.pack(2**31 - 1))),
    Case("a truth value of two", _framed(1, 3, _PATH + b"\x02")),
    Case("bytes after the record", _framed(1, 3, _PATH + b"\x00" + b"more")),
    Case("a multi that does not end", _framed(1, 14, _INT.pack(2) + b"\x00" + _INT.pack(-1) + _PATH + _INT.pack(-1))),
    Case("a multi with an operation that it has not", _framed(1, 14, _INT.pack(99) + b"\x00" + _INT.pack(-1))),
    Case("the same xid twice", _asks("exists") + _asks("exists")),
    Case("an xid of zero", _framed(0, 3, _PATH + b"\x00")),
    Case("an xid that is an event's", _framed(-1, 3, _PATH + b"\x00")),
    Case("a ping with something in it", _framed(-2, 11, b"hello")),
    Case("a negative operation", _framed(1, -99, b""), ends=True),
    Case("a notification", _framed(1, 0, b""), ends=True),
    Case("an error", _framed(1, -1, _INT.pack(0)), ends=True),
    Case("deleteContainer, which is the servers' own", _asks("deleteContainer")),
    Case("a TTL of zero", _asks("createTTL", "/frames-ttl", flags=5, ttl=0)),
    Case("a TTL of a thousand years", _asks("createTTL", "/frames-ttl", flags=5, ttl=31_536_000_000_000)),
    Case("a kind of key that there is not", _asks("create", "/frames-kind", flags=99)),
    Case("a container asked for by create", _asks("create", "/frames-none/x", flags=4)),
    Case("data just over a mebibyte", _asks("setData", data=bytes(LIMIT + 1100))),
    Case("data just under it", _asks("setData", data=bytes(LIMIT - 200))),
)


def outcome(address: tuple[str, int], case: Case) -> tuple[object, ...]:
    """What the server answers, in order, and whether it hangs up."""
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        if not case.begins:
            connection.sendall(_HELLO)
            assert _frame(connection) is not None, "a server that lets nobody in"
        try:
            connection.sendall(case.sent if case.begins else case.sent + _PING)
        except ConnectionError:
            pass  # it hung up before all was sent
        if case.begins:
            connection.settimeout(SILENCE_SECONDS)
        seen: list[object] = []
        while True:
            try:
                body = _frame(connection)
            except TimeoutError:
                return (*seen, "silent")
            if body is None:
                return (*seen, "closed")
            if case.begins:
                reader = Reader(body)
                version, timeout, session, password = reader.int(), reader.int(), reader.long(), reader.buffer()
                return (version, timeout, session != 0, len(password or b""), len(reader.rest()))
            xid, _, error = struct.unpack_from(">iqi", body)
            if xid != -2 or len(seen) < case.sent.count(_PING[4:8]):
                seen.append((xid, error))
            elif not case.ends:
                return (*seen, "goes on")


def differences(real: tuple[str, int], ours: tuple[str, int]) -> list[str]:
    """A line for each case that ends differently."""
    found = []
    for case in CASES:
        expected, got = outcome(real, case), outcome(ours, case)
        if expected != got:
            found.append(f"{case.name}: ZooKeeper: {expected}; JKCS: {got}")
    return found


def _frame(connection: socket.socket) -> bytes | None:
    head = _exactly(connection, 4)
    return None if head is None else _exactly(connection, _INT.unpack(head)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            more = connection.recv(size - len(data))
        except ConnectionError:
            return None
        if not more:
            return None
        data += more
    return data
