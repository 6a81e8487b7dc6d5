"""What a driver and its users may look at of a core: its state, told in their words, and never changed here.

The base of `journal.raft.core.Core`, which changes it.
"""

from __future__ import annotations

from journal.raft.candidate import Candidate
from journal.raft.follower import Follower
from journal.raft.leader import Leader
from journal.raft.progress import PeerStatus, ProgressState
from journal.raft.puller import Puller
from journal.raft.ready import Leadership, Role
from journal.raft.source import Source
from journal.raft.state import State
from journal.raft.vitals import Vitals
from journal.values import Configuration, Index, NodeId, Term


class CoreView:
    """The readable half of a core."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._source = Source(state)
        self._puller = Puller(state)
        """Heeded while this node finds no leader, or pulls only."""
        self._follower = Follower(state)
        self._candidate: Candidate | None = None
        self._leader: Leader | None = None
        """At most one of candidate and leader exists; while neither does, this node follows or observes."""

    def _leadership(self) -> Leadership:
        state = self._state
        return Leadership(state.role, state.term, state.leader, self.serving)

    @property
    def deadline(self) -> float:
        """When `tick` must be called at the latest."""
        if self._leader is not None:
            return self._leader.deadline
        if self._state.pulls_only:
            return self._puller.deadline
        if self._pulls():
            return min(self._puller.deadline, self._election_at())
        return self._election_at()

    def _election_at(self) -> float:
        """When a node that does not lead should campaign (again)."""
        return self._follower.deadline if self._candidate is None else self._candidate.deadline

    def _pulls(self) -> bool:
        """Whether this node asks others for what is committed: nobody sends it to it, as far as it knows."""
        return self._leader is None and (self._state.leader is None or self._state.pulls_only)

    @property
    def idle(self) -> bool:
        """Whether this node has no clients: the leader then spares it notices of each commit. Set by the driver."""
        return self._state.idle

    @idle.setter
    def idle(self, idle: bool) -> None:
        self._state.idle = idle

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def term(self) -> Term:
        return self._state.term

    @property
    def leader(self) -> NodeId | None:
        return self._state.leader

    @property
    def vote(self) -> NodeId | None:
        return self._state.vote

    @property
    def commit(self) -> Index:
        return self._state.commit

    @property
    def applied(self) -> Index:
        return self._state.applied

    @property
    def last_index(self) -> Index:
        return self._state.log.last_index

    @property
    def durable(self) -> Index:
        """Last index on this node's own disk."""
        return self._state.log.durable

    @property
    def withheld(self) -> Index:
        """Above 0 while this node keeps out of elections because its disk lost what it had acknowledged."""
        return self._state.withheld if self._state.withholds() else Index(0)

    @property
    def serving(self) -> bool:
        """Whether this node leads and the no-op of its term was handed to the machine."""
        return self._leader is not None and self._state.applying >= self._leader.first_index

    @property
    def able(self) -> bool:
        """See `Core.set_able`."""
        return self._state.able

    @property
    def configuration(self) -> Configuration:
        """The newest one in the log, committed or not."""
        return self._state.configuration

    @property
    def configuration_index(self) -> Index:
        """Of the entry that brought it, or where the log starts when none there did."""
        return self._state.configuration_index

    @property
    def committed_configuration(self) -> Configuration:
        """The newest one that is committed."""
        return self._state.configuration_at(self._state.commit)

    @property
    def has_caught_up(self) -> bool:
        """Nothing is known to be committed elsewhere that is not here."""
        return self._state.heard_commit <= self._state.commit

    def configuration_at(self, index: Index) -> Configuration:
        """The configuration of a log that ends at `index`, which must not be cut away."""
        return self._state.configuration_at(index)

    def record_digest(self, index: Index, digest: int) -> None:
        """The machines are at `index`, the end of a record, and this is what their state comes to."""
        self._state.digests.record(index, digest)

    @property
    def divergence(self) -> Index | None:
        """Where this node's state is known to differ from that of a quorum: it must not serve any more."""
        return self._state.digests.divergence()

    @property
    def attested(self) -> tuple[Index, int]:
        """The newest index at which a quorum is known to agree on its state, 0 for none, and that state's digest."""
        return self._state.digests.attested, self._state.digests.attested_digest

    def peers_in_snapshot(self) -> tuple[NodeId, ...]:
        """The peers that wait for a snapshot from this node, sorted."""
        behind = {status.peer for status in self.progress() if status.state is ProgressState.SNAPSHOT}
        return tuple(sorted(behind | self._source.installing_now()))

    def progress(self) -> tuple[PeerStatus, ...]:
        """How far each peer is, sorted by name; empty on a node that does not lead."""
        return self._leader.status() if self._leader is not None else ()

    def vitals(self) -> Vitals:
        """What is of interest to nobody but those who watch."""
        state, leader = self._state, self._leader
        sent_at, uncommitted_bytes, transferee = leader.vitals() if leader is not None else (None, 0, None)
        return Vitals(
            next_election_at=self._election_at() if leader is None and state.voter else None,
            heard_at=state.heard_at if leader is None and state.leader is not None else None,
            heartbeat_sent_at=sent_at,
            uncommitted_bytes=uncommitted_bytes,
            transferring_to=transferee,
            log_memory_bytes=state.log.memory_bytes,
        )
