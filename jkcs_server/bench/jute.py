"""The load generator's side of ZooKeeper's protocol: connect, create, setData, getData, delete, closeSession.

As much of the encoding as the load needs, and no more. JKCS and ZooKeeper are sent the same bytes. Both answer
getData from the server's own tree, so a read that is to be fresh is a `sync` and a getData behind it.
Synchronous, no I/O.
"""

from __future__ import annotations

import struct
from collections import Counter

from jkcs_server.bench.line import LoadFailed, complain
from jkcs_server.bench.parts import Parts
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
_HEAD = struct.Struct(">iiqi")
"""Length, and a reply's beginning."""
_STAT_BYTES = 68
_COUNTS = struct.Struct(">32xi20xi")
"""Of a stat, the version and the number of children."""
_EVENT = struct.Struct(">iii")
"""Type, state, length of the path."""
_EVENT_XID = -1
_DATA_CHANGED = 3
_ERRORS = {-4: "ConnectionLoss", -101: "NoNode", -110: "NodeExists", -112: "SessionExpired", -118: "SessionMoved"}
_CREATE, _DELETE, _GET_DATA, _SET_DATA, _SYNC, _CLOSE_SESSION = 1, 2, 4, 5, 9, -11
_OPERATIONS = {
    Kind.CREATE: _CREATE,
    Kind.CREATE_SEQUENTIAL: _CREATE,
    Kind.CREATE_EPHEMERAL: _CREATE,
    Kind.DELETE: _DELETE,
    Kind.GET: _GET_DATA,
    Kind.GET_LOCAL: _GET_DATA,
    Kind.WATCH: _GET_DATA,
    Kind.SET: _SET_DATA,
}
_OPEN_ACL = _INT.pack(1) + _INT.pack(31) + _INT.pack(5) + b"world" + _INT.pack(6) + b"anyone"
_MODES = {
    Kind.CREATE: _INT.pack(0),
    Kind.CREATE_EPHEMERAL: _INT.pack(1),
    Kind.CREATE_SEQUENTIAL: _INT.pack(2),
}
_ANY_VERSION = _INT.pack(-1)
_NO_WATCH, _LEAVE_A_WATCH = b"\x00", b"\x01"


def part(work: Work, key: int) -> bytes:
    """What a request about this key has behind its header."""
    path = _bytes(work.asked(key).encode())
    match work.kind:
        case Kind.CREATE | Kind.CREATE_SEQUENTIAL | Kind.CREATE_EPHEMERAL:
            return path + _bytes(work.value(key)) + _OPEN_ACL + _MODES[work.kind]
        case Kind.SET:
            return path + _bytes(work.value(key)) + _ANY_VERSION
        case Kind.DELETE:
            return path + _ANY_VERSION
        case Kind.GET | Kind.GET_LOCAL:
            return path + _NO_WATCH
        case Kind.WATCH:
            return path + _LEAVE_A_WATCH
        case Kind.MIXED:
            raise AssertionError("mixed work has requests of other kinds")


