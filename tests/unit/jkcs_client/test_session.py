"""The driver: what a caller sees while connections break, servers fall silent and time passes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream

from jkcs_client import (
    Client,
    ClientClosed,
    NotConnected,
    OutcomeUnknown,
    RequestTimeout,
    SessionExpired,
    State,
    session,
)
from jkcs_client.address import Address
from jkcs_client.protocol import errors
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import CREATE, EXISTS, PING, SET, WATCH
from tests.support.fake_server import FakeCluster, FakeConnection, client_of
from tests.support.virtual_time import stall

pytestmark = pytest.mark.anyio


def writes(cluster: FakeCluster) -> list[tuple[int, int]]:
    """(op, serial) of every write received, in order."""
    return [(message[0], message[1]) for message in cluster.received if message[0] >= CREATE and len(message) > 4]


def free_slots(client: Client) -> int:
    return client._session._slots.value


async def until(state: State, client: Client) -> None:
    """Wait for a state; does not look at the clock, as the property would."""
    async for seen in client.states():
        if seen is state:
            return


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_a_write_whose_answer_was_lost_happens_once_and_is_answered() -> None:
    """The commonest failure of all, and the reason for serials."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.create("/a")
        async with anyio.create_task_group() as tasks:
            cluster.losing = True
            tasks.start_soon(client.set, "/a", b"x")
            await settle()
            cluster.losing = False
            cluster.cut()
        assert cluster.tree.keys["/a"].version == 1
        assert writes(cluster) == [(CREATE, 1), (SET, 2), (SET, 2)]
        assert (await client.get("/a"))[0] == b"x"


@pytest.mark.parametrize("farewell", [errors.Busy, errors.SessionExpired])
async def test_a_session_that_was_never_handed_over_is_not_missed_when_it_expires(
    farewell: type[errors.JkcsError],
) -> None:
    """The first connection ends with the hello's answer still in hand, even because the session has expired
    meanwhile: nobody has seen that session, and the next attempt must ask for another one."""
    cluster = FakeCluster()

    async def dial(address: Address) -> ByteStream:
        stream = await cluster.dial(address)
        if len(cluster.dialed) == 1:
            receive = stream.receive

            async def receive_and_break(max_bytes: int = 65536) -> bytes:
                data = await receive(max_bytes)
                cluster.expire(cluster.connection.session)
                return data + frame((pack((0, farewell.code, 1, "no more")),))

            stream.receive = receive_and_break  # type: ignore[method-assign]
        return stream

    async with client_of(cluster, dialer=dial) as client:
        await client.create("/a")
        hellos = [message for message in cluster.received if len(message) == 4 and message[2] > 1000]
        assert [message[0] for message in hellos] == [0, 0]


async def test_a_session_that_ends_in_the_breath_in_which_it_is_given_is_replaced() -> None:
    """The answer to the hello came so late that the session's end came right behind it: the client has not been
    open yet, so it can only ask for another one."""
    cluster = FakeCluster()

    async def dial(address: Address) -> ByteStream:
        stream = await cluster.dial(address)
        if len(cluster.dialed) == 1:
            receive = stream.receive

            async def receive_and_end(max_bytes: int = 65536) -> bytes:
                data = await receive(max_bytes)
                cluster.expire(cluster.connection.session)
                return data + frame((pack((0, errors.SessionExpired.code, 1, "session 1")),))

            stream.receive = receive_and_end  # type: ignore[method-assign]
        return stream

    async with client_of(cluster, dialer=dial) as client:
        await client.create("/a")
        hellos = [message for message in cluster.received if len(message) == 4 and message[2] > 1000]
        assert [message[0] for message in hellos] == [0, 0]


