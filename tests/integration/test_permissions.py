"""Who may do what, from the client to the log: the policy as a table, tried out on a real node."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream

from jkcs_client import (
    Acl,
    Address,
    AuthFailed,
    Client,
    EventKind,
    InvalidAcl,
    JkcsError,
    NoAuth,
    NoNode,
    QuotaExceeded,
    connect,
)
from jkcs_client.dialer import dial_tcp
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.messages import CHECK
from jkcs_server import NodeConfig, NodeThread
from jkcs_server.cli.shell_commands import Shell
from jkcs_server.cli.shell_lines import split_line

pytestmark = pytest.mark.anyio

ALICE = ("digest", "alice:a-7Qm3")
BOB = ("digest", "bob:b-9Xk1")
SUPER = ("digest", "root:s-2Wp8")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A node in a thread of its own, so that the client's event loop may be any."""
    config = NodeConfig(
        tmp_path, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", super_digest=digest_id(SUPER[1]), fsync=False
    )
    node = NodeThread(config)
    node.start()
    try:
        assert node.client_address is not None
        yield "jkcs://{}:{}".format(*node.client_address)
    finally:
        node.stop()


# The policy: what takes which permission, any of them, on the key that it is tried on; "" takes none.
POLICY = {
    "get": "r",
    "exists": "",
    "children": "r",
    "iterate_children": "r",
    "count": "r",
    "get_acl": "ra",
    "set": "w",
    "create": "c",
    "delete": "d",
    "check": "r",
    "set_acl": "a",
    "raise_sequence": "a",
}
WHO = {"nobody": (), "alice": (ALICE,), "bob": (BOB,), "super": (SUPER,), "two": (BOB, ALICE)}


def granted_to_alice(letters: str) -> list[Acl]:
    """A list that gives alice these permissions, and somebody else the others, so that it is never the open one."""
    user, password = ALICE[1].split(":")
    mine = [Acl.digest(user, password, letters)] if letters else []
    return [*mine, Acl.digest("nobody-here", "x", "cdrwa")]


async def alone(client: Client, operation: str, path: str, acl: list[Acl]) -> None:
    """One operation that the policy speaks of."""
    if operation in ("get", "exists", "children", "count", "get_acl"):
        await getattr(client, operation)(path)
    elif operation == "iterate_children":
        assert [name async for name in client.iterate_children(path, page=1)]
    elif operation == "set":
        await client.set(path, b"new")
    elif operation == "create":
        await client.create(f"{path}/new")
    elif operation == "delete":
        await client.delete(f"{path}/victim")
    elif operation == "check":
        await client._call(CHECK, (path, -1), path, None)
    elif operation == "set_acl":
        await client.set_acl(path, acl)
    else:
        await client.raise_sequence(path, 100)


async def inside(client: Client, operation: str, path: str, acl: list[Acl]) -> None:
    """The same in a transaction, behind an operation that anybody may do."""
    async with client.transaction() as txn:
        txn.set("/free", b"")
        if operation == "set":
            txn.set(path, b"new")
        elif operation == "create":
            txn.create(f"{path}/new")
        elif operation == "delete":
            txn.delete(f"{path}/victim")
        elif operation == "check":
            txn.check(path)
        elif operation == "set_acl":
            txn.set_acl(path, acl)
        else:
            raise AssertionError(operation)


Doing = Callable[[Client, str, str, list[Acl]], Awaitable[None]]
IN_TRANSACTIONS = ("set", "create", "delete", "check", "set_acl")


@asynccontextmanager
async def everybody(url: str) -> AsyncIterator[dict[str, Client]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(connect(url, auth=credentials)) for name, credentials in WHO.items()
        }


async def verdict(client: Client, doing: Doing, operation: str, path: str, acl: list[Acl]) -> bool:
    try:
        await doing(client, operation, path, acl)
    except NoAuth as error:
        assert error.path in (path, f"{path}/new", f"{path}/victim"), error
        assert error.operation == (1 if doing is inside else None)
        return False
    return True


