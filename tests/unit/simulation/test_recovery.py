"""The rehearsal of a start: a disk that recovers is accepted, one that would not is rejected."""

from __future__ import annotations

import random

import pytest

from journal.limits import Limits
from journal.record import make_entry
from journal.storage.metadata import META_NAME
from journal.storage.store import Identity, Store
from journal.values import Configuration, EntryKind, HardState, NodeId, Term
from tests.simulation.checkers.durability import DurableLog
from tests.simulation.checkers.raft import Committed
from tests.simulation.checkers.recovery import STEPS_BETWEEN, Owner, RecoveryChecker, torn_copy
from tests.simulation.disk import SimDisk
from tests.simulation.observer import durable_log
from tests.simulation.trace import Violation
from tests.support.memory_disk import MemoryDisk

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
OWNER = Owner(Identity("simulated", A), Limits(), Configuration((A, B, C)))


def written() -> MemoryDisk:
    """A data directory with a vote and one entry."""
    disk = MemoryDisk()
    store = Store.open(disk, OWNER.identity, OWNER.limits, OWNER.configuration)
    store.save(HardState(Term(2), B), [make_entry(1, 2, 5, EntryKind.NOOP, b"", 0)])
    return disk


def rehearse(disk: MemoryDisk, *, newest: Committed, state: HardState) -> None:
    checker = RecoveryChecker()
    checker.on_boot(A, OWNER)
    durable = DurableLog()
    durable.put(1, newest.index, newest.term, 0)
    checker.check(A, disk, durable, newest, state, durable_log)


def test_a_disk_that_has_what_it_vouches_for_is_accepted() -> None:
    """As every crash that the product survives."""
    rehearse(written(), newest=Committed(1, 2), state=HardState(Term(2), B))


def test_a_rehearsal_is_made_on_a_copy() -> None:
    """What was synced is in it, what was not may be; the disk itself and its followers notice nothing."""
    disk = SimDisk(random.Random(3))
    heard: list[str] = []
    disk.on_durable = lambda name, written: heard.append(name)
    disk.create("f", 4096)
    disk.write("f", 0, [b"safe"])
    disk.sync("f")
    disk.sync_names()
    disk.write("f", 0, [b"lost"])
    disk.sync = lambda name: pytest.fail("the copy must not reach the disk")  # type: ignore[method-assign]
    kept = set()
    for seed in range(20):
        disk._chance = random.Random(seed)
        twin = torn_copy(disk)
        kept.add(twin.read("f", 0, 4))
        twin.write("f", 0, [b"mine"])
        twin.sync("f")
    assert kept == {b"safe", b"lost"}
    assert disk.read("f", 0, 4) == b"lost" and disk.durable_image().read("f", 0, 4) == b"safe"
    assert heard == ["f"] and disk.on_durable is not None


def test_a_disk_that_cannot_be_read_is_rejected() -> None:
    """I11: no crash may leave it so."""
    disk = written()
    disk.write(META_NAME, 0, [bytes(disk.size(META_NAME))])
    with pytest.raises(Violation, match="I11"):
        rehearse(disk, newest=Committed(1, 2), state=HardState(Term(2), B))


def test_a_committed_entry_that_would_not_be_found_is_rejected() -> None:
    """I7."""
    with pytest.raises(Violation, match="I7"):
        rehearse(written(), newest=Committed(2, 2), state=HardState(Term(2), B))


def test_a_term_that_would_be_forgotten_is_rejected() -> None:
    """I6."""
    with pytest.raises(Violation, match="I6"):
        rehearse(written(), newest=Committed(1, 2), state=HardState(Term(3), B))


def test_everybody_gets_a_turn() -> None:
    """One after the other, every so many steps."""
    checker = RecoveryChecker()
    assert {checker.due() for _ in range(STEPS_BETWEEN + 1)} == {None}  # nobody has started yet
    checker.on_boot(A, OWNER)
    checker.on_boot(B, OWNER)
    turns = [node for node in (checker.due() for _ in range(2 * STEPS_BETWEEN)) if node is not None]
    assert sorted(turns) == [A, B]
