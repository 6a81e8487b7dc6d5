"""Every answer that leaves a server in ZooKeeper's protocol, against the replayed log (I12, I16, S6).

The counterpart of `wire` for the other protocol, which names neither the writes nor the session in its answers: each
request is answered in its turn, zxids do not go back on a connection, and a write's answer is the outcome that the log
has at its zxid, of this session. Nothing depends on whether the client lives to take it in. What clients are told
beyond that, their own `SessionLog` judges. Changes nothing but to tell the ghost who numbers a session's writes.
"""

from __future__ import annotations

from collections import deque

from jkcs_client.protocol import errors
from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.jute import CONNECTED, REPLY, REQUEST, read_int
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.trace import Violation

_WRITES = (zk.CREATE, zk.CREATE2, zk.DELETE, zk.SET_DATA, zk.MULTI)


class ZooKeeperConversation:
    """One connection, from the first byte to the last."""

    def __init__(self, who: str, ghost: GhostTree) -> None:
        self._who = who
        self._ghost = ghost
        self._up, self._down = _Frames(), _Frames()
        self._greeted = self._answered_hello = False
        self._session = 0
        self._zxid = 0
        """The newest that was sent."""
        self._asked: deque[tuple[int, int]] = deque()
        """Xid and operation of the requests without an answer, in the order in which they were sent."""

    def on_sent(self, data: bytes) -> None:
        """The client writes."""
        for body in self._up.feed(data):
            if self._greeted:
                self._asked.append(REQUEST.unpack_from(body))
            self._greeted = True

    def on_written(self, data: bytes) -> None:
        """The server writes. Raises Violation."""
        for body in self._down.feed(data):
            if self._answered_hello:
                self._on_frame(body)
            else:
                self._answered_hello = True
                _, _, self._session = CONNECTED.unpack_from(body)
                self._ghost.numbered.add(self._session)

    def _on_frame(self, body: bytes) -> None:
        _, xid, zxid, error = REPLY.unpack_from(len(body).to_bytes(4, "big") + body)
        if zxid != zk.NO_ZXID:
            if zxid < self._zxid:
                raise Violation("S6", f"{self._who} was told of {zxid} behind {self._zxid}")
            self._zxid = zxid
        if xid == zk.NOTIFICATION_XID:
            return
        if not self._asked or self._asked[0][0] != xid:
            due = self._asked[0][0] if self._asked else None
            raise Violation("S6", f"{self._who} was answered request {xid} where {due} was due")
        _, op = self._asked.popleft()
        if op in _WRITES:
            self._on_outcome(op, zxid, error)

    def _on_outcome(self, op: int, zxid: int, error: int) -> None:
        """A write's answer is what the log says of it."""
        known = self._ghost.outcome_at(zxid)
        if known is None or known[0] != self._session:
            if error:
                return  # refused before it came to the log
            raise Violation("I12", f"{self._who} was acknowledged a write at {zxid}, where the log has {known}")
        # What failed inside a multi stands in its body.
        if (error == errors.OK) != (known[2][0] == errors.OK) and op != zk.MULTI:
            raise Violation("I16", f"{self._who} was answered {error} for the write at {zxid}, the log has {known}")


class _Frames:
    """Bytes to the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        bodies = []
        while len(self._buffer) >= 4:
            length, _ = read_int(self._buffer, 0)
            if len(self._buffer) < 4 + length:
                break
            bodies.append(self._buffer[4 : 4 + length])
            self._buffer = self._buffer[4 + length :]
        return bodies
