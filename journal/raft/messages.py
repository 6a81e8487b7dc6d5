"""What replicas say to each other: the RPCs of the Raft paper, as one-way messages.

The network tells who sent a message, so it is not repeated inside. Every message carries the
sender's term. Messages are built once per pass and never changed; they are not frozen because
freezing costs a microsecond each on the path of every write.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from journal.values import Entry, Index, SnapshotMeta, Term


@dataclass(slots=True)
class VoteRequest:
    """RequestVote, and PreVote when `pre` (thesis 9.6): then `term` is the term it would campaign in."""

    term: Term
    last_index: Index
    last_term: Term
    pre: bool = False
    transfer: bool = False
    """The leader asked for this campaign: followers that still hear it vote all the same (thesis 3.10)."""


@dataclass(slots=True)
class VoteReply:
    """`term` is the voter's own, or the term asked for when a pre-vote is granted."""

    term: Term
    granted: bool
    pre: bool = False


@dataclass(slots=True)
class Append:
    """AppendEntries with entries, or without as a probe or a notice of the commit index."""

    term: Term
    previous_index: Index
    previous_term: Term
    previous_crc: int
    """Chained checksum at `previous_index`: where the terms agree and this does not, a log is damaged."""
    commit: Index
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class AppendReply:
    """Leaves only when everything up to `match` is on the sender's disk."""

    term: Term
    match: Index
    """When accepted: the follower's log equals the leader's up to here, durably. When refused: 0."""
    refused: bool = False
    refused_previous: Index = Index(0)
    """Which probe was refused, so that a late answer is known as late."""
    hint_index: Index = Index(0)
    """When refused: the last place where the logs may agree ..."""
    hint_term: Term = Term(0)
    """... and the follower's term there."""


@dataclass(slots=True)
class Heartbeat:
    """Keeps followers quiet and, by its echo, proves that its sender still leads. Never waits for a disk."""

    term: Term
    commit: Index
    """Never beyond what this follower is known to have."""
    round: int
    """Rises with every heartbeat round of this leader; read requests wait for the echo of theirs."""
    checkpoint: Index = Index(0)
    """Which state the leader wants to hear the digest of; 0 for none."""
    attested: Index = Index(0)
    """A state whose digest a quorum agrees on ..."""
    attested_digest: int = 0
    """... and that digest: whoever has another one has a damaged state."""


@dataclass(slots=True)
class HeartbeatReply:
    term: Term
    round: int
    idle: bool = False
    """The sender has no clients: it need not be told of each commit at once, heartbeats tell it soon enough."""
    checkpoint: Index = Index(0)
    """Of which state `digest` is, 0 when the sender did not have that state yet or any more."""
    digest: int = 0


@dataclass(slots=True)
class TimeoutNow:
    """The leader hands over: campaign at once, without a pre-vote (thesis 3.10)."""

    term: Term


@dataclass(slots=True)
class ReadRequest:
    """A follower asks for a read index (thesis 6.4). `note` is opaque and is shown to the leader's owner first."""

    term: Term
    context: int
    """Chosen by the asker, never used twice."""
    floor: Index = Index(0)
    """The read must not be answered below this index."""
    note: bytes = b""


@dataclass(slots=True)
class ReadReply:
    term: Term
    context: int
    index: Index


@dataclass(slots=True)
class SnapshotChunk:
    """InstallSnapshot: one piece of a snapshot file."""

    term: Term
    meta: SnapshotMeta
    offset: int
    data: bytes


@dataclass(slots=True)
class SnapshotReply:
    term: Term
    index: Index
    """Which snapshot is meant."""
    offset: int
    """Bytes the receiver has in order; equal to the size once it is installed."""
    installed: bool = False
    damaged: bool = False
    """What was received is not what its own checksums say; it was thrown away."""


@dataclass(slots=True)
class Proposal:
    """Commands of a node that does not lead, on their way to the one that does. May be lost: the sender asks again."""

    term: Term
    machine: int
    partition: int
    count: int
    payload: bytes
    context: int = 0
    """Chosen by the sender, to know the answer by."""
    ack: int = 0
    """Which answer it wants: one of the numbers below, 0 for none."""


RECEIVED = 1
"""The leader has the commands in memory."""
STORED = 2
"""The leader's disk has them."""


@dataclass(slots=True)
class ProposalReply:
    """What became of a proposal that wanted an answer."""

    term: Term
    context: int
    ack: int
    """RECEIVED or STORED."""
    index: Index
    """Of the first command; 0 when the leader was too busy to take the proposal."""


@dataclass(slots=True)
class PullRequest:
    """An observer asks any member for committed entries."""

    term: Term
    after: Index
    """It has everything up to here, the end of a record."""
    wait: bool
    """There is no hurry: the answer may wait until something is committed."""


@dataclass(slots=True)
class PullReply:
    """Committed entries for an observer, or only news when there are none."""

    term: Term
    leader: str
    """Who leads in `term`; empty when the sender knows of nobody."""
    hops: int
    """How many observers stand between the sender and a member that votes."""
    compacted: bool
    """What was asked for is gone: a snapshot follows."""
    attested: Index
    attested_digest: int
    """As in a heartbeat."""
    previous_index: Index
    previous_term: Term
    previous_crc: int
    commit: Index
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class AdminRequest:
    """A request of an administrator, on its way to the leader. What it says is the business of the owners."""

    term: Term
    context: int
    body: bytes


@dataclass(slots=True)
class AdminReply:
    term: Term
    context: int
    body: bytes


Message = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
    | ReadRequest
    | ReadReply
    | SnapshotChunk
    | SnapshotReply
    | Proposal
    | ProposalReply
    | PullRequest
    | PullReply
    | AdminRequest
    | AdminReply
)

NOT_FOR_THE_CORE = (Proposal, ProposalReply, AdminRequest, AdminReply)
"""What the drivers say to each other: the rules have no part in it."""
FROM_LEADERS = (VoteRequest, Append, Heartbeat, SnapshotChunk, TimeoutNow)
"""What comes from a leader, or from one who wants to be."""
