"""The load generator's side of ZooKeeper's protocol: connect, create, setData, getData, delete, closeSession.

As much of the encoding as the load needs, and no more. Synchronous, no I/O.
"""

from __future__ import annotations

import struct
from collections import Counter

from jkcs_server.bench.line import LoadFailed, complain
from jkcs_server.bench.work import Kind, Seen, Work

SESSION_TIMEOUT_MS = 40_000
"""The most a server with a tick of two seconds grants."""
FRAME_BYTES_MAX = 1 << 24

_INT = struct.Struct(">i")
_REQUEST = struct.Struct(">iii")
"""Length, xid, operation."""
_REPLY = struct.Struct(">iqi")
"""Xid, zxid, error."""
_CONNECT = struct.Struct(">iqiq")
_CONNECTED = struct.Struct(">iiq")
_STAT = struct.Struct(">qqqqiiiqiiq")
_ERRORS = {-4: "ConnectionLoss", -101: "NoNode", -110: "NodeExists", -112: "SessionExpired", -118: "SessionMoved"}
_OPERATIONS = {Kind.CREATE: 1, Kind.DELETE: 2, Kind.GET: 4, Kind.GET_LOCAL: 4, Kind.SET: 5}
_CLOSE_SESSION = -11
_OPEN_ACL = _INT.pack(1) + _INT.pack(31) + _INT.pack(5) + b"world" + _INT.pack(6) + b"anyone"
_PERSISTENT = _INT.pack(0)
_ANY_VERSION = _INT.pack(-1)
_NO_WATCH = b"\x00"


class JuteLine:
    """One ZooKeeper session's connection. See `Line`."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.seen = Seen()
        self._buffer = b""
        self._xid = 0
        """Of the last request sent."""
        self._xid_answered = 0
        self._work: Work | None = None
        self._sent = 0
        """Requests of this work."""
        self.answered = 0

    def hello(self) -> bytes:
        body = _CONNECT.pack(0, 0, SESSION_TIMEOUT_MS, 0) + _bytes(bytes(16)) + b"\x00"
        return _INT.pack(len(body)) + body

    def greeted(self, data: bytes) -> bool:
        frames = self._frames(data)
        if not frames:
            return False
        if len(frames) != 1 or len(frames[0]) < _CONNECTED.size:
            raise LoadFailed("unexpected answer to the connect request")
        _, timeout, session = _CONNECTED.unpack_from(frames[0])
        if timeout <= 0 or session == 0:
            raise LoadFailed("the server refused the session")
        return True

    def begin(self, work: Work) -> None:
        assert self._sent == self.answered, (self._sent, self.answered)
        self._work = work
        self._sent = self.answered = 0

    def requests(self, count: int) -> bytes:
        work = self._work
        assert work is not None
        operation = _OPERATIONS[work.kind]
        pieces: list[bytes] = []
        for number in range(self._sent, self._sent + count):
            body = _body(work, work.key(number))
            self._xid += 1
            pieces.append(_REQUEST.pack(8 + len(body), self._xid, operation))
            pieces.append(body)
        self._sent += count
        return b"".join(pieces)

    def answers(self, data: bytes) -> int:
        frames = self._frames(data)
        work = self._work
        assert work is not None or not frames
        for frame in frames:
            if len(frame) < _REPLY.size:
                raise LoadFailed(f"an answer of {len(frame)} bytes")
            xid, _, error = _REPLY.unpack_from(frame)
            if xid != self._xid_answered + 1:
                raise LoadFailed(f"expected the answer to request {self._xid_answered + 1}, not to {xid}")
            self._xid_answered = xid
            if error:
                complain(self.errors, _ERRORS.get(error, f"code {error}"))
            elif work is not None and work.kind.reads:
                self._look_at(work, frame)
            self.answered += 1
        return len(frames)

    def goodbye(self) -> bytes:
        return _REQUEST.pack(8, self._xid + 1, _CLOSE_SESSION)

    def _look_at(self, work: Work, frame: memoryview) -> None:
        """Every read is checked for its size, and every sixteenth for its content."""
        answered = self.answered
        size = _INT.unpack_from(frame, _REPLY.size)[0]
        at = _REPLY.size + _INT.size
        wrong = size != work.value_bytes or (
            not answered & 15 and frame[at : at + size] != work.value(work.key(answered))
        )
        if wrong or len(frame) != at + max(size, 0) + _STAT.size:
            complain(self.errors, f"wrong value of {work.path(work.key(answered))}")
            return
        _, _, _, _, version, _, _, _, _, children, _ = _STAT.unpack_from(frame, at + size)
        self.seen.versions += version
        self.seen.children += children

    def _frames(self, data: bytes) -> list[memoryview]:
        """The bodies of all frames that are complete."""
        if self._buffer:
            data = self._buffer + data
        view = memoryview(data)
        frames: list[memoryview] = []
        at, size = 0, len(view)
        while size - at >= 4:
            length = _INT.unpack_from(view, at)[0]
            if not 0 <= length <= FRAME_BYTES_MAX:
                raise LoadFailed(f"the server does not speak ZooKeeper's protocol: a frame of {length} bytes")
            if size - at - 4 < length:
                break
            frames.append(view[at + 4 : at + 4 + length])
            at += 4 + length
        self._buffer = bytes(view[at:])
        return frames


def _body(work: Work, key: int) -> bytes:
    path = _bytes(work.path(key).encode())
    match work.kind:
        case Kind.CREATE:
            return path + _bytes(work.value(key)) + _OPEN_ACL + _PERSISTENT
        case Kind.SET:
            return path + _bytes(work.value(key)) + _ANY_VERSION
        case Kind.DELETE:
            return path + _ANY_VERSION
        case Kind.GET | Kind.GET_LOCAL:
            return path + _NO_WATCH


def _bytes(value: bytes) -> bytes:
    return _INT.pack(len(value)) + value
