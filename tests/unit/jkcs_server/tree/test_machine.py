"""Entries in, outcomes and events out: order, exactly once, and the end of sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jkcs_client.protocol.errors import OK, BadArguments, BadVersion, SessionExpired, Unimplemented
from jkcs_client.protocol.messages import CLOSE, CREATE, DELETE, MULTI, SET
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.commands import EXPIRE, OPEN
from jkcs_server.tree.keytree import CHANGED, CONFIG, CREATED, DELETED, EPHEMERAL, PARENTS, SYSTEM
from jkcs_server.tree.machine import TreeMachine
from journal.errors import CorruptRecord
from journal.values import Configuration, EntryKind, NodeId
from tests.unit.jkcs_server.tree.harness import (
    PASSWORD,
    TERM,
    Everyone,
    Log,
    Notebook,
    dump,
    entry_of,
    events_in,
    outcome_in,
    random_history,
)


@pytest.fixture
def log() -> Log:
    """Sessions 1 and 2; /a made at index 3 by session 1."""
    log = Log()
    log.open()
    log.open()
    log.write(1, CREATE, "/a", b"", 0)
    return log


# Entries


def test_each_command_of_an_entry_has_its_own_index() -> None:
    """One record carries many commands; their indices are what clients see."""
    log = Log()
    notes = log.apply((OPEN, 0, 0, 0, b"x", 1000), (OPEN, 0, 0, 0, b"y", 1000), stamp=5)
    assert notes == [("opened", b"x", 1, 1), ("opened", b"y", 2, 2)]
    assert log.machine.applied == 2
    notes = log.apply((CREATE, 1, 1, 0, "/a", b"", 0), (SET, 2, 1, 0, "/a", b"1", 0), stamp=6)
    assert [note[3] for note in notes if note[0] == "outcome"] == [3, 4]
    assert log.machine.tree.nodes["/a"].stat()[:5] == (3, 4, 3, 6, 6)


@pytest.mark.parametrize("kind", [EntryKind.NOOP, EntryKind.SNAPSHOT])
def test_other_entries_only_take_their_index(log: Log, kind: EntryKind) -> None:
    """They are not for the tree, whatever they carry."""
    before = dump(log.machine)
    log.machine.apply(entry_of(4, b"\xc1", 1, kind=kind))
    assert log.machine.applied == 4
    assert dump(log.machine) == before
    assert log.notebook.take() == []


def test_configuration_is_a_key_that_can_be_watched(log: Log) -> None:
    """ZooKeeper's clients learn from it where the members are. What has no address is left out."""
    addresses = ((NodeId("a"), "h:1"), (NodeId("b"), "[::1]:2"), (NodeId("c"), "h:3"), (NodeId("o"), "h:4"))
    voters = (NodeId("a"), NodeId("b"), NodeId("x"))
    configuration = Configuration(voters, (), (NodeId("c"),), (NodeId("o"),), (), addresses)
    payload = msgpack.packb(configuration.fields)
    log.machine.apply(entry_of(4, payload, 1, kind=EntryKind.CONFIGURATION, stamp=77))
    assert log.notebook.take() == [("event", CHANGED, CONFIG, 4)]
    node = log.machine.tree.nodes[CONFIG]
    assert node.data.decode().split("\n") == [
        "server.a=h:1:1:participant",
        "server.b=[::1]:2:2:participant",
        "server.c=h:3:3:observer",
        "server.o=h:4:4:observer",
        "version=4",
    ]
    assert (node.mzxid, node.mtime, node.version) == (4, 77, 1)
    assert log.machine.digest() == log.machine.digest_anew()


def test_damaged_configuration_is_named(log: Log) -> None:
    """Only a leader that is out of its mind makes one."""
    with pytest.raises(CorruptRecord, match="entry 4 is no configuration"):
        log.machine.apply(entry_of(4, b"\xc1", 1, kind=EntryKind.CONFIGURATION))


def test_machine_stands_at_the_command_when_it_tells() -> None:
    """Who is told may read at once, and must read neither too little nor too much."""
    seen: list[tuple[int, str, object]] = []

    class Reader(Notebook):
        def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
            seen.append((machine.applied, path, machine.tree.nodes[path].data))

    machine = TreeMachine(Reader())
    commands = [(OPEN, 0, 0, 0, b"", 1000), (CREATE, 1, 1, 0, "/a", b"0", 0), (SET, 1, 2, 0, "/a", b"1", -1)]
    machine.apply(entry_of(1, b"".join(map(msgpack.packb, commands)), 3))
    assert seen == [(2, "/a", b"0"), (3, "/a", b"1")]


