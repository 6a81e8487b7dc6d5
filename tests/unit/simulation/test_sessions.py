"""The checker of what clients believe of their sessions."""

from __future__ import annotations

import pytest

from tests.simulation.checkers.sessions import SessionChecker
from tests.simulation.loop import Process
from tests.simulation.trace import Violation


class Clock:
    """A clock that stands still until it is set."""

    now = 10.0

    def __call__(self) -> float:
        return self.now


def test_session_that_expires_under_a_believing_client_is_rejected() -> None:
    """S2: its client still hands out its locks."""
    checker = SessionChecker(Clock())
    checker.on_session(7, Process("c1"), lambda: False)
    with pytest.raises(Violation, match="S2"):
        checker.on_session_ended(7, expired=True)


def test_expiry_is_accepted_when_the_client_cannot_or_does_know() -> None:
    """A client that knows, was paused, or is dead; and one that closed its session by itself."""
    checker = SessionChecker(Clock())
    paused, dead, resumed, knowing = (Process(name) for name in ("c1", "c2", "c3", "c4"))
    paused.paused = dead.dead = True
    resumed.resumed_at = 10.0
    for number, process in enumerate((paused, dead, resumed, knowing)):
        checker.on_session(number, process, lambda number=number: number == 3)
        checker.on_session_ended(number, expired=True)
    checker.on_session(9, Process("c5"), lambda: False)
    checker.on_session_ended(9, expired=False)
    assert not checker.is_live(9) and checker.is_live(10)
