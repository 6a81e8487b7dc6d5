"""What an administrator, or the driver in his place, asks of a core: changes of members, of office and of abilities.

The middle of `journal.raft.core.Core`: between what may be looked at (`view.py`) and the course of events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from journal.errors import NotLeader
from journal.raft.membership import Membership
from journal.raft.view import CoreView
from journal.values import Index, NodeId


class CoreChanges(CoreView):
    """The part of a core that takes orders."""

    def update_voters(
        self, old: Iterable[NodeId], new: Iterable[NodeId], addresses: Mapping[NodeId, str], now: float
    ) -> Index:
        """Begin to make `new` the voters, where `old` are the voters now; any change in one step.

        `addresses` says where newcomers listen for their peers, `host:port`. Returns the index of the first
        entry of the change. With `new` equal to `old` a change is given up whose newcomers have not caught up.
        Raises NotLeader, Busy while the change before is not committed, or ChangeRefused; nothing was changed then.
        """
        return self._membership(now).update_voters(old, new, addresses)

    def convert_role(self, node: NodeId, role: str, address: str, now: float) -> Index:
        """Begin to make `node` a "voter", an "observer", or "none" at all. As `update_voters`."""
        return self._membership(now).convert_role(node, role, address)

    def set_preferred_leader(self, node: NodeId | None, now: float) -> Index:
        """Let `node` lead whenever it can; None for whoever does. As `update_voters`."""
        return self._membership(now).prefer(node)

    def _membership(self, now: float) -> Membership:
        self._state.now = now
        if self._leader is None:
            raise NotLeader(f"{self._state.me} does not lead: {self._state.leader or 'nobody'} does")
        return self._leader.membership

    def set_able(self, able: bool, now: float) -> None:
        """Whether this node can write: one that cannot keeps out of elections, and hands over when it leads."""
        self._state.now = now
        self._state.able = able
        if not able and self._leader is not None:
            self._leader.transfer(None)

    def pull_from(self, sources: Sequence[NodeId]) -> None:
        """Whom this node prefers to pull from while it observes, best first."""
        self._puller.preferred = tuple(sources)

    def transfer(self, target: NodeId | None, now: float) -> bool:
        """Hand the leadership over, to the most caught-up voter when `target` is None (thesis 3.10).

        False when this node does not lead or there is no such voter. Gives up after an election timeout.
        """
        self._state.now = now
        return self._leader is not None and self._leader.transfer(target)
