"""How connections come to their sessions: new ones through the log, those that come back after a look at it.

A client of the native protocol numbers its writes, so its connection may take its session over once a read round has
passed here. One of ZooKeeper's does not: its session is moved by a command, behind which nothing of its earlier
connection is applied. Called by `requests`, which owns the rounds and the replica.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from jkcs_client.protocol.errors import Busy, SessionExpired, SessionMoved, WrongPassword
from jkcs_client.protocol.framing import pack
from jkcs_client.protocol.messages import PASSWORD_BYTES
from jkcs_server.serving.connection import Connection
from jkcs_server.tree.commands import MOVE, OPEN
from jkcs_server.tree.machine import TreeMachine

ARRIVALS_MAX = 10_000
"""Sessions on their way through the log, of each kind."""
NONCE_BYTES = 16


class Server(Protocol):
    """What arrivals need of their server."""

    node: str
    machine: TreeMachine
    confirmed_round: int

    @property
    def overloaded(self) -> bool: ...

    def propose(self, command: bytes) -> None: ...

    def touch(self, session: int) -> None: ...

    def next_round(self) -> int: ...


class Arrivals:
    """The connections of one server that wait for their sessions."""

    def __init__(
        self, server: Server, entropy: Callable[[int], bytes], *, timeout_ms_min: int, timeout_ms_max: int
    ) -> None:
        """`entropy`: so many unguessable bytes."""
        self._server = server
        self._entropy = entropy
        self._timeout_ms_min = timeout_ms_min
        self._timeout_ms_max = timeout_ms_max
        self._opening: dict[bytes, tuple[Connection, int]] = {}
        """Sessions on their way through the log, by password; with the timeout asked for."""
        self._attaching: dict[Connection, tuple[int, int, bytes]] = {}
        """Sessions coming back: (round that must be confirmed, session, password)."""
        self._moving: dict[bytes, tuple[Connection, int]] = {}
        """Sessions whose move is on its way through the log, by nonce."""

    def open(self, connection: Connection, timeout_ms: int) -> None:
        server = self._server
        if server.overloaded or len(self._opening) >= ARRIVALS_MAX:
            connection.denied(Busy(f"{server.node}: too much waits for the cluster to take new sessions"))
            return
        password = self._entropy(PASSWORD_BYTES)
        timeout_ms = min(max(timeout_ms, self._timeout_ms_min), self._timeout_ms_max)
        self._opening[password] = (connection, timeout_ms)
        self._propose((password,), ())

    def attach(self, connection: Connection, session: int, password: bytes) -> None:
        self._server.touch(session)
        self._attaching[connection] = (self._server.next_round(), session, password)

    def move(self, connection: Connection, session: int) -> None:
        """The session exists, and the client has its password."""
        server = self._server
        if server.overloaded or len(self._moving) >= ARRIVALS_MAX:
            connection.denied(Busy(f"{server.node}: too much waits for the cluster to take sessions back"))
            return
        nonce = self._entropy(NONCE_BYTES)
        connection.nonce = nonce
        self._moving[nonce] = (connection, session)
        self._propose((), (nonce,))

    def gone(self, connection: Connection) -> None:
        """The connection is closed. Should its session still come out of the log, nobody will own it and it will
        expire."""
        self._attaching.pop(connection, None)
        if not connection.session and self._opening:
            self._opening = {key: value for key, value in self._opening.items() if value[0] is not connection}
        if not connection.session and self._moving:
            self._moving = {key: value for key, value in self._moving.items() if value[0] is not connection}

    def propose_again(self) -> None:
        """What is on its way may be lost."""
        self._propose(self._opening, self._moving)

    def _propose(self, passwords: Iterable[bytes], nonces: Iterable[bytes]) -> None:
        propose = self._server.propose
        for password in passwords:
            connection, timeout_ms = self._opening[password]
            propose(pack((OPEN, 0, 0, 0, password, timeout_ms, connection.ids)))
        for nonce in nonces:
            propose(pack((MOVE, self._moving[nonce][1], 0, 0, nonce)))

    def on_round(self) -> None:
        """A read round is confirmed."""
        due = [item for item in self._attaching.items() if item[1][0] <= self._server.confirmed_round]
        for connection, (_, session, password) in due:
            if self._attaching.pop(connection, None) is None:
                continue  # an earlier one of these closed it
            self._attach_now(connection, session, password)

    def _attach_now(self, connection: Connection, session_id: int, password: bytes) -> None:
        session = self._server.machine.sessions.get(session_id)
        if session is None:
            connection.denied(SessionExpired(f"session {session_id}"))
        elif not hmac.compare_digest(session.password, password):
            connection.denied(WrongPassword(f"session {session_id}"))
        else:
            self._hand_over(session_id, connection)

    def on_opened(self, session_id: int, password: bytes) -> None:
        connection, _ = self._opening.pop(password, (None, 0))
        if connection is not None:
            self._server.machine.owners[session_id] = connection
            session = self._server.machine.sessions[session_id]
            connection.attached(session_id, password, session.timeout_ms, 0, fresh=True)

    def on_moved(self, session_id: int, nonce: bytes) -> None:
        """A session's client is at one connection, here or elsewhere, and nowhere else any more."""
        connection, _ = self._moving.pop(nonce, (None, 0))
        owner = self.owner_of(session_id)
        if owner is not None and owner.nonce == nonce:
            # The command was proposed twice, and both were applied.
            owner.moved_again(self._server.machine.sessions[session_id].serial)
        else:
            self._hand_over(session_id, connection)

    def _hand_over(self, session_id: int, connection: Connection | None) -> None:
        """To a connection here, or to one elsewhere."""
        machine = self._server.machine
        before = self.owner_of(session_id)
        if before is not None:
            before.refuse(SessionMoved(f"session {session_id}"))
        if connection is not None:
            session = machine.sessions[session_id]
            machine.owners[session_id] = connection
            connection.attached(session_id, session.password, session.timeout_ms, session.serial, fresh=False)

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        owner = self.owner_of(session_id)
        if owner is not None:
            del self._server.machine.owners[session_id]
            owner.on_session_ended(index, expired=expired)
        for connection, session in list(self._moving.values()):
            if session == session_id:
                connection.denied(SessionExpired(f"session {session_id}"))

    def owner_of(self, session_id: int) -> Connection | None:
        """The connection here that owns a session."""
        return cast("Connection | None", self._server.machine.owners.get(session_id))
