"""The façade: entering, leaving, and what recipes get of it."""

from __future__ import annotations

import anyio
import pytest

from jkcs_client import BadArguments, ClientClosed, NoNode, SessionExpired, connect
from tests.support.fake_server import FakeCluster, client_of

pytestmark = pytest.mark.anyio


async def test_an_exception_of_the_block_comes_out_as_it_was() -> None:
    """Not wrapped in a group because the client has tasks."""
    with pytest.raises(ZeroDivisionError):
        async with client_of(FakeCluster()):
            raise ZeroDivisionError
    with pytest.raises(NoNode):
        async with client_of(FakeCluster()) as client:
            await client.get("/none")
    group = ExceptionGroup("two", [ValueError(), KeyError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with client_of(FakeCluster()):
            raise group
    assert caught.value is group


async def test_a_client_is_entered_once() -> None:
    """A second session behind the same name would inherit beliefs that are no longer true."""
    client = client_of(FakeCluster())
    with pytest.raises(ClientClosed, match="not open"):
        await client.exists("/")
    async with client:
        with pytest.raises(RuntimeError, match="once"):
            await client.__aenter__()
    with pytest.raises(RuntimeError, match="once"):
        await client.__aenter__()


async def test_entering_can_be_cancelled() -> None:
    """And leaves no task behind: the block around could not end otherwise."""
    cluster = FakeCluster()
    cluster.down = {"a", "b", "c"}
    with anyio.move_on_after(1) as scope:
        async with client_of(cluster):
            raise AssertionError("must not be reached")
    assert scope.cancelled_caught


async def test_the_background_runs_until_the_client_is_closed() -> None:
    """Even when the block around is cancelled and takes its time."""
    cluster = FakeCluster()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(anyio.current_time())
            await anyio.sleep(1)

    with anyio.move_on_after(2.5):
        async with client_of(cluster) as client:
            client.start_soon(tick)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)
                    assert len(ticks) == 6
    await anyio.sleep(3)
    assert len(ticks) == 6


async def test_an_error_of_ours_in_the_background_ends_only_itself() -> None:
    """A key that is gone is no reason to cancel the caller."""
    async with client_of(FakeCluster()) as client:
        client.start_soon(client.get, "/none")
        await anyio.sleep(1)
        assert await client.exists("/") is not None


async def test_a_mistake_in_the_background_is_not_swallowed() -> None:
    """It cancels the block and comes out of it."""

    async def stumble() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with client_of(FakeCluster()) as client:
            client.start_soon(stumble)
            await anyio.sleep_forever()
    assert caught.group_contains(ZeroDivisionError)


async def test_no_background_without_a_session() -> None:
    """What would run there could do nothing."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.expire(client.session_id)
        await client.lost.wait()
        with pytest.raises(SessionExpired):
            client.start_soon(anyio.sleep_forever)


async def test_unique_names_are_unique() -> None:
    """Among the calls of a client, and among clients."""
    cluster = FakeCluster()
    async with client_of(cluster) as one, client_of(cluster) as other:
        names = [client.unique_name() for client in (one, other) for _ in range(3)]
        assert len(set(names)) == 6


async def test_bad_options_are_refused_at_once() -> None:
    """Before anything is opened that would have to be closed."""
    for options in ({"request_timeout": 0}, {"request_timeout": -1}):
        with pytest.raises(BadArguments, match="request_timeout"):
            connect("jkcs://a", **options)
    with pytest.raises(BadArguments):
        connect("a:2181")
