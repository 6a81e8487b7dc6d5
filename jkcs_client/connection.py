"""The client's side of the native protocol, without I/O: calls in, bytes out; bytes in, settled calls out.

One object serves a client for its whole life, over all its connections: it keeps the session's identity, the
unanswered requests and the watches. What bytes and messages mean is said in `protocol.messages`. It knows
no sockets and no clock; `session` moves the bytes, says what time it is, and wakes whoever waits.

    sent = connection.open()                  # a connection is there: the hello
    connection.receive(data, now)             # until `greeted`; then answers and events
    connection.data_to_send(now)              # everything that is due, as one frame
    connection.take_woken()                   # requests settled and watches touched since the last time
    connection.on_connection_lost()           # all that was unanswered is due again
"""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import msgpack

from jkcs_client.credentials import Credentials
from jkcs_client.protocol.errors import (
    BY_CODE,
    OK,
    AmbiguousError,
    AuthFailed,
    ProtocolError,
    RetryableError,
    SessionExpired,
    SessionMoved,
    error_for,
)
from jkcs_client.protocol.framing import FrameDecoder, frame
from jkcs_client.protocol.messages import (
    AUTH,
    FRAME_BYTES_MAX,
    IDENTITIES_MAX,
    PING,
    PREFACE,
    REQUESTS_IN_FLIGHT_MAX,
    UNWATCH,
    WATCH,
)
from jkcs_client.requests import Request, RequestTable
from jkcs_client.watches import Watch, WatchTable

FRAME_BYTES_TARGET = 256 * 1024
"""A frame takes no further message once it is this long."""
MESSAGE_BYTES_MAX = FRAME_BYTES_MAX - FRAME_BYTES_TARGET - 1024
"""One request, packed. It still fits into a frame that is one byte short of its target, with the frame's head."""

_UNSERVED = frozenset(
    code for code, error in BY_CODE.items() if issubclass(error, (RetryableError, AmbiguousError, SessionMoved))
)
"""Codes that do not settle a write: another server, or the same one later, will say what became of it."""


class WatchRequest(Request):
    """A WATCH or UNWATCH, which is sent for a watch and not for a call."""

    __slots__ = ("watch",)

    def __init__(self, op: int, watch: Watch) -> None:
        super().__init__(op)
        self.watch = watch


class AuthRequest(Request):
    """An AUTH that a new connection starts with; one for a call is a plain request."""

    __slots__ = ()

    @property
    def is_control(self) -> bool:
        return True


