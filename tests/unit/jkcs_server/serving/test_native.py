"""One client's connection, driven by bytes: what it answers, in which order, and how it refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import (
    OK,
    AuthFailed,
    BadArguments,
    BadPath,
    Busy,
    Compacted,
    DiskFull,
    InvalidAcl,
    JkcsError,
    NoNode,
    ProtocolError,
    SessionExpired,
    TooLarge,
    Unimplemented,
    WrongPassword,
)
from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import (
    ADMIN,
    ADMIN_IN_FLIGHT_MAX,
    AUTH,
    CHECK,
    CHILDREN,
    CHILDREN_PAGE,
    CLOSE,
    COUNT,
    CREATE,
    DELETE,
    EPHEMERALS,
    EXISTS,
    FRAME_BYTES_MAX,
    GET,
    GET_ACL,
    LINEARIZABLE,
    LOCAL,
    MULTI,
    PING,
    PREFACE,
    REQUESTS_IN_FLIGHT_MAX,
    SEQUENCE,
    SET,
    SET_ACL,
    STATUS,
    SYNC,
    UNWATCH,
    VALUE_BYTES_MAX,
    WATCH,
    WHO_AM_I,
    EventKind,
    WatchMode,
)
from jkcs_server.serving.audit import Audit
from jkcs_server.serving.endpoint import OUTGOING_BYTES_MAX
from jkcs_server.serving.native import NativeConnection
from jkcs_server.serving.pages import Pages
from jkcs_server.serving.throttle import HELD_BYTES_MAX
from jkcs_server.serving.watches import WatchHub
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.commands import IDENTIFIED, OPEN
from jkcs_server.tree.machine import TreeMachine
from journal.record import make_entry
from journal.values import EntryKind

PASSWORD = b"p" * 16


class Desk:
    """A server of one: proposals are applied when the test says so, rounds are confirmed when it says so."""

    node = "n1"

    def __init__(self) -> None:
        self.hub = WatchHub(1000)
        self.pages = Pages()
        self.audit = Audit(self.now, enabled=True)
        self.super_digest: str | None = None
        self.machine = TreeMachine(self)
        self.confirmed_round = 0
        self.open_round = 1
        self.turn = 0
        self.overloaded = False
        self.read_only: str | None = None
        self.proposed: list[bytes] = []
        self.touched: list[int] = []
        self.attaching: list[tuple[int, bytes]] = []
        self.lost: list[NativeConnection] = []
        self.connection: NativeConnection | None = None
        self.administrating: list[tuple[str, dict[str, Any], bool, Callable[[int, Any], None]]] = []

    def administrate(self, name: str, arguments: dict[str, Any], local: bool, done: Callable[[int, Any], None]) -> None:
        self.administrating.append((name, arguments, local, done))

    def open_session(self, connection: NativeConnection, timeout_ms: int) -> None:
        self.connection = connection
        self.propose(pack((OPEN, 0, 0, 0, PASSWORD, timeout_ms)))

    def attach(self, connection: NativeConnection, session: int, password: bytes) -> None:
        self.attaching.append((session, password))

    def join_round(self, connection: NativeConnection) -> int:
        return self.open_round

    def now(self) -> float:
        return 0.0

    def touch(self, session: int) -> None:
        self.touched.append(session)

    def propose(self, command: bytes) -> None:
        self.proposed.append(command)

    def has_output(self, connection: NativeConnection) -> None:
        pass

    def gone(self, connection: NativeConnection) -> None:
        self.lost.append(connection)
        self.hub.remove_all(connection)

    def status(self) -> dict[str, Any]:
        return {"node": self.node}

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        self.hub.on_event(kind, path, index, acl, parent_acl)

    def on_opened(self, password: bytes, session_id: int, index: int) -> None:
        assert self.connection is not None
        self.machine.owners[session_id] = self.connection
        self.connection.attached(session_id, password, 10_000, 0, fresh=True)

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        """No native client asks for it."""

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        assert self.connection is not None
        self.connection.on_session_ended(index, expired=expired)

    def apply(self, connection: NativeConnection) -> None:
        """Everything proposed comes out of the log in one entry."""
        commands, self.proposed = self.proposed, []
        if commands:
            first = self.machine.applied + 1
            payload = b"".join(commands)
            entry = make_entry(first, 1, 1000, EntryKind.COMMANDS, payload, 0, count=len(commands))
            self.machine.apply(entry)
        connection.flush()

    def confirm(self, connection: NativeConnection) -> None:
        self.confirmed_round = self.open_round
        self.open_round += 1
        connection.lane.drain(self.confirmed_round)
        connection.flush()


class Client:
    """The client's end: collects what was written, decoded."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.closed = False
        self.paused = False
        self.stuck_bytes = 0
        self._decoder = FrameDecoder()
        self.got: list[list[Any]] = []
        self.connection = NativeConnection(desk, self)

    def write(self, data: bytes) -> None:
        self.got += self._decoder.feed(data)

    def unsent(self) -> int:
        return self.stuck_bytes

    def close(self) -> None:
        self.closed = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def is_local(self) -> bool:
        return False

    def address(self) -> str:
        return "192.0.2.1:1024"

    def identities(self) -> tuple[tuple[str, str], ...]:
        return (("ip", "192.0.2.1"),)

    def send(self, *messages: Any) -> None:
        self.connection.receive(frame([pack(message) for message in messages]))

    def take(self) -> list[list[Any]]:
        got, self.got = self.got, []
        return got


