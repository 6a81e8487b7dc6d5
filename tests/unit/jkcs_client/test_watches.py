"""Watches over reconnections: no gap, no double, and never a silent loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jkcs_client.protocol.errors import OK, Compacted, SessionExpired
from jkcs_client.protocol.messages import EventKind, WatchMode
from jkcs_client.watches import Watch, WatchTable

CHANGED = int(EventKind.CHANGED)


def watch(mode: WatchMode = WatchMode.PERSISTENT, since: int = 0, buffer_max: int = 100) -> Watch:
    return Watch("/a", mode, since, buffer_max)


def indices(watch: Watch) -> list[int]:
    return [index for _, _, index in watch.buffer]


def test_an_unanswered_registration_is_repeated_as_it_was() -> None:
    """Nobody has relied on it yet, and what was asked for is what must be seen."""
    fresh, past = watch(), watch(since=5)
    fresh.resume(complete=50)
    past.resume(complete=50)
    assert (fresh.since, past.since) == (0, 5)


def test_a_registered_watch_resumes_from_what_is_complete() -> None:
    """Not from its own last event, which may be so old that the server has forgotten it."""
    one = watch()
    one.on_registered(10)
    assert one.since == 10
    one.on_event(CHANGED, "/a", 20)
    one.resume(complete=70)
    assert one.since == 70
    assert not one.registered


def test_events_of_one_index_are_not_doubled_when_the_connection_broke_between_them() -> None:
    """A transaction makes several events with one index; the second half comes with the first repeated."""
    one = watch()
    one.on_registered(10)
    one.on_event(CHANGED, "/a/1", 20)
    one.on_event(CHANGED, "/a/2", 20)
    one.resume(complete=19)
    assert one.since == 19
    for number in (1, 2, 3):
        one.on_event(CHANGED, f"/a/{number}", 20)
    one.on_event(CHANGED, "/a/4", 21)
    assert [path for _, path, _ in one.buffer] == ["/a/1", "/a/2", "/a/3", "/a/4"]


def test_breaking_again_while_events_are_repeated_changes_nothing() -> None:
    """Reconnections come in bursts."""
    one = watch()
    one.on_registered(10)
    one.on_event(CHANGED, "/a/1", 20)
    one.on_event(CHANGED, "/a/2", 20)
    one.resume(complete=19)
    one.on_event(CHANGED, "/a/1", 20)
    one.resume(complete=19)
    for number in (1, 2, 3):
        one.on_event(CHANGED, f"/a/{number}", 20)
    assert [path for _, path, _ in one.buffer] == ["/a/1", "/a/2", "/a/3"]


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=12),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_every_event_is_seen_once_wherever_the_connection_breaks(sizes: list[int], breaks: list[int]) -> None:
    """`sizes`: how many events each index has. `breaks`: after how many messages each connection breaks."""
    history = [(index, f"/{index}/{place}") for index, size in enumerate(sizes, 1) for place in range(size)]
    one = watch(since=0)
    one.on_registered(0)
    complete = 0
    for cut in [*breaks, len(history)]:
        one.resume(complete)
        since = one.since
        for index, path in [event for event in history if event[0] > since][:cut]:
            one.on_event(CHANGED, path, index)
            complete = max(complete, index - 1)
    assert [path for _, path, _ in one.buffer] == [path for _, path in history]


@pytest.mark.parametrize("mode", [WatchMode.ONCE, WatchMode.ONCE_CHILDREN])
def test_a_watch_for_one_event_is_over_with_it(mode: WatchMode) -> None:
    """The server has forgotten it; registering it again would report a second event."""
    table = WatchTable()
    one = watch(mode)
    table.add(one)
    assert table.deliver(one.watch_id, CHANGED, "/a", 20) is one
    assert len(table) == 0
    assert one.code == OK
    assert table.resume(20) == []


def test_a_full_buffer_ends_the_watch_after_what_it_holds() -> None:
    """The reader gets every event up to the gap, and then the gap by name."""
    table = WatchTable()
    one = watch(buffer_max=2)
    table.add(one)
    for index in (1, 2, 3):
        table.deliver(one.watch_id, CHANGED, "/a", index)
    assert indices(one) == [1, 2]
    assert one.code == Compacted.code
    assert "2 events was full at index 3" in one.detail
    assert table.deliver(one.watch_id, CHANGED, "/a", 4) is None


def test_events_of_a_forgotten_watch_are_nobodys() -> None:
    """They were on their way when it was forgotten."""
    table = WatchTable()
    one = watch()
    table.add(one)
    table.remove(one)
    assert table.deliver(one.watch_id, CHANGED, "/a", 20) is None


def test_the_end_of_the_session_ends_every_watch() -> None:
    """Nobody may wait for an event that cannot come."""
    table = WatchTable()
    watches = [watch(), watch()]
    for one in watches:
        table.add(one)
    assert table.end_all(SessionExpired.code, "over") == watches
    assert [one.code for one in watches] == [SessionExpired.code] * 2
    assert len(table) == 0
