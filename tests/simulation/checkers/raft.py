"""The safety of Raft, watched from outside at every step of every server (I1-I6, I8, VOTES).

Keeps a ghost of what was ever decided, which no crash can take away. Sees each server through a `View`
and each message as it leaves; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from journal.raft.messages import Append, Message, VoteReply, VoteRequest
from journal.values import Configuration, Entry, NodeId
from tests.simulation.checkers.quorums import is_quorum
from tests.simulation.trace import Violation


class View(Protocol):
    """What the checkers see of one server's core, read anew at each step."""

    @property
    def leads(self) -> bool: ...

    @property
    def term(self) -> int: ...

    @property
    def commit(self) -> int: ...

    @property
    def applied(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    @property
    def matches(self) -> dict[object, int]:
        """How far a leader believes each of its peers to be; empty on others. The keys are what it keeps of each: a
        peer that was no member for a while is another one."""

    def term_at(self, index: int) -> int | None:
        """None where the log does not reach, or was cut away."""


@dataclass(slots=True)
class _Seen:
    """One server as it was at its last step."""

    term: int = 0
    commit: int = 0
    applied: int = 0
    leads: bool = False
    matches: dict[object, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """A position that some server's commit index has reached."""

    index: int = 0
    term: int = 0


class RaftChecker:
    """Ghost state of the consensus, over all crashes."""

    def __init__(self) -> None:
        self.newest = Committed()
        """The furthest position ever committed."""
        self._newest_of_term: dict[int, int] = {}
        """Term -> the last index committed in it; entries of older terms before it are committed with it."""
        self.leaders: dict[int, NodeId] = {}
        """Who led each term."""
        self._votes: dict[tuple[NodeId, int], NodeId] = {}
        """Whom each server gave its one vote of a term."""
        self._records: dict[tuple[int, int], int] = {}
        """(last index, term) of a record -> its chained checksum."""
        self._applied: dict[int, tuple[int, int, int]] = {}
        """First index of an applied entry -> (last index, term, checksum)."""
        self._seen: dict[NodeId, _Seen] = {}
        self._elected: set[tuple[NodeId, int]] = set()
        """Leaders whose votes were counted."""

    def begin(self, position: Committed) -> None:
        """All up to here was committed before the run began."""
        self.newest = position
        self._newest_of_term[position.term] = position.index

    def on_start(self, node: NodeId, view: View) -> None:
        """A process has recovered: its term may not be older than what it had before the crash."""
        seen = self._seen.get(node)
        if seen is not None and view.term < self._durable_term(node):
            raise Violation(
                "I6", f"{node} forgot term {self._durable_term(node)} in a crash and is back in {view.term}"
            )
        self._seen[node] = _Seen(view.term)

    def on_step(self, node: NodeId, view: View) -> Committed | None:
        """Look at a server after one of its callbacks. Returns the position when it is the first to commit it."""
        seen = self._seen[node]
        term, commit, applied, leads = view.term, view.commit, view.applied, view.leads
        if leads:
            self._check_matches(node, seen, view)
        if (term, commit, applied, leads) == (seen.term, seen.commit, seen.applied, seen.leads):
            return None
        for what, before, now in (("term", seen.term, term), ("commit", seen.commit, commit)):
            if now < before:
                raise Violation("I6", f"{what} of {node} fell from {before} to {now}")
        if applied < seen.applied or applied > commit:
            raise Violation("I6", f"{node} applied {seen.applied}, then {applied}, with commit {commit}")
        if leads and (term != seen.term or not seen.leads):
            self._on_leader(node, term, view)
        first = self._on_commit(node, view) if commit > seen.commit else None
        seen.term, seen.commit, seen.applied, seen.leads = term, commit, applied, leads
        if not leads:
            seen.matches = {}
        return first

    def on_send(self, sender: NodeId, to: NodeId, message: Message) -> None:
        """Look at a message before the network does anything to it."""
        kind = type(message)
        if kind is VoteReply:
            assert isinstance(message, VoteReply)
            if message.granted and not message.pre:
                self._on_vote(sender, message.term, to)
        elif kind is VoteRequest:
            assert isinstance(message, VoteRequest)
            if not message.pre:
                self._on_vote(sender, message.term, sender)
        elif kind is Append:
            assert isinstance(message, Append)
            for entry in message.entries:
                crc = self._records.setdefault((entry.last, entry.term), entry.crc)
                if crc != entry.crc:
                    raise Violation("I3", f"{sender} has another entry {entry.last} of term {entry.term} than was sent")

    def check_elected(self, node: NodeId, term: int, configuration: Configuration) -> None:
        """A leader was voted for by a quorum, which is what makes it the only one (VOTES)."""
        if (node, term) in self._elected:
            return
        self._elected.add((node, term))
        voters = {voter for (voter, of_term), chosen in self._votes.items() if of_term == term and chosen == node}
        if not is_quorum(configuration, voters | {node}):
            raise Violation("VOTES", f"{node} leads term {term}, and only {sorted(voters)} voted for it")

    def on_apply(self, node: NodeId, entry: Entry) -> bool:
        """An entry reaches a server's machine. True when no server applied it before."""
        mine = (entry.last, entry.term, entry.crc)
        known = self._applied.get(entry.first)
        if known is None:
            self._applied[entry.first] = mine
            return True
        if known != mine:
            raise Violation(
                "I5", f"{node} applied (last, term, crc) {mine} at index {entry.first}, another server {known}"
            )
        return False

    def _durable_term(self, node: NodeId) -> int:
        """The newest term in which a server is known to have voted."""
        return max((term for voter, term in self._votes if voter == node), default=0)

    def _check_matches(self, node: NodeId, seen: _Seen, view: View) -> None:
        """What a peer has acknowledged stays acknowledged, in whatever order the answers come (I6)."""
        matches = view.matches
        if seen.leads and seen.term == view.term:
            for peer, now in matches.items():
                before = seen.matches.get(peer, 0)
                if now < before:
                    raise Violation("I6", f"{node} took a peer back from {before} to {now}")
        seen.matches = matches

    def _on_leader(self, node: NodeId, term: int, view: View) -> None:
        leader = self.leaders.setdefault(term, node)
        if leader != node:
            raise Violation("I1", f"{leader} and {node} both lead term {term}")
        # What was committed in earlier terms must be there. A leader that learns late of its election may
        # find that a later term has already gone on without it.
        earlier = max((one for one in self._newest_of_term if one < term), default=0)
        index = self._newest_of_term.get(earlier, 0)
        at_index = view.term_at(index)
        if view.last_index < index or at_index not in (None, earlier):
            raise Violation(
                "I4",
                f"{node} leads term {term} with last index {view.last_index}, term {at_index} at {index},"
                f" but index {index} was committed in term {earlier}",
            )

    def _on_commit(self, node: NodeId, view: View) -> Committed | None:
        commit = view.commit
        at_commit = view.term_at(commit)
        if commit > view.last_index or at_commit is None:
            raise Violation("I4", f"{node} committed {commit} and its log ends at {view.last_index}")
        if view.leads and at_commit != view.term:
            raise Violation(
                "I8", f"{node} committed index {commit} of term {at_commit} by counting in term {view.term}"
            )
        if commit <= self.newest.index:
            return None
        self.newest = Committed(commit, at_commit)
        self._newest_of_term[at_commit] = commit
        return self.newest

    def _on_vote(self, voter: NodeId, term: int, candidate: NodeId) -> None:
        known = self._votes.setdefault((voter, term), candidate)
        if known != candidate:
            raise Violation("I2", f"{voter} voted for {known} and for {candidate} in term {term}")