def connected() -> tuple[Desk, Client]:
    """A client with a session, its hello answered."""
    desk = Desk()
    client = Client(desk)
    client.connection.receive(PREFACE)
    client.send([0, b"", 10_000, 0])
    desk.apply(client.connection)
    (hello,) = client.take()
    assert hello[:2] == [OK, 1] and hello[5] == "n1"
    return desk, client


def codes(messages: list[list[Any]]) -> list[tuple[int, int]]:
    return [(message[0], message[1]) for message in messages]


def test_a_session_is_opened_through_the_log_before_the_hello_is_answered() -> None:
    desk = Desk()
    client = Client(desk)
    client.connection.receive(PREFACE)
    client.send([0, b"", 10_000, 0])
    assert client.take() == []
    desk.apply(client.connection)
    (hello,) = client.take()
    assert hello[0] == OK and hello[2] == PASSWORD and hello[3] == 10_000


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_bytes_may_come_in_any_pieces(size: int) -> None:
    """Whole, one at a time, and with the next message's beginning behind."""
    desk = Desk()
    client = Client(desk)
    client.connection.receive(PREFACE)
    client.send([0, b"", 0, 0])
    data = frame([pack([GET, -1, "/", LOCAL]), pack([EXISTS, -2, "/x", LOCAL])]) + frame([pack([STATUS, -3])])
    for at in range(0, len(data), size):
        client.connection.receive(data[at : at + size])
    assert codes(client.take()[1:]) == [(-1, OK), (-2, OK), (-3, OK)]


def test_answers_come_in_the_order_of_the_requests() -> None:
    desk, client = connected()
    client.send(
        [CREATE, 1, 0, "/a", b"1", 0],
        [GET, -1, "/a", LOCAL],
        [SET, 2, 0, "/a", b"2", -1],
        [GET, -2, "/a", LOCAL],
        [DELETE, 3, 0, "/a", -1],
        [EXISTS, -3, "/a", LOCAL],
    )
    assert client.take() == []
    desk.apply(client.connection)
    got = client.take()
    assert [message[0] for message in got] == [1, -1, 2, -2, 3, -3]
    assert got[1][3] == b"1" and got[3][3] == b"2" and got[5][3] is None


def test_a_linearizable_read_waits_for_its_round_and_a_local_one_does_not() -> None:
    desk, client = connected()
    client.send([GET, -1, "/", LOCAL])
    assert codes(client.take()) == [(-1, OK)]
    client.send([GET, -2, "/", LINEARIZABLE], [SYNC, -3])
    assert client.take() == []
    desk.confirm(client.connection)
    assert codes(client.take()) == [(-2, OK), (-3, OK)]


