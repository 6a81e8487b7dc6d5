"""Snapshots: of one moment, whatever happens while they are written; and refused when they make no sense."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.messages import CREATE, DELETE, MULTI, SET, SET_ACL
from jkcs_server.tree import image
from jkcs_server.tree.commands import REAP
from jkcs_server.tree.keytree import CONTAINER, EPHEMERAL, SEQUENTIAL, TTL
from jkcs_server.tree.machine import TreeMachine
from journal.errors import CorruptRecord
from tests.unit.jkcs_server.tree.harness import (
    STAMP,
    TERM,
    Everyone,
    Log,
    Notebook,
    dump,
    outcome_in,
    random_history,
    replay,
)


def restored(chunks: list[bytes]) -> TreeMachine:
    machine = TreeMachine(Notebook())
    machine.restore(chunks)
    return machine


@pytest.mark.parametrize("seed", range(4))
def test_snapshot_at_every_index_is_of_that_index(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The log goes on between two chunks, and none of it may show (RELIABILITY 34, 36)."""
    monkeypatch.setattr(image, "CHUNK_BYTES", 64)
    history = list(random_history(seed, 400))
    log = Log()
    at = 0
    while at < len(history):
        before, digest = dump(log.machine), log.machine.digest()
        chunks = []
        for chunk in log.machine.snapshot():
            chunks.append(chunk)
            if at < len(history):
                log.apply(history[at])
                at += 1
        twin = restored(chunks)
        assert twin.digest() == digest
        assert dump(twin) == before
        if len(chunks) == 1:
            log.apply(history[at])
            at += 1
    assert log.machine.digest() == replay(seed, 400)[0].machine.digest()


def test_restored_machine_goes_on_as_the_first_would_have() -> None:
    """Counters, remembered outcomes, owners: all that a later command may depend on is in the image."""
    history = list(random_history(11, 600))
    whole, _ = replay(11, 600)
    for cut in range(0, 600, 60):
        log, _ = replay(11, cut)
        second = Log()
        second.machine.restore(list(log.machine.snapshot()))
        assert second.machine.applied == cut
        for command in history[cut:]:
            assert second.apply(command) == log.apply(command)
        assert second.machine.digest() == whole.machine.digest()
        assert b"".join(second.machine.snapshot()) == b"".join(whole.machine.snapshot()), "byte by byte, to the order"
        assert second.machine.tree.ephemerals == whole.machine.tree.ephemerals


def test_sequence_and_outcomes_survive() -> None:
    """A number given twice or a create applied twice after a restart would both break locks."""
    log = Log()
    log.open()
    log.write(1, CREATE, "/q", b"", 0)
    log.write(1, CREATE, "/q/", b"", SEQUENTIAL)
    log.apply(log.command(1, MULTI, [[DELETE, "/q/0000000000", 0]]))
    command = log.command(1, MULTI, [[CREATE, "/q/", b"", SEQUENTIAL | EPHEMERAL]], acked=0)
    first = outcome_in(log.apply(command))
    log.machine.restore(list(log.machine.snapshot()))
    assert outcome_in(log.apply(command)) == first
    assert first[0] == OK and first[1][0][0][0] == "/q/0000000001"
    assert log.write(1, CREATE, "/q/", b"", SEQUENTIAL)[1][0] == "/q/0000000002"


def test_lists_and_lifetimes_survive() -> None:
    """A key that everybody may read after a restart, or that never goes any more, is not the one that was saved."""
    log = Log()
    log.open()
    log.write(1, CREATE, "/listed", b"", 0, ((27, "world", "anyone"), (1, "digest", "me:x")), 0)
    log.write(1, CREATE, "/changed", b"", 0)
    for version in range(3):
        log.write(
            1, SET_ACL, "/changed", None if version == 2 else ((31, "world", "anyone"), (1, "ip", "::1")), version
        )
    log.write(1, CREATE, "/short", b"", TTL, None, 50)
    log.write(1, CREATE, "/box", b"", CONTAINER, None, 0)
    for name in ("/box/child", "/box/child/below"):
        log.write(1, CREATE, name, b"", 0)
    before = dump(log.machine)
    assert before["/changed"][1][-2] == 3 and before["/short"][1][-1] == 50
    other = Log()
    other.machine.restore(list(log.machine.snapshot()))
    other.serials = dict(log.serials)
    assert dump(other.machine) == before
    assert other.machine.digest() == other.machine.digest_anew() == log.machine.digest()
    for machine in (log, other):
        tree = machine.machine.tree
        assert (list(tree.ttls), list(tree.containers)) == (["/short"], ["/box"])
        for name in ("/box/child/below", "/box/child"):
            machine.write(1, DELETE, name, -1)
        for path in ("/short", "/box"):
            machine.apply((REAP, 0, 0, 0, path, tree.nodes[path].czxid, TERM), stamp=STAMP + 50)
            assert path not in tree.nodes
    assert other.machine.digest() == log.machine.digest()


