"""Pieces of a snapshot in the log: a whole row makes a whole snapshot, anything else makes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journal.errors import CorruptRecord
from journal.record import make_entry
from journal.recovering import PIECE_HEAD_BYTES, Gathering, pieces
from journal.values import Entry, EntryKind, Index

CHUNKS = [b"\0one", b"\0" + b"two" * 30, b"\1x", b"\1" + bytes(64)]


def row(size: int = 40, index: int = 7, term: int = 2, chunks: list[bytes] = CHUNKS) -> list[Entry]:
    payloads = pieces(Index(index), chunks, size)
    return [
        make_entry(100 + number, term, 1000, EntryKind.RECOVER, payload, 0) for number, payload in enumerate(payloads)
    ]


def gathered(entries: list[Entry], gathering: Gathering | None = None) -> list[bytes] | None:
    """What the last entry gave; those before must give nothing."""
    gathering = gathering or Gathering()
    results = [gathering.take(entry) for entry in entries]
    assert all(result is None for result in results[:-1])
    assert gathering.under_way == (results[-1] is None and len(entries) > 0 and gathering.under_way)
    return results[-1]


@pytest.mark.parametrize("size", [PIECE_HEAD_BYTES + 1, 20, 40, 77, 78, 1000])
@pytest.mark.parametrize("chunks", [[], [b"x"], CHUNKS, [b"c" * 64] * 9], ids=["none", "one", "four", "many"])
def test_pieces_make_the_chunks_again(size: int, chunks: list[bytes]) -> None:
    """A chunk may be larger than what one entry may carry, and a snapshot may have none."""
    entries = row(size, chunks=chunks)
    assert all(len(entry.payload) <= size for entry in entries)
    assert gathered(entries) == chunks


def test_every_gap_ends_a_row() -> None:
    """Some of a snapshot is not a smaller snapshot."""
    entries = row()
    for missing in range(len(entries)):
        assert gathered(entries[:missing] + entries[missing + 1 :]) is None


def test_pieces_of_two_terms_or_snapshots_do_not_mix() -> None:
    """Another leader's pieces may be cut elsewhere."""
    entries = row()
    for others in (row(term=3), row(index=8)):
        for place in range(1, len(entries)):
            assert gathered(entries[:place] + others[place:]) is None


def test_a_new_row_replaces_an_unfinished_one() -> None:
    """A leader that was asked again, or the next one."""
    entries = row()
    for place in range(len(entries)):
        assert gathered(entries[:place] + row(term=3, chunks=[b"new"])) == [b"new"]


def test_a_snapshot_in_between_ends_a_row() -> None:
    """A node that starts from that snapshot has not seen the pieces before it."""
    gathering = Gathering()
    entries = row()
    assert gathered(entries[:3], gathering) is None and gathering.under_way
    gathering.forget()
    assert gathered(entries[3:], gathering) is None and not gathering.under_way


def test_an_entry_that_is_no_piece_has_no_effect() -> None:
    """To stop at it would be to stop on all nodes, at each start."""
    entries = row()
    strange = make_entry(100, 2, 1000, EntryKind.RECOVER, b"short", 0)
    assert gathered([*entries[:2], strange, *entries[2:]]) is None


def test_the_last_piece_waits_for_the_last_chunk_to_be_verified() -> None:
    """A damaged snapshot is noticed at its end at the latest: before that it must not take effect."""

    def damaged() -> Iterator[bytes]:
        yield from CHUNKS
        raise CorruptRecord("the footer")

    entries = []
    with pytest.raises(CorruptRecord):
        for payload in pieces(Index(7), damaged(), 40):
            entries.append(make_entry(100, 2, 1000, EntryKind.RECOVER, payload, 0))
    assert len(entries) > 3 and gathered(entries) is None
