"""The load's native requests are the protocol's, and no wrong answer passes for a right one."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import CREATE, DELETE, GET, LINEARIZABLE, LOCAL, PREFACE, SET
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.native import NativeLine, Parts
from jkcs_server.bench.work import Kind, Work

STAT = [1, 1, 1, 0, 0, 3, 0, 0, 4, 2]
WORK = Work(Kind.SET, "/b", 4, cycle=3)


def line(work: Work = WORK) -> NativeLine:
    made = NativeLine(Parts())
    made.begin(work)
    return made


def test_requests_are_what_the_protocol_says() -> None:
    """Packed in pieces for speed, they must read as if packed whole."""
    cases = [
        (WORK, [[SET, 1, 0, "/b/k0", b"0.vv", -1], [SET, 2, 0, "/b/k1", b"1.vv", -1]]),
        (
            Work(Kind.CREATE, "/b", 3, first=9),
            [[CREATE, 1, 0, "/b/k9", b"9.v", 0], [CREATE, 2, 0, "/b/k10", b"10.", 0]],
        ),
        (Work(Kind.DELETE, "/b", 0, stem="x"), [[DELETE, 1, 0, "/b/x0", -1], [DELETE, 2, 0, "/b/x1", -1]]),
        (Work(Kind.GET, "/b", 0, cycle=1), [[GET, -1, "/b/k0", LINEARIZABLE], [GET, -2, "/b/k0", LINEARIZABLE]]),
        (Work(Kind.GET_LOCAL, "/b", 0, cycle=2, first=1), [[GET, -1, "/b/k1", LOCAL], [GET, -2, "/b/k0", LOCAL]]),
    ]
    for work, expected in cases:
        assert FrameDecoder().feed(line(work).requests(2)) == expected


def test_serials_go_on_without_a_gap_and_answers_are_acknowledged() -> None:
    """The server applies a serial only after the one before; it forgets what is acknowledged."""
    made = line()
    made.requests(2)
    assert made.answers(frame([pack([1, 0, 7, STAT]), pack([2, 0, 8, STAT])])) == 2
    made.begin(Work(Kind.DELETE, "/b", 0))
    assert FrameDecoder().feed(made.requests(1)) == [[DELETE, 3, 2, "/b/k0", -1]]
    assert made.answers(frame([pack([3, 0, 9])])) == 1
    assert FrameDecoder().feed(made.goodbye())[0][1:] == [4, 3]


def test_reads_and_writes_of_one_session_are_numbered_apart() -> None:
    """The protocol numbers writes by the session and reads by the connection."""
    made = line()
    made.requests(1)
    made.answers(frame([pack([1, 0, 7, STAT])]))
    made.begin(Work(Kind.GET, "/b", 4, cycle=3))
    made.requests(2)
    answers = frame([pack([-1, 0, 7, b"0.vv", STAT]), pack([-2, 0, 7, b"1.vv", STAT])])
    assert sum(made.answers(answers[at : at + 1]) for at in range(len(answers))) == 2
    assert (made.seen.versions, made.seen.children, made.answered) == (6, 4, 2)
    made.begin(WORK)
    assert FrameDecoder().feed(made.requests(1))[0][1:3] == [2, 1]


def test_wrong_answers_are_counted_by_what_is_wrong() -> None:
    """A fast server that answers with errors must not win."""
    made = line()
    made.requests(3)
    assert made.answers(frame([pack([1, -101, 7, "/b/k0"]), pack([2, -101, 7, "/b/k0"]), pack([3, 99, 7, ""])])) == 3
    assert made.errors == {"NoNode: ['/b/k0']": 2, "code 99: ['']": 1}
    made = line(Work(Kind.GET, "/b", 4, cycle=3))
    made.requests(2)
    made.answers(frame([pack([-1, 0, 7, b"1.vv", STAT]), pack([-2, 0, 7, b"short", STAT])]))
    assert made.errors.total() == 2 and "wrong value of /b/k0" in next(iter(made.errors))


def test_an_answer_out_of_turn_ends_the_load() -> None:
    """Latencies would be attributed to other requests from then on."""
    made = line()
    made.requests(2)
    with pytest.raises(LoadFailed, match="expected the answer to request 1"):
        made.answers(frame([pack([2, 0, 7, STAT])]))


def test_what_is_not_the_protocol_ends_the_load_with_a_reason() -> None:
    """The user may have named another server's port."""
    with pytest.raises(LoadFailed, match="does not speak"):
        line().answers(b"\x00\x00\x00\x01\xc1")
    with pytest.raises(LoadFailed, match=r"ends the connection: .*too much"):
        line().answers(frame([pack([0, -301, 7, "too much"])]))
    with pytest.raises(LoadFailed, match="another shape"):
        line().answers(frame([pack([1])]))


def test_a_session_is_opened_or_refused_by_name() -> None:
    """A refusal says why in its own words."""
    made = NativeLine(Parts())
    assert made.hello().startswith(PREFACE)
    assert not made.greeted(b"\x00")
    granted = frame([pack([0, 5, bytes(16), 1000, 7, "n1", 1, 1, 0])])
    assert NativeLine(Parts()).greeted(granted)
    with pytest.raises(LoadFailed, match="NoLeader: nobody leads"):
        NativeLine(Parts()).greeted(frame([pack([-302, "nobody leads"])]))
    with pytest.raises(LoadFailed, match="unexpected"):
        NativeLine(Parts()).greeted(frame([pack([])]))
