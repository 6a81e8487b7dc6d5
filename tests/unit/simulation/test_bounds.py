"""The checkers of limits and of the owners of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from jkcs_server.serving.native import NativeConnection
from journal.limits import Timing
from journal.values import NodeId
from tests.simulation.checkers.bounds import Bound, Stall, check_bounds, check_office, check_owners
from tests.simulation.run import run_seed
from tests.simulation.trace import Violation


def test_what_grows_beyond_its_limit_is_rejected() -> None:
    """I15; at the limit all is well."""
    check_bounds("a", iter([("queue", 5, 5), ("log", 0, 1)]))
    with pytest.raises(Violation, match="I15: a: log is 2, and may be 1"):
        check_bounds("a", iter([("queue", 5, 5), ("log", 2, 1)]))


def connection(session: int, *, closed: bool = False) -> Any:
    one = NativeConnection.__new__(NativeConnection)
    one.session, one.closed = session, closed
    return one


def server(owners: dict[int, Any], connections: list[Any], sessions: set[int]) -> Any:
    machine = SimpleNamespace(owners=owners, sessions=sessions)
    return SimpleNamespace(machine=machine, requests=SimpleNamespace(connections=connections))


def test_session_is_served_where_it_is_owned() -> None:
    """S1: of two connections of one session only the newer may be open."""
    mine, older = connection(7), connection(7)
    check_owners("a", server({7: mine}, [mine, connection(0)], {7}))
    check_owners("a", server({}, [mine], set()))  # it has ended, and the connection is about to hear of it
    with pytest.raises(Violation, match="S1"):
        check_owners("a", server({7: mine}, [mine, older], {7}))
    with pytest.raises(Violation, match="S1"):
        check_owners("a", server({}, [mine], {7}))
    with pytest.raises(Violation, match="S1"):
        check_owners("a", server({7: connection(7, closed=True)}, [], {7}))


def test_a_run_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds of real servers: what is looked at is really there, and in use."""
    seen: dict[str, int] = {}

    def look(node: str, bounds: Iterator[Bound]) -> None:
        for what, size, _ in bounds:
            kind = what.rstrip("0123456789 ").removesuffix(" n")
            seen[kind] = max(seen.get(kind, 0), size)

    monkeypatch.setattr("tests.simulation.observer.check_bounds", look)
    assert not run_seed(5).invariant
    assert len(seen) == 6 and all(seen.values()), seen


def test_leader_that_nobody_answers_must_step_down() -> None:
    """OFFICE: within an election timeout and what it takes to notice. A leader alone has nobody to ask."""
    timing = Timing()
    late = timing.election_timeout + 2 * timing.heartbeat_interval - 0.01
    check_office(NodeId("a"), [5.0, 10.0], 3, timing, 10.0 + late)
    check_office(NodeId("a"), [], 1, timing, 10.0 + late)
    with pytest.raises(Violation, match="OFFICE"):
        check_office(NodeId("a"), [5.0, 10.0], 3, timing, 10.1 + late)
    with pytest.raises(Violation, match="OFFICE"):
        check_office(NodeId("a"), [0.0, 0.0, 0.0, 10.0], 5, timing, 10.0 + late)


def test_a_leader_whose_disk_stands_still_is_no_leader_for_long() -> None:
    """OFFICE: its heartbeats do not wait for its disk, so nobody else would notice (R13)."""
    timing, stall, node = Timing(heartbeat_interval=0.1, election_timeout=0.6), Stall(), NodeId("a")
    for now in (0.0, 1.0, 1.5):
        stall.look(node, True, 5, 7, timing, now)
    stall.look(node, True, 6, 7, timing, 1.6)  # it moves
    stall.look(node, True, 7, 7, timing, 9.0)  # nothing is to be written
    stall.look(node, True, 7, 8, timing, 11.5)  # what waits came just now
    stall.look(node, False, 7, 8, timing, 12.0)  # it does not lead
    stall.look(node, True, 7, 8, timing, 12.1)
    with pytest.raises(Violation, match="OFFICE: a still leads, and its disk has been at 7 of 8"):
        stall.look(node, True, 7, 8, timing, 13.8)
