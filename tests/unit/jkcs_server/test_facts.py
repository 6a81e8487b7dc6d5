"""What is worked out for the four-letter words; that it comes over a socket is in tests/integration."""

from __future__ import annotations

import getpass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jkcs_server import facts
from jkcs_server.config import NodeConfig
from jkcs_server.facts import ServerFacts
from jkcs_server.serving.figures import Figures, Totals
from jkcs_server.serving.watches import WatchHub
from jkcs_server.tree.keytree import KeyTree
from journal.raft.ready import Role
from journal.values import Configuration, NodeId


class Watcher:
    """A connection with watches."""

    def __init__(self, session: int) -> None:
        self.session = session

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        """Nothing happens here."""

    def may_see(self, acl: Any) -> bool:
        return True


def figures(received: int, *latencies_ms: int) -> Figures:
    made = Figures(100.0)
    made.address = "192.0.2.1:1024"
    for latency in latencies_ms:
        made.came(1, 0.0)
        made.answered += 1
        made.left(latency / 1000)
    made.came(received - len(latencies_ms), 0.0)
    return made


def connection(session: int, counted: Figures, waiting: int = 0) -> Any:
    return SimpleNamespace(session=session, figures=counted, timeout_ms=4000, lane=[None] * waiting)


def server(*connections: Any, members: Configuration | None = None, **core: Any) -> ServerFacts:
    """Facts about a server that leads its cluster of one unless `core` says otherwise."""
    members = members or Configuration((NodeId("n1"),))
    view = {"leader": "n1", "role": Role.LEADER, "configuration": members, "configuration_index": 0x1F, **core}
    replica = SimpleNamespace(core=SimpleNamespace(**view), failed=None, read_only=None, applied=7)
    requests: Any = SimpleNamespace(
        replica=replica,
        machine=SimpleNamespace(tree=KeyTree(), sessions={}),
        hub=WatchHub(10),
        connections=list(connections),
        departed=Totals(),
    )
    peers = ",".join(f"{name}=10.0.0.1:2182" for name in members.members)
    return ServerFacts(
        NodeConfig("data", "n1", peers),
        requests,
        monitoring=SimpleNamespace(disk_space=lambda: {"snapshot_bytes": 5, "log_bytes": 6}),  # type: ignore[arg-type]
        version="0.1.0",
        client_address=lambda: "10.0.0.1:2181",
        connected=lambda: ["n3"],
        now=lambda: 130.0,
        wall=lambda: 1_000_130_000,
    )


def test_traffic_is_of_all_connections_those_that_are_gone_too() -> None:
    """The mean is one of requests, not of connections."""
    told = server(connection(1, figures(10, 2, 4), waiting=3), connection(0, figures(1)))
    told._requests.departed.add(figures(5, 9))
    traffic = told.traffic()
    assert (traffic.received, traffic.sent, traffic.outstanding) == (16, 3, 3)
    assert (traffic.latency_min_ms, traffic.latency_avg_ms, traffic.latency_max_ms) == (2, 5.0, 9)


def test_a_reset_of_the_connections_leaves_the_sums() -> None:
    """And one of the sums leaves nothing."""
    told = server(connection(1, figures(10, 2, 4)))
    before = told.traffic()
    told.reset_connections()
    assert told.clients()[0].received == 0 and told.traffic() == before
    told.reset_traffic()
    assert told.traffic() == server().traffic()


def test_a_connection_is_told_in_milliseconds_since_1970() -> None:
    (client,) = server(connection(5, figures(3, 2))).clients()
    assert (client.address, client.session, client.established_ms) == ("192.0.2.1:1024", 5, 1_000_100_000)
    assert (client.last_latency_ms, client.last_zxid) == (2, -1)


def test_sizes_of_many_keys_are_told_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking must not cost more, the more keys there are."""
    monkeypatch.setattr(facts, "SIZED_KEYS_MAX", 10)
    told = server()
    tree = told._machine.tree
    for number in range(1000):
        tree.create(f"/k{number:05}", b"12345", 0, number + 1, 0, 0)
    assert abs(told.overview().data_bytes - 1000 * 12) < 100


MEMBERS = Configuration(
    (NodeId("n1"), NodeId("n2")),
    observers=(NodeId("n3"),),
    addresses=((NodeId("n1"), "10.0.0.1:2182"), (NodeId("n2"), "10.0.0.2:2182"), (NodeId("n3"), "[::1]:2182")),
)


def test_members_are_told_as_in_zookeepers_configuration() -> None:
    settings = server(members=MEMBERS, role=Role.FOLLOWER).settings()
    assert settings.members == (
        "server.n1=10.0.0.1:2182:2182:participant",
        "server.n2=10.0.0.2:2182:2182:participant",
        "server.n3=[::1]:2182:2182:observer",
    )
    assert (settings.number, settings.peer_port, settings.client_port) == (1, 2182, 2181)
    assert not server().settings().members and server().settings().number == 0


@pytest.mark.parametrize(
    ("role", "members", "mode"),
    [
        (Role.LEADER, Configuration((NodeId("n1"),)), "standalone"),
        (Role.FOLLOWER, MEMBERS, "follower"),
        (Role.FOLLOWER, Configuration((NodeId("n2"),), observers=(NodeId("n1"),)), "observer"),
    ],
)
def test_the_mode_is_one_of_zookeepers(role: Role, members: Configuration, mode: str) -> None:
    told = server(role=role, members=members)
    told._replica.me = NodeId("n1")
    assert told.overview().mode == mode


def test_a_full_disk_is_read_only_and_no_leader_is_no_service() -> None:
    told = server()
    told._replica.read_only = "the disk is full"  # type: ignore[misc]
    assert told.overview().mode == "read-only" and told.read_only and told.serving
    assert not server(leader=None).serving


def test_watches_are_told_by_session_and_by_path() -> None:
    """A path that is watched in two ways by one session is told once."""
    told = server()
    one, other = Watcher(1), Watcher(2)
    hub = told._hub
    for watcher, number, path, mode in ((one, 1, "/a", 1), (one, 2, "/a", 3), (one, 3, "/b", 4), (other, 1, "/a", 1)):
        assert hub.add(watcher, number, path, mode, 0)
    assert [(session, list(paths)) for session, paths in told.watches_by_session()] == [(1, ["/a", "/b"]), (2, ["/a"])]
    assert [(path, list(sessions)) for path, sessions in told.watches_by_path()] == [("/a", [1, 2]), ("/b", [1])]
    counts = told.watch_counts()
    assert (counts.connections, counts.paths, counts.watches) == (2, 2, 4)


def test_a_user_without_a_name_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert dict(server().environment())["user.name"] == "unknown"
    assert Path(dict(server().environment())["user.dir"]).is_dir()
