"""A cluster whose counters stand right before the edge of 31 or 32 bits when a run begins (RELIABILITY 63).

Each disk is given a snapshot of one small tree at a high index and term, with sequences that have come far; servers
start from it as from any other. The ghost is told the same. Called by the world before a machine's first start.
"""

from __future__ import annotations

from jkcs_server.tree.acl import Acl
from jkcs_server.tree.machine import TreeMachine
from journal.limits import Limits
from journal.machine import combined_digest
from journal.storage.disk import Disk
from journal.storage.metadata import Identity
from journal.storage.store import Store
from journal.values import Configuration, HardState, Index, Position, Term

EDGES = (1 << 31, 1 << 32)
INDICES_BEFORE, TERMS_BEFORE, NUMBERS_BEFORE = 60, 2, 4
"""So far before an edge the counters begin: near enough to pass it in any run."""
COUNTED = ("/seq", "/locks", "/locks/a", "/locks/b", "/locks/c", "/order")
"""Keys that are there from the beginning, with sequences of their own."""
STAMP = 1


class _Silent:
    """Hooks of a machine that serves nobody."""

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None: ...

    def on_opened(self, password: bytes, session_id: int, index: int) -> None: ...

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None: ...

    def on_ended(self, session_id: int, index: int, expired: bool) -> None: ...


def position_before(edge: int) -> Position:
    """Where the log begins."""
    return Position(Index(edge - INDICES_BEFORE), Term(edge - TERMS_BEFORE), 0, STAMP)


def machine_before(edge: int) -> TreeMachine:
    """The state there."""
    position = position_before(edge)
    old, new = TreeMachine(_Silent()), TreeMachine(_Silent())
    for number, path in enumerate(COUNTED):
        old.tree.create(path, b"", 0, 0, position.index - len(COUNTED) + number, STAMP)
        old.tree.nodes[path].sequence = edge - NUMBERS_BEFORE
    old.tree.changes.clear()
    old.applied = position.index
    new.restore(list(old.snapshot()))
    return new


def prepare(
    disk: Disk, identity: Identity, limits: Limits, configuration: Configuration, incarnation: bytes, edge: int
) -> None:
    """Make an empty disk that of a server which stands there."""
    machine, position = machine_before(edge), position_before(edge)
    store = Store.open(disk, identity, limits, configuration, incarnation)
    store.save(HardState(position.term, None), [])
    writer = store.snapshots.begin(position, configuration, combined_digest({0: machine}))
    for chunk in machine.snapshot():
        writer.add(b"\0" + chunk)
    writer.finish()
    Store.open(disk, identity, limits, configuration, incarnation)
