"""The promises of Raft, checked from outside after every step of every node.

Looks at what nodes say of themselves, at their disks and at what has been committed so far; knows nothing
of how the rules reach their decisions, nor of faults. Everything is incremental: a step costs only what it
changed. Numbers are those of RELIABILITY, 3.3. Called by `node.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING, NoReturn
from zlib import crc32

from journal.raft.messages import AppendReply, Message, SnapshotReply, VoteReply, VoteRequest
from journal.raft.ready import ReadGrant, Role
from journal.record import decode_configuration
from journal.values import Configuration, Entry, EntryKind, HardState, Index, NodeId, Position, SnapshotMeta, Term
from tests.core_simulation.image import Image

if TYPE_CHECKING:
    from journal.raft.core import Core


class Broken(Exception):
    """A promise was not kept."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


def broken(invariant: str, what: str) -> NoReturn:
    raise Broken(invariant, what)


@dataclass(slots=True)
class Seen:
    """What was last seen of a node; everything but the durable term starts anew with each incarnation."""

    name: NodeId
    image: Image
    incarnation: int = 0
    durable_term: Term = Term(0)
    term: Term = Term(0)
    commit: Index = Index(0)
    applied: Index = Index(0)
    leading: bool = False
    last: Index = Index(0)
    """The end of a leader's log."""
    configuration: Configuration | None = None
    configuration_index: Index = Index(0)
    machine_index: Index = Index(0)
    machine_digest: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """The one entry that may ever be committed at its place."""

    first: Index
    term: Term
    crc: int


