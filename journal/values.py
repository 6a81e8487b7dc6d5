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
    """Who belongs to the cluster, and in which role. Every tuple of names is sorted and without repetition.

    A change of voters goes through up to three of these, one entry each: new voters first receive the log as
    `learners` while `target` says where it goes; then both halves decide together (`outgoing`); then `voters`
    alone.
    """

    voters: tuple[NodeId, ...]
    outgoing: tuple[NodeId, ...] = ()
    """The old half of a joint configuration, or empty."""
    learners: tuple[NodeId, ...] = ()
    """They receive the log and have no say; they become voters when they have caught up."""
    observers: tuple[NodeId, ...] = ()
    """They pull the log from anybody and have no say. One that still is in a half with a say becomes an
    observer when it leaves that."""
    target: tuple[NodeId, ...] = ()
    """The voters that a change under way will end with, until it is joint; else empty."""
    addresses: tuple[tuple[NodeId, str], ...] = ()
    """Where members listen for their peers, `host:port`, sorted by name; those that are missing are known otherwise."""
    preferred: NodeId | None = None
    """The voter that should lead whenever it can."""

    def check(self) -> None:
        """Raise ValueError for a configuration that can never work."""
        if not self.voters:
            raise ValueError("a configuration needs at least one voter")
        names = {
            "voters": self.voters,
            "outgoing": self.outgoing,
            "learners": self.learners,
            "observers": self.observers,
            "target": self.target,
            "addresses": tuple(name for name, _ in self.addresses),
        }
        for name, half in names.items():
            if list(half) != sorted(set(half)):
                raise ValueError(f"{name} must be sorted and without repetition: {half}")
        both = set(self.learners) & {*self.voters, *self.outgoing, *self.observers}
        if both:
            raise ValueError(f"{sorted(both)} cannot be a learner and something else at once")
        staying = set(self.voters) if self.outgoing or not self.target else set(self.target)
        both = set(self.observers) & staying
        if both:
            raise ValueError(f"{sorted(both)} cannot be a voter and an observer at once")
        if self.target and (self.outgoing or set(self.target) - {*self.voters, *self.learners}):
            raise ValueError(f"target {self.target} does not follow from voters and learners")
        if self.preferred is not None and self.preferred not in {*self.voters, *self.target}:
            raise ValueError(f"preferred leader {self.preferred} is not a voter")

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Everybody who belongs to the cluster in any role, sorted."""
        return tuple(sorted({*self.receivers, *self.observers}))

    @property
    def receivers(self) -> tuple[NodeId, ...]:
        """Everybody whom the leader sends the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))

    @property
    def changing(self) -> bool:
        """A change of voters is under way."""
        return bool(self.outgoing or self.target)

    def has_say(self, node: NodeId) -> bool:
        """Whether a node votes."""
        return node in self.voters or node in self.outgoing

    @property
    def fields(self) -> list[object]:
        """What travels and lies on disk: lists of text, in this order."""
        halves = (self.voters, self.outgoing, self.learners, self.observers, self.target)
        return [*map(list, halves), [list(pair) for pair in self.addresses], self.preferred]

    @staticmethod
    def from_fields(fields: object) -> Configuration:
        """The reverse of `fields`, checked. Raises ValueError."""
        if not isinstance(fields, list | tuple) or len(fields) != _CONFIGURATION_FIELDS:
            raise ValueError(f"a configuration has {_CONFIGURATION_FIELDS} fields")
        voters, outgoing, learners, observers, target, addresses, preferred = fields
        configuration = Configuration(
            _nodes(voters),
            _nodes(outgoing),
            _nodes(learners),
            _nodes(observers),
            _nodes(target),
            tuple((NodeId(name), address) for name, address in map(_pair, _items(addresses))),
            None if preferred is None else NodeId(_text(preferred)),
        )
        configuration.check()
        return configuration


_CONFIGURATION_FIELDS = 7
_MEMBERS_MAX = 1024


def _items(value: object) -> list[object]:
    if not isinstance(value, list | tuple) or len(value) > _MEMBERS_MAX:
        raise ValueError(f"a list of at most {_MEMBERS_MAX} members is expected")
    return list(value)


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError(f"a member's name must be text, not {type(value).__name__}")
    return value


def _texts(value: object) -> list[str]:
    return [_text(item) for item in _items(value)]


def _nodes(value: object) -> tuple[NodeId, ...]:
    return tuple(map(NodeId, _texts(value)))


def _pair(value: object) -> tuple[str, str]:
    name, *rest = _texts(value) or [""]
    if len(rest) != 1:
        raise ValueError("an address belongs to one member")
    return name, rest[0]


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
