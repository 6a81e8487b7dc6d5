"""Requests that are lost, doubled and overtaken, origins that are forgotten, and states that jump: random, from seeds.

A node plays `Updates` against a log that another machine defines; whatever happens, a command is applied at most once,
and whoever is told that it was applied is told where and with what result.
"""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest

from journal import exactly_once
from journal.errors import JournalError, UpdateUncertain
from journal.exactly_once import ExactlyOnce, Results, opening
from journal.history import _Silent
from journal.levels import Response
from journal.record import make_entry
from journal.statemachine import Moment
from journal.updates import Update, Updates
from journal.values import Entry, EntryKind
from tests.support.machines import Ledger

NONCE = b"mine"


class Numbering(Ledger):
    """Answers with the command and its index, so that every result is one of a kind."""

    def apply(self, command: bytes, at: Moment) -> bytes | None:
        self.lines.append(command)
        return b"%s@%d" % (command, at.index)


class World:
    """The log as it is in truth, and one node that applies it later, or skips a part of it by a snapshot."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.truth = ExactlyOnce(Numbering(), _Silent(), 50)
        self.mine = ExactlyOnce(Numbering(), self, 50)
        self.updates = Updates(1 << 20, lambda: None)
        self.opening = False
        self.log: list[Entry] = []
        self.applied = 0
        """How many entries of the log this node has taken in."""
        self.wire: list[bytes] = []
        self.asked: dict[bytes, Update] = {}
        self.told: dict[bytes, tuple[int, Results] | type[JournalError]] = {}
        self.given_up: set[bytes] = set()

    # The hooks of this node.

    def on_opened(self, nonce: bytes, origin: int) -> None:
        if nonce == NONCE and self.opening:
            self.opening = False
            self.updates.origin = origin

    def on_results(self, origin: int, serial: int, index: int, results: Results) -> None:
        if origin == self.updates.origin:
            self.updates.on_results(serial, index, results)

    def on_forgotten(self, origin: int, serial: int) -> None:
        if origin == self.updates.origin:
            self.updates.on_forgotten()

    def on_event(self, index: int, event: bytes) -> None: ...

    def on_replaced(self, index: int) -> None: ...

    # What may happen.

    def ask(self) -> None:
        name = b"u%d" % len(self.asked)
        commands = tuple(b"%s.%d" % (name, at) for at in range(self.random.choice((1, 1, 3))))

        def tell(index: int, results: Results, error: JournalError | None) -> None:
            assert name not in self.told and name not in self.given_up, name
            self.told[name] = (index, results) if error is None else type(error)

        if len(self.updates) < 8:
            self.asked[name] = self.updates.add(commands, Response.REPLICATION, tell)

    def propose(self) -> None:
        """Everything, or one by chance: then it may be behind a gap."""
        if not self.updates.origin:
            self.opening = True
            self.wire.append(opening(NONCE))
            return
        requests = [self.updates.request(update) for update in self.updates]
        self.wire += requests if self.random.random() < 0.5 else self.random.sample(requests, min(1, len(requests)))

    def lose(self) -> None:
        if self.wire:
            self.wire.pop(self.random.randrange(len(self.wire)))

    def double(self) -> None:
        if self.wire:
            self.wire.append(self.random.choice(self.wire))

    def arrive(self) -> None:
        """Requests reach the log, mostly in order, several in one entry."""
        payload, count = [], 0
        for _ in range(self.random.choice((1, 2, 5))):
            if self.wire:
                request = self.wire.pop(0 if self.random.random() < 0.9 else self.random.randrange(len(self.wire)))
                payload.append(request)
                count += len(msgpack.unpackb(request)[3]) or 1
        if count:
            self.append(b"".join(payload), count)

    def others_open(self) -> None:
        """Enough other origins, and ours is forgotten."""
        for _ in range(self.random.choice((1, 3))):
            self.append(opening(b"other"), 1)

    def append(self, payload: bytes, count: int) -> None:
        entry = make_entry(self.truth.applied + 1, 1, 0, EntryKind.COMMANDS, payload, 0, count=count)
        self.truth.apply(entry)
        self.log.append(entry)

    def apply(self) -> None:
        for entry in self.log[self.applied : self.applied + self.random.choice((1, 3, 10))]:
            self.mine.apply(entry)
            self.applied += 1

    def jump(self) -> None:
        """A snapshot of the truth takes the place of what this node has not applied."""
        if self.applied < len(self.log):
            self.mine.restore(list(self.truth.snapshot()))
            self.applied = len(self.log)
            self.updates.restored(self.mine.origins.get(self.updates.origin))

    def give_up(self) -> None:
        waiting = [name for name in self.asked if name not in self.told and name not in self.given_up]
        if waiting:
            name = self.random.choice(waiting)
            if self.updates.abandon(self.asked[name]):
                self.told[name] = JournalError
            self.given_up.add(name)

    # The end.

    def settle(self) -> None:
        for _ in range(50):
            self.propose()
            while self.wire:
                self.arrive()
            while self.applied < len(self.log):
                self.apply()

    def check(self) -> None:
        lines = self.lines()
        assert lines == list(dict.fromkeys(lines)), "applied twice"
        assert self.mine.digest() == self.truth.digest()
        assert len(self.updates) == 0
        for name in self.asked:
            applied = [line for line in lines if line.partition(b".")[0] == name]
            outcome = self.told.get(name)
            assert outcome is not None or name in self.given_up, name
            if isinstance(outcome, tuple):
                index, results = outcome
                assert results == tuple(b"%s@%d" % (line, index + at) for at, line in enumerate(applied)), name
                assert applied, name
            elif outcome is JournalError:
                assert not applied, name
            else:
                assert outcome is UpdateUncertain or name in self.given_up
        order = [int(line[1:].partition(b".")[0]) for line in lines]
        assert order == sorted(order), "in the order in which they were asked for"

    def lines(self) -> list[bytes]:
        machine: Any = self.truth.machine
        lines: list[bytes] = machine.lines
        return lines


@pytest.mark.parametrize("seed", range(60))
def test_a_command_is_applied_at_most_once_and_told_as_it_was(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one promise that nothing else may break."""
    monkeypatch.setattr(exactly_once, "ORIGINS_MAX", 3)
    monkeypatch.setattr(exactly_once, "RESULTS_KEPT_MAX", 8)
    monkeypatch.setattr(exactly_once, "RESULT_BYTES_KEPT_MAX", 40)
    world = World(seed)
    steps = {
        world.ask: 20,
        world.propose: 20,
        world.arrive: 25,
        world.apply: 20,
        world.lose: 6,
        world.double: 4,
        world.others_open: 3,
        world.jump: 4,
        world.give_up: 2,
    }
    for step in world.random.choices(list(steps), list(steps.values()), k=600):
        step()
    world.settle()
    world.check()
