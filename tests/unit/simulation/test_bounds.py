"""The checkers of limits and of the owners of sessions."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from jkcs_server.serving.native import NativeConnection
from journal.limits import Timing
from journal.values import NodeId
from tests.simulation.checkers.bounds import Bound, check_bounds, check_office, check_owners
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
