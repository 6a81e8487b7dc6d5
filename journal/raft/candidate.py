"""A node that asks for votes: first for the promise of them (the pre-vote, thesis 9.6), then for the votes.

Knows nothing of what follows from the result; `core.py` starts the vote after a won pre-vote and the
leadership after a won vote. A candidate object lives for one round of one of the two.
"""

from __future__ import annotations

from journal.raft.messages import VoteReply, VoteRequest
from journal.raft.quorum import VoteResult, vote_result
from journal.raft.ready import Role
from journal.raft.state import State
from journal.values import NodeId, Term


class Candidate:
    """One round of asking."""

    __slots__ = ("_state", "_votes", "deadline", "pre")

    def __init__(self, state: State, *, pre: bool, transfer: bool = False) -> None:
        assert state.may_campaign(), (state.voter, state.restoring, state.withheld)
        self._state = state
        self.pre = pre
        """Whether this is a pre-vote, which changes no term and needs no disk."""
        self._votes: dict[NodeId, bool] = {}
        state.role = Role.CANDIDATE
        state.leader = None
        if pre:
            self._votes[state.me] = True
            self.deadline = state.now + state.retry_wait()
            """When the round is given up."""
        else:
            state.enter_term(Term(state.term + 1))
            # Our own vote counts when the disk has it: see `own_vote_saved`. The requests wait for it too:
            # a candidate that forgets its term could give its vote away in it.
            state.vote_for(state.me)
            self.deadline = state.now + state.vote_wait()
        self._ask(transfer)

    def result(self) -> VoteResult:
        return vote_result(self._state.configuration, self._votes)

    def own_vote_saved(self) -> VoteResult:
        """Term and vote are on this node's own disk."""
        self._votes[self._state.me] = True
        return self.result()

    def on_reply(self, voter: NodeId, reply: VoteReply) -> VoteResult:
        """Count a voter, once however often it answers (RELIABILITY 5). Answers to other rounds count nothing."""
        state = self._state
        if reply.pre != self.pre:
            return VoteResult.PENDING
        if reply.granted:
            asked = state.term + 1 if self.pre else state.term
            if reply.term == asked:
                self._votes[voter] = True
        elif voter not in self._votes:
            self._votes[voter] = False
            if not self.pre:
                # Most likely somebody else campaigns in this term: do not wait for all votes to come in.
                self.deadline = min(self.deadline, state.now + state.retry_wait())
        return self.result()

    def _ask(self, transfer: bool) -> None:
        state = self._state
        log = state.log
        configuration = state.configuration
        term = Term(state.term + 1) if self.pre else state.term
        request = VoteRequest(term, log.last_index, log.last_term, self.pre, transfer)
        send = state.send if self.pre else state.send_when_saved
        for node in state.peers:
            if node in configuration.voters or node in configuration.outgoing:
                send(node, request)
