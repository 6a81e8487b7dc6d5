"""The client on asyncio and on trio against a real node over TCP, and the lock when a holder's network dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream

from jkcs_client import Address, Client, Fenced, NodeExists, connect
from jkcs_client.dialer import dial_tcp
from jkcs_client.recipes import Held, Lock, LockLost
from jkcs_server import NodeConfig, NodeThread

pytestmark = pytest.mark.anyio

PATH = "/locks/db"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A node in a thread of its own, so that the client's event loop may be any."""
    node = NodeThread(NodeConfig(tmp_path, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0"))
    node.start()
    try:
        assert node.client_address is not None
        yield "jkcs://{}:{}/app".format(*node.client_address)
    finally:
        node.stop()


class Network:
    """A way to the server that can be cut."""

    def __init__(self) -> None:
        self.cut = False
        self._streams: list[ByteStream] = []

    async def dial(self, address: Address) -> ByteStream:
        if self.cut:
            raise OSError("cut off")
        stream = await dial_tcp(address)
        self._streams.append(stream)
        return stream

    async def fail(self) -> None:
        self.cut = True
        for stream in self._streams:
            await anyio.aclose_forcefully(stream)


async def test_a_real_node_answers_as_the_client_expects(url: str) -> None:
    """Every kind of call once: what the tests against the fake server take for granted."""
    async with connect(url) as client:
        assert await client.create("/k/v", b"1", parents=True) == "/k/v"
        value, stat = await client.get("/k/v", read="local")
        assert (value, stat.version) == (b"1", 0)
        with pytest.raises(NodeExists) as caught:
            await client.create("/k/v")
        assert (caught.value.path, caught.value.node) == ("/k/v", "n1")
        async with client.watch("/k", recursive=True, since=stat.index) as events:
            await client.set("/k/v", b"2", version=0)
            event = await anext(events)
            assert (event.path, event.index) == ("/k/v", (await client.get("/k/v"))[1].mzxid)
        async with client.transaction() as txn:
            txn.create("/q-", sequential=True, ephemeral=True)
            txn.check("/k/v", version=1)
        assert txn.results == ["/q-0000000001", None]
        assert await client.children("/") == ["k", "q-0000000001"]
        assert await client.sync() >= stat.index
        assert (await client.status())["node"] == "n1"
        await client.delete("/k", recursive=True)
    async with connect(url) as client:
        assert await client.children("/") == [], "the ephemeral key went with its session"


async def test_calls_survive_lost_connections(url: str) -> None:
    """Every write once, in spite of a connection that breaks again and again under load."""
    network = Network()
    async with connect(url, dialer=network.dial) as client:
        await client.create("/n", parents=True)

        async def write() -> None:
            for _ in range(50):
                await client.create("/n/", sequential=True)

        async def disturb() -> None:
            for _ in range(5):
                await client.sync()
                await network.fail()
                network.cut = False

        async with anyio.create_task_group() as writers:
            writers.start_soon(disturb)
            for _ in range(8):
                writers.start_soon(write)
        names = await client.children("/n")
        assert [int(name) for name in names] == list(range(400))


async def test_a_holder_that_is_cut_off_knows_it_before_the_next_one_holds(url: str) -> None:
    """By its own clock, as nobody can tell it; and its late writes are refused."""
    network = Network()
    grants: list[tuple[float, Held]] = []

    async def wait_in_line(client: Client) -> None:
        async with Lock(client, PATH) as held:
            grants.append((anyio.current_time(), held))

    async with (
        connect(url, dialer=network.dial, session_timeout=2) as holder,
        connect(url, session_timeout=10) as waiter,
    ):
        await waiter.create("/resource", parents=True)
        async with anyio.create_task_group() as tasks:
            with pytest.raises(LockLost):
                async with Lock(holder, PATH) as mine:
                    tasks.start_soon(wait_in_line, waiter)
                    await network.fail()
                    await anyio.sleep(60)
            lost_at = anyio.current_time()
        granted_at, theirs = grants[0]
        assert lost_at < granted_at
        assert theirs.token > mine.token
        with pytest.raises(Fenced):
            await waiter.fenced_by(mine).set("/resource", b"late")
