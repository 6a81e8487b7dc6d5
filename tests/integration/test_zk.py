"""`jkcs zk` between a real ZooKeeper and a real node, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from jkcs_client import Acl, connect
from jkcs_server.cli.zk_cluster import ClusterSide
from jkcs_server.cli.zk_copy import Copy, NotCopied, StepRefused
from jkcs_server.cli.zk_zookeeper import ZooKeeperSide
from jkcs_server.config import NodeConfig, show_address
from jkcs_server.copying import CONTAINER, OPEN_ACL, Action, Step, Wishes
from jkcs_server.node import NodeThread
from tests.support.certificates import CLIENT, Authority, save
from tests.support.zookeeper import SUPER, one_zookeeper, super_digest

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


@contextmanager
def one_node(directory: Path, **settings: Any) -> Iterator[str]:
    """A cluster's HOST:PORT."""
    with NodeThread(NodeConfig(directory, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", **settings)) as node:
        assert node.client_address is not None
        yield show_address(node.client_address)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    with one_node(tmp_path / "n1") as address:
        yield f"jkcs://{address}"


@pytest.fixture
def supers(tmp_path: Path) -> Path:
    """A file with the credentials of who may do everything."""
    file = tmp_path / "supers"
    file.write_text(f"digest:{SUPER}\n")
    return file


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
    async with ZooKeeperSide(zookeeper, [("digest", SUPER)], acls=True, timeout=10.0) as side:
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
    async with ZooKeeperSide(zookeeper, [], acls=True, timeout=10.0) as side:
        with pytest.raises(NotCopied, match="the ACL of /hidden hides its hash"):
            await side.look(["/hidden"])
    async with ZooKeeperSide(zookeeper, [], acls=False, timeout=10.0) as side:
        (seen,) = await side.look(["/hidden"])
        assert seen is not None and seen.acl is None


@pytest.mark.asyncio
async def test_all_that_a_tree_has_crosses_two_copies(
    kazoo: KazooClient, zookeeper: str, tmp_path: Path, supers: Path
) -> None:
    """ZooKeeper to a cluster, and that to a second one through ZooKeeper's protocol: lists of users, counters, and the
    containers and TTLs that only a cluster shows. Done again, neither copy changes anything."""
    keeper, reader = make_digest_acl("keeper", "pass", all=True), make_digest_acl("reader", "word", read=True)
    kazoo.create("/app", b"top")
    kazoo.create("/app/closed", b"s", acl=[keeper, reader])
    kazoo.create("/app/closed/below", b"t", acl=[keeper])
    kazoo.create("/app/locks", b"", acl=[keeper, make_acl("world", "anyone", create=True, delete=True)])
    for _ in range(7):
        kazoo.delete(kazoo.create("/app/locks/lock-", b"", sequence=True))
    with (
        one_node(tmp_path / "n1", super_digest=super_digest()) as first,
        one_node(tmp_path / "m1", super_digest=super_digest()) as second,
    ):
        words = ["--json", "--auth", str(supers), "--url", f"jkcs://{first}"]
        done = await asyncio.to_thread(jkcs, "zk", "import", *words, zookeeper)
        # The root's may be raised, too: other tests had keys there.
        assert (done["created"], done["done"]) == (4, True) and done["sequence_raised"] > 0, done
        async with connect(f"jkcs://{first}", auth=[("digest", "keeper:pass")]) as client:
            assert (await client.get_acl("/app/closed"))[0] == [
                Acl.digest("keeper", "pass"),
                Acl.digest("reader", "word", "r"),
            ]
            assert (await client.get("/app/locks"))[1].cversion == kazoo.get("/app/locks")[1].cversion == 14
            await client.create("/app/queue", container=True, acl=[Acl.creator()])
            await client.create("/app/queue/job", ttl=500)
        back = [*words, second]
        done = await asyncio.to_thread(jkcs, "zk", "export", "--sequences", *back)
        assert (done["created"], done["left"], done["done"]) == (6, 0, True), done
        async with connect(f"jkcs://{second}", auth=[("digest", "keeper:pass")]) as client:
            _, queue = await client.get("/app/queue")
            assert queue.container and (await client.exists("/app/queue/job")).ttl == 500  # type: ignore[union-attr]
            assert (await client.get_acl("/app/queue"))[0] == [Acl.digest("keeper", "pass")]
            assert await client.create("/app/locks/lock-", sequential=True) == "/app/locks/lock-0000000007"
            await client.delete("/app/locks/lock-0000000007")
        for again in (["import", *words, zookeeper], ["export", "--sequences", *back]):
            done = await asyncio.to_thread(jkcs, "zk", *again)
            counted = {what: done[what] for what in ("created", "changed", "acl_changed", "sequence_raised", "left")}
            assert done["done"] and not any(counted.values()), counted


class CutOff(ClusterSide):
    """Takes some batches and no more, as one whose process was killed."""

    batches_left = 2

    async def apply(self, batch: Sequence[Step]) -> None:
        if not self.batches_left:
            raise ConnectionAbortedError
        self.batches_left -= 1
        await super().apply(batch)


@pytest.mark.asyncio
async def test_a_copy_that_was_cut_off_is_resumed(
    kazoo: KazooClient, zookeeper: str, tmp_path: Path, supers: Path
) -> None:
    """By a run like any other: it finds what is there, and creates the rest with its ACLs."""
    keeper = make_digest_acl("keeper", "pass", all=True)
    kazoo.create("/many", b"", acl=[keeper])
    for asked in [kazoo.create_async(f"/many/k{number}", b"v", acl=[keeper]) for number in range(KEYS)]:
        asked.get()
    auth = [("digest", SUPER)]
    with one_node(tmp_path / "n1", super_digest=super_digest()) as address:
        url = f"jkcs://{address}"
        async with (
            connect(url, auth=auth) as client,
            ZooKeeperSide(zookeeper, auth, acls=True, timeout=10.0) as source,
        ):
            target = CutOff(client, url, acls=True)
            with pytest.raises(ExceptionGroup):
                await Copy(source, target, "/", "/", Wishes(), lambda visited, known, size: None).run()
            there = await client.count("/many")
        assert 0 < there < KEYS
        words = ["--json", "--auth", str(supers), "--url", url, zookeeper]
        done = await asyncio.to_thread(jkcs, "zk", "import", *words)
        assert (done["created"], done["acl_changed"], done["done"]) == (KEYS - there, 0, True), done
        assert await asyncio.to_thread(jkcs, "zk", "diff", *words) is not None


@pytest.mark.asyncio
async def test_both_sides_speak_tls_and_know_whom_they_speak_with(tmp_path: Path, supers: Path) -> None:
    """With ACLs and credentials, which must not come to anybody else. The second cluster stands for a ZooKeeper."""
    authority = Authority()
    ca = authority.write(tmp_path / "ca.pem")
    certificate, key = save(tmp_path, "server", authority.issue("server", ips=["127.0.0.1"]))
    misnamed, its_key = save(tmp_path, "misnamed", authority.issue("other", dns=["elsewhere"]))
    shown, shown_key = save(tmp_path, "client", authority.issue("web", purposes=[CLIENT]))
    needed = {"super_digest": super_digest(), "tls_only": True, "tls_client_ca": ca, "tls_client_auth": "need"}
    with (
        one_node(tmp_path / "n1", tls_certificate=certificate, tls_key=key, **needed) as ours,
        one_node(tmp_path / "m1", tls_certificate=certificate, tls_key=key, **needed) as theirs,
        one_node(tmp_path / "o1", tls_certificate=misnamed, tls_key=its_key) as others,
    ):
        url = f"jkcss://{ours}"
        papers = ["--ca", str(ca), "--certificate", str(shown), "--key", str(shown_key), "--auth", str(supers)]
        files = ["--zookeeper-ca", str(ca), "--zookeeper-certificate", str(shown), "--zookeeper-key", str(shown_key)]
        async with connect(url, ca=ca, certificate=shown, key=shown_key) as client:
            await client.create("/closed", b"s", acl=[Acl.digest("keeper", "pass")])
        words = ["--json", *papers, *files, "--url", url]
        done = await asyncio.to_thread(jkcs, "zk", "export", *words, theirs)
        assert (done["created"], done["done"]) == (1, True)
        assert await asyncio.to_thread(jkcs, "zk", "import", *words, theirs)
        refused = await asyncio.to_thread(jkcs, "zk", "diff", "--timeout", "2", *words, others, code=3)
        assert "certificate" in refused["error"], refused


@pytest.mark.asyncio
async def test_the_clusters_side_takes_all_kinds_of_steps_together(tmp_path: Path) -> None:
    """In one transaction or none of it; and alone, which is what is left of a batch that was refused."""
    acl = ((31, "digest", "somebody:aGFzaGhhc2hoYXNoaGFzaGhhc2g="), (1, "world", "anyone"))
    with one_node(tmp_path / "n1", super_digest=super_digest()) as address:
        async with connect(f"jkcs://{address}", auth=[("digest", SUPER)]) as client:
            side = ClusterSide(client, address, acls=True)
            steps = [
                Step(Action.CREATE, "/plain", b"p"),
                Step(Action.CREATE, "/container", b"c", acl, ttl_ms=CONTAINER),
                Step(Action.CREATE, "/ttl", b"t", acl, ttl_ms=5_000_001),
                Step(Action.SET, "/plain", b"q"),
                Step(Action.SET_ACL, "/plain", acl=acl),
                Step(Action.SET_ACL, "/ttl", acl=OPEN_ACL),
            ]
            paths = ["/plain", "/container", "/ttl"]
            before = await side.position()
            await side.apply(steps)
            together = await side.look([*paths, "/nothing"])
            plain, container, ttl, nothing = together
            assert plain is not None and container is not None and ttl is not None and nothing is None
            assert (plain.data, plain.acl, plain.ttl_ms) == (b"q", acl, 0) and plain.changed_at > before
            assert (container.acl, container.ttl_ms) == (acl, CONTAINER)
            assert (ttl.acl, ttl.ttl_ms) == (OPEN_ACL, 5_000_001)
            with pytest.raises(StepRefused) as refused:
                await side.apply([Step(Action.CREATE, "/new"), Step(Action.CREATE, "/plain")])
            assert refused.value.done_already and (await side.look(["/new"])) == [None]

            await side.apply([Step(Action.DELETE, path) for path in paths])
            for step in steps:
                await side.apply([step])
            one_by_one = await side.look(paths)
            assert [replace(seen, changed_at=0) for seen in one_by_one if seen] == [
                replace(seen, changed_at=0) for seen in together if seen
            ]
            await side.raise_sequence("/plain", replace(plain, creations=3_000_000_000), plain)
            (raised,) = await side.look(["/plain"])
            assert raised is not None and raised.creations == 3_000_000_000


@pytest.mark.asyncio
async def test_what_the_cluster_hides_is_not_copied_either(tmp_path: Path) -> None:
    """A key that may not be read, and a hash that is shown to nobody but who may change it."""
    with one_node(tmp_path / "n1") as address:
        async with connect(f"jkcs://{address}") as client:
            await client.create("/hidden", acl=[Acl.digest("a", "b"), Acl.read_only()])
            await client.create("/locked", acl=[Acl.digest("a", "b")])
            for path, why in (("/hidden", "the ACL of /hidden hides its hash"), ("/locked", "not read /locked")):
                with pytest.raises(NotCopied, match=why):
                    await ClusterSide(client, address, acls=True).look([path])
            (seen,) = await ClusterSide(client, address, acls=False).look(["/hidden"])
            assert seen is not None and seen.acl is None