async def test_requests_in_flight_are_sent_again_in_order() -> None:
    """Twenty writes and a read survive two lost connections; each write is applied once, in its place."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.holding = True
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(client.create, f"/{number}")
            await settle()
            tasks.start_soon(client.children, "/")
            for _ in range(2):
                await settle()
                cluster.cut()
                await until(State.SUSPENDED, client)
                await until(State.CONNECTED, client)
            await settle()
            cluster.release()
        assert sorted(set(cluster.tree.children("/")) - {"zookeeper"}, key=int) == [str(number) for number in range(20)]
        assert cluster.tree.sessions[client.session_id].serial == 20
        assert free_slots(client) == session.OUTSTANDING_MAX


async def test_bytes_may_come_one_at_a_time() -> None:
    """The hello too."""
    cluster = FakeCluster()
    dial = cluster.dial

    async def dripping(address: Any) -> Any:
        stream = await dial(address)
        cluster.connection.stream.piece_bytes = 1
        return stream

    cluster.dial = dripping  # type: ignore[method-assign]
    async with client_of(cluster) as client:
        await client.create("/a", b"x")
        assert (await client.get("/a"))[0] == b"x"


async def test_a_call_waits_for_a_server_until_its_deadline() -> None:
    """SUSPENDED is no error; most outages are shorter than a deadline."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.down = {"a", "b", "c"}
        cluster.cut()
        await until(State.SUSPENDED, client)
        began = anyio.current_time()
        with pytest.raises(RequestTimeout, match=r"create within 2 s.*a:2181: .*refused") as caught:
            await client.create("/a", timeout=2)
        assert anyio.current_time() - began == pytest.approx(2, abs=0.01)
        assert caught.value.path == "/a"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.create, "/b")
            await anyio.sleep(1)
            cluster.down = set()
        assert cluster.tree.children("/") == ["b", "zookeeper"]
        assert writes(cluster) == [(CREATE, 1)], "a write that was never sent leaves no trace and no gap"


async def test_a_sent_write_without_an_answer_is_in_doubt_and_a_read_is_not() -> None:
    """Three kinds of errors, because the caller may do three different things."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.holding = True
        with pytest.raises(OutcomeUnknown, match=r"create sent, no answer within 0\.5 s"):
            await client.create("/a", timeout=0.5)
        with pytest.raises(RequestTimeout, match=r"exists within 0\.5 s"):
            await client.exists("/a", timeout=0.5)
        cluster.release()
        await client.create("/b")
        assert cluster.tree.children("/") == ["a", "b", "zookeeper"]
        assert writes(cluster) == [(CREATE, 1), (CREATE, 2)]
        assert free_slots(client) == session.OUTSTANDING_MAX


async def test_a_cancelled_write_that_was_sent_still_happens_once() -> None:
    """It keeps its serial; the next write waits behind it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.holding = True
        with anyio.move_on_after(1) as scope:
            await client.create("/a")
        assert scope.cancelled_caught
        cluster.cut()
        cluster.release()
        await client.create("/b")
        assert cluster.tree.children("/") == ["a", "b", "zookeeper"]
        assert free_slots(client) == session.OUTSTANDING_MAX


async def test_a_cancelled_read_gives_its_place_back_when_the_connection_is_lost() -> None:
    """It is not sent again, so no answer will ever free it."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        cluster.holding = True
        with anyio.move_on_after(1):
            await client.exists("/a")
        assert free_slots(client) == session.OUTSTANDING_MAX - 1
        cluster.cut()
        await until(State.SUSPENDED, client)
        await until(State.CONNECTED, client)
        cluster.release()
        assert free_slots(client) == session.OUTSTANDING_MAX


async def test_the_server_that_was_lost_is_asked_last() -> None:
    """It is the one most likely to fail again."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        for _ in range(10):
            cluster.cut()
            await until(State.SUSPENDED, client)
            await until(State.CONNECTED, client)
            assert cluster.dialed[-1] != cluster.dialed[-2]


async def test_cancelling_a_call_at_any_step_leaves_the_client_whole() -> None:
    """Wherever it was: before it was sent, in flight, or answered and not yet seen."""
    for steps in range(12):
        cluster = FakeCluster()
        async with client_of(cluster) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.create, "/a")
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await client.create("/b")
            assert cluster.tree.sessions[client.session_id].serial in (1, 2)
            assert free_slots(client) == session.OUTSTANDING_MAX


