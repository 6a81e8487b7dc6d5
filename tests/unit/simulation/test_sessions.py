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
        checker.on_session_ended(7, 20, expired=True)


def test_expiry_is_accepted_when_the_client_cannot_or_does_know() -> None:
    """A client that knows, was paused, or is dead; and one that closed its session by itself."""
    checker = SessionChecker(Clock())
    paused, dead, resumed, knowing = (Process(name) for name in ("c1", "c2", "c3", "c4"))
    paused.paused = dead.dead = True
    resumed.resumed_at = 10.0
    for number, process in enumerate((paused, dead, resumed, knowing)):
        checker.on_session(number, process, lambda number=number: number == 3)
        checker.on_session_ended(number, 20, expired=True)
    checker.on_session(9, Process("c5"), lambda: False)
    checker.on_session_ended(9, 21, expired=False)
    assert not checker.is_live(9) and checker.is_live(10)
    assert checker.end_of(9) == 21 and checker.end_of(10) is None


def test_session_of_a_dead_client_must_end_in_time() -> None:
    """S3: what it holds is held until then. Nothing is asked of the time before all was well."""
    clock = Clock()
    checker = SessionChecker(clock)
    process = Process("c1")
    checker.on_session(7, process, lambda: False, 2.0)
    checker.on_session(8, Process("c2"), lambda: False, 2.0)  # lives
    checker.on_killed(process)
    clock.now = 30.0
    process.dead = True
    checker.check_ends(calm_since=26.0)
    with pytest.raises(Violation, match="S3"):
        checker.check_ends(calm_since=20.0)
    checker.on_session_ended(7, 40, expired=True)
    with pytest.raises(Violation, match="S3"):
        checker.check_ends(calm_since=20.0)
    checker.check_ends(calm_since=27.0)


def test_lock_of_a_dead_client_must_be_free_in_time() -> None:
    """M5: others wait for it."""
    clock = Clock()
    checker = SessionChecker(clock)
    process = Process("c1")
    checker.on_session(7, process, lambda: False, 2.0)
    checker.on_killed(process, held_lock=True)
    clock.now = 15.0
    checker.check_ends(calm_since=0.0)
    clock.now = 16.0
    with pytest.raises(Violation, match="M5"):
        checker.check_ends(calm_since=0.0)


def test_session_is_one_clients_and_stays_the_same() -> None:
    """S5."""
    checker = SessionChecker(Clock())
    process = Process("c1")
    checker.on_session(7, process, lambda: False)
    checker.on_session(7, process, lambda: False)
    checker.check_same(7, 7, "c1")
    with pytest.raises(Violation, match="S5"):
        checker.on_session(7, Process("c2"), lambda: False)
    with pytest.raises(Violation, match="S5"):
        checker.check_same(7, 9, "c1")
