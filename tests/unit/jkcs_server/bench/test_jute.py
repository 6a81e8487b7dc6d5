"""The load's side of ZooKeeper's protocol, against bytes as ZooKeeper writes them."""

from __future__ import annotations

import struct

import pytest

from jkcs_server.bench.jute import JuteLine
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.work import Kind, Work

STAT = struct.pack(">qqqqiiiqiiq", 1, 2, 0, 0, 3, 0, 0, 0, 4, 2, 9)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def reply(xid: int, body: bytes = b"", error: int = 0) -> bytes:
    return framed(struct.pack(">iqi", xid, 77, error) + body)


def buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def line(work: Work) -> JuteLine:
    made = JuteLine()
    made.begin(work)
    return made


def test_requests_are_jute() -> None:
    """Byte for byte what ZooKeeper's own client sends."""
    acl = bytes.fromhex("00000001 0000001f 00000005") + b"world" + bytes.fromhex("00000006") + b"anyone"
    cases = [
        (Kind.CREATE, 1, buffer(b"/b/k5") + buffer(b"5.vv") + acl + bytes(4)),
        (Kind.DELETE, 2, buffer(b"/b/k5") + b"\xff" * 4),
        (Kind.GET, 4, buffer(b"/b/k5") + b"\x00"),
        (Kind.SET, 5, buffer(b"/b/k5") + buffer(b"5.vv") + b"\xff" * 4),
    ]
    for kind, operation, body in cases:
        made = line(Work(kind, "/b", 4, first=5))
        assert made.requests(1) == framed(struct.pack(">ii", 1, operation) + body)
    assert JuteLine().hello() == framed(struct.pack(">iqiq", 0, 0, 40_000, 0) + buffer(bytes(16)) + b"\x00")
    assert JuteLine().goodbye() == framed(struct.pack(">ii", 1, -11))


def test_answers_are_read_byte_by_byte() -> None:
    """TCP cuts where it likes."""
    made = line(Work(Kind.GET, "/b", 4, first=5))
    made.requests(2)
    stream = reply(1, buffer(b"5.vv") + STAT) + reply(2, buffer(b"6.vv") + STAT)
    assert sum(made.answers(stream[at : at + 1]) for at in range(len(stream))) == 2
    assert not made.errors
    assert (made.seen.versions, made.seen.children, made.answered) == (6, 4, 2)


def test_wrong_answers_are_counted() -> None:
    """An error code, a wrong value and a wrong size each fail the cell."""
    made = line(Work(Kind.GET, "/b", 4))
    made.requests(3)
    made.answers(reply(1, buffer(b"9.vv") + STAT) + reply(2, error=-101) + reply(3, buffer(b"") + STAT))
    assert made.errors == {"wrong value of /b/k0": 1, "NoNode": 1, "wrong value of /b/k2": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (reply(2), "expected the answer to request 1, not to 2"),
        (framed(b"short"), "an answer of 5 bytes"),
        (b"\xff\xff\xff\xff", "does not speak ZooKeeper's protocol"),
        (b"HTTP/1.1 400 Bad Request", "does not speak ZooKeeper's protocol"),
    ],
)
def test_what_is_not_an_answer_ends_the_load(data: bytes, reason: str) -> None:
    """Nothing after it could be attributed to a request."""
    made = line(Work(Kind.SET, "/b", 4))
    made.requests(1)
    with pytest.raises(LoadFailed, match=reason):
        made.answers(data)


def test_a_session_is_opened_or_refused() -> None:
    """ZooKeeper refuses with a session of zero."""
    made = JuteLine()
    granted = framed(struct.pack(">iiq", 0, 40_000, 5) + buffer(bytes(16)) + b"\x00")
    assert not made.greeted(granted[:7]) and made.greeted(granted[7:])
    with pytest.raises(LoadFailed, match="refused"):
        JuteLine().greeted(framed(struct.pack(">iiq", 0, 0, 0) + buffer(bytes(16))))
    with pytest.raises(LoadFailed, match="unexpected"):
        JuteLine().greeted(framed(b"x"))
