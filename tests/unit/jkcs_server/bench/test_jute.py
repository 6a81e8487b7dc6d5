"""The load's side of ZooKeeper's protocol, against bytes as ZooKeeper writes them."""

from __future__ import annotations

import struct

import pytest

from jkcs_server.bench.jute import JuteLine, part
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.parts import Parts
from jkcs_server.bench.work import Kind, Work

STAT = struct.pack(">qqqqiiiqiiq", 1, 2, 0, 0, 3, 0, 0, 0, 4, 2, 9)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def reply(xid: int, body: bytes = b"", error: int = 0) -> bytes:
    return framed(struct.pack(">iqi", xid, 77, error) + body)


def buffer(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def line(work: Work) -> JuteLine:
    made = JuteLine(Parts(part))
    made.begin(work)
    return made


def test_requests_are_jute() -> None:
    """Byte for byte what ZooKeeper's own client sends."""
    acl = bytes.fromhex("00000001 0000001f 00000005") + b"world" + bytes.fromhex("00000006") + b"anyone"
    cases = [
        (Kind.CREATE, 1, buffer(b"/b/k5") + buffer(b"5.vv") + acl + bytes(4)),
        (Kind.DELETE, 2, buffer(b"/b/k5") + b"\xff" * 4),
        (Kind.CREATE_EPHEMERAL, 1, buffer(b"/b/k5") + buffer(b"5.vv") + acl + b"\0\0\0\1"),
        (Kind.CREATE_SEQUENTIAL, 1, buffer(b"/b/k") + buffer(b"5.vv") + acl + b"\0\0\0\2"),
        (Kind.GET_LOCAL, 4, buffer(b"/b/k5") + b"\x00"),
        (Kind.WATCH, 4, buffer(b"/b/k5") + b"\x01"),
        (Kind.SET, 5, buffer(b"/b/k5") + buffer(b"5.vv") + b"\xff" * 4),
    ]
    for kind, operation, body in cases:
        made = line(Work(kind, "/b", 4, first=5))
        assert made.requests(1) == framed(struct.pack(">ii", 1, operation) + body)
    assert JuteLine(Parts(part)).hello() == framed(struct.pack(">iqiq", 0, 0, 40_000, 0) + buffer(bytes(16)) + b"\x00")
    assert JuteLine(Parts(part)).goodbye() == framed(struct.pack(">ii", 1, -11))


def test_answers_are_read_byte_by_byte() -> None:
    """TCP cuts where it likes."""
    made = line(Work(Kind.GET_LOCAL, "/b", 4, first=5))
    made.requests(2)
    stream = reply(1, buffer(b"5.vv") + STAT) + reply(2, buffer(b"6.vv") + STAT)
    assert sum(made.answers(stream[at : at + 1]) for at in range(len(stream))) == 2
    assert not made.errors
    assert (made.seen.versions, made.seen.children, made.answered) == (6, 4, 2)


def test_a_fresh_read_is_a_sync_and_a_read_behind_it() -> None:
    """ZooKeeper's reads alone may be as old as its follower; the two are one operation."""
    made = line(Work(Kind.GET, "/b", 4, cycle=9, first=5))
    path = buffer(b"/b/k5")
    assert made.requests(1) == framed(struct.pack(">ii", 1, 9) + path) + framed(struct.pack(">ii", 2, 4) + path + b"\0")
    assert made.answers(reply(1, path)) == 0
    assert made.answers(reply(2, buffer(b"5.vv") + STAT)) == 1
    made.requests(1)
    made.answers(reply(3, error=-4) + reply(4, buffer(b"6.vv") + STAT))
    assert made.errors == {"ConnectionLoss": 1} and made.answered == 2


def test_a_mixture_writes_one_in_ten() -> None:
    """Over all connections every key gets its turn to be written."""
    works = [Work(Kind.MIXED, "/b", 4, first=number * 1000 // 64, cycle=1000) for number in range(64)]
    numbers = [[number for number in range(1000) if work.kind_of(number) is Kind.SET] for work in works]
    assert {len(each) for each in numbers} == {100}
    assert {work.key(number) for work, each in zip(works, numbers, strict=True) for number in each} == set(range(1000))
    made = line(works[0])
    sent = made.requests(10)
    assert sent.endswith(struct.pack(">ii", 10, 5) + buffer(b"/b/k9") + buffer(b"9.vv") + b"\xff" * 4)
    made.answers(b"".join(reply(n + 1, buffer(b"%d.vv" % n) + STAT) for n in range(9)) + reply(10, STAT))
    assert (made.answered, made.written) == (10, 1) and not made.errors


def test_a_watch_is_left_and_tells_of_one_change() -> None:
    """An event has a number that no request has; one that nobody asked for fails the cell."""
    made = line(Work(Kind.WATCH, "/b", 4, cycle=1, limit=1))
    made.requests(1)
    assert made.answers(reply(1, buffer(b"0.vv") + STAT)) == 1
    event = reply(-1, struct.pack(">ii", 3, 3) + buffer(b"/b/k0"))
    assert sum(made.answers(event[at : at + 1]) for at in range(len(event))) == 0
    assert made.notified == 1 and not made.errors
    made.answers(event + reply(-1, b"short"))
    assert made.notified == 1 and made.errors.total() == 2


def test_names_that_the_server_numbers_are_checked() -> None:
    """They are deleted by these names afterwards."""
    made = line(Work(Kind.CREATE_SEQUENTIAL, "/b", 4, digits=10))
    made.requests(1)
    made.answers(reply(1, buffer(b"/b/k0000000001")))
    assert list(made.errors) == ["expected /b/k0000000000 to be created, not b'/b/k0000000001'"]


def test_the_end_of_a_session_is_confirmed_or_not() -> None:
    """Only the answer to the goodbye ends it."""
    assert not JuteLine(Parts(part)).parted(b"\0")
    assert JuteLine(Parts(part)).parted(reply(1))
    for answer in (reply(1, error=-4), reply(2)):
        with pytest.raises(LoadFailed, match="unexpected answer to the goodbye"):
            JuteLine(Parts(part)).parted(answer)


def test_an_answer_before_any_work_ends_the_load() -> None:
    """There is nothing it could be the answer to."""
    with pytest.raises(LoadFailed, match="nobody asked"):
        JuteLine(Parts(part)).answers(reply(1))


def test_wrong_answers_are_counted() -> None:
    """An error code, a wrong value and a wrong size each fail the cell."""
    made = line(Work(Kind.GET_LOCAL, "/b", 4))
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
    made = JuteLine(Parts(part))
    granted = framed(struct.pack(">iiq", 0, 40_000, 5) + buffer(bytes(16)) + b"\x00")
    assert not made.greeted(granted[:7]) and made.greeted(granted[7:])
    with pytest.raises(LoadFailed, match="refused"):
        JuteLine(Parts(part)).greeted(framed(struct.pack(">iiq", 0, 0, 0) + buffer(bytes(16))))
    with pytest.raises(LoadFailed, match="unexpected"):
        JuteLine(Parts(part)).greeted(framed(b"x"))