BAD_PAYLOADS = [
    (b"", 1, "not 1 commands and nothing else"),
    (msgpack.packb([SET, 1, 2, 0, "/a", b"", -1]), 2, "not 2 commands and nothing else"),
    (msgpack.packb([SET, 1, 2, 0, "/a", b"", -1]) * 2, 1, "not 1 commands and nothing else"),
    (msgpack.packb([SET, 1, 2, 0, "/a", b"", -1])[:-1], 1, "not 1 commands and nothing else"),
    (msgpack.packb([SET, 1, 2, 0, "/a", b"", -1]) + b"\x92", 1, "not 1 commands and nothing else"),
    (b"\xc1", 1, "cannot be read"),
    (b"\xa2\xff\xff", 1, "cannot be read"),
    (b"\x91" * 5000, 1, "cannot be read"),
]


@pytest.mark.parametrize(("payload", "count", "text"), BAD_PAYLOADS)
def test_entry_that_is_not_its_commands_stops_the_node_untouched(
    log: Log, payload: bytes, count: int, text: str
) -> None:
    """No client can cause it, only a leader gone wrong; and what was fed must not spoil the next entry."""
    before = log.machine.digest()
    with pytest.raises(CorruptRecord, match=text):
        log.machine.apply(entry_of(4, payload, count))
    assert log.machine.digest() == before
    assert log.write(1, SET, "/a", b"", -1)[0] == OK


NAMELESS: list[Any] = [
    None,
    7,
    "text of some length",
    b"bytes of some length",
    [],
    [SET, 1, 2],
    [SET, "1", 2, 0, "/a", b"", -1],
    [SET, 1, "2", 0, "/a", b"", -1],
    [SET, 1, 2, None, "/a", b"", -1],
    [SET, [1], 2, 0, "/a", b"", -1],
    [SET, 1, 2.0, 0, "/a", b"", -1],
    {"op": SET, "session": 1, "serial": 2, "acked": 0},
    msgpack.ExtType(5, b"x"),
    msgpack.Timestamp(1),
    [OPEN, 0, 0, 0],
    [OPEN, 0, 0, 0, "text", 1000],
    [OPEN, 0, 0, 0, b"", 0],
    [OPEN, 0, 0, 0, b"", -5],
    [OPEN, 0, 0, 0, b"", None],
    [EXPIRE, 1, 0, 0],
    [EXPIRE, 1, 0, 0, [TERM]],
    [EXPIRE, 77, 0, 0, TERM],
    [SET, 1, 0, 0, "/a", b"", -1],
    [SET, 77, 0, 0, "/a", b"", -1],
    [OPEN, 77, 0, 0, b"", 1000],
]


