"""Quorums once more, by trying all sets: what the product's arithmetic is compared with (I7, I9).

Pure; meant for a handful of nodes. Called by the other checkers.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from functools import lru_cache
from itertools import combinations

from journal.values import Configuration, NodeId


def is_quorum(configuration: Configuration, nodes: Set[NodeId]) -> bool:
    """Whether these nodes are a majority of the voters, and of the outgoing ones where there are such."""
    return _is_majority(configuration.voters, nodes) and (
        not configuration.outgoing or _is_majority(configuration.outgoing, nodes)
    )


@lru_cache(maxsize=256)
def quorums_meet(one: Configuration, other: Configuration) -> bool:
    """Whether every quorum of the one has a node in common with every quorum of the other."""
    everybody = sorted({*one.voters, *one.outgoing, *other.voters, *other.outgoing})
    for size in range(len(everybody) + 1):
        for chosen in combinations(everybody, size):
            rest = set(everybody).difference(chosen)
            if is_quorum(one, set(chosen)) and is_quorum(other, rest):
                return False
    return True


def _is_majority(half: Collection[NodeId], nodes: Set[NodeId]) -> bool:
    return 2 * sum(node in nodes for node in half) > len(half)
