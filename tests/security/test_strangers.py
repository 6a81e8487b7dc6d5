"""What a stranger can do to a real node over a real socket: cost it little, and the client beside him nothing.

Each test has a witness, a client with a session and an ephemeral key, that works all the while. Deadlines and limits
are shortened where the real ones would take long; what is waited for is a fact, never a time.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from jkcs_client import Client
from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK, BadArguments, ProtocolError
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import (
    CHECK,
    GET,
    LOCAL,
    MULTI,
    PATH_BYTES_MAX,
    PREFACE,
    WATCH,
    WATCHES_PER_CONNECTION_MAX,
    CreateFlag,
    WatchMode,
)
from jkcs_server import Node, NodeConfig
from jkcs_server.serving import endpoint, requests
from tests.integration.test_bad_input import HELLO, Raw, raw
from tests.support import jute_client as jute
from tests.support.jute_client import Wire

pytestmark = pytest.mark.asyncio

IDLE = 1000
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """A thousand connections have two thousand ends in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * IDLE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Scene:
    """The node, where it is, and who watches."""

    def __init__(self, node: Node, witness: Client) -> None:
        assert node.client_address is not None and node._server is not None
        self.where = node.client_address
        self.requests = node._server.requests
        self.machine = node._server.machine
        self.witness = witness

    async def until(self, fact: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not fact():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"never came true: {what}") from None

    async def turn(self) -> None:
        """Until the node has looked around once more."""
        now = self.requests.turn
        await self.until(lambda: self.requests.turn > now, "the node looks around")

    async def alone(self) -> None:
        """Until no connection is left but that of the witness."""
        await self.until(lambda: len(self.requests.connections) == 1 and not self.requests.undecided, "strangers left")


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """Raises when the witness was kept waiting, or lost its session or a key."""
    config = NodeConfig(directory, "n1", "n1=127.0.0.1:0", listen="127.0.0.1:0", fsync=False, session_timeout_min=0.1)
    stop = asyncio.Event()

    async def work(client: Client) -> int:
        count = 0
        while not stop.is_set():
            async with asyncio.timeout(PATIENCE):
                await client.set("/witness", b"%d" % count)
                assert (await client.get("/witness"))[0] == b"%d" % count
            count += 1
        return count

    async with Node(config) as node, node.client(session_timeout=PATIENCE) as client:
        await client.create("/witness", b"", ephemeral=True)
        session = client.session_id
        task = asyncio.create_task(work(client))
        try:
            yield Scene(node, client)
        finally:
            stop.set()
            count = await task
        assert count > 0 and client.session_id == session
        assert await client.exists("/witness") is not None


# Connections that do nothing.


async def test_a_thousand_connections_that_say_nothing_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2020-7219. More than there may be clients: they are not counted as such before they say what they are."""
    async with scene(tmp_path) as at:
        at.requests._connections_max = IDLE // 2
        idle = [await asyncio.open_connection(*at.where) for _ in range(IDLE)]
        await at.until(lambda: len(at.requests.undecided) == IDLE, "all have come")
        async with raw_at(at) as client:
            assert await client.ask(GET, -1, "/witness", LOCAL)
        with_session = await asyncio.to_thread(served, at.where)
        assert with_session
        monkeypatch.setattr(requests, "HELLO_TURNS", 0)
        for reader, writer in idle:
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b"", "closed without a word when its time was over"
            writer.close()
        await at.alone()


async def test_a_crowd_beyond_all_limits_is_closed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an end to patience, too; what was let in before goes on."""
    monkeypatch.setattr(requests, "UNDECIDED_MAX", 10)
    async with scene(tmp_path) as at:
        at.requests._connections_max = 5
        idle = [await asyncio.open_connection(*at.where) for _ in range(14)]
        await at.until(lambda: len(at.requests.undecided) == 14, "all have come")
        for _ in range(50):
            reader, writer = await asyncio.open_connection(*at.where)
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
            writer.close()
        for _, writer in idle:
            writer.close()
        await at.alone()


