"""One ZooKeeper client's connection, driven by bytes: its session, the order of its answers, and how it is refused."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.jute import INT, framed
from jkcs_client.protocol.messages import REQUESTS_IN_FLIGHT_MAX, VALUE_BYTES_MAX
from jkcs_server.serving.endpoint import OUTGOING_BYTES_MAX
from jkcs_server.serving.throttle import HELD_BYTES_MAX
from tests.support import jute_client as jute
from tests.support.jute_client import Answer, Event
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

NOTHING = bytes(16)


# Sessions.


@pytest.mark.parametrize("flag", [None, False, True])
def test_the_connect_request_is_answered_in_the_form_in_which_it_came(flag: bool | None) -> None:
    """Old clients do not know the flag, and would take it for the beginning of the next frame."""
    desk = Desk()
    client = Client(desk)
    client.send(jute.connect(5_000, read_only=flag))
    assert client.jute.greeting is None, "a session is opened through the log"
    desk.apply()
    greeting = client.jute.greeting
    assert greeting is not None
    assert greeting.timeout_ms == 5_000 and greeting.session == 1 and len(greeting.password) == 16
    assert greeting.read_only == (None if flag is None else False)


@pytest.mark.parametrize(("asked", "granted"), [(0, 1_000), (-5, 1_000), (10**9, 60_000)])
def test_the_timeout_is_brought_within_limits(asked: int, granted: int) -> None:
    desk = Desk()
    client = Client(desk)
    client.send(jute.connect(asked))
    desk.apply()
    assert client.jute.greeting is not None and client.jute.greeting.timeout_ms == granted


def back(desk: Desk, first: Client, password: bytes | None = None, seen: int = 0) -> Client:
    """The same session over a new connection."""
    greeting = first.jute.greeting
    assert greeting is not None
    client = Client(desk)
    client.send(jute.connect(session=greeting.session, password=password or greeting.password, seen=seen))
    desk.confirm()
    desk.apply()
    return client


def test_a_session_that_comes_back_is_moved_and_its_old_connection_closed() -> None:
    desk, first = connected()
    assert first.call(zk.CREATE, jute.create("/a")).error == OK
    second = back(desk, first)
    assert first.closed and not second.closed
    assert second.jute.greeting == first.jute.greeting
    assert second.call(zk.SET_DATA, jute.set_data("/a", b"2")).error == OK


def test_what_the_old_connection_left_in_flight_never_happens_after_the_move() -> None:
    """The client has been told nothing of it, and may do it again: it would happen twice, or after what came later."""
    desk, first = connected()
    first.ask(zk.CREATE, jute.create("/late"))
    late, desk.proposed = desk.proposed, []
    second = back(desk, first)
    desk.proposed += late
    desk.apply()
    assert second.call(zk.EXISTS, jute.read("/late")).error == zk.NO_NODE
    assert second.call(zk.CREATE, jute.create("/late")).error == OK


def test_a_move_that_is_applied_twice_does_no_harm() -> None:
    """It is proposed again when a leader changes, and both may be in the log."""
    desk, first = connected()
    greeting = first.jute.greeting
    assert greeting is not None
    second = Client(desk)
    second.send(jute.connect(session=greeting.session, password=greeting.password))
    desk.confirm()
    desk.proposed *= 2
    desk.apply()
    assert not second.closed
    assert second.call(zk.CREATE, jute.create("/a")).error == OK


def test_a_move_that_comes_late_and_twice_closes_the_connection_with_writes_under_way() -> None:
    desk, first = connected()
    greeting = first.jute.greeting
    assert greeting is not None
    second = Client(desk)
    second.send(jute.connect(session=greeting.session, password=greeting.password))
    desk.confirm()
    move = list(desk.proposed)
    desk.apply()
    second.ask(zk.CREATE, jute.create("/a"))
    desk.proposed[:0] = move
    desk.apply()
    assert second.closed


@pytest.mark.parametrize("session", [1, 77])
def test_a_wrong_password_and_an_unknown_session_are_told_alike(session: int) -> None:
    """Timeout zero is how ZooKeeper says that a session is gone; no other answer lets a client begin anew."""
    desk, first = connected()
    client = Client(desk)
    client.send(jute.connect(session=session, password=b"x" * 16))
    desk.confirm()
    assert client.jute.greeting == jute.Greeting(0, 0, NOTHING, False)
    assert client.closed and not first.closed


def test_a_session_that_ends_while_it_is_moved_is_told_so() -> None:
    desk, first = connected()
    greeting = first.jute.greeting
    assert greeting is not None
    client = Client(desk)
    client.send(jute.connect(session=greeting.session, password=greeting.password))
    desk.confirm()
    move, desk.proposed = desk.proposed, []
    desk.expire(greeting.session)
    assert client.jute.greeting == jute.Greeting(0, 0, NOTHING, False) and client.closed
    desk.proposed += move
    desk.apply()


def test_a_client_ahead_of_this_server_waits_for_a_round_and_is_closed_if_it_still_is() -> None:
    """It must not go back in time. Without an answer, as ZooKeeper: it then tries the next server."""
    desk, first = connected()
    ahead = Client(desk)
    ahead.send(jute.connect(seen=1_000))
    assert not ahead.closed
    desk.confirm()
    desk.apply()
    assert ahead.closed and ahead.jute.greeting is None
    behind = Client(desk)
    behind.send(jute.connect(seen=desk.machine.applied + 1))
    first.ask(zk.CREATE, jute.create("/a"))
    desk.apply()
    desk.confirm()
    desk.apply()
    assert behind.jute.greeting is not None and not behind.closed


def test_requests_behind_the_connect_request_wait_for_its_answer() -> None:
    desk = Desk()
    client = Client(desk)
    client.send(jute.connect() + client.jute.request(zk.CREATE, jute.create("/a")))
    client.send(client.jute.request(zk.EXISTS, jute.read("/a"))[:7])
    assert client.jute.greeting is None and len(desk.proposed) == 1
    desk.apply()
    assert client.jute.greeting is not None
    desk.apply()
    assert [answer.error for answer in client.take() if isinstance(answer, Answer)] == [OK]


def test_one_that_sends_on_and_on_before_its_session_is_there_is_held_back() -> None:
    desk = Desk()
    client = Client(desk)
    client.send(jute.connect())
    for _ in range(3):
        client.send(bytes(zk.FRAME_BYTES_MAX))
    assert client.paused
    desk.apply()
    assert client.closed, "zeros are no request"


def test_close_session_is_answered_before_the_connection_is_closed() -> None:
    desk, client = connected()
    client.call(zk.CREATE, jute.create("/e", mode=zk.EPHEMERAL))
    assert client.call(zk.CLOSE_SESSION).error == OK
    assert client.closed and 1 not in desk.machine.sessions and desk.machine.tree.find("/e") is None


def test_an_expired_session_has_its_connection_closed() -> None:
    desk, client = connected()
    desk.expire(1)
    assert client.closed and client.take() == []


def test_no_session_is_given_while_the_server_takes_no_writes() -> None:
    desk = Desk()
    desk.read_only = "the disk is full"
    client = Client(desk)
    client.send(jute.connect())
    assert client.closed and client.jute.greeting is None


def test_a_write_to_a_server_that_takes_none_closes_so_that_the_client_goes_elsewhere() -> None:
    desk, client = connected()
    desk.read_only = "the disk is full"
    assert client.call(zk.EXISTS, jute.read("/")).error == OK
    client.ask(zk.CREATE, jute.create("/a"))
    assert client.closed and desk.proposed == []


# Order.


def test_answers_come_in_the_order_of_the_requests() -> None:
    desk, client = connected()
    client.ask(zk.CREATE, jute.create("/a", b"1"))
    client.ask(zk.GET_DATA, jute.read("/a"))
    client.ask(zk.SET_DATA, jute.set_data("/a", b"2"))
    client.ask(zk.CREATE, jute.create("/a//b"))
    client.ask(zk.GET_DATA, jute.read("/a"))
    client.ask(zk.SYNC, jute.text("/a"))
    client.ask(zk.DELETE, jute.delete("/a"))
    assert client.take() == []
    desk.apply()
    desk.confirm()
    desk.apply()
    got = [answer for answer in client.take() if isinstance(answer, Answer)]
    assert [answer.xid for answer in got] == [1, 2, 3, 4, 5, 6, 7]
    assert got[1].value[0] == b"1" and got[4].value[0] == b"2" and got[3].error == zk.NO_NODE
    assert [answer.zxid for answer in got] == sorted(answer.zxid for answer in got)


def test_an_event_comes_before_the_answer_of_the_write_that_caused_it() -> None:
    desk, client = connected()
    client.call(zk.EXISTS, jute.read("/a", watch=True))
    client.ask(zk.CREATE, jute.create("/a"))
    desk.apply()
    event, answer = client.take()
    assert event == Event(answer.zxid, 1, zk.SYNC_CONNECTED, "/a"), "with the zxid at which it happened"


def test_a_ping_is_answered_when_the_leader_has_heard_of_the_session() -> None:
    desk, client = connected()
    desk.touched.clear()
    client.send(client.jute.ping())
    assert client.take() == [] and desk.touched == [1]
    desk.confirm()
    (answer,) = client.take()
    assert isinstance(answer, Answer) and (answer.xid, answer.error) == (zk.PING_XID, OK)


def test_any_request_is_a_sign_of_life_once_in_a_quarter_of_the_timeout() -> None:
    """A busy client does not ping."""
    desk, client = connected()
    desk.touched.clear()
    client.call(zk.EXISTS, jute.read("/"))
    assert desk.touched == []
    desk.turn += 10  # two and a half seconds of ten
    client.call(zk.EXISTS, jute.read("/"))
    client.call(zk.EXISTS, jute.read("/"))
    assert desk.touched == [1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_bytes_may_come_in_any_pieces(size: int) -> None:
    """Whole, one at a time, and with the next request's beginning behind."""
    desk = Desk()
    client = Client(desk)
    data = jute.connect()
    for at in range(0, len(data), size):
        client.send(data[at : at + size])
    desk.apply()
    data = b"".join(client.jute.request(zk.EXISTS, jute.read(path)) for path in ("/", "/no", "/zookeeper"))
    for at in range(0, len(data), size):
        client.send(data[at : at + size])
    assert [answer.error for answer in client.take() if isinstance(answer, Answer)] == [OK, zk.NO_NODE, OK]


