"""One client's connection in ZooKeeper's protocol, without I/O.

Bytes come in through `receive`, answers and events go out through a `Sink`, in one order (see `lane`). Writes go
through the log, with serials that this side gives; reads are answered from the tree of this server, as ZooKeeper does.
What records look like and what they mean is said in `zookeeper_writes` and `zookeeper_reads`.

A client that comes back has its session moved by a command of its own (`Desk.move`), which makes whatever its earlier
connection left in flight void: this protocol cannot say which writes those were.
"""

from __future__ import annotations

import hmac
from collections import deque
from typing import Any

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK, AuthFailed, JkcsError, NoAuth, ProtocolError, SessionExpired
from jkcs_client.protocol.framing import pack
from jkcs_client.protocol.jute import CONNECT, FAULTS, HEAD, INT, REQUEST, read_buffer, read_int, read_text
from jkcs_client.protocol.messages import CLOSE
from jkcs_server.serving import zookeeper_answers as answers
from jkcs_server.serving.connection import Desk, Sink
from jkcs_server.serving.credentials import with_credentials
from jkcs_server.serving.endpoint import Endpoint
from jkcs_server.serving.lane import Lane
from jkcs_server.serving.zookeeper_reads import READS, usual_get_data
from jkcs_server.serving.zookeeper_reconfig import Reconfig
from jkcs_server.serving.zookeeper_watches import ZooKeeperWatches
from jkcs_server.serving.zookeeper_writes import WRITES, Multi
from jkcs_server.tree.commands import IDENTIFIED
from jkcs_server.tree.keytree import KeyTree

_LENGTH_BYTES = 4
_NO_PASSWORD = bytes(zk.PASSWORD_BYTES)
_unpack_int = INT.unpack_from
_unpack_head = HEAD.unpack_from

# What waits in the lane is xid, operation, and what it needs beyond; these two are no operations.
_HELLO = -100
_FAILED = -101


