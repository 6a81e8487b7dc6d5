"""What watches report, against the events of the tree."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.messages import EventKind, WatchMode
from jkcs_server.serving.watches import WatchHub

CREATED, DELETED, CHANGED, CHILDREN = EventKind.CREATED, EventKind.DELETED, EventKind.CHANGED, EventKind.CHILDREN


class Client:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str, int]] = []

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        self.seen.append((watch_id, kind, path, index))


@pytest.mark.parametrize(
    ("mode", "path", "kind", "event_path", "reported"),
    [
        (WatchMode.ONCE, "/a", CHANGED, "/a", (CHANGED, "/a")),
        (WatchMode.ONCE, "/a", CREATED, "/a", (CREATED, "/a")),
        (WatchMode.ONCE, "/a", DELETED, "/a", (DELETED, "/a")),
        (WatchMode.ONCE, "/a", CREATED, "/a/b", None),
        (WatchMode.ONCE_CHILDREN, "/a", CREATED, "/a/b", (CHILDREN, "/a")),
        (WatchMode.ONCE_CHILDREN, "/a", DELETED, "/a/b", (CHILDREN, "/a")),
        (WatchMode.ONCE_CHILDREN, "/a", CHANGED, "/a/b", None),
        (WatchMode.ONCE_CHILDREN, "/a", CHANGED, "/a", None),
        (WatchMode.ONCE_CHILDREN, "/a", DELETED, "/a", (DELETED, "/a")),
        (WatchMode.ONCE_CHILDREN, "/", CREATED, "/b", (CHILDREN, "/")),
        (WatchMode.PERSISTENT, "/a", CHANGED, "/a", (CHANGED, "/a")),
        (WatchMode.PERSISTENT, "/a", CREATED, "/a/b", (CHILDREN, "/a")),
        (WatchMode.PERSISTENT, "/a", CREATED, "/a/b/c", None),
        (WatchMode.RECURSIVE, "/a", CREATED, "/a/b/c", (CREATED, "/a/b/c")),
        (WatchMode.RECURSIVE, "/a", CHANGED, "/a", (CHANGED, "/a")),
        (WatchMode.RECURSIVE, "/a", CHANGED, "/ab", None),
        (WatchMode.RECURSIVE, "/", DELETED, "/x/y", (DELETED, "/x/y")),
    ],
)
def test_a_watch_reports_what_its_mode_says(
    mode: WatchMode, path: str, kind: EventKind, event_path: str, reported: tuple[int, str] | None
) -> None:
    """The same answer live and from the history."""
    live, late, hub = Client(), Client(), WatchHub(100)
    hub.add(live, 1, path, mode, 0)
    hub.on_event(kind, event_path, 10)
    hub.add(late, 1, path, mode, 9)
    expected = [] if reported is None else [(1, *reported, 10)]
    assert live.seen == expected
    assert late.seen == expected


@pytest.mark.parametrize("mode", [WatchMode.ONCE, WatchMode.ONCE_CHILDREN])
def test_a_one_shot_watch_fires_once(mode: WatchMode) -> None:
    client, hub = Client(), WatchHub(100)
    hub.add(client, 1, "/a", mode, 0)
    for index in (1, 2):
        hub.on_event(DELETED, "/a", index)
    assert len(client.seen) == 1
    assert hub.count == 0


def test_a_watch_with_since_gets_each_event_once_and_in_order() -> None:
    """Read and registration need not be one step: what came between is in the history (RELIABILITY 57)."""
    client, hub = Client(), WatchHub(100)
    for index in (1, 2, 3):
        hub.on_event(CHANGED, "/a", index)
    assert hub.add(client, 7, "/a", WatchMode.PERSISTENT, 1)
    hub.on_event(CHANGED, "/a", 4)
    assert [index for *_, index in client.seen] == [2, 3, 4]


def test_a_watch_older_than_the_history_is_refused() -> None:
    """A gap is said, never skipped in silence (W13)."""
    client, hub = Client(), WatchHub(2)
    for index in (1, 2, 3, 4):
        hub.on_event(CHANGED, "/a", index)
    assert not hub.add(client, 1, "/a", WatchMode.PERSISTENT, 1)
    assert hub.count == 0
    assert hub.add(client, 1, "/a", WatchMode.PERSISTENT, 2)
    assert [index for *_, index in client.seen] == [3, 4]


def test_after_a_jump_of_the_tree_older_watches_are_refused() -> None:
    client, hub = Client(), WatchHub(10)
    hub.on_event(CHANGED, "/a", 1)
    hub.reset(50)
    assert not hub.add(client, 1, "/a", WatchMode.ONCE, 49)
    assert hub.add(client, 1, "/a", WatchMode.ONCE, 50)


def test_events_that_the_client_saw_elsewhere_are_not_repeated() -> None:
    """A client may come from a server that was ahead of this one."""
    client, hub = Client(), WatchHub(10)
    hub.add(client, 1, "/a", WatchMode.PERSISTENT, 5)
    hub.on_event(CHANGED, "/a", 4)
    hub.on_event(CHANGED, "/a", 6)
    assert [index for *_, index in client.seen] == [6]


def test_removed_watches_and_lost_connections_leave_nothing_behind() -> None:
    """Leaked watches are how such servers grow without end (PEERS 24)."""
    client, other, hub = Client(), Client(), WatchHub(10)
    for watch_id in (1, 2, 3):
        hub.add(client, watch_id, "/a", WatchMode.RECURSIVE, 0)
        hub.add(other, watch_id, "/a", WatchMode.ONCE, 0)
    assert hub.remove(client, 2) and not hub.remove(client, 2)
    hub.remove_all(client)
    hub.on_event(CHANGED, "/a", 1)
    assert client.seen == [] and len(other.seen) == 3
    assert hub.count == 0 and hub.count_of(client) == 0


def test_watchers_are_told_in_the_order_in_which_their_connections_came() -> None:
    """Stable over hash seeds: the simulator replays it."""
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
            order.append(self.name)

    hub = WatchHub(10)
    for name in ("c", "a", "b"):
        hub.add(Named(name), 1, "/k", WatchMode.ONCE, 0)
    hub.on_event(CHANGED, "/k", 1)
    assert order == ["c", "a", "b"]
