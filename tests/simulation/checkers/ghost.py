"""The tree as it must be: the committed log replayed in a second implementation (I5, I6, I10, I12, I16, S7, E1-E4).

Every server's outcomes and state are compared with it where they were made, so a divergence is found at
the entry that made it. What clients were told is compared with it by the index it carries (`answers`), out of
what is kept here of every index (`annals`). Knows nothing of disks or terms; an entry is believed once the
Raft checker has seen it applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgpack

from jkcs_client.protocol import errors, messages
from jkcs_server.tree.acl import entries_of
from jkcs_server.tree.commands import EXPIRE, IDENTIFIED
from jkcs_server.tree.machine import TreeMachine
from jkcs_server.tree.members import describe
from journal.values import Configuration, Entry, EntryKind
from tests.simulation.checkers.annals import Annals
from tests.simulation.checkers.books import QuotaChecker, check_books
from tests.simulation.trace import Violation
from tests.support.model_tree import Answer, Failed, ModelKey, ModelTree

FINGERPRINT_EVERY = 16
"""Whole states are compared at the ends of entries that cross a multiple of this index."""


class _FastModel(ModelTree):
    """The model, without a copy of all keys for writes that fail before they change anything, and without a look at
    all keys for quotas."""

    def __init__(self) -> None:
        self._limits: set[str] = set()
        """Paths of the keys that say how much there may be."""
        super().__init__()

    def _write(self, index: int, stamp: int, session_id: int, op: int, arguments: list[Any]) -> Answer:
        op, arguments, ids = unidentified(op, arguments)
        self.ids = self.sessions[session_id].ids if ids is None else ids
        # A create may fail for a quota when its ancestors are there already.
        may_change = op == messages.MULTI or (op == messages.CREATE and self._limits)
        before = {path: replace(key) for path, key in self.keys.items()} if may_change else self.keys
        try:
            if op == messages.MULTI:
                return errors.OK, (self._multi(index, stamp, session_id, arguments),)
            return errors.OK, self._step(index, stamp, session_id, op, arguments)
        except Failed as failure:
            self.keys = before
            self._tell_nothing()
            return failure.code, failure.detail

    def _said(self) -> Iterable[str]:
        return sorted(path for path in self._limits if path in self.keys)

    def _tell(self, kind: int, path: str, key: ModelKey) -> None:
        super()._tell(kind, path, key)
        if path.endswith("/zookeeper_limits"):
            # Once there it stays in the set, for a transaction may bring the key back.
            self._limits.add(path)


class SessionListener(Protocol):
    """Who wants to know what happens to sessions, at the moment it first happens anywhere."""

    def on_session_ended(self, session: int, index: int, *, expired: bool) -> None: ...


class GhostTree:
    """The replayed log of one run."""

    def __init__(self, listener: SessionListener | None = None) -> None:
        self.model = _FastModel()
        self.applied = 0
        self.annals = Annals()
        self.ok_writes: dict[bytes, list[int]] = {}
        """Value -> the indices at which a write of it succeeded. Values are unique per call of a client."""
        self._outcomes: dict[int, tuple[int, int, Answer]] = {}
        """Index -> (session, serial, answer) of the clients' commands."""
        self._commands: dict[tuple[int, int], tuple[int, str, Answer]] = {}
        """(session, serial) -> (index, text, answer) of the command that was the first to carry them."""
        self._repeats: dict[int, tuple[int, int]] = {}
        """Index -> (session, serial) of a command that was sent again."""
        self._serials: dict[int, int] = {}
        """Session -> the serial that it had come to before the entry that is replayed, where that has touched it."""
        self.quotas = QuotaChecker()
        self._stamp = 0
        """The newest stamp of an entry, which the next may not fall behind."""
        self._fingerprints: dict[int, int] = {}
        self._listener = listener
        self.numbered: set[int] = set()
        """Sessions whose writes their servers number, which have each answer as it is made (see `wire_zookeeper`)."""

    def begin(self, machine: TreeMachine, stamp: int) -> None:
        """The run begins with the keys of `machine`, and not with none."""
        self.applied, self._stamp = machine.applied, stamp
        for path, key in machine.tree.nodes.items():
            counts = (key.owner, key.version, key.cversion, key.sequence)
            rare = (entries_of(key.acl), key.aversion, key.ttl)
            times = (key.czxid, key.mzxid, key.pzxid, key.ctime, key.mtime)
            self.model.keys[path] = ModelKey(key.data, *times, *counts, *rare)
        self.annals.begin(self.model)

    # The log.

    def on_first_apply(self, entry: Entry) -> None:
        """Replay an entry that no server applied before."""
        if entry.first != self.applied + 1:
            raise Violation("I5", f"entry {entry.first} was applied where {self.applied + 1} was due")
        if entry.stamp < self._stamp:
            raise Violation("I6", f"the stamp fell from {self._stamp} to {entry.stamp} at entry {entry.first}")
        self._stamp = entry.stamp
        self._serials.clear()
        if entry.kind is EntryKind.COMMANDS:
            for offset, command in enumerate(_commands(entry)):
                self._replay(entry.first + offset, command, entry)
        elif entry.kind is EntryKind.CONFIGURATION:
            text = describe(Configuration.from_fields(msgpack.unpackb(entry.payload)), entry.last)
            self.model.configure(entry.last, entry.stamp, text)
            self.annals.take(entry.last, self.model)
        self.applied = entry.last
        if _due(entry):
            self._fingerprints[entry.last] = _model_fingerprint(self.model)

    def check_applied(self, node: str, entry: Entry, machine: TreeMachine) -> None:
        """A server has applied an entry: its outcomes and, now and then, its whole state must be the replay's."""
        for index in range(entry.first, entry.last + 1):
            expected = self._outcomes.get(index)
            if expected is None:
                if index in self._repeats:
                    self._check_repeated(node, index, machine)
                continue
            session_id, serial, (code, result) = expected
            session = machine.sessions.get(session_id)
            kept = session.outcome_of(serial) if session is not None else None
            # A later command of the same entry may have let the reply be forgotten.
            if kept is not None and (kept[0] != code or (code == errors.OK and _plain(kept[2]) != _plain(result))):
                raise Violation(
                    "I5", f"{node} answered write {serial} of session {session_id} at index {index} with {kept},"
                    f" the replay with {(code, index, result)}"
                )  # fmt: skip
        self._check_sessions_of_owners(node, machine)
        if _due(entry):
            self._check_owners(node, machine)
            check_books(node, machine.tree)
            self.check_state(node, machine)

    def outcome(self, session_id: int, serial: int) -> tuple[int, str, Answer] | None:
        """Index, text and answer of the command that was the first to carry a serial; None when none was."""
        return self._commands.get((session_id, serial))

    def outcome_at(self, index: int) -> tuple[int, int, Answer] | None:
        """Session, serial and answer of the write that was applied for the first time at an index; None: none was."""
        return self._outcomes.get(index)

    def is_closed(self, session_id: int) -> bool:
        """Whether there is no such session any more. The answer to its last write is not kept."""
        return session_id not in self.model.sessions

    def check_state(self, node: str, machine: TreeMachine) -> None:
        """Compare a server's whole state with the replay's at the same index, where that was kept."""
        self._compare("I5", node, "state", machine)

    def check_snapshot(self, node: str, machine: TreeMachine) -> None:
        """A server's state came out of a snapshot: it must be the replay's at the snapshot's index (I10, E3)."""
        for path, key in machine.tree.nodes.items():
            state = self.annals.state_at(path, machine.applied)
            if key.owner and state.value is None:
                raise Violation("E3", f"{node}: {path} of session {key.owner} is back out of a snapshot")
        self._compare("I10", node, "snapshot", machine)
        self._check_owners(node, machine)
        check_books(node, machine.tree)

    def _compare(self, invariant: str, node: str, what: str, machine: TreeMachine) -> None:
        expected = self._fingerprints.get(machine.applied)
        if expected is not None and _fingerprint(_machine_lines(machine)) != expected:
            at = f"{node}'s {what} at index {machine.applied}"
            raise Violation(invariant, f"{at} is not the replay's{self._diff(machine)}")

    def check_final(self, node: str, machine: TreeMachine) -> None:
        """At the end a server must be where the replay is, and equal to it."""
        if machine.applied != self.applied:
            raise Violation("LIVENESS", f"{node} has applied {machine.applied} of {self.applied}")
        if _fingerprint(_machine_lines(machine)) != _model_fingerprint(self.model):
            raise Violation("I12", f"{node}'s final state is not the replay's{self._diff(machine)}")
        self._check_owners(node, machine)
        check_books(node, machine.tree)

    # Inside.

    def _replay(self, index: int, command: Sequence[Any], entry: Entry) -> None:
        op, session_id, serial = command[0], command[1], command[2]
        known = self.model.sessions.get(session_id)
        due = known is not None and serial == known.serial + 1
        if known is not None:
            self._check_acked(session_id, known.serial, command)
        if known is not None and 0 < serial <= known.serial:
            self._on_repeat(index, session_id, serial, command)
        before = self.quotas.look(self.model)
        answer = self.model.apply(index, entry.stamp, command, entry.term)
        self.quotas.check(index, before, self.model)
        if due and answer is not None:
            self._outcomes[index] = (session_id, serial, answer)
            self._commands[session_id, serial] = (index, _text(command), answer)
            if answer[0] == errors.OK:
                for value in _values(*unidentified(op, command[4:])[:2]):
                    self.ok_writes.setdefault(value, []).append(index)
        self.annals.take(index, self.model)
        if known is not None and session_id not in self.model.sessions:
            if self.model.owned_by(session_id):
                raise Violation("E2", f"session {session_id} ended at {index} and its keys did not")
            if self._listener is not None:
                self._listener.on_session_ended(session_id, index, expired=op == EXPIRE)

    def _check_acked(self, session_id: int, serial: int, command: Sequence[Any]) -> None:
        """I16: a client says that it has an answer, which is then forgotten, only when there was one to be had:
        the write was applied before the command that says so was put into the log."""
        before = self._serials.setdefault(session_id, serial)
        if command[3] > before and session_id not in self.numbered:
            raise Violation(
                "I16", f"session {session_id} says with serial {command[2]} that it has the answer of {command[3]},"
                f" and {before} was the last to be answered"
            )  # fmt: skip

    def _on_repeat(self, index: int, session_id: int, serial: int, command: Sequence[Any]) -> None:
        """S7: a serial that comes again must carry the very command that it carried first."""
        if (session_id, serial) not in self._commands:
            return  # its session was moved before it came: nothing may come of it, as the replay has it
        _, text, _ = self._commands[session_id, serial]
        # A write that its server refused travels as an empty command, and comes as itself through another one.
        if command[0] and text[0] != "0" and _text(command) != text:
            raise Violation("S7", f"serial {serial} of session {session_id} was {text}, and is {_text(command)}")
        self._repeats[index] = (session_id, serial)

    def _check_repeated(self, node: str, index: int, machine: TreeMachine) -> None:
        """I16: whoever asks again is told what was told the first time."""
        session_id, serial = self._repeats[index]
        first, _, (code, result) = self._commands[session_id, serial]
        session = machine.sessions.get(session_id)
        kept = session.outcome_of(serial) if session is not None else None
        if kept is None:
            return
        if (kept[0], kept[1]) != (code, first) or (code == errors.OK and _plain(kept[2]) != _plain(result)):
            raise Violation(
                "I16", f"{node} answers write {serial} of session {session_id} again with {kept},"
                f" the first answer was {(code, first, result)}"
            )  # fmt: skip

    def _check_sessions_of_owners(self, node: str, machine: TreeMachine) -> None:
        """E1: an ephemeral key exists only while its owner's session does."""
        for owner, paths in machine.tree.ephemerals.items():
            if owner not in machine.sessions:
                raise Violation("E1", f"{node} still has {sorted(paths)} of session {owner}, which has ended")

    def _check_owners(self, node: str, machine: TreeMachine) -> None:
        """E1 from the other side; E2: the session would take it along; E4: it has the owner that made it."""
        sessions, owned = machine.sessions, machine.tree.ephemerals
        model = self.model if machine.applied == self.applied else None
        for path, key in machine.tree.nodes.items():
            if model is not None and path in model.keys and model.keys[path].owner != key.owner:
                raise Violation("E4", f"{node}: {path} belongs to {key.owner}, and not to {model.keys[path].owner}")
            if not key.owner:
                continue
            if key.owner not in sessions:
                raise Violation("E1", f"{node} still has {path} of session {key.owner}, which has ended")
            if path not in owned.get(key.owner, ()):
                raise Violation("E2", f"{node} would forget {path} at the end of session {key.owner}")

    def _diff(self, machine: TreeMachine) -> str:
        """The first lines that differ, when the replay stands at the same index."""
        if machine.applied != self.applied:
            return ""
        mine, its = set(map(repr, _model_lines(self.model))), set(map(repr, _machine_lines(machine)))
        return f"; replay: {sorted(mine - its)[:3]}, server: {sorted(its - mine)[:3]}"