def test_a_ping_touches_the_session_and_is_answered_by_its_round() -> None:
    """A ping confirmed by this server alone would promise what only the leader can keep (RELIABILITY 55)."""
    desk, client = connected()
    client.send([PING, -1])
    assert desk.touched == [1] and client.take() == []
    desk.confirm(client.connection)
    assert codes(client.take()) == [(-1, OK)]


def test_a_ping_of_a_session_that_is_gone_says_so() -> None:
    desk, client = connected()
    desk.machine.sessions.end(1)
    client.send([PING, -1])
    desk.confirm(client.connection)
    assert codes(client.take()) == [(-1, SessionExpired.code)]


def test_an_event_comes_before_the_answer_of_the_write_that_caused_it() -> None:
    """And so before any later read could show the new data (W10)."""
    desk, client = connected()
    client.send([WATCH, -1, 5, "/a", int(WatchMode.RECURSIVE), 0])
    client.send([CREATE, 1, 0, "/a", b"", 0], [GET, -2, "/a", LOCAL])
    desk.apply(client.connection)
    got = client.take()
    assert got[0][:2] == [-1, OK]
    assert got[1] == [0, 5, EventKind.CREATED, 2, "/a"]
    assert codes(got[2:]) == [(1, OK), (-2, OK)]
    figures = client.connection.figures
    # The hello, and what it was asked for since, are answered; what it was told without asking is not an answer.
    assert (figures.notified, figures.answered) == (1, 4)


def test_an_unwatched_watch_is_silent_and_a_compacted_one_refused() -> None:
    desk, client = connected()
    client.send([WATCH, -1, 5, "/a", int(WatchMode.PERSISTENT), 0], [UNWATCH, -2, 5])
    client.send([CREATE, 1, 0, "/a", b"", 0])
    desk.apply(client.connection)
    assert codes(client.take()) == [(-1, OK), (-2, OK), (1, OK)]
    desk.hub.reset(100)
    client.send([WATCH, -3, 6, "/a", int(WatchMode.PERSISTENT), 99])
    assert codes(client.take()) == [(-3, Compacted.code)]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ([GET, -1, "/none", LOCAL], NoNode),
        ([CHILDREN, -1, "/none", LOCAL], NoNode),
        ([GET, -1, "none", LOCAL], BadPath),
        ([GET, -1, "/a//b", LOCAL], BadPath),
        ([EXISTS, -1, "/a/", LOCAL], BadPath),
        ([GET, -1, 7, LOCAL], BadPath),
        ([GET, -1], BadArguments),
        ([WATCH, -1, 1, "/a", 9, 0], BadArguments),
        ([WATCH, -1, "1", "/a", 1, 0], BadArguments),
        ([WATCH, -1, 1, "/a", 1, -5], BadArguments),
        ([WATCH, -1, 1], BadArguments),
        ([WATCH, -1, 1, "a", 1, 0], BadPath),
        ([COUNT, -1], BadArguments),
        ([AUTH, -1, "digest"], BadArguments),
        ([CHILDREN_PAGE, -1, "/", LOCAL, "", 0], BadArguments),
        ([CHILDREN_PAGE, -1, "/", LOCAL, 7, 1], BadArguments),
        ([CHILDREN_PAGE, -1, "/none", LOCAL, "", 1], NoNode),
        ([0, -1], Unimplemented),
    ],
)
def test_a_bad_read_is_answered_with_an_error_and_the_connection_lives(
    request_: list[Any], error: type[JkcsError]
) -> None:
    desk, client = connected()
    client.send(request_)
    desk.confirm(client.connection)
    (answer,) = client.take()
    assert answer[:2] == [-1, error.code] and isinstance(answer[3], str)
    assert not client.closed


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([CREATE, 1, 0, "relative", b"", 0], BadPath),
        ([CREATE, 1, 0, "/a", "text", 0], BadArguments),
        ([CREATE, 1, 0, "/a", b"", 99], BadArguments),
        ([CREATE, 1, 0], BadArguments),
        ([CREATE, 1], BadArguments),
        ([77, 1, 0, "/a"], Unimplemented),
        ([OPEN, 1, 0, b"x", 5], Unimplemented),
        ([CLOSE, 1, 7], BadArguments),
        ([CLOSE, 1, 0, "extra"], BadArguments),
    ],
)
def test_a_refused_write_takes_its_serial_so_that_the_next_one_is_applied(
    arguments: list[Any], error: type[JkcsError]
) -> None:
    """Serials must stay dense: a hole would block everything behind it for ever."""
    desk, client = connected()
    client.send(arguments, [CREATE, 2, 0, "/fine", b"", 0])
    desk.apply(client.connection)
    assert codes(client.take()) == [(1, error.code), (2, OK)]


