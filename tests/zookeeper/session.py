"""One session at one server, over a blocking socket: what is sent comes back as a list of what was seen, in order.

Called by `pair.py`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tests.zookeeper.answers import Reader, answer
from tests.zookeeper.operations import (
    XID_AUTH,
    XID_EVENT,
    XID_PING,
    Operation,
    connect_request,
    request,
)

PATIENCE_SECONDS = 20.0
TIMEOUT_MS = 60_000
EVENTS = {1: "CREATED", 2: "DELETED", 3: "CHANGED", 4: "CHILD"}
_INT, _REPLY = struct.Struct(">i"), struct.Struct(">iqi")
PING = _INT.pack(8) + struct.pack(">ii", XID_PING, 11)


@dataclass(frozen=True)
class Reply:
    """To the operation at this place of those sent together."""

    place: int
    error: int
    values: tuple[object, ...]


@dataclass(frozen=True)
class Event:
    kind: str
    path: str
    state: int


@dataclass(frozen=True)
class Closed:
    """The server ended the connection."""


Seen = Reply | Event | Closed


class SilentServer(Exception):
    """An answer did not come in time, or was not one."""


class Session:
    """A session whose connection may be lost and made anew."""

    def __init__(self, address: tuple[str, int], timeout_ms: int = TIMEOUT_MS) -> None:
        self._address = address
        self._asked_ms = timeout_ms
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._xid = 0
        self.id = 0
        self.password = bytes(16)
        self.timeout_ms = 0
        self.zxids: list[int] = []
        """Of the replies so far."""

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def connect(self, *, password: bytes | None = None, read_only: bool | None = False) -> tuple[object, ...]:
        """Open the session, or come back to it. What the server said, in comparable form."""
        self.disconnect()
        self._socket = socket.create_connection(self._address, timeout=PATIENCE_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before, sent = self.id, self.password if password is None else password
        self._socket.sendall(connect_request(self._asked_ms, self.id, sent, 0, read_only=read_only))
        body = self._frame()
        if body is None:
            self.disconnect()
            return ("closed",)
        reader = Reader(body)
        version, timeout, number, given = reader.int(), reader.int(), reader.long(), reader.buffer()
        tail = reader.rest()
        if timeout <= 0:
            refused = ("refused", version, timeout, number, given, tail, "closed" if self._frame() is None else "open")
            self.disconnect()
            return refused
        assert given is not None
        same = ("same session", number == before, "same password", given == self.password) if before else ("new",)
        self.id, self.password, self.timeout_ms = number, given, timeout
        return ("connected", version, timeout, len(given), tail, *same)

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._buffer = b""

    def exchange(self, operations: Sequence[Operation], root: str) -> list[Seen]:
        """Send all at once, and take in what comes until the last is answered, or the server hangs up."""
        assert self._socket is not None
        frames, waiting = [], {}
        for place, operation in enumerate(operations):
            xid = operation.xid
            if xid is None:
                self._xid += 1
                xid = self._xid
            waiting.setdefault(xid, []).append((place, operation))
            frames.append(request(operation, xid, root, self.zxids))
        self._send(b"".join(frames))
        seen: list[Seen] = []
        while any(waiting.values()):
            body = self._frame()
            if body is None:
                seen.append(Closed())
                self.disconnect()
                return seen
            xid, zxid, error = _REPLY.unpack_from(body)
            if xid == XID_EVENT:
                seen.append(_event(body))
                continue
            if not waiting.get(xid):
                raise SilentServer(f"a reply with xid {xid}, of which none was sent")
            place, operation = waiting[xid].pop(0)
            seen.append(Reply(place, error, answer(operation, error, body[_REPLY.size :])))
            if xid > 0 and operation.kind not in ("unknown", "sasl"):
                if self.zxids and zxid < self.zxids[-1]:
                    raise SilentServer(f"a reply with zxid {zxid:#x} after one with {self.zxids[-1]:#x}")
                self.zxids.append(zxid)
            if operation.kind in ("closeSession", "unknown", "sasl") or (xid == XID_AUTH and error != 0):
                self._end(seen)
                return seen
        return seen

    def settle(self) -> list[Seen]:
        """Take in what came since: all that precedes the answer to a ping."""
        if self._socket is None:
            return []
        seen: list[Seen] = []
        self._send(PING)
        while (body := self._frame()) is not None:
            if _REPLY.unpack_from(body)[0] == XID_PING:
                return seen
            seen.append(_event(body))
        seen.append(Closed())
        self.disconnect()
        return seen

    def _send(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.sendall(data)
        except OSError:
            pass  # that the server hung up shows at the next read

    def _end(self, seen: list[Seen]) -> None:
        """After what ends a connection, nothing but events may come, then its end."""
        try:
            while (body := self._frame()) is not None:
                if _REPLY.unpack_from(body)[0] == XID_EVENT:
                    seen.append(_event(body))
                    continue
                seen.append(Reply(-1, 0, ("goes on",)))
                return
            seen.append(Closed())
        except SilentServer:
            seen.append(Reply(-1, 0, ("stays open",)))
        self.disconnect()

    def _frame(self) -> bytes | None:
        """The next frame's body; None at the end of the connection."""
        assert self._socket is not None
        while True:
            if len(self._buffer) >= 4:
                size = _INT.unpack_from(self._buffer)[0]
                if size < 0:
                    raise SilentServer(f"a frame of {size} bytes")
                if len(self._buffer) >= 4 + size:
                    body, self._buffer = self._buffer[4 : 4 + size], self._buffer[4 + size :]
                    return body
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                raise SilentServer(f"no answer within {PATIENCE_SECONDS:g} s") from None
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._buffer += data


def _event(body: bytes) -> Event:
    xid, _, error = _REPLY.unpack_from(body)
    if xid != XID_EVENT or error != 0:
        raise SilentServer(f"neither a reply to what was asked nor an event: xid {xid}, error {error}")
    reader = Reader(body[_REPLY.size :])
    kind, state = reader.int(), reader.int()
    return Event(EVENTS.get(kind, str(kind)), reader.text(), state)
