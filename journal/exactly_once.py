"""A user's state machine on the journal, with every update applied once.

A *request* is what one `update` sends: one or more commands, in the log as one value that takes an index per
command. It names its *origin*, which is one run of a `Journal` and is opened through the log, and its serial
there. The next serial of an origin is applied, an earlier one is answered from what is remembered, and one
behind a gap has no effect: what is missing will come again, and this after it. So a request may be proposed as
often as one likes, and the requests of one origin are applied in the order of their serials.

Knows nothing of who waits for an answer, of messages or of time. Driven by the journal's replica.

In the log, a request is the msgpack array `[origin, serial, acked, [command, ...]]`; one without commands only
takes its serial. Origin 0 opens a new one: `[0, 0, 0, [nonce]]`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from typing import Any, Protocol

import msgpack

from journal.errors import CommandRefused, CorruptRecord
from journal.machine import DIGEST_MAX
from journal.statemachine import Moment, StateMachine
from journal.values import INDEX_MAX, Entry, EntryKind

# What follows is part of what all replicas do alike: it may only change together with IMAGE_VERSION.
IMAGE_VERSION = 1
ORIGINS_MAX = 1024
"""One more, and the origin that was silent for longest is forgotten."""
ORIGIN_IDLE_MS = 24 * 3_600_000
"""An origin that was silent for so long is forgotten when another one is opened."""
RESULTS_KEPT_MAX = 1024
"""Requests of one origin whose results are remembered."""
RESULT_BYTES_MAX = 1 << 20
"""The result of one command."""
RESULT_BYTES_KEPT_MAX = 16 << 20
"""Results remembered in all; beyond it those of the origins that were silent for longest go."""

ANSWERS_BYTES = 8

_ORIGINS, _CHUNK, _PART = b"\0", b"\1", b"\2"
"""How a piece of a snapshot begins: origins, which come first; the last or only piece of a chunk; another one."""

Result = bytes | None | str
"""What came of one command: the machine's answer, or as text why it was refused."""
Results = tuple[Result, ...]


class Hooks(Protocol):
    """Told while entries are applied, and must not raise."""

    def on_opened(self, nonce: bytes, origin: int) -> None: ...

    def on_results(self, origin: int, serial: int, index: int, results: Results) -> None:
        """What came of a request, for the first time or again; its first command has `index`."""

    def on_forgotten(self, origin: int, serial: int) -> None:
        """A request had no effect, because its origin is not known any more and never will be again."""

    def on_event(self, index: int, event: bytes) -> None:
        """The machine's own event, before the results of the command that emitted it."""

    def on_replaced(self, index: int) -> None:
        """The machine went back to the state of an older snapshot, at `index`."""


class Origin:
    """What is remembered of one origin."""

    __slots__ = ("id", "results", "serial", "stamp")

    def __init__(self, origin_id: int, stamp: int) -> None:
        self.id = origin_id
        """Index of the request that opened it."""
        self.serial = 0
        """The last request applied. Invariant: moves by one."""
        self.stamp = stamp
        """When that was, by the log's clock."""
        self.results: deque[tuple[int, Results]] = deque()
        """First index and results of the last requests, up to `serial`."""

    def results_of(self, serial: int) -> tuple[int, Results] | None:
        """What came of a request; None when that is forgotten, or it was not applied yet."""
        place = len(self.results) - 1 - (self.serial - serial)
        return self.results[place] if 0 <= place < len(self.results) else None


