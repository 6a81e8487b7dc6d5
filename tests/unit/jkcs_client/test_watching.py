"""Watches as a caller uses them."""

from __future__ import annotations

import gc

import anyio
import pytest

from jkcs_client import ClientClosed, Compacted, Event, EventKind, RequestTimeout, SessionExpired, TooLarge, session
from jkcs_client import watching as watching_module
from jkcs_client.protocol.messages import UNWATCH
from tests.support.fake_server import FakeCluster, client_of

pytestmark = pytest.mark.anyio

URLS = ["jkcs://a", "jkcs://a/app"]


@pytest.mark.parametrize("url", URLS)
async def test_a_watch_shows_a_key_and_its_children(url: str) -> None:
    """Its own events by kind, and that its list of children changed."""
    async with client_of(FakeCluster(), url) as client:
        await client.create("/other", parents=True)
        async with client.watch("/a") as events:
            await client.create("/a")
            await client.set("/a", b"x")
            await client.create("/a/b")
            await client.set("/a/b", b"x")
            await client.delete("/a/b")
            await client.delete("/a")
            kinds = [(event.kind, event.path) for event in [await anext(events) for _ in range(5)]]
        assert kinds == [
            (EventKind.CREATED, "/a"),
            (EventKind.CHANGED, "/a"),
            (EventKind.CHILDREN, "/a"),
            (EventKind.CHILDREN, "/a"),
            (EventKind.DELETED, "/a"),
        ]


@pytest.mark.parametrize("url", URLS)
async def test_a_recursive_watch_shows_everything_below(url: str) -> None:
    """From the index of a read on: nothing between the read and the watch is missed."""
    async with client_of(FakeCluster(), url) as client:
        await client.create("/a", parents=True)
        _, stat = await client.get("/a")
        await client.create("/a/b")
        await client.create("/ab")
        await client.create("/a/b/c")
        seen = []
        async for event in client.watch("/a", recursive=True, since=stat.index):
            seen.append(event.path)
            if len(seen) == 2:
                break
        assert seen == ["/a/b", "/a/b/c"]


async def test_nothing_is_missed_or_doubled_over_reconnections() -> None:
    """Events that happen while the client is away come when it is back."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client_of(cluster, "jkcs://x") as other:
        await other.create("/a")
        async with client.watch("/a", recursive=True) as events:
            seen: list[Event] = []
            for number in range(12):
                mine = next(one for one in cluster.connections if one.session == client.session_id)
                if number % 3 == 0:
                    cluster.losing = True
                    await other_write(cluster, number)
                    cluster.losing = False
                    mine.cut()
                else:
                    await other_write(cluster, number)
                seen.append(await anext(events))
        assert [event.path for event in seen] == [f"/a/{number}" for number in range(12)]


async def other_write(cluster: FakeCluster, number: int) -> None:
    """Somebody creates a key, without a connection."""
    cluster.index += 1
    cluster.tree._add(f"/a/{number}", b"", 0, cluster.index, 0)
    cluster.history.append((cluster.index, int(EventKind.CREATED), f"/a/{number}"))
    for connection in cluster.connections:
        for watch_id in list(connection.watches):
            connection.tell(watch_id, int(EventKind.CREATED), f"/a/{number}", cluster.index)
    await anyio.lowlevel.checkpoint()


async def test_changed_waits_for_one_event() -> None:
    """And leaves no watch behind."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        stat = await client.exists("/")
        assert stat is not None
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                event = await client.changed("/a")
                assert (event.kind, event.path) == (EventKind.CREATED, "/a")

            tasks.start_soon(wait)
            await anyio.sleep(100)
            await client.create("/a")
        assert (await client.changed("/a", since=stat.index)).index == stat.index + 1
        assert (await client.changed("/", since=stat.index, children=True)).kind is EventKind.CHILDREN
        assert cluster.connection.watches == {}
        assert client._session.connection.watch_count == 0


async def test_a_cancelled_wait_is_forgotten_on_both_sides() -> None:
    """A program that waits with a deadline in a loop must not fill the server with watches."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        for _ in range(3):
            with anyio.move_on_after(1):
                await client.changed("/a")
        await client.sync()
        assert cluster.connection.watches == {}
        assert client._session.connection.watch_count == 0


async def test_history_that_is_gone_is_named() -> None:
    """At the registration, and after a reconnection too."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.create("/a")
        cluster.compacted = cluster.index + 10
        with pytest.raises(Compacted) as caught:
            await client.changed("/a", since=cluster.index)
        assert caught.value.path == "/a"
        cluster.compacted = 0
        async with client.watch("/a") as events:
            await client.set("/a", b"x")
            cluster.compacted = cluster.index + 10
            cluster.cut()
            assert (await anext(events)).kind is EventKind.CHANGED
            with pytest.raises(Compacted):
                await anext(events)


async def test_a_reader_that_is_too_slow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After all events that came before the gap; the server sends no more."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.create("/a")
        watcher = client.watch("/a")
        watcher._watch.buffer_max = 3
        async with watcher as events:
            for _ in range(6):
                await client.set("/a", b"x")
            indices = [(await anext(events)).index for _ in range(3)]
            assert indices == list(range(indices[0], indices[0] + 3))
            with pytest.raises(Compacted, match="buffer of 3 events was full"):
                await anext(events)
        await client.sync()
        assert cluster.connection.watches == {}
    assert watching_module.BUFFER_EVENTS_MAX >= 1000


async def test_a_watcher_that_is_dropped_is_forgotten() -> None:
    """`break` out of `async for` leaves nothing that would end it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.create("/a")
        async for _ in client.watch("/a", since=cluster.index - 1):
            break
        gc.collect()
        await anyio.sleep(10)
        assert UNWATCH in cluster.ops()
        assert client._session.connection.watch_count == 0


async def test_a_closed_watcher_has_no_more_events() -> None:
    """Its loop ends, as loops do."""
    async with client_of(FakeCluster()) as client:
        async with client.watch("/a") as events:
            await client.create("/a")
        assert [event async for event in events] == []


async def test_the_end_of_the_session_ends_every_watch() -> None:
    """With the reason: expiry, or its owner's own closing."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client.watch("/a") as events:
        cluster.expire(client.session_id)
        with pytest.raises(SessionExpired) as caught:
            await anext(events)
        assert caught.value.path == "/a"
    async with client_of(cluster) as client:
        watcher = await client.watch("/a").__aenter__()
    with pytest.raises(ClientClosed):
        await anext(watcher)


async def test_a_registration_has_a_deadline() -> None:
    """And leaves nothing behind when it passes."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.holding = True
        with pytest.raises(RequestTimeout, match="/a"):
            await client.changed("/a", timeout=1)
        assert client._session.connection.watch_count == 0


async def test_watches_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's, known here so that it is not the connection that breaks."""
    monkeypatch.setattr(session, "WATCHES_PER_CONNECTION_MAX", 2)
    async with client_of(FakeCluster()) as client, client.watch("/a"), client.watch("/b"):
        with pytest.raises(TooLarge, match="2 watches"):
            await client.changed("/c")
