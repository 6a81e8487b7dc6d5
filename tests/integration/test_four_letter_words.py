"""The four-letter words over real sockets, beside a real ZooKeeper's where it is installed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from jkcs_server.config import NodeConfig, show_address
from jkcs_server.node import NodeThread
from jkcs_server.serving.words import DEFAULT_WORDS, WORDS
from tests.support.cluster import running_cluster
from tests.support.zookeeper import ask, one_zookeeper

ALIKE = ("conf", "crst", "dirs", "isro", "ruok", "srst", "srvr", "stat", "wchc", "wchp", "wchs")
"""Those whose answers differ from ZooKeeper's in numbers and names alone."""


@contextmanager
def one_node(directory: Path, words: str = "*") -> Iterator[tuple[str, int]]:
    config = NodeConfig(directory, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", four_letter_words=words)
    with NodeThread(config) as node:
        assert node.client_address is not None
        yield node.client_address


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[KazooClient]:
    with closing(KazooClient(show_address(address))) as client:
        client.start()
        try:
            yield client
        finally:
            client.stop()


def watch_something(client: KazooClient) -> None:
    client.ensure_path("/a/b")
    client.create("/a/live", b"", ephemeral=True)
    client.get("/a/b", watch=lambda event: None)
    client.exists("/nothing", watch=lambda event: None)


def shape(text: bytes) -> str:
    """What is left when numbers, versions and directories are taken out."""
    shown = re.sub(r"(?<=version: ).*", "V", text.decode())
    shown = re.sub(r"(?<=Dir=).*", "D", shown)
    # The bracket says whether a server waits for this client: not while a word is being answered.
    shown = re.sub(r"^ /[\d.:]+\[[01]\]", " /ADDRESS", shown, flags=re.MULTILINE)
    return re.sub(r"-?\b(0x[0-9a-f]+|\d+(\.\d+)?)\b", "N", shown)


def test_answers_have_zookeepers_shape(tmp_path: Path) -> None:
    """Line by line: what takes ZooKeeper's answers to pieces takes ours to pieces."""
    with (
        one_zookeeper(tmp_path / "zookeeper") as theirs,
        one_node(tmp_path / "n1") as ours,
        connected(theirs) as one,
        connected(ours) as other,
    ):
        watch_something(one)
        watch_something(other)
        for word in ALIKE:
            wanted = shape(ask(theirs, word))
            # There the one who asks is a client, too.
            wanted = wanted.replace(" /ADDRESS(queued=N,recved=N,sent=N)\n", "", 1) if word == "stat" else wanted
            assert shape(ask(ours, word)) == wanted, word
        known = {line.split("\t")[0] for line in ask(theirs, "mntr").decode().splitlines()}
        told = dict(line.split("\t") for line in ask(ours, "mntr").decode().splitlines())
        assert told.keys() <= known, sorted(told.keys() - known)


def test_kazoo_reads_the_version_and_figures_move(tmp_path: Path) -> None:
    """`server_version` asks envi; a monitor must see what a client does."""
    with one_node(tmp_path / "n1") as address, connected(address) as client:
        assert client.server_version() == (3, 9, 2)
        watch_something(client)
        told = dict(line.split("\t") for line in ask(address, "mntr").decode().splitlines())
        assert told["zk_server_state"] == "standalone" and told["zk_ephemerals_count"] == "1"
        assert told["zk_watch_count"] == "2" and int(told["zk_packets_received"]) >= 5
        session = f"0x{client.client_id[0]:x}"
        assert f"sid={session},lop=EXIS" in ask(address, "cons").decode()
        assert f"{session}:\n\t/a/live\n" in ask(address, "dump").decode()
        received = int(told["zk_packets_received"])
        client.stop()
        told = dict(line.split("\t") for line in ask(address, "mntr").decode().splitlines())
        assert told["zk_num_alive_connections"] == "0" and int(told["zk_packets_received"]) > received
        assert ask(address, "srst") == b"Server stats reset.\n"
        assert b"Received: 0\nSent: 0\n" in ask(address, "srvr")


def test_most_words_are_not_answered_unless_the_operator_says_so(tmp_path: Path) -> None:
    with one_node(tmp_path / "n1", ",".join(DEFAULT_WORDS)) as address, connected(address):
        assert ask(address, "ruok") == b"imok" and ask(address, "isro") == b"rw"
        for word in sorted(WORDS - set(DEFAULT_WORDS)):
            assert ask(address, word) == f"{word} is not executed because it is not in the whitelist.\n".encode()
        assert ask(address, "xyzz") == b""


@pytest.mark.asyncio
async def test_a_leader_tells_of_its_followers_and_loses_them(tmp_path: Path) -> None:
    """And a node without a leader says that it does not serve, but lives."""
    async with running_cluster(tmp_path, four_letter_words="*") as cluster:

        async def told(number: int, word: str) -> str:
            address = cluster.nodes[number].client_address
            assert address is not None
            return (await asyncio.to_thread(ask, address, word)).decode()

        async def monitored(number: int) -> dict[str, str]:
            return dict(line.split("\t") for line in (await told(number, "mntr")).splitlines() if "\t" in line)

        async def until(number: int, **wanted: str) -> None:
            async with asyncio.timeout(20):
                while True:
                    found = await monitored(number)
                    if all(found.get(f"zk_{key}") == value for key, value in wanted.items()):
                        return
                    await asyncio.sleep(0.02)

        leader = await cluster.leader()
        followers = sorted(set(cluster.nodes) - {leader})
        await until(leader, server_state="leader", quorum_size="3", synced_followers="2", pending_syncs="0")
        for number in followers:
            await until(number, server_state="follower", peer_state="following - broadcast")
            assert "zk_synced_followers" not in await monitored(number)
        assert "Mode: leader\n" in await told(leader, "srvr")
        conf = await told(leader, "conf")
        assert conf.count(":participant") == 3 and f"serverId={leader + 1}\n" in conf

        for number in followers:
            await cluster.stop(number)
        await cluster.until(lambda: cluster.nodes[leader].status()["leader"] is None, "the leader notices")
        assert await told(leader, "srvr") == "This ZooKeeper instance is not currently serving requests\n"
        assert await told(leader, "ruok") == "imok" and await told(leader, "isro") == "null"
