"""When a session counts as lost, when to ping, when a connection is silent."""

from __future__ import annotations

from math import inf

import pytest

from jkcs_client.liveness import SILENCE_MAX, Liveness


def opened(at: float = 100.0, timeout: float = 9.0) -> Liveness:
    liveness = Liveness(timeout)
    liveness.on_opened(at, timeout)
    liveness.on_attached()
    return liveness


def test_a_session_is_lost_a_tenth_before_its_timeout() -> None:
    """Counted from when it was asked for: the server's clock started later, and may run faster."""
    assert opened(100.0, 10.0).lost_at == pytest.approx(109.0)


def test_there_is_nothing_to_lose_before_there_is_a_session() -> None:
    """The clock runs from the first hello on, not from the first attempt."""
    assert Liveness(10.0).lost_at == inf


def test_a_ping_counts_from_when_it_was_sent() -> None:
    """The answer may have been on its way for long; the server heard of us no later than it answered."""
    liveness = opened(100.0, 10.0)
    liveness.on_acknowledged(103.0)
    assert liveness.lost_at == pytest.approx(112.0)


def test_belief_never_moves_back() -> None:
    """A late answer to an early ping must not shorten what a later one has proved."""
    liveness = opened(100.0, 10.0)
    liveness.on_acknowledged(105.0)
    liveness.on_acknowledged(103.0)
    assert liveness.acknowledged_at == 105.0


def test_the_server_sets_the_timeout() -> None:
    """It was negotiated: what was asked for counts no more."""
    liveness = Liveness(60.0)
    liveness.on_opened(100.0, 6.0)
    assert liveness.interval == 2.0
    assert liveness.lost_at == pytest.approx(105.4)


def test_a_ping_is_due_at_once_and_then_three_times_in_a_timeout() -> None:
    """At once, because a reattached session has proved nothing yet."""
    liveness = opened(100.0, 9.0)
    assert liveness.ping_at == -inf
    liveness.on_pinged(101.0)
    assert liveness.ping_at == 104.0


def test_silence_counts_from_the_first_unanswered_request() -> None:
    """A server that owes nothing may be silent; one that owes an answer may not, for long."""
    liveness = opened(100.0, 3.0)
    assert liveness.silent_at == inf
    liveness.on_sent(101.0)
    liveness.on_sent(101.5)
    assert liveness.silent_at == 102.0
    liveness.on_received(101.75, unanswered=1)
    assert liveness.silent_at == 102.75
    liveness.on_received(102.0, unanswered=0)
    assert liveness.silent_at == inf


def test_a_silent_server_is_given_up_long_before_a_long_session_ends() -> None:
    """A paused server, or one cut off from the others, says nothing; another one may answer at once."""
    liveness = opened(100.0, 60.0)
    liveness.on_pinged(100.0)
    liveness.on_received(100.5, unanswered=0)
    liveness.on_sent(102.0)
    assert liveness.silent_at == pytest.approx(102.0 + SILENCE_MAX)


def test_a_server_that_owes_an_answer_is_asked_for_a_sign_of_life_once() -> None:
    """One that waits for its disk answers a ping; it must not be left for that, nor be asked again and again."""
    liveness = opened(100.0, 60.0)
    liveness.on_pinged(100.0)
    liveness.on_sent(102.0)
    assert liveness.ping_at == pytest.approx(102.0 + SILENCE_MAX / 2)
    liveness.on_pinged(102.0 + SILENCE_MAX / 2)
    assert liveness.ping_at > liveness.silent_at
    liveness.on_received(102.7, unanswered=1)
    assert liveness.silent_at == pytest.approx(102.7 + SILENCE_MAX)


def test_a_new_connection_owes_nothing_yet() -> None:
    """What an earlier connection left unanswered is not this one's fault."""
    liveness = opened(100.0, 9.0)
    liveness.on_sent(101.0)
    liveness.on_attached()
    assert liveness.silent_at == inf


def test_without_a_session_nothing_is_ever_lost() -> None:
    """But silent connections are found all the same."""
    liveness = Liveness(0.0)
    liveness.on_opened(100.0, 0.0)
    liveness.on_acknowledged(101.0)
    assert liveness.lost_at == inf
    assert 0 < liveness.interval < inf