def test_chunks_are_bounded() -> None:
    """A chunk is what is written or sent at once."""
    log = Log()
    log.open()
    for number in range(40):
        log.write(1, CREATE, f"/{number}", bytes(20_000), 0)
    big = bytes(2 * image.CHUNK_BYTES)
    log.write(1, CREATE, "/big", big, 0)
    sizes = [len(chunk) for chunk in log.machine.snapshot()]
    assert sum(size > image.CHUNK_BYTES for size in sizes) == 1, "the value that is larger travels alone"
    assert max(sizes) < len(big) + 200
    assert len(sizes) >= 5


@settings(max_examples=30)
@given(st.data())
def test_chunks_may_be_cut_anywhere(data: st.DataObject) -> None:
    """The file they lie in is read in pieces of other sizes."""
    log, _ = replay(5, 60)
    whole = b"".join(log.machine.snapshot())
    size = data.draw(st.integers(1, 200))
    assert restored([whole[at : at + size] for at in range(0, len(whole), size)]).digest() == log.machine.digest()


def test_abandoned_snapshot_does_not_harm_the_next() -> None:
    """A failed disk closes the iterator late, or forgets it before the first chunk."""
    history = list(random_history(5, 300))
    log, _ = replay(5, 200)
    closed = log.machine.snapshot()
    next(closed)
    untouched = log.machine.snapshot()
    digest = log.machine.digest()
    chunks = log.machine.snapshot()
    closed.close()  # type: ignore[attr-defined]  # generators have it, Iterator does not say so
    del untouched
    for command in history[200:]:
        log.apply(command)
    assert restored(list(chunks)).digest() == digest


def test_nodes_are_changed_in_place_after_the_last_chunk() -> None:
    """Copies are for the time of a snapshot only."""
    log = Log()
    log.open()
    log.write(1, CREATE, "/a", b"", 0)
    node, session = log.machine.tree.nodes["/a"], log.machine.sessions[1]
    list(log.machine.snapshot())
    log.write(1, SET, "/a", b"1", -1)
    assert log.machine.tree.nodes["/a"] is node
    assert log.machine.sessions[1] is session


def test_restore_forgets_what_was_there() -> None:
    """A follower that is far behind gets a snapshot over what it has, even while it writes one of its own."""
    history = list(random_history(9, 150))
    log, _ = replay(5, 300)
    other, _ = replay(9, 100)
    own = log.machine.snapshot()
    first = next(own)
    digest = log.machine.digest()
    log.machine.restore(list(other.machine.snapshot()))
    assert log.machine.digest() == other.machine.digest()
    for command in history[100:]:
        log.apply(command)
    assert restored([first, *own]).digest() == digest


HEAD = ["jkcs tree", 2, 5, 1, 5]
SESSION = [1, b"p", 1000, 1, 2, [["ip", "127.0.0.1"]], 1]
REPLY = [0, 2, []]
ROOT = ["/", b"", 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, None]
SYSTEM_KEYS = [
    ["/zookeeper", b"", 0, 0, 0, 0, 0, 0, -2, 0, 0, 0, 0, None],
    ["/zookeeper/config", b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, [[1, "world", "anyone"]]],
    ["/zookeeper/quota", b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None],
]
KEY = ["/a", b"", 2, 2, 2, 9, 9, 0, 0, 1, 0, 1, -1, [[31, "digest", "me:x"]]]


def changed(record: list[Any], place: int, value: object) -> list[Any]:
    return [*record[:place], value, *record[place + 1 :]]


def packed(*records: Any) -> bytes:
    return b"".join(msgpack.packb(record) for record in records)


GOOD = packed(HEAD, SESSION, REPLY, ROOT, *SYSTEM_KEYS, KEY)

