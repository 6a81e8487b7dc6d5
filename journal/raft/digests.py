"""The digests of this node's last states, and what a quorum says of one of them.

The leader names a checkpoint, an index that all nodes pass at the end of the same record; each tells the digest
of its state there; what a quorum agrees on is attested, and whoever has something else has a damaged state.
Nobody is right by office: a leader that differs from the quorum is the one that is wrong.

Knows nothing of messages and of what the digests are made of. Owned by `state.py`; `core.py` asks whether
this node differs, `leader.py` gathers what the others tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from journal.raft.quorum import has_quorum
from journal.values import Configuration, Index, NodeId

KEPT = 4096
"""States of so many records are remembered: heartbeats are compared long before they are gone."""
DIGEST_MAX = 2**63 - 1
ASKED_MAX = 8
"""A checkpoint on which so many rounds brought no agreement is given up for a newer one."""


class Digests:
    """What one node knows of digests."""

    __slots__ = ("_by_index", "attested", "attested_digest", "newest")

    def __init__(self) -> None:
        self._by_index: dict[Index, int] = {}
        """Oldest first; indices rise."""
        self.newest = Index(0)
        self.attested = Index(0)
        """The newest state that a quorum agrees on ..."""
        self.attested_digest = 0

    def record(self, index: Index, digest: int) -> None:
        """The machines are at `index`, the end of a record."""
        states = self._by_index
        states[index] = digest
        self.newest = index
        if len(states) > KEPT:
            del states[next(iter(states))]

    def at(self, index: Index) -> int | None:
        """This node's digest at `index`; None when it is not known any more, or not yet."""
        return self._by_index.get(index)

    def clear(self) -> None:
        """The machines were replaced."""
        self._by_index.clear()
        self.newest = Index(0)

    def attest(self, index: Index, digest: int) -> None:
        """Somebody who should know says that a quorum agrees."""
        if index > self.attested:
            self.attested, self.attested_digest = index, digest

    def divergence(self) -> Index | None:
        """The attested index, when this node's state there is another one."""
        mine = self._by_index.get(self.attested)
        return None if mine is None or mine == self.attested_digest else self.attested


class Poll:
    """One leader's question about one checkpoint, and what came back."""

    __slots__ = ("_asked", "_told", "checkpoint")

    def __init__(self) -> None:
        self.checkpoint = Index(0)
        self._told: dict[NodeId, int] = {}
        self._asked = ASKED_MAX
        """How often the others were asked about this checkpoint."""

    def advance(self, digests: Digests, configuration: Configuration, me: NodeId) -> Index:
        """Called with each heartbeat round: attest what a quorum agrees on, and say which checkpoint to name."""
        agreed = self.verdict(configuration)
        if agreed is not None:
            digests.attest(self.checkpoint, agreed)
        self._asked += 1
        newest = digests.newest
        mine = digests.at(newest)
        if mine is not None and newest != self.checkpoint and (agreed is not None or self._asked >= ASKED_MAX):
            self.checkpoint, self._told, self._asked = newest, {me: mine}, 0
        return self.checkpoint

    def tell(self, node: NodeId, checkpoint: Index, digest: int) -> None:
        """A node's answer; one to another question is old news."""
        if checkpoint and checkpoint == self.checkpoint:
            self._told[node] = digest

    def verdict(self, configuration: Configuration) -> int | None:
        """The digest on which a quorum agrees, None while there is none."""
        return next((value for value in sorted(set(self._told.values())) if self._agree(configuration, value)), None)

    def _agree(self, configuration: Configuration, value: int) -> bool:
        told: Mapping[NodeId, int] = self._told
        return has_quorum(configuration, lambda node: told.get(node) == value)
