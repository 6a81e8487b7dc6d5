"""What a tree keeps beside its keys: lists and counters that are not what the keys make of them are rejected."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.messages import CREATE, DELETE, SET
from jkcs_server.tree.commands import OPEN, REAP
from jkcs_server.tree.keytree import PARENTS
from jkcs_server.tree.machine import TreeMachine
from jkcs_server.tree.quotas import Quota
from journal.values import Entry
from tests.simulation.checkers.books import QuotaChecker, check_books, held_below, overdue
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.trace import Violation
from tests.support.model_tree import ModelTree
from tests.unit.simulation.test_ghost import Silent, entry

QUOTA = "/zookeeper/quota/q/zookeeper_"
CONTAINER, TTL = 8, 16
LOG: tuple[Entry, ...] = (
    entry(1, (OPEN, 0, 0, 0, b"p", 1000)),
    entry(2, (CREATE, 1, 1, 0, "/c", b"", CONTAINER)),
    entry(3, (CREATE, 1, 2, 1, "/t", b"", TTL, None, 5)),
    entry(4, (CREATE, 1, 3, 2, "/q/a", b"12", PARENTS)),
    entry(5, (CREATE, 1, 4, 3, QUOTA + "limits", b"countHardLimit=3,byteHardLimit=4", PARENTS)),
    entry(6, (CREATE, 1, 5, 4, QUOTA + "stats", b"", PARENTS)),
    entry(7, (CREATE, 1, 6, 5, "/q/b", b"345", 0)),  # refused
    entry(8, (CREATE, 1, 7, 6, "/q/b/c", b"", PARENTS)),  # refused, and no /q/b
    entry(9, (CREATE, 1, 8, 7, "/q/b", b"34", 0)),
)


def replayed(*more: Entry) -> tuple[GhostTree, TreeMachine]:
    ghost, machine = GhostTree(), TreeMachine(Silent())
    for one in (*LOG, *more):
        machine.apply(one)
        ghost.on_first_apply(one)
        ghost.check_applied("a", one, machine)
        check_books("a", machine.tree)
    return ghost, machine


def test_the_replay_predicts_what_quotas_refuse() -> None:
    """The whole command or nothing; what is said of how much there is has a history too."""
    ghost, machine = replayed()
    ghost.check_final("a", machine)
    assert sorted(ghost.model.children("/q")) == ["a", "b"] and held_below(ghost.model, "/q") == (3, 4)
    states = [ghost.annals.state_at(QUOTA + "stats", index).value for index in (5, 6, 8, 9)]
    assert states == [None, b"count=2,bytes=2", b"count=2,bytes=2", b"count=3,bytes=4"]


def test_the_replay_judges_what_goes_by_itself() -> None:
    """Not before its first child, not before its time by the entries' stamps (1000 and the index), not another key."""
    ghost, machine = replayed(
        entry(10, (REAP, 0, 0, 0, "/c", 2, 1)),  # without a child yet
        entry(11, (CREATE, 1, 9, 8, "/c/x", b"", 0), (SET, 1, 10, 8, "/t", b"", -1)),
        entry(13, (REAP, 0, 0, 0, "/t", 3, 1), (REAP, 0, 0, 0, "/c", 2, 1)),  # set at 1011; with a child
        entry(15, (DELETE, 1, 11, 10, "/c/x", -1)),
        entry(16, (REAP, 0, 0, 0, "/t", 3, 2), (REAP, 0, 0, 0, "/t", 4, 1)),  # of another term, of another key
    )
    assert {"/c", "/t"} <= set(ghost.model.keys)
    assert (overdue(ghost.model, 1015), overdue(ghost.model, 1016)) == (["/c"], ["/c", "/t"])
    for last in (entry(18, (REAP, 0, 0, 0, "/t", 3, 1)), entry(19, (REAP, 0, 0, 0, "/c", 2, 1))):
        machine.apply(last)
        ghost.on_first_apply(last)
    ghost.check_final("a", machine)
    assert not {"/c", "/t"} & set(ghost.model.keys) and not overdue(ghost.model, 9999)


def test_key_that_nobody_looks_after_is_rejected() -> None:
    """L1: it would stay for ever; and so is one on the wrong list."""
    for lost in ("containers", "ttls"):
        _, machine = replayed()
        getattr(machine.tree, lost).clear()
        with pytest.raises(Violation, match="L1"):
            check_books("a", machine.tree)
    _, machine = replayed()
    machine.tree.containers["/t"] = None
    with pytest.raises(Violation, match="L1"):
        check_books("a", machine.tree)


def test_wrong_counter_is_rejected() -> None:
    """Q2: the next write is judged by it."""
    _, machine = replayed()
    quota = machine.tree.quotas["/q"]
    machine.tree.quotas["/q"] = Quota(quota.limits, quota.count, quota.bytes - 1)
    with pytest.raises(Violation, match="Q2: a counts"):
        check_books("a", machine.tree)
    del machine.tree.quotas["/q"]
    with pytest.raises(Violation, match="Q2: a counts nothing"):
        check_books("a", machine.tree)
    machine.tree.quotas["/q"] = quota
    machine.tree.nodes[QUOTA + "stats"].data = b"count=1,bytes=1"
    with pytest.raises(Violation, match="Q2: a says"):
        check_books("a", machine.tree)


def test_state_beyond_a_hard_limit_is_rejected() -> None:
    """Q1, by adding up; a limit that is lowered below what there is takes nothing away."""
    checker, model = QuotaChecker(), ModelTree()

    def apply(index: int, *command: object) -> None:
        before = checker.look(model)
        model.apply(index, 1000, command)
        checker.check(index, before, model)

    apply(1, OPEN, 0, 0, 0, b"p", 1000)
    apply(2, CREATE, 1, 1, 0, "/q", b"1234", 0)
    apply(3, CREATE, 1, 2, 0, QUOTA + "limits", b"byteHardLimit=3;countHardLimit=1", PARENTS)
    apply(4, SET, 1, 3, 0, "/q", b"", -1)
    before = checker.look(model)
    model._charge = lambda *arguments: None  # type: ignore[method-assign]
    model.apply(5, 1000, (CREATE, 1, 4, 0, "/q/more", b"", 0))
    with pytest.raises(Violation, match="Q1"):
        checker.check(5, before, model)
