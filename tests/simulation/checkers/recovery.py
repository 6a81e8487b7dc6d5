"""What a start would find if the power failed now: the product's own recovery (I6, I7, I10, I11, R5).

Between two real crashes a disk passes through hundreds of states; every so often one of them is opened here as
if the machine had just been switched on. The machine itself notices nothing. Called by the observer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from journal.errors import StorageError
from journal.limits import Limits
from journal.storage.disk import Disk
from journal.storage.store import Identity, Store
from journal.values import Configuration, HardState, NodeId
from tests.simulation.checkers.durability import DurableLog
from tests.simulation.checkers.raft import Committed
from tests.simulation.disk import SimDisk
from tests.simulation.trace import Violation

STEPS_BETWEEN = 1500
"""Steps of all servers together from one rehearsal to the next: often, and still a small part of a run's time."""
SYNCS_BETWEEN = 50
"""Syncs of one log from one rehearsal right before it to the next: nothing but a sync in between shows a torn write."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose data directory it is, and how it is read."""

    identity: Identity
    limits: Limits
    configuration: Configuration


class RecoveryChecker:
    """Rehearses the start of one machine after the other."""

    def __init__(self) -> None:
        self._owners: dict[NodeId, Owner] = {}
        self._steps = 0
        self.rehearsals = 0

    def on_boot(self, node: NodeId, owner: Owner) -> None:
        """A server has recovered by itself; from now on its starts can be rehearsed."""
        self._owners[node] = owner

    def knows(self, node: NodeId) -> bool:
        """Whether a node has been up, so that its starts can be rehearsed."""
        return node in self._owners

    def due(self) -> NodeId | None:
        """One more step was made: whose turn it is now, if anybody's."""
        self._steps += 1
        if self._steps < STEPS_BETWEEN or not self._owners:
            return None
        self._steps = 0
        self.rehearsals += 1
        nodes = sorted(self._owners)
        return nodes[self.rehearsals % len(nodes)]

    def check(
        self, node: NodeId, image: Disk, durable: DurableLog, newest: Committed, state: HardState,
        logs: Callable[[Store], DurableLog],
    ) -> None:  # fmt: skip
        """Open `image`, a copy that a power cut has left. It must be readable, and have what it vouches for."""
        owner = self._owners[node]
        try:
            store = Store.open(image, owner.identity, owner.limits, owner.configuration)
        except StorageError as error:
            raise Violation("I11", f"{node} could not be started again now: {error}") from error
        if store.hard_state.term < state.term:
            raise Violation("I6", f"{node} would be back in term {store.hard_state.term}, and was in {state.term}")
        found = logs(store)
        found.snapshot = store.snapshot.position.index if store.snapshot is not None else 0
        if durable.has(newest) and not found.has(newest):
            raise Violation("I7", f"{node} has the committed index {newest.index} on disk and would not find it")
        if store.withheld and durable.term_at(store.withheld) is None and store.withheld > durable.snapshot:
            raise Violation(
                "R5", f"{node} would miss index {store.withheld}, which its disk never had or had to give up"
            )
        if store.start.index > found.snapshot:
            gap = f"the log starts after {store.start.index}, the snapshot ends at {found.snapshot}"
            raise Violation("I10", f"{node}: {gap}")


def torn_copy(disk: SimDisk) -> SimDisk:
    """A disk as a power cut could leave this one now: without some of what was not synced, and torn."""
    twin = disk.twin()
    twin.lose_power()
    return twin
