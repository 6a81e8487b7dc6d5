"""The checker of mutual exclusion."""

from __future__ import annotations

import pytest

from tests.simulation.checkers.locks import (
    LockBook,
    check_fenced_writes,
    check_first_in_queue,
    check_no_orphans,
)
from tests.simulation.loop import Process
from tests.simulation.trace import Violation


def test_one_holder_after_another_is_accepted() -> None:
    """And so is a second lock beside the first."""
    book = LockBook()
    first = book.enter("/l", 5, Process("c1"))
    other = Process("c2")
    book.enter("/other", 3, other)
    assert book.holds(other) and not book.holds(Process("c3"))
    book.leave(first)
    book.enter("/l", 6, Process("c2"))


def test_two_holders_at_once_are_rejected() -> None:
    """M3."""
    book = LockBook()
    book.enter("/l", 5, Process("c1"))
    with pytest.raises(Violation, match="M3"):
        book.enter("/l", 6, Process("c2"))


@pytest.mark.parametrize("token", [4, 5])
def test_token_that_does_not_grow_is_rejected(token: int) -> None:
    """M2."""
    book = LockBook()
    book.leave(book.enter("/l", 5, Process("c1")))
    with pytest.raises(Violation, match="M2"):
        book.enter("/l", token, Process("c2"))


@pytest.mark.parametrize("how", ["paused", "dead", "was paused"])
def test_holder_that_stood_still_may_be_overtaken(how: str) -> None:
    """Nobody can tell a process that does not run; its token keeps it harmless."""
    book = LockBook()
    process = Process("c1")
    book.enter("/l", 5, process)
    process.paused, process.dead = how == "paused", how == "dead"
    process.pauses += how == "was paused"
    book.enter("/l", 6, Process("c2"))
    assert book.write("db", 6)
    assert not book.write("db", 5)
    assert book.overlaps == 1


def test_fenced_write_of_an_earlier_holder_is_rejected() -> None:
    """M1."""
    check_fenced_writes("/l", [3, 3, 8])
    with pytest.raises(Violation, match="M1"):
        check_fenced_writes("/l", [3, 8, 3])


def test_orphans_in_the_queue_are_rejected() -> None:
    """M6."""
    check_no_orphans("/l", [])
    with pytest.raises(Violation, match="M6"):
        check_no_orphans("/l", ["x-lock-0000000001"])


def test_holder_with_others_before_it_is_rejected() -> None:
    """M4: first come, first served."""
    check_first_in_queue("/l", 5, [5, 8, 9])
    with pytest.raises(Violation, match="M4"):
        check_first_in_queue("/l", 8, [5, 8, 9])
