"""What watches tell to those who may not read: nothing (CVE-2024-23944), from the very change on that says so."""

from __future__ import annotations

import pytest

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.messages import EventKind, WatchMode
from jkcs_server.serving.watches import WatchHub
from jkcs_server.tree.acl import READ, Acl, Ids, allows, shared
from tests.support import jute_client as jute
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

ME = digest_id("me:secret")
MINE = ((31, "digest", ME),)
CREATED, DELETED, CHANGED, CHILDREN = (int(kind) for kind in EventKind)
MODES = (zk.WATCH_PERSISTENT, zk.WATCH_RECURSIVE)


def owner_and_spy() -> tuple[Desk, Client, Client]:
    desk, owner = connected()
    assert owner.call(zk.AUTH, jute.auth("digest", b"me:secret"), zk.AUTH_XID).error == OK
    return desk, owner, connected(desk)[1]


@pytest.mark.parametrize("mode", MODES)
def test_a_watch_tells_of_no_key_that_its_owner_may_not_read(mode: int) -> None:
    """Above all not the names of children below a key that everybody may watch."""
    _, owner, spy = owner_and_spy()
    assert owner.call(zk.CREATE, jute.create("/vault", entries=MINE)).error == OK
    for path in ("/", "/vault", "/vault/gold"):
        assert spy.call(zk.ADD_WATCH, jute.numbered(path, mode)).error == OK
    spy.events()
    owner.call(zk.CREATE, jute.create("/vault/gold", entries=MINE))
    owner.call(zk.SET_DATA, jute.set_data("/vault/gold", b"heavy"))
    owner.call(zk.SET_DATA, jute.set_data("/vault", b""))
    owner.call(zk.DELETE, jute.delete("/vault/gold"))
    assert spy.events() == []


def test_one_event_watches_do_not_tell_either() -> None:
    """They may be set on what is not there, and by exists on what may not be read."""
    _, owner, spy = owner_and_spy()
    assert spy.call(zk.EXISTS, jute.read("/vault", watch=True)).error == zk.NO_NODE
    owner.call(zk.CREATE, jute.create("/vault", entries=MINE))
    assert spy.call(zk.EXISTS, jute.read("/vault", watch=True)).error == OK
    owner.call(zk.SET_DATA, jute.set_data("/vault", b"1"))
    assert spy.call(zk.GET_DATA, jute.read("/vault", watch=True)).error == zk.NO_AUTH
    assert spy.call(zk.GET_CHILDREN, jute.read("/vault", watch=True)).error == zk.NO_AUTH
    owner.call(zk.CREATE, jute.create("/vault/gold", entries=MINE))
    owner.call(zk.DELETE, jute.delete("/vault/gold"))
    owner.call(zk.DELETE, jute.delete("/vault"))
    assert spy.events() == []


def test_the_owner_of_the_same_watches_hears_everything() -> None:
    """Or the tests above would pass with watches that do not work."""
    _, owner, _ = owner_and_spy()
    owner.call(zk.CREATE, jute.create("/vault", entries=MINE))
    owner.call(zk.ADD_WATCH, jute.numbered("/vault", zk.WATCH_RECURSIVE))
    owner.call(zk.CREATE, jute.create("/vault/gold", entries=MINE))
    owner.call(zk.DELETE, jute.delete("/vault/gold"))
    assert owner.events() == [(CREATED, "/vault/gold"), (DELETED, "/vault/gold")]


@pytest.mark.parametrize("mode", MODES)
def test_a_watch_is_silent_from_the_very_change_that_revokes_it(mode: int) -> None:
    """And speaks again from the one that grants it again: the list of the moment counts, not that of the request."""
    desk, owner, spy = owner_and_spy()
    owner.call(zk.CREATE, jute.create("/board"))
    spy.call(zk.ADD_WATCH, jute.numbered("/board", mode))
    # All in one entry: each event is judged by the list as of its own index.
    owner.ask(zk.SET_DATA, jute.set_data("/board", b"for all"))
    owner.ask(zk.SET_ACL, jute.set_acl("/board", MINE))
    owner.ask(zk.SET_DATA, jute.set_data("/board", b"for me"))
    owner.ask(zk.SET_ACL, jute.set_acl("/board", jute.OPEN_ACL))
    owner.ask(zk.SET_DATA, jute.set_data("/board", b"for all again"))
    desk.apply()
    events = [got for got in spy.take() if isinstance(got, jute.Event)]
    assert [event.path for event in events] == ["/board", "/board"]
    answers = [got for got in owner.take() if isinstance(got, jute.Answer)]
    first, _, _, _, last = answers[-5:]
    assert [event.zxid for event in events] == [first.zxid, last.zxid]


def test_credentials_given_later_open_the_watches_that_are_there() -> None:
    """Who somebody is, is asked when the event happens."""
    _, owner, spy = owner_and_spy()
    owner.call(zk.CREATE, jute.create("/vault", entries=MINE))
    spy.call(zk.ADD_WATCH, jute.numbered("/vault", zk.WATCH_PERSISTENT))
    spy.call(zk.AUTH, jute.auth("digest", b"me:secret"), zk.AUTH_XID)
    owner.call(zk.SET_DATA, jute.set_data("/vault", b"1"))
    assert spy.events() == [(CHANGED, "/vault")]


def test_coming_back_tells_no_more_than_exists_does() -> None:
    """A client names what it watched before; the names of children that it does not know are not among the answers."""
    _, owner, spy = owner_and_spy()
    owner.call(zk.CREATE, jute.create("/vault", entries=MINE))
    owner.call(zk.CREATE, jute.create("/vault/gold", entries=MINE))
    lists = [["/vault"]] * 5
    assert spy.call(zk.SET_WATCHES2, jute.set_watches(0, *lists), zk.SET_WATCHES_XID).error == OK
    assert {path for _, path in spy.events()} == {"/vault"}


class Reader:
    """A watcher that holds no more than the hub tells it."""

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.told: list[tuple[int, str, int]] = []

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        self.told.append((kind, path, index))

    def may_see(self, acl: Acl) -> bool:
        return allows(acl, READ, self.ids)


def test_history_is_told_by_the_list_that_each_event_had() -> None:
    """A watch that begins in the past must not be the way around (CVE-2026-73499 was such a rewritten range)."""
    hub, mine = WatchHub(100), shared(MINE)
    hub.on_event(CREATED, "/board", 1)
    hub.on_event(CHANGED, "/board", 2, mine)
    hub.on_event(CREATED, "/board/gold", 3, None, mine)
    hub.on_event(DELETED, "/board/gold", 4, mine, mine)
    hub.on_event(CHANGED, "/board", 5)
    told = {}
    for name, ids in (("spy", (("ip", "192.0.2.1"),)), ("me", (("digest", ME),))):
        for mode in (WatchMode.PERSISTENT, WatchMode.RECURSIVE):
            reader = Reader(ids)
            assert hub.add(reader, 1, "/board", int(mode), 1)
            told[name, mode] = [index for _, _, index in reader.told]
    assert told["me", WatchMode.PERSISTENT] == told["me", WatchMode.RECURSIVE] == [2, 3, 4, 5]
    assert told["spy", WatchMode.PERSISTENT] == [5]
    assert told["spy", WatchMode.RECURSIVE] == [3, 5], "a key that is open to all may be heard of"
