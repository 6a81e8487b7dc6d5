"""The values that every part of the journal speaks in.

Knows nothing of time, disks or networks. Indices and terms are plain integers at run time
(a `NewType` costs nothing where it is only annotated); `NodeId` is the name a node has in
the configuration.

An `Entry` is what one pass of the leader appended: one record on disk and on the wire that
carries `count` commands, each with an index of its own, `first` to `last`. All nodes hold the
same records, cut at the same places, because only a leader makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NewType

NodeId = NewType("NodeId", str)
Term = NewType("Term", int)
Index = NewType("Index", int)
"""Position of one command in the log; the first is 1. Never reused, never beyond 2**63."""
Partition = NewType("Partition", int)

INDEX_MAX = 2**63 - 1


class EntryKind(IntEnum):
    """What an entry carries, for those who must act on it without reading its payload."""

    NOOP = 0  # a new leader's first entry: nothing of older terms commits before it
    COMMANDS = 1  # commands of one state machine
    CONFIGURATION = 2  # a new configuration of the cluster
    SNAPSHOT = 3  # every node takes a snapshot at this index
    RECOVER = 4  # a piece of an older snapshot, whose state the machines go back to


@dataclass(slots=True)
class Entry:
    """One record of the log. Never changed once built; see `journal.record` for its bytes.

    Not frozen: a frozen dataclass of this size costs a microsecond more to build.
    """

    first: Index
    last: Index
    """`first <= last`; a record without commands (a no-op) still takes one index."""
    term: Term
    kind: EntryKind
    stamp: int
    """The leader's wall clock in milliseconds since 1970; never less than the entry before it."""
    machine: int
    """Which state machine the commands are for."""
    partition: Partition
    crc: int
    """Checksum of this record, chained with the record before it: equal on every node."""
    record: bytes
    """The whole record as it lies on disk and travels between peers."""

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def payload(self) -> memoryview:
        return memoryview(self.record)[RECORD_HEADER_BYTES:]


RECORD_HEADER_BYTES = 44


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must not forget: on disk before any message that follows from it leaves."""

    term: Term = Term(0)
    vote: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who belongs to the cluster. `outgoing` is the old half of a joint configuration, or empty."""

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()

    def check(self) -> None:
        """Raise ValueError for a configuration that can never work."""
        if not self.voters:
            raise ValueError("a configuration needs at least one voter")
        for name, half in (("voters", self.voters), ("outgoing", self.outgoing), ("learners", self.learners)):
            if list(half) != sorted(set(half)):
                raise ValueError(f"{name} must be sorted and without repetition: {half}")
        both = set(self.learners) & (set(self.voters) | set(self.outgoing))
        if both:
            raise ValueError(f"{sorted(both)} cannot be learner and voter at once")

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everybody who receives the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))


@dataclass(frozen=True, slots=True)
class Position:
    """The end of some prefix of the log: where a record ended, in which term, with which chained checksum."""

    index: Index = Index(0)
    term: Term = Term(0)
    crc: int = 0
    stamp: int = 0


START = Position()
"""Before the first entry."""


@dataclass(frozen=True, slots=True)
class SnapshotMeta:
    """What is known of a snapshot without reading its body."""

    position: Position
    """Everything up to here is in the snapshot; the log goes on from here."""
    configuration: Configuration
    size: int
    """Bytes of the snapshot file."""
    digest: bytes = field(default=b"")
    """BLAKE2b-256 over the body, checked before the snapshot is used."""
    state_digest: int = 0
    """What `machine.combined_digest` says of the machines at this index, and must say when they are restored."""
