"""What a caller of `Journal` may choose: when an update is answered, and how fresh the state behind an answer is."""

from __future__ import annotations

from enum import StrEnum


class Response(StrEnum):
    """When an update is answered. Whichever is chosen, it is applied at most once, and once unless it is given up."""

    ONE_WAY = "one_way"
    """At once, without a word from anybody."""
    RECEIVE = "receive"
    """The leader has it in memory."""
    PERSISTENCE = "persistence"
    """It is on the leader's disk."""
    REPLICATION = "replication"
    """It is on the disks of a majority, and applied here: the answer is the machine's."""
    ALL = "all"
    """The same, and it is on the leader's disk too."""


class Consistency(StrEnum):
    """Which state answers a query."""

    STRICT = "strict"
    """One that holds every update answered before the query was asked, on any node (linearizable)."""
    SEQUENTIAL = "sequential"
    """This node's, which never goes back, and not one older than what this journal has told before."""
    NONE = "none"
    """This node's, as it is."""