@pytest.mark.parametrize("said", [b"\0", jute.connect()[:20], PREFACE, (PREFACE + HELLO)[:12], b"JK", b"ruo"])
async def test_who_stops_in_the_middle_of_his_greeting_is_closed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """He would hold one of the places of clients for ever."""
    monkeypatch.setattr(requests, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(requests, "HELLO_TURNS", 3)
    async with scene(tmp_path) as at, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(*at.where)
        writer.write(said)
        await reader.read()
        writer.close()
        await at.alone()


@pytest.mark.parametrize("greeting", [jute.connect(), PREFACE + HELLO])
async def test_a_greeting_of_a_byte_at_a_time_has_no_more_time_than_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    """Each byte is a sign of life only from a client that has introduced itself."""
    monkeypatch.setattr(requests, "TURN_SECONDS", 0.02)
    monkeypatch.setattr(requests, "HELLO_TURNS", 5)
    assert len(greeting) > 10
    async with scene(tmp_path) as at:
        reader, writer = await asyncio.open_connection(*at.where)
        closed = asyncio.create_task(reader.read())
        sent = 0
        while not closed.done() and sent < len(greeting):
            with suppress(ConnectionError):
                writer.write(greeting[sent : sent + 1])
                await writer.drain()
            sent += 1
            await at.turn()
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                await closed
        assert sent < len(greeting) and len(at.machine.sessions) == 1
        writer.close()
        await at.alone()


@pytest.mark.parametrize("protocol", ["zookeeper", "native"])
async def test_a_request_of_a_byte_at_a_time_keeps_no_session_alive(tmp_path: Path, protocol: str) -> None:
    """Only a request that is whole is a sign of life of its session."""
    async with scene(tmp_path) as at:
        if protocol == "zookeeper":
            greeting, request = jute.connect(timeout_ms=100), jute.request(1, zk.SYNC, jute.text("/" + "x" * 4000))
        else:
            greeting = PREFACE + frame([pack([0, b"", 100, 0])])
            request = frame([pack([GET, -1, "/" + "x" * 4000, LOCAL])])
        reader, writer = await asyncio.open_connection(*at.where)
        writer.write(greeting)
        await at.until(lambda: len(at.machine.sessions) == 2, "the session is there")
        closed = asyncio.create_task(reader.read())
        for byte in request:
            if closed.done():
                break
            with suppress(ConnectionError):
                writer.write(bytes([byte]))
                await writer.drain()
            await asyncio.wait([closed], timeout=0.01)
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE):
                await closed
        writer.close()
        await at.until(lambda: len(at.machine.sessions) == 1, "the session has expired")
        await at.alone()


# What is too large, too long, too many.


def served(where: tuple[str, int]) -> bool:
    with Wire(where) as client:
        return client.call(zk.EXISTS, jute.read("/")).error == OK


@asynccontextmanager
async def raw_at(at: Scene) -> AsyncIterator[Raw]:
    """A native client with a session, its hello answered."""

    class Where:
        client_address = at.where

    async with raw(Where, PREFACE, HELLO) as client:  # type: ignore[arg-type]  # it looks at nothing else
        hello = await client.next()
        assert hello is not None and hello[0] == OK
        yield client


@pytest.mark.parametrize("length", [-1, -(2**31), 0, 7, zk.FRAME_BYTES_MAX + 1, 2**31 - 1])
async def test_a_length_that_cannot_be_ends_a_zookeeper_connection(tmp_path: Path, length: int) -> None:
    """Before anything is kept for it; in the greeting and behind it."""

    def work(where: tuple[str, int]) -> None:
        with Wire(where) as client:
            client.send(jute.INT.pack(length) + b"x" * 100)
            assert client.is_closed()
        with Wire(where, b"") as client:
            client.send(jute.INT.pack(length) + b"x" * 100)
            assert length == 7 or client.is_closed()

    async with scene(tmp_path) as at:
        await asyncio.to_thread(work, at.where)
        await at.alone()


