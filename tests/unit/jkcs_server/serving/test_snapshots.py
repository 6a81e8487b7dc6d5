"""The snapshots of a server, as an administrator gets them: a list, and each of them in pieces."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from jkcs_client.protocol.errors import OK, BadArguments, Compacted
from jkcs_server.serving.snapshots import Done, Read, SnapshotShelf
from journal.errors import DiskFailed
from journal.replica import Replica
from journal.storage.segment import is_segment_name
from journal.storage.snapshots import is_snapshot_name
from journal.values import START, NodeId, SnapshotMeta
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import end_of, make_entries, open_store, save_each, take_snapshot

PIECE_BYTES = 50


class Shelf:
    """Two snapshots on a disk in memory; what is read is read when the test says so."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.store = open_store(self.disk)
        entries = make_entries(START, 9)
        save_each(self.store, entries)
        self.metas: list[SnapshotMeta] = [take_snapshot(self.store, end_of(entries[at - 1])) for at in (4, 7)]
        self.jobs: list[tuple[Read, Any]] = []
        replica = cast("Replica", SimpleNamespace(me=NodeId("n1"), store=self.store))
        self.shelf = SnapshotShelf(replica, lambda read, told: self.jobs.append((read, told)), PIECE_BYTES)

    def run(self) -> None:
        """The other thread does what waits for it."""
        jobs, self.jobs = self.jobs, []
        for read, told in jobs:
            try:
                data = read()
            except DiskFailed as error:
                told(None, error)
            else:
                told(data, None)

    def download(self, index: int, offset: int) -> tuple[int, Any]:
        answers: list[tuple[int, Any]] = []
        self.shelf.download({"index": index, "offset": offset}, _into(answers))
        self.run()
        [answer] = answers
        return answer


def _into(answers: list[tuple[int, Any]]) -> Done:
    return lambda code, result: answers.append((code, result))


def test_snapshots_are_listed_newest_first() -> None:
    """Whoever wants to go back sees how far he can, and when each was taken."""
    shelf = Shelf()
    answers: list[tuple[int, Any]] = []
    shelf.shelf.list({}, _into(answers))
    older, newer = shelf.metas
    expected = [
        {
            "index": meta.position.index,
            "term": meta.position.term,
            "time_ms": meta.position.stamp,
            "size": meta.size,
            "digest": meta.digest,
        }
        for meta in (newer, older)
    ]
    assert answers == [(OK, {"node": "n1", "snapshots": expected})]


def test_pieces_add_up_to_the_file() -> None:
    """Each says what it is a piece of, so that a download can go on at another server."""
    shelf = Shelf()
    meta = shelf.metas[0]
    whole, pieces = b"", 0
    while True:
        code, piece = shelf.download(4, len(whole))
        assert code == OK and piece["offset"] == len(whole)
        assert (piece["index"], piece["size"], piece["digest"]) == (4, meta.size, meta.digest)
        if not piece["data"]:
            break
        assert len(piece["data"]) <= PIECE_BYTES
        whole += piece["data"]
        pieces += 1
    assert len(whole) == meta.size and pieces > 1
    [name] = [name for name in shelf.disk.names() if is_snapshot_name(name) and "4" in name]
    assert whole == shelf.disk.read(name, 0, 10**6)


def test_the_disk_is_read_by_the_other_thread() -> None:
    """The caller serves everybody else meanwhile."""
    shelf = Shelf()
    answers: list[tuple[int, Any]] = []
    shelf.shelf.download({"index": 7, "offset": 0}, _into(answers))
    assert answers == [] and len(shelf.jobs) == 1
    shelf.run()
    assert answers[0][0] == OK


@pytest.mark.parametrize("index", [0, 5, 8])
def test_a_snapshot_that_there_is_not_is_refused_by_its_index(index: int) -> None:
    assert Shelf().download(index, 0) == (Compacted.code, f"no snapshot {index} on n1")


def test_an_offset_outside_of_the_file_is_refused() -> None:
    """The end itself is inside: there the empty piece is."""
    shelf = Shelf()
    size = shelf.metas[1].size
    for offset in (-1, size + 1):
        answer = (BadArguments.code, f"offset {offset} of a snapshot of {size} bytes")
        assert shelf.download(7, offset) == answer
    assert shelf.jobs == [], "nothing is read for it"
    assert shelf.download(7, size)[1]["data"] == b""


def test_a_snapshot_that_goes_while_it_is_asked_for_is_not_kept_any_more() -> None:
    """Newer ones push it out between two pieces: no failure of the server."""
    shelf = Shelf()
    for name in shelf.disk.names():
        if is_snapshot_name(name):
            shelf.disk.delete(name)
    assert any(map(is_segment_name, shelf.disk.names()))
    assert shelf.download(4, 0) == (Compacted.code, "snapshot 4 is not kept any more")


def test_a_disk_that_cannot_be_read_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator must look after that server, and get the snapshot from another one."""
    shelf = Shelf()

    def failing(name: str, offset: int, size: int) -> bytes:
        raise DiskFailed("Input/output error")

    monkeypatch.setattr(shelf.disk, "read", failing)
    assert shelf.download(4, 0) == (Compacted.code, "snapshot 4 cannot be read: Input/output error")
