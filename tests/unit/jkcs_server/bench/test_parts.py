"""The parts of requests that never change are made once, and not kept for ever."""

from __future__ import annotations

from jkcs_server.bench.parts import TABLES_MAX, Parts
from jkcs_server.bench.work import Kind, Work


def test_all_connections_of_a_cell_share_what_is_made_once() -> None:
    """Wherever each of them begins, and however many requests it has."""
    made: list[tuple[Kind, int]] = []

    def make(work: Work, key: int) -> bytes:
        made.append((work.kind, key))
        return b"%d" % key

    parts = Parts(make)
    first = parts.of(Work(Kind.MIXED, "/f", 10, first=0, cycle=3), Kind.SET)
    assert parts.of(Work(Kind.MIXED, "/f", 10, first=2, cycle=3, limit=9), Kind.SET) is first == [b"0", b"1", b"2"]
    assert parts.of(Work(Kind.MIXED, "/f", 10, cycle=3), Kind.GET_LOCAL) is not first
    assert made == [(kind, key) for kind in (Kind.SET, Kind.GET_LOCAL) for key in range(3)]


def test_only_the_tables_made_last_are_kept() -> None:
    """Values of one cell may take megabytes."""
    parts = Parts(lambda work, key: work.folder.encode())
    oldest = parts.of(Work(Kind.SET, "/0", 1, cycle=1), Kind.SET)
    for number in range(TABLES_MAX):
        parts.of(Work(Kind.SET, f"/{number + 1}", 1, cycle=1), Kind.SET)
    assert parts.of(Work(Kind.SET, "/0", 1, cycle=1), Kind.SET) is not oldest
    assert parts.of(Work(Kind.CREATE, "/0", 1), Kind.CREATE) is None
