"""What the core wants done: the one value through which its decisions leave it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from journal.raft.messages import Message, SnapshotChunk
from journal.values import Configuration, Entry, HardState, Index, NodeId, Term


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"  # of a pre-vote or a vote
    LEADER = "leader"
    LEARNER = "learner"  # receives the log and has no say, or does not belong to the cluster yet
    OBSERVER = "observer"  # pulls the log and has no say


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads, as this node sees it."""

    role: Role
    term: Term
    leader: NodeId | None
    serving: bool = False
    """This node leads and the no-op of its term is committed and handed out for applying."""


@dataclass(frozen=True, slots=True)
class ReadGrant:
    """The read known as `context` may be answered once `index` is applied."""

    context: int
    index: Index


@dataclass(slots=True)
class Ready:
    """One pass's effects. The driver must respect what each field says about order."""

    number: int
    """Rises by one with each Ready. Given back to `Core.saved` when its hard state and entries are durable."""
    hard_state: HardState | None = None
    """To be durable before `replies`. Written before `entries`."""
    entries: list[Entry] = field(default_factory=list)
    """To be appended to the log; whatever the log has from `entries[0].first` on is cut away first."""
    messages: list[tuple[NodeId, Message]] = field(default_factory=list)
    """May leave at once, while the disk works (the leader writes in parallel with its followers, thesis 10.2.1)."""
    replies: list[tuple[NodeId, Message]] = field(default_factory=list)
    """May leave only when `hard_state` and `entries` of this and of every earlier Ready are durable."""
    committed: list[Entry] = field(default_factory=list)
    """For the machine, in order. The driver calls `Core.applied` afterwards."""
    reads: list[ReadGrant] = field(default_factory=list)
    chunks: list[tuple[NodeId, SnapshotChunk]] = field(default_factory=list)
    """Pieces of a snapshot from the leader, of a snapshot that is ahead of this node's commit index.
    The driver assembles them, answers each with SnapshotReply, and calls `Core.restored` when the
    snapshot is durable and the machine has taken it in."""
    snapshots_wanted: list[NodeId] = field(default_factory=list)
    """Peers whose next entry was cut away here: the driver sends them its newest snapshot. Said once
    per need; the answers come back through `Core.step`."""
    leadership: Leadership | None = None
    """Set when it changed."""
    configuration: Configuration | None = None
    """The newest one in the log, set when it changed: whom to be connected with."""

    @property
    def must_save(self) -> bool:
        return self.hard_state is not None or bool(self.entries)
