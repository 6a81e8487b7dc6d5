"""Going back to a snapshot: keys and data are what they were, and no number that others rely on goes back."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.errors import OK, BadVersion, Fenced
from jkcs_client.protocol.messages import CREATE, DELETE, GUARD, MULTI, SET, SET_ACL
from jkcs_server.tree.acl import OPEN_ENTRIES, entries_of
from jkcs_server.tree.commands import REAP
from jkcs_server.tree.keytree import CHANGED, CONTAINER, CREATED, DELETED, EPHEMERAL, SEQUENTIAL, TTL
from journal.errors import CorruptRecord
from tests.unit.jkcs_server.tree.harness import STAMP, TERM, Log, random_history, replay


@pytest.fixture
def log() -> Log:
    log = Log()
    log.open()
    for path in ("/a", "/a/b", "/a/b/c", "/d"):
        log.write(1, CREATE, path, b"first", 0)
    log.write(1, CREATE, "/q", b"", 0)
    log.write(1, CREATE, "/q/n-", b"", SEQUENTIAL)
    return log


def go_back(log: Log, image: list[bytes]) -> int:
    """Apply what the last RECOVER entry does; returns its index."""
    index = log.next_index
    log.machine.recover(image, index, 5_000)
    assert log.machine.digest() == log.machine.digest_anew()
    assert log.machine.applied == index
    return index


def content(log: Log) -> dict[str, tuple[object, ...]]:
    """What a snapshot brings back: data, list and lifetime of the persistent keys."""
    nodes = log.machine.tree.nodes.items()
    return {path: (node.data, entries_of(node.acl), node.ttl) for path, node in nodes if not node.owner}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happened_since_is_undone(seed: int) -> None:
    """Deleted, created, changed, turned from one kind into the other: the persistent keys are those of then."""
    history = list(random_history(200 + seed, 500))
    for then in (0, 100, 250, 499):
        log = Log()
        for command in history[:then]:
            log.apply(command)
        image, before = list(log.machine.snapshot()), content(log)
        for command in history[then:]:
            log.apply(command)
        go_back(log, image)
        assert content(log) == before
        # All links hold: the state survives being saved and loaded.
        log.machine.restore(list(log.machine.snapshot()))
        assert log.machine.digest() == log.machine.digest_anew()


def test_two_replicas_go_back_alike() -> None:
    """One of them was restored from a file, so that its sets were filled in another order."""
    history = list(random_history(300, 400))
    one, two = Log(), Log()
    for log in (one, two):
        for command in history[:200]:
            log.apply(command)
    image = list(one.machine.snapshot())
    two.machine.restore(image)
    for log in (one, two):
        for command in history[200:]:
            log.apply(command)
        go_back(log, image)
    assert b"".join(one.machine.snapshot()) == b"".join(two.machine.snapshot())


def test_tokens_and_versions_do_not_go_back(log: Log) -> None:
    """Who was fenced stays fenced, and a version that somebody has read never means other data."""
    token = log.machine.tree.nodes["/d"].czxid
    image = list(log.machine.snapshot())
    log.write(1, SET, "/a", b"second", 0)
    log.write(1, DELETE, "/d", -1)
    index = go_back(log, image)
    a, d = log.machine.tree.nodes["/a"], log.machine.tree.nodes["/d"]
    assert (a.data, a.version, a.mzxid, a.mtime) == (b"first", 2, index, 5_000)
    assert (d.data, d.version, d.czxid, d.ctime) == (b"first", 0, index, 5_000)
    assert log.write(1, MULTI, [[GUARD, "/d", token], [SET, "/a", b"", -1]])[0] == Fenced.code
    assert log.write(1, SET, "/a", b"", 0)[0] == log.write(1, SET, "/a", b"", 1)[0] == BadVersion.code


def test_what_is_as_it_was_is_not_touched(log: Log) -> None:
    """Nobody is told of a change that is none."""
    image = list(log.machine.snapshot())
    stats = {path: node.stat() for path, node in log.machine.tree.nodes.items()}
    go_back(log, image)
    assert {path: node.stat() for path, node in log.machine.tree.nodes.items()} == stats


def test_watchers_are_told_of_every_change(log: Log) -> None:
    """Children before parents when they go, parents before children when they come."""
    image = list(log.machine.snapshot())
    log.write(1, DELETE, "/a/b/c", -1)
    log.write(1, DELETE, "/a/b", -1)
    log.write(1, SET, "/d", b"second", -1)
    log.write(1, CREATE, "/new", b"", 0)
    log.write(1, CREATE, "/new/one", b"", 0)
    log.notebook.notes.clear()
    go_back(log, image)
    events = [(note[1], note[2]) for note in log.notebook.notes]
    assert events == [
        (DELETED, "/new/one"),
        (DELETED, "/new"),
        (CREATED, "/a/b"),
        (CREATED, "/a/b/c"),
        (CHANGED, "/d"),
    ]


def test_sequences_go_on(log: Log) -> None:
    """A number given twice would be two clients' place in one queue."""
    image = list(log.machine.snapshot())
    log.write(1, CREATE, "/q/n-", b"", SEQUENTIAL)
    go_back(log, image)
    assert log.write(1, CREATE, "/q/n-", b"", SEQUENTIAL)[1][0] == "/q/n-0000000002"
    # A key that was made anew gets the old one's numbers back, too.
    for name in ("/q/n-0000000000", "/q/n-0000000002", "/q"):
        log.write(1, DELETE, name, -1)
    log.write(1, CREATE, "/q", b"", 0)
    go_back(log, image)
    assert log.machine.tree.nodes["/q"].sequence == 2


