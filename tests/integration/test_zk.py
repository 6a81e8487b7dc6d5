"""`jkcs zk` between a real ZooKeeper and a real node, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from jkcs_server.cli.zk_copy import NotCopied, StepRefused
from jkcs_server.cli.zk_zookeeper import ZooKeeperSide
from jkcs_server.config import NodeConfig, show_address
from jkcs_server.copying import CONTAINER, Action, Step
from jkcs_server.node import NodeThread
from tests.support.zookeeper import SUPER, one_zookeeper

KEYS = 1500
"""More than are looked at together, and than fit into a batch."""


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with one_zookeeper(tmp_path_factory.mktemp("zookeeper")) as address:
        yield show_address(address)


@pytest.fixture
def kazoo(zookeeper: str) -> Iterator[KazooClient]:
    """Connected to a ZooKeeper that is empty but for its own keys."""
    client = KazooClient(zookeeper, auth_data=[("digest", SUPER)])
    client.start()
    for name in client.get_children("/"):
        if name != "zookeeper":
            client.delete(f"/{name}", recursive=True)
    yield client
    client.stop()
    client.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    with NodeThread(NodeConfig(tmp_path / "n1", "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0")) as node:
        assert node.client_address is not None
        yield f"jkcs://{show_address(node.client_address)}"


def jkcs(*words: str, code: int = 0) -> Any:
    """Run the command; its JSON document."""
    environment = {**os.environ, "ZOOKEEPER_AUTH": f"digest:{SUPER}\n"}
    command = [sys.executable, "-m", "jkcs_server.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    assert SUPER not in done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


def shell(cluster: str, *lines: str) -> list[str]:
    words = [word for line in lines for word in ("-c", line)]
    return str(jkcs("shell", cluster, *words)).splitlines()


def fill(client: KazooClient) -> None:
    client.create("/app", b"\x00\xffbinary")
    client.ensure_path("/app/locks")
    client.ensure_path("/app/many")
    for _ in range(40):
        client.delete(client.create("/app/locks/lock-", b"", sequence=True))
    for asked in [client.create_async(f"/app/many/k{number}", b"v" * 100) for number in range(KEYS)]:
        asked.get()
    client.create("/app/large", b"x" * 900_000)
    client.create("/app/live", b"mine", ephemeral=True)


def test_there_and_back(kazoo: KazooClient, cluster: str, zookeeper: str) -> None:
    """Import, a second run, a change on either side, and the way back: the switch as the how-to has it."""
    fill(kazoo)
    planned = jkcs("zk", "import", "--json", "--dry-run", "--url", cluster, zookeeper)
    assert planned["created"] == KEYS + 4 and planned["dry_run"] and shell(cluster, "ls /") == ["zookeeper"]

    done = jkcs("zk", "import", "--json", "--url", cluster, zookeeper)
    assert done["done"] and (done["created"], done["ephemerals_skipped"], done["left"]) == (KEYS + 4, 1, 0)
    assert shell(cluster, "get /app", "get /app/many/k7") == ["0x00ff62696e617279", "v" * 100]
    # The next lock's number is the one that it would have had there.
    assert shell(cluster, "create -s /app/locks/lock-") == ["/app/locks/lock-0000000040"]
    shell(cluster, "delete /app/locks/lock-0000000040")

    again = jkcs("zk", "import", "--json", "--url", cluster, zookeeper)
    assert again["done"] and not any(again[what] for what in ("created", "changed", "sequence_raised", "left"))

    kazoo.set("/app/many/k1", b"new")
    kazoo.delete("/app/many/k2")
    shell(cluster, "create /app/ours hello")
    assert str(jkcs("zk", "diff", "--url", cluster, zookeeper, code=1)).splitlines() == [
        "- /app/ours",
        "- /app/many/k2",
        "~ /app/many/k1 (value)",
    ]
    kept = jkcs("zk", "import", "--json", "--no-acls", "--url", cluster, zookeeper)
    assert (kept["changed"], kept["deleted"]) == (1, 0)

    back = jkcs("zk", "export", "--json", "--no-acls", "--delete", "--url", cluster, zookeeper)
    assert (back["created"], back["deleted"], back["done"]) == (2, 0, True)
    assert kazoo.get("/app/ours")[0] == b"hello" and kazoo.exists("/app/many/k2") and kazoo.exists("/app/live")


def test_acls_come_along_and_go_back(kazoo: KazooClient, cluster: str, zookeeper: str, tmp_path: Path) -> None:
    """With the credentials that may see and change them; and what is below a closed key comes, too."""
    file = tmp_path / "auth"
    file.write_text("digest:keeper:pass\n")
    words = ["--json", "--auth", str(file), "--zookeeper-auth", str(file), "--url", cluster, zookeeper]
    keeper, world = make_digest_acl("keeper", "pass", all=True), make_acl("world", "anyone", read=True)
    kazoo.create("/closed", b"s", acl=[keeper])
    kazoo.create("/closed/below", b"t", acl=[keeper, world])
    kazoo.create("/open", b"o")
    done = jkcs("zk", "import", *words)
    assert done["done"] and done["created"] == 3, done
    with_keeper = KazooClient(cluster.removeprefix("jkcs://"), auth_data=[("digest", "keeper:pass")])
    with_keeper.start()
    try:
        assert with_keeper.get("/closed/below")[0] == b"t"
        assert with_keeper.get_acls("/closed")[0] == [keeper]
        assert with_keeper.get_acls("/closed/below")[0] == [keeper, world]
        with_keeper.set_acls("/closed/below", [keeper])
    finally:
        with_keeper.stop()
        with_keeper.close()
    assert jkcs("zk", "export", *words)["acl_changed"] == 1
    assert kazoo.get_acls("/closed/below")[0] == [keeper]
    assert jkcs("zk", "import", *words)["done"]


def test_an_export_raises_sequences_when_told_to(kazoo: KazooClient, cluster: str, zookeeper: str) -> None:
    """ZooKeeper's own counter can be moved by creating keys alone."""
    shell(cluster, "create /q", *["create -s /q/n-" for _ in range(12)])
    jkcs("zk", "export", "--json", "--root", "/q", "--into", "/copied/q", "--sequences", "--url", cluster, zookeeper)
    assert kazoo.create("/copied/q/n-", b"", sequence=True) == "/copied/q/n-0000000012"
    shell(cluster, "delete /q/n-0000000011", "delete /q/n-0000000010")
    jkcs("zk", "export", "--json", "--root", "/q", "--into", "/fresh", "--sequences", "--url", cluster, zookeeper)
    assert kazoo.create("/fresh/n-", b"", sequence=True) == "/fresh/n-0000000012"


