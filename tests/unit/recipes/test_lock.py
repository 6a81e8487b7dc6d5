"""The lock: one holder, first come first served, tokens that rise, and nothing left behind."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from jkcs_client import BadArguments, BadPath, Client, Fenced, SessionExpired
from jkcs_client.protocol.messages import CHILDREN, CREATE, DELETE
from jkcs_client.recipes import Held, Lock, LockLost, LockTimeout
from tests.support.fake_server import FakeCluster, FakeConnection, client_of
from tests.support.virtual_time import stall

pytestmark = pytest.mark.anyio

PATH = "/locks/db"


def places(cluster: FakeCluster) -> list[str]:
    """The names of all contenders' keys, the first in the queue first."""
    return sorted(cluster.tree.children(PATH), key=lambda name: name[-10:])


async def settle() -> None:
    for _ in range(40):
        await anyio.lowlevel.checkpoint()


async def hold(client: Client, seconds: float, grants: list[Held], **options: Any) -> None:
    async with Lock(client, PATH, **options) as held:
        grants.append(held)
        await anyio.sleep(seconds)


async def test_a_grant_names_the_lock_the_key_and_a_token() -> None:
    """The token is the creation index of the holder's own key, whose value says who holds it."""
    cluster = FakeCluster()
    async with client_of(cluster, "jkcs://a/app") as client:
        async with Lock(client, PATH, name="me") as held:
            stat = await client.exists(held.key)
            assert stat is not None
            assert (held.path, held.token) == (PATH, stat.czxid)
            assert stat.ephemeral_owner == client.session_id
            assert (await client.get(held.key))[0] == b"me"
        assert await client.children(PATH) == []


async def test_holders_take_turns_in_the_order_of_their_coming() -> None:
    """Never two at once, and each token higher than all before."""
    cluster = FakeCluster()
    order: list[int] = []
    tokens: list[int] = []
    inside = 0

    async def contend(client: Client, number: int) -> None:
        nonlocal inside
        async with Lock(client, PATH) as held:
            inside += 1
            assert inside == 1
            order.append(number)
            tokens.append(held.token)
            await anyio.sleep(1)
            inside -= 1

    async with client_of(cluster) as one, client_of(cluster) as other, anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(contend, (one, other)[number % 2], number)
            await settle()
    assert order == list(range(6))
    assert tokens == sorted(set(tokens))


async def test_a_release_wakes_one_waiter() -> None:
    """Each watches the one before it; a herd would cost a request of every waiter for each release."""
    cluster = FakeCluster()
    grants: list[Held] = []
    async with client_of(cluster) as client, anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(hold, client, 1, grants)
            await settle()
        watched = [path for connection in cluster.connections for path, _, _ in connection.watches.values()]
        assert sorted(watched) == sorted([grants[0].key, *(f"{PATH}/{name}" for name in places(cluster)[:-1])])
        cluster.received.clear()
        await anyio.sleep(1)
        await settle()
        assert len(grants) == 2
        assert cluster.ops().count(CHILDREN) == 1
    assert len(grants) == 10


async def test_a_timeout_leaves_the_queue() -> None:
    """And whoever stood behind goes on waiting for the one in front."""
    cluster = FakeCluster()
    grants: list[Held] = []
    async with client_of(cluster) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(hold, client, 10, grants)
        await settle()
        tasks.start_soon(late, client)
        await settle()
        tasks.start_soon(hold, client, 1, grants)
        await anyio.sleep(5)
        assert len(places(cluster)) == 2
        assert len(grants) == 1
        await anyio.sleep(5.5)
        assert len(grants) == 2


async def late(client: Client) -> None:
    began = anyio.current_time()
    with pytest.raises(LockTimeout, match="waited 3 s") as caught:
        async with Lock(client, PATH, timeout=3):
            raise AssertionError("must not be reached")
    assert caught.value.path == PATH
    assert anyio.current_time() - began == pytest.approx(3, abs=0.01)


