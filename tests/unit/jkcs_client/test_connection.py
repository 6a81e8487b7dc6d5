"""The client's side of the protocol without I/O: whole, byte by byte, and with garbage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jkcs_client.connection import Connection
from jkcs_client.credentials import Credentials
from jkcs_client.protocol import errors
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import (
    AUTH,
    CREATE,
    GET,
    IDENTITIES_MAX,
    PING,
    PREFACE,
    SET,
    UNWATCH,
    WATCH,
    EventKind,
    WatchMode,
)
from jkcs_client.requests import Request
from jkcs_client.watches import Watch

SESSION = 77
PASSWORD = b"p" * 16
HELLO = (OK, SESSION, PASSWORD, 9000, 100, "n1", 1 << 20, 1024, 0)
CREATED = int(EventKind.CREATED)

Feed = Callable[[Connection, bytes], None]


def whole(connection: Connection, data: bytes) -> None:
    connection.receive(data, 1.0)


def byte_by_byte(connection: Connection, data: bytes) -> None:
    for at in range(len(data)):
        connection.receive(data[at : at + 1], 1.0)


def cut_in_two(connection: Connection, data: bytes) -> None:
    middle = len(data) // 2
    connection.receive(data[:middle], 1.0)
    connection.receive(data[middle:], 1.0)


def framed(*messages: Any) -> bytes:
    return frame([pack(message) for message in messages])


def sent(connection: Connection, now: float = 1.0) -> list[list[Any]]:
    """What the connection sends next."""
    return FrameDecoder().feed(connection.data_to_send(now))


def attached(*, in_flight_max: int = 1024, serial: int = 0) -> Connection:
    connection = Connection(9000)
    reattach(connection, in_flight_max=in_flight_max, serial=serial)
    return connection


def reattach(connection: Connection, *, in_flight_max: int = 1024, serial: int = 0) -> None:
    connection.open()
    hello = (OK, SESSION, PASSWORD, 9000, 100, "n1", 1 << 20, in_flight_max, serial)
    connection.receive(framed(hello), 1.0)


def submit(connection: Connection, op: int, *arguments: Any) -> Request:
    request = Request(op, arguments)
    connection.submit(request)
    return request


def test_the_first_bytes_are_the_preface_and_a_hello() -> None:
    """A server tells the protocols on its port apart by them."""
    data = Connection(9000).open()
    assert data.startswith(PREFACE)
    assert FrameDecoder().feed(data[len(PREFACE) :]) == [[0, b"", 9000, 0]]


def test_a_later_hello_names_the_session_and_what_was_seen() -> None:
    """So that the next server shows nothing older than the last one did."""
    connection = attached()
    submit(connection, GET, "/a", 0)
    sent(connection)
    connection.receive(framed((-1, OK, 250, b"", [])), 1.0)
    connection.on_connection_lost()
    assert FrameDecoder().feed(connection.open()[len(PREFACE) :]) == [[SESSION, PASSWORD, 9000, 250]]


@pytest.mark.parametrize("feed", [whole, byte_by_byte, cut_in_two])
def test_answers_and_events_come_out_the_same_however_the_bytes_come_in(feed: Feed) -> None:
    """TCP keeps order and nothing else. Several messages share a frame, and frames share a read."""
    connection = Connection(9000)
    connection.open()
    feed(connection, framed(HELLO))
    assert (connection.session_id, connection.password, connection.node) == (SESSION, PASSWORD, "n1")
    watch = Watch("/a", WatchMode.PERSISTENT, 0, 10)
    connection.watch(watch)
    write, read, missing = (
        submit(connection, SET, "/a", b"x", -1),
        submit(connection, GET, "/a", 0),
        submit(connection, GET, "/b", 0),
    )
    sent(connection)
    feed(
        connection,
        framed((-1, OK, 101), (0, watch.watch_id, CREATED, 105, "/a"), (1, OK, 105, ["stat"]))
        + framed((-2, OK, 105, b"x", ["stat"]), (-3, errors.NoNode.code, 105, "/b")),
    )
    assert connection.take_woken() == [watch, watch, write, read, missing]
    assert list(watch.buffer) == [(CREATED, "/a", 105)]
    assert (write.code, write.index, write.result) == (OK, 105, [["stat"]])
    assert read.result == [b"x", ["stat"]]
    assert (missing.code, missing.result) == (errors.NoNode.code, "/b")
    assert (connection.seen_index, connection.complete_index) == (105, 105)


@pytest.mark.parametrize(
    "trailing",
    [
        framed((-1, OK, 1)),
        framed(("x", OK, 1)),
        framed((1,)),
        framed(()),
        framed((0, 1, CREATED, "1", "/a")),
        framed((0, 1, CREATED, 1, "/a", 1)),
        framed((-1, OK, None)),
        frame([b"\xc1"]),
        frame([pack(7)]),
        b"\xff\xff\xff\xff",
        (3).to_bytes(4, "big") + b"abc",
    ],
)
def test_what_is_not_the_protocol_is_an_error_after_what_was(trailing: bytes) -> None:
    """Bytes may be damaged; what came before is good, and nothing after can be trusted."""
    connection = attached()
    request = submit(connection, SET, "/a", b"", -1)
    sent(connection)
    connection.receive(framed((1, OK, 101, [])), 1.0)
    with pytest.raises(errors.ProtocolError):
        connection.receive(trailing, 1.0)
    assert connection.take_woken() == [request]


@pytest.mark.parametrize(
    "hello",
    [
        (OK, SESSION),
        (OK, SESSION, PASSWORD, 9000, 100, "n1", 1 << 20, 1024),
        (OK, SESSION, "text", 9000, 100, "n1", 1 << 20, 1024, 0),
        (OK, 0, b"", 0, 100, "n1", 1 << 20, 1024, 0),
        (1, SESSION, PASSWORD, 9000, 100, "n1", 1 << 20, 1024, 0),
        (OK, SESSION, PASSWORD, 9000, 100, "n1", 1 << 20, 1024, 5),
    ],
)
def test_a_malformed_hello_is_refused(hello: tuple[Any, ...]) -> None:
    """The last one claims writes that this client never sent: its next ones would be taken for repetitions."""
    connection = Connection(9000)
    connection.open()
    with pytest.raises(errors.JkcsError):
        connection.receive(framed(hello), 1.0)
    assert not connection.greeted


def test_another_session_in_the_answer_is_refused() -> None:
    """Its ephemeral keys would not be ours."""
    connection = attached()
    connection.on_connection_lost()
    connection.open()
    with pytest.raises(errors.ProtocolError, match="session"):
        connection.receive(framed((OK, SESSION + 1, PASSWORD, 9000, 100, "n1", 1 << 20, 1024, 0)), 1.0)


@pytest.mark.parametrize("error", [errors.SessionExpired, errors.NoLeader, errors.ProtocolError, errors.WrongPassword])
def test_a_refused_hello_says_why(error: type[errors.JkcsError]) -> None:
    """The user must learn it, and the driver must know whether another server can help."""
    connection = Connection(9000)
    connection.open()
    with pytest.raises(error) as caught:
        connection.receive(framed((error.code, f"{error.summary}: because")), 1.0)
    assert str(caught.value) == f"{error.summary}: because"


def test_everything_queued_leaves_in_one_frame() -> None:
    """The cost of a write to the socket is paid once for all calls of one turn."""
    connection = attached()
    for _ in range(3):
        submit(connection, SET, "/a", b"", -1)
    submit(connection, GET, "/a", 0)
    assert sent(connection) == [
        [SET, 1, 0, "/a", b"", -1],
        [SET, 2, 0, "/a", b"", -1],
        [SET, 3, 0, "/a", b"", -1],
        [GET, -1, "/a", 0],
    ]
    assert connection.data_to_send(1.0) == b""


def test_large_requests_leave_in_several_frames() -> None:
    """A frame has a size limit, and a server must not wait for megabytes before it starts."""
    connection = attached()
    for _ in range(10):
        submit(connection, SET, "/a", bytes(1 << 20), -1)
    frames = []
    while data := connection.data_to_send(1.0):
        frames.append(FrameDecoder().feed(data))
    assert [len(messages) for messages in frames] == [1] * 10


def test_no_more_is_in_flight_than_the_server_takes() -> None:
    """It would stop reading, and the pings with it."""
    connection = attached(in_flight_max=2)
    for _ in range(5):
        submit(connection, SET, "/a", b"", -1)
    assert len(sent(connection)) == 2
    assert sent(connection) == []
    connection.ping()
    assert sent(connection) == [[PING, -1]]
    connection.receive(framed((1, OK, 101, []), (2, OK, 102, []), (-1, OK, 102)), 1.0)
    assert [message[1] for message in sent(connection)] == [3, 4]


def test_writes_say_up_to_where_answers_have_come() -> None:
    """The server forgets those replies."""
    connection = attached()
    for _ in range(2):
        submit(connection, SET, "/a", b"", -1)
    sent(connection)
    connection.receive(framed((1, OK, 101, [])), 1.0)
    submit(connection, SET, "/a", b"", -1)
    assert sent(connection) == [[SET, 3, 1, "/a", b"", -1]]


def test_after_a_reconnection_watches_come_first_then_what_was_unanswered() -> None:
    """Else a state could be shown whose event comes later, and a write could overtake an earlier one."""
    connection = attached()
    watch = Watch("/a", WatchMode.RECURSIVE, 0, 10)
    connection.watch(watch)
    submit(connection, CREATE, "/a", b"", 0)
    sent(connection)
    connection.receive(framed((-1, OK, 101)), 1.0)
    connection.on_connection_lost()
    later = submit(connection, SET, "/a", b"", -1)
    reattach(connection)
    connection.ping()
    assert [message[:2] for message in sent(connection)] == [[WATCH, -1], [PING, -2], [CREATE, 1], [SET, 2]]
    assert later.serial == 2


def test_a_watch_is_registered_again_from_what_is_complete() -> None:
    """Any answer completes its index; an event completes only those below its own."""
    connection = attached()
    watch = Watch("/a", WatchMode.RECURSIVE, 0, 10)
    connection.watch(watch)
    sent(connection)
    connection.receive(framed((-1, OK, 101), (0, watch.watch_id, CREATED, 150, "/a")), 1.0)
    connection.on_connection_lost()
    reattach(connection)
    assert sent(connection) == [[WATCH, -1, watch.watch_id, "/a", WatchMode.RECURSIVE, 149]]


def test_a_refused_watch_learns_why() -> None:
    """COMPACTED above all: its owner must read the state anew."""
    connection = attached()
    watch = Watch("/a", WatchMode.ONCE, 5, 10)
    connection.watch(watch)
    sent(connection)
    connection.receive(framed((-1, errors.Compacted.code, 101, "gone")), 1.0)
    assert connection.take_woken() == [watch]
    assert (watch.code, watch.detail) == (errors.Compacted.code, "gone")
    connection.unwatch(watch)
    assert sent(connection) == []


def test_a_forgotten_watch_is_forgotten_by_the_server_too() -> None:
    """Else it would go on sending events that nobody reads."""
    connection = attached()
    watch = Watch("/a", WatchMode.PERSISTENT, 0, 10)
    connection.watch(watch)
    sent(connection)
    connection.unwatch(watch)
    assert sent(connection) == [[UNWATCH, -2, watch.watch_id]]


def test_a_full_buffer_is_told_to_the_server() -> None:
    """For the same reason."""
    connection = attached()
    watch = Watch("/a", WatchMode.PERSISTENT, 0, 1)
    connection.watch(watch)
    sent(connection)
    events = [(0, watch.watch_id, CREATED, index, "/a") for index in (101, 102, 103)]
    connection.receive(framed((-1, OK, 100), *events), 1.0)
    assert watch.code == errors.Compacted.code
    assert sent(connection) == [[UNWATCH, -2, watch.watch_id]]


@pytest.mark.parametrize("error", [errors.Busy, errors.NoLeader, errors.OutcomeUnknown, errors.SessionMoved])
def test_a_server_that_cannot_serve_settles_no_write(error: type[errors.JkcsError]) -> None:
    """The serial is not used up, so the same write must be sent again, elsewhere, before any other."""
    connection = attached()
    request = submit(connection, SET, "/a", b"", -1)
    sent(connection)
    with pytest.raises(error):
        connection.receive(framed((1, error.code, 100, "not now")), 1.0)
    assert connection.take_woken() == []
    connection.on_connection_lost()
    reattach(connection)
    assert sent(connection) == [[SET, 1, 0, "/a", b"", -1]]
    assert not request.settled


def test_a_server_that_cannot_serve_settles_a_read() -> None:
    """Nothing depends on it: the caller may decide."""
    connection = attached()
    request = submit(connection, GET, "/a", 0)
    sent(connection)
    connection.receive(framed((-1, errors.NoLeader.code, 100, "not now")), 1.0)
    assert connection.take_woken() == [request]
    assert request.code == errors.NoLeader.code


def test_a_ping_counts_from_when_it_was_sent() -> None:
    """Not from when it was queued, and not from when its answer came."""
    connection = attached()
    connection.ping()
    sent(connection, now=5.0)
    connection.receive(framed((-1, OK, 100)), 8.0)
    assert connection.acknowledged_at == 5.0


@pytest.mark.parametrize(
    "message", [(0, errors.SessionExpired.code, 130, "session 77"), (errors.SessionExpired.code, "x")]
)
def test_the_server_can_say_that_the_session_is_over(message: tuple[Any, ...]) -> None:
    """Unasked, as soon as it knows."""
    connection = attached()
    with pytest.raises(errors.SessionExpired):
        connection.receive(framed(message), 1.0)


def test_a_write_refused_with_its_session_did_not_happen_if_it_was_sent_once() -> None:
    """Sent twice, the first copy may have been applied while the session lived."""
    once, twice = attached(), attached()
    first = submit(once, SET, "/a", b"", -1)
    sent(once)
    second = submit(twice, SET, "/a", b"", -1)
    sent(twice)
    twice.on_connection_lost()
    reattach(twice)
    sent(twice)
    for connection in (once, twice):
        with pytest.raises(errors.SessionExpired):
            connection.receive(framed((1, errors.SessionExpired.code, 100, "over")), 1.0)
        connection.end(errors.SessionExpired.code, "over")
    assert first.code == errors.SessionExpired.code
    assert second.code == errors.OutcomeUnknown.code


def test_nothing_leaves_before_the_hello_is_answered() -> None:
    """The server might not accept the session, and then nothing must have been sent."""
    connection = Connection(9000)
    submit(connection, SET, "/a", b"", -1)
    connection.watch(Watch("/a", WatchMode.ONCE, 0, 1))
    connection.open()
    assert connection.data_to_send(1.0) == b""


def authenticated(*secrets: bytes) -> Connection:
    """A connection whose server has accepted these."""
    connection = attached()
    for number, secret in enumerate(secrets, start=1):
        submit(connection, AUTH, "digest", secret)
        sent(connection)
        connection.receive(framed((-number, OK, 100)), 1.0)
    return connection


def test_a_new_server_hears_the_credentials_before_anything_else() -> None:
    """What was written as somebody must not be applied as nobody: nothing is sent until the server has accepted."""
    connection = authenticated(b"a:1", b"b:2")
    connection.watch(Watch("/w", WatchMode.PERSISTENT, 0, 10))
    submit(connection, SET, "/a", b"x", -1)
    sent(connection)
    connection.on_connection_lost()
    reattach(connection)
    connection.ping()
    assert sent(connection) == [[AUTH, -1, "digest", b"a:1"], [AUTH, -2, "digest", b"b:2"]]
    connection.receive(framed((-1, OK, 100)), 1.0)
    assert connection.data_to_send(1.0) == b""
    connection.receive(framed((-2, OK, 100)), 1.0)
    assert connection.has_output
    assert [message[0] for message in sent(connection)] == [WATCH, PING, SET]


def test_credentials_that_were_refused_or_not_answered_are_not_said_again() -> None:
    """The caller has heard of the refusal; a call that is not answered is repeated as a call."""
    connection = attached()
    refused = submit(connection, AUTH, "digest", b"a:1")
    sent(connection)
    connection.receive(framed((-1, errors.AuthFailed.code, 100, "no")), 1.0)
    assert refused.code == errors.AuthFailed.code
    submit(connection, AUTH, "digest", b"b:2")
    sent(connection)
    connection.on_connection_lost()
    reattach(connection)
    assert sent(connection) == [[AUTH, -1, "digest", b"b:2"]]


def test_a_server_that_takes_the_credentials_no_more_is_left() -> None:
    """Better no server than one to which this client is somebody else."""
    connection = authenticated(b"a:1")
    write = submit(connection, SET, "/a", b"x", -1)
    connection.on_connection_lost()
    reattach(connection)
    sent(connection)
    with pytest.raises(errors.AuthFailed):
        connection.receive(framed((-1, errors.AuthFailed.code, 100, "no")), 1.0)
    assert not write.settled
    connection.on_connection_lost()
    reattach(connection)
    assert [message[0] for message in sent(connection)] == [AUTH]


def test_credentials_are_said_once_however_often_they_were_given() -> None:
    connection = authenticated(b"a:1", b"a:1")
    connection.on_connection_lost()
    reattach(connection)
    assert sent(connection) == [[AUTH, -1, "digest", b"a:1"]]


def test_identities_have_a_limit() -> None:
    """All of them travel with every write."""
    connection = authenticated(*[b"user%d:x" % number for number in range(IDENTITIES_MAX)])
    connection.check_room(Credentials("digest", b"user1:x"))
    with pytest.raises(errors.AuthFailed):
        connection.check_room(Credentials("digest", b"another:x"))
