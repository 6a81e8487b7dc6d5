"""A member as a source for observers: it answers their questions for committed entries, in whatever role it is.

A question that finds nothing new may wait; it is answered with the pass that commits something. Nothing here
costs a member anything that no observer asks. Driven by `core.py`.
"""

from __future__ import annotations

from journal.errors import LogCompacted
from journal.raft.messages import PullReply, PullRequest
from journal.raft.state import State
from journal.values import Index, NodeId, Term

INSTALL_SECONDS = 5.0
"""An observer that has not asked for so long takes its snapshot from somebody else."""


class Source:
    """The observers that pull from this node."""

    __slots__ = ("_state", "_waiting", "installing")

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: dict[NodeId, PullRequest] = {}
        """Questions that wait for a commit."""
        self.installing: dict[NodeId, float] = {}
        """Observers that are being sent a snapshot, and when one last asked."""

    @property
    def has_observers(self) -> bool:
        """Somebody waits here to be told of each commit."""
        return bool(self._waiting)

    def on_request(self, observer: NodeId, request: PullRequest) -> None:
        state = self._state
        self._waiting.pop(observer, None)
        if state.log.start.index < request.after <= state.commit and not state.log.ends_record(request.after):
            return  # nobody whose log is ours stands there
        if request.after >= self._available():
            # It may even be ahead of us, having pulled elsewhere before.
            self._waiting[observer] = request
            if request.wait:
                return
        self._answer(observer, request)

    def flush(self) -> None:
        """Once per pass: answer those for whom something was committed."""
        available = self._available()
        for observer in [node for node, request in self._waiting.items() if request.after < available]:
            self._answer(observer, self._waiting.pop(observer))

    def peer_lost(self, peer: NodeId) -> None:
        self._waiting.pop(peer, None)

    def installing_now(self) -> set[NodeId]:
        """The observers that are being sent a snapshot and still ask for more."""
        state = self._state
        for observer in [node for node, asked in self.installing.items() if state.now - asked > INSTALL_SECONDS]:
            del self.installing[observer]
        return set(self.installing)

    def _available(self) -> Index:
        """Only what is on our own disk is passed on: a crash of ours can then never leave us behind our observers."""
        return min(self._state.commit, self._state.log.durable)

    def _answer(self, observer: NodeId, request: PullRequest) -> None:
        state = self._state
        digests = state.digests
        available = self._available()
        reply = PullReply(
            state.term,
            state.leader or "",
            state.hops,
            False,
            digests.attested,
            digests.attested_digest,
            request.after,
            Term(0),
            0,
            available,
        )
        if request.after < available and state.restoring is None:
            self._fill(observer, request, reply, available)
        state.send(observer, reply)

    def _fill(self, observer: NodeId, request: PullRequest, reply: PullReply, available: Index) -> None:
        state = self._state
        try:
            part = state.log.read(Index(request.after + 1), state.limits.append_bytes_max)
        except LogCompacted:
            reply.compacted = True
            if state.now - self.installing.get(observer, float("-inf")) >= state.timing.election_timeout:
                state.snapshots_wanted.append(observer)
            self.installing[observer] = state.now
            return
        self.installing.pop(observer, None)
        entries = part.entries
        while entries and entries[-1].last > available:
            entries.pop()
        reply.previous_index, reply.previous_term = part.previous_index, part.previous_term
        reply.previous_crc, reply.entries = part.previous_crc, entries
