"""One client's connection in the native protocol, without I/O.

Bytes come in through `receive`, answers and events go out through a `Sink`, in one order (see `lane`).
The tree is read here; everything that needs the cluster goes through the `Desk`. What a message means is
said in `jkcs_client.protocol.messages`.

This is the path of every request: messages are the lists that msgpack made, answers are packed at once
and leave in one write per turn. A write that is refused here still takes its serial in the log, as a
command without arguments, because the session's serials must stay without a gap.
"""

from __future__ import annotations

from typing import Any

from jkcs_client.protocol.errors import (
    OK,
    AuthFailed,
    BadArguments,
    Busy,
    DiskFull,
    JkcsError,
    NoAuth,
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
    CHILDREN,
    CLOSE,
    FIRST_WRITE,
    GET,
    LOCAL,
    MAGIC,
    MULTI,
    MULTI_RESULTS_MAX,
    PING,
    PREFACE,
    REQUEST_ARRAY_MAX,
    REQUEST_ARRAYS_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    SET_ACL,
    SYNC,
    VALUE_BYTES_MAX,
    VERSION,
)
from jkcs_server.serving.connection import Desk, Sink
from jkcs_server.serving.credentials import with_credentials
from jkcs_server.serving.endpoint import Endpoint
from jkcs_server.serving.lane import Lane
from jkcs_server.serving.native_reads import LEVELLED, READS
from jkcs_server.serving.native_writes import fixed
from jkcs_server.tree.acl import READ, allows
from jkcs_server.tree.checks import check_path, check_write
from jkcs_server.tree.commands import IDENTIFIED

_USUAL_FIELDS = 6
"""Of a write without a list, but those from MULTI on: opcode, serial, acked and up to three arguments."""

_REFUSED = 0
"""Opcode of the empty command that a refused write becomes: the tree knows no such operation."""


