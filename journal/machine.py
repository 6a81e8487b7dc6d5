"""What a state machine must offer to stand on the journal.

Replicas of a machine see the same entries in the same order and must reach the same state: no clock,
no chance, no order of a set may show in it. An exception out of `apply` or `restore` stops the node,
because a machine that swallowed it would drift apart from its replicas in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from journal.values import Entry, Index

DIGEST_MAX = 2**64 - 1


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

    def recover(self, chunks: Iterable[bytes], index: Index, stamp: int) -> None:
        """Go back to the content of an older snapshot, as a change made at `index`, which is above all before it.

        What orders or protects other changes must not go back: versions, tokens, who is connected. Raises
        CorruptRecord, and has then changed nothing, when the chunks make no sense.
        """

    def digest(self) -> int:
        """A fingerprint of the whole state in 64 bits, equal on nodes with equal state at the same index.

        Asked for after any entry, so it must not take longer for a larger state: keep it up to date in `apply`.
        """


def combined_digest(machines: Mapping[int, Machine]) -> int:
    """One fingerprint of all machines of a node. That of machine 0, where there is no other."""
    if len(machines) == 1 and 0 in machines:
        return machines[0].digest()  # asked for after each record
    return sum((2 * number + 1) * machine.digest() for number, machine in machines.items()) & DIGEST_MAX
