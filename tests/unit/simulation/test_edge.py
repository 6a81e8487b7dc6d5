"""Clusters that begin right before counters pass 31 or 32 bits."""

from __future__ import annotations

from jkcs_server.tree.keytree import CONFIG
from journal.limits import Limits
from journal.storage.metadata import Identity
from journal.storage.store import Store
from journal.values import Configuration, NodeId
from tests.simulation.chance import Chance
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.disk import SimDisk
from tests.simulation.edge import COUNTED, EDGES, STAMP, machine_before, position_before, prepare
from tests.simulation.plan import EDGE_AT, EDGE_EVERY, Narrowing
from tests.simulation.run import run_seed


def test_a_prepared_disk_is_that_of_a_server_which_stands_there() -> None:
    """The store opens it, and the log goes on right behind the snapshot."""
    identity = Identity("simulated", NodeId("n1"))
    configuration = Configuration((NodeId("n1"), NodeId("n2"), NodeId("n3")))
    for edge in EDGES:
        disk = SimDisk(Chance(1).stream("disk"))
        prepare(disk, identity, Limits(), configuration, b"8 bytes.", edge)
        store = Store.open(disk, identity, Limits(), configuration)
        position = position_before(edge)
        assert (store.start, store.last, store.hard_state.term) == (position, position, position.term)
        assert machine_before(edge).applied == position.index < edge
        assert set(COUNTED) < set(machine_before(edge).tree.nodes)


def test_the_replay_begins_with_all_of_that_tree() -> None:
    """The keys of the system too, whose list of who may read them is not the usual one."""
    machine = machine_before(EDGES[0])
    ghost = GhostTree()
    ghost.begin(machine, STAMP)
    ghost.check_final("a", machine)
    assert machine.tree.nodes[CONFIG].acl is not None


def test_such_runs_pass_the_edge() -> None:
    """Otherwise a counter of 31 bits would never be noticed."""
    outcome = run_seed(EDGE_AT + EDGE_EVERY, Narrowing(frozenset(), seconds=4.0))
    assert not outcome.invariant, outcome.detail
    assert outcome.plan.edge in EDGES
    assert outcome.counts.states["log passed 31 or 32 bits"] == 1
    assert 60 < outcome.commits < 10_000