def unidentified(op: int, arguments: Sequence[Any]) -> tuple[int, list[Any], Any]:
    """A write without what it says of who asks, and that; None when it says nothing."""
    if op < IDENTIFIED:
        return op, list(arguments), None
    return op - IDENTIFIED, list(arguments[:-1]), arguments[-1]


def _commands(entry: Entry) -> list[Sequence[Any]]:
    unpacker = msgpack.Unpacker(raw=False, use_list=False, strict_map_key=False)
    unpacker.feed(entry.payload)
    return list(unpacker)


def _text(command: Sequence[Any]) -> str:
    """A command without what may differ when it is sent again: how far its client has got answers, and what it has
    proved of itself meanwhile."""
    op, arguments, _ = unidentified(command[0], command[4:])
    return f"{op} {arguments!r}"


def _due(entry: Entry) -> bool:
    """Whether whole states are compared after this entry; a snapshot is only taken after such a one."""
    if entry.kind is EntryKind.SNAPSHOT:
        return True
    return entry.last // FINGERPRINT_EVERY != (entry.first - 1) // FINGERPRINT_EVERY


def _values(op: int, arguments: Sequence[Any]) -> Iterable[bytes]:
    """The data of a write's creates and sets."""
    if op == messages.MULTI:
        for step in arguments[0]:
            yield from _values(step[0], step[1:])
    elif op in (messages.CREATE, messages.SET) and len(arguments) in (3, 5) and arguments[1]:
        yield arguments[1]


