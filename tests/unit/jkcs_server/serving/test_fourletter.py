"""The texts are what a ZooKeeper 3.8.0 answered, asked over a socket, with the facts below told to ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from kazoo.client import ENVI_VERSION

from jkcs_server.serving.fourletter import (
    ANSWER_BYTES_MAX,
    Following,
    Overview,
    Settings,
    Traffic,
    WatchCounts,
    answer,
)
from jkcs_server.serving.words import DEFAULT_WORDS, WORDS

ALL = ("*",)
VERSION = "3.9.2-jkcs-0.1.0, built on 2026-11-01 10:00 UTC"


@dataclass
class Client:
    address: str = "127.0.0.1:58828"
    received: int = 3
    sent: int = 3
    queued: int = 0
    session: int = 0x1000167DDFE0001
    timeout_ms: int = 10000
    established_ms: int = 1795436490953
    last_operation: str = "CREA"
    last_zxid: int = 6
    last_latency_ms: int = 8
    min_latency_ms: int = 0
    avg_latency_ms: int = 3
    max_latency_ms: int = 8


STANDALONE = Overview("standalone", 6, 24651, 9, 2, 61, 2, 1, None, 42, 20000)
LEADER = replace(STANDALONE, mode="leader", quorum_size=3, following=Following(2, 2, 0, 0, 0))
MEMBERS = (
    "server.1=127.0.0.1:31547:22536:participant",
    "server.2=127.0.0.1:31823:23160:participant",
    "server.3=127.0.0.1:17649:14192:participant",
)


@dataclass
class Told:
    """What the server tells."""

    look: Overview = STANDALONE
    serving: bool = True
    read_only: bool = False
    version: str = "0.1.0"
    built: str = "2026-11-01 10:00 UTC"
    members: tuple[str, ...] = ()
    open: list[Client] = field(default_factory=list)
    paths: Iterable[str] = ("/a/b", "/nope")
    calls: list[str] = field(default_factory=list)

    def overview(self) -> Overview:
        return self.look

    def settings(self) -> Settings:
        return Settings(
            29181, -1, "/data", 2000, 4000, 40000, -1, 2 if self.members else 0, 31823, False, self.members, 0
        )

    def traffic(self) -> Traffic:
        return Traffic(16, 16, 0, 0, 2.84615, 13)

    def clients(self) -> list[Client]:
        return self.open

    def disk_bytes(self) -> tuple[int, int]:
        return 67109337, 67109338

    def environment(self) -> list[tuple[str, str]]:
        return [("host.name", "localhost")]

    def sessions(self) -> list[tuple[int, int]]:
        return [(0x10001694D260000, 10000)]

    def ephemerals(self) -> list[tuple[int, list[str]]]:
        return [(0x1000167DDFE0001, ["/a/e2"]), (0x1000167DDFE0000, ["/a/e"])]

    def watch_counts(self) -> WatchCounts:
        return WatchCounts(2, 2, 3)

    def watches_by_session(self) -> list[tuple[int, Iterable[str]]]:
        return [(0x1000167DDFE0001, ["/a/b"]), (0x1000167DDFE0000, self.paths)]

    def watches_by_path(self) -> list[tuple[str, list[int]]]:
        return [("/a/b", [0x1000167DDFE0000, 0x1000167DDFE0001]), ("/nope", [0x1000167DDFE0000])]

    def digests(self) -> list[tuple[int, int]]:
        return [(0x100000080, 0x293860677947), (0x100000100, 0x558930877671)]

    def reset_connections(self) -> None:
        self.calls.append("connections")

    def reset_traffic(self) -> None:
        self.calls.append("traffic")


def ask(word: str, told: Told | None = None) -> str:
    text = answer(word, told or Told(), ALL)
    assert text is not None
    return text.decode()


SERVER_LINES = """\
Latency min/avg/max: 0/2.8462/13
Received: 16
Sent: 16
Connections: 3
Outstanding: 0
Zxid: 0x6
Mode: standalone
Node count: 9
"""
THREE = [
    Client(),
    Client(address="127.0.0.1:58824", received=10, sent=11),
    Client(address="127.0.0.1:58862", received=1, sent=0, session=0),
]


def test_srvr_and_stat_read_as_zookeepers() -> None:
    """The two that every exporter takes to pieces by their lines."""
    told = Told(open=THREE)
    assert ask("srvr", told) == f"Zookeeper version: {VERSION}\n{SERVER_LINES}"
    assert ask("stat", told) == (
        f"Zookeeper version: {VERSION}\n"
        "Clients:\n"
        " /127.0.0.1:58828[1](queued=0,recved=3,sent=3)\n"
        " /127.0.0.1:58824[1](queued=0,recved=10,sent=11)\n"
        " /127.0.0.1:58862[1](queued=0,recved=1,sent=0)\n"
        "\n"
        f"{SERVER_LINES}"
    )


def test_a_leader_has_a_line_more() -> None:
    assert ask("srvr", Told(LEADER)).endswith("Mode: leader\nNode count: 9\nProposal sizes last/min/max: -1/-1/-1\n")


def test_a_server_that_takes_no_writes_says_so() -> None:
    told = Told(replace(STANDALONE, mode="read-only"), read_only=True)
    assert ask("isro", told) == "ro" and ask("isro") == "rw"
    assert ask("srvr", told).splitlines()[1] == "READ-ONLY mode; serving only read-only clients"


def test_cons_shows_what_each_session_did_last() -> None:
    """A connection without a session shows the short form, and zxid -1 reads as ZooKeeper writes a negative long."""
    fresh = Client(received=0, sent=0, last_operation="NA", last_zxid=-1, last_latency_ms=0, avg_latency_ms=0)
    assert ask("cons", Told(open=[Client(), fresh, THREE[2]])) == (
        " /127.0.0.1:58828[1](queued=0,recved=3,sent=3,sid=0x1000167ddfe0001,lop=CREA,est=1795436490953,to=10000"
        ",lzxid=0x6,llat=8,minlat=0,avglat=3,maxlat=8)\n"
        " /127.0.0.1:58828[1](queued=0,recved=0,sent=0,sid=0x1000167ddfe0001,lop=NA,est=1795436490953,to=10000"
        ",lzxid=0xffffffffffffffff,llat=0,minlat=0,avglat=0,maxlat=8)\n"
        " /127.0.0.1:58862[1](queued=0,recved=1,sent=0)\n"
        "\n"
    )


MONITORED = {
    "version",
    "server_state",
    "ephemerals_count",
    "num_alive_connections",
    "min_latency",
    "avg_latency",
    "max_latency",
    "packets_received",
    "packets_sent",
    "outstanding_requests",
    "znode_count",
    "watch_count",
    "approximate_data_size",
    "open_file_descriptor_count",
    "max_file_descriptor_count",
    "global_sessions",
    "local_sessions",
    "uptime",
}
OF_LEADERS = {
    "peer_state",
    "quorum_size",
    "learners",
    "followers",
    "synced_followers",
    "synced_non_voting_followers",
    "synced_observers",
    "pending_syncs",
}


def test_mntr_has_a_key_and_a_value_on_each_line() -> None:
    """Every key is one of ZooKeeper's, so that a dashboard made for it finds it."""
    values = dict(line.split("\t") for line in ask("mntr", Told(open=THREE)).splitlines())
    assert values.keys() == {f"zk_{key}" for key in MONITORED}
    told = [values[f"zk_{key}"] for key in ("version", "server_state", "num_alive_connections", "uptime")]
    assert told == [VERSION, "standalone", "3", "24651"]
    told = [values[f"zk_{key}"] for key in ("min_latency", "avg_latency", "max_latency")]
    assert told == ["0", "2.8462", "13"]
    told = [values[f"zk_{key}"] for key in ("packets_received", "packets_sent", "outstanding_requests")]
    assert told == ["16", "16", "0"]
    told = [values[f"zk_{key}"] for key in ("znode_count", "ephemerals_count", "watch_count", "approximate_data_size")]
    assert told == ["9", "2", "3", "61"]
    told = [values[f"zk_{key}"] for key in ("open_file_descriptor_count", "max_file_descriptor_count")]
    assert told == ["42", "20000"]
    assert (values["zk_global_sessions"], values["zk_local_sessions"]) == ("2", "0"), "all are the cluster's"


