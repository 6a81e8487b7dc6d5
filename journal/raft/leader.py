"""A node that leads: it appends, replicates, commits, answers reads and proves to itself that it still leads.

Knows nothing of elections. Driven by `core.py`, which has checked the terms: every message given to it
is an answer or a question of the current term. A leader object lives for one leadership, so that
nothing of it, neither counters nor waiting reads, can leak into the next one.
"""

from __future__ import annotations

from collections import deque

from journal.errors import Busy, LogCompacted
from journal.raft.digests import Poll
from journal.raft.membership import Membership
from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    SnapshotReply,
    TimeoutNow,
)
from journal.raft.progress import PeerStatus, Progress, ProgressState
from journal.raft.quorum import has_quorum, quorum_value
from journal.raft.reads import ReadQueue
from journal.raft.ready import ReadGrant, Role
from journal.raft.state import CEILING, State
from journal.record import encode_configuration, make_entry
from journal.values import RECORD_HEADER_BYTES, Configuration, Entry, EntryKind, Index, NodeId

PREFER_PAUSE_MAX = 60.0
"""Seconds between two tries to hand over to the preferred leader, when they keep failing."""

_REPLICATE = ProgressState.REPLICATE
"""Asked of each peer in each pass; an enumeration's member is slow to look up."""


