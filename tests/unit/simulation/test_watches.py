"""The checker of watches."""

from __future__ import annotations

import pytest

from tests.simulation.checkers.ghost import GhostEvent
from tests.simulation.checkers.watches import WatchLog, check_one_shot
from tests.simulation.trace import Violation

EVENTS = [GhostEvent(2, 1, "/k"), GhostEvent(3, 1, "/other"), GhostEvent(4, 3, "/k"), GhostEvent(4, 1, "/k/c")]


def test_events_in_order_are_accepted() -> None:
    """Foreign keys are passed over; two events of one index both come."""
    log = WatchLog("c", "/k", 0, EVENTS)
    for event in (EVENTS[0], EVENTS[2], EVENTS[3]):
        log.on_event(event.kind, event.path, event.index)
    log.check_seen_up_to(4, "a read")
    WatchLog("c", "/k", 4, EVENTS).check_seen_up_to(9, "a read")


@pytest.mark.parametrize(
    "told",
    [[EVENTS[2]], [EVENTS[0], EVENTS[0]], [EVENTS[0], EVENTS[3]], [EVENTS[1]], [GhostEvent(2, 2, "/k")]],
    ids=["gap", "double", "out of order", "foreign", "wrong kind"],
)
def test_wrong_events_are_rejected(told: list[GhostEvent]) -> None:
    """W: exactly the log's events, each once, in order."""
    log = WatchLog("c", "/k", 0, EVENTS)
    with pytest.raises(Violation, match="W:"):
        for event in told:
            log.on_event(event.kind, event.path, event.index)


def test_event_that_never_happened_is_rejected() -> None:
    """W, at the end of the log."""
    log = WatchLog("c", "/k", 4, EVENTS)
    with pytest.raises(Violation, match="W:"):
        log.on_event(3, "/k", 5)


def test_data_before_its_event_is_rejected() -> None:
    """W10."""
    log = WatchLog("c", "/k", 0, EVENTS)
    log.on_event(1, "/k", 2)
    log.check_seen_up_to(3, "a read")
    with pytest.raises(Violation, match="W10"):
        log.check_seen_up_to(4, "a read")


def test_one_shot_watch_must_report_the_first_event() -> None:
    """W11."""
    check_one_shot("c", "/k", 2, (3, "/k", 4), EVENTS)
    with pytest.raises(Violation, match="W11"):
        check_one_shot("c", "/k", 0, (3, "/k", 4), EVENTS)
    with pytest.raises(Violation, match="W11"):
        check_one_shot("c", "/k", 4, (3, "/k", 5), EVENTS)
