"""The load generator's side of the native protocol.

A request is packed from a part that is made once per key and two integers of fixed width, so that a
generator of 300,000 requests a second still leaves the servers their processors. Synchronous, no I/O.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from jkcs_client.protocol.errors import BY_CODE, OK, ProtocolError
from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import (
    ANY_VERSION,
    CLOSE,
    CREATE,
    DELETE,
    GET,
    LINEARIZABLE,
    LOCAL,
    PREFACE,
    SESSION_TIMEOUT_MS_MAX,
    SET,
    STAT_FIELDS,
    WATCH,
    CreateFlag,
    EventKind,
    WatchMode,
)
from jkcs_server.bench.line import LoadFailed, complain
from jkcs_server.bench.parts import Parts
from jkcs_server.bench.work import Kind, Seen, Work

_WRITE = struct.Struct(">BBBQBQ")
"""Array of so many fields, opcode, serial u64, acked u64; the rest of the message follows."""
_READ = struct.Struct(">BBBq")
"""Array of so many fields, opcode, id i64; the rest of the message follows."""
_FIXARRAY, _UINT64, _INT64 = 0x90, 0xCF, 0xD3
_FIELDS = {
    Kind.CREATE: (6, CREATE),
    Kind.CREATE_SEQUENTIAL: (6, CREATE),
    Kind.CREATE_EPHEMERAL: (6, CREATE),
    Kind.SET: (6, SET),
    Kind.DELETE: (5, DELETE),
}
_FLAGS = {Kind.CREATE: 0, Kind.CREATE_SEQUENTIAL: CreateFlag.SEQUENTIAL, Kind.CREATE_EPHEMERAL: CreateFlag.EPHEMERAL}
_EVENT_FIELDS = 5
_VERSION_AT = STAT_FIELDS.index("version")
_CHILDREN_AT = STAT_FIELDS.index("num_children")


def part(work: Work, key: int) -> bytes:
    """What a request about this key has behind its number."""
    path = pack(work.asked(key))
    match work.kind:
        case Kind.CREATE | Kind.CREATE_SEQUENTIAL | Kind.CREATE_EPHEMERAL:
            return path + pack(work.value(key)) + pack(int(_FLAGS[work.kind]))
        case Kind.SET:
            return path + pack(work.value(key)) + pack(ANY_VERSION)
        case Kind.DELETE:
            return path + pack(ANY_VERSION)
        case Kind.GET:
            return path + pack(LINEARIZABLE)
        case Kind.GET_LOCAL | Kind.WATCH:
            return path + pack(LOCAL)
        case Kind.MIXED:
            raise AssertionError("mixed work has requests of other kinds")


class NativeLine:
    """One session's connection. See `Line`."""

    def __init__(self, parts: Parts) -> None:
        """`parts` makes them by `part`."""
        self.errors: Counter[str] = Counter()
        self.seen = Seen()
        self.notified = 0
        self._all_parts = parts
        self._decoder = FrameDecoder()
        self._serial = 0
        """Of the last write sent."""
        self._acked = 0
        """Up to here all writes are answered."""
        self._read_id = 0
        """Of the last read sent, without its sign."""
        self._read_answered = 0
        self._watched: str | None = None
        """The key of the watch that was asked for and has not told of a change yet. One at a time."""
        self._watch_granted = False
        """The watch is answered, the read behind it is not yet."""
        self._work: Work | None = None
        self._parts: dict[Kind, list[bytes] | None] = {}
        self._uniform = True
        """Each request is one message, and all are reads or all are writes."""
        self._sent = 0
        """Requests of this work."""
        self.answered = 0
        self.written = 0

    def hello(self) -> bytes:
        return PREFACE + frame([pack([0, b"", SESSION_TIMEOUT_MS_MAX, 0])])

    def greeted(self, data: bytes) -> bool:
        messages = self._feed(data)
        if not messages:
            return False
        match messages:
            case [[int(code), int(_), bytes(_), *_]] if code == OK:
                return True
            case [[int(code), str(detail), *_], *_]:
                raise LoadFailed(f"the server refused the session: {_code_name(code)}: {detail}")
            case _:
                raise LoadFailed(f"unexpected answer to the hello: {messages!r:.100}")

    def begin(self, work: Work) -> None:
        assert self._sent == self.answered, (self._sent, self.answered)
        self._work = work
        self._parts = {kind: self._all_parts.of(work, kind) for kind in work.kinds}
        self._uniform = work.kind not in (Kind.MIXED, Kind.WATCH)
        self._sent = self.answered = self.written = 0

    def requests(self, count: int) -> bytes:
        work = self._work
        assert work is not None
        first = self._sent
        self._sent += count
        if not self._uniform:
            return frame([message for number in range(first, first + count) for message in self._messages(number)])
        parts, key_of = self._parts[work.kind], work.key
        keys = [key_of(number) for number in range(first, first + count)]
        tails = [parts[key] for key in keys] if parts is not None else [part(work, key) for key in keys]
        if work.kind.reads:
            next_id = self._read_id + 1
            self._read_id += count
            head = _READ.pack
            return frame(
                [head(_FIXARRAY | 4, GET, _INT64, -(next_id + place)) + tail for place, tail in enumerate(tails)]
            )
        fields, op = _FIELDS[work.kind]
        serial, acked = self._serial + 1, self._acked
        self._serial += count
        head = _WRITE.pack
        return frame(
            [
                head(_FIXARRAY | fields, op, _UINT64, serial + place, _UINT64, acked) + tail
                for place, tail in enumerate(tails)
            ]
        )

    def _messages(self, number: int) -> list[bytes]:
        """One request of work that is not uniform."""
        work = self._work
        assert work is not None
        kind, key = work.kind_of(number), work.key(number)
        parts = self._parts[kind]
        assert parts is not None, work  # such work goes over keys that are there
        if not kind.reads:
            fields, op = _FIELDS[kind]
            self._serial += 1
            return [_WRITE.pack(_FIXARRAY | fields, op, _UINT64, self._serial, _UINT64, self._acked) + parts[key]]
        messages = []
        if kind is Kind.WATCH:
            assert self._watched is None, self._watched
            self._watched = work.path(key)
            self._read_id += 1
            # Its id is its request's, which no other watch of the connection has.
            messages.append(pack([WATCH, -self._read_id, self._read_id, self._watched, int(WatchMode.ONCE), 0]))
        self._read_id += 1
        messages.append(_READ.pack(_FIXARRAY | 4, GET, _INT64, -self._read_id) + parts[key])
        return messages

    def answers(self, data: bytes) -> int:
        messages = self._feed(data)
        if not messages:
            return 0
        work = self._work
        assert work is not None
        message = messages[0]
        try:
            if not self._uniform:
                answered = self.answered
                for message in messages:
                    self._take_in(work, message)
                return self.answered - answered
            reads = work.kind.reads
            numbered = work.kind is Kind.CREATE_SEQUENTIAL
            expected, step = (-(self._read_answered + 1), -1) if reads else (self._acked + 1, 1)
            for message in messages:
                if message[0] != expected:
                    raise LoadFailed(_not_expected(message, expected))
                if message[1] != OK:
                    complain(self.errors, f"{_code_name(message[1])}: {message[3:]!r:.80}")
                elif reads:
                    self._look_at(work, message[3], message[4])
                else:
                    self.written += 1
                    if numbered and not self.answered & 15:
                        self._look_at_name(work, message[3])
                expected += step
                self.answered += 1
        except (IndexError, TypeError):
            raise LoadFailed(f"an answer of another shape: {message!r:.100}") from None
        if reads:
            self._read_answered += len(messages)
        else:
            self._acked += len(messages)
        return len(messages)

    def _take_in(self, work: Work, message: list[Any]) -> None:
        """One message about work that is not uniform."""
        if message[0] == 0 and len(message) == _EVENT_FIELDS:
            self._on_event(message)
            return
        reads = work.kind_of(self.answered).reads
        expected = -(self._read_answered + 1) if reads else self._acked + 1
        if message[0] != expected:
            raise LoadFailed(_not_expected(message, expected))
        if reads:
            self._read_answered += 1
        else:
            self._acked += 1
        if message[1] != OK:
            complain(self.errors, f"{_code_name(message[1])}: {message[3:]!r:.80}")
        if work.kind is Kind.WATCH and not self._watch_granted:
            self._watch_granted = True
            return
        self._watch_granted = False
        if message[1] == OK:
            if reads:
                self._look_at(work, message[3], message[4])
            else:
                self.written += 1
        self.answered += 1

    def _on_event(self, message: list[Any]) -> None:
        if message[2] != EventKind.CHANGED or message[4] != self._watched:
            complain(self.errors, f"an event that was not asked for: {message!r:.80}")
            return
        self._watched = None
        self.notified += 1

    def goodbye(self) -> bytes:
        return frame([pack([CLOSE, self._serial + 1, self._acked])])

    def parted(self, data: bytes) -> bool:
        messages = self._feed(data)
        if messages and (messages[0][:2] != [self._serial + 1, OK] or len(messages) != 1):
            raise LoadFailed(f"unexpected answer to the goodbye: {messages!r:.100}")
        return bool(messages)

    def _look_at_name(self, work: Work, found: object) -> None:
        """Of the names that the server numbered, every sixteenth is checked."""
        path = work.path(work.key(self.answered))
        if found != path:
            complain(self.errors, f"expected {path} to be created, not {found!r:.80}")

    def _look_at(self, work: Work, data: bytes, stat: list[Any]) -> None:
        """Every read is checked for its size, and every sixteenth for its content."""
        answered = self.answered
        wrong = len(data) != work.value_bytes or (not answered & 15 and data != work.value(work.key(answered)))
        if wrong:
            complain(self.errors, f"wrong value of {work.path(work.key(answered))}: {data[:20]!r}")
            return
        self.seen.versions += stat[_VERSION_AT]
        self.seen.children += stat[_CHILDREN_AT]

    def _feed(self, data: bytes) -> list[list[Any]]:
        try:
            return self._decoder.feed(data)
        except ProtocolError as error:
            raise LoadFailed(f"the server does not speak the native protocol: {error}") from None


def _not_expected(message: list[Any], expected: int) -> str:
    if message[:1] == [0]:
        return f"the server ends the connection: {message[1:]!r:.200}"
    return f"expected the answer to request {expected}, not {message!r:.100}"


def _code_name(code: object) -> str:
    found = BY_CODE.get(code) if isinstance(code, int) else None
    return found.__name__ if found is not None else f"code {code!r:.20}"