# Bad input.


@pytest.mark.parametrize("length", [0, -1, -(2**31), 2**31 - 1, zk.FRAME_BYTES_MAX + 1])
@pytest.mark.parametrize("greeted", [False, True])
def test_an_absurd_length_closes_the_connection_before_anything_is_kept(length: int, *, greeted: bool) -> None:
    desk, other = connected()
    client = connected(desk)[1] if greeted else Client(desk)
    client.send(INT.pack(length))
    assert client.closed and not other.closed


def test_the_largest_value_fits() -> None:
    _, client = connected()
    value = bytes(VALUE_BYTES_MAX)
    assert client.call(zk.CREATE, jute.create("/a", value)).error == OK
    assert client.call(zk.GET_DATA, jute.read("/a")).value[0] == value


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (zk.CREATE, b""),
        (zk.CREATE, b"\0\0"),
        (zk.CREATE, jute.create("/a")[:-1]),
        (zk.CREATE, INT.pack(-2)),
        (zk.CREATE, INT.pack(2**31 - 1) + b"/a"),
        (zk.CREATE, jute.text("/a") + jute.buffer(b"") + INT.pack(2**31 - 1)),
        (zk.CREATE, jute.text("/a") + jute.buffer(b"") + INT.pack(-7)),
        (zk.GET_DATA, jute.text("/")),
        (zk.GET_DATA, jute.buffer(b"/\xff") + b"\0"),
        (zk.SET_DATA, jute.text("/a") + INT.pack(5) + b"1234"),
        (zk.SET_WATCHES, jute.set_watches(0) + INT.pack(1_000_000)),
        (zk.ADD_WATCH, jute.numbered("/a", 7)),
        (zk.REMOVE_WATCHES, jute.numbered("/a", 9)),
        (zk.MULTI, jute.multi((zk.GET_DATA, jute.read("/")))),
        (zk.MULTI, jute.multi((zk.CREATE, jute.create("/a")))[:-1]),
        (zk.MULTI_READ, jute.multi((zk.EXISTS, jute.read("/")))),
        (zk.RECONFIG, b"\0"),
    ],
)
def test_a_record_that_is_none_is_answered_and_the_connection_lives(op: int, body: bytes) -> None:
    desk, client = connected()
    assert client.call(op, body).error == zk.MARSHALLING_ERROR
    assert desk.proposed == [] and not client.closed
    assert client.call(zk.EXISTS, jute.read("/")).error == OK


