"""What a state machine must offer to stand on the journal.

Replicas of a machine see the same entries in the same order and must reach the same state: no clock,
no chance, no order of a set may show in it. An exception out of `apply` or `restore` stops the node,
because a machine that swallowed it would drift apart from its replicas in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from journal.values import Entry


class Machine(Protocol):
    """A deterministic state machine, driven by one replica on one thread."""

    def apply(self, entry: Entry) -> None:
        """Take in the commands of one committed entry, in order. Results go where the machine's owner asked."""

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is at this call, in chunks of bounded size.

        The iterator is lazy: entries are applied between two of its chunks, and that must not show in
        them. At most one snapshot is under way at a time; closing the iterator gives it up.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by a snapshot's. Raises CorruptRecord when the chunks make no sense."""

    def digest(self) -> bytes:
        """A fingerprint of the whole state, equal on nodes with equal state."""