class Leader:
    """One leadership."""

    __slots__ = (
        "_disk_moved_at",
        "_disk_wanted",
        "_heartbeat_at",
        "_in_order",
        "_membership",
        "_poll",
        "_prefer_at",
        "_prefer_pause",
        "_progress",
        "_reads",
        "_retiring",
        "_round",
        "_state",
        "_transfer_deadline",
        "_transferee",
        "_uncommitted",
        "_uncommitted_bytes",
        "deadline",
        "first_index",
    )

    def __init__(self, state: State) -> None:
        self._state = state
        state.role = Role.LEADER
        state.leader = state.me
        state.attempts = 0
        log, timing = state.log, state.timing
        self.first_index = Index(log.last_index + 1)
        """The no-op with which the leadership opens: everything from here on is of our own term."""
        self._in_order: list[Progress] = []
        """Sorted by name."""
        self._progress: dict[NodeId, Progress] = {}
        """Everybody to whom the log is sent: the receivers, and those who have just ceased to be one until they
        know of it."""
        self._follow_configuration()
        self._membership = Membership(state, self.first_index, self._append_configuration)
        self._poll = Poll()
        self._prefer_at = state.now
        """The preferred leader is not asked to take over before ..."""
        self._prefer_pause = timing.election_timeout
        """... and after a failure not for so long."""
        self._reads = ReadQueue(state.limits.reads_waiting_max)
        self._round = 0
        """The newest heartbeat round."""
        self._heartbeat_at = state.now + timing.heartbeat_interval
        self.deadline = self._heartbeat_at
        """When `tick` has something to do."""
        self._transferee: NodeId | None = None
        """Whom we hand over to; no proposals meanwhile."""
        self._transfer_deadline = 0.0
        self._retiring = False
        """Whoever takes over is welcome: this node was removed, or cannot write."""
        self._uncommitted: deque[Entry] = deque()
        """Entries of this leadership that are not committed."""
        self._uncommitted_bytes = 0
        """The payloads of `_uncommitted` together."""
        self._disk_wanted = log.durable
        """Where the disk should get before `_disk_moved_at` is an election timeout ago."""
        self._disk_moved_at = state.now
        # The rules tell no wall clock; the no-op carries the stamp before it, which never goes back.
        self._append(EntryKind.NOOP, b"", 1, log.last_stamp, 0, 0)

    # Facts from this node

    def propose(
        self, payload: bytes, count: int, stamp: int, kind: EntryKind, machine: int, partition: int
    ) -> Index | None:
        """Append commands; returns the index of the first. None while leadership is handed over. Raises Busy."""
        if self._transferee is not None:
            return None
        limits = self._state.limits
        assert len(payload) <= limits.record_bytes_max, (len(payload), limits.record_bytes_max)
        if self._uncommitted_bytes + len(payload) > limits.uncommitted_bytes_max:
            raise Busy(
                f"{self._uncommitted_bytes} bytes wait to be committed, {len(payload)} more would pass "
                f"the limit of {limits.uncommitted_bytes_max}"
            )
        # Stamps never go back, though the wall clock may (RELIABILITY 45).
        stamp = max(stamp, self._state.log.last_stamp)
        return self._append(kind, payload, count, stamp, machine, partition)

    def read(self, asker: NodeId | None, context: int, floor: Index) -> bool:
        """Take in a read for the next round; False when too many wait."""
        return self._reads.add(asker, context, floor)

    def saved(self) -> None:
        """Our own disk has moved on: only now do we count ourselves (RELIABILITY 19)."""
        self._maybe_commit()
        if self._state.me in self._state.configuration.learners:
            self._advance_membership()

    def peer_lost(self, peer: NodeId) -> None:
        if peer in self._progress:
            self._progress[peer].lost()

    def peer_has_clients(self, peer: NodeId) -> None:
        if peer in self._progress:
            self._progress[peer].idle = False

    def lets_go(self, peer: NodeId) -> bool:
        """Whether `peer` has left and does not know it for certain yet."""
        return peer in self._progress

    @property
    def membership(self) -> Membership:
        """Changes of the configuration; raises Busy while leadership is handed over."""
        if self._transferee is not None:
            raise Busy(f"leadership is being handed over to {self._transferee}")
        return self._membership

    def transfer(self, target: NodeId | None) -> bool:
        """Begin to hand over; False when there is nobody to hand over to."""
        state = self._state
        configuration = state.configuration
        able = [progress for progress in self._in_order if progress.peer in configuration.voters]
        if target is None:
            heard = [progress for progress in able if self._is_heard(progress)]
            if not heard:
                return False
            target = max(heard, key=lambda progress: progress.match).peer
        elif target not in [progress.peer for progress in able]:
            return False
        if target != self._transferee:
            self._transferee = target
            self._transfer_deadline = state.now + state.timing.election_timeout
            self.deadline = min(self.deadline, self._transfer_deadline)
            self._maybe_hand_over(self._progress[target])
        return True

    def tick(self) -> bool:
        """Do what is due; False when this node must no longer lead."""
        state = self._state
        now = state.now
        if self._transferee is not None and now >= self._transfer_deadline:
            self._transferee = None
        if now >= self._heartbeat_at:
            if not self._quorum_is_heard() or self._disk_is_stuck() or self._must_retire():
                return False
            self._advance_membership()
            self._maybe_prefer()
            for progress in self._in_order:
                if (
                    progress.state is ProgressState.SNAPSHOT
                    and now - progress.moved_at >= state.timing.election_timeout
                ):
                    progress.become_probe()
            self._heartbeat_at = now + state.timing.heartbeat_interval
            self._begin_round()
        self.deadline = self._heartbeat_at
        if self._transferee is not None:
            self.deadline = min(self.deadline, self._transfer_deadline)
        return True

    def flush(self) -> None:
        """Once per pass: send each peer what is new to it, and begin a read round if one is due."""
        state = self._state
        last, commit = state.log.last_index, state.commit
        message: Append | None = None
        for progress in self._in_order:
            if progress.state is _REPLICATE:
                if progress.next <= last or (progress.told_commit < commit and not progress.idle):
                    message = self._stream(progress, message)
            elif progress.state is ProgressState.PROBE and not progress.probe_waits:
                self._probe(progress)
        # Before an entry of our own term is committed our commit index may be behind what an earlier
        # leader has already answered for (RELIABILITY 27).
        if self._reads.waiting and not self._reads.in_round and commit >= self.first_index:
            self._reads.begin(self._round + 1, commit)
            self._begin_round()
            self._maybe_answer_reads()

    # Facts from the peers

    def step(self, sender: NodeId, message: Message) -> None:
        """React to an answer or a question of the current term."""
        progress = self._progress.get(sender)
        if progress is None:
            # An observer, or somebody who has left: nothing but questions are expected of it.
            if isinstance(message, ReadRequest) and message.floor < CEILING and sender in self._state.known:
                self._reads.add(sender, message.context, message.floor)
            return
        progress.heard_at = self._state.now
        if isinstance(message, AppendReply):
            self._on_append_reply(progress, message)
        elif isinstance(message, HeartbeatReply):
            self._on_heartbeat_reply(progress, message)
        elif isinstance(message, ReadRequest):
            progress.idle = False
            # When the queue is full the question is dropped; the asker asks again.
            if message.floor < CEILING:
                self._reads.add(sender, message.context, message.floor)
        elif isinstance(message, SnapshotReply):
            self._on_snapshot_reply(progress, message)

    def _on_append_reply(self, progress: Progress, reply: AppendReply) -> None:
        state = self._state
        if reply.refused:
            if progress.is_late_refusal(reply.refused_previous):
                return
            if progress.state is ProgressState.REPLICATE:
                progress.become_probe()
            else:
                progress.retry_from(self._next_after_refusal(reply))
            return
        if reply.match > state.log.last_index:
            return  # nobody can have more than its leader: not an honest answer
        if progress.accepted(reply.match, state.now):
            self._maybe_commit()
            self._maybe_hand_over(progress)
            if progress.peer in state.configuration.learners:
                self._advance_membership()
        if progress.state is ProgressState.SNAPSHOT and progress.match >= state.log.start.index:
            progress.become_probe()

    def _on_heartbeat_reply(self, progress: Progress, reply: HeartbeatReply) -> None:
        progress.idle = reply.idle
        self._poll.tell(progress.peer, reply.checkpoint, reply.digest)
        if progress.round < reply.round <= self._round:
            progress.round = reply.round
            self._maybe_answer_reads()
        progress.give_up_waiting(self._state.now)

    def _on_snapshot_reply(self, progress: Progress, reply: SnapshotReply) -> None:
        progress.moved_at = self._state.now
        if reply.installed and reply.index <= self._state.commit:
            progress.installed(reply.index, self._state.now)
            self._maybe_commit()

    def vitals(self) -> tuple[float, int, NodeId | None]:
        """When the last heartbeats left, how many bytes are not committed, whom leadership is handed over to."""
        sent_at = self._heartbeat_at - self._state.timing.heartbeat_interval
        return sent_at, self._uncommitted_bytes, self._transferee

    def status(self) -> tuple[PeerStatus, ...]:
        """Each peer's progress, sorted by name."""
        return tuple(progress.status() for progress in self._in_order)

    # Replication

    def _append(self, kind: EntryKind, payload: bytes, count: int, stamp: int, machine: int, partition: int) -> Index:
        state = self._state
        log = state.log
        first = Index(log.last_index + 1)
        entry = make_entry(
            first, state.term, stamp, kind, payload, log.last_crc, count=count, machine=machine, partition=partition
        )
        log.append(entry)
        self._uncommitted.append(entry)
        self._uncommitted_bytes += len(payload)
        return first

    def _stream(self, progress: Progress, shared: Append | None) -> Append | None:
        """Send what the window allows; returns the last message, which the next peer may need as it is."""
        state = self._state
        log, limits = state.log, state.limits
        window = limits.appends_in_flight_max
        message = shared
        if progress.next > log.last_index:
            # A notice of the commit index: followers have clients who wait for it.
            if len(progress.in_flight) < window:
                if message is None or message.entries or message.commit != state.commit:
                    message = Append(state.term, log.last_index, log.last_term, log.last_crc, state.commit)
                progress.told_commit = state.commit
                state.send(progress.peer, message)
            return message
        while progress.next <= log.last_index and len(progress.in_flight) < window:
            if message is None or not message.entries or message.previous_index != progress.next - 1:
                made = self._make_append(progress, state.commit)
                if made is None:
                    return shared
                message = made
            progress.told_commit = state.commit
            progress.sent(message.entries[-1].last, state.now)
            state.send(progress.peer, message)
        return message

    def _probe(self, progress: Progress) -> None:
        message = self._make_append(progress, self._state.commit)
        if message is None:
            return
        if message.entries:
            progress.told_commit = self._state.commit
        else:
            message.commit = Index(0)  # so that it is not taken for a notice, which needs no answer
        progress.sent(message.previous_index, self._state.now)
        self._state.send(progress.peer, message)

    def _make_append(self, progress: Progress, commit: Index) -> Append | None:
        """The entries the peer needs next; None when they are gone, and a snapshot is wanted instead."""
        state = self._state
        try:
            part = state.log.read(progress.next, state.limits.append_bytes_max)
        except LogCompacted:
            # No snapshot is sent to a peer that does not answer; its first answer brings us back here.
            if self._is_heard(progress):
                progress.become_snapshot(state.now)
                state.snapshots_wanted.append(progress.peer)
            return None
        return Append(state.term, part.previous_index, part.previous_term, part.previous_crc, commit, part.entries)

    def _next_after_refusal(self, reply: AppendReply) -> Index:
        """Where to probe after a refusal, skipping whole terms that cannot agree (Raft 5.3, last part)."""
        log = self._state.log
        limit = Index(min(reply.hint_index, reply.refused_previous - 1))
        if limit < log.start.index:
            return Index(limit + 1)  # cut away here: leads to a snapshot
        agreed = log.agreement(limit, reply.hint_term)
        return log.start.index if agreed is None else Index(agreed + 1)

    # Members

    def _append_configuration(self, configuration: Configuration) -> Index:
        """Append a configuration; it counts at once."""
        state = self._state
        payload = encode_configuration(configuration)
        index = self._append(EntryKind.CONFIGURATION, payload, 1, state.log.last_stamp, 0, 0)
        state.configure()
        self._follow_configuration()
        return index

    def _follow_configuration(self) -> None:
        """Send the log to whom the configuration names, and to those who leave until they have learned of it."""
        state, timing = self._state, self._state.timing
        for peer in state.peers:
            if peer not in self._progress:
                following = Index(state.log.last_index + 1)
                self._progress[peer] = Progress(
                    peer, following, state.now, timing.heartbeat_interval, timing.election_timeout
                )
        for progress in self._progress.values():
            progress.told_configuration = False
        self._in_order = [self._progress[peer] for peer in sorted(self._progress)]

    def _advance_membership(self) -> None:
        """Take the next step of a change under way, and let go of members that have left and know it."""
        state = self._state
        if self._transferee is None:
            self._membership.advance(self._match_of)
        if state.configuration_index > state.commit or len(self._progress) == len(state.peers):
            return
        for peer in sorted(set(self._progress) - set(state.peers)):
            progress = self._progress[peer]
            if progress.told_configuration or not self._is_heard(progress):
                del self._progress[peer]
        self._in_order = [self._progress[peer] for peer in sorted(self._progress)]

    def _must_retire(self) -> bool:
        """Whether this node has no business to lead any more; it hands over first, for as long as that may take."""
        state = self._state
        removed = state.me not in state.configuration.voters and not state.changing
        if state.able and not (removed and state.configuration_index <= state.commit):
            self._retiring = False
            return False
        if not self._retiring:
            self._retiring = True
            return not self.transfer(None)
        return self._transferee is None

    def _maybe_prefer(self) -> None:
        """Hand over to the preferred leader once it has caught up; after a failure, not again so soon."""
        state = self._state
        preferred = state.configuration.preferred
        if preferred is None or preferred == state.me or state.changing or self._transferee is not None:
            return
        progress = self._progress.get(preferred)
        if (
            state.now < self._prefer_at
            or progress is None
            or state.commit < self.first_index
            or progress.match < state.commit
            or not self._is_heard(progress)
        ):
            return
        self._prefer_at = state.now + self._prefer_pause
        self._prefer_pause = min(2 * self._prefer_pause, PREFER_PAUSE_MAX)
        self.transfer(preferred)

    # Commit

    def _maybe_commit(self) -> None:
        state = self._state
        index = Index(quorum_value(state.configuration, self._match_of))
        # Entries of older terms are never committed by counting, only by one of ours behind them
        # (Raft 5.4.2, figure 8; RELIABILITY 13). From `first_index` on all entries are ours.
        if index <= state.commit or index < self.first_index:
            return
        assert state.log.term_at(index) == state.term, (index, state.log.term_at(index), state.term)
        state.commit_to(index)
        waiting = self._uncommitted
        while waiting and waiting[0].last <= index:
            self._uncommitted_bytes -= len(waiting.popleft().record) - RECORD_HEADER_BYTES
        if state.changing:
            self._advance_membership()

    def _match_of(self, node: NodeId) -> int:
        return self._state.log.durable if node == self._state.me else self._progress[node].match

    # Office

    def _is_heard(self, progress: Progress) -> bool:
        return self._state.now - progress.heard_at < self._state.timing.election_timeout

    def _quorum_is_heard(self) -> bool:
        me = self._state.me
        return has_quorum(self._state.configuration, lambda node: node == me or self._is_heard(self._progress[node]))

    def _disk_is_stuck(self) -> bool:
        """Whether our own disk has kept entries waiting for an election timeout (RELIABILITY R13).

        Our heartbeats do not wait for it, so nobody else would ever notice. Alone, we have nobody to yield to.
        """
        state = self._state
        if state.log.durable >= self._disk_wanted:
            self._disk_wanted = state.log.last_index
            self._disk_moved_at = state.now
        return bool(state.peers) and state.now - self._disk_moved_at >= state.timing.election_timeout

    def _begin_round(self) -> None:
        """Send everybody a heartbeat; its echo also answers the reads of any earlier round."""
        self._round += 1
        state = self._state
        digests = state.digests
        checkpoint = self._poll.advance(digests, state.configuration, state.me)
        for progress in self._in_order:
            commit = Index(min(progress.match, state.commit))
            state.send(
                progress.peer,
                Heartbeat(state.term, commit, self._round, checkpoint, digests.attested, digests.attested_digest),
            )
            if commit >= state.configuration_index:
                progress.told_configuration = True

    def _maybe_answer_reads(self) -> None:
        reads = self._reads
        if not reads.in_round or quorum_value(self._state.configuration, self._round_of) < reads.round:
            return
        state = self._state
        for read, index in reads.end():
            if read.asker is None:
                state.reads.append(ReadGrant(read.context, index))
            else:
                state.send(read.asker, ReadReply(state.term, read.context, index))

    def _round_of(self, node: NodeId) -> int:
        return self._round if node == self._state.me else self._progress[node].round

    def _maybe_hand_over(self, progress: Progress) -> None:
        """Tell the transferee to campaign as soon as it has everything: its log then wins any comparison."""
        state = self._state
        if progress.peer == self._transferee and progress.match == state.log.last_index:
            state.send(progress.peer, TimeoutNow(state.term))