@pytest.mark.parametrize("op", [77, 0, -5, -10, zk.SASL])
def test_an_operation_that_is_none_is_answered_and_the_connection_closed(op: int) -> None:
    _, client = connected()
    client.ask(op)
    (answer,) = client.take()
    assert isinstance(answer, Answer)
    assert answer.error == (zk.AUTH_FAILED if op == zk.SASL else zk.UNIMPLEMENTED) and client.closed


def test_containers_are_not_deleted_by_clients() -> None:
    _, client = connected()
    client.call(zk.CREATE_CONTAINER, jute.create("/c", mode=zk.CONTAINER))
    assert client.call(zk.DELETE_CONTAINER, jute.text("/c")).error == zk.BAD_ARGUMENTS
    assert client.call(zk.EXISTS, jute.read("/c")).error == OK


def test_a_client_that_does_not_read_is_closed() -> None:
    desk, client = connected()
    client.stuck_bytes = OUTGOING_BYTES_MAX + 1
    client.ask(zk.EXISTS, jute.read("/"))
    assert client.closed and desk.connections == {}


def test_a_burst_of_small_requests_for_a_large_value_is_cut_off() -> None:
    """Ten thousand of them fit into one read of the socket: their answers must not all be made."""
    _, client = connected()
    client.call(zk.CREATE, jute.create("/a", bytes(VALUE_BYTES_MAX)))
    sizes: list[int] = []
    client.deaf = True
    client.on_write = lambda data: sizes.append(len(data))
    client.send(jute.request(1, zk.GET_DATA, jute.read("/a")) * 10_000)
    assert client.closed and sum(sizes) < OUTGOING_BYTES_MAX + 2 * VALUE_BYTES_MAX


