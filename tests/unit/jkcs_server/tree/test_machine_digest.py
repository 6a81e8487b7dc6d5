"""The digest: equal where the state is equal, different where anything in it differs, always up to date."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from jkcs_client.protocol.errors import OK, BadVersion, NodeExists
from jkcs_client.protocol.messages import CREATE, DELETE, MULTI, SET
from jkcs_server.tree.keytree import EPHEMERAL, PARENTS, SEQUENTIAL
from jkcs_server.tree.machine import TreeMachine
from tests.unit.jkcs_server.tree.harness import Log, Notebook, random_history, replay

KEY_FIELDS = ("czxid", "mzxid", "pzxid", "ctime", "mtime", "version", "cversion", "owner", "sequence")
SESSION_FIELDS = ("timeout_ms", "serial", "index")


@pytest.fixture
def log() -> Log:
    """A tree with keys, a session and outcomes."""
    log = Log()
    log.open()
    log.write(1, CREATE, "/a", b"one", 0)
    log.write(1, CREATE, "/b", b"two", 0)
    log.write(1, CREATE, "/a/n-", b"", SEQUENTIAL | EPHEMERAL)
    return log


@pytest.mark.parametrize("seed", range(8))
def test_digest_is_kept_up_to_date(seed: int) -> None:
    """What is added and taken out bit by bit must be what the whole state gives: drift would fence a good node."""
    log = Log()
    for command in random_history(40 + seed, 300):
        log.apply(command)
        assert log.machine.digest() == log.machine.digest_anew(), command


@pytest.mark.parametrize("seed", range(4))
def test_restored_machine_has_the_digest_of_the_first(seed: int) -> None:
    """A snapshot's digest is compared with the one of the machine that is made from it (RELIABILITY 34)."""
    log, _ = replay(70 + seed, 300)
    twin = TreeMachine(Notebook())
    twin.restore(list(log.machine.snapshot()))
    assert twin.digest() == twin.digest_anew() == log.machine.digest()


def test_digest_that_was_not_asked_for_misses_nothing() -> None:
    """Sessions are counted when it is asked for: those that ended or were replaced meanwhile must not remain."""
    asked, _ = replay(9, 0)
    silent, _ = replay(9, 0)
    for command in random_history(9, 500):
        asked.apply(command)
        asked.machine.digest()
        silent.apply(command)
    assert silent.machine.digest() == asked.machine.digest() == silent.machine.digest_anew()


def test_snapshot_under_way_does_not_show_in_it() -> None:
    """Nodes and sessions are then replaced by copies, which must carry their shares."""
    log, _ = replay(5, 200)
    plain, _ = replay(5, 200)
    chunks = log.machine.snapshot()
    next(chunks)
    for command in list(random_history(5, 300))[200:]:
        log.apply(command)
        plain.apply(command)
        assert log.machine.digest() == plain.machine.digest() == log.machine.digest_anew()


@pytest.mark.parametrize("field", KEY_FIELDS)
@pytest.mark.parametrize("path", ["/", "/a", "/a/n-0000000000"])
def test_digest_tells_each_number_of_a_key(log: Log, path: str, field: str) -> None:
    """A replica that differs in any of them will sooner or later answer differently."""
    node = log.machine.tree.nodes[path]
    digest, value = log.machine.digest(), getattr(node, field)
    for other in (value + 1, value + 2**20, value ^ 2**40, value + 2**62):
        setattr(node, field, other)
        assert log.machine.digest_anew() != digest, other


@pytest.mark.parametrize("data", [b"", b"on", b"onf", b"one\0", b"two", bytes(100)])
def test_digest_tells_the_data(log: Log, data: bytes) -> None:
    """The data is in it by its checksum."""
    digest = log.machine.digest()
    log.machine.tree.nodes["/a"].data = data
    assert log.machine.digest_anew() != digest


