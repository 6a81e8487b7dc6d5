"""A node that pulls: it asks other members for committed entries instead of being sent the log by a leader.

An observer lives by it. It asks one source at a time and asks again as soon as it is answered; a source that has
nothing new keeps the question until it has. A source that falls silent, knows of no leader for long, or stands in a
ring of observers that feed only each other, is left for the next one.

Every other node does it while it finds no leader, and asks one member after another: it may have been removed, or made
an observer, while it was away, and then no leader will ever send it what says so. It acknowledges nothing of it.

What is pulled is committed, whatever the term: nothing is truncated but what was never committed.

Knows nothing of elections. Driven by `core.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from journal.errors import CorruptRecord
from journal.raft.messages import PullReply, PullRequest
from journal.raft.state import CEILING, State
from journal.values import Index, NodeId

HOPS_MAX = 8
"""Longer chains are taken for rings."""
SILENT_TIMEOUTS = 2
"""Election timeouts without a leader after which a node with a say asks around: most elections are over by then."""
SPARE_LEADER_SECONDS = 10.0
"""An observer that found nobody else to pull from than the leader looks again after so long."""


class Puller:
    """The timer of one that pulls, its source and its questions."""

    __slots__ = ("_agreed", "_asked_at", "_due", "_lately", "_receiving", "_spare_at", "_state", "preferred", "source")

    def __init__(self, state: State) -> None:
        self._state = state
        self.preferred: Sequence[NodeId] = ()
        """Sources to be tried before all others, best first; said by the driver."""
        self.source: NodeId | None = None
        """Whom we pull from."""
        self._lately: list[NodeId] = []
        """Sources that were left since one of them answered, oldest first."""
        self._spare_at = state.now
        """When to look for another source than the leader, should it be the leader."""
        self._agreed = state.commit
        """Our log is a prefix of the cluster's up to here."""
        self._receiving = False
        """The source has said that its snapshot follows; false again with the next question."""
        self._asked_at = state.now
        """When the newest question left."""
        self._due = state.now
        """When to ask (again)."""

    @property
    def deadline(self) -> float:
        """When `tick` has something to do, on a node that knows of no leader or pulls only."""
        state = self._state
        if state.unsent or self._receiving:
            return self._due
        return max(self._due, state.heard_at + SILENT_TIMEOUTS * state.timing.election_timeout)

    def tick(self) -> None:
        """Ask (again); somebody else when the source was silent for too long."""
        state = self._state
        if not state.pulls_only:
            arriving = self._receiving and state.heard_at > self._asked_at
            if not arriving or self.source not in state.known:
                self._choose()
        elif self.source not in state.known or state.now - state.heard_at >= state.timing.election_timeout:
            self._choose()
        self._ask(wait=False)

    def at_once(self) -> None:
        """What this node is has changed: ask now what there is to know."""
        self._due = self._state.now

    def peer_lost(self, peer: NodeId) -> None:
        """A connection of one that pulls only was reset; with it goes what was asked."""
        if peer == self._state.leader:
            self._state.leader = None
        if peer == self.source:
            self._choose()
            self._due = self._state.now

    def on_reply(self, sender: NodeId, reply: PullReply) -> bool:
        """What the source tells; whether our log is another one for it.

        Raises CorruptRecord when its log and ours differ where both are committed.
        """
        state = self._state
        if sender != self.source or state.restoring is not None:
            return False
        if reply.hops >= HOPS_MAX:
            self._choose()
            return False
        if state.pulls_only:
            self._heed(reply)
        state.digests.attest(reply.attested, reply.attested_digest)
        state.hear_commit(reply.commit)
        if reply.entries and not self._take(sender, reply):
            return False  # what it led to was asked already: to ask once more would double all that follows
        self._ask_on(reply)
        return bool(reply.entries)

    def _heed(self, reply: PullReply) -> None:
        """What one that pulls only learns of the leader. All others believe none but the leader itself."""
        state = self._state
        state.hops = reply.hops + 1
        if reply.term == state.term:
            # One that led until a moment ago may be told of itself.
            state.leader = NodeId(reply.leader) if reply.leader not in ("", state.me) else None
        if reply.entries or (reply.term == state.term and reply.leader and reply.commit >= reply.attested):
            # Whoever knows of no leader, or hears of commits that do not get to its disk, may itself have been left
            # behind: there is better to be had elsewhere.
            state.heard_at = state.now
            self._lately.clear()

    def _ask_on(self, reply: PullReply) -> None:
        """The next question, if the answer to the last one leads to one."""
        state = self._state
        self._receiving = reply.compacted
        if state.pulls_only:
            self._spare_leader()
        if reply.compacted:
            self._due = state.now + state.timing.election_timeout
        elif reply.entries or reply.commit > state.commit:
            self._ask(wait=False)
        elif state.pulls_only:
            self._ask(wait=True)

    def installed(self) -> None:
        """The log starts anew behind a snapshot."""
        self._agreed = self._state.commit
        self._receiving = False
        self._due = self._state.now

    def _spare_leader(self) -> None:
        """The leader has enough to do: pull from somebody else, if there is anybody."""
        state = self._state
        if self.source != state.leader or state.now < self._spare_at or self.source in self.preferred:
            return
        self._spare_at = state.now + SPARE_LEADER_SECONDS
        self._choose()

    def _take(self, sender: NodeId, reply: PullReply) -> bool:
        """Take in entries; False when they come twice or late."""
        state = self._state
        entries = reply.entries
        if entries[-1].last >= CEILING or not state.commit <= reply.previous_index <= self._agreed:
            return False
        match = state.log.accept(reply.previous_index, reply.previous_term, reply.previous_crc, entries, state.commit)
        if match is None:
            raise CorruptRecord(f"the log differs from that of {sender} at committed index {reply.previous_index}")
        state.configure_if_changed()
        news = match > self._agreed
        self._agreed = match
        state.commit_to(Index(min(reply.commit, match)))
        return news

    def _ask(self, *, wait: bool) -> None:
        state = self._state
        self._receiving = False
        self._asked_at = state.now
        self._due = state.now + (state.timing.heartbeat_interval if state.unsent else state.timing.election_timeout)
        if self.source is None or state.restoring is not None:
            return
        self._agreed = max(self._agreed, state.commit)
        state.send(self.source, PullRequest(state.term, self._agreed, wait))

    def _choose(self) -> None:
        """The next source: preferred ones, then voters that do not lead, the leader, and last other observers."""
        state = self._state
        if self.source is not None and self.source not in self._lately:
            self._lately.append(self.source)
        configuration = state.configuration

        def rank(node: NodeId) -> tuple[bool, int, float]:
            if node in self.preferred:
                order = self.preferred.index(node)
            else:
                order = len(self.preferred) + (2 if not configuration.has_say(node) else node == state.leader)
            return node in self._lately, order, state.chance()

        candidates = sorted((rank(node), node) for node in sorted(state.known))
        if candidates and candidates[0][0][0]:
            self._lately.clear()  # all were tried: begin again
        self.source = candidates[0][1] if candidates else None
        if state.pulls_only:
            state.heard_at = state.now  # it gets its chance