BAD_IMAGES = [
    (b"", "ends before the last record"),
    (b"\xc1", "cannot be read"),
    (packed(7), "cannot be read"),
    (packed(changed(HEAD, 0, "other"), SESSION, REPLY, ROOT, KEY), "not the image of a key tree"),
    (packed(changed(HEAD, 1, 1), SESSION, REPLY, ROOT, KEY), "version 1, and this release reads version 2"),
    (packed(["jkcs tree", 3, 5]), "version 3"),
    (packed(changed(HEAD, 2, -1), SESSION, REPLY, ROOT, KEY), "its index is not one"),
    (packed(changed(HEAD, 3, "1"), SESSION, REPLY, ROOT, KEY), "cannot be read"),
    (packed(HEAD[:4]), "cannot be read"),
    (GOOD + b"\x92", "middle of a record"),
    (packed(HEAD, SESSION, REPLY, ROOT), "ends before the last record"),
    (GOOD + b"\xc0", "something follows"),
    (GOOD + packed(KEY), "something follows"),
    (GOOD + b"\x92", "middle of a record"),
    (packed(HEAD, SESSION, REPLY, KEY, ROOT), "no place for a key at '/a'"),
    (packed(HEAD, SESSION, REPLY, ROOT, ROOT), "no place for a key at '/'"),
    (packed(changed(HEAD, 4, 2), SESSION, REPLY, ROOT, KEY), "a key is missing that is always there"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 11, -2)), "negative"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 12, -2)), "negative"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 13, [[1, "world"]])), "permissions, scheme, name"),
    (packed(HEAD, changed(SESSION, 5, [1]), REPLY, ROOT, KEY), "scheme, name"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 0, "/a/b")), "no place for a key at '/a/b'"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 0, "a")), "no place for a key at 'a'"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 0, b"/a")), "no path or no data"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 1, "")), "no path or no data"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 2, "2")), "cannot be read"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 7, -1)), "negative"),
    (packed(HEAD, SESSION, REPLY, ROOT, changed(KEY, 9, 4)), "session 4, which there is not"),
    (packed(HEAD, SESSION, REPLY, ROOT, KEY[:-1]), "cannot be read"),
    (packed(HEAD, changed(SESSION, 0, 0), REPLY, ROOT, KEY), "session 1 of 1 makes no sense"),
    (packed(HEAD, changed(SESSION, 1, "p"), REPLY, ROOT, KEY), "session 1 of 1 makes no sense"),
    (packed(HEAD, changed(SESSION, 6, 2), REPLY, REPLY, ROOT, KEY), "2 replies to 1 requests"),
    (packed(HEAD, SESSION, REPLY[:2], ROOT, KEY), "cannot be read"),
    (packed(HEAD, SESSION, [0, 2, {1: 2}], ROOT, *SYSTEM_KEYS, KEY), "cannot be read"),
    (packed(HEAD, SESSION, [0, 2, msgpack.ExtType(1, b"x")], ROOT, *SYSTEM_KEYS, KEY), "cannot be read"),
    (packed(HEAD, SESSION) + b"\xdd\x00\x02\x00\x01" + b"\xc0" * 131_073, "cannot be read"),
]


def test_good_image_is_read() -> None:
    """The images below are bad for the one reason each that is named."""
    machine = restored([GOOD])
    assert machine.applied == 5
    assert machine.tree.ephemerals == {1: {"/a"}}
    assert machine.tree.nodes["/"].child_names() == ["a", "zookeeper"]


@pytest.mark.parametrize(("data", "text"), BAD_IMAGES)
def test_bad_image_is_refused_and_leaves_the_state(data: bytes, text: str) -> None:
    """A node that started with half a state, or an empty one, would vote with it (RELIABILITY 31, 34)."""
    log, _ = replay(5, 50)
    digest = log.machine.digest()
    with pytest.raises(CorruptRecord, match=text):
        log.machine.restore([data])
    assert log.machine.digest() == digest


def test_every_cut_of_an_image_is_refused() -> None:
    """A file that ends early must never pass for a smaller state."""
    for size in range(len(GOOD)):
        with pytest.raises(CorruptRecord):
            restored([GOOD[:size]])


def test_owners_see_outcomes_after_a_restore() -> None:
    """The machine that serves is the one that was restored: what was bound to it stays bound."""
    log, _ = replay(5, 50)
    notebook = Notebook()
    machine = TreeMachine(notebook)
    machine.owners = Everyone(notebook)
    tree = machine.tree
    machine.restore(list(log.machine.snapshot()))
    assert machine.tree is tree
    assert len(machine.tree) == len(log.machine.tree)