async def test_cancelling_an_acquisition_at_any_step_leaves_nothing_behind() -> None:
    """At every await in turn: an orphan in the queue would block everyone behind it as long as the client lives."""
    reached = False
    for steps in range(200):
        cluster = FakeCluster()
        grants: list[Held] = []
        async with client_of(cluster) as client:
            await settle()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold, client, 0, grants)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await settle()
            assert PATH not in cluster.tree.keys or places(cluster) == [], steps
            await hold(client, 0, grants, timeout=1)
            assert cluster.connection.watches == {}, steps
        reached = len(grants) == 2
        if reached and steps > 60:
            break
    assert reached, "the acquisition never came to its end: more steps are needed"


async def test_cancelling_a_waiter_at_any_step_leaves_nothing_behind() -> None:
    """The same behind a holder, where it waits for the other's deletion."""
    for steps in range(0, 80, 3):
        cluster = FakeCluster()
        grants: list[Held] = []
        async with client_of(cluster) as client, Lock(client, PATH):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold, client, 0, grants)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await settle()
            assert len(places(cluster)) == 1, steps
            assert grants == []


async def test_a_creation_whose_answer_was_lost_is_one_place() -> None:
    """Not two, of which one would be waited for by nobody."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await settle()
        cluster.losing = True
        async with anyio.create_task_group() as tasks:
            grants: list[Held] = []
            tasks.start_soon(hold, client, 1, grants)
            await settle()
            assert len(places(cluster)) == 1
            cluster.losing = False
            cluster.cut()
            await anyio.sleep(0.5)
            assert len(places(cluster)) == 1
            assert len(grants) == 1


async def test_a_creation_cancelled_in_flight_is_found_and_taken_away() -> None:
    """Its answer never came, so only its unique name can find it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await settle()
        cluster.holding = True
        began = anyio.current_time()
        with anyio.move_on_after(1) as scope:
            async with Lock(client, PATH):
                raise AssertionError("must not be reached")
        assert scope.cancelled_caught
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01), "the cleanup is bounded"
        cluster.release()
        await anyio.sleep(1)
        assert places(cluster) == [], "and goes on in the background"


async def test_a_lost_session_cancels_the_block() -> None:
    """At once, and LockLost comes out of it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(LockLost, match="session") as caught:
            async with Lock(client, PATH):
                cluster.expire(client.session_id)
                await anyio.sleep(1000)
        assert caught.value.path == PATH


async def test_a_session_lost_by_the_clock_cancels_the_block_in_time() -> None:
    """Before the cluster may grant the lock to the next: nine tenths of the timeout after the last good ping."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        with pytest.raises(LockLost, match="no ping was acknowledged"):
            async with Lock(client, PATH):
                await anyio.sleep(7)
                acknowledged = client._session.connection.acknowledged_at
                cluster.down = {"a", "b", "c"}
                cluster.cut()
                await anyio.sleep(1000)
        assert anyio.current_time() == pytest.approx(acknowledged + 9, abs=0.01)


async def test_a_deleted_key_cancels_the_block() -> None:
    """An operator took the lock away: the next in the queue has it already."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client_of(cluster) as other:
        with pytest.raises(LockLost, match="its key was deleted"):
            async with Lock(client, PATH) as held:
                await other.delete(held.key)
                await anyio.sleep(1000)
        assert await client.exists("/") is not None, "the session itself goes on"


async def test_a_changed_key_is_no_loss() -> None:
    """The holder may write into its own key, to say how far it is."""
    async with client_of(FakeCluster()) as client, Lock(client, PATH) as held:
        for _ in range(3):
            await client.set(held.key, b"still here")
            await anyio.sleep(1)


async def test_a_block_that_swallows_its_cancellation_still_loses() -> None:
    """Whatever it believes: the lock was not held to the end."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(LockLost):
            async with Lock(client, PATH) as held:
                try:
                    await client.delete(held.key)
                    await anyio.sleep(1000)
                except anyio.get_cancelled_exc_class():
                    pass