def test_results_that_a_client_never_acknowledges_are_bounded() -> None:
    """Every server keeps them: a client that takes no note of its answers must not fill their memory."""
    desk, client = connected()
    steps = [[CHECK, "/", -1]] * 4096
    for serial in range(1, 65):
        client.send([MULTI, serial, 0, steps])
    desk.apply(client.connection)
    assert {message[1] for message in client.take()} == {OK}
    client.send([MULTI, 65, 0, steps], [MULTI, 66, 64, steps])
    desk.apply(client.connection)
    assert codes(client.take()) == [(65, TooLarge.code), (66, OK)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (frame([pack([GET])]), "[op, id"),
        (frame([pack([GET, 1, "/", LOCAL])]), "negative"),
        (frame([pack(["get", -1])]), "two integers"),
        (frame([pack({"op": 1})]), "array"),
        (frame([pack([CREATE, 5, 0, "/a", b"", 0])]), "where 1 was due"),
        (frame([b"\xc1"]), "msgpack"),
        (frame([b"\xdd\x00\x7f\xff\xff" * 500]), "msgpack"),
        (b"\x00\x00\x00\x01\x07", "array of messages"),
        (frame([pack([GET, -1, "/", LOCAL])[:-1]]), "msgpack"),
        ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "limit"),
        (b"\xff\xff\xff\xff", "limit"),
        (frame([b"\xdc\x10\x00" + 4096 * b"\x90"] * 129), "too many arrays"),
        (frame([b"\xdc\x10\x00" + 4096 * b"\x80"] * 129), "too many arrays"),
    ],
)
def test_what_is_not_the_protocol_is_told_and_ends_this_connection(data: bytes, said: str) -> None:
    desk, client = connected()
    client.connection.receive(data)
    (farewell,) = client.take()
    assert farewell[:2] == [0, ProtocolError.code] and said in farewell[3]
    assert client.closed and desk.lost == [client.connection]


def test_garbage_in_place_of_the_preface_is_closed_without_an_answer() -> None:
    """A browser or a port scanner would not understand it."""
    client = Client(Desk())
    client.connection.receive(b"GET / HTTP/1.1\r\n\r\n")
    assert client.closed and client.got == []


def test_another_version_is_refused_by_name() -> None:
    client = Client(Desk())
    client.connection.receive(PREFACE[:-1] + b"\x63")
    (refusal,) = client.take()
    assert refusal[0] == ProtocolError.code and "version 99" in refusal[1]
    assert client.closed


@pytest.mark.parametrize("hello", [[], [0], ["x", b"", 1, 0], [-1, b"", 1, 0], [0, b"", -1, 0], [0, "", 1, 0]])
def test_a_malformed_hello_is_refused(hello: list[Any]) -> None:
    client = Client(Desk())
    client.connection.receive(PREFACE)
    client.send(hello)
    (refusal,) = client.take()
    assert refusal[0] == ProtocolError.code and client.closed


