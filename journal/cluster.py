"""A replica as those see it who administer its cluster: the implementation of `administration.Cluster`.

Knows nothing of how requests come and answers go. Made by whoever owns the replica.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from journal.clock import Scheduler
from journal.errors import Busy, ChangeRefused
from journal.raft.messages import AdminReply, AdminRequest
from journal.raft.ready import Role
from journal.replica import Replica
from journal.values import Configuration, Index, NodeId

STABLE = "stable"
CATCHING_UP = "catching up"
JOINT = "joint"
COMMITTING = "committing"

logger = logging.getLogger("journal.cluster")


class ReplicaCluster:
    """All methods are called on the scheduler's thread."""

    def __init__(self, replica: Replica, scheduler: Scheduler) -> None:
        self._replica = replica
        self._scheduler = scheduler

    @property
    def me(self) -> NodeId:
        return self._replica.me

    def leads(self) -> bool:
        return self._replica.core.role is Role.LEADER

    def known_leader(self) -> NodeId | None:
        return self._replica.core.leader

    def describe(self) -> dict[str, Any]:
        core = self._replica.core
        members = core.configuration
        addresses = dict(members.addresses)
        match: dict[NodeId, Index] = {peer.peer: peer.match for peer in core.progress()}
        match[self.me] = core.durable
        return {
            "leader": core.leader,
            "term": core.term,
            "index": core.configuration_index,
            "last_index": core.last_index,
            "commit_index": core.commit,
            "phase": phase(members, committed=core.configuration_index <= core.commit),
            "preferred": members.preferred,
            "voters": list(members.voters),
            "outgoing": list(members.outgoing),
            "target": list(members.target),
            "learners": list(members.learners),
            "observers": list(members.observers),
            "members": [
                {
                    "node": node,
                    "role": role_of(members, node),
                    "address": addresses.get(node, ""),
                    "match_index": match.get(node),
                }
                for node in members.members
            ],
        }

    def update_voters(self, old: Sequence[NodeId], new: Sequence[NodeId], addresses: Mapping[NodeId, str]) -> Index:
        return self._begin(lambda now: self._replica.core.update_voters(old, new, addresses, now))

    def convert_role(self, node: NodeId, role: str, address: str) -> Index:
        return self._begin(lambda now: self._replica.core.convert_role(node, role, address, now))

    def set_preferred_leader(self, node: NodeId | None) -> Index:
        return self._begin(lambda now: self._replica.core.set_preferred_leader(node, now))

    def _begin(self, change: Callable[[float], Index]) -> Index:
        index = change(self._scheduler.time())
        self._replica.kick()
        return index

    def transfer_leadership(self, node: NodeId | None) -> None:
        core = self._replica.core
        if node == self.me:
            raise ChangeRefused(f"{node} leads already")
        if not core.transfer(node, self._scheduler.time()):
            voters = ", ".join(core.configuration.voters)
            raise ChangeRefused(f"{node or 'nobody'} can take over: the voters are {voters}")
        self._replica.kick()

    def take_snapshot(self) -> Index:
        index = self._replica.take_snapshot()
        if index is None:
            raise Busy("no snapshot can be asked for now: leadership is being handed over, or too much is uncommitted")
        return index

    def recover_snapshot(self, index: Index) -> Index:
        """Begins it; returns the index behind which it will be."""
        refusals: list[BaseException] = []

        def done(at: Index | None, error: BaseException | None) -> None:
            if error is None:
                logger.info("went back to the snapshot at %d, as a change at %s", index, at)
            else:
                logger.warning("did not go back to the snapshot at %d: %s", index, error)
                refusals.append(error)

        self._replica.snapshots.recover(index, done)
        if refusals:
            error = refusals[0]
            raise ChangeRefused(str(error)) if isinstance(error, LookupError) else error
        self._replica.kick()
        return self._replica.core.last_index

    def send(self, to: NodeId, context: int, body: bytes, *, reply: bool) -> None:
        make = AdminReply if reply else AdminRequest
        self._replica.send(to, make(self._replica.core.term, context, body))


def phase(members: Configuration, *, committed: bool) -> str:
    """How far a change of members is."""
    if members.outgoing:
        return JOINT
    if members.target:
        return CATCHING_UP
    return STABLE if committed else COMMITTING


def role_of(members: Configuration, node: NodeId) -> str:
    """What a member is at present."""
    if node in members.voters or node in members.outgoing:
        return "voter"
    return "learner" if node in members.learners else "observer"