class ExactlyOnce:
    """Implements `journal.machine.Machine` around a user's machine."""

    def __init__(self, machine: StateMachine, hooks: Hooks, piece_bytes: int) -> None:
        """`piece_bytes`: how large the pieces of a snapshot may be."""
        self.machine = machine
        self.applied = 0
        """Index of the last command applied."""
        self.origins: OrderedDict[int, Origin] = OrderedDict()
        """By id; the one that was silent for longest first."""
        self._result_bytes = 0
        """Of all results remembered."""
        self._answers = bytes(ANSWERS_BYTES)
        """A fingerprint of all that was ever answered and emitted."""
        self._hooks = hooks
        self._piece_bytes = piece_bytes
        self._moment = Moment()

    def apply(self, entry: Entry, until: int = INDEX_MAX) -> None:
        """Apply the commands of one entry; with `until` only those up to that index, and then no other entry.

        Raises CorruptRecord, with nothing applied, when the entry does not hold the requests it claims.
        """
        if entry.kind is EntryKind.COMMANDS:
            moment = self._moment
            moment.term = entry.term
            moment.time = entry.stamp / 1000
            index: int = entry.first
            for request in _unpack(entry):
                if index > until:
                    break
                self._apply_request(request, index, entry.stamp, until)
                index += len(request[3]) or 1
        self.applied = min(entry.last, until)

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is now, in pieces."""
        rows = [_describe(origin) for origin in self.origins.values()]
        packed: bytes = msgpack.packb([IMAGE_VERSION, self.applied, self._answers, rows], use_bin_type=True)
        chunks = iter(self.machine.snapshot())
        if self.machine.lazy_snapshot:
            # A generator begins to run only now, and with it fixes what it is going to show.
            chunks = chain([chunk for chunk in [next(chunks, None)] if chunk is not None], chunks)
        else:
            chunks = iter(list(chunks))
        return self._pieces(packed, chunks)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become what the snapshot says. Raises CorruptRecord when it makes no sense."""
        image, whole = _take_origins(chunks)
        self.applied, self._answers, self.origins = _read_origins(image)
        self._result_bytes = sum(_size(kept) for origin in self.origins.values() for _, kept in origin.results)
        self._restore_machine(whole)

    def recover(self, chunks: Iterable[bytes], index: int, stamp: int) -> None:
        """Go back to the machine's state in an older snapshot, as a change at `index`.

        The origins stay: what has been applied must not be applied again. Raises CorruptRecord.
        """
        image, whole = _take_origins(chunks)
        _read_origins(image)
        self._restore_machine(whole)
        self.applied = index
        self._hooks.on_replaced(index)

    def _restore_machine(self, chunks: Iterator[bytes]) -> None:
        self.machine.restore(chunks)
        for _ in chunks:  # what the machine did not ask for is still to be checked by who reads it
            pass

    def digest(self) -> int:
        """A fingerprint of the whole state, and of all answers that led there."""
        answers = int.from_bytes(self._answers, "little")
        return (answers + 3 * self.applied + 5 * self.machine.digest()) & DIGEST_MAX

    def _apply_request(self, request: Any, index: int, stamp: int, until: int) -> None:
        origin_id, serial, acked, commands = request
        if not origin_id:
            self._open(commands[0], index, stamp)
            return
        origin = self.origins.get(origin_id)
        if origin is None:
            self._hooks.on_forgotten(origin_id, serial)
        elif serial == origin.serial + 1:
            if until - index < len(commands):
                commands = commands[: until - index + 1]
            results = self._run(commands, index)
            answer = msgpack.packb((index, results), use_bin_type=True)
            self._answers = blake2b(self._answers + answer, digest_size=ANSWERS_BYTES).digest()
            self._remember(origin, index, acked, stamp, results)
            self._hooks.on_results(origin_id, serial, index, results)
        else:
            kept = origin.results_of(serial)
            if kept is not None:
                self._hooks.on_results(origin_id, serial, *kept)

    def _run(self, commands: list[bytes], index: int) -> Results:
        """Apply commands one after another, each with an index of its own."""
        moment, apply = self._moment, self.machine.apply
        results: list[Result] = []
        for command in commands:
            moment.index = index
            try:
                result: Result = apply(command, moment)
            except CommandRefused as refusal:
                result = refusal.detail
                moment.events.clear()
            else:
                if result is not None and (type(result) is not bytes or len(result) > RESULT_BYTES_MAX):
                    raise TypeError(
                        f"apply must return None or at most {RESULT_BYTES_MAX} bytes; at index {index} it returned "
                        + (f"{len(result)}" if type(result) is bytes else type(result).__name__)
                    )
            if moment.events:
                for event in moment.events:
                    self._answers = blake2b(self._answers + event, digest_size=ANSWERS_BYTES).digest()
                    self._hooks.on_event(index, event)
                moment.events.clear()
            results.append(result)
            index += 1
        return tuple(results)

    def _open(self, nonce: bytes, index: int, stamp: int) -> None:
        origins = self.origins
        while origins:
            oldest = next(iter(origins.values()))
            if len(origins) < ORIGINS_MAX and stamp - oldest.stamp < ORIGIN_IDLE_MS:
                break
            del origins[oldest.id]
            self._result_bytes -= sum(_size(kept) for _, kept in oldest.results)
        origins[index] = Origin(index, stamp)
        self._hooks.on_opened(nonce, index)

    def _remember(self, origin: Origin, index: int, acked: int, stamp: int, results: Results) -> None:
        origin.serial += 1
        origin.stamp = stamp
        origin.results.append((index, results))
        self._result_bytes += _size(results)
        # Whatever is claimed to have been answered, the newest stays.
        kept_max = min(max(origin.serial - acked, 1), RESULTS_KEPT_MAX)
        while len(origin.results) > kept_max:
            self._forget_oldest(origin)
        self.origins.move_to_end(origin.id)
        if self._result_bytes > RESULT_BYTES_KEPT_MAX:
            for silent in self.origins.values():
                while silent.results and self._result_bytes > RESULT_BYTES_KEPT_MAX:
                    self._forget_oldest(silent)

    def _forget_oldest(self, origin: Origin) -> None:
        self._result_bytes -= _size(origin.results.popleft()[1])

    def _pieces(self, image: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
        size = self._piece_bytes
        for at in range(0, len(image), size):
            yield _ORIGINS + image[at : at + size]
        for chunk in chunks:
            if not isinstance(chunk, bytes):
                raise TypeError(f"a chunk of a snapshot must be bytes, not {type(chunk).__name__}")
            at = 0
            while len(chunk) - at > size:
                yield _PART + chunk[at : at + size]
                at += size
            yield _CHUNK + chunk[at:]


def opening(nonce: bytes) -> bytes:
    """The request that opens an origin; `nonce` tells its sender which one is its own."""
    packed: bytes = msgpack.packb((0, 0, 0, (nonce,)), use_bin_type=True)
    return packed


def request(origin: int, serial: int, acked: int, commands: tuple[bytes, ...]) -> bytes:
    """A request of an origin. Of its earlier ones, those up to serial `acked` have been answered."""
    packed: bytes = msgpack.packb((origin, serial, acked, commands), use_bin_type=True)
    return packed


def _unpack(entry: Entry) -> list[Any]:
    """The requests of an entry, of the right types and together of its count. Raises CorruptRecord."""
    payload = entry.payload
    unpacker = msgpack.Unpacker(use_list=True, raw=False, max_buffer_size=max(len(payload), 1))
    unpacker.feed(payload)
    try:
        requests = list(unpacker)
    except (ValueError, msgpack.UnpackException) as error:
        raise CorruptRecord(f"entry {entry.first}: requests cannot be read: {error}") from error
    if unpacker.tell() != len(payload):
        raise CorruptRecord(f"entry {entry.first}: ends in the middle of a request")
    count = 0
    for each in requests:
        if not _is_request(each):
            raise CorruptRecord(f"entry {entry.first}: holds what is no request")
        count += len(each[3]) or 1
    if count != entry.count:
        raise CorruptRecord(f"entry {entry.first}: holds {count} commands, and should have {entry.count}")
    return requests


def _is_request(value: Any) -> bool:
    if type(value) is not list or len(value) != 4:
        return False
    origin, serial, acked, commands = value
    if type(origin) is not int or type(serial) is not int or type(acked) is not int or type(commands) is not list:
        return False
    if not all(type(command) is bytes for command in commands):
        return False
    return origin > 0 or (origin == 0 and len(commands) == 1)


def _size(results: Results) -> int:
    return sum(len(result) for result in results if result is not None)


def _describe(origin: Origin) -> tuple[Any, ...]:
    return origin.id, origin.serial, origin.stamp, list(origin.results)


def _take_origins(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The image of the origins, which comes first, and the machine's chunks as it gave them."""
    pieces = iter(chunks)
    image = bytearray()
    for piece in pieces:
        if piece[:1] != _ORIGINS:
            return bytes(image), _join(chain([piece], pieces))
        image += piece[1:]
    return bytes(image), iter(())


def _read_origins(image: bytes) -> tuple[int, bytes, OrderedDict[int, Origin]]:
    try:
        version, applied, answers, rows = msgpack.unpackb(image, use_list=False, raw=False)
        if version != IMAGE_VERSION:
            raise CorruptRecord(f"a snapshot's origins have version {version}, this program knows {IMAGE_VERSION}")
        if type(applied) is not int or type(answers) is not bytes or len(answers) != ANSWERS_BYTES:
            raise CorruptRecord("a snapshot's origins do not begin with an index and a fingerprint")
        origins: OrderedDict[int, Origin] = OrderedDict()
        for origin_id, serial, stamp, results in rows:
            origin = origins[origin_id] = Origin(origin_id, stamp)
            origin.serial = serial
            origin.results.extend((int(index), tuple(kept)) for index, kept in results)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptRecord(f"a snapshot's origins cannot be read: {error}") from error
    return applied, answers, origins


def _join(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The machine's chunks as it gave them."""
    parts: list[bytes] = []
    for piece in pieces:
        parts.append(piece[1:])
        if piece[:1] == _CHUNK:
            yield b"".join(parts)
            parts.clear()
        elif piece[:1] != _PART:
            raise CorruptRecord(f"a piece of a snapshot begins with {piece[:1]!r}")
    if parts:
        raise CorruptRecord("a snapshot ends in the middle of a chunk")