def test_without_a_session_a_connection_reads_but_does_not_write() -> None:
    desk = Desk()
    client = Client(desk)
    client.connection.receive(PREFACE)
    client.send([0, b"", 0, 0], [STATUS, -1], [CREATE, 1, 0, "/a", b"", 0])
    got = client.take()
    assert got[0][:2] == [OK, 0] and got[1][:2] == [-1, OK]
    assert got[2][:2] == [0, BadArguments.code] and client.closed


def test_after_a_reattach_writes_are_answered_from_what_the_session_remembers() -> None:
    """A write sent again on a new connection happens once (RELIABILITY 49)."""
    desk, client = connected()
    client.send([CREATE, 1, 0, "/a", b"", 0])
    desk.apply(client.connection)
    again = Client(desk)
    again.connection.receive(PREFACE)
    again.send([1, PASSWORD, 10_000, 2])
    assert desk.attaching == [(1, PASSWORD)]
    desk.machine.owners[1] = desk.connection = again.connection
    again.connection.attached(1, PASSWORD, 10_000, 1, fresh=False)
    again.send([CREATE, 1, 0, "/a", b"", 0], [CREATE, 2, 1, "/b", b"", 0])
    desk.apply(again.connection)
    assert codes(again.take()[1:]) == [(1, OK), (2, OK)]


def test_an_expired_session_is_told_and_its_connection_closed() -> None:
    _, client = connected()
    client.send([CREATE, 1, 0, "/a", b"", 0])
    client.connection.on_session_ended(9, expired=True)
    got = client.take()
    assert got == [[0, SessionExpired.code, 9, "session 1"]]
    assert client.closed


def test_a_client_with_too_much_in_flight_is_not_read_until_it_drains() -> None:
    """Back-pressure through TCP, instead of memory that grows."""
    desk, client = connected()
    client.send(*([CREATE, serial, 0, f"/k{serial}", b"", 0] for serial in range(1, REQUESTS_IN_FLIGHT_MAX + 2)))
    assert client.paused
    desk.apply(client.connection)
    assert not client.paused


def test_a_few_large_requests_that_wait_stop_the_reading_as_well() -> None:
    """Without a leader nothing is answered, and a thousand transactions would be gigabytes."""
    desk, client = connected()
    serial = 0
    while serial * 3 * VALUE_BYTES_MAX <= HELD_BYTES_MAX:
        assert not client.paused
        serial += 1
        client.send([MULTI, serial, 0, [[CREATE, f"/{serial}-{part}", bytes(VALUE_BYTES_MAX), 0] for part in range(3)]])
    assert client.paused
    desk.apply(client.connection)
    assert not client.paused
    assert codes(client.take()) == [(done, OK) for done in range(1, serial + 1)]


def test_a_client_that_does_not_read_is_disconnected() -> None:
    desk, client = connected()
    client.stuck_bytes = 1 << 30
    client.send([GET, -1, "/", LOCAL])
    assert client.closed and desk.lost == [client.connection]


def test_a_full_disk_refuses_writes_with_the_reason_and_keeps_their_serial() -> None:
    """R12: nothing is proposed, local reads go on, and the same write is taken when there is room."""
    desk, client = connected()
    desk.read_only = "log.new: cannot create: the disk is full"
    client.send([CREATE, 1, 0, "/a", b"1", 0], [GET, -1, "/", LOCAL])
    refused, read = client.take()
    assert refused == [1, DiskFull.code, desk.machine.applied, desk.read_only]
    assert read[:2] == [-1, OK] and desk.proposed == []
    desk.read_only = None
    client.send([CREATE, 1, 0, "/a", b"1", 0])
    desk.apply(client.connection)
    assert codes(client.take()) == [(1, OK)]


def test_a_full_disk_ends_a_connection_whose_earlier_writes_wait() -> None:
    """Their answers may never come here: the client takes them elsewhere, all of them, in order."""
    desk, client = connected()
    client.send([CREATE, 1, 0, "/a", b"1", 0])
    desk.read_only = "full"
    client.send([CREATE, 2, 0, "/b", b"1", 0])
    assert codes(client.take()) == [(0, DiskFull.code)]
    assert client.connection.closed


