"""What a quorum has reached, as plain arithmetic over one or two halves of a configuration.

Knows nothing of terms, messages or time. A joint configuration (thesis 4.3) needs a majority of the
new voters and a majority of the outgoing ones; learners never count. Called by `candidate.py` for
votes and by `leader.py` for commits, read rounds and the check that it still leads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from journal.values import Configuration, NodeId


class VoteResult(Enum):
    """Where an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def quorum_value(configuration: Configuration, value_of: Callable[[NodeId], int]) -> int:
    """The highest value that a majority of each half has reached.

    With a node's durable index as its value this is the index that may be committed.
    """
    value = _majority_value(configuration.voters, value_of)
    if configuration.outgoing:
        value = min(value, _majority_value(configuration.outgoing, value_of))
    return value


def has_quorum(configuration: Configuration, holds: Callable[[NodeId], bool]) -> bool:
    """Whether the nodes for which `holds` is true are a majority of each half."""
    return quorum_value(configuration, lambda node: 1 if holds(node) else 0) == 1


def vote_result(configuration: Configuration, votes: Mapping[NodeId, bool]) -> VoteResult:
    """The state of an election; nodes without an answer are missing from `votes`.

    Voters are counted, not messages: whoever is not a voter in a half does not exist for it.
    """
    if has_quorum(configuration, lambda node: votes.get(node, False)):
        return VoteResult.WON
    if has_quorum(configuration, lambda node: votes.get(node, True)):
        return VoteResult.PENDING
    return VoteResult.LOST


def _majority_value(half: tuple[NodeId, ...], value_of: Callable[[NodeId], int]) -> int:
    values = sorted(map(value_of, half))
    return values[(len(values) - 1) // 2]