async def test_the_servers_word_ends_the_session_at_once() -> None:
    """Writes in flight are in doubt, everything else is told; and no new session is opened behind our back."""
    cluster = FakeCluster()
    outcomes: dict[str, BaseException] = {}

    async def keep(name: str, call: Any) -> None:
        try:
            await call
        except Exception as error:
            outcomes[name] = error

    async with client_of(cluster) as client:
        cluster.holding = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep, "write", client.create("/a"))
            tasks.start_soon(keep, "read", client.exists("/a"))
            tasks.start_soon(keep, "watch", client.changed("/a"))
            tasks.start_soon(client.lost.wait)
            await settle()
            cluster.expire(client.session_id)
        assert {name: type(error) for name, error in outcomes.items()} == {
            "write": OutcomeUnknown,
            "read": SessionExpired,
            "watch": SessionExpired,
        }
        assert client.state is State.EXPIRED
        dialed = len(cluster.dialed)
        await anyio.sleep(60)
        with pytest.raises(SessionExpired):
            await client.exists("/a")
        assert len(cluster.dialed) == dialed
    assert client.state is State.CLOSED


async def test_the_session_is_lost_by_the_clients_own_clock() -> None:
    """Nine tenths of the timeout after the sending of the last ping that was answered, whatever else goes on."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        await anyio.sleep(8)
        acknowledged = client._session.connection.acknowledged_at
        assert anyio.current_time() - acknowledged < 10 / 3
        cluster.down = {"a", "b", "c"}
        cluster.cut()
        await client.lost.wait()
        assert anyio.current_time() == pytest.approx(acknowledged + 9)
        assert client.state is State.EXPIRED
        with pytest.raises(SessionExpired, match="no ping was acknowledged for 9"):
            await client.exists("/a")


async def test_answers_to_other_requests_do_not_keep_the_session_alive() -> None:
    """Only a ping's answer says that the leader has heard of the session."""
    cluster = FakeCluster()
    cluster.intercept = lambda connection, message: message[0] == PING
    async with client_of(cluster, session_timeout=10) as client:
        opened = client._session._liveness.acknowledged_at
        with pytest.raises(SessionExpired):
            while True:
                await client.sync()
                await anyio.sleep(0.1)
        assert anyio.current_time() == pytest.approx(opened + 9, abs=0.2)


async def test_a_reattachment_alone_does_not_keep_the_session_alive() -> None:
    """The server that accepts it may be cut off from its leader."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        cluster.intercept = lambda connection, message: message[0] == PING
        opened = client._session._liveness.acknowledged_at
        with anyio.move_on_after(20):
            while not client.lost.is_set():
                cluster.cut()
                await anyio.sleep(0.5)
        assert anyio.current_time() == pytest.approx(opened + 9, abs=0.6)


async def test_a_stalled_event_loop_reports_the_loss_before_any_success() -> None:
    """A debugger, a swapped machine, a long computation: the clock went on, and the lock is somebody else's."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        await client.create("/a")
        stall(20)
        with pytest.raises(SessionExpired):
            await client.exists("/a")
        assert client.lost.is_set()


async def test_an_answer_that_came_before_a_stall_is_no_success_after_it() -> None:
    """The write is answered, but its caller runs only when the session is long gone."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        outcomes: list[BaseException] = []

        async def write() -> None:
            try:
                await client.create("/a")
            except OutcomeUnknown as error:
                outcomes.append(error)

        cluster.holding = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await settle()
            cluster.release()
            stall(20)
        assert "/a" in cluster.tree.keys
        assert len(outcomes) == 1
        assert client.state is State.EXPIRED


async def test_a_stall_between_an_answer_and_its_caller_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another task may block the loop in just that moment."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        await settle()
        wake = client._session._wake

        def wake_and_stall() -> None:
            wake()
            stall(20)

        monkeypatch.setattr(client._session, "_wake", wake_and_stall)
        with pytest.raises(OutcomeUnknown, match="answered after its session was lost"):
            await client.create("/a")
        monkeypatch.undo()
        assert client.lost.is_set()


async def test_the_state_is_never_better_than_the_clock() -> None:
    """`state` may be asked where nothing was awaited for long."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=10) as client:
        stall(20)
        assert client.state is State.EXPIRED
        assert client.lost.is_set()


