"""One question to one server."""

from __future__ import annotations

import socket

import pytest

from jkcs_client.protocol.framing import FrameDecoder
from jkcs_client.protocol.messages import PREFACE, STATUS
from jkcs_server.cli.probe import ProbeFailed, ask_each, ask_status, leader_of
from tests.unit.jkcs_server.cli.answering import HELLO, answering, framed, status_of

ANSWER = framed(HELLO) + framed([-1, 0, 7, status_of("n1")])


def test_status_is_asked_without_a_session() -> None:
    """A question must not cost the cluster a write: timeout 0 asks for no session."""
    with answering(ANSWER) as (address, received):
        assert ask_status(address) == status_of("n1")
    assert received[0].startswith(PREFACE)
    assert FrameDecoder().feed(received[0][len(PREFACE) :]) == [[0, b"", 0, 0], [STATUS, -1]]


def test_answer_may_come_byte_by_byte() -> None:
    """A network may cut anywhere."""
    with answering(*(ANSWER[at : at + 1] for at in range(len(ANSWER)))) as (address, _):
        assert ask_status(address)["node"] == "n1"


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((), "closed before an answer"),
        ((framed(HELLO),), "closed before an answer"),
        ((framed([-5, "version 9 is not spoken here"]),), "version 9 is not spoken here"),
        ((framed(HELLO, [-1, -301, 0, "too many connections"]),), "too many connections"),
        ((framed(["what", 1]),), "hello was answered with something else"),
        ((framed(HELLO, [-1, 0, 1, "no map"]),), "STATUS was answered with something else"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "frame of"),
        ((framed(HELLO), b""), "no answer within 0.2 s"),
    ],
)
def test_what_is_no_answer_is_told_in_a_few_words(pieces: tuple[bytes, ...], why: str) -> None:
    """The text stands in a table beside the member's name."""
    with answering(*pieces) as (address, _), pytest.raises(ProbeFailed, match=why):
        ask_status(address, timeout=0.2 if pieces[-1:] == (b"",) else 5)


def test_server_that_is_not_there_is_told_at_once() -> None:
    """The commonest case of all: nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ProbeFailed, match=r"^connection refused$"):
            ask_status(unused.getsockname())


def test_each_is_asked_and_a_failure_does_not_hide_the_others() -> None:
    """The table must be complete when a member is down; that is when it is looked at."""
    with socket.socket() as unused, answering(ANSWER) as (address, _):
        unused.bind(("127.0.0.1", 0))
        down = unused.getsockname()
        answers = ask_each([down, address, address])
    assert list(answers) == [down, address]
    assert isinstance(answers[down], ProbeFailed)
    assert answers[address] == status_of("n1")
    assert ask_each([]) == {}


def test_leader_is_who_says_so_in_the_highest_term() -> None:
    """A leader that was cut off goes on believing for a while."""
    old, new = status_of("n1", "leader", term=3), status_of("n2", "leader", term=4)
    assert leader_of([old, new, status_of("n3")]) == "n2"
    assert leader_of([status_of("n3")]) is None
