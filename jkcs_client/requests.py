"""The requests of one session, from the call to the answer, over however many connections that takes.

Writes get their serial when they are first put on the wire, so serials have no gap: a write that is given up
before never existed, one that is given up after is kept until the server has answered it. When a connection
is lost, everything unanswered goes back to the head of the queue in its old order; the server applies each
serial once. Bytes, time and watches are not known here. Called by `connection`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jkcs_client.protocol.errors import OK, OutcomeUnknown
from jkcs_client.protocol.messages import ADMIN, FIRST_WRITE, PING, UNWATCH, WATCH

CONTROL = frozenset((PING, WATCH, UNWATCH))
"""What a connection sends for itself, ahead of the queue; void when the connection is lost."""


def _nobody() -> None:
    """Nobody waits."""


class Request:
    """One request. Mutable and slotted: there is one for every call."""

    __slots__ = (
        "abandoned",
        "arguments",
        "code",
        "index",
        "number",
        "op",
        "result",
        "sends",
        "sent_at",
        "serial",
        "settled",
        "wake",
    )

    def __init__(self, op: int, arguments: tuple[Any, ...] = ()) -> None:
        self.op = op
        self.arguments = arguments
        self.serial = 0
        """A write's serial; 0 until it is first sent, and for everything else."""
        self.number = 0
        """What the answer will be addressed to, while it is in flight; else 0."""
        self.sends = 0
        """How often it was put on the wire. Invariant: a write has a serial if and only if sends > 0."""
        self.sent_at = 0.0
        self.abandoned = False
        """The caller went away."""
        self.settled = False
        """`code`, `index` and `result` are final."""
        self.code = OK
        self.index = 0
        self.result: Any = None
        """What followed the index in the answer, as a list; for an error its detail, a string."""
        self.wake: Callable[[], None] = _nobody
        """Called by the driver when it is settled."""

    @property
    def is_write(self) -> bool:
        """Whether it changes anything, and so takes a serial."""
        return self.op >= FIRST_WRITE

    @property
    def is_control(self) -> bool:
        """Whether the connection sends it for itself, so that it is void when the connection is lost."""
        return self.op in CONTROL

    @property
    def may_have_happened(self) -> bool:
        """Whether it was put on the wire and may change something: without an answer nobody knows."""
        return self.sends > 0 and (self.is_write or self.op == ADMIN)

    def settle(self, code: int, index: int, result: Any) -> None:
        """It is answered, or never will be. Happens once."""
        assert not self.settled, (self.op, self.serial)
        self.settled = True
        self.number = 0
        self.code = code
        self.index = index
        self.result = result


class RequestTable:
    """All requests of a session that are not settled."""

    def __init__(self) -> None:
        self._queue: dict[Request, None] = {}
        """To be sent, oldest first; a dict, because any of them may be given up. Those that were sent on an
        earlier connection stand in front."""
        self._in_flight: dict[int, Request] = {}
        """Sent on this connection and not answered, by serial or number, in the order of sending."""
        self._open_writes: dict[int, Request] = {}
        """Writes that have a serial and no answer yet, lowest serial first."""
        self.last_serial = 0
        """The highest serial given out."""
        self._last_number = 0
        """The number of the connection's last request that is not a write; they count down."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._in_flight)

    @property
    def in_flight(self) -> int:
        """How many are sent on this connection and not answered."""
        return len(self._in_flight)

    @property
    def acked(self) -> int:
        """The highest serial up to which every write is answered."""
        for serial in self._open_writes:
            return serial - 1
        return self.last_serial

    def submit(self, request: Request) -> None:
        """Queue a new request behind all others."""
        self._queue[request] = None

    def abandon(self, request: Request) -> bool:
        """The caller goes away. True when the request thereby vanishes, as it was never sent."""
        assert not request.settled, request.op
        if request.number or (request.is_write and request.sends):
            request.abandoned = True
            return False
        del self._queue[request]
        return True

    def next_to_send(self) -> Request | None:
        """Take the head of the queue; the caller sends it with `send`."""
        for request in self._queue:
            del self._queue[request]
            return request
        return None

    def send(self, request: Request, now: float) -> int:
        """Account for a request that goes onto the wire, and give it its number."""
        if request.is_write:
            if not request.serial:
                self.last_serial += 1
                request.serial = self.last_serial
                self._open_writes[request.serial] = request
            number = request.serial
        else:
            self._last_number -= 1
            number = self._last_number
        request.number = number
        request.sends += 1
        request.sent_at = now
        assert number not in self._in_flight, number
        self._in_flight[number] = request
        return number

    def find(self, number: int) -> Request | None:
        """The request in flight that an answer with this number is for."""
        return self._in_flight.get(number)

    def settle(self, number: int, code: int, index: int, result: Any) -> Request:
        """Take an answered request out."""
        request = self._in_flight.pop(number)
        self._open_writes.pop(request.serial, None)
        request.settle(code, index, result)
        return request

    def on_connection_lost(self) -> tuple[list[Request], list[Request]]:
        """Queue what must be sent again.

        Returns the reads that nobody waits for any more, which are dropped; and the ADMIN requests, which are
        settled: another server would do them a second time, or answer for itself.
        """
        again: list[Request] = []
        dropped: list[Request] = []
        settled: list[Request] = []
        for request in self._in_flight.values():
            request.number = 0
            if request.is_control:
                continue
            if request.abandoned and not request.is_write:
                dropped.append(request)
            elif request.op == ADMIN:
                request.settle(OutcomeUnknown.code, 0, "the connection broke before the answer came")
                settled.append(request)
            else:
                again.append(request)
        self._queue = dict.fromkeys([*again, *self._queue])
        self._in_flight.clear()
        self._last_number = 0
        return dropped, settled

    def settle_all(self, code: int, index: int, detail: str) -> list[Request]:
        """The session is over: nothing will be answered any more. Returns all requests, settled."""
        everything = [request for request in self._in_flight.values() if not request.is_control]
        everything += self._queue
        for request in everything:
            if request.may_have_happened:
                request.settle(OutcomeUnknown.code, index, detail)
            else:
                request.settle(code, index, detail)
        self._in_flight.clear()
        self._queue.clear()
        self._open_writes.clear()
        return everything
