"""The doors that lead past the lists of permissions: administrators' requests, and ZooKeeper's four-letter words.

Each door is found by listing what is there, so that one that is added is looked at as well (CVE-2026-33413,
CVE-2025-58457, CVE-2017-5637).
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK, AdminDenied
from jkcs_server import Node, NodeConfig
from jkcs_server.serving import admin, requests
from jkcs_server.serving.admin import COMMANDS, Scope
from jkcs_server.serving.words import DEFAULT_WORDS, WORDS
from journal import administration
from tests.support import jute_client as jute
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

READS_ONLY = {"server_status", "list_snapshots", "download_snapshot", "configuration"}


def test_every_administrators_request_says_what_it_is() -> None:
    """Where it is done, what it takes, and whether it changes anything; whoever adds one decides about it here."""
    assert {name for name, command in COMMANDS.items() if not command.changes} == READS_ONLY
    assert all(isinstance(command.scope, Scope) for command in COMMANDS.values())


def test_leaders_do_nothing_that_is_not_in_the_table() -> None:
    """The leader's end of it: one that could be done without being listed would have passed no door."""
    listed = {name for name, command in COMMANDS.items() if command.scope is Scope.CLUSTER}
    assert set(administration._ACTIONS) == listed


def test_there_is_one_way_to_an_administrators_request() -> None:
    """Both protocols go by the desk, and the desk by `AdminDesk.ask`, which looks first at where it comes from."""
    source = inspect.getsource(requests.Requests.administrate)
    assert "self.admin.ask(" in source
    body = inspect.getsource(admin.AdminDesk.ask)
    assert body.index("raise AdminDenied") < body.index("self._handlers[") < body.index("self._leader.ask(")


class Far(Client):
    """A client of another machine."""

    def is_local(self) -> bool:
        return False


class Office(Desk):
    """Passes on to nobody; notes who asked."""

    def administrate(self, name: str, arguments: dict[str, Any], local: bool, done: Callable[[int, Any], None]) -> None:
        self.locals.append(local)
        done(*((OK, {}) if local else (AdminDenied.code, "from elsewhere")))

    def __init__(self) -> None:
        super().__init__()
        self.locals: list[bool] = []


def test_reconfig_of_zookeepers_protocol_goes_by_the_same_door() -> None:
    """And is told so as ZooKeeper tells it, even to who may do everything with every key."""
    desk = Office()
    desk.super_digest = digest_id("root:secret")
    client = Far(desk)
    client.send(jute.connect())
    desk.apply()
    assert client.call(zk.AUTH, jute.auth("digest", b"root:secret"), zk.AUTH_XID).error == OK
    answer = client.call(zk.RECONFIG, jute.reconfig("server.n2=h:1:2"))
    assert answer.error == zk.RECONFIG_DISABLED and desk.locals == [False]


def test_nobody_deletes_containers_but_the_cluster() -> None:
    """In ZooKeeper that operation has no check at all."""
    _, client = connected()
    assert client.call(zk.CREATE_CONTAINER, jute.create("/box", mode=zk.CONTAINER)).error == OK
    assert client.call(zk.DELETE_CONTAINER, jute.text("/box")).error == zk.BAD_ARGUMENTS
    assert client.call(zk.EXISTS, jute.read("/box")).error == OK


def ask(where: tuple[str, int], word: str) -> bytes:
    with socket.create_connection(where, 10) as sock:
        sock.sendall(word.encode())
        answer = b""
        while data := sock.recv(1 << 16):
            answer += data
        return answer


@pytest.mark.asyncio
async def test_words_that_tell_of_keys_and_clients_are_not_answered_by_default(tmp_path: Path) -> None:
    """wchp and wchc brought servers down that answered them to anybody."""
    async with Node.single(tmp_path) as node, node.client() as client:
        await client.create("/a-telling-name", b"")
        where = node.client_address
        assert where is not None
        for word in sorted(WORDS):
            answer = await asyncio.to_thread(ask, where, word)
            assert b"a-telling-name" not in answer
            if word not in DEFAULT_WORDS:
                assert b"not in the whitelist" in answer, (word, answer)


@pytest.mark.asyncio
async def test_a_port_that_others_reach_is_not_opened_without_tls(tmp_path: Path) -> None:
    """Nothing is open by default: not to other machines, and not in the clear."""
    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
        with pytest.raises(ValueError, match="can be reached from other machines"):
            Node(NodeConfig(tmp_path, "n1", "n1=127.0.0.1:0", listen=listen))
        with pytest.raises(ValueError, match="can be reached from other machines"):
            Node(NodeConfig(tmp_path, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", peer_listen=listen))
