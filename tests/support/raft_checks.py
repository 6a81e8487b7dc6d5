"""The safety properties of Raft, checked from outside after every effect of every node.

Knows nothing of messages or of how the rules reach their decisions: it looks at what nodes say of
themselves, at their disks, and at what was committed so far. Numbers are those of RELIABILITY.md, 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from journal.raft.ready import ReadGrant, Role
from journal.record import decode_configuration
from journal.values import Configuration, Entry, NodeId

if TYPE_CHECKING:
    from tests.support.raft_cluster import Node


class RaftChecks:
    """What has happened so far, as far as the properties need it."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.watching = True
        self.nodes: dict[NodeId, Node] = {}
        self.leaders: dict[int, NodeId] = {}
        self.votes: dict[tuple[NodeId, int], NodeId] = {}
        self.committed: dict[int, Entry] = {}
        """End of entry -> the one entry that may ever be committed there."""
        self.crcs: dict[tuple[int, int], int] = {}
        self.marks: dict[NodeId, tuple[int, int, int, object]] = {}
        self.reads = 0

    def observe(self, node: Node) -> None:
        """After each Ready of a node."""
        core = node.core
        if core.role is Role.LEADER:
            known = self.leaders.setdefault(core.term, node.name)
            assert known == node.name, f"I1: {known} and {node.name} lead term {core.term}"
            if core.term == max(self.leaders):  # one of an older term may not know yet that it is over
                self._leader_is_complete(node)
        term, commit, applied, incarnation = self.marks.get(node.name, (0, 0, 0, None))
        if incarnation is core:
            assert core.term >= term, f"I6: term of {node.name} fell from {term} to {core.term}"
            assert core.commit >= commit, f"I6: commit of {node.name} fell from {commit} to {core.commit}"
            assert core.applied >= applied, f"I6: applied of {node.name} fell from {applied} to {core.applied}"
        assert core.applied <= core.commit <= core.last_index, (core.applied, core.commit, core.last_index)
        self.marks[node.name] = (core.term, core.commit, core.applied, core)

    def on_saved(self, node: Node) -> None:
        """After each write of a node."""
        state = node.disk.hard_state
        if state.vote is not None:
            known = self.votes.setdefault((node.name, state.term), state.vote)
            assert known == state.vote, f"I2: {node.name} voted {known} and {state.vote} in term {state.term}"
        for entry in node.disk.entries[-3:]:
            crc = self.crcs.setdefault((entry.last, entry.term), entry.crc)
            assert crc == entry.crc, f"I3: two logs differ at index {entry.last}, term {entry.term}"

    def on_committed(self, node: Node, entries: list[Entry]) -> None:
        """When a node's machine takes in entries."""
        for entry in entries:
            known = self.committed.get(entry.last)
            if known is None:
                self._is_on_a_quorum(node, entry)
                self.committed[entry.last] = entry
            else:
                assert (known.first, known.crc) == (entry.first, entry.crc), (
                    f"I5: {node.name} applies term {entry.term} at {entry.last}, where term {known.term} was committed"
                )

    def on_read(self, grant: ReadGrant) -> None:
        self.reads += 1

    def commit_mark(self) -> int:
        """The highest index that any machine has seen."""
        return max(self.committed, default=0)

    def _is_on_a_quorum(self, node: Node, entry: Entry) -> None:
        """By the configuration of that index, or by one behind it in the same log: leaders count by their newest."""
        if not self.watching:
            return
        log = node.core._state.log
        later = [decode_configuration(change) for change in log.configurations if change.last > entry.last]
        configurations = [node.core.configuration_at(entry.last), *later]
        missing = [self._minority(one, entry) for one in configurations]
        assert not all(missing), f"I7: index {entry.last} committed, but {' and '.join(missing)}"

    def _minority(self, configuration: Configuration, entry: Entry) -> str:
        """A half of the configuration of which no majority has the entry, as text; else empty."""
        for half in (configuration.voters, configuration.outgoing):
            holders = [name for name in half if self._holds(self.nodes[name], entry)]
            if half and len(holders) <= len(half) // 2:
                return f"of {half} it is durable only on {holders}"
        return ""

    def _holds(self, node: Node, entry: Entry) -> bool:
        disk = node.disk
        if disk.start.index >= entry.last:
            return True
        return any(own.last == entry.last and own.crc == entry.crc for own in reversed(disk.entries))

    def _leader_is_complete(self, node: Node) -> None:
        for last, entry in list(self.committed.items())[-3:]:
            log = node.core._state.log
            if last > log.start.index:
                assert log.term_at(entry.last) == entry.term, f"I4: leader {node.name} lacks committed index {last}"
