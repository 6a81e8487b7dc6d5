"""The clients of a run: every role does its work, and what is written down is what the judges need."""

from __future__ import annotations

import pytest

from tests.simulation.checkers import models
from tests.simulation.loop import quiet_disposal
from tests.simulation.plan import FAR_BEHIND_ROLES, RARE_ROLES, ZOOKEEPER_ROLES, Narrowing, draw
from tests.simulation.plan import ROLES as PLANNED
from tests.simulation.run import SEARCH_EVERY, _Run
from tests.simulation.workload import ROLES, Workload

SEARCHED = tuple(SEARCH_EVERY * number for number in (1, 2, 3, 5))
"""Seeds whose histories are searched in full."""
OVERLAPPING = range(1, 41)
"""In one of these seeds a holder writes after it stood still for longer than its session."""


def load_of(seed: int) -> Workload:
    with quiet_disposal():
        run = _Run(draw(seed), frozenset(), seed % SEARCH_EVERY == 0, None)
        assert run.execute() is None
        return run._load


def test_every_role_leaves_its_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers, directories, ephemeral and sequential keys, transactions, watches, locks: none may fall silent, and
    the history is what the full search gets."""
    searched: list[int] = []
    check = models.check_full

    def search(registers: list[object], directories: list[object]) -> None:
        searched.append(len(registers) + len(directories))
        check(registers, directories)  # type: ignore[arg-type]

    monkeypatch.setattr("tests.simulation.workload.check_full", search)
    loads = [load_of(seed) for seed in SEARCHED]
    kinds = {operation.kind for load in loads for operation in load.registers}
    assert kinds == {"get", "set", "create", "delete"}
    kinds = {operation.kind for load in loads for operation in load.directories}
    assert kinds >= {"children", "get", "create", "sequential", "set", "delete", "multi", "make"}
    paths = {path for load in loads for path in load.observer.ghost.annals.histories}
    for top in ("/eph/", "/seq/s-", "/multi/a", "/order/", "/locks/a/", "/locks/c/", "/fenced/locks/"):
        assert any(path.startswith(top) for path in paths), top
    writes = [write for load in loads for write in load.writes]
    assert any(write.acknowledged for write in writes) and any(write.refused for write in writes)
    assert max(load.locks.grants for load in loads) > 5
    assert max(load.observer.recovery.rehearsals for load in loads) > 2
    assert any(end.expired for load in loads for end in load.observer.sessions.ended.values())
    assert searched and max(searched) > 100
    assert set(ROLES) == {*PLANNED, *FAR_BEHIND_ROLES, *ZOOKEEPER_ROLES, *RARE_ROLES}


def test_rare_roles_leave_their_traces() -> None:
    """Lists, lifetimes and quotas: what is refused, goes by itself or is used up, and what is not."""
    with quiet_disposal():
        run = _Run(draw(5, Narrowing(faults=frozenset(), roles=RARE_ROLES * 2)), frozenset(), False, None)
        assert run.execute() is None
    seen = run._world.reach.seen
    for state in (
        "write refused by a list",
        "read refused by a list",
        "key reaped",
        "container reaped",
        "quota refused",
    ):
        assert seen[state], state
    histories = run._observer.ghost.annals.histories
    for top in ("/own/a", "/life/t-0", "/life/s-", "/life/c-0/x", "/quota/hard/", "/zookeeper/quota/quota/soft/"):
        assert any(path.startswith(top) for path in histories), top
    assert any(state.aversion > 1 for state in histories["/own/a"])
    writes = run._load.writes
    assert any(write.acknowledged for write in writes) and any(write.refused for write in writes)


def test_a_part_of_the_seeds_has_rare_roles_behind_the_usual() -> None:
    """So that the clients of the others, and their numbers, stay what they are."""
    plans = [draw(seed) for seed in range(1, 101)]
    rare = [plan for plan in plans if plan.roles[-len(RARE_ROLES) :] == RARE_ROLES]
    assert 20 <= len(rare) <= 50
    for plan in plans:
        usual = FAR_BEHIND_ROLES if plan.far_behind else PLANNED
        more = tuple(role for role in plan.roles[len(usual) :] if role not in ZOOKEEPER_ROLES)
        assert plan.roles[: len(usual)] == usual
        assert more == (RARE_ROLES if plan in rare else ())


def test_overlap_of_holders_is_seen_by_the_fenced_resource() -> None:
    """Without tokens two holders would have written at once; if that never happened, fencing would be untested."""
    assert any(load_of(seed).locks.overlaps for seed in OVERLAPPING)