def test_sessions_and_what_they_own_stay(log: Log) -> None:
    """Clients are connected now, not then: their locks are neither taken from them nor given back to them."""
    log.write(1, CREATE, "/given-up", b"", EPHEMERAL)
    log.write(1, CREATE, "/kept", b"", EPHEMERAL)
    image = list(log.machine.snapshot())
    log.write(1, DELETE, "/given-up", -1)
    log.write(1, CREATE, "/a/later", b"", EPHEMERAL)
    log.write(1, CREATE, "/new", b"", 0)
    log.write(1, CREATE, "/new/goes", b"", EPHEMERAL)
    session = log.machine.sessions[1]
    serial, outcomes, czxid = session.serial, list(session.replies), log.machine.tree.nodes["/kept"].czxid
    go_back(log, image)
    assert log.machine.tree.ephemerals == {1: {"/kept", "/a/later"}}
    assert log.machine.tree.nodes["/kept"].czxid == czxid
    assert (session.serial, session.replies) == (serial, outcomes)
    assert log.write(1, SET, "/d", b"", -1)[0] == OK


def test_an_ephemeral_key_makes_room_for_the_one_that_was_there(log: Log) -> None:
    """What the snapshot holds persistently comes back persistently."""
    image = list(log.machine.snapshot())
    log.write(1, DELETE, "/d", -1)
    log.write(1, CREATE, "/d", b"mine", EPHEMERAL)
    go_back(log, image)
    node = log.machine.tree.nodes["/d"]
    assert (node.data, node.owner) == (b"first", 0) and log.machine.tree.ephemerals == {}


def test_a_snapshot_under_way_does_not_see_it(log: Log) -> None:
    """Its chunks are of the index at which it was taken (RELIABILITY 36)."""
    image = list(log.machine.snapshot())
    log.write(1, SET, "/a", b"second", -1)
    log.write(1, DELETE, "/q/n-0000000000", -1)
    log.write(1, DELETE, "/q", -1)
    log.write(1, CREATE, "/q", b"", 0)
    digest, chunks = log.machine.digest(), log.machine.snapshot()
    go_back(log, image)
    twin = Log()
    twin.machine.restore(list(chunks))
    assert twin.machine.digest() == digest == twin.machine.digest_anew()


def test_what_makes_no_sense_changes_nothing() -> None:
    """Every node must then stay what it was."""
    log, _ = replay(5, 60)
    digest = log.machine.digest()
    with pytest.raises(CorruptRecord):
        log.machine.recover([b"\xc1"], log.next_index, 5_000)
    assert log.machine.digest() == digest


FRIENDS = ((31, "world", "anyone"), (1, "digest", "me:x"))


def test_lists_go_back_as_changes_that_count(log: Log) -> None:
    """Who may do what is as it was then; and a list that was read in between is not the one of that version again,
    so nobody who read it writes over what came back."""
    log.write(1, CREATE, "/listed", b"", 0, FRIENDS, 0)
    image = list(log.machine.snapshot())
    log.write(1, SET_ACL, "/listed", None, 0)
    log.write(1, SET_ACL, "/a", FRIENDS, 0)
    go_back(log, image)
    listed, a, d = (log.machine.tree.nodes[path] for path in ("/listed", "/a", "/d"))
    assert (entries_of(listed.acl), listed.aversion) == (FRIENDS, 2)
    assert (entries_of(a.acl), a.aversion) == (OPEN_ENTRIES, 2)
    assert d.aversion == 0, "where nothing changed nothing counts"
    assert (
        log.write(1, SET_ACL, "/listed", None, 0)[0] == log.write(1, SET_ACL, "/listed", None, 1)[0] == BadVersion.code
    )
    assert log.write(1, SET_ACL, "/listed", None, 2)[0] == OK


def test_a_key_that_comes_back_has_its_list_from_the_start(log: Log) -> None:
    """There is no moment at which everybody may read it."""
    log.write(1, CREATE, "/listed", b"", 0, FRIENDS, 0)
    image = list(log.machine.snapshot())
    log.write(1, DELETE, "/listed", -1)
    go_back(log, image)
    listed = log.machine.tree.nodes["/listed"]
    assert (entries_of(listed.acl), listed.aversion) == (FRIENDS, 0)


@pytest.mark.parametrize(
    ("then", "now"), [((TTL, 50), (0, 0)), ((0, 0), (TTL, 50)), ((TTL, 50), (CONTAINER, 0)), ((TTL, 50), (TTL, 70))]
)
def test_lifetimes_go_back(log: Log, then: tuple[int, int], now: tuple[int, int]) -> None:
    """A key that was to stay stays, and one that was to go is found by those who look for such."""
    log.write(1, CREATE, "/k", b"", then[0], None, then[1])
    image, before = list(log.machine.snapshot()), content(log)
    log.write(1, DELETE, "/k", -1)
    log.write(1, CREATE, "/k", b"", now[0], None, now[1])
    index = go_back(log, image)
    tree = log.machine.tree
    assert content(log) == before
    assert (list(tree.ttls), list(tree.containers)) == (["/k"] if then[0] == TTL else [], [])
    czxid = tree.nodes["/k"].czxid
    assert czxid < index, "the same key all the time since it was made anew"
    log.apply((REAP, 0, 0, 0, "/k", czxid, TERM), stamp=STAMP + 60)
    assert ("/k" in tree.nodes) == (then[0] != TTL)
