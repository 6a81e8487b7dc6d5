"""What a session remembers of its writes."""

from __future__ import annotations

from jkcs_server.tree.sessions import REPLIES_KEPT_MAX, Session, Sessions


def outcome(serial: int) -> tuple[int, int, tuple[object, ...]]:
    return 0, 100 + serial, (f"/{serial}",)


def session_after(*acked: int) -> Session:
    """A session whose writes 1, 2, 3 ... came with these acknowledgements."""
    session = Session(7, b"p", 1000)
    for serial, known in enumerate(acked, start=1):
        session.remember(100 + serial, known, outcome(serial))
    return session


def test_unacknowledged_outcomes_are_kept() -> None:
    """Each of them may have been lost on its way."""
    session = session_after(0, 0, 0)
    assert [session.outcome_of(serial) for serial in (1, 2, 3)] == [outcome(1), outcome(2), outcome(3)]
    assert session.serial == 3
    assert session.index == 103


def test_acknowledged_outcomes_are_forgotten() -> None:
    """Nobody will ask for them again."""
    session = session_after(0, 0, 0, 2)
    assert session.outcome_of(2) is None
    assert session.outcome_of(3) == outcome(3)
    assert session.outcome_of(4) == outcome(4)


def test_what_has_not_been_applied_has_no_outcome() -> None:
    """Nor has what never was."""
    session = session_after(0)
    for serial in (-1, 0, 2, 3):
        assert session.outcome_of(serial) is None


def test_newest_outcome_is_kept_whatever_is_acknowledged() -> None:
    """A client cannot have the answer to the request that says so."""
    session = session_after(0, 5)
    assert session.outcome_of(1) is None
    assert session.outcome_of(2) == outcome(2)


def test_acknowledgement_that_goes_back_does_no_harm() -> None:
    """A request sent again carries what was known when it was first sent."""
    session = session_after(0, 0, 2, 0)
    assert session.outcome_of(2) is None
    assert session.outcome_of(3) == outcome(3)


def test_number_of_outcomes_is_bounded() -> None:
    """A client that never acknowledges must not fill the memory of every replica."""
    session = session_after(*[0] * (REPLIES_KEPT_MAX + 5))
    assert len(session.replies) == REPLIES_KEPT_MAX
    assert session.outcome_of(5) is None
    assert session.outcome_of(6) == outcome(6)


def test_kept_session_is_replaced_not_changed() -> None:
    """A snapshot under way holds the sessions of its index."""
    sessions = Sessions()
    sessions.open(7, b"p", 1000)
    kept = sessions[7]
    sessions.keep(9)
    sessions.remember(kept, 10, 0, outcome(1))
    replaced = sessions[7]
    sessions.remember(replaced, 11, 0, outcome(2))
    assert (kept.serial, kept.replies) == (0, [])
    assert sessions[7] is replaced
    assert (replaced.serial, replaced.index) == (2, 11)
    sessions.release()
    sessions.remember(replaced, 12, 0, outcome(3))
    assert sessions[7] is replaced


def test_sessions_are_found_by_id() -> None:
    """The serving side asks in these ways."""
    sessions = Sessions()
    sessions.open(7, b"p", 1000)
    sessions.open(9, b"q", 2000)
    assert sessions.get(8) is None
    assert 9 in sessions and 8 not in sessions
    assert len(sessions) == 2
    assert [session.id for session in sessions.values()] == [7, 9]
    sessions.end(7)
    assert sessions.get(7) is None