class Connection:
    """See the module."""

    def __init__(self, timeout_ms: int) -> None:
        self.timeout_ms = timeout_ms
        """The session timeout: as asked for, then as the server has set it. 0: no session is wanted."""
        self.session_id = 0
        self.password = b""
        self.node = ""
        """The server that this connection leads to, or the last one did."""
        self.greeted = False
        """The server has accepted the hello on this connection."""
        self.seen_index = 0
        """The highest log index in anything that was received: no server may show an older state."""
        self.complete_index = 0
        """Every event of every watch up to here has come. Invariant: complete_index <= seen_index."""
        self.acknowledged_at = 0.0
        """When the last ping that was answered was sent."""
        self._in_flight_max = REQUESTS_IN_FLIGHT_MAX
        self._decoder = FrameDecoder()
        self._packer = msgpack.Packer(use_bin_type=True)
        """Of its own: a node of the same process may run in another thread."""
        self._requests = RequestTable()
        self._watches = WatchTable()
        self._control: deque[Request] = deque()
        """Pings, watch requests and, before those, credentials: they go ahead of the queue. Empty unless greeted."""
        self._credentials: dict[Credentials, None] = {}
        """What servers have accepted: the next one gets it before anything else."""
        self._unproven = 0
        """How many of them this server has not accepted yet. Above 0 nothing else is sent: it might be refused."""
        self._woken: list[Request | Watch] = []

    @property
    def outstanding(self) -> int:
        """Requests that are queued or in flight."""
        return len(self._requests)

    @property
    def in_flight(self) -> int:
        """Requests that the server has not answered, pings included."""
        return self._requests.in_flight

    @property
    def has_output(self) -> bool:
        """There is something to be sent, or there would be if the server had answered more."""
        return bool(self._control) or self.outstanding > self.in_flight

    @property
    def watch_count(self) -> int:
        """Watches that are not over."""
        return len(self._watches)

    # Calls in.

    def submit(self, request: Request) -> None:
        """Queue a request. Packed, it is at most MESSAGE_BYTES_MAX."""
        self._requests.submit(request)

    def abandon(self, request: Request) -> bool:
        """Nobody waits for it any more. True when it was never sent and is gone now."""
        return self._requests.abandon(request)

    def check_room(self, credentials: Credentials) -> None:
        """Raise AuthFailed when there is no room for more of them."""
        if len(self._credentials) >= IDENTITIES_MAX and credentials not in self._credentials:
            raise AuthFailed(f"at most {IDENTITIES_MAX} identities of one client")

    def ping(self) -> None:
        """Ask for a sign of life, before anything else that is queued."""
        assert self.greeted
        self._control.append(Request(PING))

    def watch(self, watch: Watch) -> None:
        """Register a watch, now and with each server to come, until it is over."""
        self._watches.add(watch)
        if self.greeted:
            self._control.append(WatchRequest(WATCH, watch))

    def unwatch(self, watch: Watch) -> None:
        """Forget a watch; does nothing when it is over already."""
        if watch in self._watches:
            self._watches.remove(watch)
            self._tell_unwatched(watch)

    def _tell_unwatched(self, watch: Watch) -> None:
        if self.greeted:
            self._control.append(WatchRequest(UNWATCH, watch))

    # The connection comes and goes.

    def open(self) -> bytes:
        """A connection is there: what to send on it first."""
        assert not self.greeted
        self._decoder = FrameDecoder()
        hello = (self.session_id, self.password, self.timeout_ms, self.seen_index)
        return PREFACE + frame((self._pack(hello),))

    def on_connection_lost(self) -> int:
        """The connection is gone. Returns how many requests were dropped because nobody waits for them."""
        self.greeted = False
        self._control.clear()
        self._unproven = 0
        dropped, settled = self._requests.on_connection_lost()
        self._woken += settled
        return len(dropped)

    def forget_session(self) -> None:
        """The session that was just given was never used, and will not be: the next hello asks for a new one."""
        assert not self.greeted and not self._requests.last_serial, self._requests.last_serial
        self.session_id, self.password = 0, b""

    def end(self, code: int, detail: str) -> None:
        """The session is over: every request is settled and every watch ended with this error."""
        self._control.clear()
        self.greeted = False
        self._woken += self._requests.settle_all(code, self.seen_index, detail)
        self._woken += self._watches.end_all(code, detail)

    # Bytes out.

    def data_to_send(self, now: float) -> bytes:
        """One frame with what is due, b"" when nothing is. Everything in it counts as sent at `now`."""
        if not self.greeted:
            return b""
        parts: list[bytes] = []
        size = 0
        while self._control and size < FRAME_BYTES_TARGET:
            if self._unproven and not isinstance(self._control[0], AuthRequest):
                break
            part = self._encode(self._control.popleft(), now)
            parts.append(part)
            size += len(part)
        requests = self._requests
        while size < FRAME_BYTES_TARGET and requests.in_flight < self._in_flight_max and not self._unproven:
            request = requests.next_to_send()
            if request is None:
                break
            part = self._encode(request, now)
            parts.append(part)
            size += len(part)
        assert size <= FRAME_BYTES_TARGET + MESSAGE_BYTES_MAX, size
        return frame(parts) if parts else b""

    def _encode(self, request: Request, now: float) -> bytes:
        number = self._requests.send(request, now)
        if request.is_write:
            return self._pack((request.op, number, self._requests.acked, *request.arguments))
        if isinstance(request, WatchRequest):
            watch = request.watch
            if request.op == WATCH:
                return self._pack((WATCH, number, watch.watch_id, watch.path, int(watch.mode), watch.since))
            return self._pack((UNWATCH, number, watch.watch_id))
        return self._pack((request.op, number, *request.arguments))

    def _pack(self, message: tuple[Any, ...]) -> bytes:
        return cast(bytes, self._packer.pack(message))

    # Bytes in.

    def receive(self, data: bytes, now: float) -> None:
        """Take what the server sent.

        Raises SessionExpired when the session is over, and other errors when this connection is of no more
        use: the server refused the hello, cannot serve, or does not follow the protocol. What was settled
        before is in `take_woken` all the same.
        """
        for message in self._decoder.feed(data):
            if self.greeted:
                self._on_message(message)
            else:
                self._on_hello(message)

    def take_woken(self) -> list[Request | Watch]:
        """What was settled or touched since the last time; a watch may be in it more than once."""
        woken, self._woken = self._woken, []
        return woken

    def _on_hello(self, message: list[Any]) -> None:
        if len(message) == 2:
            self._refused(message)
        shape = [type(field) for field in message]
        if shape != [int, int, bytes, int, int, str, int, int, int] or message[0] != OK:
            raise ProtocolError(f"the server answered the hello with {message!r:.200}")
        _, session_id, password, timeout_ms, index, node, _value_bytes_max, in_flight_max, serial = message
        if self.session_id and session_id != self.session_id:
            raise ProtocolError(f"asked for session {self.session_id:x}, the server gave {session_id:x}", node=node)
        if bool(session_id) != bool(self.timeout_ms):
            raise ProtocolError("the server did not say which session this is", node=node)
        if serial > self._requests.last_serial:
            raise ProtocolError(
                f"the server has write {serial} of this session, {self._requests.last_serial} were sent", node=node
            )
        self.session_id, self.password, self.timeout_ms = session_id, password, timeout_ms
        self.node = node
        self._in_flight_max = max(1, in_flight_max)
        self.seen_index = max(self.seen_index, index)
        self.greeted = True
        self._unproven = len(self._credentials)
        self._control += (AuthRequest(AUTH, (each.scheme, each.secret)) for each in self._credentials)
        # Before anything else, so that no state is shown whose events would come later.
        self._control += (WatchRequest(WATCH, watch) for watch in self._watches.resume(self.complete_index))

    def _refused(self, message: list[Any]) -> None:
        """The server says [code, detail] and closes."""
        code, detail = message
        if type(code) is not int or type(detail) is not str:
            raise ProtocolError(f"the server sent {message!r:.200}")
        error = error_for(code, detail, node=self.node or None)
        # The server sends the whole text, of which the summary is ours already.
        error.detail = detail.removeprefix(error.summary).removeprefix(": ")
        raise error

    def _on_message(self, message: list[Any]) -> None:
        size = len(message)
        if size == 2:
            self._refused(message)
        if size < 3 or type(message[0]) is not int or type(message[1]) is not int:
            raise ProtocolError(f"the server sent {message!r:.200}")
        if message[0] == 0:
            self._on_notice(message)
            return
        number, code, index = message[0], message[1], message[2]
        if type(index) is not int:
            raise ProtocolError(f"the server sent {message!r:.200}")
        if index > self.complete_index:
            self.complete_index = index
            if index > self.seen_index:
                self.seen_index = index
        request = self._requests.find(number)
        if request is None:
            raise ProtocolError(f"the server answered request {number}, which does not wait for an answer")
        if code == OK:
            self._requests.settle(number, OK, index, message[3:])
        else:
            detail = message[3] if size == 4 and type(message[3]) is str else f"malformed error {message!r:.200}"
            self._on_error(request, code, index, detail)
        if request.op == PING:
            self.acknowledged_at = max(self.acknowledged_at, request.sent_at)
        elif isinstance(request, WatchRequest):
            self._on_watch_answered(request)
        elif isinstance(request, AuthRequest):
            self._unproven -= 1
        else:
            if request.op == AUTH and code == OK:
                self._credentials[Credentials(*request.arguments)] = None
            self._woken.append(request)

    def _on_error(self, request: Request, code: int, index: int, detail: str) -> None:
        """Settle the request, or raise if the answer is about more than the request."""
        if code == SessionExpired.code:
            if not request.is_control and (not request.is_write or request.sends == 1):
                # Not for a write that was sent twice: the first copy may have been applied in time.
                self._woken.append(self._requests.settle(request.number, code, index, detail))
            raise SessionExpired(detail, node=self.node, index=index)
        unserved = code in _UNSERVED and (request.is_write or request.op == WATCH)
        refused = isinstance(request, AuthRequest)
        if unserved or refused or code == SessionMoved.code or request.op == PING:
            raise error_for(code, detail, node=self.node, index=index)
        self._requests.settle(request.number, code, index, detail)

    def _on_watch_answered(self, request: WatchRequest) -> None:
        watch = request.watch
        if request.op != WATCH or watch not in self._watches:
            return
        if request.code == OK:
            watch.on_registered(request.index)
        else:
            self._watches.remove(watch)
            watch.end(request.code, request.result)
        self._woken.append(watch)

    def _on_notice(self, message: list[Any]) -> None:
        """[0, watch id, kind, index, path] is an event; [0, code, index, detail] is the session's end."""
        if len(message) == 4:
            raise error_for(message[1], str(message[3]), node=self.node)
        try:
            _, watch_id, kind, index, path = message
        except ValueError:
            raise ProtocolError(f"the server sent {message!r:.200}") from None
        if type(kind) is not int or type(index) is not int or type(path) is not str:
            raise ProtocolError(f"the server sent {message!r:.200}")
        self.seen_index = max(self.seen_index, index)
        self.complete_index = max(self.complete_index, index - 1)
        watch = self._watches.deliver(watch_id, kind, path, index)
        if watch is not None:
            self._woken.append(watch)
            if watch.code != OK:
                # Its buffer is full: the server need not go on.
                self._tell_unwatched(watch)
