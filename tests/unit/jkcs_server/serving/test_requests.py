"""What all connections of one server share, where no cluster is needed to see it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from jkcs_client.protocol.errors import Busy
from jkcs_client.protocol.framing import FrameDecoder, pack
from jkcs_client.protocol.messages import WatchMode
from jkcs_server.serving.connection import Connection, Sink
from jkcs_server.serving.requests import NOTE_TURNS, UNDECIDED_MAX, Requests
from journal.clock import Scheduler
from journal.replica import Replica


class Watcher:
    """A connection that is told of nothing."""

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        raise AssertionError((watch_id, kind, path, index))


class Socket:
    """A client's. What is written to it is kept."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None: ...

    def address(self) -> str:
        return "192.0.2.1:1024"

    def identities(self) -> tuple[tuple[str, str], ...]:
        return ()


def requests_on(replica: Any, applied: int, connections_max: int = 1) -> Requests:
    """The requests of a server whose tree came out of a snapshot at `applied`."""
    requests = Requests(
        "n1",
        cast("Scheduler", SimpleNamespace(time=lambda: 0.0)),
        bytes,
        history_events=10,
        timeout_ms_min=1,
        timeout_ms_max=1,
        connections_max=connections_max,
    )
    requests.machine.applied = applied
    requests.bind(cast("Replica", replica), dict, lambda error: None)
    return requests


def test_a_server_that_starts_from_a_snapshot_has_no_history_before_it() -> None:
    """A watch that follows on from an older index would miss events without a word: the answer must be COMPACTED."""
    requests = requests_on(SimpleNamespace(core=SimpleNamespace(idle=False)), applied=338)
    assert not requests.hub.add(Watcher(), 1, "/", WatchMode.RECURSIVE, 310)
    assert requests.hub.add(Watcher(), 1, "/", WatchMode.RECURSIVE, 338)


def test_a_session_is_not_kept_alive_by_rounds_that_never_end() -> None:
    """A node whose disk hangs begins its round again and again: a session that was heard of once must not be in
    all of them, or what a dead client held would never be free again."""
    requests = requests_on(SimpleNamespace(core=SimpleNamespace(idle=False)), applied=0)
    requests.touch(194)
    assert requests.on_read_start() == pack([194])
    requests.turn += NOTE_TURNS
    assert requests.on_read_start() == pack([194])
    requests.turn += 1
    assert requests.on_read_start() == b""
    requests.touch(194)
    assert requests.on_read_start() == pack([194])


def idle_requests(connections_max: int) -> Requests:
    return requests_on(SimpleNamespace(core=SimpleNamespace(idle=False)), applied=0, connections_max=connections_max)


@pytest.mark.parametrize("kind", ["native", "zookeeper"])
def test_as_many_clients_as_the_limit_says_are_served(kind: str) -> None:
    """Whatever they speak. The next one is refused, in words where its protocol has any, until one leaves."""
    requests = idle_requests(3)
    admitted = [requests.zookeeper(a_sink(Socket())), requests.native(a_sink(Socket()))]
    admit = requests.native if kind == "native" else requests.zookeeper
    admitted.append(admit(a_sink(Socket())))
    assert list(requests.connections) == admitted
    late = Socket()
    assert admit(a_sink(late)) is None
    if kind == "native":
        assert FrameDecoder().feed(late.written) == [[Busy.code, "n1 has 3 clients already"]]
    else:
        assert late.written == b""
    requests.gone(cast("Connection", admitted[0]))
    assert admit(a_sink(Socket())) is not None
    assert len(requests.connections) == 3


def test_a_full_server_still_listens_to_some_clients_so_as_to_refuse_them_in_their_words() -> None:
    """But not to any number: sockets are limited, and those of its clients come first."""
    requests = idle_requests(2)
    for _ in range(2):
        requests.native(a_sink(Socket()))
    undecided = [requests.accept(a_sink(Socket())) for _ in range(UNDECIDED_MAX)]
    assert None not in undecided
    assert requests.accept(a_sink(Socket())) is None
    assert undecided[0] is not None
    requests.went(undecided[0])
    assert requests.accept(a_sink(Socket())) is not None
    assert requests.accept(a_sink(Socket())) is None


def test_the_leader_spares_a_server_without_clients() -> None:
    """Nobody waits there for a commit; from the first client on somebody does."""
    core = SimpleNamespace(idle=False)
    requests = requests_on(SimpleNamespace(core=core), applied=0, connections_max=5)
    assert core.idle
    connections = [requests.native(a_sink(Socket())) for _ in range(2)]
    for connection in connections:
        assert not core.idle
        requests.gone(cast("Connection", connection))
    assert core.idle


def a_sink(socket: Socket) -> Sink:
    return cast("Sink", socket)