@pytest.mark.parametrize("hello", [[0, b"", 10_000, 0], [7, PASSWORD, 10_000, 0]])
def test_a_full_disk_takes_no_sessions(hello: list[Any]) -> None:
    """Opening one is a write, and to take one over is to be up to date."""
    desk = Desk()
    desk.read_only = "full"
    client = Client(desk)
    client.connection.receive(PREFACE)
    client.send(hello)
    assert client.take() == [[DiskFull.code, "full"]]
    assert desk.proposed == [] and desk.attaching == [] and client.connection.closed


def test_an_admin_request_is_answered_when_its_answer_is_there() -> None:
    """Out of turn: it may wait for the leader or the disk, and nothing else of the connection waits with it."""
    desk, client = connected()
    client.send([ADMIN, -1, "configuration", {}], [STATUS, -2])
    assert codes(client.take()) == [(-2, OK)]
    ((name, arguments, local, done),) = desk.administrating
    assert (name, arguments, local) == ("configuration", {}, False)
    done(OK, {"voters": ["n1"]})
    assert [(message[:2], message[3]) for message in client.take()] == [([-1, OK], {"voters": ["n1"]})]


def test_admin_requests_of_a_connection_are_bounded() -> None:
    """Each may be work for the leader; one that was answered makes room."""
    desk, client = connected()
    client.send(*([ADMIN, -1 - number, "configuration", {}] for number in range(ADMIN_IN_FLIGHT_MAX + 1)))
    assert codes(client.take()) == [(-1 - ADMIN_IN_FLIGHT_MAX, Busy.code)]
    desk.administrating.pop()[3](OK, {})
    client.take()
    client.send([ADMIN, -50, "configuration", {}])
    assert client.take() == [] and len(desk.administrating) == ADMIN_IN_FLIGHT_MAX


@pytest.mark.parametrize("request_", [[ADMIN, -1], [ADMIN, -1, 5, {}], [ADMIN, -1, "configuration", []]])
def test_an_admin_request_of_another_shape_is_refused(request_: list[Any]) -> None:
    """And concerns nothing but itself."""
    desk, client = connected()
    client.send(request_)
    assert codes(client.take()) == [(-1, BadArguments.code)]
    assert desk.administrating == []


def test_an_answer_for_an_administrator_who_has_left_is_dropped() -> None:
    """The leader may answer long after the connection is gone."""
    desk, client = connected()
    client.send([ADMIN, -1, "configuration", {}])
    client.connection.lost()
    desk.administrating[0][3](OK, {})
    assert client.take() == []


def test_a_burst_of_small_requests_for_a_large_value_is_cut_off() -> None:
    """Thousands of them fit into one frame: their answers must not all be made."""
    desk, client = connected()
    client.send([CREATE, 1, 0, "/a", bytes(VALUE_BYTES_MAX), 0])
    desk.apply(client.connection)
    written = 0

    def write(data: bytes) -> None:
        nonlocal written
        written += len(data)
        client.stuck_bytes = written

    client.write = write  # type: ignore[method-assign]
    client.send(*[[GET, -1 - number, "/a", LOCAL] for number in range(5000)])
    assert client.closed and written < OUTGOING_BYTES_MAX + 2 * VALUE_BYTES_MAX


# Permissions.

ALICE = digest_id("alice:secret")
OPEN_ENTRIES = [[31, "world", "anyone"]]


def test_an_identity_holds_for_what_comes_after_it_and_is_answered_in_turn() -> None:
    """A client need not wait for the answer: the write behind it is already somebody's."""
    desk, client = connected()
    client.send(
        [CREATE, 1, 0, "/k", b"", 0],
        [AUTH, -1, "digest", b"alice:secret"],
        [CREATE, 2, 0, "/mine", b"", 0, [[31, "auth", ""]], 0],
        [WHO_AM_I, -2],
        [GET_ACL, -3, "/mine", LOCAL],
    )
    desk.apply(client.connection)
    got = client.take()
    assert codes(got) == [(1, OK), (-1, OK), (2, OK), (-2, OK), (-3, OK)]
    assert got[3][3] == [["ip", "192.0.2.1"], ["digest", "alice"]]
    assert got[4][3] == [[31, "digest", digest_id("alice:secret")]]


