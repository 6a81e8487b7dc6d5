"""Which sessions a leader gives up, and when."""

from __future__ import annotations

from jkcs_server.serving.silence import Silence


def test_a_new_leader_gives_every_session_its_full_timeout() -> None:
    """It does not know what its predecessor heard (RELIABILITY 52)."""
    silence = Silence({1: 10.0, 2: 4.0}, now=100.0)
    assert silence.due(103.9) == []
    assert silence.due(104.0) == [2]
    assert silence.due(110.0) == [1]


def test_a_session_that_is_heard_lives_for_its_timeout_from_then() -> None:
    silence = Silence({1: 10.0}, now=0.0)
    assert silence.heard(1, 9.0) == 0
    assert silence.due(18.9) == []
    assert silence.due(19.0) == [1]


def test_a_due_session_is_reported_once() -> None:
    """Its expiry is on its way through the log; a second one would only be noise."""
    silence = Silence({1: 1.0}, now=0.0)
    assert silence.due(1.0) == [1]
    silence.doom(1, 77)
    assert silence.due(50.0) == []


def test_hearing_a_doomed_session_does_not_save_it_and_names_its_expiry() -> None:
    """The touch must not be confirmed before the expiry is applied (S2: no confirmed touch, then expiry)."""
    silence = Silence({1: 1.0}, now=0.0)
    assert silence.due(1.0) == [1]
    silence.doom(1, 77)
    assert silence.heard(1, 1.1) == 77


def test_a_session_whose_expiry_could_not_be_proposed_stays_due() -> None:
    silence = Silence({1: 1.0}, now=0.0)
    assert silence.due(1.0) == [1]
    silence.retry(1, 1.0)
    assert silence.due(1.25) == [1]


def test_sessions_opened_later_and_ended_sessions_are_followed() -> None:
    silence = Silence({}, now=0.0)
    silence.opened(5, 2.0, now=1.0)
    silence.opened(6, 2.0, now=1.0)
    silence.ended(5)
    assert silence.due(2.9) == []
    assert silence.due(3.0) == [6]


def test_an_unknown_session_is_not_invented_by_a_touch() -> None:
    silence = Silence({}, now=0.0)
    assert silence.heard(9, 1.0) == 0
    assert silence.due(1000.0) == []
