"""A server of one for ZooKeeper connections: proposals are applied, and rounds confirmed, when the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jkcs_client.protocol.framing import pack
from jkcs_server.serving.arrivals import Arrivals
from jkcs_server.serving.audit import Audit
from jkcs_server.serving.connection import Connection
from jkcs_server.serving.watches import WatchHub
from jkcs_server.serving.zookeeper import ZooKeeperConnection
from jkcs_server.tree.acl import Acl, Ids
from jkcs_server.tree.commands import EXPIRE
from jkcs_server.tree.machine import TreeMachine
from journal.record import make_entry
from journal.values import EntryKind
from tests.support.jute_client import Answer, Event, JuteClient, connect

TERM = 1
STAMP = 1000


class Desk:
    """One server; several connections may share it."""

    node = "n1"

    def __init__(self) -> None:
        self.hub = WatchHub(1000)
        self.machine = TreeMachine(self)
        self.confirmed_round = 0
        self.open_round = 1
        self.turn = 0
        self.time = 0.0
        self.audit = Audit(self.now, enabled=True)
        self.super_digest: str | None = None
        self.overloaded = False
        self.read_only: str | None = None
        self.proposed: list[bytes] = []
        self.touched: list[int] = []
        self.administrating: list[tuple[str, dict[str, Any], Callable[[int, Any], None]]] = []
        self.connections: dict[Connection, None] = {}
        self._random = 0
        self.arrivals = Arrivals(self, self._entropy, timeout_ms_min=1_000, timeout_ms_max=60_000)

    def _entropy(self, count: int) -> bytes:
        self._random += 1
        return self._random.to_bytes(count, "big")

    # What connections call.

    def now(self) -> float:
        return self.time

    def open_session(self, connection: Connection, timeout_ms: int) -> None:
        self.arrivals.open(connection, timeout_ms)

    def attach(self, connection: Connection, session: int, password: bytes) -> None:
        self.arrivals.attach(connection, session, password)

    def move(self, connection: Connection, session: int) -> None:
        self.arrivals.move(connection, session)

    def join_round(self, connection: Connection) -> int:
        return self.open_round

    def next_round(self) -> int:
        return self.open_round

    def touch(self, session: int) -> None:
        self.touched.append(session)

    def propose(self, command: bytes) -> None:
        self.proposed.append(command)

    def has_output(self, connection: Connection) -> None:
        pass

    def gone(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self.arrivals.gone(connection)
        self.hub.remove_all(connection)
        if self.machine.owners.get(connection.session) is connection:
            del self.machine.owners[connection.session]

    def status(self) -> dict[str, Any]:
        return {}

    def administrate(self, name: str, arguments: dict[str, Any], local: bool, done: Callable[[int, Any], None]) -> None:
        self.administrating.append((name, arguments, done))

    # The tree's hooks.

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        self.hub.on_event(kind, path, index, acl, parent_acl)

    def on_opened(self, password: bytes, session_id: int, index: int) -> None:
        self.arrivals.on_opened(session_id, password)

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        self.arrivals.on_moved(session_id, nonce)

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        self.arrivals.on_ended(session_id, index, expired)

    # What the test says.

    def apply(self) -> None:
        """Everything proposed comes out of the log in one entry."""
        commands, self.proposed = self.proposed, []
        if commands:
            first = self.machine.applied + 1
            payload = b"".join(commands)
            self.machine.apply(make_entry(first, TERM, STAMP, EntryKind.COMMANDS, payload, 0, count=len(commands)))
        self.flush()

    def confirm(self) -> None:
        """The read round is."""
        self.confirmed_round = self.open_round
        self.open_round += 1
        for connection in list(self.connections):
            connection.lane.drain(self.confirmed_round)
        self.flush()

    def flush(self) -> None:
        for connection in list(self.connections):
            connection.flush()

    def expire(self, session: int) -> None:
        self.propose(pack((EXPIRE, session, 0, 0, TERM)))
        self.apply()


class Client:
    """The client's end: what was written to it, decoded."""

    def __init__(self, desk: Desk, address: str = "192.0.2.1", more: Ids = ()) -> None:
        self.desk = desk
        self.closed = False
        self.paused = False
        self.stuck_bytes = 0
        self.deaf = False
        """It takes nothing of what it is sent."""
        self.on_write: Callable[[bytes], None] = lambda data: None
        self.jute = JuteClient()
        self._ids: Ids = (("ip", address), *more)
        self._got: list[Answer | Event] = []
        self.connection = ZooKeeperConnection(desk, self)
        desk.connections[self.connection] = None

    # The connection's sink.

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after it was closed"
        self.on_write(data)
        self.stuck_bytes += len(data) if self.deaf else 0
        if not self.deaf:
            self._got += self.jute.feed(data)

    def unsent(self) -> int:
        return self.stuck_bytes

    def close(self) -> None:
        self.closed = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def is_local(self) -> bool:
        return True

    def identities(self) -> Ids:
        return self._ids

    # The test's.

    def send(self, data: bytes) -> None:
        self.connection.receive(data)

    def ask(self, op: int, body: bytes = b"", xid: int | None = None) -> None:
        self.send(self.jute.request(op, body, xid))

    def take(self) -> list[Answer | Event]:
        got, self._got = self._got, []
        return got

    def call(self, op: int, body: bytes = b"", xid: int | None = None) -> Answer:
        """The answer, when everything proposed is applied and every round confirmed."""
        self.ask(op, body, xid)
        self.desk.apply()
        self.desk.confirm()
        *_, answer = [got for got in self._got if isinstance(got, Answer)]
        self._got.remove(answer)
        return answer

    def events(self) -> list[tuple[int, str]]:
        """Kind and path of those that came, which are taken."""
        found = [(got.kind, got.path) for got in self._got if isinstance(got, Event)]
        self._got = [got for got in self._got if not isinstance(got, Event)]
        return found


def connected(desk: Desk | None = None, address: str = "192.0.2.1", more: Ids = ()) -> tuple[Desk, Client]:
    """A client with a session."""
    desk = desk or Desk()
    client = Client(desk, address, more)
    client.send(connect())
    desk.apply()
    assert client.jute.greeting is not None
    return desk, client