def test_digest_tells_whose_data_it_is(log: Log) -> None:
    """Two keys that have each other's data, or number, hold the same things in sum."""
    nodes, digest = log.machine.tree.nodes, log.machine.digest()
    nodes["/a"].data, nodes["/b"].data = nodes["/b"].data, nodes["/a"].data
    assert log.machine.digest_anew() != digest
    nodes["/a"].data, nodes["/b"].data = nodes["/b"].data, nodes["/a"].data
    assert log.machine.digest_anew() == digest
    nodes["/a"].czxid, nodes["/b"].czxid = nodes["/b"].czxid, nodes["/a"].czxid
    assert log.machine.digest_anew() != digest


@pytest.mark.parametrize("field", SESSION_FIELDS)
def test_digest_tells_each_number_of_a_session(log: Log, field: str) -> None:
    """A session that remembers another serial would apply a write twice."""
    digest, session = log.machine.digest(), log.machine.sessions[1]
    value = getattr(session, field)
    for other in (value + 1, value + 2**20, value ^ 2**40):
        setattr(session, field, other)
        assert log.machine.digest_anew() != digest, other


def test_digest_tells_passwords_and_outcomes(log: Log) -> None:
    """Who may take a session over, and which outcomes it may still be told, are part of the state."""
    log.apply(log.command(1, SET, "/a", b"", -1, acked=0))
    session, seen = log.machine.sessions[1], {log.machine.digest()}
    assert len(session.replies) == 2
    session.password = b"q" * 16
    seen.add(log.machine.digest_anew())
    session.replies.pop(0)
    seen.add(log.machine.digest_anew())
    session.replies.clear()
    seen.add(log.machine.digest_anew())
    assert len(seen) == 4


def test_digest_tells_every_step() -> None:
    """Each command that changes anything moves it."""
    log = Log()
    digests = [log.machine.digest()]

    def note() -> None:
        digests.append(log.machine.digest())

    steps: list[tuple[Any, ...]] = [
        (CREATE, "/a", b"", 0),
        (SET, "/a", b"x", -1),
        (SET, "/none", b"x", -1),
        (CREATE, "/p/q/r", b"", PARENTS),
        (DELETE, "/p/q/r", 0),
        (MULTI, [[SET, "/a", b"y", -1], [CREATE, "/a/b", b"", 0]]),
    ]
    log.open()
    note()
    for op, *arguments in steps:
        log.write(1, op, *arguments)
        note()
    log.open(b"q" * 16)
    note()
    assert all(one != two for one, two in pairwise(digests))
    assert len(set(digests)) == len(digests)


def test_digest_of_what_failed_is_that_of_what_did_not_happen() -> None:
    """A transaction that is taken back takes its shares back."""
    log = Log()
    log.open()
    log.write(1, CREATE, "/a", b"", 0)
    before = log.machine.tree.sum
    several = [[SET, "/a", b"x", -1], [CREATE, "/a/b", b"", 0], [DELETE, "/a/b", -1], [SET, "/a", b"", 7]]
    assert log.write(1, MULTI, several)[0] == BadVersion.code
    assert log.write(1, CREATE, "/a", b"", 0)[0] == NodeExists.code
    assert log.machine.tree.sum == before
    assert log.write(1, MULTI, several[:3])[0] == OK
    assert log.machine.tree.sum != before
    assert log.machine.digest() == log.machine.digest_anew()


def test_digest_does_not_see_the_order_of_creation() -> None:
    """It is of the state, not of how it came about."""
    first, second = Log(), Log()
    for log, names in ((first, "ab"), (second, "ba")):
        log.open()
        for name in names:
            log.write(1, CREATE, f"/{name}", b"", 0)
    for log in (first, second):
        for node in log.machine.tree.nodes.values():
            node.czxid = node.mzxid = node.pzxid = node.ctime = node.mtime = 0
    assert first.machine.digest_anew() == second.machine.digest_anew()