def test_a_multi_of_reads_has_an_answer_of_bounded_size() -> None:
    _, client = connected()
    client.call(zk.CREATE, jute.create("/a", bytes(VALUE_BYTES_MAX)))
    answer = client.call(zk.MULTI_READ, jute.multi(*[(zk.GET_DATA, jute.read("/a"))] * 40_000))
    assert answer.error == zk.BAD_ARGUMENTS


def test_a_client_with_too_much_unanswered_is_paused_and_resumed() -> None:
    desk, client = connected()
    for _ in range(REQUESTS_IN_FLIGHT_MAX + 1):
        client.ask(zk.SYNC, jute.text("/"))
    assert client.paused
    desk.confirm()
    assert not client.paused


def test_a_client_whose_large_writes_wait_is_paused_and_resumed() -> None:
    desk, client = connected()
    for number in range(HELD_BYTES_MAX // VALUE_BYTES_MAX):
        assert not client.paused
        client.ask(zk.CREATE, jute.create(f"/{number}", bytes(VALUE_BYTES_MAX)))
    assert client.paused
    desk.apply()
    assert not client.paused


def test_a_connection_that_is_closed_answers_and_watches_no_more() -> None:
    """What still waits in its lane must not register watches that nobody would ever remove."""
    desk, client = connected()
    client.ask(zk.SYNC, jute.text("/"))
    client.ask(zk.EXISTS, jute.read("/a", watch=True))
    client.connection.lost()
    client.connection.lane.drain(desk.open_round)
    assert desk.hub.count == 0 and client.take() == []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.binary(max_size=80).map(framed)), max_size=5))
def test_no_bytes_of_a_client_do_more_than_close_its_connection(pieces: list[bytes]) -> None:
    """Fuzz: nothing is raised, and others notice nothing."""
    desk, other = connected()
    client = connected(desk)[1]
    client.deaf = True
    for piece in pieces:
        if not client.closed:
            client.send(piece)
    desk.apply()
    desk.confirm()
    assert other.call(zk.EXISTS, jute.read("/")).error == OK


