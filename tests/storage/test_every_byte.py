"""Damage of every kind to every file of a data directory: a node starts right, or withheld, or not at all.

CORDS (FAST'17): one fault in one file of one node hurt all of the eight systems that were tried. Each test
prints how many cases came to which outcome; `pytest -s` shows the table.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from journal.storage.metadata import MARK_NAME, META_NAME, SLOT_BYTES, Mark, Metadata
from journal.values import Index, Term
from tests.storage.directory import ACKNOWLEDGED, DISK, ENTRIES, FILES, VOTED, Outcome, Wrong, judge, kind_of
from tests.support.memory_disk import MemoryDisk

SEGMENTS = [name for name in FILES if kind_of(name).startswith("log")]
PADDING_STRIDE = 61
PAIRS = 1500
"""Cases of two files damaged at once, by a seed each."""


def whole(name: str) -> bytes:
    return DISK.read(name, 0, DISK.size(name))


def content_end(name: str) -> int:
    """Behind the last byte of a file that says anything."""
    return len(whole(name).rstrip(b"\0"))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def places_of(name: str) -> Iterator[int]:
    """Every byte of a file; of metadata every byte that says anything, and here and there one of the padding."""
    if name != META_NAME:
        yield from range(DISK.size(name))
        return
    data = whole(name)
    fields = len(data[:SLOT_BYTES].rstrip(b"\0"))
    for at in range(len(data)):
        if at % SLOT_BYTES < fields + 2 or at % PADDING_STRIDE == 0:
            yield at


def bits_of(name: str) -> Iterator[int]:
    """Every bit of these bytes; of the spare, which nobody reads, one of each."""
    for at in places_of(name):
        if kind_of(name) == "spare":
            yield at * 8 + at % 8
        else:
            yield from range(at * 8, at * 8 + 8)


def judged(changes: dict[str, bytes | None], what: str, acknowledged: int = ACKNOWLEDGED) -> Outcome:
    """The outcome with these files replaced, or gone."""
    disk = DISK.copy()
    for name, content in changes.items():
        if content is None:
            disk.delete(name)
        else:
            disk.put(name, content)
    try:
        return judge(disk, acknowledged)
    except Wrong as wrong:
        pytest.fail(f"{what}: {wrong.what}")
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {error}")


def show(what: str, outcomes: Counter[Outcome]) -> None:
    counts = ", ".join(f"{outcomes[outcome]} {outcome.name.lower()}" for outcome in Outcome if outcomes[outcome])
    print(f"{what}: {sum(outcomes.values())} cases: {counts}")


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit(name: str) -> None:
    """Rot is found wherever it is; only where nothing stands, or a second copy does, is it without consequence."""
    data = whole(name)
    outcomes = Counter(judged({name: flipped(data, bit)}, f"{name}, bit {bit}") for bit in bits_of(name))
    show(f"{name}, flipped", outcomes)
    kind = kind_of(name)
    if kind in (META_NAME, "spare", "snapshot"):
        assert set(outcomes) == {Outcome.RIGHT}, "a second copy stands in, or nothing is in it"
    elif kind == MARK_NAME:
        assert set(outcomes) == {Outcome.WITHHELD}, "nobody knows how far the log went"
    elif kind == "log, earlier segment":
        assert outcomes[Outcome.REFUSED] > 7 * content_end(name) and not outcomes[Outcome.WITHHELD]
    else:
        assert set(outcomes) == {Outcome.RIGHT, Outcome.REFUSED}, "whole sectors, but no mark: perhaps acknowledged"


def test_every_flipped_bit_of_a_log_that_is_acknowledged_to_its_end() -> None:
    """The commonest state of a node that was stopped: then rot in the last batch is a loss that peers can mend."""
    name = SEGMENTS[-1]
    data = whole(name)
    mark = MemoryDisk()
    mark.put(MARK_NAME, whole(MARK_NAME))
    Mark.load(mark).set(Index(len(ENTRIES)), Term(1))
    marked: dict[str, bytes | None] = {MARK_NAME: mark.read(MARK_NAME, 0, 100)}
    outcomes = Counter(
        judged({**marked, name: flipped(data, bit)}, f"{name}, bit {bit}", len(ENTRIES))
        for bit in range(content_end(name) * 8)
    )
    show(f"{name}, acknowledged to its end, flipped", outcomes)
    assert outcomes[Outcome.WITHHELD] > 100 and outcomes[Outcome.REFUSED] > 100


@pytest.mark.parametrize("name", FILES)
def test_every_length(name: str) -> None:
    """A file system that lost its journal, or a copy that ended early."""
    data = whole(name)
    outcomes = Counter(judged({name: data[:size]}, f"{name}, {size} bytes") for size in places_of(name))
    show(f"{name}, cut short", outcomes)
    if kind_of(name) in (META_NAME, MARK_NAME):
        assert Outcome.SHORTER not in outcomes


@pytest.mark.parametrize("name", FILES)
def test_every_missing_file(name: str) -> None:
    """Also refused: a node that would start empty where it had data."""
    outcome = judged({name: None}, f"{name}, gone")
    show(f"{name}, gone", Counter([outcome]))
    expected = {
        META_NAME: Outcome.REFUSED,
        MARK_NAME: Outcome.WITHHELD,
        "spare": Outcome.RIGHT,
        "snapshot": Outcome.RIGHT,
        "log, last segment": Outcome.WITHHELD,
    }
    if name == SEGMENTS[0]:
        assert outcome is Outcome.RIGHT, "both snapshots stand behind it"
    else:
        assert outcome is expected.get(kind_of(name), Outcome.REFUSED)


def test_two_files_damaged_at_once() -> None:
    """Rarer, and the reason why no file vouches for itself alone: by seed, flipped, cut short, zeroed or gone."""
    outcomes: Counter[Outcome] = Counter()
    for seed in range(PAIRS):
        chance = random.Random(seed)
        changes = {name: _damaged(name, chance) for name in chance.sample(FILES, 2)}
        outcomes[judged(changes, f"seed {seed}, {' and '.join(changes)}")] += 1
    show("two files", outcomes)
    assert all(outcomes[outcome] for outcome in (Outcome.RIGHT, Outcome.WITHHELD, Outcome.REFUSED))


def test_the_mark_and_any_end_of_the_log() -> None:
    """The worst pair: what would tell that the log is too short is damaged together with it."""
    name = SEGMENTS[-1]
    data = whole(name)
    for mark in (None, bytes(20)):
        outcomes = Counter(
            judged({MARK_NAME: mark, name: data[:size]}, f"a bad mark, {name} of {size} bytes")
            for size in range(len(data))
        )
        show(f"{MARK_NAME} and {name}, cut short", outcomes)
        assert set(outcomes) == {Outcome.WITHHELD, Outcome.REFUSED}


def _damaged(name: str, chance: random.Random) -> bytes | None:
    data = whole(name)
    end = max(1, content_end(name))
    way = chance.randrange(5)
    if way == 0:
        return None
    if way == 1:
        return data[: chance.randrange(end)]
    if way == 2:
        at = chance.randrange(end)
        return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]
    for _ in range(1 if way == 3 else chance.randrange(2, 20)):
        data = flipped(data, chance.randrange(end * 8))
    return data


def test_the_judgement_itself_finds_what_is_wrong() -> None:
    """A judge that never says no proves nothing: each of these would be a node that started wrong."""
    for break_it in (_forget_the_vote, _lose_a_tail, _promise_nothing):
        disk = DISK.copy()
        break_it(disk)
        with pytest.raises(Wrong):
            judge(disk)


def _forget_the_vote(disk: MemoryDisk) -> None:
    metadata = Metadata.load(disk)
    metadata.hard_state = type(VOTED)(VOTED.term, None)
    metadata.repair()


def _lose_a_tail(disk: MemoryDisk) -> None:
    """The last batches are gone, and the mark goes back with them, as no damage can do it."""
    name = SEGMENTS[-1]
    data = whole(name)
    disk.put(name, data[:64] + bytes(len(data) - 64))
    Mark.load(disk).set(Index(3), Term(1))


def _promise_nothing(disk: MemoryDisk) -> None:
    _lose_a_tail(disk)
    Mark.load(disk).set(Index(0), Term(0))
