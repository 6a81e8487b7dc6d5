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
import logging
from collections.abc import Callable
from typing import Any

import msgpack

from jkcs_client.protocol.errors import Busy, DiskFull, JkcsError
from jkcs_client.protocol.framing import frame, pack
from jkcs_server.serving.admin import AdminDesk
from jkcs_server.serving.arrivals import Arrivals
from jkcs_server.serving.audit import Audit
from jkcs_server.serving.connection import Connection, Sink
from jkcs_server.serving.credentials import proven
from jkcs_server.serving.figures import Totals
from jkcs_server.serving.greeting import Undecided
from jkcs_server.serving.native import NativeConnection
from jkcs_server.serving.pages import Pages
from jkcs_server.serving.reaper import Reaper
from jkcs_server.serving.silence import Silence
from jkcs_server.serving.watches import WatchHub
from jkcs_server.serving.zookeeper import ZooKeeperConnection
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.commands import EXPIRE, REAP
from jkcs_server.tree.machine import TreeMachine
from journal.administration import Administration
from journal.clock import Handle, Scheduler
from journal.raft.messages import AdminReply, AdminRequest
from journal.raft.ready import Leadership, Role
from journal.replica import Replica
from journal.values import Configuration, Index, NodeId

logger = logging.getLogger("jkcs_server.requests")

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


class Requests:
    """The desk that one server's connections share; also the owner of its replica and the hooks of its tree."""

    replica: Replica
    """Set by `bind`, before anything is called; so are the next two."""
    on_status: Callable[[], dict[str, Any]]
    on_failure: Callable[[BaseException], None]
    admin: AdminDesk
    """Set by `administrate_with`; so is the way to the leader."""
    administration: Administration

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
        x509_super: str | None = None,
        audit: bool = True,
    ) -> None:
        self.node = node
        self.hub = WatchHub(history_events)
        self.machine = TreeMachine(self)
        self.on_word: Callable[[str], bytes | None] = lambda word: None
        """Answers ZooKeeper's questions of four letters; None when there is no such question."""
        self._scheduler = scheduler
        self._connections_max = connections_max
        self.super_digest = super_digest
        self._x509_super = x509_super
        self.pages = Pages()
        self.audit = Audit(self.now, enabled=audit)
        self.turn = 0
        """Rises with every look around; connections note in it when they last moved."""
        self.connections: dict[Connection, None] = {}
        """Every open connection whose protocol is known, in the order in which they came."""
        self.departed = Totals()
        """What those counted that are gone."""
        self.undecided: dict[Undecided, None] = {}
        """The others."""
        self.arrivals = Arrivals(self, entropy, timeout_ms_min=timeout_ms_min, timeout_ms_max=timeout_ms_max)
        self._output: list[Connection] = []
        self._reaper = Reaper()
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
        return self._admit(NativeConnection(self, sink), sink)

    def zookeeper(self, sink: Sink) -> Connection | None:
        if len(self.connections) >= self._connections_max:
            return None
        return self._admit(ZooKeeperConnection(self, sink), sink)

    def _admit(self, connection: Connection, sink: Sink) -> Connection:
        connection.figures.address = sink.address()
        connection.ids = proven(connection.ids, self._x509_super)
        self.connections[connection] = None
        self.replica.core.idle = False
        return connection

    def four_letter_word(self, word: str) -> bytes | None:
        return self.on_word(word)

    def now(self) -> float:
        return self._scheduler.time()

    def gone(self, connection: Connection) -> None:
        if connection in self.connections:
            del self.connections[connection]
            self.departed.add(connection.figures)
        if not self.connections:
            self.replica.core.idle = True
        self._round_waiters.pop(connection, None)
        self.hub.remove_all(connection)
        self.arrivals.gone(connection)
        if self.machine.owners.get(connection.session) is connection:
            del self.machine.owners[connection.session]

    def has_output(self, connection: Connection) -> None:
        self._output.append(connection)

    # Sessions.

    def open_session(self, connection: Connection, timeout_ms: int) -> None:
        self.arrivals.open(connection, timeout_ms)

    def attach(self, connection: Connection, session: int, password: bytes) -> None:
        self.arrivals.attach(connection, session, password)

    def move(self, connection: Connection, session: int) -> None:
        self.arrivals.move(connection, session)

    def touch(self, session: int) -> None:
        self._touched[session] = self.turn

    # What the tree tells while it applies (tree.machine.Hooks).

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        self.hub.on_event(kind, path, index, acl, parent_acl)

    def on_opened(self, password: bytes, session_id: int, index: int) -> None:
        session = self.machine.sessions[session_id]
        if self._silence is not None:
            self._silence.opened(session_id, session.timeout_ms / 1000, self._scheduler.time())
        self.arrivals.on_opened(session_id, password)

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        self.arrivals.on_moved(session_id, nonce)

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        if self._silence is not None:
            self._silence.ended(session_id)
        self.arrivals.on_ended(session_id, index, expired)

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
        self.arrivals.propose_again()
        for connection in self.connections:
            self._propose_again(connection)

    # Read rounds (replica.Owner), and what rides on them.

    def join_round(self, connection: Connection) -> int:
        self._round_waiters[connection] = None
        return self.next_round()

    def next_round(self) -> int:
        """The read round that begins next; it is asked for."""
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
        self.arrivals.on_round()
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
        self._reap()
        if self.turn % STUCK_TURNS == 0:
            self.arrivals.propose_again()
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

    def _reap(self) -> None:
        if self._silence is None:
            return
        for path, czxid in self._reaper.due(self.machine.tree, self.replica.wall(), self._scheduler.time()):
            if self.replica.propose_now(pack((REAP, 0, 0, 0, path, czxid, self.replica.core.term))) is None:
                return

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
