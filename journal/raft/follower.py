"""A node that follows: it takes in what its leader sends and watches how long the leader is silent.

Knows nothing of elections but when one is due. Driven by `core.py`, which has checked the terms:
every message given to it comes from the leader of the current term.
"""

from __future__ import annotations

from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    SnapshotChunk,
    SnapshotReply,
)
from journal.raft.state import CEILING, State
from journal.values import Index, NodeId, SnapshotMeta, Term


class Follower:
    """The follower's timer and its answers."""

    __slots__ = ("_deferred", "_state", "_wait", "deadline")

    def __init__(self, state: State) -> None:
        self._state = state
        self._wait = state.election_wait()
        """Drawn anew for each leader, so that a hundred heartbeats cost no chance."""
        self._deferred = False
        """This node has already waited once for somebody else's election."""
        # Nobody leads yet as far as we know. Waiting a whole timeout at each start would make a restart slow for
        # nothing. But two that start together could elect one of them under a leader in office: whoever leads gets the
        # time to be heard once.
        greeting = state.timing.heartbeat_interval if state.peers else 0.0
        self.deadline = state.now + greeting + state.timing.reset_timeout * (1 + 4 * state.chance())
        """When an election is due unless a leader is heard."""

    def follow(self, leader: NodeId) -> None:
        """A leader is known."""
        state = self._state
        state.leader = leader
        state.attempts = 0
        self._wait = state.election_wait()
        self._deferred = False
        self._heard()

    def wait_until(self, deadline: float) -> None:
        """No leader is known; an election is due at `deadline`."""
        self._deferred = False
        self.deadline = deadline

    def defer(self) -> None:
        """Somebody else's pre-vote was granted: let it win, but wait for it only once.

        Without this, followers that lose their leader at the same moment split the vote nearly each
        second time; with more of it, one that can be heard but cannot hear would hold up all elections.
        """
        if not self._deferred:
            self._deferred = True
            state = self._state
            self.deadline = max(self.deadline, state.now + state.timing.reset_timeout * (1 + state.chance()))

    def leader_lost(self) -> None:
        """The leader's connection was reset: most likely its process is gone."""
        state = self._state
        state.leader = None
        self._deferred = False
        # Not at once: the other followers' news of the same reset should come before our pre-vote.
        self.deadline = state.now + state.timing.reset_timeout * (0.5 + state.chance())

    def election_due(self) -> bool:
        """Called when `deadline` is past: whether this node should campaign. Otherwise it waits again."""
        state = self._state
        if state.may_campaign():
            return True
        state.leader = None
        self.deadline = state.now + state.election_wait()
        return False

    def on_append(self, leader: NodeId, message: Append) -> None:
        self._heard()
        state = self._state
        state.hear_commit(message.commit)
        if state.restoring is not None or not _is_sound(message):
            return
        if message.previous_index < state.commit:
            # Whatever follows, our logs agree up to the commit index; the leader goes on from there.
            self._acknowledge(leader, state.commit)
            return
        log = state.log
        match = log.accept(
            message.previous_index, message.previous_term, message.previous_crc, message.entries, state.commit
        )
        if match is None:
            self._refuse(leader, message)
            return
        state.configure_if_changed()
        # Only what is known to agree with the leader may commit (RELIABILITY 16).
        commit = min(message.commit, match)
        is_notice = not message.entries and commit > state.commit
        state.commit_to(commit)
        # A notice of the commit index needs no answer: at one write at a time the answer would cost the
        # leader a wake-up per write. When it is lost, a heartbeat tells the same. Probes, which do need
        # one, carry no commit index while they are empty.
        if not is_notice:
            self._acknowledge(leader, match)

    def on_heartbeat(self, leader: NodeId, message: Heartbeat) -> None:
        self._heard()
        state = self._state
        if state.restoring is None:
            # The leader names no more than it knows to be here; a disk that lost it may hold less.
            state.commit_to(min(message.commit, state.log.last_index))
        digests = state.digests
        digests.attest(message.attested, message.attested_digest)
        mine = digests.at(message.checkpoint)
        known = (message.checkpoint, mine) if mine is not None else (Index(0), 0)
        state.send(leader, HeartbeatReply(state.term, message.round, state.idle, *known))

    def on_snapshot_chunk(self, leader: NodeId, message: SnapshotChunk) -> None:
        self._heard()
        state = self._state
        position = message.meta.position
        if position.index >= CEILING or position.term >= CEILING or state.restoring is not None:
            return
        if self.overtakes(message.meta):
            state.send_when_saved(leader, SnapshotReply(state.term, position.index, message.meta.size, True))
        else:
            state.chunks.append((leader, message))

    def overtakes(self, meta: SnapshotMeta) -> bool:
        """Whether the log already holds all that the snapshot does, so that it must not be installed.

        A log that has the snapshot's last entry also has all before it (Raft 5.3), and what follows it
        here may be acknowledged: throwing it away could lose it (RELIABILITY 31, 33).
        """
        state = self._state
        position = meta.position
        if position.index > state.commit and state.log.term_at(position.index) == position.term:
            state.commit_to(position.index)
        return position.index <= state.commit

    def _heard(self) -> None:
        state = self._state
        state.heard_at = state.now
        self.deadline = state.now + self._wait

    def _acknowledge(self, leader: NodeId, match: Index) -> None:
        state = self._state
        if state.replies:
            # One answer says all when several appends came in one pass.
            to, reply = state.replies[-1]
            if isinstance(reply, AppendReply) and to == leader and reply.term == state.term and not reply.refused:
                reply.match = max(reply.match, match)
                return
        state.send_when_saved(leader, AppendReply(state.term, match))

    def _refuse(self, leader: NodeId, message: Append) -> None:
        state = self._state
        log = state.log
        hint = log.agreement(message.previous_index, message.previous_term)
        if hint is None:
            hint = log.start.index
        hint_term = log.term_at(hint)
        state.send_when_saved(
            leader,
            AppendReply(state.term, Index(0), True, message.previous_index, hint, hint_term or Term(0)),
        )


def _is_sound(message: Append) -> bool:
    """Whether the entries can follow what the message says is before them, and can be of its term."""
    entries = message.entries
    if not entries:
        return True
    first, last = entries[0], entries[-1]
    return (
        first.first == message.previous_index + 1
        and message.previous_term <= first.term <= last.term <= message.term
        and last.last < CEILING
    )
