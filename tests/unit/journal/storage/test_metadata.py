"""Term, vote and identity in two slots, and the mark."""

from __future__ import annotations

import pytest

from journal.errors import StorageError
from journal.storage.metadata import MARK_NAME, META_NAME, SLOT_BYTES, VERSION, Mark, Metadata
from journal.values import Configuration, HardState, Index, NodeId, Term
from tests.support.memory_disk import MemoryDisk, Stopped
from tests.unit.journal.storage.samples import ME, THREE

VOTED = HardState(Term(7), NodeId("n2"))
JOINT = Configuration((NodeId("n1"),), (NodeId("n2"),), (NodeId("n3"),))


@pytest.fixture
def disk() -> MemoryDisk:
    disk = MemoryDisk()
    Metadata.create(disk, ME, b"12345678", THREE)
    return disk


def test_what_is_saved_is_found_again(disk: MemoryDisk) -> None:
    """A node that forgets its vote can vote twice in one term (Raft 5.2)."""
    metadata = Metadata.load(disk)
    assert (metadata.identity, metadata.hard_state, metadata.configuration) == (ME, HardState(), THREE)
    metadata.save(VOTED, JOINT)
    found = Metadata.load(disk)
    assert (found.identity, found.hard_state, found.configuration) == (ME, VOTED, JOINT)


def test_a_save_is_durable_on_return(disk: MemoryDisk) -> None:
    """R2: the reply that carries the vote leaves right after."""
    Metadata.load(disk).save(VOTED, THREE)
    disk.crash()
    assert Metadata.load(disk).hard_state == VOTED


@pytest.mark.parametrize("fenced", [9, 0])
def test_a_verdict_about_the_state_is_found_again(disk: MemoryDisk, fenced: int) -> None:
    """A node that differs from the others must not start again and serve, however it was stopped; and one that was
    rebuilt must."""
    metadata = Metadata.load(disk)
    metadata.save(VOTED, JOINT)
    metadata.fence(Index(5))
    metadata.fence(Index(fenced))
    disk.crash()
    found = Metadata.load(disk)
    assert (metadata.fenced, found.fenced) == (fenced, fenced)
    assert (found.hard_state, found.configuration) == (VOTED, JOINT)
    found.save(VOTED, THREE)
    assert Metadata.load(disk).fenced == fenced, "what is saved later does not forget it"


def test_those_who_were_met_are_found_again(disk: MemoryDisk) -> None:
    """A node that comes back with another directory has forgotten what it voted: it is known by its incarnation."""
    metadata = Metadata.load(disk)
    assert metadata.met == {}
    before = metadata.met
    metadata.meet(NodeId("n3"), b"third---")
    metadata.meet(NodeId("n2"), b"second--")
    assert before == {}, "whoever reads it meanwhile sees it unchanged"
    disk.crash()
    found = Metadata.load(disk)
    assert found.met == metadata.met == {"n2": b"second--", "n3": b"third---"}
    assert found.incarnation == b"12345678"
    found.save(VOTED, JOINT)
    found.fence(Index(5))
    assert Metadata.load(disk).met == metadata.met


def test_a_crash_at_any_step_of_a_save_leaves_one_whole_state(disk: MemoryDisk) -> None:
    """R8: term and vote change together or not at all, and the slots are never both under way."""
    for step in range(4):
        other = disk.copy()
        metadata = Metadata.load(other)
        other.stop_at = other.changes + step
        with pytest.raises(Stopped):
            metadata.save(VOTED, THREE)
        other.crash()
        expected = VOTED if step >= 2 else HardState()
        assert Metadata.load(other).hard_state == expected


@pytest.mark.parametrize("slot", [0, SLOT_BYTES])
def test_either_slot_may_be_damaged(disk: MemoryDisk, slot: int) -> None:
    """R8: one copy is enough, wherever the damage is."""
    Metadata.load(disk).save(VOTED, THREE)
    whole = disk.read(META_NAME, 0, 2 * SLOT_BYTES)
    for at in range(80):
        damaged = bytearray(whole)
        damaged[slot + at] ^= 32
        disk.put(META_NAME, bytes(damaged))
        assert Metadata.load(disk).hard_state == VOTED


def test_a_bad_slot_is_repaired_before_it_is_needed(disk: MemoryDisk) -> None:
    """Else a crash in the next save could take the other one too."""
    disk.write(META_NAME, SLOT_BYTES, [bytes(100)])
    Metadata.load(disk).repair()
    disk.write(META_NAME, 0, [bytes(100)])
    assert Metadata.load(disk).identity == ME


def test_two_bad_slots_are_refused(disk: MemoryDisk) -> None:
    """R8: a node without its vote must not take part."""
    for slot in (0, SLOT_BYTES):
        disk.write(META_NAME, slot + 20, [b"\xff\xff"])
    with pytest.raises(StorageError, match="both copies of the node's term and vote are damaged"):
        Metadata.load(disk)
    disk.put(META_NAME, b"")
    with pytest.raises(StorageError, match="both copies"):
        Metadata.load(disk)


def test_an_unknown_version_is_refused_by_number(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good slot of another version is no damage, so the other slot is no way out."""
    monkeypatch.setattr("journal.storage.metadata.VERSION", VERSION + 4)
    metadata = Metadata(disk, ME, b"12345678", VOTED, THREE, {}, Index(0), 5)
    metadata.repair()
    monkeypatch.undo()
    with pytest.raises(StorageError, match=f"format version {VERSION + 4}, this program knows version {VERSION}"):
        Metadata.load(disk)


def test_the_term_never_goes_back(disk: MemoryDisk) -> None:
    """Invariant I6."""
    metadata = Metadata.load(disk)
    metadata.save(VOTED, THREE)
    with pytest.raises(AssertionError):
        metadata.save(HardState(Term(6)), THREE)


def test_the_mark_is_found_again(disk: MemoryDisk) -> None:
    """It tells a damaged tail that was acknowledged from one that was not."""
    mark = Mark.create(disk)
    assert (Mark.load(disk).index, Mark.load(disk).term) == (0, 0)
    mark.set(Index(10), Term(3))
    assert (Mark.load(disk).index, Mark.load(disk).term) == (10, 3)


def test_the_mark_rises_without_a_sync_and_falls_with_one(disk: MemoryDisk) -> None:
    """Rising late promises too little, falling late would promise what was cut away."""
    mark = Mark.create(disk)
    mark.set(Index(10), Term(3))
    disk.crash()
    assert Mark.load(disk).index == 0
    mark.set(Index(10), Term(3))
    mark.lower(Index(4), Term(2))
    disk.crash()
    assert (Mark.load(disk).index, Mark.load(disk).term) == (4, 2)
    mark.lower(Index(5), Term(2))
    assert Mark.load(disk).index == 4


def test_a_damaged_or_missing_mark_promises_nothing(disk: MemoryDisk) -> None:
    """It is a help and not a witness: without it the log still stands for itself."""
    Mark.create(disk).set(Index(10), Term(3))
    whole = disk.read(MARK_NAME, 0, 100)
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        disk.put(MARK_NAME, bytes(damaged))
        assert Mark.load(disk).index == 0
    for size in range(len(whole)):
        disk.put(MARK_NAME, whole[:size])
        assert Mark.load(disk).index == 0
    disk.delete(MARK_NAME)
    assert Mark.load(disk).index == 0
    Mark.load(disk).repair()
    assert MARK_NAME in disk.names()
