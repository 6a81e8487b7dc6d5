"""Who belongs to the cluster, as one running replica acts on it: whom to be connected with, whom to believe.

A node is known by its name and by the incarnation of its data directory. One that comes back under an old name
with another directory has forgotten what it voted and acknowledged: nobody speaks with it (R9). One that was
removed stops. Called by `replica.py` only.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from journal.clock import Handle, Scheduler
from journal.errors import Removed
from journal.peers.handshake import AGAIN, STRANGER, WIPED, Refusal
from journal.peers.network import Network
from journal.raft.ready import Role
from journal.storage.store import NOBODY, Store
from journal.storage.worker import Worker
from journal.values import Configuration, Index, NodeId

if TYPE_CHECKING:
    from journal.replica import Replica

logger = logging.getLogger("journal.members")

PARTING_SECONDS = 5.0
"""Former members stay connected for so long: they are to learn that they were removed."""
MET_MAX = 256
"""Names that are remembered with their incarnation."""


class Members:
    """The members around one replica."""

    def __init__(self, replica: Replica, store: Store, worker: Worker, network: Network, scheduler: Scheduler) -> None:
        self._replica = replica
        self._scheduler = scheduler
        self._connected: dict[NodeId, str] = {}
        """Everybody whom this node is connected with or wants to be, and their addresses."""
        self._parting: Handle | None = None
        """The timer that ends connections with former members."""
        self._store = store
        self._worker = worker
        self._network = network
        self._meeting: set[NodeId] = set()
        """Nodes whose incarnation is being written down."""
        self._belongs = replica.me in store.configuration.members
        """This node is a member by what is applied."""
        self._removed: str = ""
        """Why this node must stop, unless what follows takes it in again, and once it does not lead any more."""

    def on_configuration(self, configuration: Configuration) -> None:
        """Connect with whom the newest configuration names, beside those of before."""
        addresses = dict(configuration.addresses)
        self._connected.update({node: addresses.get(node, "") for node in configuration.members})
        self._connect()

    def _connect(self) -> None:
        me = self._replica.me
        self._network.set_members({node: address for node, address in self._connected.items() if node != me})

    def _let_go(self) -> None:
        """Part from those who are no members any more. By now they know it, or will be told when they come back."""
        self._parting = None
        configuration = self._replica.core.configuration
        if self._replica.core.committed_configuration == configuration:
            self._connected.clear()
            self.on_configuration(configuration)

    def stop(self) -> None:
        if self._parting is not None:
            self._parting.cancel()

    def on_committed(self, configuration: Configuration, index: Index) -> None:
        """A configuration was applied."""
        if self._parting is None and set(self._connected) - set(configuration.members):
            scheduler = self._scheduler
            self._parting = scheduler.call_at(scheduler.time() + PARTING_SECONDS, self._let_go)
        belonged, self._belongs = self._belongs, self._replica.me in configuration.members
        if belonged and not self._belongs:
            self._removed = f"this node was removed from the cluster by the configuration at index {index}"
        elif self._belongs:
            self._removed = ""

    def stop_if_removed(self) -> None:
        """At the end of a pass: a removed leader first hands over.

        An old configuration is no reason to stop. A node that was taken in again under its name goes through the one
        that removed it when it starts, or is sent it in a page of its own: only the newest one decides, when all that
        others are known to have committed is here.
        """
        core = self._replica.core
        if not self._removed or core.role is Role.LEADER:
            return
        if core.has_caught_up and self._replica.me not in core.configuration.members:
            self._replica.fail(Removed(self._removed))

    def judge(self, peer: NodeId, incarnation: bytes) -> Refusal | None:
        """See `journal.peers.network.Receiver`."""
        if self._replica.stopped:
            return Refusal(AGAIN, "this node is stopping")
        core = self._replica.core
        configuration = core.configuration
        if self._replica.me in configuration.members and peer not in configuration.members:
            if core.configuration_at(core.commit) == configuration:
                detail = f"node {peer!r} is not a member: those are {', '.join(configuration.members)}"
                return Refusal(STRANGER, detail, core.configuration_index)
            return Refusal(AGAIN, "a change of members is under way")
        known = self._store.met.get(peer)
        if known == incarnation or incarnation == NOBODY:
            return None
        if known is not None:
            detail = (
                f"node {peer!r} is known here with another data directory: what it has forgotten may be missing "
                "for ever. Remove it, and add it under a new name"
            )
            return Refusal(WIPED, detail)
        if len(self._store.met) >= MET_MAX:
            return Refusal(STRANGER, f"this node has met {MET_MAX} others already")
        self._meet(peer, incarnation)
        return Refusal(AGAIN, "its first visit is being written down")

    def _meet(self, peer: NodeId, incarnation: bytes) -> None:
        if peer not in self._meeting:
            self._meeting.add(peer)
            self._worker.submit(lambda: self._store.meet(peer, incarnation), lambda _, error: self._on_met(peer, error))

    def _on_met(self, peer: NodeId, error: BaseException | None) -> None:
        self._meeting.discard(peer)
        if error is not None:
            self._replica.fail(error)

    def on_refused(self, peer: NodeId, refusal: Refusal) -> None:
        """See `journal.peers.network.Receiver`."""
        if refusal.code == WIPED:
            self._replica.fail(Removed(f"refused by {peer}: {refusal.detail}"))
        elif refusal.code == STRANGER and (self._belongs or self._removed):
            core = self._replica.core
            mine = core.configuration_index
            if refusal.index > mine or (refusal.index == mine and self._replica.me not in core.configuration.members):
                reason = f"refused by {peer}: this node was removed from the cluster. {refusal.detail}"
                self._replica.fail(Removed(reason))
