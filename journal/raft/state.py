"""What a replica is at this moment, whatever its role, and the effects it has gathered.

Knows no rules of any role; it keeps the invariants of its own fields. The roles change it, `core.py`
turns its effects into a `Ready`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from journal.limits import Limits, Timing
from journal.raft.digests import Digests
from journal.raft.log import Log
from journal.raft.messages import Message, SnapshotChunk
from journal.raft.ready import ReadGrant, Role
from journal.record import decode_configuration
from journal.values import Configuration, HardState, Index, NodeId, SnapshotMeta, Term

CEILING = 2**62
"""No honest term or index comes near it. A message that carries one is dropped: a single poisoned
number would otherwise be the largest for ever (RELIABILITY 11)."""

LAST_RESORT_TIMEOUTS = 4
"""Election timeouts without a leader after which a learner campaigns."""
_ATTEMPTS_MAX = 16


@dataclass(frozen=True, slots=True)
class CoreConfig:
    """What does not change while a node runs."""

    me: NodeId
    limits: Limits
    timing: Timing


class State:
    """The state of one replica."""

    __slots__ = (
        "_configured",
        "able",
        "applied",
        "applying",
        "attempts",
        "base",
        "base_index",
        "chance",
        "changing",
        "chunks",
        "commit",
        "configuration",
        "configuration_index",
        "digests",
        "hard_state_changed",
        "heard_at",
        "heard_commit",
        "hops",
        "idle",
        "known",
        "leader",
        "leaving",
        "limits",
        "log",
        "me",
        "messages",
        "now",
        "peers",
        "reads",
        "replies",
        "restoring",
        "role",
        "snapshots_wanted",
        "term",
        "timing",
        "unsent",
        "vote",
        "voter",
        "withheld",
    )

    configuration: Configuration
    """The newest one in the log: it counts from the moment it is there, committed or not (Raft 6)."""
    configuration_index: Index
    """The entry that brought it; where none in the log did, an index at which it was known to count."""
    changing: bool
    """A change of voters is under way."""
    peers: tuple[NodeId, ...]
    """Everybody else whom a leader sends the log, sorted."""
    known: frozenset[NodeId]
    """All other members, observers too."""
    voter: bool
    """This node has a say, or is `leaving`: it may have to lead."""
    leaving: bool
    """The newest configuration takes away this node's say, and is not known to be committed. Whoever alone holds such
    a configuration must lead the others out of the one before: none of them may win against its log (thesis 4.2.2)."""
    unsent: bool
    """No leader sends this node its log, by the newest configuration: it observes, or hopes to be taken in."""

    def __init__(
        self,
        config: CoreConfig,
        configuration: Configuration,
        hard_state: HardState,
        log: Log,
        applied: Index,
        now: float,
        chance: Callable[[], float],
        withheld: Index,
    ) -> None:
        assert log.start.index <= applied <= log.last_index, (log.start.index, applied, log.last_index)
        self.me = config.me
        self.limits, self.timing = config.limits, config.timing
        self.base = configuration
        """The configuration before the first of `log.configurations` ..."""
        self.base_index = applied
        """... and an index at which it was known to count."""
        self.chance = chance
        """A number in [0, 1), new at each call."""
        self.able = True
        """This node can take part in elections and lead; said by the driver, not when its disk is full."""
        self.now = now
        """Time of the last fact. Monotonic, in seconds."""

        self.term = hard_state.term
        """Never falls. Invariant: term >= log.last_term."""
        assert self.term >= log.last_term, (self.term, log.last_term)
        self.vote = hard_state.vote
        """Whom this node votes for in `term`: once set it stays until the term ends."""
        self.hard_state_changed = False
        """`term` or `vote` moved since the last Ready."""
        self.leader: NodeId | None = None
        """Who leads `term`, as far as is known. At most one node per term ever."""
        self.heard_at = now
        """When a leader was last heard, or this node ceased to be one, or started."""
        self.attempts = 0
        """Elections in a row without a leader: the more, the longer the pause before the next."""

        self.log = log
        self.hops = 0
        """How many observers stand between this node and one that votes: 0 for all that a leader sends the log."""
        self.commit = applied
        """Last index known to be committed. Never falls. Invariant: applied <= applying <= commit <= log.last_index."""
        self.heard_commit = Index(0)
        """How far others said that they have committed: beyond `commit` while this node is not there yet."""
        self.configure()
        self.role = self.resting_role()
        self.digests = Digests()
        self.applying = applied
        """Last index handed to the machine."""
        self.applied = applied
        """Last index the machine has taken in."""
        self.restoring: SnapshotMeta | None = None
        """A snapshot is about to take the place of log and machine: until then nothing is appended,
        committed or applied, and no election called (RELIABILITY 12, 32)."""
        self.withheld = withheld
        """Up to here this node once acknowledged entries that its disk then lost (RELIABILITY R5)."""
        self._begin_effects()

    def _begin_effects(self) -> None:
        """What gathers for the next Ready."""
        self.messages: list[tuple[NodeId, Message]] = []
        """May leave at once."""
        self.replies: list[tuple[NodeId, Message]] = []
        """May leave when everything before them is durable."""
        self.idle = False
        """This node has no clients who wait to see what is committed; said by the driver."""
        self.reads: list[ReadGrant] = []
        self.chunks: list[tuple[NodeId, SnapshotChunk]] = []
        self.snapshots_wanted: list[NodeId] = []

    def configure(self) -> None:
        """Take over what the log says of the configuration."""
        entries = self.log.configurations
        configuration = decode_configuration(entries[-1]) if entries else self.base
        self.configuration = configuration
        self.configuration_index = entries[-1].last if entries else self.base_index
        self._configured = entries
        me = self.me
        self.changing = configuration.changing
        self.peers = tuple(node for node in configuration.receivers if node != me)
        self.known = frozenset(configuration.members) - {me}
        self.leaving = False
        if self.configuration_index > self.commit and not configuration.has_say(me):
            before = decode_configuration(entries[-2]) if len(entries) > 1 else self.base
            self.leaving = before.has_say(me)
        self.voter = self.leaving or configuration.has_say(me)
        self.unsent = me not in configuration.receivers
        if not self.pulls_only:
            self.hops = 0

    def configure_if_changed(self) -> None:
        """The log has changed."""
        if self.log.configurations is not self._configured:
            self.configure()

    def configuration_at(self, index: Index) -> Configuration:
        """The configuration that was the newest when the log ended at `index`, which must not be cut away."""
        for entry in reversed(self.log.configurations):
            if entry.last <= index:
                return decode_configuration(entry)
        return self.base

    def resting_role(self) -> Role:
        """What this node is while it neither leads nor wants to."""
        if self.voter:
            return Role.FOLLOWER
        return Role.OBSERVER if self.me in self.configuration.observers else Role.LEARNER

    def send(self, to: NodeId, message: Message) -> None:
        """Queue a message that need not wait for the disk."""
        self.messages.append((to, message))

    def send_when_saved(self, to: NodeId, message: Message) -> None:
        """Queue a message that promises what the disk must have first."""
        self.replies.append((to, message))

    def enter_term(self, term: Term) -> None:
        """Move to a term, which forgets the vote only when the term is a new one (RELIABILITY 3)."""
        assert self.term <= term < CEILING, (self.term, term)
        if term > self.term:
            self.term = term
            self.vote = None
            self.hard_state_changed = True

    def vote_for(self, candidate: NodeId) -> None:
        """Give this term's one vote."""
        assert self.vote is None or self.vote == candidate, (self.vote, candidate)
        if self.vote is None:
            self.vote = candidate
            self.hard_state_changed = True

    def commit_to(self, index: Index) -> None:
        """Move the commit index forward; an index behind it is old news."""
        if index > self.commit:
            assert index <= self.log.last_index, (index, self.log.last_index)
            self.commit = index
            if self.leaving and index >= self.configuration_index:
                self.configure()

    def hear_commit(self, index: Index) -> None:
        """Somebody whose log this node takes in has committed that far."""
        if self.heard_commit < index < CEILING:
            self.heard_commit = index

    def hears_leader(self) -> bool:
        """Whether a leader is in office as far as this node can tell, so that no election is due.

        A leader hears itself: it steps down by itself when it loses its quorum.
        """
        if self.leader is None:
            return False
        return self.leader == self.me or self.now - self.heard_at < self.timing.election_timeout

    def withholds(self) -> bool:
        """Whether this node must keep out of elections until its lost tail is back on its disk.

        Whoever filled it up led a term no older than anything lost and was elected without this node, so it has
        all of the tail that was ever committed. Waiting for the commit as well could be for ever: this node may
        hold the newest log of all that are left.
        """
        if self.withheld and self.log.durable >= self.withheld:
            self.withheld = Index(0)
        return self.withheld > 0

    @property
    def pulls_only(self) -> bool:
        """No leader sends this node its log, and it will never lead as things are: all its news is what it pulls."""
        return self.unsent and not self.voter

    def may_campaign(self) -> bool:
        if not self.able or self.restoring is not None or self.withholds():
            return False
        return self.voter or self._is_last_resort()

    def _is_last_resort(self) -> bool:
        """Whether a learner should lead because nobody else can.

        It may hold the newest log of all that are left, and a voter that holds the next configuration, in which the
        learner has a say already, can then not be elected without it. Its leading is safe: who votes decides, not who
        asks. Those who have a say come first, by far.
        """
        return not self.unsent and self.now - self.heard_at >= LAST_RESORT_TIMEOUTS * self.timing.election_timeout

    def election_wait(self) -> float:
        """How long a follower waits for a silent leader: at random between one and two election timeouts."""
        return self.timing.election_timeout * (1 + self.chance())

    def retry_wait(self) -> float:
        """How long to wait before the next try to elect somebody: short at first, doubling, at random."""
        timing = self.timing
        attempts = min(self.attempts, _ATTEMPTS_MAX)
        wait: float = min(timing.reset_timeout * 2**attempts, timing.election_timeout)
        return wait * (1 + self.chance())

    def vote_wait(self) -> float:
        """How long to wait for an election in which votes were cast: they have to be written to disks first."""
        return max(self.retry_wait(), self.timing.heartbeat_interval * (1 + self.chance()))
