"""What the connections of all protocols have in common: who is at the other end, what leaves, and how it ends.

Answers and events gather while a turn lasts, and leave together. The base of `native` and `zookeeper`,
which know the protocols.
"""

from __future__ import annotations

from abc import abstractmethod

from jkcs_server.serving.connection import Connection, Desk, Sink
from jkcs_server.serving.figures import Figures
from jkcs_server.serving.throttle import Throttle
from jkcs_server.tree.acl import READ, Acl, Ids, allows

OUTGOING_BYTES_MAX = 64 << 20
"""Answers and events a client may leave unread; beyond it the connection is closed."""
LARGE_BYTES = 4096
"""An answer of so many bytes does not wait for others: a few bytes ask for a megabyte, and many such requests come at
once."""


class Endpoint(Connection):
    """One client's connection, from its first byte to its end."""

    __slots__ = (
        "_desk",
        "_flagged",
        "_notified",
        "_out",
        "_sink",
        "_throttle",
        "_with_ids",
        "closed",
        "figures",
        "greeted",
        "heard_turn",
        "ids",
        "moved_turn",
        "next_serial",
        "nonce",
        "session",
        "timeout_ms",
    )

    def __init__(self, desk: Desk, sink: Sink) -> None:
        self._desk = desk
        self._sink = sink
        self._throttle = Throttle(sink)
        self._out: list[bytes] = []
        self._notified = 0
        """So many of them are events."""
        self._flagged = False
        """The desk will call `flush`."""
        self.ids: Ids = sink.identities()
        self._with_ids = False
        """Writes carry `ids`: they are not those that the session was opened with."""
        self.figures = Figures(desk.now())
        self.greeted = False
        self.closed = False
        self.session = 0
        self.timeout_ms = 0
        self.nonce = b""
        self.next_serial = 0
        """The serial the next write must have; 0 when any may come first (after a reattach)."""
        self.heard_turn = desk.turn
        self.moved_turn = desk.turn

    @abstractmethod
    def _joined(self, out: list[bytes]) -> bytes:
        """Answers and events as they go over the wire together."""

    @abstractmethod
    def _unanswered(self) -> int:
        """Requests that wait."""

    def may_see(self, acl: Acl) -> bool:
        return allows(acl, READ, self.ids)

    # The end.

    def close(self) -> None:
        """Flush and close from this side."""
        if not self.closed:
            self.flush()
            self.lost()
            self._sink.close()

    def lost(self) -> None:
        """The connection is gone; the session lives on until it times out or comes back elsewhere."""
        if not self.closed:
            self.closed = True
            self._desk.gone(self)

    # Bytes out.

    def _emit(self, packed: bytes) -> None:
        self._out.append(packed)
        if not self._flagged:
            self._flagged = True
            self._desk.has_output(self)
        if len(packed) > LARGE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write everything that has gathered, at once."""
        self._flagged = False
        out = self._out
        if not out or self.closed:
            return
        self._out = []
        self._sink.write(self._joined(out))
        figures = self.figures
        figures.answered += len(out) - self._notified
        figures.notified += self._notified
        self._notified = 0
        figures.last_zxid = self._desk.machine.applied
        if figures.is_due:
            figures.left(self._desk.now())
        if self._sink.unsent() > OUTGOING_BYTES_MAX:
            # A client that does not read must not fill this server's memory.
            self.lost()
            self._sink.close()
        elif self._throttle.holds:
            self._throttle.gave(self._unanswered())
