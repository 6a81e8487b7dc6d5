"""The checker of watches."""

from __future__ import annotations

import pytest

from tests.simulation.checkers.annals import GhostEvent
from tests.simulation.checkers.watches import WatchLog, check_nothing_missed, check_one_shot
from tests.simulation.trace import Violation

EVENTS = [GhostEvent(2, 1, "/k"), GhostEvent(3, 1, "/other"), GhostEvent(4, 3, "/k"), GhostEvent(4, 1, "/k/c")]


def test_events_in_order_are_accepted() -> None:
    """Foreign keys are passed over; two events of one index both come."""
    log = WatchLog("c", "/k", 0, EVENTS)
    for event in (EVENTS[0], EVENTS[2], EVENTS[3]):
        log.on_event(event.kind, event.path, event.index)
    log.check_seen_up_to(4, "a read")
    WatchLog("c", "/k", 4, EVENTS).check_seen_up_to(9, "a read")


AFTER = GhostEvent(6, 3, "/k")

BAD = {
    "W1": [EVENTS[1]],
    "W2": [EVENTS[0], EVENTS[2], EVENTS[0]],
    "W3": [EVENTS[0], EVENTS[0]],
    "W4": [EVENTS[0], EVENTS[2], AFTER],
    "W6": [EVENTS[2]],
    "W7": [EVENTS[0], AFTER],
    "W9": [GhostEvent(2, 2, "/k")],
    "W12": [EVENTS[0], EVENTS[3]],
}


@pytest.mark.parametrize(("invariant", "told"), BAD.items(), ids=BAD)
def test_wrong_events_are_rejected(invariant: str, told: list[GhostEvent]) -> None:
    """Exactly the log's events, each once, in order; and the complaint says which of it is broken."""
    log = WatchLog("c", "/k", 0, [*EVENTS, AFTER])
    with pytest.raises(Violation, match=f"{invariant}:"):
        for event in told:
            log.on_event(event.kind, event.path, event.index)


def test_events_of_forbidden_keys_are_not_told() -> None:
    """W14; and who is not told of them has missed nothing."""
    hidden = GhostEvent(5, 3, "/k", ((31, "digest", "me:x"),))
    log = WatchLog("c", "/k", 4, [*EVENTS, hidden, AFTER])
    log.check_seen_up_to(5, "a read")
    with pytest.raises(Violation, match="W14:"):
        log.on_event(3, "/k", 5)
    log.on_event(3, "/k", 6)


def test_event_that_never_happened_is_rejected() -> None:
    """W12, at the end of the log."""
    log = WatchLog("c", "/k", 4, EVENTS)
    with pytest.raises(Violation, match="W12:"):
        log.on_event(3, "/k", 5)


def test_event_from_before_the_watch_is_rejected() -> None:
    """W2: a watch that goes on from an index is told what came after it."""
    log = WatchLog("c", "/k", 2, EVENTS)
    with pytest.raises(Violation, match="W2:"):
        log.on_event(1, "/k", 2)


def test_gap_longer_than_the_history_is_rejected_as_such() -> None:
    """W13: where the history does not reach, the answer is an error and not silence."""
    log = WatchLog("c", "/k", 0, [*EVENTS, AFTER], history=2)
    with pytest.raises(Violation, match="W13:"):
        log.on_event(AFTER.kind, AFTER.path, AFTER.index)


def test_another_watch_goes_on_where_everything_was_delivered() -> None:
    """Of the last index more may come, so it is not complete before something later was shown."""
    log = WatchLog("c", "/k", 0, EVENTS)
    log.on_event(1, "/k", 2)
    assert log.complete == 1
    log.check_seen_up_to(3, "a read")
    assert log.complete == 3
    log.on_event(3, "/k", 4)
    again = WatchLog("c", "/k", log.complete, EVENTS)
    for event in EVENTS[2:]:
        again.on_event(event.kind, event.path, event.index)


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


def test_silence_of_a_one_shot_watch_must_be_true() -> None:
    """W11: what it should have told happened before the state that was shown beside it."""
    check_nothing_missed("c", "/k", 2, 3, EVENTS)
    with pytest.raises(Violation, match="W11"):
        check_nothing_missed("c", "/k", 2, 4, EVENTS)


def test_bookmark_before_its_events_is_rejected() -> None:
    """W5."""
    with pytest.raises(Violation, match="W5"):
        WatchLog("c", "/k", 0, EVENTS).check_seen_up_to(2, "a sync", "W5")
