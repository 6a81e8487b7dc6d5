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
)
from jkcs_server.bench.line import LoadFailed, complain
from jkcs_server.bench.work import Kind, Seen, Work

_WRITE = struct.Struct(">BBBQBQ")
"""Array of so many fields, opcode, serial u64, acked u64; the rest of the message follows."""
_READ = struct.Struct(">BBBq")
"""Array of so many fields, opcode, id i64; the rest of the message follows."""
_FIXARRAY, _UINT64, _INT64 = 0x90, 0xCF, 0xD3
_FIELDS = {Kind.CREATE: (6, CREATE), Kind.SET: (6, SET), Kind.DELETE: (5, DELETE)}
_VERSION_AT = STAT_FIELDS.index("version")
_CHILDREN_AT = STAT_FIELDS.index("num_children")


class Parts:
    """The part of each key's request that never changes, made once for all connections that send it."""

    def __init__(self) -> None:
        self._made: dict[Work, list[bytes]] = {}

    def of(self, work: Work) -> list[bytes] | None:
        """By key; None for work whose keys are not known beforehand."""
        if work.cycle is None:
            return None
        like = Work(work.kind, work.folder, work.value_bytes, cycle=work.cycle, stem=work.stem)
        if like not in self._made:
            self._made.clear()  # one cell after another: what the last one used is not needed any more
            self._made[like] = [_part(like, key) for key in range(work.cycle)]
        return self._made[like]


def _part(work: Work, key: int) -> bytes:
    path = pack(work.path(key))
    match work.kind:
        case Kind.CREATE:
            return path + pack(work.value(key)) + pack(0)
        case Kind.SET:
            return path + pack(work.value(key)) + pack(ANY_VERSION)
        case Kind.DELETE:
            return path + pack(ANY_VERSION)
        case Kind.GET:
            return path + pack(LINEARIZABLE)
        case Kind.GET_LOCAL:
            return path + pack(LOCAL)


class NativeLine:
    """One session's connection. See `Line`."""

    def __init__(self, parts: Parts) -> None:
        self.errors: Counter[str] = Counter()
        self.seen = Seen()
        self._all_parts = parts
        self._decoder = FrameDecoder()
        self._serial = 0
        """Of the last write sent."""
        self._acked = 0
        """Up to here all writes are answered."""
        self._read_id = 0
        """Of the last read sent, without its sign."""
        self._read_answered = 0
        self._work: Work | None = None
        self._parts: list[bytes] | None = None
        self._sent = 0
        """Requests of this work."""
        self.answered = 0

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
        self._parts = self._all_parts.of(work)
        self._sent = self.answered = 0

    def requests(self, count: int) -> bytes:
        work = self._work
        assert work is not None
        first, parts, key_of = self._sent, self._parts, work.key
        keys = [key_of(number) for number in range(first, first + count)]
        tails = [parts[key] for key in keys] if parts is not None else [_part(work, key) for key in keys]
        self._sent += count
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

    def answers(self, data: bytes) -> int:
        messages = self._feed(data)
        if not messages:
            return 0
        work = self._work
        assert work is not None
        reads = work.kind.reads
        expected, step = (-(self._read_answered + 1), -1) if reads else (self._acked + 1, 1)
        try:
            for message in messages:
                if message[0] != expected:
                    raise LoadFailed(_not_expected(message, expected))
                if message[1] != OK:
                    complain(self.errors, f"{_code_name(message[1])}: {message[3:]!r:.80}")
                elif reads:
                    self._look_at(work, message[3], message[4])
                expected += step
                self.answered += 1
        except (IndexError, TypeError):
            raise LoadFailed(f"an answer of another shape: {message!r:.100}") from None
        if reads:
            self._read_answered += len(messages)
        else:
            self._acked += len(messages)
        return len(messages)

    def goodbye(self) -> bytes:
        return frame([pack([CLOSE, self._serial + 1, self._acked])])

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