@pytest.mark.parametrize("command", NAMELESS)
def test_command_without_a_sender_has_no_effect(log: Log, command: Any) -> None:
    """There is nobody to answer, and an exception would stop every node."""
    before = dump(log.machine)
    assert log.apply(command) == []
    assert dump(log.machine) == before
    assert log.machine.sessions[1].serial == 1
    assert len(log.machine.sessions) == 2
    assert log.machine.applied == 4


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70) | st.binary(max_size=3) | st.sampled_from(["/a", "/", "/a/b", "x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)
commands = values | st.tuples(st.integers(16, 23), st.integers(1, 2), st.integers(0, 6), st.just(0)).flatmap(
    lambda head: st.lists(values, max_size=3).map(lambda rest: [*head, *rest])
)


@settings(max_examples=150)
@given(st.lists(commands, max_size=12))
def test_no_command_stops_the_machine(garbage: list[Any]) -> None:
    """For all commands: apply returns, and two machines agree."""
    digests = []
    for _ in range(2):
        log = Log()
        log.open()
        log.open()
        for command in garbage:
            log.apply(command)
        digests.append(log.machine.digest())
    assert digests[0] == digests[1]


# Order


def test_events_are_told_before_the_outcome(log: Log) -> None:
    """A watcher learns of a change before its author does (RELIABILITY 59)."""
    notes = log.apply(log.command(1, MULTI, [[CREATE, "/x/y", b"", PARENTS], [SET, "/a", b"", 0], [DELETE, "/x/y", 0]]))
    assert [note[0] for note in notes] == ["event"] * 4 + ["outcome"]
    assert events_in(notes) == [(CREATED, "/x"), (CREATED, "/x/y"), (CHANGED, "/a"), (DELETED, "/x/y")]
    assert {note[3] for note in notes} == {4}


def test_outcome_goes_to_the_owner_alone() -> None:
    """A server without the client's connection tells nobody, but does all the rest."""
    notebooks = Notebook(), Notebook()
    machine = TreeMachine(Notebook())
    machine.owners[1] = notebooks[0]
    payload = msgpack.packb([OPEN, 0, 0, 0, b"one", 1000]) + msgpack.packb([OPEN, 0, 0, 0, b"two", 1000])
    payload += msgpack.packb([CREATE, 1, 1, 0, "/a", b"", 0]) + msgpack.packb([CREATE, 2, 1, 0, "/b", b"", 0])
    machine.apply(entry_of(1, payload, 4))
    assert [note[1:4] for note in notebooks[0].take()] == [(1, OK, 3)]
    assert notebooks[1].take() == []
    assert "/b" in machine.tree.nodes


# Exactly once


def test_operation_of_any_depth_is_answered(log: Log) -> None:
    """What cannot be shown must not be tried: RecursionError would come on one release of Python and not another."""
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    before = dump(log.machine)
    for command in ((deep,), (SET, "/a", b"", deep), (SET, deep, b"", 0), (MULTI, deep), (MULTI, [[deep]])):
        assert outcome_in(log.apply(log.command(1, *command)))[0] in (BadArguments.code, Unimplemented.code)
    assert dump(log.machine) == before


def test_write_sent_again_gets_the_first_outcome(log: Log) -> None:
    """The retry of a create must not fail with NodeExists, nor make a second sequential key."""
    command = log.command(1, CREATE, "/n-", b"", 2, acked=0)
    first = log.apply(command)
    again = log.apply(command)
    assert events_in(first) == [(CREATED, "/n-0000000001")]
    assert again == first[1:]
    assert again[0][3] == 4, "the index is that of the first time"


def test_failure_sent_again_stays_the_failure(log: Log) -> None:
    """A failed write takes its serial: it must not succeed later, behind the client's back."""
    command = log.command(1, SET, "/a", b"", 1, acked=0)
    assert outcome_in(log.apply(command)) == (BadVersion.code, "/a")
    log.write(2, SET, "/a", b"", 0)
    assert outcome_in(log.apply(command)) == (BadVersion.code, "/a")


SERIALS = [
    # serial sent next, acked, after serials 1 to 4 of which up to 1 is acknowledged -> answered, applied
    (5, 4, True, True),
    (4, 0, True, False),
    (2, 0, True, False),
    (1, 0, False, False),
    (6, 4, False, False),
    (100, 4, False, False),
    (-1, 0, False, False),
]


@pytest.mark.parametrize(("serial", "acked", "answered", "applied"), SERIALS)
def test_serial_decides(serial: int, acked: int, answered: bool, applied: bool) -> None:
    """The next one is applied, an earlier one answered while it is remembered, one behind a gap ignored."""
    log = Log()
    log.open()
    for number, known in enumerate((0, 0, 0, 1)):
        log.apply(log.command(1, CREATE, f"/{number}", b"", 0, acked=known))
    notes = log.apply((SET, 1, serial, acked, "/", b"changed", -1))
    assert [note[1] for note in notes if note[0] == "outcome"] == ([serial] if answered else [])
    assert (log.machine.tree.nodes["/"].data == b"changed") is applied
    assert log.machine.sessions[1].serial == (5 if applied else 4)


def test_write_of_an_unknown_session_is_told_so(log: Log) -> None:
    """Behind the end of its session in the log, a write must fail on all nodes (RELIABILITY 51)."""
    log.expire(1)
    notes = log.apply(log.command(1, SET, "/a", b"late", -1))
    assert outcome_in(notes) == (SessionExpired.code, "session 1")
    assert log.machine.tree.nodes["/a"].data == b""


# The end of a session


def test_close_deletes_what_the_session_owns_in_its_own_entry(log: Log) -> None:
    """E2: no index exists at which the session is gone and its keys are not. Events, outcome, then the end."""
    for path in ("/z", "/b", "/a/c"):
        log.write(1, CREATE, path, b"", EPHEMERAL)
    log.write(2, CREATE, "/other", b"", EPHEMERAL)
    notes = log.close(1)
    assert notes == [
        ("event", DELETED, "/a/c", 8),
        ("event", DELETED, "/b", 8),
        ("event", DELETED, "/z", 8),
        ("outcome", 5, OK, 8, ()),
        ("ended", 1, 8, False),
    ]
    assert sorted(log.machine.tree.nodes) == sorted(["/a", "/other", *SYSTEM])
    assert log.machine.tree.nodes["/a"].pzxid == 8
    assert log.machine.tree.nodes["/a"].cversion == 2
    assert 1 not in log.machine.sessions


def test_close_sent_again_finds_the_session_gone(log: Log) -> None:
    """Nothing is remembered of a closed session; the client wanted it gone, and it is."""
    command = log.command(1, CLOSE)
    log.apply(command)
    assert outcome_in(log.apply(command))[0] == SessionExpired.code


def test_expiry_deletes_what_the_session_owns(log: Log) -> None:
    """The same as a close, but nobody waits for an outcome."""
    log.write(1, CREATE, "/e", b"", EPHEMERAL)
    assert log.expire(1) == [("event", DELETED, "/e", 5), ("ended", 1, 5, True)]


def test_expiry_of_another_term_has_no_effect(log: Log) -> None:
    """A leader of the past, or one that does not know yet that it is, may not end sessions (RELIABILITY 52)."""
    log.write(1, CREATE, "/e", b"", EPHEMERAL)
    assert log.expire(1, term=TERM - 1, entry_term=TERM) == []
    assert log.expire(1, term=TERM, entry_term=TERM + 1) == []
    assert "/e" in log.machine.tree.nodes
    assert 1 in log.machine.sessions


def test_ephemeral_of_a_dead_session_cannot_come_back(log: Log) -> None:
    """E1, E3: not by a create behind the expiry, not in a multi, not by a retry (RELIABILITY 56)."""
    create = log.command(1, CREATE, "/e", b"", EPHEMERAL)
    log.apply(create)
    log.expire(1)
    log.apply(create)
    log.apply(log.command(1, CREATE, "/e", b"", EPHEMERAL))
    log.apply(log.command(1, MULTI, [[CREATE, "/e", b"", EPHEMERAL]]))
    assert "/e" not in log.machine.tree.nodes
    assert log.machine.tree.ephemerals == {}


def test_ephemeral_deleted_by_another_is_not_its_owners_any_more(log: Log) -> None:
    """E4: when the path is made anew by somebody else, the first owner's end must leave it."""
    log.write(1, CREATE, "/e", b"", EPHEMERAL)
    log.write(2, DELETE, "/e", 0)
    log.write(2, CREATE, "/e", b"", EPHEMERAL)
    assert events_in(log.close(1)) == []
    assert log.machine.tree.nodes["/e"].owner == 2


def test_failed_multi_leaves_owners_as_they_were(log: Log) -> None:
    """Neither may a key it did not create be deleted with the session, nor one that it did not delete be left."""
    log.write(1, CREATE, "/e", b"", EPHEMERAL)
    log.write(2, MULTI, [[DELETE, "/e", 0], [CREATE, "/f", b"", EPHEMERAL], [DELETE, "/none", 0]])
    assert log.machine.tree.ephemerals == {1: {"/e"}}


def test_session_is_there_when_its_opening_is_told(log: Log) -> None:
    """The serving side looks it up to greet the client."""
    found: list[object] = []

    class Greeter(Notebook):
        def on_opened(self, password: bytes, session_id: int, index: int) -> None:
            session = machine.sessions[session_id]
            found.append((session.password, session.timeout_ms, session.serial))

    machine = TreeMachine(Greeter())
    machine.apply(entry_of(1, msgpack.packb([OPEN, 0, 0, 0, PASSWORD, 1234]), 1))
    assert found == [(PASSWORD, 1234, 0)]


def test_opening_proposed_twice_opens_one_session(log: Log) -> None:
    """Its server cannot know whether the first proposal was lost; a second session would stay until it expires."""
    opened = len(log.machine.sessions)
    for _ in range(2):
        log.apply((OPEN, 0, 0, 0, b"a password given once", 1234))
    assert len(log.machine.sessions) == opened + 1


def test_image_tells_an_opening_proposed_twice(log: Log) -> None:
    """A server that starts from a snapshot must do with the second one what the others do."""
    log.apply((OPEN, 0, 0, 0, b"a password given once", 1234))
    other = TreeMachine(Notebook())
    other.restore(log.machine.snapshot())
    command = msgpack.packb([OPEN, 0, 0, 0, b"a password given once", 1234])
    for machine in (log.machine, other):
        machine.apply(entry_of(machine.applied + 1, command, 1))
    assert len(other.sessions) == len(log.machine.sessions) and other.digest() == log.machine.digest()


# Determinism

_ROOT = Path(__file__).parents[4]
_REPLAY = """
import hashlib
from tests.unit.jkcs_server.tree.harness import replay
log, notes = replay(seed=7, length=800)
image = b"".join(log.machine.snapshot())
notes = repr(notes).encode()
print(f"{log.machine.digest():016x}", hashlib.sha256(image).hexdigest(), hashlib.sha256(notes).hexdigest())
"""


def test_replay_does_not_depend_on_the_hash_seed() -> None:
    """Digest, snapshot and all that is told, in order: no order of a set may show (RELIABILITY 46)."""
    answers = set()
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", _REPLAY],
            env=environment,
            cwd=_ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    assert len(answers.pop()) > 140


def test_cutting_the_log_otherwise_changes_nothing() -> None:
    """How many commands shared a record is the leader's business."""
    history = list(random_history(3, 300))
    digests = set()
    for size in (1, 7, 300):
        machine = TreeMachine(Notebook())
        machine.owners = Everyone(Notebook())
        for start in range(0, len(history), size):
            part = history[start : start + size]
            machine.apply(entry_of(start + 1, b"".join(map(msgpack.packb, part)), len(part)))
        digests.add(machine.digest())
    assert len(digests) == 1
