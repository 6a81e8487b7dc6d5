"""ZooKeeper's watches: what fires, once or again, how often a client hears of it, and what it missed while away."""

from __future__ import annotations

import pytest

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.messages import PATH_BYTES_MAX
from jkcs_server.serving import zookeeper_watches
from tests.support import jute_client as jute
from tests.support.jute_client import Event
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


def with_keys(*keys: str) -> tuple[Desk, Client]:
    desk, client = connected()
    for key in keys:
        assert client.call(zk.CREATE, jute.create(key)).error == OK
    return desk, client


def test_a_data_watch_fires_once() -> None:
    _, client = with_keys("/a")
    client.call(zk.GET_DATA, jute.read("/a", watch=True))
    client.call(zk.SET_DATA, jute.set_data("/a", b"1"))
    client.call(zk.SET_DATA, jute.set_data("/a", b"2"))
    assert client.events() == [(CHANGED, "/a")]
    client.call(zk.GET_DATA, jute.read("/a", watch=True))
    client.call(zk.SET_DATA, jute.set_data("/a", b"3"))
    assert client.events() == [(CHANGED, "/a")]


def test_a_watch_on_a_key_that_is_not_there_is_set_by_exists_alone() -> None:
    desk, client = with_keys()
    assert client.call(zk.GET_DATA, jute.read("/a", watch=True)).error == zk.NO_NODE
    assert client.call(zk.GET_CHILDREN, jute.read("/a", watch=True)).error == zk.NO_NODE
    assert desk.hub.count == 0
    assert client.call(zk.EXISTS, jute.read("/a", watch=True)).error == zk.NO_NODE
    client.call(zk.CREATE, jute.create("/a"))
    assert client.events() == [(CREATED, "/a")]


def test_a_watch_on_children_hears_of_them_and_not_of_data() -> None:
    _, client = with_keys("/a")
    client.call(zk.GET_CHILDREN2, jute.read("/a", watch=True))
    client.call(zk.SET_DATA, jute.set_data("/a", b"1"))
    assert client.events() == []
    client.call(zk.CREATE, jute.create("/a/b"))
    client.call(zk.CREATE, jute.create("/a/c"))
    assert client.events() == [(CHILDREN, "/a")]


def test_a_deletion_is_told_once_however_many_watches_there_are() -> None:
    """The key first, its parent then."""
    _, client = with_keys("/a", "/a/b")
    client.call(zk.GET_DATA, jute.read("/a/b", watch=True))
    client.call(zk.EXISTS, jute.read("/a/b", watch=True))
    client.call(zk.GET_CHILDREN, jute.read("/a/b", watch=True))
    client.call(zk.GET_CHILDREN, jute.read("/a", watch=True))
    client.call(zk.ADD_WATCH, jute.numbered("/a/b", zk.WATCH_PERSISTENT))
    client.call(zk.ADD_WATCH, jute.numbered("/", zk.WATCH_RECURSIVE))
    client.call(zk.DELETE, jute.delete("/a/b"))
    assert client.events() == [(DELETED, "/a/b"), (CHILDREN, "/a")]


def test_the_same_event_twice_is_told_twice() -> None:
    """Within one multi two events may be alike in all but their place."""
    _, client = with_keys("/a")
    client.call(zk.ADD_WATCH, jute.numbered("/a", zk.WATCH_PERSISTENT))
    client.call(zk.MULTI, jute.multi(*[(zk.SET_DATA, jute.set_data("/a", b""))] * 2))
    assert client.events() == [(CHANGED, "/a")] * 2


def test_persistent_watches_stay() -> None:
    _, client = with_keys("/a")
    client.call(zk.ADD_WATCH, jute.numbered("/a", zk.WATCH_PERSISTENT))
    for _ in range(2):
        client.call(zk.CREATE, jute.create("/a/b"))
        client.call(zk.SET_DATA, jute.set_data("/a/b", b""))
        client.call(zk.DELETE, jute.delete("/a/b"))
    assert client.events() == [(CHILDREN, "/a")] * 4


def test_recursive_watches_hear_of_everything_below_and_of_no_list_of_children() -> None:
    _, client = with_keys("/a")
    client.call(zk.ADD_WATCH, jute.numbered("/a", zk.WATCH_RECURSIVE))
    client.call(zk.CREATE, jute.create("/a/b"))
    client.call(zk.CREATE, jute.create("/a/b/c"))
    client.call(zk.CREATE, jute.create("/ab"))
    assert client.events() == [(CREATED, "/a/b"), (CREATED, "/a/b/c")]