class NativeConnection(Endpoint):
    """A connection from its preface to its end. `session` is 0 until the hello is answered, or for ever."""

    __slots__ = ("_admin_open", "_decoder", "_preface", "_refusals", "_waiting", "lane")

    def __init__(self, desk: Desk, sink: Sink) -> None:
        super().__init__(desk, sink)
        self._decoder = FrameDecoder(array_max=REQUEST_ARRAY_MAX, arrays_max=REQUEST_ARRAYS_MAX)
        self._preface = b""
        self._waiting: list[list[Any]] | None = None
        """Requests that came before their session was there."""
        self._refusals: dict[int, JkcsError] = {}
        """Why a write was refused here, until its empty command comes out of the log."""
        self._admin_open = 0
        """ADMIN requests without an answer."""
        self.lane = Lane(self)

    # Bytes in.

    def receive(self, data: bytes) -> None:
        """Take what the client sent. What does not follow the protocol ends this connection, and no other."""
        if self.greeted:
            # Not before: whoever says hello a byte at a time has no more time for it than others.
            self.heard_turn = self._desk.turn
        try:
            if len(self._preface) < len(PREFACE):
                data = self._read_preface(data)
                if not data:
                    return
            messages = self._decoder.feed(data)
            self.figures.came(len(messages), self._desk.now())
            for message in messages:
                self._take(message)
                if self.closed:
                    return
        except JkcsError as error:
            self.refuse(error)
            return
        if self._out:
            self.flush()
        if self.lane or self._waiting:
            self._throttle.took(len(data), self._unanswered(), overloaded=self._desk.overloaded)

    def _read_preface(self, data: bytes) -> bytes:
        missing = len(PREFACE) - len(self._preface)
        self._preface += data[:missing]
        seen = self._preface
        if not MAGIC.startswith(seen[: len(MAGIC)]):
            raise ProtocolError(f"not a JKCS client: a connection starts with {MAGIC!r}, not {seen[: len(MAGIC)]!r}")
        if len(seen) == len(PREFACE) and seen != PREFACE:
            raise ProtocolError(f"protocol version {seen[-1]} is not spoken here: version {VERSION} is")
        return data[missing:]

    def _take(self, message: list[Any]) -> None:
        if not self.greeted:
            self._hello(message)
        elif self._waiting is not None:
            if len(self._waiting) >= REQUESTS_IN_FLIGHT_MAX:
                raise ProtocolError("too many requests before the hello was answered")
            self._waiting.append(message)
        else:
            self._request(message)

    def _hello(self, message: list[Any]) -> None:
        shape = [type(field) for field in message]
        if shape != [int, bytes, int, int] or message[0] < 0 or message[2] < 0:
            raise ProtocolError("a hello is [session id, password, timeout in ms, highest index seen]")
        session, password, timeout_ms, _seen = message
        self.greeted = True
        read_only = self._desk.read_only
        if read_only and (session or timeout_ms):
            # To be attached is to be up to date, and to be opened is a write: both need the log.
            self.denied(DiskFull(read_only))
        elif session:
            # The round that the desk runs for it covers whatever the client has seen anywhere.
            self._waiting = []
            self._desk.attach(self, session, password)
        elif timeout_ms:
            self._waiting = []
            self._desk.open_session(self, timeout_ms)
        else:
            self._greet(b"", 0, 0)

    # The desk's answers to a hello.

    def attached(self, session: int, password: bytes, timeout_ms: int, serial: int, *, fresh: bool) -> None:
        """The session is there and this connection owns it."""
        self.session = session
        self.timeout_ms = timeout_ms
        self.next_serial = 1 if fresh else 0
        self._with_ids = not fresh and self._desk.machine.sessions[session].ids != self.ids
        self._greet(password, timeout_ms, serial)
        waiting, self._waiting = self._waiting or [], None
        try:
            for message in waiting:
                self._request(message)
        except JkcsError as error:
            self.refuse(error)

    def moved_again(self, serial: int) -> None:
        """Never: this protocol's clients number their writes themselves, and nothing moves their sessions here."""
        raise AssertionError(serial)

    def denied(self, error: JkcsError) -> None:
        """There will be no session for this hello."""
        if error.code == WrongPassword.code:
            self._desk.audit.login_failed(self, "session")
        self._emit(pack((error.code, error.detail)))
        self.close()

    def _greet(self, password: bytes, timeout_ms: int, serial: int) -> None:
        desk = self._desk
        index = desk.machine.applied
        limits = (VALUE_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX)
        self._emit(pack((OK, self.session, password, timeout_ms, index, desk.node, *limits, serial)))

    def refuse(self, error: JkcsError) -> None:
        """Say why and close. Whatever was not answered stays unanswered. A stranger's protocol is not answered."""
        if not self.closed:
            if self.greeted:
                self._emit(pack((0, error.code, self._desk.machine.applied, error.detail)))
            elif MAGIC.startswith(self._preface[: len(MAGIC)]):
                self._emit(pack((error.code, error.detail)))
            self.close()

    # Requests.

    def _request(self, message: list[Any]) -> None:
        try:
            op, number = message[0], message[1]
        except IndexError:
            raise ProtocolError("a request is [op, id, ...]") from None
        if type(op) is not int or type(number) is not int:
            raise ProtocolError("a request starts with two integers: op and id")
        if op >= FIRST_WRITE:
            self._write(op, number, message)
            return
        if number >= 0:
            raise ProtocolError(f"a read's id is negative, not {number}")
        lane = self.lane
        if op <= CHILDREN or op in LEVELLED:
            if len(message) > 3 and message[3] == LOCAL:
                if lane:
                    lane.local_read(message)
                else:
                    self.answer(message)
                return
            lane.round_read(self._desk.join_round(self), message)
        elif op in (PING, SYNC):
            if op == PING and self.session:
                self._desk.touch(self.session)
            lane.round_read(self._desk.join_round(self), message)
        elif op == ADMIN:
            self._administrate(number, message[2:])
        else:
            if op == AUTH:
                # The credentials go no further.
                message[2:] = [self._authenticate(message[2:])]
            self._local_read(message)

    def _local_read(self, message: list[Any]) -> None:
        lane = self.lane
        if lane:
            lane.local_read(message)
        else:
            self.answer(message)

    def _administrate(self, number: int, request: list[Any]) -> None:
        """Hand an ADMIN request on. It may need the leader or the disk: its answer comes when it is there."""

        def done(code: int, result: Any) -> None:
            self._admin_open -= 1
            if not self.closed:
                self._emit(pack((number, code, self._desk.machine.applied, result)))
                self.flush()

        self._admin_open += 1
        if len(request) != 2 or type(request[0]) is not str or type(request[1]) is not dict:
            done(BadArguments.code, "an ADMIN request is [op, id, name, {arguments}]")
        elif self._admin_open > ADMIN_IN_FLIGHT_MAX:
            done(Busy.code, f"{ADMIN_IN_FLIGHT_MAX} ADMIN requests of this connection wait already")
        else:
            self._desk.administrate(request[0], request[1], self._sink.is_local(), done)

    def _write(self, op: int, serial: int, message: list[Any]) -> None:
        if not self.session:
            raise BadArguments("this connection has no session: it can only read")
        if serial != self.next_serial and (self.next_serial or serial <= 0):
            raise ProtocolError(f"write {serial} came where {self.next_serial} was due")
        read_only = self._desk.read_only
        if read_only:
            self._refuse_write(serial, DiskFull(read_only))
            return
        self.next_serial = serial + 1
        try:
            acked = message[2] if len(message) > 2 else None
            if type(acked) is not int or not 0 <= acked < serial:
                raise BadArguments(f"a write is [op, serial, acked, ...], with acked below {serial}")
            check_write(op, message[3:])
            if op >= MULTI or len(message) > _USUAL_FIELDS:
                message[3:] = fixed(op, message[3:], self.ids)
                if op == MULTI and (serial - acked) * len(message[3]) > MULTI_RESULTS_MAX:
                    raise TooLarge(f"{serial - acked} unacknowledged writes, of {len(message[3])} operations each")
                self._tell_of_rights(op, message[3:])
        except JkcsError as error:
            self._refusals[serial] = error
            message = [_REFUSED, serial, 0]
        message.insert(1, self.session)
        if self._with_ids and op != CLOSE and serial not in self._refusals:
            message[0] = op | IDENTIFIED
            message.append(self.ids)
        if not self.lane:
            self.moved_turn = self._desk.turn
        self.lane.write(serial, pack(message))

    def _tell_of_rights(self, op: int, arguments: list[Any]) -> None:
        for step in arguments[0] if op == MULTI else ((op, *arguments),):
            if step[0] == SET_ACL:
                self._desk.audit.rights_changed(self, step[1])

    def _refuse_write(self, serial: int, error: JkcsError) -> None:
        """Do not even propose it: nothing happened, and its serial is still to come."""
        if self.lane:
            # Earlier requests may never be answered here, and this answer must not overtake theirs.
            self.refuse(error)
        else:
            self._emit(pack((serial, error.code, self._desk.machine.applied, error.detail)))

    # What the lane asks for (lane.Front).

    def propose(self, request: Any) -> None:
        self._desk.propose(request)

    def answer(self, request: Any) -> None:
        """Evaluate a read at this moment and answer it."""
        machine = self._desk.machine
        op, number = request[0], request[1]
        try:
            if op == GET:
                node = machine.tree.find(request[2])
                if node is None:
                    check_path(request[2])
                    raise NoNode(request[2])
                if node.acl is not None and not allows(node.acl, READ, self.ids):
                    raise NoAuth(node.path)
                self._emit(pack((number, OK, machine.applied, node.data, node.stat())))
            else:
                self._emit(pack((number, OK, machine.applied, *self._evaluate(op, request))))
        except JkcsError as error:
            self._emit(pack((number, error.code, machine.applied, error.detail)))
            if error.code == NoAuth.code:
                self._desk.audit.refused(self, "read", error.detail)
        except (IndexError, TypeError):
            self._emit(pack((number, BadArguments.code, machine.applied, f"malformed request of op {op}")))

    def _evaluate(self, op: int, request: list[Any]) -> tuple[Any, ...]:
        """The result of a request that is not a write and not GET."""
        read = READS.get(op)
        if read is not None:
            return read(self._desk, self, *request[2:])
        if op == AUTH:
            failure: JkcsError | None = request[2]
            if failure is not None:
                raise failure
            return ()
        raise Unimplemented(f"op {op}")

    def _authenticate(self, credentials: list[Any]) -> JkcsError | None:
        """What they prove holds for whatever comes after them, even if that is looked at before they are answered."""
        try:
            if len(credentials) != 2 or type(credentials[0]) is not str or type(credentials[1]) is not bytes:
                raise BadArguments("an AUTH request is [op, id, scheme, credentials]")
            self._be_also(*credentials)
        except JkcsError as error:
            return error
        return None

    def _be_also(self, scheme: str, credentials: bytes) -> None:
        """Raises AuthFailed."""
        try:
            if scheme == "digest" and b":" not in credentials[1:]:
                raise AuthFailed("credentials of scheme digest are USER:PASSWORD")
            ids = with_credentials(self.ids, scheme, credentials, self._sink.identities(), self._desk.super_digest)
        except AuthFailed:
            self._desk.audit.login_failed(self, scheme)
            raise
        if ids != self.ids:
            self.ids = ids
            self._with_ids = self.session != 0

    # What the tree tells while it applies (tree.machine.Owner), and the hub (watches.Watcher).

    def on_outcome(self, serial: int, code: int, index: int, result: Any) -> None:
        lane = self.lane
        if not lane.outcome(serial):
            return
        self.moved_turn = self._desk.turn
        if code == OK:
            self._emit(pack((serial, OK, index, *result)))
        else:
            refusal = self._refusals.pop(serial, None) if self._refusals else None
            if refusal is not None:
                code, result = refusal.code, refusal.detail
            self._emit(pack((serial, code, index, result)))
            if code == NoAuth.code:
                self._desk.audit.refused(self, "write", result if type(result) is str else "")
        if lane:
            lane.drain(self._desk.confirmed_round)

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        self._notified += 1
        self._emit(pack((0, watch_id, kind, index, path)))

    def on_session_ended(self, index: int, *, expired: bool) -> None:
        """The session is over: what it left unanswered will never happen. Closes the connection."""
        if expired:
            self._emit(pack((0, SessionExpired.code, index, f"session {self.session}")))
        self.close()

    # Bytes out.

    def _joined(self, out: list[bytes]) -> bytes:
        return frame(out)

    def _unanswered(self) -> int:
        return len(self.lane) or len(self._waiting or ())