@pytest.mark.parametrize("length", [0, 1 << 31, (1 << 32) - 1, (8 << 20) + 1])
async def test_a_length_that_cannot_be_ends_a_native_connection(tmp_path: Path, length: int) -> None:
    async with scene(tmp_path) as at:
        async with raw_at(at) as client:
            client.writer.write(length.to_bytes(4, "big") + b"x" * 100)
            farewell = await client.next()
            assert farewell is not None and farewell[:2] == [0, ProtocolError.code]
            assert await client.next() is None
        await at.alone()


async def test_a_conversation_cut_anywhere_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the key that was being made, nor a connection."""

    def work(where: tuple[str, int]) -> None:
        talks = (
            (jute.connect(), jute.request(1, zk.CREATE, jute.create("/half", b"x"))),
            (PREFACE + HELLO, frame([pack([16, 1, 0, "/half", b"x", 0])])),
        )
        for greeting, request in talks:
            for size in range(len(greeting) + len(request)):
                with socket.create_connection(where, 10) as sock:
                    sock.sendall((greeting + request)[:size])

    async with scene(tmp_path) as at:
        await asyncio.to_thread(work, at.where)
        await at.alone()
        assert await at.witness.exists("/half") is None


async def test_a_multi_of_a_million_operations_is_refused_whole(tmp_path: Path) -> None:
    """By its length in ZooKeeper's protocol, by its count in ours."""

    def work(where: tuple[str, int]) -> None:
        step = zk.CHECK, jute.check("/")
        body = jute.multi(*[step] * 1000)[:-9] * 1000
        with Wire(where) as client, suppress(ConnectionError):
            client.send(client.client.request(zk.MULTI, body))
            assert client.is_closed()

    async with scene(tmp_path) as at:
        await asyncio.to_thread(work, at.where)
        async with raw_at(at) as client:
            step = pack([CHECK, "/", -1])
            head = b"\x94" + pack(MULTI) + pack(1) + pack(0) + b"\xdd" + (10**6).to_bytes(4, "big")
            client.writer.write(frame([head + step * 10**6]))
            farewell = await client.next()
            assert farewell is not None and farewell[:2] == [0, ProtocolError.code]
        await at.alone()


async def test_counts_of_what_does_not_follow_are_refused_one_by_one(tmp_path: Path) -> None:
    """Nothing is made room for on the word of a stranger."""
    path = jute.text("/a")
    record = path + jute.buffer(b"")
    bad = [
        (zk.CREATE, record + jute.INT.pack(count) + b"\0" * 16) for count in (2**31 - 1, 2, -2, -(2**31), 0x10000000)
    ]
    bad += [(zk.SET_ACL, path + jute.INT.pack(2**31 - 1)), (zk.SET_WATCHES, bytes(8) + jute.INT.pack(2**31 - 1))]
    bad += [(zk.SET_WATCHES2, bytes(20) + jute.INT.pack(-7)), (zk.CREATE, jute.INT.pack(2**31 - 1))]
    bad += [(zk.CREATE, path + jute.INT.pack(2**31 - 1)), (zk.CREATE, jute.INT.pack(-3)), (zk.MULTI, b"\0\0\0\x0e")]
    names = [b"/\xff", b"/\xed\xa0\x80", b"/\xc0\xaf", b"/\xf8\x88\x80\x80\x80", b"/\xe2\x28\xa1"]
    bad += [(zk.GET_DATA, jute.buffer(name) + b"\0") for name in names]
    bad += [(zk.CREATE, jute.buffer(name) + jute.create("")[4:]) for name in names]

    def work(where: tuple[str, int]) -> None:
        with Wire(where) as client:
            for op, body in bad:
                assert client.call(op, body).error == zk.MARSHALLING_ERROR, (op, body)
            assert client.call(zk.EXISTS, jute.read("/")).error == OK

    async with scene(tmp_path) as at:
        keys = len(at.machine.tree)
        await asyncio.to_thread(work, at.where)
        assert len(at.machine.tree) == keys


