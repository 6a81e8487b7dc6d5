"""The Raft core of one node: facts in, one `Ready` out.

No clock, no disk, no network: the driver (`journal/replica.py`) tells it the time with each fact, does
what each `Ready` says in the order its fields demand, and comes back with `saved` and `applied_to`.
After any call the driver asks `ready()` until it is None, and arms one timer for `deadline`.

This file holds the way between the roles and the rules about terms; what a role does is in
`follower.py`, `candidate.py` and `leader.py`, and whether a vote is given in `voter.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from journal.errors import Busy
from journal.raft.candidate import Candidate
from journal.raft.changes import CoreChanges
from journal.raft.leader import Leader
from journal.raft.log import Log
from journal.raft.messages import (
    FROM_LEADERS,
    NOT_FOR_THE_CORE,
    Append,
    Heartbeat,
    Message,
    PullReply,
    PullRequest,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.raft.outdated import answer_outdated
from journal.raft.quorum import VoteResult
from journal.raft.ready import Leadership, ReadGrant, Ready
from journal.raft.state import CEILING, CoreConfig, State
from journal.raft.voter import grants, is_absurd, is_disruptive
from journal.values import (
    START,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    Position,
    SnapshotMeta,
    Term,
)

__all__ = ["Core", "CoreConfig"]


class Core(CoreChanges):
    """One node's part in the consensus.

    `applied` is what the machine already holds when the node starts (its snapshot), `chance` gives numbers
    in [0, 1), `withheld` is the index up to which this node once acknowledged entries that its log has
    since lost, or 0. `now` never goes back from one call to the next.
    """

    def __init__(
        self,
        config: CoreConfig,
        configuration: Configuration,
        hard_state: HardState,
        log: Log,
        *,
        applied: Index,
        now: float,
        chance: Callable[[], float],
        withheld: Index = START.index,
    ) -> None:
        configuration.check()
        super().__init__(State(config, configuration, hard_state, log, applied, now, chance, withheld))
        self._number = 0
        """The number of the newest Ready."""
        self._hard_state_number = 0
        """The newest Ready that carried a hard state."""
        self._shown = self._leadership()
        """What the driver was last told of the leadership ..."""
        self._shown_configuration = self._state.configuration
        """... of the members ..."""
        self._shown_voter = self._state.voter
        """... and what it meant for this node when its role last followed from it."""

    # Facts

    def step(self, sender: NodeId, message: Message, now: float) -> None:
        """Take in a message from another node. Raises CorruptRecord when a log is damaged: the node must stop."""
        assert not isinstance(message, NOT_FOR_THE_CORE), f"the driver's own: {type(message).__name__}"
        if sender not in self._state.known and not self._may_be_newer(sender, message):
            return
        self._state.now = now
        if isinstance(message, VoteRequest):
            self._on_vote_request(sender, message)
        elif isinstance(message, PullRequest):
            self._on_pull_request(sender, message)
        elif isinstance(message, PullReply):
            self._on_pull_reply(sender, message)
        elif message.term == self._state.term or self._is_pulled(sender, message) or self._enters(sender, message):
            self._on_current(sender, message)

    def tick(self, now: float) -> None:
        """Do what time demands; to be called no later than `deadline`, harmless when called early."""
        self._state.now = now
        if now < self.deadline:
            return
        if self._leader is not None:
            if not self._leader.tick():
                self._follow_nobody(self._state.term)
            return
        if self._pulls() and now >= self._puller.deadline:
            self._puller.tick()
        if self._state.pulls_only or now < self._election_at():
            return
        if self._candidate is not None or self._follower.election_due():
            self._campaign_or_wait()

    def propose(
        self,
        payload: bytes,
        count: int,
        stamp: int,
        now: float,
        *,
        kind: EntryKind = EntryKind.COMMANDS,
        machine: int = 0,
        partition: int = 0,
    ) -> Index | None:
        """Append `count` commands as one entry; returns the index of the first.

        None when this node does not lead or hands its leadership over. Raises Busy when too much is
        not committed yet. `payload` must not be larger than `limits.record_bytes_max`.
        """
        self._state.now = now
        if self._leader is None:
            return None
        return self._leader.propose(payload, count, stamp, kind, machine, partition)

    def read(self, context: int, now: float, *, floor: Index = START.index, note: bytes = b"") -> bool:
        """Ask for an index at which a read is linearizable, and not below `floor`; it comes as `Ready.reads`.

        False when no leader is known. The answer may get lost with a message or a leadership: then ask again,
        with a context never used before. Raises Busy when this node leads and too many reads wait.
        """
        state = self._state
        state.now = now
        if self._leader is not None:
            if not self._leader.read(None, context, floor):
                raise Busy(f"{state.limits.reads_waiting_max} reads already wait for a heartbeat round")
            return True
        if state.leader is None:
            return False
        state.send(state.leader, ReadRequest(state.term, context, floor, note))
        return True

    def peer_lost(self, peer: NodeId, now: float) -> None:
        """The connection with a peer was reset, and what was in flight with it is lost."""
        state = self._state
        state.now = now
        self._source.peer_lost(peer)
        if self._leader is not None:
            self._leader.peer_lost(peer)
        elif state.pulls_only:
            self._puller.peer_lost(peer)
        elif self._candidate is None and state.leader == peer:
            self._follower.leader_lost()

    def peer_has_clients(self, peer: NodeId) -> None:
        """A peer acts for a client: from now on it is told of each commit at once."""
        if self._leader is not None:
            self._leader.peer_has_clients(peer)

    def saved(self, number: int, now: float) -> None:
        """The hard states and entries of all Readys up to `number` are durable."""
        assert number <= self._number, (number, self._number)
        state = self._state
        state.now = now
        state.log.saved(number)
        if self._leader is not None:
            self._leader.saved()
        elif self._candidate is not None and not self._candidate.pre and self._hard_state_is_durable(number):
            self._conclude(self._candidate.own_vote_saved())

    def applied_to(self, index: Index) -> None:
        """The machine has taken in everything up to `index`, the end of an entry of `Ready.committed`."""
        state = self._state
        assert state.applied <= index <= state.applying, (state.applied, index, state.applying)
        state.applied = index
        state.log.trim(index)

    def begin_restore(self, meta: SnapshotMeta) -> bool:
        """The driver is about to replace log and machine by a received snapshot.

        False when the log has meanwhile come to hold all that the snapshot does: it must be thrown away,
        for what follows it in the log may be acknowledged. Otherwise nothing is appended, committed or
        applied until `restored`. The storage may be reset when `ready()` has nothing more to save and all
        of it is saved.
        """
        state = self._state
        assert state.restoring is None, state.restoring
        if self._leader is not None or self._follower.overtakes(meta):
            return False
        if self._candidate is not None:
            self._follow_nobody(state.term)
        state.restoring = meta
        return True

    def restored(self, meta: SnapshotMeta) -> None:
        """A received snapshot is durable and the machine restored from it: the log starts anew behind it.

        Includes `begin_restore` when nothing could come in between.
        """
        state = self._state
        begun = state.restoring is not None or self.begin_restore(meta)
        index = meta.position.index
        assert begun and state.restoring == meta and index > state.commit, (state.restoring, meta, state.commit)
        assert state.log.durable == state.log.last_index, (state.log.durable, state.log.last_index)
        state.restoring = None
        state.log.restore(meta.position)
        state.base, state.base_index = meta.configuration, index
        state.configure()
        state.digests.clear()
        state.commit = state.applying = state.applied = index
        self._puller.installed()

    def compacted(self, start: Position) -> None:
        """The storage has cut its log up to `start`, which a snapshot covers."""
        state = self._state
        assert start.index <= state.applied, (start, state.applied)
        state.base = state.configuration_at(start.index)
        state.base_index = max(state.base_index, start.index)
        state.log.forget_configurations(start.index)
        state.configure()
        state.log.compacted(start)

    # Effects

    def ready(self) -> Ready | None:
        """What is to be done now; None when nothing is. Committed entries come page by page: the next one
        after `applied_to` has taken in the last."""
        state = self._state
        if self._leader is not None:
            self._leader.flush()
        if self._source.has_observers:
            self._source.flush()
        configuration = self._take_configuration()
        log = state.log
        committed: list[Entry] = []
        if state.applying < state.commit and state.applying < log.durable:
            committed = self._take_committed()
        leadership = self._take_leadership()
        if not (
            committed
            or leadership
            or configuration
            or log.handed < log.last_index
            or state.messages
            or state.replies
            or state.hard_state_changed
            or state.reads
            or state.chunks
            or state.snapshots_wanted
        ):
            return None
        self._number += 1
        ready = Ready(
            self._number,
            self._take_hard_state(),
            log.hand_out(self._number),
            state.messages,
            state.replies,
            committed,
            state.reads,
            state.chunks,
            state.snapshots_wanted,
            leadership,
            configuration,
        )
        state.messages, state.replies, state.reads = [], [], []
        state.chunks, state.snapshots_wanted = [], []
        return ready

    def _take_committed(self) -> list[Entry]:
        """The next page for the machine.

        Only what is on our own disk: a snapshot of the machine can then never be ahead of the log beside it.
        """
        state = self._state
        if state.applying != state.applied or state.restoring is not None:
            return []
        limit = min(state.commit, state.log.durable)
        page = state.log.page(state.applying, limit, state.limits.apply_bytes_max)
        state.applying = page[-1].last
        return page

    def _take_hard_state(self) -> HardState | None:
        state = self._state
        if not state.hard_state_changed:
            return None
        state.hard_state_changed = False
        self._hard_state_number = self._number
        return HardState(state.term, state.vote)

    def _hard_state_is_durable(self, number: int) -> bool:
        """Whether term and vote of now are in what was saved up to Ready `number`, not only earlier ones."""
        return number >= self._hard_state_number and not self._state.hard_state_changed

    def _take_configuration(self) -> Configuration | None:
        """The newest configuration when it is news; this node's role follows it, and its becoming certain."""
        state = self._state
        configuration, shown = state.configuration, self._shown_configuration
        if configuration is shown and state.voter is self._shown_voter:
            return None
        self._shown_configuration, self._shown_voter = configuration, state.voter
        if self._candidate is not None and not state.voter:
            self._follow_nobody(state.term)
        if self._leader is None and self._candidate is None and state.role is not state.resting_role():
            state.role = state.resting_role()
            self._puller.at_once()
            self._follower.wait_until(state.now + state.election_wait())
        return None if configuration == shown else configuration

    def _take_leadership(self) -> Leadership | None:
        state, shown = self._state, self._shown
        serving = self._leader is not None and state.applying >= self._leader.first_index
        if (
            shown.serving is serving
            and shown.term == state.term
            and shown.role is state.role
            and shown.leader == state.leader
        ):
            return None
        self._shown = self._leadership()
        return self._shown

    # Terms

    def _may_be_newer(self, stranger: NodeId, message: Message) -> bool:
        """Whether a node that is no member as far as this one knows must be heard all the same.

        A leader or candidate may be in a configuration that has not reached this node yet (Raft 6); one that has
        left is listened to until it knows. Everybody else was asked nothing (RELIABILITY 8, 43).
        """
        if isinstance(message, FROM_LEADERS):
            return True
        if isinstance(message, PullRequest):
            return True  # it may have been removed without learning of it: the answer says so
        return self._leader is not None and self._leader.lets_go(stranger)

    def _enters(self, sender: NodeId, message: Message) -> bool:
        """Sort out a message of another term; True when it is to be handled in the term this node is in now."""
        state = self._state
        if message.term < state.term:
            answer_outdated(state, sender, message)
            return False
        if message.term >= CEILING:
            return False
        if isinstance(message, VoteReply) and message.pre and message.granted:
            return True  # it names the term we asked for, which nobody has entered yet
        self._follow_nobody(message.term)
        return True

    # Roles

    def _on_current(self, sender: NodeId, message: Message) -> None:
        """Hand a message of the current term to whom it concerns."""
        if isinstance(message, SnapshotChunk):
            # Those who are pulled from send them too, and one that pulled may meanwhile follow, or lead: a chunk
            # alone makes nobody a leader.
            if self._pulls() or self._state.leader == sender:
                self._follower.on_snapshot_chunk(sender, message)
        elif isinstance(message, (Append, Heartbeat)):
            self._on_leader_message(sender, message)
        elif self._leader is not None:
            self._leader.step(sender, message)
        elif isinstance(message, VoteReply):
            if self._candidate is not None:
                self._conclude(self._candidate.on_reply(sender, message))
        elif isinstance(message, TimeoutNow):
            # Without a pre-vote and in spite of the leader in office: it is the leader's own wish.
            if self._state.may_campaign():
                self._campaign(pre=False, transfer=True)
        elif isinstance(message, ReadReply) and message.index < CEILING:
            self._state.reads.append(ReadGrant(message.context, message.index))

    def _on_leader_message(self, leader: NodeId, message: Append | Heartbeat) -> None:
        state = self._state
        assert self._leader is None, (state.term, "led by", leader, "and by", state.me)
        if self._candidate is not None or state.leader != leader:
            assert state.leader is None or state.leader == leader, (state.term, state.leader, leader)
            self._candidate = None
            state.role = state.resting_role()
            self._follower.follow(leader)
        if isinstance(message, Append):
            self._follower.on_append(leader, message)
        else:
            self._follower.on_heartbeat(leader, message)

    def _on_pull_request(self, sender: NodeId, request: PullRequest) -> None:
        """Answer in whatever term; but a member's newer term must get about, or no leader of ours could be its own."""
        if self._state.term < request.term < CEILING and sender in self._state.known:
            self._follow_nobody(request.term)
        self._source.on_request(sender, request)

    def _on_pull_reply(self, sender: NodeId, reply: PullReply) -> None:
        """What is committed remains so in every term: news of an older one are taken in too."""
        if reply.term >= CEILING:
            return
        if reply.term > self._state.term:
            self._follow_nobody(reply.term)
        if self._pulls() and self._puller.on_reply(sender, reply) and self._candidate is not None:
            self._follow_nobody(self._state.term)  # it asked for votes on another log

    def _is_pulled(self, sender: NodeId, message: Message) -> bool:
        """Whether this is the snapshot that the source sends for an answer, in an older term."""
        if type(message) is not SnapshotChunk or message.term > self._state.term:
            return False
        return self._pulls() and sender == self._puller.source

    def _on_vote_request(self, candidate: NodeId, request: VoteRequest) -> None:
        state = self._state
        if is_absurd(request) or is_disruptive(state, request):
            return
        if request.term > state.term and not request.pre:
            self._follow_nobody(request.term)
        granted = grants(state, candidate, request)
        if request.pre:
            if granted and self._candidate is None:
                self._follower.defer()
            reply = VoteReply(request.term if granted else state.term, granted, True)
            state.send(candidate, reply)
            return
        if granted:
            state.vote_for(candidate)
            if self._candidate is not None:
                self._follow_nobody(state.term)
            # The winner needs our vote on our disk and its own before we hear of it.
            self._follower.wait_until(state.now + state.vote_wait())
        state.send_when_saved(candidate, VoteReply(state.term, granted))

    def _campaign_or_wait(self) -> None:
        """An election is due, or a round of one has brought nothing: ask (again), with a longer pause each time."""
        state = self._state
        if self._candidate is not None:
            state.attempts += 1
        if state.may_campaign():
            self._campaign(pre=True)
        else:
            self._follow_nobody(state.term)

    def _campaign(self, *, pre: bool, transfer: bool = False) -> None:
        self._candidate = Candidate(self._state, pre=pre, transfer=transfer)
        self._conclude(self._candidate.result())

    def _conclude(self, result: VoteResult) -> None:
        candidate = self._candidate
        assert candidate is not None, result
        if result is VoteResult.WON and candidate.pre:
            if self._state.may_campaign():
                self._campaign(pre=False)
            else:
                self._follow_nobody(self._state.term)  # since it asked, its disk has filled up, or a snapshot arrives
        elif result is VoteResult.WON:
            self._candidate = None
            self._leader = Leader(self._state)
        elif result is VoteResult.LOST:
            self._state.attempts += 1
            self._candidate = None
            self._follow_nobody(self._state.term, wait=self._state.retry_wait())

    def _follow_nobody(self, term: Term, wait: float | None = None) -> None:
        """Be a follower in `term` without a known leader.

        Entering a term postpones no election that is due: only a leader or a vote given does (Raft 5.2).
        """
        state = self._state
        if self._leader is not None:
            wait = state.retry_wait()
            state.heard_at = state.now
        deadline = self._election_at() if wait is None else state.now + wait
        self._leader = self._candidate = None
        state.role = state.resting_role()
        state.leader = None
        state.enter_term(term)
        self._follower.wait_until(deadline)
