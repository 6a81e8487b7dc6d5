"""What is safe on the disks, against what was promised (I2, I3, I6, I7, I9, R2, and what a restart may lose).

Follows each simulated disk: which records and which vote would be left if the power failed now. Compares
it with what leaves the server: a vote, an acknowledgement, a commit. Changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from journal.errors import CorruptRecord
from journal.raft.messages import AppendReply, Message, VoteReply, VoteRequest
from journal.record import read_entry
from journal.storage.segment import BATCH_BYTES, BATCH_MAGIC
from journal.values import Configuration, Entry, HardState, NodeId
from tests.simulation.checkers.quorums import is_quorum, quorums_meet
from tests.simulation.checkers.raft import Committed
from tests.simulation.trace import Violation

RECORD_BYTES_MAX = 1 << 30


class DurableLog:
    """The records on one disk that a power failure would leave."""

    def __init__(self) -> None:
        self.snapshot = 0
        """Index of the newest durable snapshot."""
        self._firsts: list[int] = []
        self._records: list[tuple[int, int, int]] = []
        """(last index, term, checksum), beside `_firsts`."""

    def on_written(self, data: bytes) -> None:
        """Some bytes became durable. Records of a batch replace what was there from their index on."""
        at = BATCH_BYTES
        while data.startswith(BATCH_MAGIC) and at < len(data):
            try:
                entry, at = read_entry(data, at, None, RECORD_BYTES_MAX)
            except CorruptRecord:
                return
            self.put(entry.first, entry.last, entry.term, entry.crc)

    def put(self, first: int, last: int, term: int, crc: int) -> None:
        keep = bisect_left(self._firsts, first)
        del self._firsts[keep:]
        del self._records[keep:]
        self._firsts.append(first)
        self._records.append((last, term, crc))

    def term_at(self, index: int) -> int | None:
        """The term of the durable record that covers `index`."""
        place = bisect_right(self._firsts, index) - 1
        if place < 0:
            return None
        last, term, _ = self._records[place]
        return term if index <= last else None

    def has(self, position: Committed) -> bool:
        return position.index <= self.snapshot or self.term_at(position.index) == position.term


class DurabilityChecker:
    """All disks of one world."""

    def __init__(self, nodes: Iterable[NodeId], hard_state: Callable[[NodeId], HardState]) -> None:
        self.logs = {node: DurableLog() for node in nodes}
        self._before_damage: list[tuple[NodeId, DurableLog]] = []
        """What disks held until they were damaged at rest."""
        self._hard_state = hard_state
        """Reads the term and vote that a power failure would leave on a disk."""
        self._states: dict[NodeId, HardState] = {}
        """The newest that each disk was seen to hold."""
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        """Whom a disk has ever named as the vote of a term."""
        self._decided_by: Configuration | None = None
        """The configuration that made the newest commit."""

    def on_commit(self, position: Committed, configuration: Configuration) -> None:
        """A position is committed for the first time: a quorum of disks must hold it already.

        A disk counts that held it when that was said and was damaged since: its node has no vote before it has it
        again.
        """
        logs = [*self.logs.items(), *self._before_damage]
        holders = {node for node, log in logs if log.has(position)}
        if not is_quorum(configuration, holders):
            raise Violation(
                "I7",
                f"index {position.index} of term {position.term} is committed, but only durable on {sorted(holders)}",
            )
        before = self._decided_by
        if before is not None and before != configuration and not quorums_meet(before, configuration):
            raise Violation("I9", f"{configuration} decides index {position.index} without anybody of {before}")
        self._decided_by = configuration

    def on_hard_state(self, node: NodeId) -> None:
        """Something of a disk's term and vote became durable (I2 and I6, on what a power failure would leave)."""
        state, before = self._hard_state(node), self._states.get(node, HardState())
        if state.term < before.term:
            raise Violation("I6", f"the disk of {node} was in term {before.term} and is in {state.term}")
        if state.vote is not None:
            known = self._votes.setdefault((node, state.term), state.vote)
            if known != state.vote:
                raise Violation("I2", f"the disk of {node} votes for {known} and for {state.vote} in term {state.term}")
        elif state.term == before.term and before.vote is not None:
            raise Violation("I2", f"the disk of {node} has forgotten its vote for {before.vote} in term {state.term}")
        self._states[node] = state

    def on_send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        """What a message promises must be on its sender's disk before it leaves."""
        if isinstance(message, AppendReply):
            if not message.refused and message.match:
                self._check_acknowledged(sender, message)
        elif isinstance(message, VoteReply):
            if message.granted and not message.pre:
                self._check_vote(sender, message.term, to)
        elif isinstance(message, VoteRequest) and not message.pre:
            self._check_vote(sender, message.term, sender)

    def on_recovered(self, node: NodeId, found: DurableLog, newest: Committed) -> None:
        """A restarted process tells what it found; of what is committed, nothing durable may be gone."""
        before = self.logs[node]
        if before.has(newest) and not found.has(newest) and found.snapshot < newest.index:
            raise Violation(
                "I7",
                f"{node} had the committed index {newest.index} of term {newest.term} on disk and lost it in a crash",
            )
        found.snapshot = max(found.snapshot, before.snapshot)
        self.logs[node] = found

    def on_damaged(self, node: NodeId, found: DurableLog) -> None:
        """A restarted process tells what it found on a disk that was damaged at rest."""
        self._before_damage.append((node, self.logs[node]))
        self.logs[node] = found

    def check_acknowledged_is(self, sender: NodeId, match: int, leader: NodeId, term_at: int | None) -> None:
        """What is acknowledged is what the leader has there, of `term_at`, and not only as long (I3)."""
        log = self.logs[sender]
        mine = log.term_at(match)
        if match > log.snapshot and None not in (mine, term_at) and mine != term_at:
            raise Violation(
                "I3", f"{sender} acknowledges index {match} of term {mine}; {leader} asked for that of {term_at}"
            )

    def check_applied(self, node: NodeId, entry: Entry) -> None:
        """Nothing is applied that is not on the own disk, or a snapshot might be ahead of the log beside it (R2)."""
        log = self.logs[node]
        found = log.term_at(entry.last)
        if entry.last > log.snapshot and found != entry.term:
            raise Violation(
                "R2",
                f"{node} applies index {entry.last} of term {entry.term}; its disk has term {found} there",
            )

    def _check_acknowledged(self, sender: NodeId, message: AppendReply) -> None:
        log = self.logs[sender]
        if message.match > log.snapshot and log.term_at(message.match) is None:
            raise Violation("R2", f"{sender} acknowledges index {message.match}, which is not on its disk")

    def _check_vote(self, sender: NodeId, term: int, candidate: NodeId) -> None:
        state = self._hard_state(sender)
        if state.term < term or (state.term == term and state.vote != candidate):
            raise Violation(
                "I2", f"{sender} votes for {candidate} in term {term}, but its disk says {state.vote} in {state.term}"
            )
