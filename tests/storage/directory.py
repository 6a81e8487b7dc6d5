"""A small data directory with everything in it, and the judgement of what a node makes of it once it is damaged.

The machine is a running checksum of all it has applied, so that a state tells of every entry before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from crc32c import crc32c

from journal.errors import StorageError
from journal.limits import Limits
from journal.storage.disk import Disk
from journal.storage.metadata import MARK_NAME, META_NAME
from journal.storage.store import Identity, Store
from journal.values import START, Configuration, Entry, EntryKind, HardState, Index, NodeId, Term
from tests.support.memory_disk import MemoryDisk
from tests.unit.journal.storage.samples import end_of, make_entries

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
THREE = Configuration((A, B, C))
LIMITS = Limits(
    record_bytes_max=256,
    append_bytes_max=256,
    segment_bytes=512,
    snapshot_entries=1000,
    snapshot_chunk_bytes=128,
    log_memory_bytes_max=700,
)
VOTED = HardState(Term(3), B)
ENTRIES = make_entries(START, 17, size=8)
ACKNOWLEDGED = 16
"""The entries behind it are on the disk, but the process ended before anybody was told."""
SNAPSHOTS = (6, 9)
NAMED = re.compile(r"log-\d+|snap-\d+|\bmeta\b|\bmark\b|\bindex \d+|the log is missing")


class Machine:
    """A state machine that can be compared: all that it has applied, as one number."""

    def __init__(self) -> None:
        self.applied = 0
        self.state = 0

    def apply(self, entry: Entry) -> None:
        assert entry.first == self.applied + 1, (entry.first, self.applied)
        if entry.kind is EntryKind.COMMANDS:
            self.state = crc32c(entry.payload, self.state)
        self.applied = entry.last

    def snapshot(self) -> Iterator[bytes]:
        image = b"%d %d" % (self.applied, self.state)
        return iter((image[:3], image[3:]))

    def restore(self, chunks: Iterable[bytes]) -> None:
        applied, state = b"".join(chunks).split() or (b"0", b"0")
        self.applied, self.state = int(applied), int(state)

    def digest(self) -> int:
        return self.state


def state_at(index: int) -> int:
    """What the machine's state is there."""
    machine = Machine()
    for entry in ENTRIES[:index]:
        machine.apply(entry)
    return machine.state


def open_store(disk: Disk, me: NodeId = A) -> Store:
    return Store.open(disk, Identity("damage", me), LIMITS, THREE)


def make_disk(me: NodeId = A) -> MemoryDisk:
    """Segments with batches of one and of several records, two snapshots, term and vote, a mark, a spare."""
    disk = MemoryDisk()
    store = open_store(disk, me)
    store.save(VOTED, ENTRIES[:3])
    at = 3
    for count in (1, 2, 1, 2, 1, 1, 2, 3):
        store.save(None, ENTRIES[at : at + count])
        at += count
        for index in SNAPSHOTS:
            if at - count < index <= at:
                _take_snapshot(store, index)
    assert at == ACKNOWLEDGED, at
    mark = disk.read(MARK_NAME, 0, 100)
    store.save(None, ENTRIES[ACKNOWLEDGED:])
    disk.put(MARK_NAME, mark)
    return disk.copy()


def _take_snapshot(store: Store, index: int) -> None:
    machine = Machine()
    for entry in ENTRIES[:index]:
        machine.apply(entry)
    writer = store.snapshots.begin(end_of(ENTRIES[index - 1]), THREE, machine.digest())
    for chunk in machine.snapshot():
        writer.add(b"\0" + chunk)
    writer.finish()


class Outcome(Enum):
    RIGHT = "right: everything is there"
    SHORTER = "right: all that was acknowledged is there"
    WITHHELD = "keeps from voting until it is refilled"
    REFUSED = "refuses, and names the file or the index"


@dataclass(slots=True)
class Wrong(Exception):
    """The node started with something that is not so."""

    what: str


def judge(disk: MemoryDisk, acknowledged: int = ACKNOWLEDGED) -> Outcome:
    """Start on the directory as production does, read everything, and compare. Raises Wrong."""
    changes = disk.changes
    try:
        store = open_store(disk)
    except StorageError as error:
        if disk.changes != changes:
            raise Wrong("it refused, and still changed the directory") from error
        if not NAMED.search(str(error)):
            raise Wrong(f"it does not say what is damaged: {error}") from error
        return Outcome.REFUSED
    if store.hard_state != VOTED:
        raise Wrong(f"term and vote are {store.hard_state}")
    last = read_everything(store)
    if store.withheld:
        return Outcome.WITHHELD
    if last < acknowledged:
        raise Wrong(f"the log ends at {last} without a word, {acknowledged} was acknowledged")
    return Outcome.RIGHT if last == len(ENTRIES) else Outcome.SHORTER


def read_everything(store: Store) -> int:
    """Restore a machine from the newest snapshot, apply the whole log behind it, compare. Returns its end."""
    machine = Machine()
    meta = store.snapshot
    if meta is not None:
        machine.restore(chunk[1:] for chunk in store.snapshots.chunks(meta))
        if (machine.applied, machine.state) != (meta.position.index, state_at(meta.position.index)):
            raise Wrong(f"the snapshot at {meta.position.index} holds another state")
    if store.start.index > machine.applied:
        raise Wrong(f"nothing covers {machine.applied + 1} to {store.start.index}")
    before = store.start
    while before.index < store.last.index:
        position, page = store.read(Index(before.index + 1), 200)
        if position != before or page != ENTRIES[before.index : page[-1].last]:
            raise Wrong(f"other entries stand behind {before.index}")
        for entry in page:
            if entry.first > machine.applied:
                machine.apply(entry)
        before = end_of(page[-1])
    if before != store.last or machine.state != state_at(machine.applied):
        raise Wrong(f"the log ends at {before}, and is said to end at {store.last}")
    return machine.applied


def kind_of(name: str) -> str:
    """For the table: which kind of file this is."""
    if name in (META_NAME, MARK_NAME):
        return name
    if name.startswith("snap-"):
        return "snapshot"
    if name == "log.new":
        return "spare"
    return "log, last segment" if name == LAST_SEGMENT else "log, earlier segment"


DISK = make_disk()
FILES = DISK.names()
LAST_SEGMENT = max(name for name in FILES if name.startswith("log-"))