def test_only_writes_of_somebody_else_than_the_session_say_who_asks() -> None:
    """The usual write is no longer than before."""
    desk, client = connected()
    desk.machine.sessions[1].ids = client.connection.ids
    client.send([SET, 1, 0, "/", b"", -1], [AUTH, -1, "digest", b"a:b"], [SET, 2, 0, "/", b"", -1])
    plain, identified = (msgpack.unpackb(command) for command in desk.proposed)
    assert plain == [SET, 1, 1, 0, "/", b"", -1]
    assert identified[0] == SET | IDENTIFIED
    assert identified[-1] == [["ip", "192.0.2.1"], ["digest", digest_id("a:b")]]


def test_a_session_taken_up_by_somebody_else_says_so_in_its_writes() -> None:
    """The session remembers who opened it, not who has it now."""
    desk, _ = connected()
    other = Client(desk)
    other.connection.ids = (("ip", "198.51.100.1"),)
    desk.connection = other.connection
    other.connection.receive(PREFACE)
    other.send([1, PASSWORD, 10_000, 0])
    other.connection.attached(1, PASSWORD, 10_000, 0, fresh=False)
    other.send([SET, 1, 0, "/", b"", -1])
    assert msgpack.unpackb(desk.proposed[-1])[-1] == [["ip", "198.51.100.1"]]


@pytest.mark.parametrize(
    ("credentials", "error"),
    [
        (["digest", b"hush"], AuthFailed),
        (["digest", b":hush"], AuthFailed),
        (["digest", b"\xff:hush"], AuthFailed),
        (["digest", b"a:" + bytes(2000)], AuthFailed),
        (["kerberos", b"hush"], AuthFailed),
        (["x509", b"hush"], AuthFailed),
        (["digest", "a:b"], BadArguments),
        (["digest"], BadArguments),
    ],
)
def test_bad_credentials_change_nothing(credentials: list[Any], error: type[JkcsError]) -> None:
    """And leave the connection as it was: the client is told by name, without its secret."""
    _, client = connected()
    before = client.connection.ids
    client.send([AUTH, -1, *credentials])
    (answer,) = client.take()
    assert answer[:2] == [-1, error.code] and "hush" not in answer[3]
    assert client.connection.ids == before and not client.closed


def test_the_super_digest_may_do_everything() -> None:
    desk, client = connected()
    desk.super_digest = digest_id("root:secret")
    client.send([CREATE, 1, 0, "/k", b"", 0, [[1, "digest", ALICE]], 0], [GET, -1, "/k", LOCAL])
    client.send([AUTH, -2, "digest", b"root:secret"], [GET, -3, "/k", LOCAL], [SET, 2, 0, "/k", b"x", -1])
    desk.apply(client.connection)
    got = client.take()
    # The read before it may be looked at after it.
    assert [message[0] for message in got] == [1, -1, -2, -3, 2] and codes(got)[2:] == [(-2, OK), (-3, OK), (2, OK)]


