"""Which protocol a client speaks is told by its first bytes, and nobody is answered in one that he does not speak."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.protocol.messages import PREFACE
from jkcs_server.serving.connection import Sink
from jkcs_server.serving.greeting import Undecided
from tests.support.jute_client import connect


class Inner:
    def __init__(self) -> None:
        self.received = b""
        self.closed = False
        self.was_lost = False

    def receive(self, data: bytes) -> None:
        self.received += data

    def lost(self) -> None:
        self.was_lost = True


class Door:
    """Takes the connections, and is the way out of them, too."""

    turn = 5

    def __init__(self) -> None:
        self.made: list[str] = []
        self.inner: Any = Inner()
        self.written = b""
        self.closed = False
        self.gone: list[Undecided] = []

    def native(self, sink: Sink) -> Any:
        self.made.append("native")
        return self.inner

    def zookeeper(self, sink: Sink) -> Any:
        self.made.append("zookeeper")
        return self.inner

    def four_letter_word(self, word: str) -> bytes | None:
        return b"imok" if word == "ruok" else None

    def went(self, undecided: Undecided) -> None:
        self.gone.append(undecided)

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.parametrize(("first", "kind"), [(PREFACE, "native"), (connect(), "zookeeper")])
def test_the_first_byte_tells(first: bytes, kind: str) -> None:
    """And everything goes on to the connection, the first byte too."""
    door = Door()
    undecided = Undecided(door, door)
    for at in range(len(first)):
        undecided.receive(first[at : at + 1])
    assert door.made == [kind] and door.inner.received == first
    assert door.gone == [undecided] and not door.closed
    undecided.lost()
    assert door.inner.was_lost


@pytest.mark.parametrize("pieces", [[b"ruok"], [b"ruok\n"], [b"r", b"uo", b"k"]])
def test_four_letters_are_answered_and_closed(pieces: list[bytes]) -> None:
    door = Door()
    undecided = Undecided(door, door)
    for piece in pieces:
        undecided.receive(piece)
    assert (door.written, door.closed, door.gone) == (b"imok", True, [undecided])


@pytest.mark.parametrize("first", [b"nope", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"r\xffok", b"\xff", b"ab1"])
def test_strangers_are_closed_without_a_word(first: bytes) -> None:
    door = Door()
    undecided = Undecided(door, door)
    undecided.receive(first)
    assert (door.written, door.closed, door.made, door.gone) == (b"", True, [], [undecided])
    undecided.receive(b"more")
    undecided.lost()
    assert door.gone == [undecided], "it goes once"


def test_one_too_many_is_closed() -> None:
    door = Door()
    door.inner = None
    undecided = Undecided(door, door)
    undecided.receive(connect())
    assert door.closed and door.gone == [undecided]


def test_nothing_is_passed_on_to_a_connection_that_is_closed() -> None:
    door = Door()
    undecided = Undecided(door, door)
    undecided.receive(connect())
    door.inner.closed = True
    undecided.receive(b"late")
    assert door.inner.received == connect()