async def test_native_text_that_is_none_ends_its_connection(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        async with raw_at(at) as client:
            client.writer.write(frame([b"\x94\x01\xff\xa2/\xff\x01"]))
            farewell = await client.next()
            assert farewell is not None and farewell[:2] == [0, ProtocolError.code]
        await at.alone()


async def test_paths_are_as_deep_as_their_bytes_allow_and_no_deeper(tmp_path: Path) -> None:
    """Two thousand levels: nothing here descends by calling itself."""
    deepest = "/a" * (PATH_BYTES_MAX // 2)

    def work(where: tuple[str, int]) -> None:
        with Wire(where) as client:
            assert client.call(zk.ADD_WATCH, jute.numbered("/", zk.WATCH_RECURSIVE)).error == OK
            assert client.call(zk.GET_ALL_CHILDREN_NUMBER, jute.text("/a")).value == PATH_BYTES_MAX // 2 - 1
            assert client.call(zk.SET_DATA, jute.set_data(deepest, b"1")).error == OK
            assert [event.path for event in client.events if event.path != "/witness"] == [deepest]
            assert client.call(zk.CREATE, jute.create(deepest + "/a")).error != OK
            assert client.call(zk.EXISTS, jute.read(deepest + "/a")).error == zk.NO_NODE
            assert client.call(zk.ADD_WATCH, jute.numbered("/a" * 10_000, 1)).error == zk.BAD_ARGUMENTS

    async with scene(tmp_path) as at:
        async with raw_at(at) as client:
            made = await client.ask(16, 1, 0, deepest, b"", int(CreateFlag.PARENTS))
            assert made[1] == OK
            refused = await client.ask(16, 2, 1, deepest + "/a", b"", int(CreateFlag.PARENTS))
            assert refused[1] != OK
        await asyncio.to_thread(work, at.where)


async def test_one_watch_too_many_is_refused_and_all_go_with_their_connection(tmp_path: Path) -> None:
    """A million of them are ten clients'."""

    def zookeeper_client(where: tuple[str, int]) -> None:
        paths = [f"/{number:x}" for number in range(WATCHES_PER_CONNECTION_MAX)]
        with Wire(where, seconds=PATIENCE) as client:
            for _ in range(2):  # what is there already is not counted twice
                answer = client.call(zk.SET_WATCHES2, jute.set_watches(0, [], paths, [], [], []))
                assert answer.error == OK
            for op, body in (
                (zk.ADD_WATCH, jute.numbered("/one/more", zk.WATCH_RECURSIVE)),
                (zk.EXISTS, jute.read("/one/more", watch=True)),
                (zk.SET_WATCHES, jute.set_watches(0, [], ["/one/more"], [])),
            ):
                assert client.call(op, body).error == zk.BAD_ARGUMENTS

    async with scene(tmp_path) as at:
        await asyncio.to_thread(zookeeper_client, at.where)
        await at.alone()
        assert at.requests.hub.count == 0
        async with raw_at(at) as client:
            mode = int(WatchMode.ONCE)
            for start in range(0, WATCHES_PER_CONNECTION_MAX, 5000):
                numbers = range(start, start + 5000)
                wanted = [pack([WATCH, -1, number + 1, f"/{number:x}", mode, 0]) for number in numbers]
                client.writer.write(frame(wanted))
                for _ in numbers:
                    answer = await client.next()
                    assert answer is not None and answer[1] == OK
            over = await client.ask(WATCH, -1, WATCHES_PER_CONNECTION_MAX + 1, "/one/more", mode, 0)
            assert over[1] == BadArguments.code
        await at.alone()
        assert at.requests.hub.count == 0


# Those who do not read.


def deaf(where: tuple[str, int], *said: bytes) -> socket.socket:
    """A client that takes no more than a few bytes of what it is sent."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE)
    sock.connect(where)
    for piece in said:
        sock.sendall(piece)
    return sock


@pytest.mark.parametrize("protocol", ["zookeeper", "native"])
async def test_a_watcher_that_never_reads_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """What waits for him is bounded, and then he is closed; he will see the gap when he comes back."""
    monkeypatch.setattr(endpoint, "OUTGOING_BYTES_MAX", 1 << 20)
    path = "/" + "x" * 4000

    def work(where: tuple[str, int]) -> None:
        if protocol == "zookeeper":
            watch = jute.connect(), jute.request(1, zk.ADD_WATCH, jute.numbered("/", zk.WATCH_RECURSIVE))
        else:
            watch = PREFACE + HELLO, frame([pack([WATCH, -1, 1, "/", int(WatchMode.RECURSIVE), 0])])
        with deaf(where, *watch), Wire(where, seconds=PATIENCE) as writer:
            assert writer.call(zk.CREATE, jute.create(path)).error == OK
            step = zk.SET_DATA, jute.set_data(path, b"")
            for _ in range(200):
                assert writer.call(zk.MULTI, jute.multi(*[step] * 200)).error == OK
                if victim_is_gone():
                    return
        raise AssertionError("still there")

    async with scene(tmp_path) as at:

        def victim_is_gone() -> bool:
            return at.requests.hub.count == 0

        await asyncio.to_thread(work, at.where)
        await at.alone()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_long_list_of_children_is_not_made_for_who_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    """A request of twenty bytes, an answer of a megabyte, five hundred times; by one who stays, and one who is gone."""
    monkeypatch.setattr(endpoint, "OUTGOING_BYTES_MAX", 4 << 20)
    wide, name = 5000, "y" * 200

    def prepare(where: tuple[str, int]) -> None:
        with Wire(where, seconds=PATIENCE) as client:
            assert client.call(zk.CREATE, jute.create("/wide")).error == OK
            for start in range(0, wide, 1000):
                steps = [(zk.CREATE, jute.create(f"/wide/{name}{number}")) for number in range(start, start + 1000)]
                assert client.call(zk.MULTI, jute.multi(*steps)).error == OK
            assert len(client.call(zk.GET_CHILDREN, jute.read("/wide")).value) == wide

    def ask(where: tuple[str, int]) -> socket.socket:
        request = b"".join(jute.request(xid, zk.GET_CHILDREN, jute.read("/wide")) for xid in range(1, 501))
        victim = deaf(where, jute.connect(), request)
        if leaves:
            victim.recv(1000)
            victim.close()  # with much unread: he is gone while his answers are made
        return victim

    async with scene(tmp_path) as at:
        await asyncio.to_thread(prepare, at.where)
        await at.alone()
        before = at.requests.departed.sent
        victim = await asyncio.to_thread(ask, at.where)
        await at.until(lambda: at.requests.departed.sent > before, "he is gone")
        assert at.requests.departed.sent - before < 50
        victim.close()
        await at.alone()


# Who comes from elsewhere.


async def test_who_has_seen_what_is_not_here_is_closed_without_a_word(tmp_path: Path) -> None:
    """He belongs to another cluster, or this one has lost something: he must not go back in time in silence."""

    def work(where: tuple[str, int]) -> None:
        for seen in (2**62, 2**63 - 1, 10**6):
            with Wire(where, jute.connect(seen=seen)) as client:
                assert client.client.greeting is None and client.is_closed()
        with Wire(where, jute.connect(seen=-(2**63))) as client:
            assert client.client.greeting is not None

    async with scene(tmp_path) as at:
        sessions = len(at.machine.sessions)
        await asyncio.to_thread(work, at.where)
        assert len(at.machine.sessions) == sessions + 1


async def test_the_password_of_a_session_that_is_over_opens_nothing(tmp_path: Path) -> None:
    def work(where: tuple[str, int]) -> None:
        with Wire(where) as client:
            greeting = client.client.greeting
            assert greeting is not None
            assert client.call(zk.CLOSE_SESSION).error == OK
        with Wire(where, jute.connect(session=greeting.session, password=greeting.password)) as late:
            assert late.client.greeting == jute.Greeting(0, 0, bytes(16), False)
            assert late.is_closed()

    async with scene(tmp_path) as at:
        await asyncio.to_thread(work, at.where)
        assert len(at.machine.sessions) == 1