def test_a_leader_tells_of_its_followers() -> None:
    values = dict(line.split("\t") for line in ask("mntr", Told(LEADER)).splitlines())
    assert values.keys() == {f"zk_{key}" for key in MONITORED | OF_LEADERS}
    assert values["zk_peer_state"] == "leading - broadcast"
    assert values["zk_followers"] == values["zk_synced_followers"] == "2"


def test_conf_lists_the_members_without_a_last_line_end() -> None:
    """As ZooKeeper: what follows `membership` is the text of /zookeeper/config."""
    alone = (
        "clientPort=29181\nsecureClientPort=-1\ndataDir=/data\ndataDirSize=67109337\ndataLogDir=/data\n"
        "dataLogSize=67109338\ntickTime=2000\nmaxClientCnxns=0\nminSessionTimeout=4000\nmaxSessionTimeout=40000\n"
        "clientPortListenBacklog=-1\nserverId=0\n"
    )
    assert ask("conf") == alone
    assert ask("conf", Told(members=MEMBERS)) == alone.replace("serverId=0", "serverId=2") + (
        "electionPort=31823\nquorumPort=31823\npeerType=0\nmembership: \n" + "\n".join(MEMBERS) + "\nversion=0"
    )


def test_lists_of_watches_read_as_zookeepers() -> None:
    assert ask("wchs") == "2 connections watching 2 paths\nTotal watches:3\n"
    assert ask("wchc") == "0x1000167ddfe0001\n\t/a/b\n0x1000167ddfe0000\n\t/a/b\n\t/nope\n\n"
    assert ask("wchp") == "/a/b\n\t0x1000167ddfe0000\n\t0x1000167ddfe0001\n/nope\n\t0x1000167ddfe0000\n\n"