async def test_a_silent_server_is_given_up_for_another() -> None:
    """It took the request and says nothing: its machine is gone, or it is cut off from the others."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=9) as client:
        silent = cluster.connection
        cluster.intercept = lambda connection, message: connection is silent
        began = anyio.current_time()
        await client.create("/a")
        assert anyio.current_time() - began < 1.5
        assert cluster.connection is not silent
        assert cluster.dialed[-1] != cluster.dialed[0]
        assert client.state is State.CONNECTED


async def test_a_write_refused_as_busy_is_sent_to_another_server() -> None:
    """Its serial is not used up, so nothing that came after it could be applied either."""
    cluster = FakeCluster()
    refusals = iter([errors.Busy, errors.NoLeader])

    def refuse(connection: FakeConnection, message: list[Any]) -> bool:
        error = next(refusals, None) if message[0] == SET else None
        if error is not None:
            connection.emit((message[1], error.code, cluster.index, "not now"))
        return error is not None

    async with client_of(cluster) as client:
        await client.create("/a")
        cluster.intercept = refuse
        assert (await client.set("/a", b"x")).version == 1
        assert writes(cluster) == [(CREATE, 1), (SET, 2), (SET, 2), (SET, 2)]


async def test_a_server_that_accepts_and_breaks_is_not_asked_in_a_tight_loop() -> None:
    """Waits grow until a connection has lasted."""
    cluster = FakeCluster()

    def cut(connection: FakeConnection, message: list[Any]) -> bool:
        connection.cut()
        return True

    async with client_of(cluster, session_timeout=60) as client:
        cluster.intercept = cut
        cluster.cut()
        await anyio.sleep(20)
        assert len(cluster.dialed) < 50
        cluster.intercept = None
        await client.create("/a", timeout=3)


async def test_all_servers_are_tried_and_the_failure_names_each() -> None:
    """Whoever reads the message must see which address is wrong."""
    cluster = FakeCluster()
    cluster.down = {"a", "c"}
    cluster.refuse_hello = errors.NoLeader("election")
    began = anyio.current_time()
    with pytest.raises(NotConnected) as caught:
        async with client_of(cluster, request_timeout=3):
            raise AssertionError("must not be reached")
    assert anyio.current_time() - began == pytest.approx(3)
    text = str(caught.value)
    assert "a:2181: a:2181 refused" in text
    assert "c:2181: c:2181 refused" in text
    assert "b:2181: the cluster has no leader at present: election" in text


async def test_one_good_server_is_enough() -> None:
    """Whichever it is."""
    for good in "abc":
        cluster = FakeCluster()
        cluster.down = {"a", "b", "c"} - {good}
        async with client_of(cluster) as client:
            assert (await client.status())["node"] == f"node-{good}"


async def test_a_server_that_accepts_and_never_answers_the_hello_is_passed_over() -> None:
    """A stopped process still has its sockets."""
    cluster = FakeCluster()
    cluster.deaf = True
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            async with client_of(cluster, session_timeout=9) as client:
                await client.create("/a")

        tasks.start_soon(work)
        await anyio.sleep(1)
        assert len(cluster.dialed) == 1
        cluster.deaf = False
    assert len(cluster.dialed) == 2


@pytest.mark.parametrize(("session_timeout", "seconds"), [(1, 2), (9, 3), (600, 5)])
async def test_an_attempt_to_open_a_session_has_its_own_limit(session_timeout: float, seconds: float) -> None:
    """Long enough for a log entry on a busy machine, and never so long that the other servers get no chance."""
    cluster = FakeCluster()
    cluster.deaf = True
    with pytest.raises(NotConnected, match=f"no answer within {seconds} s"):
        async with client_of(cluster, "jkcs://a", session_timeout=session_timeout, request_timeout=seconds + 0.5):
            pass


async def test_no_more_calls_are_held_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further callers wait their turn, and all get it."""
    monkeypatch.setattr(session, "OUTSTANDING_MAX", 8)
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await settle()
        cluster.holding = True
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(client.create, f"/{number}")
            await settle()
            assert client._session.connection.outstanding == 8
            cluster.release()
        assert len(cluster.tree.children("/")) == 30 + 1
        assert free_slots(client) == 8


