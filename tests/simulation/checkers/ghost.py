"""The tree as it must be: the committed log replayed in a second implementation, index by index (I5, I12, E1-E4).

Every server's outcomes and state are compared with it where they were made, so a divergence is found at
the entry that made it. Clients' reads and writes are compared with it by the index they carry. Knows
nothing of disks or terms; an entry is believed once the Raft checker has seen it applied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgpack

from jkcs_client.protocol import errors, messages
from jkcs_server.tree.commands import EXPIRE
from jkcs_server.tree.machine import TreeMachine
from journal.values import Entry, EntryKind
from tests.simulation.trace import Violation
from tests.support.model_tree import Answer, Failed, ModelTree

FINGERPRINT_EVERY = 16
"""Whole states are compared at the ends of entries that cross a multiple of this index."""


class _FastModel(ModelTree):
    """The model, without a copy of all keys for writes that fail before they change anything."""

    def _write(self, index: int, stamp: int, session_id: int, op: int, arguments: list[Any]) -> Answer:
        if op != messages.MULTI:
            try:
                return errors.OK, self._step(index, stamp, session_id, op, arguments)
            except Failed as failure:
                return failure.code, failure.detail
        before = {path: replace(key) for path, key in self.keys.items()}
        try:
            return errors.OK, (self._multi(index, stamp, session_id, arguments),)
        except Failed as failure:
            self.keys = before
            self.events = []
            return failure.code, failure.detail


@dataclass(frozen=True, slots=True)
class KeyState:
    """What a key held from `index` on."""

    index: int
    value: bytes | None
    """None: it does not exist."""
    version: int = 0
    czxid: int = 0


@dataclass(frozen=True, slots=True)
class GhostEvent:
    """One event of the tree, in log order."""

    index: int
    kind: int
    path: str


class SessionListener(Protocol):
    """Who wants to know what happens to sessions, at the moment it first happens anywhere."""

    def on_session_ended(self, session: int, *, expired: bool) -> None: ...


class GhostTree:
    """The replayed log of one run."""

    def __init__(self, listener: SessionListener | None = None) -> None:
        self.model = _FastModel()
        self.applied = 0
        self.events: list[GhostEvent] = []
        self.histories: dict[str, list[KeyState]] = {}
        self.ok_writes: dict[bytes, list[int]] = {}
        """Value -> the indices at which a write of it succeeded. Values are unique per call of a client."""
        self._outcomes: dict[int, tuple[int, int, Answer]] = {}
        """Index -> (session, serial, answer) of the clients' commands."""
        self._fingerprints: dict[int, int] = {}
        self._listener = listener

    # The log.

    def on_first_apply(self, entry: Entry) -> None:
        """Replay an entry that no server applied before."""
        if entry.first != self.applied + 1:
            raise Violation("I5", f"entry {entry.first} was applied where {self.applied + 1} was due")
        if entry.kind is EntryKind.COMMANDS:
            for offset, command in enumerate(_commands(entry)):
                self._replay(entry.first + offset, command, entry)
        self.applied = entry.last
        if _due(entry):
            self._fingerprints[entry.last] = _model_fingerprint(self.model)

    def check_applied(self, node: str, entry: Entry, machine: TreeMachine) -> None:
        """A server has applied an entry: its outcomes and, now and then, its whole state must be the replay's."""
        for index in range(entry.first, entry.last + 1):
            expected = self._outcomes.get(index)
            if expected is None:
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
        self._check_owners(node, machine)
        if _due(entry):
            self.check_state(node, machine)

    def check_state(self, node: str, machine: TreeMachine) -> None:
        """Compare a server's whole state with the replay's at the same index, where that was kept."""
        expected = self._fingerprints.get(machine.applied)
        if expected is not None and _fingerprint(_machine_lines(machine)) != expected:
            raise Violation("I5", f"{node}'s state at index {machine.applied} is not the replay's{self._diff(machine)}")

    def check_final(self, node: str, machine: TreeMachine) -> None:
        """At the end a server must be where the replay is, and equal to it."""
        if machine.applied != self.applied:
            raise Violation("LIVENESS", f"{node} has applied {machine.applied} of {self.applied}")
        if _fingerprint(_machine_lines(machine)) != _model_fingerprint(self.model):
            raise Violation("I12", f"{node}'s final state is not the replay's{self._diff(machine)}")

    # What clients saw.

    def check_read(self, what: str, path: str, index: int, value: bytes | None, version: int | None = None) -> None:
        """A read that says it is true as of `index` must be."""
        states = self.histories.get(path, [])
        place = bisect_right(states, index, key=lambda state: state.index) - 1
        state = states[place] if place >= 0 else KeyState(0, None)
        if state.value != value or (version is not None and value is not None and state.version != version):
            raise Violation(
                "I14", f"{what}: {path} read as {value!r} version {version} at index {index}, but was {state}"
            )

    def check_write(self, what: str, value: bytes, *, acknowledged: bool, refused: bool, index: int | None) -> None:
        """An acknowledged write is in the log once, a refused one never, one without an answer at most once."""
        found = self.ok_writes.get(value, [])
        if acknowledged and not found:
            raise Violation("I12", f"{what} was acknowledged, and is not in the log")
        if refused and found:
            raise Violation("I12", f"{what} was refused, and took effect at {found}")
        if len(found) > 1:
            raise Violation("I16", f"{what} was applied {len(found)} times, at {found}")
        if acknowledged and index is not None and found != [index]:
            raise Violation("I12", f"{what} was acknowledged at index {index}, and happened at {found}")

    # Inside.

    def _replay(self, index: int, command: list[Any], entry: Entry) -> None:
        op, session_id, serial = command[0], command[1], command[2]
        known = self.model.sessions.get(session_id)
        due = known is not None and serial == known.serial + 1
        answer = self.model.apply(index, entry.stamp, command, entry.term)
        if due and answer is not None:
            self._outcomes[index] = (session_id, serial, answer)
            if answer[0] == errors.OK:
                for value in _values(op, command[4:]):
                    self.ok_writes.setdefault(value, []).append(index)
        for kind, path in self.model.events:
            self._on_event(index, int(kind), path)
        if known is not None and session_id not in self.model.sessions:
            if self.model.owned_by(session_id):
                raise Violation("E2", f"session {session_id} ended at {index} and its keys did not")
            if self._listener is not None:
                self._listener.on_session_ended(session_id, expired=op == EXPIRE)

    def _on_event(self, index: int, kind: int, path: str) -> None:
        self.events.append(GhostEvent(index, kind, path))
        key = self.model.keys.get(path)
        state = KeyState(index, None) if key is None else KeyState(index, key.data, key.version, key.czxid)
        states = self.histories.setdefault(path, [])
        if states and states[-1].index == index:
            states[-1] = state
        else:
            states.append(state)

    def _check_owners(self, node: str, machine: TreeMachine) -> None:
        """E1: an ephemeral key exists only while its owner's session does."""
        sessions = machine.sessions
        for path, key in machine.tree.nodes.items():
            if key.owner and key.owner not in sessions:
                raise Violation("E1", f"{node} still has {path} of session {key.owner}, which has ended")

    def _diff(self, machine: TreeMachine) -> str:
        """The first lines that differ, when the replay stands at the same index."""
        if machine.applied != self.applied:
            return ""
        mine, its = set(map(repr, _model_lines(self.model))), set(map(repr, _machine_lines(machine)))
        return f"; replay: {sorted(mine - its)[:3]}, server: {sorted(its - mine)[:3]}"