def test_a_server_that_is_not_there_is_named(cluster: str, zookeeper: str) -> None:
    """And which of the two it was."""
    nobody = "127.0.0.1:1"
    told = jkcs("zk", "diff", "--json", "--timeout", "0.5", "--url", cluster, nobody, code=3)
    assert told["error"].startswith(f"ZooKeeper at {nobody} does not answer")
    told = jkcs("zk", "diff", "--json", "--timeout", "0.5", "--url", f"jkcs://{nobody}", zookeeper, code=3)
    assert nobody in told["error"]


def test_a_key_that_may_not_be_read_stops_the_copy(kazoo: KazooClient, cluster: str, zookeeper: str) -> None:
    """A copy without it would look whole."""
    kazoo.create("/locked", b"", acl=[make_digest_acl("somebody", "else", all=True)])
    environment = {name: value for name, value in os.environ.items() if name != "ZOOKEEPER_AUTH"}
    command = [sys.executable, "-m", "jkcs_server.cli.main", "zk", "import", "--url", cluster, zookeeper]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 1 and "lets these credentials not read /locked" in done.stderr, done


@pytest.mark.asyncio
async def test_zookeepers_side_gives_lifetimes_and_acls(kazoo: KazooClient, zookeeper: str) -> None:
    """kazoo has no calls for containers and TTLs: the requests are made here. ZooKeeper shows no client which keys are
    such, but it deletes them."""
    acl = ((31, "digest", "somebody:aGFzaA=="), (1, "world", "anyone"))
    async with ZooKeeperSide("ZooKeeper", zookeeper, [("digest", SUPER)], acls=True, timeout=10.0) as side:
        before = await side.position()
        await side.apply([Step(Action.CREATE, "/container", b"c", ttl_ms=CONTAINER)])
        await side.apply([Step(Action.CREATE, "/ttl", b"t", acl, ttl_ms=5_000_000)])
        await side.apply([Step(Action.CREATE, "/plain", b"p"), Step(Action.SET, "/plain", b"q")])
        await side.apply([Step(Action.SET_ACL, "/plain", acl=acl)])
        container, ttl, plain, nothing = await side.look(["/container", "/ttl", "/plain", "/nothing"])
        assert container is not None and ttl is not None and plain is not None and nothing is None
        assert (container.data, container.ttl_ms, container.owner) == (b"c", None, 0)
        assert (ttl.data, ttl.owner, ttl.acl) == (b"t", 0, acl)
        assert (plain.data, plain.acl) == (b"q", acl) and plain.changed_at > before
        await side.apply([Step(Action.CREATE, "/short", ttl_ms=1)])
        await side.apply([Step(Action.CREATE, "/container/child"), Step(Action.DELETE, "/container/child")])
        while (await side.look(["/short", "/container"])) != [None, None]:
            await asyncio.sleep(0.05)
        with pytest.raises(StepRefused) as refused:
            await side.apply([Step(Action.CREATE, "/new"), Step(Action.CREATE, "/plain")])
        assert refused.value.done_already and (await side.look(["/new"])) == [None]


@pytest.mark.asyncio
async def test_a_hidden_hash_is_never_copied(kazoo: KazooClient, zookeeper: str) -> None:
    """Those who may read an ACL but not change it are shown user:x, which would lock everybody out of the copy."""
    kazoo.create("/hidden", b"", acl=[make_digest_acl("a", "b", all=True), make_acl("world", "anyone", read=True)])
    async with ZooKeeperSide("ZooKeeper", zookeeper, [], acls=True, timeout=10.0) as side:
        with pytest.raises(NotCopied, match="the ACL of /hidden hides its hash"):
            await side.look(["/hidden"])
    async with ZooKeeperSide("ZooKeeper", zookeeper, [], acls=False, timeout=10.0) as side:
        (seen,) = await side.look(["/hidden"])
        assert seen is not None and seen.acl is None
