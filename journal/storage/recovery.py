"""What to make of the place where a log segment stops making sense, as a decision table.

Pure: the scan of a segment gathers the facts, this says what they mean. The rule behind the rows: only
what was provably never acknowledged is cut away in silence (R3); whatever else is damaged is either
named and refused (R4) or dropped openly, so that the node asks its leader for it before it votes (R5).
Called by `wal.py` once for each segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Decision(Enum):
    END_OF_LOG = "the records end here and nothing is missing"
    TORN_TAIL = "a write that was under way when the power went; never acknowledged: zero it"
    WITHHELD = "acknowledged records are lost at the tail: drop what is left of them and keep from voting"
    CORRUPT = "damage that no crash explains: refuse to start"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the scan saw at the first place that is not the next good record."""

    last_segment: bool
    """No segment follows this one."""
    all_zero: bool
    """From here to the end of the file there are only zeros: nothing was ever written here."""
    out_of_place: bool
    """A record or batch with good checksums that cannot follow what is before it."""
    later_batch: bool
    """A good batch header stands further on. It was written after all before it was durable."""
    missing_sector: bool
    """A disk sector of the damaged batch holds only zeros, as one does that never reached the disk."""
    acknowledged: bool
    """Something durable says that the log went on: the mark, or the header of the next segment."""


@dataclass(frozen=True, slots=True)
class Row:
    """A pattern of facts, None where a fact does not matter, and what to do."""

    last_segment: bool | None
    all_zero: bool | None
    out_of_place: bool | None
    later_batch: bool | None
    missing_sector: bool | None
    acknowledged: bool | None
    decision: Decision

    def matches(self, facts: Facts) -> bool:
        return all(
            wanted is None or wanted == fact
            for wanted, fact in (
                (self.last_segment, facts.last_segment),
                (self.all_zero, facts.all_zero),
                (self.out_of_place, facts.out_of_place),
                (self.later_batch, facts.later_batch),
                (self.missing_sector, facts.missing_sector),
                (self.acknowledged, facts.acknowledged),
            )
        )


_ANY, _YES, _NO = None, True, False

TABLE: tuple[Row, ...] = (
    #   last  zero  place later sector acked
    Row(_ANY, _YES, _ANY, _ANY, _ANY, _NO, Decision.END_OF_LOG),
    Row(_YES, _YES, _ANY, _ANY, _ANY, _YES, Decision.WITHHELD),
    # A segment is closed only when it is durable and complete, so the next one cannot start further on.
    Row(_NO, _YES, _ANY, _ANY, _ANY, _YES, Decision.CORRUPT),
    # For the same reason nothing in a closed segment can be torn.
    Row(_NO, _NO, _ANY, _ANY, _ANY, _ANY, Decision.CORRUPT),
    # Good checksums in the wrong place: a mistake of a program, not of a disk.
    Row(_YES, _NO, _YES, _ANY, _ANY, _ANY, Decision.CORRUPT),
    # The batch after the damage proves that the damaged one was durable once: committed entries may be in it.
    Row(_YES, _NO, _NO, _YES, _ANY, _ANY, Decision.CORRUPT),
    Row(_YES, _NO, _NO, _NO, _ANY, _YES, Decision.WITHHELD),
    Row(_YES, _NO, _NO, _NO, _YES, _NO, Decision.TORN_TAIL),
    # All sectors arrived and still the checksum is wrong: it may have been acknowledged before it rotted.
    Row(_YES, _NO, _NO, _NO, _NO, _NO, Decision.CORRUPT),
)


def decide(facts: Facts) -> Decision:
    """The decision of the one row that matches."""
    for row in TABLE:
        if row.matches(facts):
            return row.decision
    raise AssertionError(facts)
