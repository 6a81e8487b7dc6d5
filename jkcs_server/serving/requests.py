"""The way of all clients' requests through one server: propose, wait for a read round, answer.

Joins the connections (rules, one per client) to the replica. Nothing here is per request except handing
commands and rounds on: outcomes reach their connection straight from the tree's apply pass through
`TreeMachine.owners`, and leave when the pass ends.

Writes are never lost in silence: whatever is proposed stays in its connection's lane until its outcome is
applied, and is proposed again when the leader changes or nothing has moved for a while. The tree applies
each serial of a session once, so proposing twice is harmless (RELIABILITY 8, 49).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgpack

from jkcs_client.protocol.errors import Busy, DiskFull, JkcsError, SessionExpired, SessionMoved, WrongPassword
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import PASSWORD_BYTES
from jkcs_server.serving.admin import AdminDesk
from jkcs_server.serving.connection import Connection, Sink
from jkcs_server.serving.greeting import Undecided
from jkcs_server.serving.native import NativeConnection
from jkcs_server.serving.silence import Silence
from jkcs_server.serving.watches import WatchHub
from jkcs_server.serving.zookeeper import ZooKeeperConnection
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.commands import EXPIRE, MOVE, OPEN
from jkcs_server.tree.machine import TreeMachine
from journal.administration import Administration
from journal.clock import Handle, Scheduler
from journal.raft.messages import AdminReply, AdminRequest
from journal.raft.ready import Leadership, Role
from journal.replica import Replica
from journal.values import Configuration, Index, NodeId

logger = logging.getLogger("jkcs_server.requests")

OPENING_MAX = 10_000
"""Sessions on their way through the log."""
TURN_SECONDS = 0.25
"""How often silent sessions, stuck writes and idle connections are looked for."""
STUCK_TURNS = 8
"""A connection whose oldest write has not moved for so many turns proposes its writes again."""
NOTE_TURNS = 8
"""For so many turns the leader is told again of a session that was heard of once, while rounds get lost."""
HELLO_TURNS = 40
"""A connection without a session or greeting after so many turns is closed."""
UNDECIDED_MAX = 1000
"""Connections beyond `connections_max` that may still tell what they speak, so as to be refused in it."""
NONCE_BYTES = 16


class Requests:
    """The desk that one server's connections share; also the owner of its replica and the hooks of its tree."""

    def __init__(
        self,
        node: str,
        scheduler: Scheduler,
        entropy: Callable[[int], bytes],
        *,
        history_events: int,
        timeout_ms_min: int,
        timeout_ms_max: int,
        connections_max: int,
        super_digest: str | None = None,
    ) -> None:
        self.node = node
        self.hub = WatchHub(history_events)
        self.machine = TreeMachine(self)
        self.replica: Replica
        """Set by `bind`, before anything is called."""
        self.admin: AdminDesk
        """Set by `administrate_with`; so is ..."""
        self.administration: Administration
        """... the way to the leader."""
        self.on_status: Callable[[], dict[str, Any]]
        self.on_failure: Callable[[BaseException], None]
        self.on_word: Callable[[str], bytes | None] = lambda word: None
        """Answers ZooKeeper's questions of four letters; None when there is no such question."""
        self._scheduler = scheduler
        self._entropy = entropy
        self._timeout_ms_min = timeout_ms_min
        self._timeout_ms_max = timeout_ms_max
        self._connections_max = connections_max
        self.super_digest = super_digest

        self.turn = 0
        """Rises with every look around; connections note in it when they last moved."""
        self.connections: dict[Connection, None] = {}
        """Every open connection whose protocol is known, in the order in which they came."""
        self.undecided: dict[Undecided, None] = {}
        """The others."""
        self._opening: dict[bytes, tuple[Connection, int]] = {}
        """Sessions on their way through the log, by password; with the timeout asked for."""
        self._attaching: dict[Connection, tuple[int, int, bytes]] = {}
        """Sessions coming back: (round that must be confirmed, session, password)."""
        self._moving: dict[bytes, tuple[Connection, int]] = {}
        """Sessions whose move is on its way through the log, by nonce."""
        self._output: list[Connection] = []
        self._silence: Silence | None = None
        """Only while this node leads and serves."""
        self._known = (0, "")
        """The term and leader that the pending writes were last proposed to."""

        self.confirmed_round = 0
        self._open_round = 1
        """The round that reads of this moment join. Invariant: confirmed_round < _open_round."""
        self._started_round = 0
        self._round_waiters: dict[Connection, None] = {}
        self._touched: dict[int, int] = {}
        """Sessions to be told to the leader with the next round, and the turn in which they were heard of."""
        self._noted: dict[int, int] = {}
        """The same of the round under way, kept until it is confirmed, but not for ever."""
        self._following = asyncio.Event()
        """Set while this node does not lead."""
        self._timer: Handle | None = None
        self._stopped = False

    def bind(
        self,
        replica: Replica,
        on_status: Callable[[], dict[str, Any]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.replica = replica
        self.on_status = on_status
        self.on_failure = on_failure
        # What the snapshot holds that this server started from was told to nobody here: a watch from before it
        # must hear that, and not the silence.
        self.hub.reset(self.machine.applied)
        replica.core.idle = True

    def administrate_with(self, admin: AdminDesk, administration: Administration) -> None:
        """Where ADMIN requests go: those of clients, and those that come from other nodes."""
        self.admin = admin
        self.administration = administration

    def start(self) -> None:
        self._timer = self._scheduler.call_at(self._scheduler.time() + TURN_SECONDS, self._look_around)

    def stop(self) -> None:
        """Close every connection; their sessions live on at other servers."""
        self._stopped = True
        self.administration.stop()
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.close()
        for undecided in list(self.undecided):
            undecided.close()

    # Connections.

    def accept(self, sink: Sink) -> Undecided | None:
        """A new client; None when there are far too many."""
        if self._stopped or len(self.connections) + len(self.undecided) >= self._connections_max + UNDECIDED_MAX:
            return None
        undecided = Undecided(self, sink)
        self.undecided[undecided] = None
        return undecided

    def went(self, undecided: Undecided) -> None:
        self.undecided.pop(undecided, None)

    def native(self, sink: Sink) -> Connection | None:
        if len(self.connections) >= self._connections_max:
            error = Busy(f"{self.node} has {len(self.connections)} clients already")
            sink.write(frame([pack((error.code, error.detail))]))
            return None
        return self._admit(NativeConnection(self, sink))

    def zookeeper(self, sink: Sink) -> Connection | None:
        if len(self.connections) >= self._connections_max:
            return None
        return self._admit(ZooKeeperConnection(self, sink))

    def _admit(self, connection: Connection) -> Connection:
        self.connections[connection] = None
        self.replica.core.idle = False
        return connection

    def four_letter_word(self, word: str) -> bytes | None:
        return self.on_word(word)

    def now(self) -> float:
        return self._scheduler.time()

    def gone(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        if not self.connections:
            self.replica.core.idle = True
        self._attaching.pop(connection, None)
        self._round_waiters.pop(connection, None)
        self.hub.remove_all(connection)
        if not connection.session and self._opening:
            # Should its session still come out of the log, nobody will own it and it will expire.
            self._opening = {key: value for key, value in self._opening.items() if value[0] is not connection}
        if self._moving:
            self._moving = {key: value for key, value in self._moving.items() if value[0] is not connection}
        if self.machine.owners.get(connection.session) is connection:
            del self.machine.owners[connection.session]

    def has_output(self, connection: Connection) -> None:
        self._output.append(connection)

    # Sessions.

    def open_session(self, connection: Connection, timeout_ms: int) -> None:
        if self.overloaded or len(self._opening) >= OPENING_MAX:
            connection.denied(Busy(f"{self.node}: too much waits for the cluster to take new sessions"))
            return
        password = self._entropy(PASSWORD_BYTES)
        timeout_ms = min(max(timeout_ms, self._timeout_ms_min), self._timeout_ms_max)
        self._opening[password] = (connection, timeout_ms)
        self._propose_sessions_of((password,), ())

    def _propose_sessions_of(self, passwords: Iterable[bytes], nonces: Iterable[bytes]) -> None:
        """Send sessions on their way through the log, for the first time or again."""
        for password in passwords:
            connection, timeout_ms = self._opening[password]
            self.replica.propose(pack((OPEN, 0, 0, 0, password, timeout_ms, connection.ids)))
        for nonce in nonces:
            self.replica.propose(pack((MOVE, self._moving[nonce][1], 0, 0, nonce)))

    def move(self, connection: Connection, session: int) -> None:
        if self.overloaded or len(self._moving) >= OPENING_MAX:
            connection.denied(Busy(f"{self.node}: too much waits for the cluster to take sessions back"))
            return
        nonce = self._entropy(NONCE_BYTES)
        connection.nonce = nonce
        self._moving[nonce] = (connection, session)
        self._propose_sessions_of((), (nonce,))

    def attach(self, connection: Connection, session: int, password: bytes) -> None:
        self.touch(session)
        self._attaching[connection] = (self._next_round(), session, password)

    def _finish_attaching(self) -> None:
        due = [item for item in self._attaching.items() if item[1][0] <= self.confirmed_round]
        for connection, (_, session, password) in due:
            if self._attaching.pop(connection, None) is None:
                continue  # an earlier one of these closed it
            self._attach_now(connection, session, password)

    def _attach_now(self, connection: Connection, session_id: int, password: bytes) -> None:
        session = self.machine.sessions.get(session_id)
        if session is None:
            connection.denied(SessionExpired(f"session {session_id}"))
            return
        if not hmac.compare_digest(session.password, password):
            connection.denied(WrongPassword(f"session {session_id}"))
            return
        before = self._owner_of(session_id)
        if before is not None:
            before.refuse(SessionMoved(f"session {session_id}"))
        self.machine.owners[session_id] = connection
        connection.attached(session_id, password, session.timeout_ms, session.serial, fresh=False)

    def touch(self, session: int) -> None:
        self._touched[session] = self.turn

    # What the tree tells while it applies (tree.machine.Hooks).

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        self.hub.on_event(kind, path, index, acl, parent_acl)

    def on_opened(self, password: bytes, session_id: int, index: int) -> None:
        session = self.machine.sessions[session_id]
        if self._silence is not None:
            self._silence.opened(session_id, session.timeout_ms / 1000, self._scheduler.time())
        connection, _ = self._opening.pop(password, (None, 0))
        if connection is not None and not connection.closed:
            self.machine.owners[session_id] = connection
            connection.attached(session_id, password, session.timeout_ms, 0, fresh=True)

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        """A session's client is at one connection, here or elsewhere, and nowhere else any more."""
        session = self.machine.sessions[session_id]
        connection, _ = self._moving.pop(nonce, (None, 0))
        owner = self._owner_of(session_id)
        if owner is not None and owner.nonce == nonce:
            owner.moved_again(session.serial)
            return
        if owner is not None:
            owner.refuse(SessionMoved(f"session {session_id}"))
        if connection is not None and not connection.closed:
            self.machine.owners[session_id] = connection
            connection.attached(session_id, session.password, session.timeout_ms, session.serial, fresh=False)

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        if self._silence is not None:
            self._silence.ended(session_id)
        owner = self._owner_of(session_id)
        if owner is not None:
            del self.machine.owners[session_id]
            owner.on_session_ended(index, expired=expired)
        for connection, session in list(self._moving.values()):
            if session == session_id:
                connection.denied(SessionExpired(f"session {session_id}"))

    def _owner_of(self, session_id: int) -> Connection | None:
        """The connection here that owns a session."""
        return cast("Connection | None", self.machine.owners.get(session_id))

    # Writes.

    @property
    def overloaded(self) -> bool:
        return self.replica.overloaded

    @property
    def read_only(self) -> str | None:
        return self.replica.read_only

    def propose(self, command: bytes) -> None:
        self.replica.propose(command)

    def _propose_again(self, connection: Connection) -> None:
        for command in connection.lane.unanswered_writes():
            self.replica.propose(command)
        connection.moved_turn = self.turn

    def _propose_all_again(self) -> None:
        """What was proposed to another leader may be lost: everything unanswered goes to the present one."""
        self.replica.forget_proposals()
        self._propose_sessions_of(self._opening, self._moving)
        for connection in self.connections:
            self._propose_again(connection)

    # Read rounds (replica.Owner), and what rides on them.

    def join_round(self, connection: Connection) -> int:
        self._round_waiters[connection] = None
        return self._next_round()

    def _next_round(self) -> int:
        self.replica.want_read()
        return self._open_round

    def on_read_start(self) -> bytes:
        self._started_round = self._open_round
        self._open_round += 1
        self._noted.update(self._touched)
        self._touched.clear()
        # A node that cannot finish its rounds, its disk hangs, would keep the sessions of the dead alive for ever.
        oldest = self.turn - NOTE_TURNS
        self._noted = {session: turn for session, turn in self._noted.items() if turn >= oldest}
        return pack(list(self._noted)) if self._noted else b""

    def on_read_done(self) -> None:
        self.confirmed_round = confirmed = self._started_round
        self._noted.clear()
        if self._attaching:
            self._finish_attaching()
        waiters, self._round_waiters = self._round_waiters, {}
        for connection in waiters:
            connection.lane.drain(confirmed)
            if connection.lane.waits_for_round and not connection.closed:
                self._round_waiters[connection] = None

    def on_note(self, note: bytes) -> Index:
        """This node leads: sessions that some server heard of. They must see an expiry that was proposed before."""
        floor = 0
        if note and self._silence is not None:
            now = self._scheduler.time()
            for session in msgpack.unpackb(note, max_array_len=1_000_000):
                floor = max(floor, self._silence.heard(session, now))
        return Index(floor)

    # The replica's other news (replica.Owner).

    async def wait_until_following(self) -> None:
        """Return when this node does not lead."""
        await self._following.wait()

    def on_leadership(self, leadership: Leadership) -> None:
        if leadership.role is Role.LEADER:
            self._following.clear()
        else:
            self._following.set()
        if not leadership.serving:
            self._silence = None
        elif self._silence is None:
            timeouts = {session.id: session.timeout_ms / 1000 for session in self.machine.sessions.values()}
            self._silence = Silence(timeouts, self._scheduler.time())
        known = (leadership.term, leadership.leader or "")
        if leadership.leader is not None and known != self._known:
            self._known = known
            self._propose_all_again()

    def on_configuration(self, configuration: Configuration) -> None:
        """Clients have no part in it."""

    def on_proposal_reply(self, context: int, index: Index) -> None:
        """Nothing here asks for one: outcomes come out of the log."""

    def on_admin(self, sender: NodeId, message: AdminRequest | AdminReply) -> None:
        if isinstance(message, AdminRequest):
            self.administration.on_request(sender, message.context, message.body)
        else:
            self.administration.on_reply(message.context, message.body)

    def on_restored(self) -> None:
        """Events and outcomes of the gap were not told: clients come back and ask for what they missed."""
        self.hub.reset(self.machine.applied)
        for connection in list(self.connections):
            connection.close()

    def on_pass_end(self) -> None:
        if self._output:
            output, self._output = self._output, []
            for connection in output:
                connection.flush()

    def on_failed(self, error: BaseException) -> None:
        self.stop()
        self.on_failure(error)

    # Looking around.

    def _look_around(self) -> None:
        """Every quarter of a second: expire silent sessions, unstick writes, close dead connections."""
        self.turn += 1
        self._expire_silent()
        if self.turn % STUCK_TURNS == 0:
            self._propose_sessions_of(self._opening, self._moving)
        for undecided in list(self.undecided):
            if self.turn - undecided.came_turn > HELLO_TURNS:
                undecided.close()
        read_only = self.read_only
        for connection in list(self.connections):
            if not connection.lane:
                connection.moved_turn = self.turn
            elif read_only and connection.lane.unanswered_writes():
                # What was proposed may go through, but nothing is applied here: elsewhere the client is answered.
                connection.refuse(DiskFull(read_only))
            elif self.turn - connection.moved_turn >= STUCK_TURNS:
                self._propose_again(connection)
            self._close_if_dead(connection)
        self.on_pass_end()
        self._timer = self._scheduler.call_at(self._scheduler.time() + TURN_SECONDS, self._look_around)

    def _expire_silent(self) -> None:
        silence = self._silence
        if silence is None:
            return
        now = self._scheduler.time()
        for session in silence.due(now):
            index = self.replica.propose_now(pack((EXPIRE, session, 0, 0, self.replica.core.term)))
            if index is None:
                silence.retry(session, now)
            else:
                logger.info("session %d was silent for its timeout: expiry proposed at %d", session, index)
                silence.doom(session, index)

    def _close_if_dead(self, connection: Connection) -> None:
        """A client pings three times per timeout: one that was silent for twice its timeout is gone."""
        silent_turns = self.turn - connection.heard_turn
        if connection.session:
            if silent_turns * TURN_SECONDS > connection.timeout_ms / 500:
                connection.close()
        elif silent_turns > HELLO_TURNS and not connection.greeted:
            connection.refuse(JkcsError("no hello within the time for it"))

    def status(self) -> dict[str, Any]:
        return self.on_status()

    def administrate(self, name: str, arguments: dict[str, Any], local: bool, done: Callable[[int, Any], None]) -> None:
        self.admin.ask(name, arguments, local, done)