class ZooKeeperConnection(Endpoint):
    """A connection from its connect request to its end. `session` is 0 until that is answered."""

    __slots__ = ("_buffer", "_knows_read_only", "_needed", "_pending", "_proven", "_told_turn", "lane", "watches")

    def __init__(self, desk: Desk, sink: Sink) -> None:
        super().__init__(desk, sink)
        self._buffer = bytearray()
        """The beginning of a frame; while the session is not there, everything behind the connect request."""
        self._needed = _LENGTH_BYTES
        """Bytes in the buffer without which there is nothing to be read."""
        self._proven = self.ids
        """Who the connection itself says that the client is."""
        self._knows_read_only = False
        """The client sent the flag of servers that only read, and wants it in the answer."""
        self._pending: deque[tuple[int, int, Multi | None]] = deque()
        """Xid and operation of the writes on their way, oldest first."""
        self._told_turn = 0
        """The desk's turn in which the leader was last asked to hear of this session."""
        self.lane = Lane(self)
        self.watches = ZooKeeperWatches(desk.hub, self)

    @property
    def tree(self) -> KeyTree:
        return self._desk.machine.tree

    # Bytes in.

    def receive(self, data: bytes) -> None:
        """Take what the client sent. What does not follow the protocol ends this connection, and no other."""
        desk = self._desk
        turn = desk.turn
        if self.greeted:
            # Not before: whoever sends its connect request a byte at a time has no more time for it than others.
            self.heard_turn = turn
        buffer = self._buffer
        if buffer or self._is_waiting:
            buffer += data
            if not self._is_waiting:
                if len(buffer) < self._needed:
                    return
                data = bytes(buffer)
                buffer.clear()
                self._read(data)
        else:
            self._read(data)
        if self._out:
            self.flush()
        if self.closed:
            return
        if self.session and (turn - self._told_turn) * 1000 >= self.timeout_ms:
            # Every request is a sign of life; a quarter of the timeout may pass until the leader hears of it.
            self._told_turn = turn
            desk.touch(self.session)
            desk.join_round(self)
        if self._is_waiting and len(buffer) > zk.FRAME_BYTES_MAX:
            self._throttle.pause()
        elif self.lane:
            self._throttle.took(len(data), len(self.lane), overloaded=desk.overloaded)

    @property
    def _is_waiting(self) -> bool:
        """The connect request is not answered yet."""
        return self.greeted and not self.session

    def _read(self, data: bytes) -> None:
        """Take the frames that are whole, and keep the rest."""
        at = 0
        try:
            if not self.session:
                at = self._read_hello(data)
            if self.session:
                at = self._read_requests(data, at)
        except FAULTS:
            # A request without a head, or no request at all: ZooKeeper closes without a word, too.
            self.close()
        if at < len(data) and not self.closed:
            self._buffer += data[at:]

    def _read_hello(self, data: bytes) -> int:
        """Take the connect request when it is whole. Returns the place behind what was taken."""
        if self.greeted or len(data) < _LENGTH_BYTES:
            return 0
        length: int = _unpack_int(data)[0]
        if not 0 < length <= zk.FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {length} bytes")
        self._needed = _LENGTH_BYTES + length
        if len(data) < self._needed:
            return 0
        self.figures.came(1, self._desk.now())
        self._hello(data[_LENGTH_BYTES : self._needed])
        return _LENGTH_BYTES + length

    def _read_requests(self, data: bytes, at: int) -> int:
        """Take the requests that are whole. Returns the place behind them."""
        size, count, last = len(data), 0, 0
        take = self._take
        self._needed = _LENGTH_BYTES
        while (left := size - at) >= _LENGTH_BYTES:
            if left >= HEAD.size:
                length, xid, op = _unpack_head(data, at)
            else:
                (length,) = _unpack_int(data, at)
            if not REQUEST.size <= length <= zk.FRAME_BYTES_MAX:
                raise ProtocolError(f"a request of {length} bytes")
            end = at + _LENGTH_BYTES + length
            if end > size:
                self._needed = _LENGTH_BYTES + length
                break
            count += 1
            last = op
            take(xid, op, data[at + _LENGTH_BYTES : end])
            at = end
            if self.closed:
                break
        if count:
            figures = self.figures
            figures.came(count, self._desk.now())
            figures.last_operation = zk.OP_NAMES.get(last, "NA")
        return at

    def _take(self, xid: int, op: int, body: bytes) -> None:
        parse = WRITES.get(op)
        try:
            if parse is not None:
                self._write(xid, op, parse(body, REQUEST.size, self.ids)[0], None)
            elif op in READS:
                self._read_request(xid, op, body)
            else:
                self._other(xid, op, body)
        except FAULTS:
            self.close() if op == zk.AUTH else self._fail(xid, zk.MARSHALLING_ERROR)
        except JkcsError as error:
            self._fail(xid, answers.code_of(error.code))

    # The connect request.

    def _hello(self, body: bytes) -> None:
        _, seen, timeout_ms, session = CONNECT.unpack_from(body)
        password, at = read_buffer(body, CONNECT.size)
        self._knows_read_only = len(body) > at
        self.greeted = True
        desk = self._desk
        if desk.read_only:
            # To be attached is to be up to date, and to be opened is a write: both need the log.
            self.close()
            return
        if session:
            desk.touch(session)
        elif seen <= desk.machine.applied:
            desk.open_session(self, max(timeout_ms, 0))
            return
        self.lane.round_read(desk.join_round(self), (0, _HELLO, (seen, timeout_ms, session, password)))

    def _finish_hello(self, seen: int, timeout_ms: int, session_id: int, password: bytes) -> None:
        """A round has passed: this server knows all that had happened when the client came."""
        machine = self._desk.machine
        if seen > machine.applied:
            # It has seen what is not in this cluster. ZooKeeper says nothing either.
            self.close()
        elif not session_id:
            self._desk.open_session(self, max(timeout_ms, 0))
        else:
            session = machine.sessions.get(session_id)
            if session is not None and hmac.compare_digest(session.password, password):
                self._desk.move(self, session_id)
                return
            if session is not None:
                self._desk.audit.login_failed(self, "session")
            self.denied(SessionExpired(f"session {session_id}"))

    def attached(self, session: int, password: bytes, timeout_ms: int, serial: int, *, fresh: bool) -> None:
        """The session is there and this connection owns it."""
        self.session = session
        self.timeout_ms = timeout_ms
        self.next_serial = serial + 1
        self._told_turn = self._desk.turn
        self._with_ids = not fresh and self._desk.machine.sessions[session].ids != self.ids
        self._emit(answers.connected(session, timeout_ms, password, self._knows_read_only))
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._read(data)

    def moved_again(self, serial: int) -> None:
        """The session's serial has jumped: what was on its way will not be applied."""
        if self._pending:
            self.close()
        else:
            self.next_serial = serial + 1

    def denied(self, error: JkcsError) -> None:
        """There will be no session. A client that hears so makes a new one; only if its own is gone may it hear it."""
        if isinstance(error, SessionExpired):
            self._emit(answers.connected(0, 0, _NO_PASSWORD, self._knows_read_only))
        self.close()

    def refuse(self, error: JkcsError) -> None:
        """The protocol has no words for it: a client that loses its connection comes back."""
        self.close()

    # Requests.

    def _write(self, xid: int, op: int, command: tuple[Any, ...], multi: Multi | None) -> None:
        desk = self._desk
        if desk.read_only:
            # What was proposed before may go through; elsewhere the client is answered.
            self.close()
            return
        if op == zk.SET_ACL:
            desk.audit.rights_changed(self, command[1])
        serial = self.next_serial
        self.next_serial = serial + 1
        self._pending.append((xid, op, multi))
        lane = self.lane
        if not lane:
            self.moved_turn = desk.turn
        # The server that has the connection is told of each outcome as it is applied: none need be kept for it.
        if self._with_ids and command[0] != CLOSE:
            packed = pack((command[0] | IDENTIFIED, self.session, serial, serial - 1, *command[1:], self.ids))
        else:
            packed = pack((command[0], self.session, serial, serial - 1, *command[1:]))
        lane.write(serial, packed)

    def _read_request(self, xid: int, op: int, body: bytes) -> None:
        lane = self.lane
        if op == zk.GET_DATA and not lane:
            machine = self._desk.machine
            packed = usual_get_data(machine.tree, machine.applied, xid, body)
            if packed is not None:
                self._emit(packed)
                return
        arguments, _ = READS[op][0](body, REQUEST.size)
        if op == zk.SYNC:
            lane.round_read(self._desk.join_round(self), (xid, op, arguments))
        elif lane:
            lane.local_read((xid, op, arguments))
        else:
            self.answer((xid, op, arguments))

    def _other(self, xid: int, op: int, body: bytes) -> None:
        if op == zk.PING:
            # Answered by the leader's word, so that a client may count on its session from when it sent this.
            self._told_turn = self._desk.turn
            self._desk.touch(self.session)
            self.lane.round_read(self._desk.join_round(self), (zk.PING_XID, op, ()))
        elif op == zk.MULTI:
            multi = Multi(body, REQUEST.size, self.ids)
            self._write(xid, op, multi.command, multi)
        elif op == zk.AUTH:
            self._authenticate(xid, body)
        elif op == zk.RECONFIG:
            self._reconfigure(xid, body)
        elif op == zk.DELETE_CONTAINER:
            self._fail(xid, zk.BAD_ARGUMENTS)  # the cluster's own affair
        elif op == zk.SASL:
            self._answer_and_close(xid, zk.AUTH_FAILED)
        else:
            self._answer_and_close(xid, zk.UNIMPLEMENTED)

    def _authenticate(self, xid: int, body: bytes) -> None:
        """Answered at once, whatever waits: it holds for what comes after it."""
        _, at = read_int(body, REQUEST.size)
        scheme, at = read_text(body, at)
        credentials, at = read_buffer(body, at)
        try:
            ids = with_credentials(self.ids, scheme, credentials, self._proven, self._desk.super_digest)
        except AuthFailed:
            self._desk.audit.login_failed(self, scheme)
            self._answer_and_close(xid, zk.AUTH_FAILED)
            return
        if ids != self.ids:
            self.ids = ids
            self._with_ids = True
        self._emit(answers.error(xid, 0, OK))

    def _answer_and_close(self, xid: int, code: int) -> None:
        self._emit(answers.error(xid, 0, code))
        self.close()

    def _fail(self, xid: int, code: int) -> None:
        """Answer with an error, when it is the request's turn."""
        if self.lane:
            self.lane.local_read((xid, _FAILED, code))
        else:
            self.answer((xid, _FAILED, code))

    def _reconfigure(self, xid: int, body: bytes) -> None:
        """Goes to the leader; what comes after it waits, because answers come in order."""
        change = Reconfig(body, REQUEST.size)
        request = (xid, zk.RECONFIG, change)

        def done() -> None:
            if not self.closed:
                self.lane.finish(request)
                self.lane.drain(self._desk.confirmed_round)
                self.flush()

        self.lane.task(request)
        change.run(self._desk, self.tree, self.ids, self._sink.is_local(), done)

    # What the lane asks for (lane.Front).

    def propose(self, request: Any) -> None:
        self._desk.propose(request)

    def answer(self, request: Any) -> None:
        """Evaluate a read at this moment and answer it."""
        if self.closed:
            return
        xid, op, arguments = request
        zxid = self._desk.machine.applied
        read = READS.get(op)
        try:
            if read is not None:
                self._emit(answers.reply(xid, zxid, read[1](self, *arguments)))
            else:
                self._answer_other(xid, op, arguments, zxid)
        except JkcsError as error:
            self._emit(answers.error(xid, zxid, answers.code_of(error.code)))
            if error.code == NoAuth.code:
                self._desk.audit.refused(self, "read", error.detail)

    def _answer_other(self, xid: int, op: int, arguments: Any, zxid: int) -> None:
        if op == _FAILED:
            self._emit(answers.error(xid, zxid, arguments))
        elif op == zk.PING:
            self._emit(answers.error(xid, zxid, OK))
        elif op == zk.RECONFIG:
            self._emit(answers.reply(xid, zxid, arguments.answer(self.tree)))
        else:
            assert op == _HELLO, op
            self._finish_hello(*arguments)

    # What the tree tells while it applies (tree.machine.Owner), and the hub (watches.Watcher).

    def on_outcome(self, serial: int, code: int, index: int, result: Any) -> None:
        lane = self.lane
        if not lane.outcome(serial):
            return
        self.moved_turn = self._desk.turn
        xid, op, multi = self._pending.popleft()
        if multi is not None:
            self._emit(multi.answer(xid, code, index, result))
        elif code == OK:
            self._emit(answers.outcome(op, xid, index, result))
        else:
            self._emit(answers.error(xid, index, answers.code_of(code)))
        if code == NoAuth.code:
            self._desk.audit.refused(self, "write", result if type(result) is str else "")
        if lane:
            lane.drain(self._desk.confirmed_round)

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        if self.watches.fired(watch_id, kind, path):
            self._notified += 1
            self._emit(answers.event(kind, path, index))

    def on_session_ended(self, index: int, *, expired: bool) -> None:
        """The session is over: what it left unanswered will never happen. Closes the connection."""
        self.close()

    # Bytes out.

    def emit(self, packed: bytes) -> None:
        """Send an event that stands before the answer being made."""
        self._notified += 1
        self._emit(packed)

    def _joined(self, out: list[bytes]) -> bytes:
        return out[0] if len(out) == 1 else b"".join(out)

    def _unanswered(self) -> int:
        return len(self.lane)
