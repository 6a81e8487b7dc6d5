"""The load's native requests are the protocol's, and no wrong answer passes for a right one."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import CREATE, DELETE, GET, LINEARIZABLE, LOCAL, PREFACE, SET, WATCH
from jkcs_server.bench.line import LoadFailed
from jkcs_server.bench.native import NativeLine, part
from jkcs_server.bench.parts import Parts
from jkcs_server.bench.work import Kind, Work

STAT = [1, 1, 1, 0, 0, 3, 0, 0, 4, 2]
WORK = Work(Kind.SET, "/b", 4, cycle=3)


def line(work: Work = WORK) -> NativeLine:
    made = NativeLine(Parts(part))
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
        (
            Work(Kind.CREATE_SEQUENTIAL, "/b", 3, digits=10),
            [[CREATE, 1, 0, "/b/k", b"0.v", 2], [CREATE, 2, 0, "/b/k", b"1.v", 2]],
        ),
        (
            Work(Kind.CREATE_EPHEMERAL, "/b", 3),
            [[CREATE, 1, 0, "/b/k0", b"0.v", 1], [CREATE, 2, 0, "/b/k1", b"1.v", 1]],
        ),
        (
            Work(Kind.DELETE, "/b", 0, digits=10),
            [[DELETE, 1, 0, "/b/k0000000000", -1], [DELETE, 2, 0, "/b/k0000000001", -1]],
        ),
        (
            Work(Kind.MIXED, "/b", 4, first=8, cycle=20),
            [[GET, -number - 1, f"/b/k{8 + number}", LOCAL] for number in range(9)]
            + [[SET, 1, 0, "/b/k17", b"17.v", -1]],
        ),
        (Work(Kind.WATCH, "/b", 4, cycle=1), [[WATCH, -1, 1, "/b/k0", 1, 0], [GET, -2, "/b/k0", LOCAL]]),
        (Work(Kind.DELETE, "/b", 0, stem="x"), [[DELETE, 1, 0, "/b/x0", -1], [DELETE, 2, 0, "/b/x1", -1]]),
        (Work(Kind.GET, "/b", 0, cycle=1), [[GET, -1, "/b/k0", LINEARIZABLE], [GET, -2, "/b/k0", LINEARIZABLE]]),
        (Work(Kind.GET_LOCAL, "/b", 0, cycle=2, first=1), [[GET, -1, "/b/k1", LOCAL], [GET, -2, "/b/k0", LOCAL]]),
    ]
    for work, expected in cases:
        count = {Kind.MIXED: 10, Kind.WATCH: 1}.get(work.kind, 2)
        assert FrameDecoder().feed(line(work).requests(count)) == expected


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


def test_a_mixture_is_answered_in_the_order_in_which_it_was_asked() -> None:
    """Reads and writes have numbers of their own; the writes are counted apart, to be compared with the keys."""
    made = line(Work(Kind.MIXED, "/b", 4, cycle=20))
    made.requests(12)
    answers = [[-number - 1, 0, 7, b"%d.vv" % number, STAT] for number in range(9)]
    answers += [[1, 0, 8, STAT], [-10, 0, 8, b"10.v", STAT], [-11, -101, 8, "/b/k11"]]
    stream = frame([pack(answer) for answer in answers])
    assert sum(made.answers(stream[at : at + 1]) for at in range(len(stream))) == 12
    assert (made.answered, made.written) == (12, 1) and made.errors == {"NoNode: ['/b/k11']": 1}
    with pytest.raises(LoadFailed, match="expected the answer to request -12"):
        made.requests(1)
        made.answers(frame([pack([2, 0, 8, STAT])]))


def test_a_watch_is_left_and_tells_of_one_change() -> None:
    """Events are no answers; one that nobody asked for fails the cell."""
    made = line(Work(Kind.WATCH, "/b", 4, cycle=1, limit=1))
    made.requests(1)
    assert made.answers(frame([pack([-1, 0, 7])])) == 0
    assert made.answers(frame([pack([-2, 0, 7, b"0.vv", STAT])])) == 1
    assert made.answers(frame([pack([0, 1, 3, 8, "/b/k0"])])) == 0
    assert made.notified == 1 and not made.errors
    made.answers(frame([pack([0, 1, 3, 9, "/b/k0"])]))
    assert made.notified == 1 and "an event that was not asked for" in next(iter(made.errors))
    with pytest.raises(LoadFailed, match=r"ends the connection: .*too much"):
        made.answers(frame([pack([0, -301, 7, "too much"])]))


def test_names_that_the_server_numbers_are_checked() -> None:
    """They are deleted by these names afterwards."""
    made = line(Work(Kind.CREATE_SEQUENTIAL, "/b", 4, digits=10))
    made.requests(1)
    made.answers(frame([pack([1, 0, 7, "/b/k0000000001", STAT])]))
    assert list(made.errors) == ["expected /b/k0000000000 to be created, not '/b/k0000000001'"]


def test_the_end_of_a_session_is_confirmed_or_not() -> None:
    """Only the answer to the goodbye ends it."""
    assert not line().parted(b"\x00")
    assert line().parted(frame([pack([1, 0, 7])]))
    for answer in ([1, -301, 7, "busy"], [2, 0, 7]):
        with pytest.raises(LoadFailed, match="unexpected answer to the goodbye"):
            line().parted(frame([pack(answer)]))


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
    made = NativeLine(Parts(part))
    assert made.hello().startswith(PREFACE)
    assert not made.greeted(b"\x00")
    granted = frame([pack([0, 5, bytes(16), 1000, 7, "n1", 1, 1, 0])])
    assert NativeLine(Parts(part)).greeted(granted)
    with pytest.raises(LoadFailed, match="NoLeader: nobody leads"):
        NativeLine(Parts(part)).greeted(frame([pack([-302, "nobody leads"])]))
    with pytest.raises(LoadFailed, match="unexpected"):
        NativeLine(Parts(part)).greeted(frame([pack([])]))