@pytest.mark.parametrize("letters", ["", "c", "d", "r", "w", "a", "cdrwa"])
async def test_every_operation_asks_for_the_permission_of_the_policy(url: str, letters: str) -> None:
    """Alone and in a transaction, by whoever: one table says what is allowed."""
    acl = granted_to_alice(letters)
    wrong = []
    async with everybody(url) as clients:
        root = clients["super"]
        await root.create("/free")
        for doing in (alone, inside):
            for operation, needed in POLICY.items():
                if doing is inside and operation not in IN_TRANSACTIONS:
                    continue
                for name, client in clients.items():
                    path = f"/{doing.__name__}-{operation}-{name}"
                    await root.create(path, acl=acl)
                    await root.create(f"{path}/victim", acl=acl)
                    allowed = not needed or name == "super" or (ALICE in WHO[name] and bool(set(needed) & set(letters)))
                    if await verdict(client, doing, operation, path, acl) != allowed:
                        wrong.append((doing.__name__, operation, name, allowed))
    assert not wrong, wrong


async def test_a_key_goes_by_the_list_of_its_parent_and_is_created_with_its_own(url: str) -> None:
    """ZooKeeper's rule: a list is no heritage, and to delete takes DELETE above."""
    async with connect(url, auth=[ALICE]) as alice, connect(url) as other:
        await alice.create("/top", acl=[Acl.creator(), Acl.read_only()])
        await alice.create("/top/open")
        await other.set("/top/open", b"anybody")
        with pytest.raises(NoAuth):
            await other.delete("/top/open")
        with pytest.raises(NoAuth):
            await other.create("/top/a/b", parents=True)
        await alice.create("/top/a/b", parents=True, acl=[Acl.creator()])
        with pytest.raises(NoAuth):
            await other.get("/top/a")


async def test_scheme_auth_names_who_sends_the_list(url: str) -> None:
    """And only those who administer see the hashes of passwords."""
    async with connect(url, auth=[ALICE]) as alice, connect(url) as other:
        await alice.create("/k", acl=[Acl.creator(), Acl.read_only()])
        entries, stat = await alice.get_acl("/k")
        assert entries == [Acl("digest", digest_id(ALICE[1]), Acl.open().permissions), Acl.read_only()]
        assert (await other.get_acl("/k"))[0][0].id == "alice:x"
        with pytest.raises(InvalidAcl):
            await other.create("/other", acl=[Acl.creator()])
        assert (await alice.set_acl("/k", [Acl.open()], version=stat.aversion)).aversion == stat.aversion + 1
        await other.delete("/k")
        assert await alice.identities() == [("ip", "127.0.0.1"), ("digest", "alice")]
        assert ("super", "") in await _identities(url, SUPER)


async def _identities(url: str, who: tuple[str, str]) -> list[tuple[str, str]]:
    async with connect(url) as client:
        await client.authenticate(*who)
        return await client.identities()


async def test_a_watcher_without_read_hears_nothing(url: str) -> None:
    """An event tells that a key is there, and when it changes: that is reading."""
    async with connect(url, auth=[ALICE]) as alice, connect(url) as other:
        await alice.create("/w")
        async with other.watch("/w", recursive=True) as events, alice.watch("/w", recursive=True) as own:
            await alice.create("/w/secret", b"1", acl=[Acl.creator()])
            await alice.set("/w/secret", b"2")
            await alice.delete("/w/secret")
            await alice.create("/w/end")
            assert (await anext(events)).path == "/w/end"
            kinds = [(await anext(own)).kind for _ in range(4)]
            assert kinds == [EventKind.CREATED, EventKind.CHANGED, EventKind.DELETED, EventKind.CREATED]


class Network:
    """A way to the server that can be cut."""

    def __init__(self) -> None:
        self._streams: list[ByteStream] = []

    async def dial(self, address: Address) -> ByteStream:
        stream = await dial_tcp(address)
        self._streams.append(stream)
        return stream

    async def fail(self) -> None:
        for stream in self._streams:
            await anyio.aclose_forcefully(stream)