@pytest.mark.parametrize(
    ("write", "error"),
    [
        ([CREATE, "/k", b"", 0, [[31, "auth", ""]], 0], InvalidAcl),
        ([CREATE, "/k", b"", 0, [[31, "digest", "not a hash"]], 0], InvalidAcl),
        ([CREATE, "/k", b"", 0, [[31, "ip", "300.1.1.1"]], 0], InvalidAcl),
        ([CREATE, "/k", b"", 0, [[32, "world", "anyone"]], 0], BadArguments),
        ([SET_ACL, "/", [[31, "world", "somebody"]], -1], InvalidAcl),
        ([SET_ACL, "/", [[1, "x509", "s"]] * 300, -1], TooLarge),
        ([SEQUENCE, "/", -1], BadArguments),
        ([SEQUENCE, "/", 2**61 + 1], BadArguments),
    ],
)
def test_a_list_that_names_nobody_is_refused_and_takes_its_serial(write: list[Any], error: type[JkcsError]) -> None:
    """Alone and in a transaction, where its place is named; what comes after it goes on."""
    desk, client = connected()
    op, *arguments = write
    free = [CREATE, "/free", b"", 0]
    client.send([op, 1, 0, *arguments], [MULTI, 2, 0, [free, write]], [SET, 3, 0, "/", b"", -1])
    desk.apply(client.connection)
    got = client.take()
    assert codes(got) == [(1, error.code), (2, error.code), (3, OK)]
    assert got[1][3].startswith("1: ")


def test_auth_in_a_transaction_stands_for_the_clients_identities() -> None:
    desk, client = connected()
    client.send(
        [AUTH, -1, "digest", b"a:b"],
        [MULTI, 1, 0, [[CREATE, "/k", b"", 0], [SET_ACL, "/k", [[3, "auth", ""], [1, "world", "anyone"]], -1]]],
        [GET_ACL, -2, "/k", LOCAL],
    )
    desk.apply(client.connection)
    got = client.take()
    # Without ADMIN on the key the hash is hidden, even one's own.
    assert got[2][0] == -2 and got[2][3] == [[3, "digest", "a:x"], [1, "world", "anyone"]]


def test_own_ephemeral_keys_are_those_of_the_session_below_the_path() -> None:
    desk, client = connected()
    for serial, path in enumerate(("/b", "/bb", "/a"), start=1):
        client.send([CREATE, serial, 0, path, b"", 1])
    desk.apply(client.connection)
    client.take()
    client.send([EPHEMERALS, -1, "/", LOCAL], [EPHEMERALS, -2, "/b", LOCAL], [EPHEMERALS, -3, "/none", LOCAL])
    assert [message[3] for message in client.take()] == [["/a", "/b", "/bb"], ["/b"], []]


def test_reads_with_a_level_wait_for_their_round_unless_it_is_local() -> None:
    """All of those that say how fresh the answer must be."""
    desk, client = connected()
    linearizable = [
        [GET_ACL, -1, "/", LINEARIZABLE],
        [CHILDREN_PAGE, -2, "/", LINEARIZABLE, "", 5],
        [EPHEMERALS, -3, "/", LINEARIZABLE],
        [COUNT, -4, "/", LINEARIZABLE],
    ]
    client.send(*linearizable)
    assert client.take() == []
    desk.confirm(client.connection)
    assert codes(client.take()) == [(-1, OK), (-2, OK), (-3, OK), (-4, OK)]
    client.send(*[[op, number - 10, path, LOCAL, *rest] for op, number, path, _, *rest in linearizable])
    assert codes(client.take()) == [(-11, OK), (-12, OK), (-13, OK), (-14, OK)]


def test_the_audit_log_tells_of_refusals_and_of_changes_of_rights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jkcs_server.audit")
    desk, client = connected()
    client.send(
        [CREATE, 1, 0, "/k", b"", 0],
        [MULTI, 2, 1, [[SET, "/k", b"1", -1], [SET_ACL, "/k", [[16, "ip", "192.0.2.1"]], -1]]],
        [SET, 3, 2, "/k", b"2", -1],
        [GET, -1, "/k", LOCAL],
        [AUTH, -2, "digest", b"no password"],
    )
    desk.apply(client.connection)
    client.connection.denied(WrongPassword("session 7"))
    told = [line.split("operation=")[1] for line in caplog.messages]
    assert told == [
        "set_acl znode=/k result=invoked",
        "auth scheme=digest result=failure",
        "write znode=/k result=failure",
        "read znode=/k result=failure",
        "auth scheme=session result=failure",
    ]
    assert all("no password" not in line for line in caplog.messages)
