"""The queue of waiting reads: rounds, floors, and its limit."""

from __future__ import annotations

from journal.raft.reads import ReadQueue
from journal.values import Index, NodeId


def test_reads_gather_while_a_round_is_under_way() -> None:
    """One round answers all that waited when it began, and none that came later."""
    queue = ReadQueue(10)
    queue.add(None, 1, Index(0))
    queue.add(NodeId("n2"), 2, Index(0))
    queue.begin(7, Index(40))
    queue.add(None, 3, Index(0))
    assert [(read.context, index) for read, index in queue.end()] == [(1, 40), (2, 40)]
    assert [read.context for read in queue.waiting] == [3]
    assert not queue.in_round


def test_no_read_is_answered_below_its_floor() -> None:
    """The asker has seen, or was promised, what is at its floor."""
    queue = ReadQueue(10)
    queue.add(None, 1, Index(50))
    queue.add(None, 2, Index(30))
    queue.begin(1, Index(40))
    assert [index for _, index in queue.end()] == [50, 40]


def test_a_full_queue_turns_the_newest_away() -> None:
    """Those under way count too: what is held is bounded, not only what waits."""
    queue = ReadQueue(2)
    assert queue.add(None, 1, Index(0))
    queue.begin(1, Index(0))
    assert queue.add(None, 2, Index(0))
    assert not queue.add(None, 3, Index(0))
    queue.end()
    assert queue.add(None, 4, Index(0))