async def test_a_client_stays_who_it_is_over_reconnections(url: str) -> None:
    """Calls that cross a break, and watches that go on after one, must find the same permissions."""
    network = Network()
    async with connect(url, auth=[ALICE], dialer=network.dial) as alice, connect(url, auth=[ALICE]) as other:
        await alice.authenticate(*BOB)
        await alice.create(
            "/k", b"0", acl=[Acl.digest(*BOB[1].split(":"), "w"), Acl.digest(*ALICE[1].split(":"), "ra")]
        )
        async with alice.watch("/k") as events:
            for number in range(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(network.fail)
                    for _ in range(20):
                        tasks.start_soon(alice.set, "/k", b"%d" % number)
                        tasks.start_soon(alice.get, "/k")
                assert (await anext(events)).path == "/k"
        assert (await other.get("/k"))[1].version == 100


async def test_credentials_that_no_server_takes_are_refused(url: str) -> None:
    """At once, by name, and without a word of the secret; the client goes on as who it was."""
    for credentials in (("digest", "no-colon-Zq81"), ("kerberos", "ticket-Zq81"), ("digest", ":Zq81")):
        with pytest.raises(AuthFailed) as caught:
            async with connect(url, auth=[credentials]):
                pass
        assert "Zq81" not in str(caught.value)
    async with connect(url) as client:
        with pytest.raises(AuthFailed):
            await client.authenticate("kerberos", "ticket-Zq81")
        await client.create("/still")


async def test_secrets_stay_out_of_logs_and_files(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads a backup, a log or a traceback must not be able to come as somebody else."""
    marker = "Marker-x7Gv2-password"
    caplog.set_level(logging.DEBUG)
    async with connect(url, auth=[("digest", f"carol:{marker}")]) as client:
        await client.create("/k", acl=[Acl.creator(), Acl.digest("dave", marker, "r")])
        await client.get_acl("/k")
        assert await client.identities() == [("ip", "127.0.0.1"), ("digest", "carol")]
        status = [await client.status(), await client.admin.server_status()]
        with pytest.raises(AuthFailed) as refused:
            await client.authenticate("digest", marker)
        index = await client.admin.take_snapshot()
        with anyio.fail_after(20):
            while index not in [snapshot["index"] for snapshot in await client.admin.snapshots()]:
                await anyio.sleep(0.05)
        shown = [repr(client), repr(vars(client)), repr(client._session), str(status), str(refused.value)]
        shown.append(repr((await client.get_acl("/k"))[0]))
    assert marker not in "".join(shown) + caplog.text + "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    found = b"".join(path.read_bytes() for path in files)
    assert marker.encode() not in found
    name = digest_id(f"carol:{marker}").encode()
    assert any(name in path.read_bytes() for path in files if path.suffix != ".lock"), "its hash is what there is"


async def test_quotas_are_kept_by_the_cluster(url: str) -> None:
    """Set, used up, told of, changed and removed; below a chroot too."""
    async with connect(f"{url}/app") as client, connect(url) as whole:
        await client.create("/a/b", b"12345", parents=True)
        await client.set_quota("/a", keys=3, bytes=10)
        quota = await client.quota("/a")
        assert quota is not None
        assert (quota.keys, quota.bytes, quota.keys_used, quota.bytes_used) == (3, 10, 2, 5)
        await client.create("/a/c", b"12345")
        with pytest.raises(QuotaExceeded):
            await client.create("/a/d")
        with pytest.raises(QuotaExceeded):
            await client.set("/a/c", b"123456")
        await client.set_quota("/a", keys=3, hard=False)
        await client.create("/a/d")
        quota = await client.quota("/a")
        assert quota is not None
        assert (quota.keys, quota.soft_keys, quota.soft_bytes, quota.keys_used) == (None, 3, None, 4)
        await client.remove_quota("/a")
        assert await client.quota("/a") is None
        assert await whole.children("/zookeeper/quota") == []
        with pytest.raises(NoNode) as caught:
            await client.remove_quota("/a")
        assert caught.value.path == "/a"


async def test_half_a_quota_can_be_mended_and_removed(url: str) -> None:
    """Other tools make the two keys one by one, and may leave one of them."""
    async with connect(url) as client:
        for left in ("zookeeper_limits", "zookeeper_stats"):
            await client.create(f"/zookeeper/quota/a/{left}", b"count=5,bytes=-1", parents=True)
            await client.set_quota("/a", keys=7)
            quota = await client.quota("/a")
            assert quota is not None and (quota.keys, quota.keys_used) == (7, 0)
            await client.remove_quota("/a")
            assert await client.quota("/a") is None


async def test_keys_go_by_themselves(url: str) -> None:
    """A container after its last child, a key with a ttl when nobody sets it; both say what they are."""
    async with connect(url) as client:
        await client.create("/box", container=True)
        await client.create("/box/in")
        await client.create("/brief", ttl=0.2)
        async with client.transaction() as txn:
            txn.create("/later", ttl=600)
        stat = await client.exists("/later")
        assert stat is not None and stat.ttl == 600 and not stat.container
        box = await client.exists("/box")
        assert box is not None and box.container
        await client.delete("/box/in")
        with anyio.fail_after(20):
            for path in ("/box", "/brief"):
                while await client.exists(path) is not None:
                    await anyio.sleep(0.05)
        assert await client.exists("/later") is not None


async def test_large_directories_come_page_by_page(url: str) -> None:
    """In order and each name once, whatever the page, also while the directory changes."""
    async with connect(f"{url}/app") as client:
        await client.create("/d", parents=True)
        names = [f"n{number:04}" for number in range(2500)]
        for start in range(0, len(names), 500):
            async with client.transaction() as txn:
                for name in names[start : start + 500]:
                    txn.create(f"/d/{name}")
        assert [name async for name in client.iterate_children("/d", page=999)] == names
        assert await client.count("/d") == 2500
        seen = []
        async for name in client.iterate_children("/d", page=500):
            seen.append(name)
            if name == "n0700":
                await client.create("/d/n0000-late")
                await client.delete("/d/n2000")
        assert seen == [name for name in names if name != "n2000"]
        assert [name async for name in client.iterate_children("/d/n0000")] == []


async def test_a_session_knows_its_ephemeral_keys(url: str) -> None:
    """By path, not by the first letters of one."""
    async with connect(f"{url}/app") as client, connect(f"{url}/app") as other:
        await client.create("/e/x", ephemeral=True, parents=True)
        await client.create("/ee", ephemeral=True)
        await other.create("/e/y", ephemeral=True)
        assert await client.ephemerals() == ["/e/x", "/ee"]
        assert await client.ephemerals("/e", read="local") == ["/e/x"]


async def test_numbers_of_sequential_keys_can_be_raised_and_never_fall(url: str) -> None:
    """What a copy of another tree needs, so that no number comes twice."""
    async with connect(url) as client:
        await client.create("/q")
        assert (await client.raise_sequence("/q", 41)).cversion == 82
        assert (await client.raise_sequence("/q", 7)).cversion == 82
        assert await client.create("/q/n-", sequential=True) == "/q/n-0000000041"
        assert await client.create("/q/n-", sequential=True) == "/q/n-0000000042"


async def test_the_shell_has_it_all(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, by hand."""

    async def said(shell: Shell, line: str) -> str:
        for words in split_line(line):
            await shell.run(words)
        return capsys.readouterr().out

    async with connect(url) as client:
        shell = Shell(client)
        await said(shell, f"addauth digest {ALICE[1]}")
        assert await said(shell, "whoami") == "ip:127.0.0.1\ndigest:alice\n"
        await said(shell, "create --acl auth::cdrwa --acl world:anyone:r /k")
        assert await said(shell, "getacl /k") == f"digest:{digest_id(ALICE[1])}:cdrwa\nworld:anyone:r\n"
        assert await said(shell, "setacl -v 0 /k world:anyone:cdrwa") == "aversion 1\n"
        await said(shell, "create --ttl 600 /k/t; create --container /k/c; create -e /k/e")
        assert await said(shell, "count /k") == "3\n"
        assert await said(shell, "ls --limit 2 /k") == "c\ne\n"
        assert await said(shell, "ephemerals") == "/k/e\n"
        await said(shell, "setquota --keys 10 /k")
        assert "keys        10\n" in await said(shell, "getquota /k")
        await said(shell, "rmquota /k")
        with pytest.raises(JkcsError):
            await said(shell, "getquota /k")