def test_watches_are_removed_by_their_type() -> None:
    desk, client = with_keys("/a")
    client.call(zk.GET_DATA, jute.read("/a", watch=True))
    client.call(zk.GET_CHILDREN, jute.read("/a", watch=True))
    client.call(zk.ADD_WATCH, jute.numbered("/a", zk.WATCH_PERSISTENT))
    assert desk.hub.count == 3
    assert client.call(zk.CHECK_WATCHES, jute.numbered("/a", zk.WATCHER_DATA)).error == OK
    assert client.call(zk.REMOVE_WATCHES, jute.numbered("/a", zk.WATCHER_DATA)).error == OK
    assert client.call(zk.REMOVE_WATCHES, jute.numbered("/a", zk.WATCHER_DATA)).error == zk.NO_WATCHER
    assert client.call(zk.CHECK_WATCHES, jute.numbered("/a", zk.WATCHER_DATA)).error == zk.NO_WATCHER
    assert client.call(zk.CHECK_WATCHES, jute.numbered("/a", zk.WATCHER_PERSISTENT)).error == OK
    assert client.call(zk.REMOVE_WATCHES, jute.numbered("/a", zk.WATCHER_ANY)).error == OK
    assert desk.hub.count == 0


def test_a_client_that_was_away_is_told_what_it_missed_and_watches_the_rest() -> None:
    desk, client = with_keys("/old", "/gone", "/parent", "/quiet")
    since = desk.machine.applied
    client.call(zk.SET_DATA, jute.set_data("/old", b"1"))
    client.call(zk.DELETE, jute.delete("/gone"))
    client.call(zk.CREATE, jute.create("/parent/x"))
    client.call(zk.CREATE, jute.create("/new"))
    lists = (["/old", "/gone", "/quiet"], ["/new", "/absent"], ["/parent", "/quiet"], ["/p"], ["/r"])
    client.ask(zk.SET_WATCHES2, jute.set_watches(since, *lists), zk.SET_WATCHES_XID)
    *events, answer = client.take()
    assert [(event.kind, event.path, event.zxid) for event in events if isinstance(event, Event)] == [
        (CHANGED, "/old", zk.NO_ZXID),
        (DELETED, "/gone", zk.NO_ZXID),
        (CREATED, "/new", zk.NO_ZXID),
        (CHILDREN, "/parent", zk.NO_ZXID),
    ]
    assert answer == jute.Answer(zk.SET_WATCHES_XID, desk.machine.applied, OK, None)
    client.call(zk.CREATE, jute.create("/absent"))
    client.call(zk.SET_DATA, jute.set_data("/quiet", b""))
    client.call(zk.CREATE, jute.create("/quiet/x"))
    client.call(zk.CREATE, jute.create("/p"))
    client.call(zk.CREATE, jute.create("/r"))
    assert client.events() == [
        (CREATED, "/absent"),
        (CHANGED, "/quiet"),
        (CHILDREN, "/quiet"),
        (CREATED, "/p"),
        (CREATED, "/r"),
    ]


def test_watches_go_with_their_connection() -> None:
    desk, client = with_keys("/a")
    client.call(zk.GET_DATA, jute.read("/a", watch=True))
    client.connection.lost()
    assert desk.hub.count == 0


def test_watches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zookeeper_watches, "WATCHES_PER_CONNECTION_MAX", 3)
    desk, client = with_keys()
    paths = [f"/{number}" for number in range(5)]
    assert [client.call(zk.EXISTS, jute.read(path, watch=True)).error for path in paths] == [-101, -101, -101, -8, -8]
    assert client.call(zk.EXISTS, jute.read("/0", watch=True)).error == -101, "one that it has already"
    long = "/" + "x" * PATH_BYTES_MAX
    assert client.call(zk.EXISTS, jute.read(long, watch=True)).error == zk.BAD_ARGUMENTS
    assert desk.hub.count == 3


def test_a_watch_used_up_by_what_may_not_be_seen_can_be_set_again() -> None:
    """As in ZooKeeper it is gone without a word; to take it for still there would be silence for ever."""
    desk, client = with_keys()
    stranger = connected(desk, "192.0.2.9")[1]
    stranger.call(zk.EXISTS, jute.read("/s", watch=True))
    client.call(zk.CREATE, jute.create("/s", entries=[(31, "ip", "192.0.2.1")]))
    assert stranger.events() == []
    stranger.call(zk.EXISTS, jute.read("/s", watch=True))
    client.call(zk.SET_ACL, jute.set_acl("/s", jute.OPEN_ACL))
    client.call(zk.SET_DATA, jute.set_data("/s", b""))
    desk.flush()
    assert stranger.events() == [(CHANGED, "/s")]