def test_dump_names_sessions_and_their_keys() -> None:
    assert ask("dump", Told(open=[THREE[2]])) == (
        "SessionTracker dump:\nGlobal Sessions(2):\n0x10001694d260000\t10000ms\n"
        "ephemeral nodes dump:\nSessions with Ephemerals (2):\n"
        "0x1000167ddfe0001:\n\t/a/e2\n0x1000167ddfe0000:\n\t/a/e\n"
        "Connections dump:\nConnections (1):\n\tip: /127.0.0.1:58862 sessionId: 0x0\n"
    )


def test_the_small_ones_read_as_zookeepers() -> None:
    told = Told()
    assert ask("ruok") == "imok"
    assert ask("dirs") == "datadir_size: 67109337\nlogdir_size: 67109338\n"
    assert ask("hash") == "100000080: 293860677947\n100000100: 558930877671\n"
    assert ask("crst", told) == "Connection stats reset.\n" and ask("srst", told) == "Server stats reset.\n"
    assert told.calls == ["connections", "traffic"]


def test_clients_find_the_version_in_envi() -> None:
    """kazoo's `server_version()`: it decides by it what it may ask."""
    lines = ask("envi").splitlines()
    assert lines == ["Environment:", f"zookeeper.version={VERSION}", "host.name=localhost"]
    match = ENVI_VERSION.match(lines[1].partition("=")[2])
    assert match is not None and match.group(1) == "3.9.2"
    assert re.match(r"^([0-9]+\.[0-9]+\.[0-9]+).*$", VERSION)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_word_that_is_not_allowed_changes_and_tells_nothing(word: str) -> None:
    """ZooKeeper's own sentence, spelled as there."""
    told = Told()
    expected = f"{word} is not executed because it is not in the whitelist.\n".encode()
    assert answer(word, told, sorted(WORDS - {word})) == expected and not told.calls


def test_what_is_allowed_unless_told_otherwise_reveals_nothing() -> None:
    """No client, key, path or host name is in these."""
    assert DEFAULT_WORDS == ("isro", "ruok", "srvr") and WORDS.issuperset(DEFAULT_WORDS)
    assert all(answer(word, Told(), DEFAULT_WORDS) for word in DEFAULT_WORDS)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_without_a_leader_only_life_is_told(word: str) -> None:
    """A monitor must tell a server that lives from one that serves."""
    told = Told(serving=False)
    text = answer(word, told, ALL)
    if word == "ruok":
        assert text == b"imok"
    elif word == "isro":
        assert text == b"null"
    elif word == "envi":
        assert text is not None and text.startswith(b"Environment:")
    else:
        assert text is not None and text.rstrip(b"\n") == b"This ZooKeeper instance is not currently serving requests"
        assert not told.calls


def test_an_unknown_word_is_no_word() -> None:
    assert answer("gtmk", Told(), ALL) is None and answer("", Told(), ALL) is None


def test_a_long_list_is_cut_and_never_walked_to_its_end() -> None:
    """CVE-2017-5637: asking for all watches kept a ZooKeeper from doing anything else."""
    looked = 0

    def endless() -> Iterator[str]:
        nonlocal looked
        while True:
            looked += 1
            yield f"/a/key/of/some/length/{looked}"

    text = ask("wchc", Told(paths=endless()))
    assert text.endswith(f"... the rest is left out: an answer has at most {ANSWER_BYTES_MAX} bytes\n")
    assert ANSWER_BYTES_MAX < len(text) + 100 < ANSWER_BYTES_MAX + 200 and looked < ANSWER_BYTES_MAX // 20
