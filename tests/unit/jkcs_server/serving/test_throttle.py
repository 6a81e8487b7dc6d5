"""When a server stops reading from a client, and when it goes on."""

from __future__ import annotations

from typing import cast

from jkcs_client.protocol.messages import REQUESTS_IN_FLIGHT_MAX
from jkcs_server.serving.connection import Sink
from jkcs_server.serving.throttle import HELD_BYTES_MAX, Throttle


class Tap:
    """What the client's socket is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


def throttled() -> tuple[Tap, Throttle]:
    tap = Tap()
    return tap, Throttle(cast("Sink", tap))


def test_too_many_requests_wait_until_half_of_them_are_answered() -> None:
    """Going on at the first answer would stop again at once."""
    tap, throttle = throttled()
    throttle.took(10, REQUESTS_IN_FLIGHT_MAX, overloaded=False)
    assert tap.told == []
    throttle.took(10, REQUESTS_IN_FLIGHT_MAX + 1, overloaded=False)
    throttle.gave(REQUESTS_IN_FLIGHT_MAX // 2 + 1)
    assert tap.told == ["pause"]
    throttle.gave(REQUESTS_IN_FLIGHT_MAX // 2)
    assert tap.told == ["pause", "resume"]


def test_few_large_requests_are_too_much_as_well() -> None:
    """Without a leader nothing is answered, and a thousand requests of megabytes would fill the memory."""
    tap, throttle = throttled()
    for waiting in (1, 2):
        throttle.took(HELD_BYTES_MAX // 2 + 1, waiting, overloaded=False)
    throttle.gave(1)
    assert tap.told == ["pause"]
    throttle.gave(0)
    assert tap.told == ["pause", "resume"]


def test_what_was_answered_is_forgotten() -> None:
    """Else every client would be stopped in the end."""
    tap, throttle = throttled()
    for _ in range(4):
        throttle.took(HELD_BYTES_MAX - 1, 1, overloaded=False)
        throttle.gave(0)
    assert tap.told == []


def test_an_overloaded_server_stops_whoever_waits_once() -> None:
    tap, throttle = throttled()
    throttle.took(1, 1, overloaded=True)
    throttle.took(1, 2, overloaded=True)
    assert tap.told == ["pause"]
    throttle.gave(0)
    assert tap.told == ["pause", "resume"]


def test_a_client_is_stopped_as_often_as_it_sends_too_much() -> None:
    """One that was stopped once and went on is like any other."""
    tap, throttle = throttled()
    for _ in range(2):
        throttle.took(1, REQUESTS_IN_FLIGHT_MAX + 1, overloaded=False)
        throttle.gave(0)
        throttle.gave(0)
    assert tap.told == ["pause", "resume"] * 2


def test_one_that_sent_no_more_than_it_may_goes_on_while_some_of_it_waits() -> None:
    """The limit itself is allowed, when bytes stop a client and when they keep it stopped."""
    tap, throttle = throttled()
    throttle.took(HELD_BYTES_MAX, 1, overloaded=False)
    assert tap.told == []
    throttle.pause()
    throttle.gave(1)
    assert tap.told == ["pause", "resume"]
