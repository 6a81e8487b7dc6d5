"""The commands of one replica on their way into the log: gathered per pass, appended here or sent to the leader.

A command may get lost on its way; whoever waits for it proposes it again. A proposal may ask to be told when the
leader has it in memory or on its disk. Called by `replica.py` only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from journal.errors import Busy
from journal.limits import Limits
from journal.raft.core import Core
from journal.raft.messages import RECEIVED, STORED, Message, Proposal, ProposalReply
from journal.raft.ready import Role
from journal.values import Index, NodeId, Term

logger = logging.getLogger("journal.proposing")


class Ways(Protocol):
    """What of a network is needed here."""

    def send(self, to: NodeId, message: Message) -> None: ...

    def connected(self) -> tuple[NodeId, ...]: ...


class _Promise:
    """An answer that is owed once the leader's own disk has the commands up to `last`."""

    __slots__ = ("asker", "context", "index", "last", "term")

    def __init__(self, asker: NodeId | None, context: int, index: Index, last: Index, term: Term) -> None:
        self.asker = asker
        self.context = context
        self.index = index
        self.last = last
        self.term = term


class Proposing:
    """The proposals of one replica. `answered` is told what became of those that wanted an answer."""

    def __init__(
        self,
        core: Core,
        network: Ways,
        limits: Limits,
        wall: Callable[[], int],
        answered: Callable[[int, Index], None],
    ) -> None:
        self._core = core
        self._network = network
        self._limits = limits
        self._wall = wall
        self._answered = answered
        self._commands: dict[int, list[bytes]] = {}
        """Machine -> commands that wait for the next pass."""
        self._bytes = 0
        self._promises: deque[_Promise] = deque()
        """In the order of their indices."""

    def add(self, command: bytes, machine: int) -> None:
        commands = self._commands.get(machine)
        if commands is None:
            commands = self._commands[machine] = []
        commands.append(command)
        self._bytes += len(command)

    def forget(self) -> None:
        """Drop what has not left: the owner is about to propose all that it waits for again."""
        self._commands.clear()
        self._bytes = 0

    @property
    def waiting(self) -> tuple[int, int]:
        """Commands that have not left, and their bytes."""
        return sum(map(len, self._commands.values())), self._bytes

    @property
    def overloaded(self) -> bool:
        """More commands wait than the limit allows."""
        return self._bytes > self._limits.proposals_bytes_max

    # Once per pass.

    def hand_in(self, now: float) -> None:
        """Append what waits, or send it to the leader; what finds neither waits on."""
        if not self._commands:
            return
        core = self._core
        if core.role is Role.LEADER:
            for machine in sorted(self._commands):
                if not self._append(machine, now):
                    break
        elif core.leader is not None and core.leader in self._network.connected():
            for machine, commands in sorted(self._commands.items()):
                for payload, count in self._batches(commands):
                    self._network.send(core.leader, Proposal(core.term, machine, 0, count, payload))
            self.forget()

    def _append(self, machine: int, now: float) -> bool:
        """Into the log, as far as it takes them; False when the rest must wait for a later pass."""
        commands = self._commands[machine]
        handed_in = 0
        try:
            for payload, count in self._batches(commands):
                if self._core.propose(payload, count, self._wall(), now, machine=machine) is None:
                    break  # handing over: the commands wait for the next leader
                handed_in += count
        except Busy:
            pass  # commits will free room, and every commit ends in another pass
        if handed_in == len(commands):
            del self._commands[machine]
            self._bytes = sum(sum(map(len, rest)) for rest in self._commands.values()) if self._commands else 0
            return True
        self._bytes -= sum(map(len, commands[:handed_in]))
        del commands[:handed_in]
        return False

    def _batches(self, commands: list[bytes]) -> list[tuple[bytes, int]]:
        """The commands, joined into payloads of at most `record_bytes_max`."""
        if self._bytes <= self._limits.record_bytes_max:
            return [(b"".join(commands), len(commands))]
        batches: list[tuple[bytes, int]] = []
        start, size = 0, 0
        for at, command in enumerate(commands):
            if size and size + len(command) > self._limits.record_bytes_max:
                batches.append((b"".join(commands[start:at]), at - start))
                start, size = at, 0
            size += len(command)
        batches.append((b"".join(commands[start:]), len(commands) - start))
        return batches

    # With an answer.

    def ask(self, payload: bytes, count: int, machine: int, context: int, ack: int, now: float) -> bool:
        """Propose at once and be told of it through `answered`; False when no leader can be reached."""
        core = self._core
        proposal = Proposal(core.term, machine, 0, count, payload, context, ack)
        if core.role is Role.LEADER:
            self.take(None, proposal, now)
        elif core.leader is not None and core.leader in self._network.connected():
            self._network.send(core.leader, proposal)
        else:
            return False
        return True

    def take(self, asker: NodeId | None, proposal: Proposal, now: float) -> None:
        """Commands of another node, or with `asker` None of this one. Dropped when this node cannot take them:
        whoever wants an answer is told, everybody else proposes again."""
        core = self._core
        if core.role is not Role.LEADER:
            return
        index: Index | None = None
        try:
            if asker is None or not self.overloaded:
                index = core.propose(proposal.payload, proposal.count, self._wall(), now, machine=proposal.machine)
        except Busy:
            logger.debug("busy: dropped a proposal of %d commands", proposal.count)
        if proposal.ack == STORED and index is not None:
            last = Index(index + proposal.count - 1)
            self._promises.append(_Promise(asker, proposal.context, index, last, core.term))
        elif proposal.ack:
            self._answer(asker, proposal.context, RECEIVED, index or Index(0))

    def on_saved(self) -> None:
        """The disk has moved on."""
        promises, core = self._promises, self._core
        while promises and (promises[0].term != core.term or promises[0].last <= core.durable):
            promise = promises.popleft()
            if promise.term == core.term and core.role is Role.LEADER:
                self._answer(promise.asker, promise.context, STORED, promise.index)

    def _answer(self, asker: NodeId | None, context: int, ack: int, index: Index) -> None:
        if asker is None:
            self._answered(context, index)
        else:
            self._network.send(asker, ProposalReply(self._core.term, context, ack, index))