def _commands(entry: Entry) -> list[list[Any]]:
    unpacker = msgpack.Unpacker(raw=False, use_list=True, strict_map_key=False)
    unpacker.feed(entry.payload)
    return list(unpacker)


def _due(entry: Entry) -> bool:
    """Whether whole states are compared after this entry; a snapshot is only taken after such a one."""
    if entry.kind is EntryKind.SNAPSHOT:
        return True
    return entry.last // FINGERPRINT_EVERY != (entry.first - 1) // FINGERPRINT_EVERY


def _values(op: int, arguments: list[Any]) -> Iterable[bytes]:
    """The data of a write's creates and sets."""
    if op == messages.MULTI:
        for step in arguments[0]:
            yield from _values(step[0], step[1:])
    elif op in (messages.CREATE, messages.SET) and len(arguments) == 3 and arguments[1]:
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
        yield path, key.data, stat, children.get(path, 0), key.next_number
    for session_id in sorted(model.sessions):
        session = model.sessions[session_id]
        yield session_id, session.password, session.timeout_ms, session.serial


def _machine_lines(machine: TreeMachine) -> Iterable[Any]:
    nodes = machine.tree.nodes
    for path in sorted(nodes):
        key = nodes[path]
        stat = (key.czxid, key.mzxid, key.pzxid, key.ctime, key.mtime, key.version, key.cversion, key.owner)
        yield path, key.data, stat, len(key.children or ()), key.sequence
    for session in sorted(machine.sessions.values(), key=lambda session: session.id):
        yield session.id, session.password, session.timeout_ms, session.serial