class JuteLine:
    """One ZooKeeper session's connection. See `Line`."""

    def __init__(self, parts: Parts) -> None:
        """`parts` makes them by `part`."""
        self.errors: Counter[str] = Counter()
        self.seen = Seen()
        self.notified = 0
        self._all_parts = parts
        self._buffer = b""
        self._xid = 0
        """Of the last request sent."""
        self._xid_answered = 0
        self._synced = False
        """The `sync` of a read is answered, the read itself is not yet."""
        self._watched: str | None = None
        """The key of the watch that was left and has not told of a change yet. One at a time."""
        self._work: Work | None = None
        self._parts: dict[Kind, list[bytes] | None] = {}
        self._uniform = True
        """Each request is one message, and all are of one kind."""
        self._sent = 0
        """Requests of this work."""
        self.answered = 0
        self.written = 0

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
        self._parts = {kind: self._all_parts.of(work, kind) for kind in work.kinds}
        self._uniform = work.kind not in (Kind.MIXED, Kind.WATCH, Kind.GET)
        self._sent = self.answered = self.written = 0

    def requests(self, count: int) -> bytes:
        work = self._work
        assert work is not None
        first = self._sent
        self._sent += count
        if not self._uniform:
            return b"".join([self._request(work, number) for number in range(first, first + count)])
        parts, key_of = self._parts[work.kind], work.key
        keys = [key_of(number) for number in range(first, first + count)]
        tails = [parts[key] for key in keys] if parts is not None else [part(work, key) for key in keys]
        head, operation, xid = _REQUEST.pack, _OPERATIONS[work.kind], self._xid + 1
        self._xid += count
        return b"".join([head(8 + len(tail), xid + place, operation) + tail for place, tail in enumerate(tails)])

    def _request(self, work: Work, number: int) -> bytes:
        """One request of work that is not uniform."""
        kind, key = work.kind_of(number), work.key(number)
        parts = self._parts[kind]
        body = parts[key] if parts is not None else part(work, key)
        before = b""
        if kind is Kind.GET:
            path = _bytes(work.path(key).encode())
            self._xid += 1
            before = _REQUEST.pack(8 + len(path), self._xid, _SYNC) + path
        elif kind is Kind.WATCH:
            assert self._watched is None, self._watched
            self._watched = work.path(key)
        self._xid += 1
        return before + _REQUEST.pack(8 + len(body), self._xid, _OPERATIONS[kind]) + body

    def answers(self, data: bytes) -> int:
        if self._buffer:
            data = self._buffer + data
        work = self._work
        if work is None:
            raise LoadFailed("an answer that nobody asked for")
        before, kind, mixed, reads = self.answered, work.kind, work.kind is Kind.MIXED, work.kind.reads
        numbered = kind is Kind.CREATE_SEQUENTIAL
        at, size, head = 0, len(data), _HEAD.unpack_from
        while size - at >= _HEAD.size:
            length, xid, _, error = head(data, at)
            body, end = at + _HEAD.size, at + 4 + length
            if end > size or body > end:
                break
            at = end
            if xid == _EVENT_XID:
                self._on_event(data[body:end])
                continue
            if xid != self._xid_answered + 1:
                raise LoadFailed(f"expected the answer to request {self._xid_answered + 1}, not to {xid}")
            self._xid_answered = xid
            if error:
                complain(self.errors, _ERRORS.get(error, f"code {error}"))
            if mixed:
                reads = work.kind_of(self.answered).reads
            elif kind is Kind.GET:
                self._synced = not self._synced
                if self._synced:
                    continue
            if error:
                pass
            elif reads:
                self._look_at(work, data, body, end)
            else:
                self.written += 1
                if numbered and not self.answered & 15:
                    self._look_at_name(work, data[body:end])
            self.answered += 1
        self._keep(data[at:])
        return self.answered - before

    def goodbye(self) -> bytes:
        return _REQUEST.pack(8, self._xid + 1, _CLOSE_SESSION)

    def parted(self, data: bytes) -> bool:
        frames = self._frames(data)
        if frames and (len(frames) != 1 or len(frames[0]) != _REPLY.size or _said(frames[0]) != (self._xid + 1, 0)):
            raise LoadFailed(f"unexpected answer to the goodbye: {bytes(frames[0])!r:.100}")
        return bool(frames)

    def _on_event(self, body: bytes) -> None:
        kind, _, size = _EVENT.unpack_from(body) if len(body) >= _EVENT.size else (0, 0, 0)
        path = body[_EVENT.size :].decode("utf-8", "replace")
        if kind != _DATA_CHANGED or size != len(body) - _EVENT.size or path != self._watched:
            complain(self.errors, f"an event that was not asked for: {kind} {path:.80}")
            return
        self._watched = None
        self.notified += 1

    def _look_at_name(self, work: Work, body: bytes) -> None:
        """Of the names that the server numbered, every sixteenth is checked."""
        path = work.path(work.key(self.answered))
        if body != _bytes(path.encode()):
            complain(self.errors, f"expected {path} to be created, not {body[4:]!r:.80}")

    def _look_at(self, work: Work, data: bytes, body: int, end: int) -> None:
        """Every read is checked for its size, and every sixteenth for its content."""
        answered, stat = self.answered, end - _STAT_BYTES
        if stat - body != _INT.size + work.value_bytes or (
            not answered & 15 and data[body:stat] != _bytes(work.value(work.key(answered)))
        ):
            complain(self.errors, f"wrong value of {work.path(work.key(answered))}")
            return
        version, children = _COUNTS.unpack_from(data, stat)
        self.seen.versions += version
        self.seen.children += children

    def _keep(self, rest: bytes) -> None:
        """What is left of a piece: the beginning of an answer that will be complete later."""
        length = _INT.unpack_from(rest)[0] if len(rest) >= _INT.size else _REPLY.size
        if not 0 <= length <= FRAME_BYTES_MAX:
            raise LoadFailed(f"the server does not speak ZooKeeper's protocol: a frame of {length} bytes")
        if length < _REPLY.size:
            raise LoadFailed(f"an answer of {length} bytes")
        self._buffer = rest

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


def _said(frame: memoryview) -> tuple[int, int]:
    """Xid and error of a reply."""
    xid, _, error = _REPLY.unpack_from(frame)
    return int(xid), int(error)


def _bytes(value: bytes) -> bytes:
    return _INT.pack(len(value)) + value
