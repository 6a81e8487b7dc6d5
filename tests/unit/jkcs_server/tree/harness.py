"""A tree machine with a log in front of it and a notebook behind it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import msgpack

from jkcs_client.protocol.messages import ANY_VERSION, CHECK, CLOSE, CREATE, DELETE, GUARD, MULTI, SET, SET_ACL
from jkcs_server.tree.acl import Acl, entries_of
from jkcs_server.tree.commands import EXPIRE, OPEN
from jkcs_server.tree.keytree import CONTAINER, TTL
from jkcs_server.tree.machine import TreeMachine
from journal.record import make_entry
from journal.values import Entry, EntryKind

STAMP = 1_700_000_000_000
TERM = 3
PASSWORD = b"p" * 16


class Notebook:
    """Hooks and owner of every session at once: writes down in one order all that it is told."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        self.notes.append(("event", int(kind), path, index))

    def on_opened(self, password: bytes, session_id: int, index: int) -> None:
        self.notes.append(("opened", password, session_id, index))

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        self.notes.append(("moved", session_id, nonce, index))

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        self.notes.append(("ended", session_id, index, expired))

    def on_outcome(self, serial: int, code: int, index: int, result: Any) -> None:
        self.notes.append(("outcome", serial, code, index, result))

    def take(self) -> list[tuple[Any, ...]]:
        notes, self.notes = self.notes, []
        return notes


class Everyone(dict[int, Any]):
    """Owners: one notebook for every session."""

    def __init__(self, notebook: Notebook) -> None:
        super().__init__()
        self._notebook = notebook

    def get(self, key: int, default: Any = None) -> Any:
        return self._notebook


def entry_of(
    first: int, payload: bytes, count: int, term: int = TERM, kind: EntryKind = EntryKind.COMMANDS, stamp: int = STAMP
) -> Entry:
    return make_entry(first, term, stamp, kind, payload, 0, count=count)


class Log:
    """Appends commands and applies them at once."""

    def __init__(self) -> None:
        self.notebook = Notebook()
        self.machine = TreeMachine(self.notebook)
        self.machine.owners = Everyone(self.notebook)
        self.serials: dict[int, int] = {}

    @property
    def next_index(self) -> int:
        return self.machine.applied + 1

    def apply(self, *commands: Any, term: int = TERM, stamp: int = STAMP) -> list[tuple[Any, ...]]:
        """Apply commands in one entry; returns what was told."""
        payload = b"".join(msgpack.packb(command) for command in commands)
        self.machine.apply(entry_of(self.next_index, payload, len(commands), term, stamp=stamp))
        return self.notebook.take()

    def open(self, password: bytes | None = None, timeout_ms: int = 10_000) -> int:
        session = self.next_index
        if password is None:
            password = session.to_bytes(len(PASSWORD), "big")
        self.apply((OPEN, 0, 0, 0, password, timeout_ms))
        self.serials[session] = 0
        return session

    def command(self, session: int, op: int, *arguments: Any, acked: int | None = None) -> tuple[Any, ...]:
        """A session's next write; all before it are acknowledged unless told otherwise."""
        self.serials[session] += 1
        serial = self.serials[session]
        return (op, session, serial, serial - 1 if acked is None else acked, *arguments)

    def write(self, session: int, op: int, *arguments: Any) -> tuple[int, Any]:
        """Apply a session's next write; returns code and result."""
        return outcome_in(self.apply(self.command(session, op, *arguments)))

    def close(self, session: int) -> list[tuple[Any, ...]]:
        return self.apply(self.command(session, CLOSE))

    def expire(self, session: int, term: int = TERM, entry_term: int = TERM) -> list[tuple[Any, ...]]:
        return self.apply((EXPIRE, session, 0, 0, term), term=entry_term)


def outcome_in(notes: Iterable[tuple[Any, ...]]) -> tuple[int, Any]:
    [outcome] = [note for note in notes if note[0] == "outcome"]
    return outcome[2], outcome[4]


def events_in(notes: Iterable[tuple[Any, ...]]) -> list[tuple[int, str]]:
    return [(note[1], note[2]) for note in notes if note[0] == "event"]


def dump(machine: TreeMachine) -> dict[str, tuple[Any, ...]]:
    """Everything about every key that a reader could see, and the counter that none does."""
    return {
        path: (node.data, node.stat(), node.sequence, node.child_names(), entries_of(node.acl))
        for path, node in machine.tree.nodes.items()
    }


NAMES = ("a", "b", "n-")
LISTS = (None, [[31, "world", "anyone"], [1, "digest", "me:x"]], [[27, "world", "anyone"]])
"""Lists under which most goes on."""


def random_path(chance: random.Random) -> str:
    return "/" + "/".join(chance.choice(NAMES) for _ in range(chance.randint(1, 3)))


def random_step(chance: random.Random, index: int) -> tuple[Any, ...]:
    """One operation that often, not always, can succeed."""
    op = chance.choice((CREATE, CREATE, CREATE, CREATE, SET, SET, DELETE, CHECK, GUARD, SET_ACL))
    path = random_path(chance)
    data = bytes([chance.randrange(256)]) * chance.randrange(20)
    version = chance.choice((ANY_VERSION, ANY_VERSION, 0, 1))
    if op == SET_ACL:
        return SET_ACL, path, chance.choice(LISTS), version
    if op == CREATE and chance.random() < 0.25:
        flags, ttl = chance.choice(((0, 0), (CONTAINER, 0), (TTL, 5), (TTL, 900)))
        return CREATE, path, data, flags, chance.choice(LISTS), ttl
    if op == CREATE:
        return CREATE, path + chance.choice(("", "", "/")), data, chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 2, 4))
    if op == SET:
        return SET, path, data, version
    if op == GUARD:
        return GUARD, path, chance.randint(0, index)
    return op, path, version


def random_history(seed: int, length: int) -> Iterator[tuple[Any, ...]]:
    """Commands for the indices 1, 2, 3 ...: all kinds, with repeats, gaps and sessions that are gone."""
    chance = random.Random(seed)
    serials: dict[int, int] = {}
    for index in range(1, length + 1):
        dice = chance.random()
        if not serials or dice < 0.05:
            yield OPEN, 0, 0, 0, index.to_bytes(16, "big"), 10_000
            serials[index] = 0
            continue
        session = chance.choice(list(serials))
        if dice < 0.08:
            yield EXPIRE, session, 0, 0, chance.choice((TERM, TERM - 1))
            continue
        serial = serials[session] + 1
        acked = max(0, serial - chance.randint(1, 4))
        if dice < 0.10:
            yield CLOSE, session, serial, acked
        elif dice < 0.18:
            yield SET, session, max(1, serial - chance.randint(1, 6)), acked, "/a", b"again", ANY_VERSION
            continue
        elif dice < 0.20:
            yield SET, session, serial + 1, acked, "/a", b"gap", ANY_VERSION
            continue
        elif dice < 0.35:
            steps = tuple(random_step(chance, index) for _ in range(chance.randint(0, 4)))
            yield MULTI, session, serial, acked, steps
        else:
            op, *arguments = random_step(chance, index)
            yield op, session, serial, acked, *arguments
        serials[session] = serial


def replay(seed: int, length: int) -> tuple[Log, list[tuple[Any, ...]]]:
    """A random history applied; returns the log and all that was told."""
    log = Log()
    notes = [note for command in random_history(seed, length) for note in log.apply(command)]
    return log, notes
