"""Whether a node gives its vote: the rules of RequestVote and of the pre-vote, in any role.

Sends nothing and changes nothing. Called by `core.py`, which acts on the answer.
"""

from __future__ import annotations

from journal.raft.messages import VoteRequest
from journal.raft.state import CEILING, State
from journal.values import NodeId


def is_absurd(request: VoteRequest) -> bool:
    """Whether the request carries numbers that no honest node can have."""
    return request.term >= CEILING or request.last_term >= CEILING or request.last_index >= CEILING


def is_disruptive(state: State, request: VoteRequest) -> bool:
    """Whether somebody wants an election while this node still hears a leader (thesis 4.2.3, 9.6).

    Such a request is passed over without a word and without taking in its term, unless the leader itself
    asked for the election (thesis 3.10). One of an older term is answered, so that its sender catches up.
    """
    return request.term >= state.term and not request.transfer and state.hears_leader()


def grants(state: State, candidate: NodeId, request: VoteRequest) -> bool:
    """Whether the candidate gets this node's vote, or its word that it would get it."""
    if request.term < state.term or state.withholds():
        return False
    log = state.log
    if (request.last_term, request.last_index) < (log.last_term, log.last_index):
        return False  # our log may hold committed entries that it lacks (Raft 5.4.1)
    if request.pre and request.term > state.term:
        return True
    return state.vote == candidate or (state.vote is None and state.leader is None)
