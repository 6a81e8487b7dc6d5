"""Shapes of broken networks."""

from __future__ import annotations

import random

from tests.simulation import partitions

SERVERS = ["n1", "n2", "n3", "n4", "n5"]
CLIENTS = ["c1", "c2"]
EVERYBODY = SERVERS + CLIENTS


def reachable(ways: partitions.Ways, start: str) -> set[str]:
    """Who can be reached from `start` over one wire, both ways."""
    cut = set(ways)
    return {name for name in EVERYBODY if name != start and (start, name) not in cut and (name, start) not in cut}


def test_a_group_against_the_rest_is_cut_both_ways_and_whole_inside() -> None:
    """Half a cut would be another fault."""
    group, ways = partitions.halves(random.Random(3), EVERYBODY)
    for name in EVERYBODY:
        side = group if name in group else [other for other in EVERYBODY if other not in group]
        assert reachable(ways, name) == set(side) - {name}


def test_the_leader_keeps_clients_and_no_server() -> None:
    """A leader that answers reads without a quorum is only caught while somebody asks it."""
    seen = set()
    for seed in range(30):
        group, ways = partitions.leader_with_clients(random.Random(seed), "n2", CLIENTS, EVERYBODY)
        assert not reachable(ways, "n2") & set(SERVERS)
        seen.add(len(group))
    assert seen == {1, 2, 3}


def test_a_majority_is_left_without_the_leader() -> None:
    """Two servers of five are no quorum, one of three is none."""
    for servers, size in ((SERVERS, 2), (SERVERS[:3], 1)):
        group, ways = partitions.majority_without_leader(random.Random(1), "n1", servers, EVERYBODY)
        assert "n1" in group and len(group) == size
        assert not reachable(ways, "n1") & set(CLIENTS)


def test_bridges_and_rings_leave_no_server_alone() -> None:
    """Everybody hears somebody, and hardly anybody a majority: elections must not go round for ever."""
    for seed in range(30):
        _, ways = partitions.bridge(random.Random(seed), SERVERS)
        degrees = sorted(len(reachable(ways, name) & set(SERVERS)) for name in SERVERS)
        assert degrees in ([2, 2, 2, 2, 2], [2, 2, 2, 2, 4])
    _, ways = partitions.bridge(random.Random(1), SERVERS[:3])
    assert len(ways) == 2


def test_one_way_cuts_leave_the_other_way_open() -> None:
    """That is what fools failure detectors."""
    for seed in range(30):
        one, others, outward, ways = partitions.one_way(random.Random(seed), EVERYBODY)
        assert ways == [(one, other) if outward else (other, one) for other in others]


def test_clients_are_cut_from_servers_only() -> None:
    """The servers notice nothing among themselves."""
    for seed in range(30):
        _, ways = partitions.clients_only(random.Random(seed), CLIENTS, SERVERS)
        assert all((one in CLIENTS) != (other in CLIENTS) for one, other in ways)