OPS = sorted({*zk.OP_NAMES, zk.AUTH, zk.SASL, zk.DELETE_CONTAINER})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(OPS), st.binary(max_size=120)), max_size=6))
def test_no_record_of_any_operation_does_more_than_fail(requests: list[tuple[int, bytes]]) -> None:
    """Fuzz: a head that is right, with anything behind it."""
    desk, other = connected()
    client = connected(desk)[1]
    client.deaf = True
    for xid, (op, body) in enumerate(requests):
        if not client.closed:
            client.send(jute.request(xid, op, body))
    desk.apply()
    desk.confirm()
    assert other.call(zk.EXISTS, jute.read("/")).error == OK


# Multi.


def test_a_multi_is_answered_with_what_each_operation_returns() -> None:
    _, client = connected()
    answer = client.call(
        zk.MULTI,
        jute.multi(
            (zk.CREATE, jute.create("/a")),
            (zk.CREATE2, jute.create("/b")),
            (zk.CREATE_CONTAINER, jute.create("/c", mode=zk.CONTAINER)),
            (zk.SET_DATA, jute.set_data("/a", b"1")),
            (zk.CHECK, jute.check("/a", 1)),
            (zk.DELETE, jute.delete("/b", 0)),
        ),
    )
    assert answer.error == OK
    kinds = [kind for kind, _ in answer.value]
    assert kinds == [zk.CREATE, zk.CREATE, zk.CREATE2, zk.SET_DATA, zk.CHECK, zk.DELETE]
    assert answer.value[0][1] == "/a" and answer.value[2][1][0] == "/c" and answer.value[3][1].version == 1


@pytest.mark.parametrize(
    ("steps", "codes"),
    [
        (
            ((zk.CREATE, jute.create("/n")), (zk.CHECK, jute.check("/", 7)), (zk.DELETE, jute.delete("/n"))),
            [0, -103, -2],
        ),
        (((zk.CREATE, jute.create("/n")), (zk.CREATE, jute.create("n"))), [0, -8]),
        (
            ((zk.DELETE, jute.delete("/no")), (zk.CREATE, jute.create("n")), (zk.CHECK, jute.check("/", 0))),
            [-101, -2, -2],
        ),
        (((zk.CREATE, jute.create("/n", entries=())), (zk.CREATE, jute.create("n"))), [-114, -2]),
    ],
)
def test_a_multi_that_fails_tells_which_operation_did(steps: tuple[tuple[int, bytes], ...], codes: list[int]) -> None:
    """The head says OK, as ZooKeeper's. What is refused before the log must not hide what fails in the tree."""
    _, client = connected()
    answer = client.call(zk.MULTI, jute.multi(*steps))
    assert answer.error == OK
    assert answer.value == [(zk.ERROR, code) for code in codes]
    assert client.call(zk.EXISTS, jute.read("/n")).error == zk.NO_NODE


def test_an_empty_multi_is_answered_with_nothing() -> None:
    _, client = connected()
    assert client.call(zk.MULTI, jute.multi()).value == []


def test_a_multi_of_as_many_operations_as_fit_is_done() -> None:
    """The frame is the limit."""
    _, client = connected()
    steps = (zk.FRAME_BYTES_MAX - 100) // len(jute.multi((zk.CHECK, jute.check("/")))) // 2
    answer = client.call(zk.MULTI, jute.multi(*[(zk.CHECK, jute.check("/"))] * steps))
    assert len(answer.value) == steps


# Who a client is.


def test_credentials_hold_for_what_comes_after_them() -> None:
    _, client = connected()
    assert (
        client.call(zk.CREATE, jute.create("/a", entries=[(31, "digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")])).error
        == OK
    )
    assert client.call(zk.GET_DATA, jute.read("/a")).error == zk.NO_AUTH
    assert client.call(zk.SET_DATA, jute.set_data("/a", b"")).error == zk.NO_AUTH
    client.send(client.jute.auth("digest", b"u:p"))
    (answer,) = client.take()
    assert isinstance(answer, Answer) and (answer.xid, answer.zxid, answer.error) == (zk.AUTH_XID, 0, OK)
    assert client.call(zk.GET_DATA, jute.read("/a")).error == OK
    assert client.call(zk.SET_DATA, jute.set_data("/a", b"")).error == OK
    assert client.call(zk.WHO_AM_I).value == [("ip", "192.0.2.1"), ("digest", "u")]
    assert client.call(zk.CLOSE_SESSION).error == OK


