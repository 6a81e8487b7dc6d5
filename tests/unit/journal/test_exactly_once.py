"""A request counts once, whatever is proposed again; and what is remembered for that has an end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack
import pytest

from journal import exactly_once
from journal.errors import CorruptRecord
from journal.exactly_once import ORIGINS_MAX, RESULTS_KEPT_MAX, ExactlyOnce, Results, opening, request
from journal.record import make_entry
from journal.statemachine import Moment, StateMachine
from journal.values import Entry, EntryKind
from tests.support.machines import Ledger


class Hooks:
    """What was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_opened(self, nonce: bytes, origin: int) -> None:
        self.told.append(("opened", nonce, origin))

    def on_results(self, origin: int, serial: int, index: int, results: Results) -> None:
        self.told.append(("results", origin, serial, index, results))

    def on_forgotten(self, origin: int, serial: int) -> None:
        self.told.append(("forgotten", origin, serial))

    def on_event(self, index: int, event: bytes) -> None:
        self.told.append(("event", index, event))

    def on_replaced(self, index: int) -> None:
        self.told.append(("replaced", index))

    def take(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


class Bench:
    """A machine that is given entry after entry."""

    def __init__(self, machine: StateMachine | None = None, piece_bytes: int = 1000) -> None:
        self.hooks = Hooks()
        self.ledger = Ledger()
        self.once = ExactlyOnce(machine or self.ledger, self.hooks, piece_bytes)
        self.stamp = 1_000

    def entry(self, *requests: bytes, count: int | None = None) -> Entry:
        if count is None:
            count = sum(len(msgpack.unpackb(each)[3]) or 1 for each in requests)
        first = self.once.applied + 1
        return make_entry(first, 7, self.stamp, EntryKind.COMMANDS, b"".join(requests), 0, count=count)

    def apply(self, *requests: bytes) -> list[tuple[Any, ...]]:
        self.once.apply(self.entry(*requests))
        return self.hooks.take()

    def open(self, nonce: bytes = b"mine") -> int:
        ((_, _, origin),) = self.apply(opening(nonce))
        return int(origin)


def test_an_origin_is_named_by_the_index_that_opened_it() -> None:
    bench = Bench()
    assert bench.apply(opening(b"x"), opening(b"y")) == [("opened", b"x", 1), ("opened", b"y", 2)]


def test_a_request_takes_an_index_for_each_of_its_commands() -> None:
    bench = Bench()
    origin = bench.open()
    told = bench.apply(request(origin, 1, 0, (b"a", b"b")), request(origin, 2, 0, (b"c",)))
    assert told == [("results", 1, 1, 2, (b"2", b"3")), ("results", 1, 2, 4, (b"4",))]
    assert bench.once.applied == 4


def test_a_request_that_comes_again_is_answered_and_not_applied() -> None:
    """It is proposed again whenever its answer may be lost."""
    bench = Bench()
    origin = bench.open()
    first = bench.apply(request(origin, 1, 0, (b"a",)))
    assert bench.apply(request(origin, 1, 0, (b"a",))) == first
    assert bench.ledger.lines == [b"a"]
    assert bench.once.applied == 3


def test_a_request_behind_a_gap_has_no_effect() -> None:
    """What is missing will come again; applied now, it would overtake it."""
    bench = Bench()
    origin = bench.open()
    assert bench.apply(request(origin, 2, 0, (b"b",))) == []
    bench.apply(request(origin, 1, 0, (b"a",)), request(origin, 2, 0, (b"b",)))
    assert bench.ledger.lines == [b"a", b"b"]


def test_a_request_without_commands_takes_its_serial_only() -> None:
    """So an update that was given up makes room for those behind it."""
    bench = Bench()
    origin = bench.open()
    assert bench.apply(request(origin, 1, 0, ())) == [("results", 1, 1, 2, ())]
    assert bench.apply(request(origin, 1, 0, (b"late",))) == [("results", 1, 1, 2, ())]
    assert bench.ledger.lines == []


def test_results_stay_until_they_are_acknowledged_and_no_longer() -> None:
    bench = Bench()
    origin = bench.open()
    bench.apply(request(origin, 1, 0, (b"a",)), request(origin, 2, 0, (b"b",)))
    assert bench.once.origins[origin].results_of(1) == (2, (b"2",))
    bench.apply(request(origin, 3, 2, (b"c",)))
    assert [bench.once.origins[origin].results_of(serial) for serial in (1, 2, 3, 4)] == [
        None,
        None,
        (4, (b"4",)),
        None,
    ]


def test_an_origin_that_never_acknowledges_does_not_grow_without_end() -> None:
    bench = Bench()
    origin = bench.open()
    for serial in range(1, RESULTS_KEPT_MAX + 10):
        bench.apply(request(origin, serial, 0, (b"x",)))
    assert len(bench.once.origins[origin].results) == RESULTS_KEPT_MAX


def test_results_of_all_origins_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the origin that was silent for longest go first."""
    monkeypatch.setattr(exactly_once, "RESULT_BYTES_KEPT_MAX", 3)
    bench = Bench()
    one, two = bench.open(b"1"), bench.open(b"2")
    bench.apply(request(one, 1, 0, (b"a",)))
    bench.apply(request(two, 1, 0, (b"a", b"b")))
    assert bench.once.origins[one].results_of(1) is not None
    bench.apply(request(two, 2, 0, (b"c",)))
    assert bench.once.origins[one].results_of(1) is None
    assert bench.once.origins[two].results_of(1) is not None


def test_one_origin_too_many_and_the_most_silent_is_forgotten() -> None:
    bench = Bench()
    first, second = bench.open(b"1"), bench.open(b"2")
    bench.apply(request(first, 1, 0, (b"a",)))
    for _ in range(ORIGINS_MAX - 1):
        bench.open(b"other")
    assert len(bench.once.origins) == ORIGINS_MAX
    assert bench.apply(request(second, 1, 0, (b"b",))) == [("forgotten", second, 1)]
    assert bench.apply(request(first, 2, 1, (b"c",)))[0][0] == "results"
    assert bench.ledger.lines == [b"a", b"c"]


def test_an_origin_that_was_silent_for_a_day_is_forgotten_when_another_opens() -> None:
    """By the stamps in the log, hence on all nodes alike."""
    bench = Bench()
    old = bench.open()
    bench.stamp += exactly_once.ORIGIN_IDLE_MS - 1
    bench.open()
    assert old in bench.once.origins
    bench.stamp += 1
    bench.open()
    assert old not in bench.once.origins


def test_a_refused_command_is_answered_by_its_detail_and_the_others_stand() -> None:
    bench = Bench()
    origin = bench.open()
    assert bench.apply(request(origin, 1, 0, (b"a", b"no", b"b"))) == [
        ("results", 1, 1, 2, (b"2", "no means no", b"4")),
    ]
    assert bench.ledger.lines == [b"a", b"b"]


def test_events_are_told_before_the_results_and_not_for_refused_commands() -> None:
    """Whoever has the answer to an update finds its events already in the queue."""

    class Teller(Ledger):
        def apply(self, command: bytes, at: Moment) -> bytes | None:
            at.emit(command + b"!")
            return super().apply(command, at)

    bench = Bench(Teller())
    origin = bench.open()
    assert bench.apply(request(origin, 1, 0, (b"a", b"no", b"b"))) == [
        ("event", 2, b"a!"),
        ("event", 4, b"b!"),
        ("results", 1, 1, 2, (b"2", "no means no", b"4")),
    ]


def test_a_command_is_told_its_index_term_and_time() -> None:
    moments = []

    class Clock(Ledger):
        def apply(self, command: bytes, at: Moment) -> bytes | None:
            moments.append((at.index, at.term, at.time))
            return None

    bench = Bench(Clock())
    origin = bench.open()
    bench.stamp = 2_500
    bench.apply(request(origin, 1, 0, (b"a", b"b")))
    assert moments == [(2, 7, 2.5), (3, 7, 2.5)]


@pytest.mark.parametrize("result", ["text", 5, b"x" * (exactly_once.RESULT_BYTES_MAX + 1)], ids=["str", "int", "long"])
def test_a_result_that_cannot_be_remembered_stops_the_node(result: Any) -> None:
    """On every node alike: the machine is wrong, and must be mended."""

    class Wrong(Ledger):
        def apply(self, command: bytes, at: Moment) -> bytes | None:
            return result  # type: ignore[no-any-return]

    bench = Bench(Wrong())
    origin = bench.open()
    with pytest.raises(TypeError, match="at index 2"):
        bench.apply(request(origin, 1, 0, (b"a",)))


def test_an_exception_of_the_machine_is_not_swallowed() -> None:
    bench = Bench()
    origin = bench.open()
    with pytest.raises(RuntimeError, match="boom"):
        bench.apply(request(origin, 1, 0, (b"boom",)))


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        (b"\xc1", 1),
        (request(1, 1, 0, (b"a",))[:-1], 1),
        (request(1, 1, 0, (b"a",)) * 2, 1),
        (request(1, 1, 0, (b"a",)), 2),
        (msgpack.packb([1, 1, 0]), 1),
        (msgpack.packb([1, 1, "0", [b"a"]]), 1),
        (msgpack.packb([1, 1, 0, ["a"]]), 1),
        (msgpack.packb([0, 0, 0, [b"a", b"b"]]), 2),
        (msgpack.packb([-1, 0, 0, [b"a"]]), 1),
        (msgpack.packb({1: 2}), 1),
    ],
)
def test_an_entry_that_is_no_requests_is_refused_with_nothing_applied(payload: bytes, count: int) -> None:
    """Only a leader that is out of its mind makes one; the node stops, and its state is still good."""
    bench = Bench()
    bench.open()
    with pytest.raises(CorruptRecord):
        bench.once.apply(bench.entry(payload, count=count))
    assert bench.once.applied == 1
    assert bench.ledger.lines == []


def test_other_kinds_of_entries_only_move_the_index() -> None:
    bench = Bench()
    bench.once.apply(make_entry(1, 1, 0, EntryKind.NOOP, b"", 0))
    assert bench.once.applied == 1


def test_commands_behind_the_wanted_index_are_left_out() -> None:
    """For questions about the past: exact to the command, even within one request."""
    requests = [request(1, 1, 0, (b"a", b"b", b"c")), request(1, 2, 0, (b"d",))]
    for until, lines in (
        (1, []),
        (2, [b"a"]),
        (3, [b"a", b"b"]),
        (4, [b"a", b"b", b"c"]),
        (5, [b"a", b"b", b"c", b"d"]),
    ):
        bench = Bench()
        bench.open()
        bench.once.apply(bench.entry(*requests), until=until)
        assert bench.ledger.lines == lines
        assert bench.once.applied == until


@pytest.mark.parametrize("piece_bytes", [1, 3, 1000])
def test_a_snapshot_brings_back_state_chunks_and_origins(piece_bytes: int) -> None:
    """What was sent before the snapshot and comes again after it must still count once."""
    bench = Bench(piece_bytes=piece_bytes)
    origin = bench.open()
    bench.apply(request(origin, 1, 0, (b"a", b"", b"long enough to be cut")))
    other = Bench(piece_bytes=piece_bytes)
    other.once.restore(bench.once.snapshot())
    assert other.ledger.lines == [b"a", b"", b"long enough to be cut"]
    assert other.once.digest() == bench.once.digest()
    assert other.apply(request(origin, 1, 0, (b"a",))) == [("results", 1, 1, 2, (b"2", b"3", b"4"))]
    assert other.apply(request(origin, 2, 0, (b"b",))) == [("results", 1, 2, 6, (b"6",))]


def test_going_back_to_a_snapshot_leaves_the_origins_where_they_are() -> None:
    """What was applied since must not be applied again because its answer was lost."""
    bench = Bench()
    origin = bench.open()
    bench.apply(request(origin, 1, 0, (b"a",)))
    pieces = list(bench.once.snapshot())
    second = bench.apply(request(origin, 2, 0, (b"b",)))
    bench.once.recover(pieces, 9, 0)
    assert (bench.once.applied, bench.ledger.lines) == (9, [b"a"])
    assert bench.hooks.take() == [("replaced", 9)]
    assert bench.apply(request(origin, 2, 0, (b"b",))) == second
    assert bench.ledger.lines == [b"a"]


def test_machines_that_answered_differently_have_different_digests() -> None:
    """Without a word from the machine about its state: what it told is enough to know."""

    class Odd(Ledger):
        def apply(self, command: bytes, at: Moment) -> bytes | None:
            super().apply(command, at)
            return b"odd"

    benches = [Bench(), Bench(), Bench(Odd())]
    for bench in benches:
        origin = bench.open()
        bench.apply(request(origin, 1, 0, (b"a",)))
    one, two, three = (bench.once.digest() for bench in benches)
    assert one == two != three


def test_the_digest_of_the_machine_counts() -> None:
    bench = Bench()
    before = bench.once.digest()
    bench.ledger.digest = lambda: 1  # type: ignore[method-assign]
    assert bench.once.digest() != before


def test_a_snapshot_shows_the_moment_at_which_it_was_asked_for() -> None:
    """Its pieces are taken later, between other commands. A machine of one generator must be right without care."""
    for lazy in (False, True):
        bench = Bench()
        bench.ledger.lazy_snapshot = lazy
        origin = bench.open()
        bench.apply(request(origin, 1, 0, (b"a", b"b")))
        pieces = bench.once.snapshot()
        bench.apply(request(origin, 2, 1, (b"c",)))
        other = Bench()
        other.once.restore(pieces)
        assert other.ledger.lines == [b"a", b"b"]
        assert other.once.applied == 3


def test_a_machine_that_leaves_chunks_unread_does_not_keep_them_from_being_checked() -> None:
    class Idle(Ledger):
        def restore(self, chunks: Iterable[bytes]) -> None:
            pass

    bench = Bench()
    origin = bench.open()
    bench.apply(request(origin, 1, 0, (b"a", b"b")))
    seen = []

    def pieces() -> Iterable[bytes]:
        for piece in bench.once.snapshot():
            seen.append(piece)
            yield piece

    Bench(Idle()).once.restore(pieces())
    assert len(seen) == 3


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"\0",),
        (b"\0\xc1",),
        (b"\0" + msgpack.packb([2, 0, bytes(8), []]),),
        (b"\0" + msgpack.packb([1, 0, bytes(8), [[1]]]),),
        (b"\0" + msgpack.packb([1, 0, b"short", []]),),
        (b"\0" + msgpack.packb([1, 0, bytes(8), []]), b"\2half"),
        (b"\0" + msgpack.packb([1, 0, bytes(8), []]), b"\3what"),
        (b"\0" + msgpack.packb([1, 0, bytes(8), []]), b"\1good", b"\0" + msgpack.packb([1, 0, bytes(8), []])),
    ],
)
def test_a_snapshot_that_makes_no_sense_is_refused(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(CorruptRecord):
        Bench().once.restore(pieces)


def test_a_chunk_that_is_not_bytes_is_named() -> None:
    class Wrong(Ledger):
        def snapshot(self) -> Iterable[Any]:
            return ["text"]

    with pytest.raises(TypeError, match="must be bytes, not str"):
        list(Bench(Wrong()).once.snapshot())
