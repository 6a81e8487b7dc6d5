"""The key tree as a state machine of the journal: entries in, outcomes and events out.

Here commands are taken from their entry, each write of a session is applied once and in order, and what
came of it is told. Knows nothing of how the log came about, of sockets, or of who watches what. Driven by
the journal's replica; read by the serving side between two commands.

For each command, in this order: the state changes; `Hooks.on_event` for each key that changed; then
`Owner.on_outcome`. So whoever watches is told of a change before anybody can learn of it otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

import msgpack

from jkcs_client.protocol.errors import OK, BadArguments, DefiniteError, SessionExpired, Unimplemented
from jkcs_client.protocol.messages import CLOSE
from jkcs_server.tree import image
from jkcs_server.tree.acl import Acl, Ids, parse_ids
from jkcs_server.tree.apply import WRITES, Write
from jkcs_server.tree.commands import EXPIRE, IDENTIFIED, MOVE, OPEN, REAP
from jkcs_server.tree.keytree import KeyTree
from jkcs_server.tree.members import describe
from jkcs_server.tree.recovery import go_back_to
from jkcs_server.tree.sessions import Outcome, Result, Session, Sessions
from journal.errors import CorruptRecord
from journal.values import Configuration, Entry, EntryKind

_APPLIED = 0xA2E57C19F48D36B
_64_BITS = 2**64 - 1


class Owner(Protocol):
    """A client's connection on this server, holding a session."""

    def on_outcome(self, serial: int, code: int, index: int, result: Result) -> None:
        """What became of write `serial`, for the first time or again. `result` is the answer's fields when the
        code is OK, else the detail."""


class Hooks(Protocol):
    """What the server wants to know while commands are applied. Called when the tree is at `index`."""

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        """A key was created, changed or deleted; that its parent's list of children changed is implied.

        With the access control lists that the key and, unless it was only changed, its parent had at that moment.
        """

    def on_opened(self, password: bytes, session_id: int, index: int) -> None: ...

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        """A session's client has a new connection: the one that gave this nonce. Its writes go on from the
        session's serial."""

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        """A session was closed or has expired; its keys are gone, and their events have been told."""


