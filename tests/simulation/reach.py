"""Rare states that a run has been in: what a long simulation must have seen before its silence means anything.

Looks at servers from outside, at the moments when they start, end, send, change office or apply; and is told
by the clients and the network what they met. Changes nothing and objects to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgpack

from jkcs_server.tree.commands import EXPIRE, MOVE, MOVE_SERIALS, REAP
from jkcs_server.tree.machine import TreeMachine
from journal.raft.messages import (
    Append,
    AppendReply,
    Message,
    Proposal,
    ReadRequest,
    SnapshotChunk,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.raft.ready import Role
from journal.storage.metadata import META_NAME
from journal.values import Entry, EntryKind, NodeId
from tests.simulation.edge import EDGES

if TYPE_CHECKING:
    from jkcs_server.server import Server
    from tests.simulation.world import Machine

STATES = {
    # Elections.
    "pre-vote refused": "a voter did not want an election",
    "pre-vote met a lease": "asked somebody who still hears the leader",
    "vote refused": "a voter had voted for another",
    "vote refused for an old log": "a voter without a vote refused",
    "two candidates in one term": "both asked for votes",
    "split vote": "a term ended with candidates and without a leader",
    "two leaders at once": "the older one does not know yet",
    "leader stepped down alive": "it noticed that it leads nobody",
    "leader elected with a tail of older terms": "entries that only its own can commit",
    "old term committed by a new one": "Raft 5.4.2",
    "stopped leader overtaken": "it stood still when another was elected",
    "old leader still appends": "in a term that is over",
    # Handing over.
    "transfer begun": "a leader told another to campaign",
    "transfer campaign": "which it did",
    "transfer failed": "the leader went on in its term",
    "log passed 31 or 32 bits": "its index did",
    # Replication.
    "append refused": "the logs did not meet",
    "log conflict cut": "a follower replaced entries on its disk",
    "proposal forwarded": "by a server that does not lead",
    "proposal met no leader": "and was lost",
    "writes proposed again": "after a change of leader",
    "read asked by a follower": "on behalf of its clients",
    "read round given up": "its leader changed in between",
    "frame refused": "a damaged one; the connection broke",
    # Ends of processes.
    "leader ended between append and sync": "it had sent what its disk did not have",
    "leader ended with a tail": "durable and not committed",
    "leader ended in a transfer": "",
    "candidate ended": "",
    "ended in a save": "the disk was busy with the log",
    "ended while taking a snapshot": "",
    "ended while sending a snapshot": "",
    "ended while receiving a snapshot": "",
    "ended in its start": "it was still recovering",
    "majority down": "nothing can be committed",
    "all down": "at once",
    # Starts.
    "start found leftovers": "of a file that was being made",
    "start found metadata slots that differ": "one was newer or torn",
    "start found a torn tail": "and cleared it away",
    "start found a damaged snapshot": "and took an older one",
    "start withheld": "what it had acknowledged is gone: no vote",
    "start refused": "damage beyond what a crash explains",
    "start failed by the disk": "",
    "start with several segments": "",
    # Snapshots.
    "snapshot chunk sent again": "the first one was lost",
    "snapshot installed": "over a running machine",
    "snapshot installed under clients": "who had to come back",
    "snapshot install given up": "the log got there by itself",
    "log cut": "behind a snapshot",
    # Sessions and clients.
    "session expired": "",
    "expiry under way at a change of leader": "",
    "session attached elsewhere": "at another server than before",
    "session gone on return": "it had expired meanwhile",
    "duplicate write answered from memory": "applied once",
    "write of an ended session": "refused",
    "write without an answer": "may have happened",
    "client lost its session": "",
    "watch compacted": "it asked for events that are no longer kept",
    "lock wait given up": "",
    "lock lost": "while it was held",
    "fenced write refused": "by its guard",
    # Clients of ZooKeeper's protocol.
    "zookeeper session moved": "its client came back",
    "zookeeper session moved away": "from a server that still had its connection",
    "zookeeper session moved twice": "by one command that was proposed twice",
    "zookeeper session gone on return": "it had expired meanwhile",
    "zookeeper write lost with its connection": "may have happened",
    "zookeeper write void behind a move": "it came too late",
    "watches set again": "on a new connection",
    "event told on return": "it happened while the client was away",
    # Rights, lifetimes and quotas.
    "write refused by a list": "",
    "read refused by a list": "",
    "list changed under a writer": "who was then refused",
    "list changed in vain": "another change was quicker",
    "key reaped": "its time had passed",
    "container reaped": "its last child had gone",
    "reap met a key that was set": "in time, and it stayed",
    "reap met a child": "which keeps its parent",
    "reap met nobody": "the key had gone before",
    "quota refused": "",
    "soft quota passed": "which refuses nothing",
}
"""Name -> what it means. A long run that misses one of them has a hole."""


class Reach:
    """The states one run has been in."""

    def __init__(self, machines: Callable[[], Mapping[NodeId, Machine]]) -> None:
        self.seen: Counter[str] = Counter()
        self._machines = machines
        self._roles: dict[NodeId, Role] = {}
        self._candidates: dict[int, set[NodeId]] = {}
        """Who asked for votes in a term."""
        self._led: set[int] = set()
        """Terms that had a leader."""
        self._transfers: dict[NodeId, tuple[int, int]] = {}
        """Who hands over: its term, and the end of its log then."""
        self._chunks: dict[tuple[NodeId, NodeId], tuple[int, int]] = {}
        """Snapshot and highest offset sent."""
        self._attached: dict[int, NodeId] = {}
        """Where each session was last."""
        self._void: dict[int, range] = {}
        """The serials that the last move of each session has passed over."""

    def see(self, state: str) -> None:
        """The run is in one of `STATES`."""
        assert state in STATES, state
        self.seen[state] += 1

    # Messages.

    def on_send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        kind = type(message)
        look = _LOOKS.get(kind)
        if look is not None:
            look(self, sender, to, message)

    def _on_vote_request(self, sender: NodeId, to: NodeId, message: VoteRequest) -> None:
        if message.pre:
            other = self._machines()[to]
            if other.running and other.server is not None and other.server.replica.core._state.hears_leader():
                self.see("pre-vote met a lease")
            return
        if message.transfer:
            self.see("transfer campaign")
        term = int(message.term)
        asking = self._candidates.setdefault(term, set())
        if sender in asking:
            return
        asking.add(sender)
        if len(asking) == 2:
            self.see("two candidates in one term")
        if len(asking) == 1 and len(self._candidates.get(term - 1, ())) > 1 and term - 1 not in self._led:
            self.see("split vote")

    def _on_vote_reply(self, sender: NodeId, to: NodeId, message: VoteReply) -> None:
        if message.granted:
            return
        self.see("pre-vote refused" if message.pre else "vote refused")
        server = self._machines()[sender].server
        if not message.pre and server is not None and server.replica.core.vote is None:
            self.see("vote refused for an old log")

    def _on_append(self, sender: NodeId, to: NodeId, message: Append) -> None:
        if self._led and message.term < max(self._led):
            self.see("old leader still appends")
        pending = self._transfers.get(sender)
        if pending is not None and message.entries and message.entries[-1].last > pending[1]:
            del self._transfers[sender]
            if message.term == pending[0]:
                self.see("transfer failed")

    def _on_append_reply(self, sender: NodeId, to: NodeId, message: AppendReply) -> None:
        if message.refused:
            self.see("append refused")

    def _on_timeout_now(self, sender: NodeId, to: NodeId, message: TimeoutNow) -> None:
        self.see("transfer begun")
        server = self._machines()[sender].server
        assert server is not None, sender
        self._transfers[sender] = (int(message.term), int(server.replica.core.last_index))

    def _on_proposal(self, sender: NodeId, to: NodeId, message: Proposal) -> None:
        self.see("proposal forwarded")
        server = self._machines()[to].server
        if server is None or server.replica.core.role is not Role.LEADER:
            self.see("proposal met no leader")

    def _on_read_request(self, sender: NodeId, to: NodeId, message: ReadRequest) -> None:
        self.see("read asked by a follower")

    def _on_chunk(self, sender: NodeId, to: NodeId, message: SnapshotChunk) -> None:
        index = int(message.meta.position.index)
        before, highest = self._chunks.get((sender, to), (0, -1))
        if before == index and message.offset <= highest:
            self.see("snapshot chunk sent again")
        self._chunks[sender, to] = (index, message.offset if before != index else max(highest, message.offset))

    # Servers.

    def on_boot(self, machine: Machine) -> None:
        """A server has recovered."""
        server = machine.server
        assert server is not None, machine.name
        self._roles[machine.name] = server.replica.core.role
        if server.store.withheld:
            self.see("start withheld")
        if server.store.snapshots.damaged:
            self.see("start found a damaged snapshot")
        names = machine.disk.names()
        if sum(name.startswith("log-") for name in names) > 1:
            self.see("start with several segments")
        self._stand_before(machine.name, server)

    def before_boot(self, machine: Machine) -> None:
        """A server is about to read its disk."""
        names = machine.disk.names()
        if any(name.endswith((".new", ".received")) for name in names):
            self.see("start found leftovers")
        if META_NAME in names:
            half = machine.disk.size(META_NAME) // 2
            if machine.disk.look(META_NAME, 0, half) != machine.disk.look(META_NAME, half, half):
                self.see("start found metadata slots that differ")

    def on_disk_step(self, step: str, *, starting: bool) -> None:
        """Something is done to a disk, as `crash_points.DiskSteps` names it."""
        if step == "segment.replace" and not starting:
            self.see("log conflict cut")
        elif step == "wal.repair" and starting:
            self.see("start found a torn tail")

    def on_step(self, machine: Machine) -> None:
        """One callback of a server has run."""
        server = machine.server
        assert server is not None, machine.name
        core = server.replica.core
        role = core._state.role
        before = self._roles[machine.name]
        if role is before:
            return
        self._roles[machine.name] = role
        if role is Role.LEADER:
            self._led.add(int(core.term))
            if core.commit < core.last_index - 1:
                self.see("leader elected with a tail of older terms")
            for other in self._machines().values():
                if other is not machine and self._leads(other):
                    self.see("two leaders at once")
                    if other.process is not None and other.process.paused:
                        self.see("stopped leader overtaken")
        elif before is Role.LEADER:
            self.see("leader stepped down alive")

    def on_commit(self, view: Any, before: int, index: int) -> None:
        """A position is committed for the first time; all up to `before` was already."""
        if any(before < edge <= index for edge in EDGES):
            self.see("log passed 31 or 32 bits")
        if view.leads and view.term_at(before + 1) not in (None, view.term_at(index)):
            self.see("old term committed by a new one")

    def on_end(self, machine: Machine) -> None:
        """A server process is about to be ended."""
        server = machine.server
        if server is None:
            self.see("ended in its start")
        else:
            self._look_at_the_dying(machine, server)
        down = sum(other.process is None or other is machine for other in self._machines().values())
        if down * 2 > len(self._machines()):
            self.see("majority down")
        if down == len(self._machines()) > 1:
            self.see("all down")

    def _look_at_the_dying(self, machine: Machine, server: Server) -> None:
        replica, core = server.replica, server.replica.core
        if core._leader is not None:
            if core.durable < core.last_index:
                self.see("leader ended between append and sync")
            elif core.commit < core.last_index:
                self.see("leader ended with a tail")
            if core._leader._transferee is not None:
                self.see("leader ended in a transfer")
        elif core.role is Role.CANDIDATE:
            self.see("candidate ended")
        if machine.workers[0].busy:
            self.see("ended in a save")
        snapshots = replica.snapshots
        if snapshots._taking:
            self.see("ended while taking a snapshot")
        if snapshots._sendings:
            self.see("ended while sending a snapshot")
        if snapshots._receiver is not None or replica._installing is not None:
            self.see("ended while receiving a snapshot")
        silence = server.requests._silence
        if silence is not None and silence._doomed:
            self.see("expiry under way at a change of leader")

    def _leads(self, machine: Machine) -> bool:
        server = machine.server
        return machine.running and server is not None and server.replica.core.role is Role.LEADER

    def _stand_before(self, node: NodeId, server: Server) -> None:
        """Look in before some steps of a server. Before the crash points do, which may let no step happen."""
        requests, replica = server.requests, server.replica

        def on_leadership(leadership: Any) -> None:
            if not leadership.serving and requests._silence is not None and requests._silence._doomed:
                self.see("expiry under way at a change of leader")

        def propose_all_again() -> None:
            if any(connection.lane for connection in requests.connections):
                self.see("writes proposed again")

        def read_lost() -> None:
            if replica._reading._context:
                self.see("read round given up")

        def on_restored() -> None:
            self.see("snapshot installed")
            if requests.connections:
                self.see("snapshot installed under clients")

        def attach_now(connection: Any, session: int, password: bytes) -> None:
            if session not in server.machine.sessions:
                self.see("session gone on return")
            elif self._attached.get(session, node) != node:
                self.see("session attached elsewhere")
            self._attached[session] = node

        def on_moved(session: int, nonce: bytes) -> None:
            owner = requests.arrivals.owner_of(session)
            if nonce in requests.arrivals._moving:
                self.see("zookeeper session moved")
            elif owner is not None and owner.nonce == nonce:
                self.see("zookeeper session moved twice")
            elif owner is not None:
                self.see("zookeeper session moved away")

        def cut_log(index: int) -> None:
            if index > server.store.start.index:
                self.see("log cut")

        _before(requests, "on_leadership", on_leadership)
        _before(requests, "_propose_all_again", propose_all_again)
        _before(requests, "on_restored", on_restored)
        _before(requests.arrivals, "_attach_now", attach_now)
        _before(requests.arrivals, "on_moved", on_moved)
        _before(replica._reading, "give_up", read_lost)
        _before(replica, "cut_log", cut_log)
        install = replica.install

        def watched_install(*arguments: Any) -> bool:
            begun = install(*arguments)
            if not begun:
                self.see("snapshot install given up")
            return begun

        replica.install = watched_install  # type: ignore[method-assign]

    # The log.

    def on_first_apply(self, node: NodeId, entry: Entry, machine: TreeMachine) -> None:
        """An entry is about to be applied that no server applied before."""
        if entry.kind is not EntryKind.COMMANDS:
            return
        unpacker = msgpack.Unpacker(raw=True, use_list=False, strict_map_key=False)
        unpacker.feed(entry.payload)
        for offset, command in enumerate(unpacker):
            op, session_id, serial = command[0], command[1], command[2]
            session = machine.sessions.get(session_id)
            if op == EXPIRE:
                self.see("session expired")
            elif op == REAP:
                self._on_reap(command[4].decode(), command[5], entry.stamp, machine)
            elif not session_id:
                self._attached[entry.first + offset] = node
            elif session is None:
                self.see("write of an ended session")
            elif op == MOVE:
                self._void[session_id] = range(session.serial + 1, session.serial + MOVE_SERIALS + 1)
            elif serial in self._void.get(session_id, ()):
                self.see("zookeeper write void behind a move")
            elif serial <= session.serial:
                self.see("duplicate write answered from memory")

    def _on_reap(self, path: str, czxid: int, stamp: int, machine: TreeMachine) -> None:
        """As far as the state before its entry tells."""
        key = machine.tree.find(path)
        if key is None or key.czxid != czxid:
            self.see("reap met nobody")
        elif key.children:
            self.see("reap met a child")
        elif key.ttl > 0 and stamp < key.mtime + key.ttl:
            self.see("reap met a key that was set")
        else:
            self.see("key reaped" if key.ttl > 0 else "container reaped")


def _before(owner: Any, method: str, look: Callable[..., None]) -> None:
    original = getattr(owner, method)

    def looked(*arguments: Any, **keywords: Any) -> Any:
        look(*arguments, **keywords)
        return original(*arguments, **keywords)

    setattr(owner, method, looked)


_LOOKS: dict[type, Callable[[Reach, NodeId, NodeId, Any], None]] = {
    VoteRequest: Reach._on_vote_request,
    VoteReply: Reach._on_vote_reply,
    Append: Reach._on_append,
    AppendReply: Reach._on_append_reply,
    TimeoutNow: Reach._on_timeout_now,
    Proposal: Reach._on_proposal,
    ReadRequest: Reach._on_read_request,
    SnapshotChunk: Reach._on_chunk,
}