async def test_a_block_that_fails_while_the_lock_is_lost_keeps_its_error_as_context() -> None:
    """Often it failed because the lock was lost; both are needed to understand it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(LockLost) as caught:
            async with Lock(client, PATH):
                cluster.expire(client.session_id)
                with anyio.CancelScope(shield=True):
                    await client.lost.wait()
                    await client.exists("/")
        assert isinstance(caught.value.__context__, SessionExpired)


async def test_a_block_that_never_awaited_is_told_at_its_end() -> None:
    """It could not be cancelled, and its time was over long before it ended."""
    async with client_of(FakeCluster(), session_timeout=10) as client:
        with pytest.raises(LockLost):
            async with Lock(client, PATH):
                stall(30)


async def test_the_blocks_own_error_comes_out_and_releases() -> None:
    """As it was, when the lock was held to the end."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(ZeroDivisionError):
            async with Lock(client, PATH):
                raise ZeroDivisionError
        group = ExceptionGroup("two", [ValueError(), KeyError()])
        with pytest.raises(ExceptionGroup) as caught:
            async with Lock(client, PATH):
                raise group
        assert caught.value is group
        assert places(cluster) == []


async def test_a_cancellation_from_outside_passes_through_and_releases() -> None:
    """A deadline around the block is the caller's business."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with anyio.move_on_after(5) as scope:
            async with Lock(client, PATH):
                await anyio.sleep(1000)
        assert scope.cancelled_caught
        assert places(cluster) == []


async def test_a_cancellation_from_outside_comes_before_the_loss() -> None:
    """Whoever cancelled waits for exactly that; an error in its place would look like a refusal."""
    async with client_of(FakeCluster()) as client:
        with anyio.CancelScope() as scope:
            async with Lock(client, PATH) as held:
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await client.delete(held.key)
                    await anyio.sleep(1)
                await anyio.sleep(1)
        assert scope.cancelled_caught


async def test_the_loss_is_noticed_while_everything_around_is_cancelled() -> None:
    """A block that finishes its work under a shield must still learn that the lock is gone."""
    cluster = FakeCluster()
    noticed = []
    async with anyio.create_task_group() as tasks, client_of(cluster) as client:
        with pytest.raises(LockLost):
            async with Lock(client, PATH) as held:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await client.delete(held.key)
                    await anyio.sleep(1)
                    noticed.append(client.state)
    assert noticed


async def test_a_release_without_a_server_is_bounded_and_goes_on_in_the_background() -> None:
    """The block must end; the key must go as soon as a server is there again."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=30) as client:
        async with Lock(client, PATH):
            cluster.down = {"a", "b", "c"}
            cluster.cut()
            await anyio.sleep(1)
            began = anyio.current_time()
        assert anyio.current_time() - began == pytest.approx(1, abs=0.01)
        assert len(places(cluster)) == 1
        cluster.down = set()
        await anyio.sleep(3)
        assert places(cluster) == []
        await hold(client, 0, [], timeout=1)


async def test_the_next_waiter_gets_a_higher_token_when_a_holder_dies() -> None:
    """And the dead holder's late write is refused by its guard."""
    cluster = FakeCluster()
    grants: list[Held] = []
    async with (
        client_of(cluster) as holder,
        client_of(cluster) as waiter,
        anyio.create_task_group() as tasks,
    ):
        with pytest.raises(LockLost):
            async with Lock(holder, PATH) as held:
                tasks.start_soon(hold, waiter, 1, grants)
                await settle()
                cluster.expire(holder.session_id)
                await anyio.sleep(2)
        await settle()
        assert grants[0].token > held.token
        await waiter.create("/resource")
        with pytest.raises(Fenced):
            await waiter.fenced_by(held).set("/resource", b"late")


async def test_a_waiter_whose_place_was_deleted_takes_a_new_one() -> None:
    """It waits on, at the end of the queue, and is not granted what it does not have."""
    cluster = FakeCluster()
    grants: list[Held] = []
    async with client_of(cluster) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(hold, client, 1, grants)
        await settle()
        tasks.start_soon(hold, client, 1, grants)
        await settle()
        await client.delete(f"{PATH}/{places(cluster)[-1]}")
        await anyio.sleep(5)
        assert len(grants) == 2
        assert grants[1].token > grants[0].token