class TreeMachine:
    """Implements `journal.machine.Machine`."""

    def __init__(self, hooks: Hooks) -> None:
        self.tree = KeyTree()
        self.sessions = Sessions()
        self.applied: int = 0
        """Index of the last command applied."""
        self.owners: dict[int, Owner] = {}
        """Session id -> connection, for the sessions whose clients are here. Kept by the serving side."""
        self._hooks = hooks
        self._unpacker = _make_unpacker()
        self._snapshot: object = None
        """Stands for the snapshot under way, if any."""

    def apply(self, entry: Entry) -> None:
        """Apply the commands of one entry. Raises CorruptRecord, with nothing applied, when the entry does not
        hold the commands it claims: only a leader that is out of its mind makes such an entry."""
        if entry.kind is EntryKind.COMMANDS:
            index: int = entry.first
            for command in self._unpack(entry):
                self._apply_command(command, index, entry)
                index += 1
        self.applied = entry.last
        if entry.kind is EntryKind.CONFIGURATION:
            self._configure(entry)

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is now, in chunks. To take another one gives up the one before it."""
        # Lists of what the dictionaries hold are all that is copied now; from here on nodes and
        # sessions are replaced, not changed, until the last chunk is out.
        mark = self._snapshot = object()
        self.tree.keep(self.applied)
        self.sessions.keep(self.applied)
        chunks = image.encode(self.applied, list(self.sessions.values()), list(self.tree.nodes.values()))
        return self._give_out(chunks, mark)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become what the snapshot says. Raises CorruptRecord and is then what it was."""
        applied, sessions, tree = image.decode(chunks)
        self._snapshot = None
        self.tree.replace(tree)
        self.sessions.replace(sessions)
        self.applied = applied

    def recover(self, chunks: Iterable[bytes], index: int, stamp: int) -> None:
        """Bring keys and data back to what the snapshot holds, by changes at `index` that watchers are told of.

        Sessions stay as they are, with what they own; see `recovery`. Raises CorruptRecord and has
        then changed nothing.
        """
        _, _, tree = image.decode(chunks)
        go_back_to(self.tree, tree, index, stamp)
        self._tell_changes(index)
        self.applied = index

    def digest(self) -> int:
        """A fingerprint of the whole state in 64 bits, kept up to date with each command."""
        return (self.tree.sum + self.sessions.sum() + _APPLIED * self.applied) & _64_BITS

    def digest_anew(self) -> int:
        """What `digest` must be, from the state itself. Takes as long as a snapshot; for tests and the simulator."""
        return (self.tree.sum_anew() + self.sessions.sum_anew() + _APPLIED * self.applied) & _64_BITS

    def _configure(self, entry: Entry) -> None:
        try:
            configuration = Configuration.from_fields(msgpack.unpackb(entry.payload))
        except (ValueError, msgpack.UnpackException) as error:
            raise CorruptRecord(f"entry {entry.first} is no configuration: {error}") from error
        self.tree.configure(describe(configuration, entry.last), entry.last, entry.stamp)
        self._tell_changes(entry.last)

    def _give_out(self, chunks: Iterator[bytes], mark: object) -> Iterator[bytes]:
        try:
            yield from chunks
        finally:
            if self._snapshot is mark:
                self._snapshot = None
                self.tree.release()
                self.sessions.release()

    def _unpack(self, entry: Entry) -> list[Any]:
        unpacker = self._unpacker
        payload = entry.payload
        end = unpacker.tell() + len(payload)
        unpacker.feed(payload)
        try:
            commands = list(islice(unpacker, entry.count))
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            self._unpacker = _make_unpacker()
            raise CorruptRecord(f"entry {entry.first}: commands cannot be read: {error}") from error
        if len(commands) != entry.count or unpacker.tell() != end:
            self._unpacker = _make_unpacker()
            raise CorruptRecord(f"entry {entry.first}: payload is not {entry.count} commands and nothing else")
        return commands

    def _apply_command(self, command: Any, index: int, entry: Entry) -> None:
        self.applied = index
        # What names nobody who could be told has no effect.
        if type(command) is not tuple or len(command) < 4:
            return
        op, session_id, serial, acked, *arguments = command
        if type(session_id) is not int or type(serial) is not int or type(acked) is not int:
            return
        session = self.sessions.by_id.get(session_id)
        if session is None:
            if serial:
                self._tell(session_id, serial, (SessionExpired.code, index, f"session {session_id}"))
            elif op == OPEN and session_id == 0:
                self._open(arguments, index)
            elif op == REAP and session_id == 0:
                self._reap(arguments, index, entry)
        elif serial == session.serial + 1:
            if op == CLOSE:
                self._close(session_id, serial, index)
            else:
                self._write(session, op, acked, arguments, index, entry.stamp)
        elif serial == 0:
            # The cluster's own: clients count from 1.
            if op == EXPIRE and arguments == [entry.term]:
                self._expire(session_id, index)
            elif op == MOVE and len(arguments) == 1 and type(arguments[0]) is bytes:
                self.sessions.move(session, index)
                self._hooks.on_moved(session_id, arguments[0], index)
        else:
            # Sent twice, because its answer was lost or late. Behind a gap nothing is found, and nothing
            # is done: what is missing will come again, and this after it.
            outcome = session.outcome_of(serial)
            if outcome is not None:
                self._tell(session_id, serial, outcome)

    def _write(self, session: Session, op: object, acked: int, arguments: list[Any], index: int, stamp: int) -> None:
        write = WRITES.get(op) if type(op) is int else None
        ids = session.ids
        outcome: Outcome
        try:
            if write is None:
                write, ids = _identified(op, arguments)
            outcome = (OK, index, write(self.tree, session.id, arguments, index, stamp, ids))
        except DefiniteError as error:
            outcome = (error.code, index, error.detail)
        serial = session.serial + 1
        self.sessions.remember(session, index, acked, outcome)
        if self.tree.changes:
            self._tell_changes(index)
        owner = self.owners.get(session.id)
        if owner is not None:
            owner.on_outcome(serial, *outcome)

    def _open(self, arguments: list[Any], index: int) -> None:
        if len(arguments) not in (2, 3):
            return
        password, timeout_ms, *rest = arguments
        if type(password) is bytes and type(timeout_ms) is int and timeout_ms > 0:
            try:
                ids = parse_ids(rest[0]) if rest else ()
            except BadArguments:
                return
            if self.sessions.open(index, password, timeout_ms, ids):
                self._hooks.on_opened(password, index, index)

    def _reap(self, arguments: list[Any], index: int, entry: Entry) -> None:
        if len(arguments) == 3 and type(arguments[0]) is str and arguments[2] == entry.term:
            self.tree.reap(arguments[0], arguments[1], entry.stamp, index)
            self._tell_changes(index)

    def _close(self, session_id: int, serial: int, index: int) -> None:
        self._end(session_id, index)
        self._tell(session_id, serial, (OK, index, ()))
        self._hooks.on_ended(session_id, index, False)

    def _expire(self, session_id: int, index: int) -> None:
        self._end(session_id, index)
        self._hooks.on_ended(session_id, index, True)

    def _end(self, session_id: int, index: int) -> None:
        """A session ends in the same entry as all that it owns, so that nobody sees the one without the other."""
        self.tree.delete_owned(session_id, index)
        self.sessions.end(session_id)
        self._tell_changes(index)

    def _tell_changes(self, index: int) -> None:
        changes = self.tree.changes
        on_event = self._hooks.on_event
        for kind, path, acl, parent_acl in changes:
            on_event(kind, path, index, acl, parent_acl)
        changes.clear()

    def _tell(self, session_id: int, serial: int, outcome: Outcome) -> None:
        owner = self.owners.get(session_id)
        if owner is not None:
            owner.on_outcome(serial, *outcome)


def _identified(op: object, arguments: list[Any]) -> tuple[Write, Ids]:
    """The write of a command that says itself who asks, and who that is; takes it off the arguments."""
    write = WRITES.get(op - IDENTIFIED) if type(op) is int else None
    if write is None:
        raise Unimplemented(f"operation {op}" if type(op) is int else "an operation is an integer")
    return write, parse_ids(arguments.pop() if arguments else None)


def _make_unpacker() -> Any:
    # Without limits of its own: the record that carries the commands has one, and was checked.
    return msgpack.Unpacker(use_list=False, raw=False, strict_map_key=False, max_buffer_size=0)
