"""Reconfig: who may, what it becomes, and that what comes after it waits for its answer."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK, AdminDenied, BadArguments, ChangeRefused
from jkcs_server.serving.zookeeper_reconfig import CONFIG_PATH, parse_server
from tests.support import jute_client as jute
from tests.support.jute_client import Answer
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

PRESENT = {"phase": "stable", "index": 7, "voters": ["a", "b", "c"], "observers": ["o"]}


def administrator() -> tuple[Desk, Client]:
    desk = Desk()
    desk.super_digest = digest_id("root:secret")
    _, client = connected(desk)
    client.send(client.jute.auth("digest", b"root:secret"))
    client.take()
    return desk, client


def asked(desk: Desk, client: Client, present: dict[str, Any] = PRESENT, **change: Any) -> tuple[str, dict[str, Any]]:
    """What the administrators' desk is asked for, after it has told the present configuration."""
    client.ask(zk.RECONFIG, jute.reconfig(**change))
    name, arguments, done = desk.administrating.pop(0)
    assert (name, arguments) == ("configuration", {})
    done(OK, present)
    return desk.administrating[0][:2] if desk.administrating else ("", {})


def code(client: Client) -> int:
    client.desk.flush()
    (answer,) = client.take()
    assert isinstance(answer, Answer)
    return answer.error


@pytest.mark.parametrize(
    ("change", "request_"),
    [
        (
            {"joining": "server.d=10.0.0.4:2182:2182:participant;2181"},
            ("update_voters", {"old": ["a", "b", "c"], "new": {"a": "", "b": "", "c": "", "d": "10.0.0.4:2182"}}),
        ),
        ({"leaving": "c"}, ("update_voters", {"old": ["a", "b", "c"], "new": {"a": "", "b": ""}})),
        ({"leaving": "o"}, ("convert_role", {"node": "o", "role": "none", "address": ""})),
        (
            {"joining": "server.p=10.0.0.5:2182:2182:observer"},
            ("convert_role", {"node": "p", "role": "observer", "address": "10.0.0.5:2182"}),
        ),
        (
            {"joining": "server.c=10.0.0.3:2182:2182:observer"},
            ("convert_role", {"node": "c", "role": "observer", "address": "10.0.0.3:2182"}),
        ),
    ],
)
def test_a_reconfig_becomes_what_administrators_ask_for(
    change: dict[str, str], request_: tuple[str, dict[str, Any]]
) -> None:
    assert asked(*administrator(), **change) == request_


def test_the_answer_is_the_configuration_and_what_comes_after_waits_for_it() -> None:
    desk, client = administrator()
    asked(desk, client, leaving="c")
    client.ask(zk.EXISTS, jute.read("/"))
    assert client.take() == []
    desk.administrating.pop()[2](OK, {"index": 9})
    first, second = client.take()
    assert isinstance(first, Answer) and isinstance(second, Answer)
    assert first.error == OK and isinstance(first.value[0], bytes) and second.xid == first.xid + 1


@pytest.mark.parametrize(
    ("present", "change", "expected"),
    [
        ({**PRESENT, "phase": "joint"}, {"leaving": "c"}, zk.RECONFIG_IN_PROGRESS),
        (PRESENT, {"leaving": "c", "version": 6}, zk.BAD_VERSION),
        (PRESENT, {"leaving": "a,b,c"}, zk.BAD_ARGUMENTS),
        (PRESENT, {"joining": "server.d"}, zk.BAD_ARGUMENTS),
        (PRESENT, {"leaving": "c,o"}, zk.BAD_ARGUMENTS),
        (PRESENT, {"leaving": "c", "members": "server.a=h:1:1"}, zk.BAD_ARGUMENTS),
        (PRESENT, {}, OK),
    ],
)
def test_what_is_answered_without_the_leader(present: dict[str, Any], change: dict[str, Any], expected: int) -> None:
    desk, client = administrator()
    assert asked(desk, client, present, **change) == ("", {})
    assert code(client) == expected


@pytest.mark.parametrize(
    ("told", "expected"), [(AdminDenied.code, zk.RECONFIG_DISABLED), (ChangeRefused.code, zk.NEW_CONFIG_NO_QUORUM)]
)
def test_what_administrators_are_refused_has_zookeepers_codes(told: int, expected: int) -> None:
    desk, client = administrator()
    client.ask(zk.RECONFIG, jute.reconfig(leaving="c"))
    desk.administrating.pop()[2](told, "no")
    assert code(client) == expected


def test_who_may_not_write_the_configuration_may_not_change_it() -> None:
    desk, client = connected()
    assert asked(desk, client, leaving="c") == ("", {})
    assert code(client) == zk.NO_AUTH and desk.machine.tree.find(CONFIG_PATH) is not None


def test_servers_are_read_as_the_configuration_shows_them() -> None:
    assert parse_server("server.n1=10.0.0.1:2182:2182:participant;0.0.0.0:2181") == ("n1", "voter", "10.0.0.1:2182")
    assert parse_server("server.2=[::1]:2182:2183:observer") == ("2", "observer", "[::1]:2182")
    assert parse_server("server.n1=h:2182") == ("n1", "voter", "h:2182")
    for text in ("n1=h:1:1", "server.=h:1:1", "server.a=h", "server.a=:1:1", "server.a=h:x:1", "server.a"):
        with pytest.raises(BadArguments):
            parse_server(text)