def _plain(value: Any) -> Any:
    """Lists and tuples alike, so that an answer compares with itself after msgpack."""
    return tuple(_plain(one) for one in value) if isinstance(value, list | tuple) else value


def _fingerprint(lines: Iterable[Any]) -> int:
    # Within one process: `hash` of tuples is quick, and equal for equal states.
    return hash(tuple(lines))


def _model_fingerprint(model: ModelTree) -> int:
    return _fingerprint(_model_lines(model))


def _model_lines(model: ModelTree) -> Iterable[Any]:
    children: dict[str, int] = {}
    for path in model.keys:
        if path != "/":
            parent = path[: path.rindex("/")] or "/"
            children[parent] = children.get(parent, 0) + 1
    for path in sorted(model.keys):
        key = model.keys[path]
        stat = (key.czxid, key.mzxid, key.pzxid, key.ctime, key.mtime, key.version, key.cversion, key.owner)
        yield path, key.data, stat, children.get(path, 0), key.next_number, key.acl, key.aversion, key.ttl
    for session_id in sorted(model.sessions):
        session = model.sessions[session_id]
        replies = tuple((number, session.replies[number][0]) for number in sorted(session.replies))
        yield session_id, session.password, session.timeout_ms, _plain(session.ids), session.serial, replies


def _machine_lines(machine: TreeMachine) -> Iterable[Any]:
    nodes = machine.tree.nodes
    for path in sorted(nodes):
        key = nodes[path]
        stat = (key.czxid, key.mzxid, key.pzxid, key.ctime, key.mtime, key.version, key.cversion, key.owner)
        yield path, key.data, stat, len(key.children or ()), key.sequence, entries_of(key.acl), key.aversion, key.ttl
    for session in sorted(machine.sessions.values(), key=lambda session: session.id):
        first = session.serial - len(session.replies) + 1
        replies = tuple((first + place, reply[0]) for place, reply in enumerate(session.replies))
        yield session.id, session.password, session.timeout_ms, session.ids, session.serial, replies