async def test_a_second_place_is_left_as_cleanly_as_the_first() -> None:
    """Cancelled while the creation of the new key is in flight: the old key is not the one to take away."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client_of(cluster) as holder:
        with anyio.move_on_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold, holder, 3, [])
                await settle()
                tasks.start_soon(hold, client, 1, [])
                await settle()
                await holder.delete(f"{PATH}/{places(cluster)[-1]}")
                cluster.intercept = lambda connection, message: (
                    message[0] == CREATE and answer_never(connection, message)
                )
        assert cluster.tree.children(PATH) == []


def answer_never(connection: FakeConnection, message: list[Any]) -> bool:
    """Handle a request and let its answer be lost."""
    cluster = connection.cluster
    cluster.intercept = None
    cluster.losing = True
    connection._request(message)
    cluster.losing = False
    return True


async def test_the_lock_outlives_the_history() -> None:
    """Where the server has forgotten the events since a place was taken, the key itself is looked at."""
    cluster = FakeCluster()
    grants: list[Held] = []
    async with client_of(cluster) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(hold, client, 5, grants)
        await settle()
        tasks.start_soon(hold, client, 5, grants)
        await settle()
        cluster.index += 1000
        cluster.compacted = cluster.index
        cluster.cut()
        await anyio.sleep(8)
        assert len(grants) == 2
    assert places(cluster) == []


async def test_other_keys_in_the_directory_are_no_contenders() -> None:
    """Whatever somebody puts there must not block the lock."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        for name in ("0-note", "a-1-lock-", "a-1-lock-x", "a-1-read-0000000000", "config"):
            await client.create(f"{PATH}/{name}", parents=True)
        await hold(client, 0, [], timeout=1)


async def test_a_busy_server_is_asked_again() -> None:
    """With a pause; an acquisition without a deadline has time."""
    cluster = FakeCluster()
    refused = 0

    def refuse(connection: FakeConnection, message: list[Any]) -> bool:
        nonlocal refused
        if message[0] == CHILDREN and refused < 5:
            refused += 1
            connection.emit((message[1], -301, cluster.index, "busy"))
            return True
        return False

    async with client_of(cluster) as client:
        cluster.intercept = refuse
        await hold(client, 0, [])
    assert refused == 5


async def test_a_lock_in_use_is_not_for_a_second_holder() -> None:
    """It would wait for itself for ever; after its release it may be used again."""
    async with client_of(FakeCluster()) as client:
        lock = Lock(client, PATH)
        for _ in range(2):
            async with lock:
                with pytest.raises(RuntimeError, match="in use"):
                    await lock.__aenter__()


async def test_a_failed_acquisition_frees_the_lock_object() -> None:
    """It was not held, so it can be tried again."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client_of(cluster) as other:
        lock = Lock(client, PATH, timeout=1)
        async with Lock(other, PATH):
            with pytest.raises(LockTimeout):
                await lock.__aenter__()
        async with lock:
            pass


async def test_an_acquisition_ends_with_the_session() -> None:
    """There is no place to wait in any more."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client_of(cluster) as other, Lock(other, PATH):
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(SessionExpired):
                    await Lock(client, PATH).__aenter__()

            tasks.start_soon(wait)
            await settle()
            cluster.expire(client.session_id)
        with pytest.raises(SessionExpired):
            await Lock(client, PATH).__aenter__()


async def test_an_acquisition_whose_creation_is_in_doubt_ends_with_the_session() -> None:
    """The write is in doubt, the lock is not: the session is over, and every place with it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await settle()
        cluster.holding = True
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(SessionExpired):
                    await Lock(client, PATH).__aenter__()

            tasks.start_soon(wait)
            await settle()
            cluster.expire(client.session_id)


async def test_a_lock_at_an_illegal_path_says_so() -> None:
    """Not that it waited, and not for ever."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with pytest.raises(BadPath):
            await Lock(client, "locks").__aenter__()
        with pytest.raises(BadPath):
            await Lock(client, "/locks//db").__aenter__()
        assert DELETE not in cluster.ops()


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_timeout_is_positive(timeout: float) -> None:
    """Zero would never be granted anything; better to hear it than to wonder."""
    async with client_of(FakeCluster()) as client:
        with pytest.raises(BadArguments, match="timeout"):
            Lock(client, PATH, timeout=timeout)