def test_credentials_that_prove_nothing_close_the_connection() -> None:
    _, client = connected()
    client.send(client.jute.auth("nobody", b"x"))
    (answer,) = client.take()
    assert isinstance(answer, Answer) and answer.error == zk.AUTH_FAILED and client.closed


def test_a_session_that_comes_back_from_elsewhere_is_who_it_now_is() -> None:
    desk, first = connected(address="192.0.2.1")
    first.call(zk.CREATE, jute.create("/a", entries=[(31, "ip", "192.0.2.1")]))
    assert first.call(zk.SET_DATA, jute.set_data("/a", b"1")).error == OK
    greeting = first.jute.greeting
    assert greeting is not None
    client = Client(desk, "192.0.2.9")
    client.send(jute.connect(session=greeting.session, password=greeting.password))
    desk.confirm()
    desk.apply()
    assert client.call(zk.SET_DATA, jute.set_data("/a", b"2")).error == zk.NO_AUTH


def test_who_may_not_read_a_key_is_not_told_of_its_events() -> None:
    desk, client = connected()
    stranger = connected(desk, "192.0.2.9")[1]
    stranger.call(zk.ADD_WATCH, jute.numbered("/", zk.WATCH_RECURSIVE))
    client.call(zk.CREATE, jute.create("/secret", entries=[(31, "ip", "192.0.2.1")]))
    client.call(zk.CREATE, jute.create("/open"))
    desk.flush()
    assert stranger.events() == [(1, "/open")]


def test_the_root_is_counted_below_itself_by_its_other_name() -> None:
    """As in ZooKeeper, where the empty path is the root, too."""
    _, client = connected()
    client.call(zk.CREATE, jute.create("/a"))
    assert [client.call(zk.GET_ALL_CHILDREN_NUMBER, jute.text(path)).value for path in ("/", "")] == [4, 5]


# Figures.


def test_one_request_at_a_time_is_timed() -> None:
    desk, client = connected()
    figures = client.connection.figures
    desk.time = 1.0
    client.ask(zk.CREATE, jute.create("/a"))
    client.ask(zk.SET_DATA, jute.set_data("/a", b""))
    desk.time = 1.5
    desk.apply()
    assert figures.last_latency_ms == figures.max_latency_ms == 500.0
    assert (figures.received, figures.sent, figures.last_operation) == (3, 3, "SETD")
    assert figures.last_zxid == desk.machine.applied


def test_events_are_counted_beside_the_answers() -> None:
    """Whoever sees more answers than requests, or fewer, looks for a fault that there is not."""
    _, client = connected()
    figures = client.connection.figures
    for number in (1, 2, 3):
        client.call(zk.EXISTS, jute.read(f"/{number}", watch=True))
        client.call(zk.CREATE, jute.create(f"/{number}"))
        client.call(zk.EXISTS, jute.read("/"))
        assert figures.notified == number
        assert figures.answered == figures.received == 1 + 3 * number


def test_the_audit_log_tells_of_refusals_and_of_changes_of_rights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jkcs_server.audit")
    desk, client = connected()
    client.call(zk.CREATE, jute.create("/k", entries=[(16, "ip", "192.0.2.1")]))
    client.call(zk.SET_ACL, jute.set_acl("/k", [(16, "ip", "192.0.2.1")]))
    assert client.call(zk.SET_DATA, jute.set_data("/k", b"1")).error == zk.NO_AUTH
    assert client.call(zk.GET_DATA, jute.read("/k")).error == zk.NO_AUTH
    multi = jute.multi((zk.SET_DATA, jute.set_data("/k", b"1")))
    client.call(zk.MULTI, multi)
    client.send(client.jute.auth("unheard-of", b"no password"))
    thief = Client(desk)
    thief.send(jute.connect(session=client.connection.session, password=b"x" * 16))
    desk.confirm()
    assert thief.closed
    told = [line.split("operation=")[1] for line in caplog.messages]
    assert told == [
        "set_acl znode=/k result=invoked",
        "write znode=/k result=failure",
        "read znode=/k result=failure",
        "write znode='0: /k' result=failure",
        "auth scheme=unknown result=failure",
        "auth scheme=session result=failure",
    ]