class Ghost:
    """What has happened so far, as far as the promises need it."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        """The newest that is committed, ..."""
        self.configuration_index = Index(0)
        """... and where."""
        self.seen: dict[NodeId, Seen] = {}
        self.leaders: dict[Term, tuple[NodeId, int]] = {}
        self.votes: dict[tuple[NodeId, Term], NodeId | None] = {}
        self.crcs: dict[tuple[Index, Term], tuple[int, int]] = {}
        """End and term of every entry that ever was on a disk -> the checksum before it and its own."""
        self.committed: dict[Index, Committed] = {}
        """By end of entry."""
        self.commit = Index(0)
        """The highest index that any leader has committed."""
        self.commit_of_term: dict[Term, Index] = {}
        """The highest index that was committed by each term's leader."""
        self.digests: dict[Index, int] = {Index(0): 0}
        """The machine's state after each entry."""
        self.asked: dict[int, Index] = {}
        """Read context -> what was committed when it was asked for."""
        self.grants = 0

    # A node's lives

    def add(self, name: NodeId, image: Image) -> None:
        self.seen[name] = Seen(name, image)

    def on_start(self, name: NodeId, core: Core) -> None:
        """A new incarnation, with the machine as its snapshot has it."""
        old = self.seen[name]
        digest = digest_of(old.image.snapshot)
        if core.term != old.image.hard_state.term:
            broken("I6", f"{name} starts in term {core.term}, on its disk is {old.image.hard_state.term}")
        self.seen[name] = Seen(
            name,
            old.image,
            old.incarnation + 1,
            old.durable_term,
            core.term,
            core.commit,
            core.applied,
            machine_index=core.applied,
            machine_digest=digest,
        )
        if self.digests.get(core.applied) != digest:
            broken("I10", f"{name} starts from a snapshot at {core.applied} that is not the state of that index")

    def observe(self, name: NodeId, core: Core) -> None:
        """After each step of a node."""
        seen = self.seen[name]
        state = core._state
        term, commit = state.term, state.commit
        if term < seen.term:
            broken("I6", f"the term of {name} fell from {seen.term} to {term}")
        if not seen.commit <= commit <= state.log.last_index:
            broken(
                "I6",
                f"the commit of {name} went from {seen.commit} to {commit}, its log ends at {state.log.last_index}",
            )
        if not seen.applied <= state.applied <= state.applying <= commit:
            broken("I6", f"{name} applied {state.applied} after {seen.applied}, applies {state.applying} of {commit}")
        leading = state.role is Role.LEADER
        if leading:
            if not seen.leading or term != seen.term:
                self._on_leader(seen, core)
            elif state.log.last_index < seen.last:
                broken("I3", f"leader {name} cut its own log from {seen.last} to {state.log.last_index}")
            seen.last = state.log.last_index
        if commit > seen.commit:
            self._on_commit(seen, core, leading)
        if state.configuration is not seen.configuration:
            # When its entry is cut away the node goes by a later index, which newcomers need not have.
            index = seen.configuration_index if state.configuration == seen.configuration else state.configuration_index
            self._on_configuration(seen, state.configuration)
            seen.configuration_index = index
        seen.term, seen.commit, seen.applied, seen.leading = term, commit, state.applied, leading

    # Terms, votes, logs

    def on_hard_state(self, name: NodeId, hard_state: HardState) -> None:
        """Term and vote have reached the disk."""
        seen = self.seen[name]
        if hard_state.term < seen.durable_term:
            broken("I6", f"the durable term of {name} fell from {seen.durable_term} to {hard_state.term}")
        seen.durable_term = hard_state.term
        known = self.votes.get((name, hard_state.term))
        if known is not None and known != hard_state.vote:
            broken("I2", f"{name} voted {known} and {hard_state.vote} in term {hard_state.term}")
        self.votes[name, hard_state.term] = hard_state.vote

    def on_entries(self, name: NodeId, removed: list[Entry], previous: Position, added: list[Entry]) -> None:
        """Entries have reached the disk behind `previous`, and made others go."""
        for entry in removed:
            known = self.committed.get(entry.last)
            if known is not None and known.crc == entry.crc:
                broken("I7", f"{name} removes committed index {entry.last}, term {entry.term}")
        # Equal pairs at every entry: then logs that have one entry in common have all before it in common.
        crc = previous.crc
        for entry in added:
            pair = (crc, entry.crc)
            if self.crcs.setdefault((entry.last, entry.term), pair) != pair:
                broken("I3", f"two logs differ up to index {entry.last}, term {entry.term}; one of them is {name}'s")
            crc = entry.crc

    def on_send(self, name: NodeId, core: Core, to: NodeId, message: Message) -> None:
        """A message leaves: what it promises must be on the disk."""
        if isinstance(message, AppendReply):
            image = self.seen[name].image
            if not message.refused and message.term == core.term and message.match > image.last_index:
                broken("I7", f"{name} acknowledges {message.match}, its disk ends at {image.last_index}")
        elif isinstance(message, VoteReply):
            if message.granted and not message.pre and self.votes.get((name, message.term)) != to:
                broken("I2", f"{name} grants {to} a vote in term {message.term} that is not on its disk")
        elif isinstance(message, VoteRequest):
            if not message.pre and self.votes.get((name, message.term)) != name:
                broken("I2", f"{name} asks for votes in term {message.term} without its own on its disk")
        elif isinstance(message, SnapshotReply) and message.installed and message.term == core.term:
            image = self.seen[name].image
            if message.index > image.last_index:
                broken("I7", f"{name} says it has snapshot {message.index}, its disk ends at {image.last_index}")

    def _on_leader(self, seen: Seen, core: Core) -> None:
        name, term = seen.name, core.term
        known = self.leaders.setdefault(term, (name, seen.incarnation))
        if known != (name, seen.incarnation):
            broken(
                "I1", f"{known[0]} and {name} lead term {term}" if known[0] != name else f"{name} leads {term} twice"
            )
        if self.votes.get((name, term)) != name:
            broken("I2", f"{name} leads term {term} without its own vote on its disk")
        # What leaders of later terms have committed meanwhile is nothing that this late one must have.
        needed = max((index for by, index in self.commit_of_term.items() if by < term), default=Index(0))
        log = core._state.log
        if needed > log.last_index or (needed > log.start.index and log._crc_at(needed) != self.committed[needed].crc):
            broken(
                "I4", f"leader {name} of term {term} lacks committed index {needed}, its log ends at {log.last_index}"
            )

    # Commits

    def _on_commit(self, seen: Seen, core: Core, leading: bool) -> None:
        state = core._state
        at = Index(seen.commit + 1)
        term = Term(0)
        while at <= state.commit:
            for entry in state.log.read(at, 1 << 40).entries:
                if entry.last > state.commit:
                    break
                self._check_committed(seen.name, entry, leading)
                term, crc = entry.term, entry.crc
                at = Index(entry.last + 1)
            else:
                continue
            break
        if at != state.commit + 1:
            broken("I5", f"{seen.name} commits up to {state.commit}, inside of an entry")
        if not leading:
            return
        if term != state.term:
            broken("I8", f"{seen.name} commits index {state.commit} of term {term} by counting in term {state.term}")
        # What the leader went by is the newest configuration before this step: a commit may have brought the next.
        configuration = seen.configuration or state.configuration
        for half in (configuration.voters, configuration.outgoing):
            holders = [name for name in half if self.seen[name].image.holds(state.commit, crc)]
            if half and len(holders) <= len(half) // 2:
                broken("I7", f"{seen.name} commits index {state.commit}, durable on {holders} of {half}")
        self.commit_of_term[state.term] = state.commit

    def _check_committed(self, name: NodeId, entry: Entry, leading: bool) -> None:
        known = self.committed.get(entry.last)
        if known is None:
            if not leading:
                broken("I5", f"{name} commits index {entry.last}, which no leader has committed")
            if entry.first != self.commit + 1:
                broken("I5", f"{name} commits {entry.first} to {entry.last} behind {self.commit}")
            self.committed[entry.last] = Committed(entry.first, entry.term, entry.crc)
            self.commit = entry.last
            if entry.kind is EntryKind.CONFIGURATION:
                self._on_committed_configuration(entry)
        elif (known.first, known.crc) != (entry.first, entry.crc):
            broken("I5", f"{name} commits term {entry.term} at {entry.last}, where term {known.term} was committed")

    def on_apply(self, name: NodeId, core: Core, entries: list[Entry]) -> None:
        """A machine takes in entries."""
        seen = self.seen[name]
        index, digest = seen.machine_index, seen.machine_digest
        for entry in entries:
            if entry.first != index + 1:
                broken("I5", f"{name} applies {entry.first} after {index}")
            index, digest = entry.last, crc32(entry.record, digest)
            if self.digests.setdefault(index, digest) != digest:
                broken("I5", f"the machine of {name} differs from another one at {index}")
        if index > core.commit or not seen.image.holds(index, entry.crc):
            broken("I6", f"{name} applies {index}, committed {core.commit}, on its disk {seen.image.last}")
        if core.divergence is not None:
            broken("I5", f"{name} is told that it differs at {core.divergence}")
        seen.machine_index, seen.machine_digest = index, digest

    # Configurations

    def _on_configuration(self, seen: Seen, configuration: Configuration) -> None:
        """I9: what a leader goes over to cannot decide beside what it had, and newcomers have at least the entry that
        named them. Others may skip steps, or go back."""
        if seen.leading and seen.configuration and not quorums_meet(seen.configuration, configuration):
            broken("I9", f"{seen.name} goes from {seen.configuration} to {configuration}: they can decide apart")
        if seen.leading and seen.configuration and configuration.outgoing:
            for name in sorted(set(configuration.voters).intersection(seen.configuration.learners)):
                image = self.seen[name].image
                if max(image.last_index, image.mark) < seen.configuration_index:
                    broken("I9", f"{name} gets a vote before it has the log up to {seen.configuration_index}")
        seen.configuration = configuration

    def _on_committed_configuration(self, entry: Entry) -> None:
        """I9: nor can what the cluster goes over to."""
        configuration = decode_configuration(entry)
        if not quorums_meet(self.configuration, configuration):
            broken("I9", f"{configuration} follows {self.configuration}: they can decide apart")
        self.configuration, self.configuration_index = configuration, entry.last

    # Snapshots

    def on_snapshot(self, name: NodeId, meta: SnapshotMeta) -> None:
        """A snapshot is durable, be it the node's own or a received one."""
        position = meta.position
        known = self.committed.get(position.index)
        if known is None or (known.term, known.crc) != (position.term, position.crc):
            broken(
                "I10", f"{name} has a snapshot at {position.index}, term {position.term}: nothing was committed there"
            )
        if self.digests.get(position.index) != digest_of(meta):
            broken("I10", f"the snapshot of {name} at {position.index} is not the state of that index")

    def on_restored(self, name: NodeId, core: Core, meta: SnapshotMeta) -> None:
        """Log and machine were replaced by a snapshot."""
        seen = self.seen[name]
        index = meta.position.index
        if index < seen.commit or core.commit != index or core.last_index != index:
            broken("I10", f"{name} goes to a snapshot at {index}: commit {seen.commit}, then {core.commit}")
        seen.commit = seen.applied = seen.machine_index = index
        seen.machine_digest = digest_of(meta)

    def on_cut(self, name: NodeId, core: Core) -> None:
        """The log was cut."""
        image = self.seen[name].image
        start = image.start.index
        if image.snapshot is None or start > image.snapshot.position.index:
            broken("I10", f"the log of {name} starts after {start}, its snapshot is {image.snapshot}")
        if core._state.log.start != image.start:
            broken("I10", f"{name} believes its log to start at {core._state.log.start}, not {image.start}")

    # Reads

    def on_ask(self, context: int) -> None:
        self.asked[context] = self.commit

    def on_grant(self, name: NodeId, grant: ReadGrant) -> None:
        """A read may be answered."""
        asked = self.asked[grant.context]
        if grant.index < asked:
            broken("I14", f"{name} may read at {grant.index}, when it asked {asked} was committed")
        self.grants += 1


def digest_of(meta: SnapshotMeta | None) -> int:
    """The machine's state in a snapshot, or at the very beginning."""
    return int.from_bytes(meta.digest, "little") if meta is not None else 0


_meetings: dict[tuple[Configuration, Configuration], bool] = {}


def quorums_meet(one: Configuration, other: Configuration) -> bool:
    """Whether every quorum of one has a node in common with every quorum of the other. By trying all."""
    known = _meetings.get((one, other))
    if known is None:
        nodes = sorted({*one.voters, *one.outgoing, *other.voters, *other.outgoing})
        subsets = chain.from_iterable(combinations(nodes, size) for size in range(len(nodes) + 1))
        known = _meetings[one, other] = not any(
            is_quorum(one, set(subset)) and is_quorum(other, set(nodes) - set(subset)) for subset in subsets
        )
    return known


def is_quorum(configuration: Configuration, nodes: set[NodeId]) -> bool:
    """Whether nodes are a majority of each half."""
    halves = (configuration.voters, configuration.outgoing)
    return all(2 * len(nodes.intersection(half)) > len(half) for half in halves if half)
