"""ZooKeeper's writes as commands: modes, permissions, and what is refused before the log."""

from __future__ import annotations

import pytest

from jkcs_client.protocol import messages
from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import BadArguments, BadPath, InvalidAcl, JkcsError, NoNode
from jkcs_client.protocol.messages import CreateFlag
from jkcs_server.serving.zookeeper_writes import WRITES, Multi
from tests.support import jute_client as jute

HEAD = bytes(8)
IDS = (("ip", "192.0.2.1"), ("digest", "u:hash"))
SEQUENTIAL = CreateFlag.SEQUENTIAL | CreateFlag.INT32


def command(op: int, body: bytes) -> tuple[object, ...]:
    parsed, at = WRITES[op](HEAD + body, 8, IDS)
    assert at == 8 + len(body), "the whole record, so that a multi finds the next one"
    return parsed


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        (zk.PERSISTENT, 0),
        (zk.EPHEMERAL, CreateFlag.EPHEMERAL),
        (zk.PERSISTENT_SEQUENTIAL, SEQUENTIAL),
        (zk.EPHEMERAL_SEQUENTIAL, CreateFlag.EPHEMERAL | SEQUENTIAL),
        (zk.CONTAINER, CreateFlag.CONTAINER),
    ],
)
def test_modes_of_create(mode: int, flags: int) -> None:
    assert command(zk.CREATE, jute.create("/a", b"x", mode)) == (messages.CREATE, "/a", b"x", flags)


def test_a_lifetime_comes_in_milliseconds() -> None:
    expected = (messages.CREATE, "/a", b"", CreateFlag.TTL | SEQUENTIAL, None, 5)
    assert command(zk.CREATE_TTL, jute.create_ttl("/a", 5, zk.PERSISTENT_SEQUENTIAL_TTL)) == expected


def test_auth_in_an_acl_stands_for_the_clients_own_identities() -> None:
    expected = (messages.CREATE, "/a", b"", 0, ((31, "digest", "u:hash"),), 0)
    assert command(zk.CREATE, jute.create("/a", entries=[(31, "auth", "")])) == expected


def test_the_other_writes() -> None:
    assert command(zk.SET_DATA, jute.set_data("/a", b"x", 7)) == (messages.SET, "/a", b"x", 7)
    assert command(zk.DELETE, jute.delete("/a", -1)) == (messages.DELETE, "/a", -1)
    assert command(zk.CHECK, jute.check("/a", 3)) == (messages.CHECK, "/a", 3)
    acl = ((1, "world", "anyone"),)
    assert command(zk.SET_ACL, jute.set_acl("/a", acl, 2)) == (messages.SET_ACL, "/a", acl, 2)
    assert command(zk.CLOSE_SESSION, b"") == (messages.CLOSE,)


@pytest.mark.parametrize(
    ("op", "body", "error"),
    [
        (zk.CREATE, jute.create("a"), BadPath),
        (zk.CREATE, jute.create("/a/"), BadPath),
        (zk.CREATE, jute.create("/a\0"), BadPath),
        (zk.CREATE, jute.create("//a"), BadPath),
        (zk.CREATE, jute.create("/a//b"), NoNode),
        (zk.CREATE, jute.create("/a/../b"), NoNode),
        (zk.CREATE, jute.create("/a", mode=9), BadArguments),
        (zk.CREATE, jute.create("/a", mode=zk.PERSISTENT_TTL), BadArguments),
        (zk.CREATE, jute.create("/a", entries=()), InvalidAcl),
        (zk.CREATE, jute.create("/a", entries=[(31, "nobody", "x")]), InvalidAcl),
        (zk.CREATE_TTL, jute.create_ttl("/a", 0), BadArguments),
        (zk.CREATE_TTL, jute.create_ttl("/a", -1), BadArguments),
        (zk.CREATE_TTL, jute.create_ttl("/a", zk.TTL_MS_MAX + 1), BadArguments),
        (zk.CREATE_TTL, jute.create_ttl("/a", 5, zk.PERSISTENT), BadArguments),
        (zk.SET_DATA, jute.set_data("a", b""), BadPath),
        (zk.SET_DATA, jute.set_data("/a/", b""), BadPath),
        (zk.CHECK, jute.check("a"), BadPath),
        (zk.SET_ACL, jute.set_acl("/a", ()), InvalidAcl),
        (zk.DELETE, jute.delete("a"), BadArguments),
        (zk.DELETE, jute.delete("/a//b"), NoNode),
    ],
)
def test_what_zookeeper_refuses(op: int, body: bytes, error: type[JkcsError]) -> None:
    with pytest.raises(error):
        command(op, body)


def test_a_multi_leaves_out_what_stands_behind_a_refused_operation() -> None:
    steps = jute.multi((zk.CREATE, jute.create("/a")), (zk.CREATE, jute.create("b")), (zk.CREATE, jute.create("/c")))
    multi = Multi(HEAD + steps, 8, IDS)
    assert multi.command == (messages.MULTI, ((messages.CREATE, "/a", b"", 0), (0,)))
    assert (multi.code, multi.steps, len(multi.ops)) == (BadPath.code, 2, 3)
