"""A client's connection until its first bytes tell which protocol it speaks.

`JKCS` begins the native one. ZooKeeper's begins with the length of a frame, whose first byte is zero. Four letters are
one of ZooKeeper's questions to a server: answered, and closed. Anything else is closed without a word.
"""

from __future__ import annotations

from typing import Protocol

from jkcs_client.protocol.messages import MAGIC
from jkcs_server.serving.connection import Connection, Sink

_LETTERS = 4
_ZOOKEEPER = 0


class Door(Protocol):
    """What an undecided connection needs of its server."""

    turn: int

    def native(self, sink: Sink) -> Connection | None:
        """Make the connection; None, with a word to the client, when there are too many."""

    def zookeeper(self, sink: Sink) -> Connection | None: ...

    def four_letter_word(self, word: str) -> bytes | None:
        """The answer; None when there is no such word."""

    def went(self, undecided: Undecided) -> None:
        """It is decided, or gone."""


class Undecided:
    """Stands between the client and its connection: after the first bytes it only passes on."""

    __slots__ = ("_door", "_inner", "_seen", "_sink", "came_turn", "closed")

    def __init__(self, door: Door, sink: Sink) -> None:
        self._door = door
        self._sink = sink
        self._seen = b""
        self._inner: Connection | None = None
        self.came_turn = door.turn
        self.closed = False
        """Closed before it was decided. Afterwards the connection knows."""

    def receive(self, data: bytes) -> None:
        inner = self._inner
        if inner is not None:
            if not inner.closed:
                inner.receive(data)
        elif not self.closed:
            self._decide(self._seen + data)

    def lost(self) -> None:
        """The client is gone."""
        if self._inner is not None:
            self._inner.lost()
        elif not self.closed:
            self.closed = True
            self._door.went(self)

    def close(self) -> None:
        """Without a word: nobody knows which it would understand."""
        if not self.closed:
            self.lost()
            self._sink.close()

    def _decide(self, seen: bytes) -> None:
        if not seen:
            return
        door = self._door
        if seen[0] == MAGIC[0]:
            self._become(door.native(self._sink), seen)
        elif seen[0] == _ZOOKEEPER:
            self._become(door.zookeeper(self._sink), seen)
        elif len(seen) < _LETTERS and seen.isalpha():
            self._seen = seen
        else:
            word = seen[:_LETTERS]
            answer = door.four_letter_word(word.decode()) if word.isalpha() else None
            if answer is not None:
                self._sink.write(answer)
            self.close()

    def _become(self, connection: Connection | None, seen: bytes) -> None:
        if connection is None:
            self.close()
            return
        self._seen = b""
        self._door.went(self)
        self._inner = connection
        connection.receive(seen)
