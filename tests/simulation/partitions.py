"""Shapes of broken networks, as the ways that are cut: pure arithmetic over names.

A way is (sender, receiver). Knows nothing of links, time or servers' state; who leads comes in as an argument.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

Way = tuple[str, str]
Ways = list[Way]


def between(one_side: Iterable[str], other_side: Iterable[str]) -> Ways:
    """All ways between two groups, in both directions."""
    others = list(other_side)
    return [way for one in one_side for other in others if one != other for way in ((one, other), (other, one))]


def against_the_rest(group: Sequence[str], everybody: Sequence[str]) -> Ways:
    """A group on its own."""
    return between(group, [name for name in everybody if name not in group])


def single(chance: random.Random, everybody: Sequence[str]) -> tuple[list[str], Ways]:
    """One machine, of whatever kind, that reaches nobody."""
    group = [chance.choice(list(everybody))]
    return group, against_the_rest(group, everybody)


def halves(chance: random.Random, everybody: Sequence[str]) -> tuple[list[str], Ways]:
    """Two groups of any sizes."""
    names = list(everybody)
    chance.shuffle(names)
    group = names[: chance.randint(1, len(names) - 1)]
    return group, against_the_rest(group, everybody)


def leader_with_clients(
    chance: random.Random, leader: str, clients: Sequence[str], everybody: Sequence[str]
) -> tuple[list[str], Ways]:
    """The leader without any other server, and some clients that go on asking it."""
    group = [leader, *(client for client in clients if chance.random() < 0.6)]
    return group, against_the_rest(group, everybody)


def majority_without_leader(
    chance: random.Random, leader: str, servers: Sequence[str], everybody: Sequence[str]
) -> tuple[list[str], Ways]:
    """The leader with as many servers as do not make a quorum; all clients are with the others."""
    others = [name for name in servers if name != leader]
    chance.shuffle(others)
    group = [leader, *others[: (len(servers) - 1) // 2 - 1]] if len(servers) > 3 else [leader]
    return group, against_the_rest(group, everybody)


def bridge(chance: random.Random, servers: Sequence[str]) -> tuple[list[str], Ways]:
    """Servers in a row or ring: each reaches its neighbours only, and one in the middle reaches everybody."""
    names = list(servers)
    chance.shuffle(names)
    ring = len(names) > 3 and chance.random() < 0.5
    ways: Ways = []
    middle = len(names) // 2
    for at, name in enumerate(names):
        for further in range(at + 1, len(names)):
            if ring:
                near = further - at in (1, len(names) - 1)
            else:
                near = at == middle or further == middle or (at < middle) == (further < middle)
            if not near:
                ways += between([name], [names[further]])
    return names, ways


def one_way(chance: random.Random, everybody: Sequence[str]) -> tuple[str, list[str], bool, Ways]:
    """All ways to one machine, or from it, or a single one. Returns it, the others, whether outward, and the ways."""
    one = chance.choice(list(everybody))
    others = [name for name in everybody if name != one]
    if chance.random() < 0.5:
        others = [chance.choice(others)]
    outward = chance.random() < 0.5
    return one, others, outward, [(one, other) if outward else (other, one) for other in others]


def clients_only(chance: random.Random, clients: Sequence[str], servers: Sequence[str]) -> tuple[list[str], Ways]:
    """Some clients lose some servers, which notice nothing among themselves."""
    cut_off = [client for client in clients if chance.random() < 0.5]
    lost = [server for server in servers if chance.random() < 0.7]
    return cut_off, between(cut_off, lost)