async def test_callers_that_wait_for_a_place_learn_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them may wait for ever."""
    monkeypatch.setattr(session, "OUTSTANDING_MAX", 2)
    cluster = FakeCluster()
    ended = []

    async def call(client: Client, number: int) -> None:
        try:
            await client.exists(f"/{number}")
        except SessionExpired:
            ended.append(number)

    async with client_of(cluster) as client:
        cluster.holding = True
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(call, client, number)
            await settle()
            cluster.expire(client.session_id)
    assert sorted(ended) == list(range(10))


async def test_in_another_process_the_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork two processes would share one connection and one session."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        with monkeypatch.context() as patch:
            patch.setattr(session.os, "getpid", lambda: -1)
            with pytest.raises(ClientClosed, match="after a fork"):
                await client.exists("/a")
        assert await client.exists("/a") is None


async def test_states_are_told_in_order() -> None:
    """Each transition, none skipped, to the end."""
    cluster = FakeCluster()
    seen: list[State] = []
    async with anyio.create_task_group() as tasks, client_of(cluster) as client:

        async def listen() -> None:
            seen.extend([state async for state in client.states()])

        tasks.start_soon(listen)
        await settle()
        cluster.cut()
        await until(State.SUSPENDED, client)
        await until(State.CONNECTED, client)
        await settle()
        cluster.expire(client.session_id)
        await client.lost.wait()
    assert seen == [State.CONNECTED, State.SUSPENDED, State.CONNECTED, State.EXPIRED, State.CLOSED]


async def test_closing_ends_the_session_and_its_ephemerals() -> None:
    """Nobody should have to wait for a timeout after an orderly end."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        await client.create("/e", ephemeral=True)
        assert cluster.tree.children("/") == ["e", "zookeeper"]
    assert cluster.tree.children("/") == ["zookeeper"]
    assert cluster.tree.sessions == {}
    with pytest.raises(ClientClosed):
        await client.exists("/e")


@pytest.mark.parametrize("trouble", ["down", "silent"])
async def test_closing_never_hangs(trouble: str) -> None:
    """Leaving the block must not depend on a server."""
    cluster = FakeCluster()
    async with client_of(cluster) as client:
        if trouble == "down":
            cluster.down = {"a", "b", "c"}
            cluster.cut()
            await until(State.SUSPENDED, client)
        else:
            cluster.holding = True
        began = anyio.current_time()
    assert anyio.current_time() - began <= session.CLOSE_TIMEOUT + 0.01
    assert client.state is State.CLOSED


async def test_closing_by_cancellation_still_tells_the_server() -> None:
    """A deadline around the whole block is an ordinary way to leave it."""
    cluster = FakeCluster()
    with anyio.move_on_after(1) as scope:
        async with client_of(cluster) as client:
            await client.create("/e", ephemeral=True)
            await anyio.sleep(60)
    assert scope.cancelled_caught
    assert cluster.tree.sessions == {}


async def test_without_a_session_a_client_reads_and_outlives_any_silence() -> None:
    """For tools that only look: they leave no session behind."""
    cluster = FakeCluster()
    async with client_of(cluster, session_timeout=0) as client:
        assert client.session_id == 0
        assert await client.exists("/") is not None
        cluster.down = {"a", "b", "c"}
        cluster.cut()
        await anyio.sleep(600)
        cluster.down = set()
        assert await client.exists("/") is not None
    assert cluster.tree.sessions == {}


async def test_the_servers_timeout_is_the_one_that_counts() -> None:
    """It was asked for 60 s, and gave 6."""
    cluster = FakeCluster()
    cluster.timeout_ms = 6000
    async with client_of(cluster, session_timeout=60) as client:
        opened = client._session._liveness.acknowledged_at
        cluster.down = {"a", "b", "c"}
        cluster.cut()
        await client.lost.wait()
        assert anyio.current_time() == pytest.approx(opened + 5.4, abs=0.1)


@pytest.mark.parametrize("timeout", [-1, 0.5, 601])
async def test_a_session_timeout_out_of_range_is_refused(timeout: float) -> None:
    """Before anything is sent."""
    with pytest.raises(errors.BadArguments, match="session_timeout"):
        async with client_of(FakeCluster(), session_timeout=timeout):
            pass


async def test_a_watch_in_progress_is_registered_first_on_the_next_server() -> None:
    """Then no read can show a state whose event is still to come."""
    cluster = FakeCluster()
    async with client_of(cluster) as client, client.watch("/a") as events:
        cluster.holding = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.exists, "/a")
            await settle()
            cluster.received.clear()
            cluster.cut()
            await until(State.SUSPENDED, client)
            await until(State.CONNECTED, client)
            await settle()
            cluster.release()
        ops = [message[0] for message in cluster.received[1:]]
        assert ops[0] == WATCH
        assert sorted(ops[1:3]) == [EXISTS, PING]
        await client.create("/a")
        assert (await anext(events)).path == "/a"
