"""Bugs planted into the running core, each to be caught by the promise that it breaks.

A checker that cannot fail is a defect; so for every promise there is a bug here, of a kind that other
implementations really had (RELIABILITY, the checklist). Planting replaces functions for the time of a
`with` block; nothing is changed on disk. Used by `test_planted.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from journal.raft import core, leader, membership, quorum, voter
from journal.raft.core import Core
from journal.raft.follower import Follower
from journal.raft.leader import Leader
from journal.raft.log import Log
from journal.raft.messages import FROM_LEADERS, Append, AppendReply, Message, VoteReply, VoteRequest
from journal.raft.progress import Progress
from journal.raft.quorum import VoteResult
from journal.raft.ready import ReadGrant
from journal.raft.state import State
from journal.values import Configuration, Entry, HardState, Index, NodeId, SnapshotMeta, Term
from tests.core_simulation.image import Image
from tests.core_simulation.node import Node


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug: what is replaced by what, and the promises one of which must notice it."""

    name: str
    caught_by: tuple[str, ...]
    changes: tuple[tuple[Any, str, Any], ...]
    rare: bool = False
    """Takes hundreds of seeds."""

    @contextmanager
    def plant(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, value in self.changes:
                stack.enter_context(patch.object(owner, name, value))
            yield


# Votes


def _grants_again(state: State, candidate: NodeId, request: VoteRequest) -> bool:
    ours = (state.log.last_term, state.log.last_index)
    if request.term < state.term or (request.last_term, request.last_index) < ours:
        return False
    if not request.pre:
        state.vote, state.hard_state_changed = None, True
    return True


def _grants_unseen(state: State, candidate: NodeId, request: VoteRequest) -> bool:
    if request.term < state.term:
        return False
    return request.pre or state.vote in (None, candidate)


_save = Node._save


def _save_without_vote(self: Node, hard_state: HardState | None, entries: list[Entry]) -> None:
    _save(self, hard_state, entries)
    if hard_state is not None:
        self.image.hard_state = HardState(hard_state.term)


def _send_at_once(self: State, to: NodeId, message: Any) -> None:
    self.messages.append((to, message))


def _replies_counted(self: Any, voter: NodeId, reply: VoteReply) -> VoteResult:
    """Of whatever round, and each one as a voter."""
    if reply.granted:
        self._votes[NodeId(f"{voter}, {len(self._votes)}")] = True
    members = self._state.configuration.voters
    return VoteResult.WON if len(self._votes) > len(members) // 2 else VoteResult.PENDING


# Log and commit


def _commit_by_counting(self: Leader) -> None:
    self._state.commit_to(Index(quorum.quorum_value(self._state.configuration, self._match_of)))


def _match_in_memory(self: Leader, node: NodeId) -> int:
    return self._state.log.last_index if node == self._state.me else self._progress[node].match


def _half_of_four_is_enough(half: tuple[NodeId, ...], value_of: Callable[[NodeId], int]) -> int:
    values = sorted(map(value_of, half))
    return values[len(values) // 2]


def _one_half_is_enough(configuration: Any, value_of: Callable[[NodeId], int]) -> int:
    return quorum._majority_value(configuration.voters, value_of)


_accept = Log.accept


def _accept_and_cut(
    self: Log, previous: Index, term: Term, crc: int, entries: list[Entry], commit: Index
) -> Index | None:
    match = _accept(self, previous, term, crc, entries, commit)
    if match is not None and max(match, self._before.index) < self.last_index:
        self._truncate(Index(match + 1))
    return match


def _accept_blindly(
    self: Log, previous: Index, term: Term, crc: int, entries: list[Entry], commit: Index
) -> Index | None:
    """What follows is taken whatever term stands before it."""
    if previous > self.last_index or not self.ends_record(previous) or self.term_at(previous) == term:
        return _accept(self, previous, term, crc, entries, commit)
    if not entries:
        return previous
    if entries[0].first <= self.last_index:
        self._truncate(entries[0].first)
    self._extend(entries)
    return entries[-1].last


_begin_round = Leader._begin_round


def _heartbeat_with_all_commits(self: Leader) -> None:
    before = len(self._state.messages)
    _begin_round(self)
    for _, message in self._state.messages[before:]:
        message.commit = self._state.commit


_truncate = Log._truncate


def _truncate_and_vouch(self: Log, index: Index) -> None:
    lasts = [write.last for write in self._writes]
    _truncate(self, index)
    for write, last in zip(self._writes, lasts, strict=True):
        write.last = last


def _saved_of_another(self: Log, number: int) -> None:
    while self._writes and self._writes[0].number <= number:
        self.durable = max(self.durable, min(self._writes.popleft().last, self.handed))


def _acknowledge_at_once(self: Follower, to: NodeId, match: Index) -> None:
    self._state.send(to, AppendReply(self._state.term, match))


def _applied_to_the_end(self: Core, index: Index) -> None:
    self._state.applied = self._state.applying = self._state.commit


# Reads


def _read_at_once(self: Leader, asker: NodeId | None, context: int, floor: Index) -> bool:
    if asker is None:
        self._state.reads.append(ReadGrant(context, self._state.commit))
    return True


def _answer_without_echo(self: Leader) -> None:
    for read, index in self._reads.end():
        if read.asker is None:
            self._state.reads.append(ReadGrant(read.context, index))


_flush = Leader.flush


def _flush_before_first_commit(self: Leader) -> None:
    first, self.first_index = self.first_index, Index(0)
    _flush(self)
    self.first_index = first


# Snapshots


def _restore_always(self: Core, meta: SnapshotMeta) -> bool:
    if self._leader is not None:
        return False
    if self._candidate is not None:
        self._follow_nobody(self._state.term)
    self._state.restoring = meta
    return True


def _restored_anyhow(self: Core, meta: SnapshotMeta) -> None:
    state, index = self._state, meta.position.index
    state.restoring = None
    state.log.start = state.log._before = meta.position
    state.log._entries.clear()
    state.log._lasts.clear()
    state.log._end()
    state.log.handed = state.log.durable = index
    state.commit = state.applying = state.applied = index


def _no(*_: Any) -> bool:
    return False


def _yes(*_: Any) -> bool:
    return True


# Liveness


def _campaign_at_once(self: Core) -> None:
    if self._state.may_campaign():
        self._campaign(pre=False)
    else:
        self._follow_nobody(self._state.term)


def _wait_for_ever(self: Follower) -> bool:
    self.deadline = self._state.now + 1.0
    return False


def _withholds_until_committed(self: State) -> bool:
    if self.withheld and self.log.last_index >= self.withheld <= self.commit:
        self.withheld = Index(0)
    return self.withheld > 0


# Members


def _joint_at_once(present: Configuration) -> Configuration:
    """What the change is to end with, without the joint configuration in between."""
    return membership._trimmed(replace(present, voters=present.target, learners=(), target=()))


def _present_always(self: membership.Membership) -> Configuration:
    return self._state.configuration


def _forgotten(self: Image, after: Index) -> list[Entry]:
    """The log's changes of members are forgotten in a restart: an old file is believed."""
    return []


_advance = membership.Membership.advance


def _advance_only_its_own(self: membership.Membership, match_of: Callable[[NodeId], int]) -> None:
    if self._state.configuration_index >= self._first_index:
        _advance(self, match_of)


def _learners_counted(configuration: Configuration, value_of: Callable[[NodeId], int]) -> int:
    half = tuple(sorted({*configuration.voters, *configuration.learners}))
    value = quorum._majority_value(half, value_of)
    return min(value, quorum._majority_value(configuration.outgoing, value_of)) if configuration.outgoing else value


_grants = voter.grants


def _grants_as_voter(state: State, candidate: NodeId, request: VoteRequest) -> bool:
    """A node without a say by its own configuration refuses its vote."""
    return state.voter and _grants(state, candidate, request)


def _only_those_with_a_say(self: State) -> bool:
    return self.configuration.has_say(self.me) and self.able and self.restoring is None and not self.withholds()


def _pulls_only(self: Core) -> bool:
    return self._leader is None and self._state.pulls_only


def _strangers_are_not_heard(self: Core, stranger: NodeId, message: Message) -> bool:
    return isinstance(message, FROM_LEADERS) or (self._leader is not None and self._leader.lets_go(stranger))


_make_append = Leader._make_append


def _append_from_zero(self: Leader, progress: Progress, commit: Index) -> Append | None:
    """What is cut away counts as an entry of term 0."""
    log = self._state.log
    if progress.next > log.start.index or log.start.index == log.last_index:
        return _make_append(self, progress, commit)
    part = log.read(Index(log.start.index + 1), self._state.limits.append_bytes_max)
    return Append(self._state.term, part.previous_index, Term(0), 0, commit, part.entries)


_on_vote_request = Core._on_vote_request
_on_saved = Core.saved


def _vote_seen_when_saved(self: Core, number: int, now: float) -> None:
    _on_saved(self, number, now)
    if self._hard_state_is_durable(number):
        self.written = (self._state.term, self._state.vote)  # type: ignore[attr-defined]


def _vote_before_it_is_saved(self: Core, candidate: NodeId, request: VoteRequest) -> None:
    """Two requests are handled side by side: the second finds that the first one's vote is not written yet."""
    state = self._state
    given = (state.term, state.vote)
    unseen = given != getattr(self, "written", given)
    if unseen and not request.pre and request.term == state.term and state.vote != state.me:
        state.vote = None
    _on_vote_request(self, candidate, request)


PLANTED = (
    Planted("two votes in one term", ("I2",), ((core, "grants", _grants_again),)),
    Planted("a vote without a look at the logs", ("I4", "I5", "I7"), ((core, "grants", _grants_unseen),)),
    Planted("a vote forgotten in a crash", ("I1", "I2"), ((Node, "_save", _save_without_vote),)),
    Planted("answers that do not wait for the disk", ("I2", "I7"), ((State, "send_when_saved", _send_at_once),)),
    Planted("answers counted, not voters", ("I1", "I2", "I4"), ((core.Candidate, "on_reply", _replies_counted),)),
    Planted("older terms committed by counting", ("I8",), ((Leader, "_maybe_commit", _commit_by_counting),)),
    Planted("the leader counts itself before its sync", ("I7",), ((Leader, "_match_of", _match_in_memory),)),
    Planted("two of four are a quorum", ("I1", "I7"), ((quorum, "_majority_value", _half_of_four_is_enough),)),
    Planted(
        "one half of a joint configuration decides",
        ("I1", "I7"),
        ((quorum, "quorum_value", _one_half_is_enough), (leader, "quorum_value", _one_half_is_enough)),
    ),
    Planted("an append cuts what follows it", ("I3", "I7"), ((Log, "accept", _accept_and_cut),)),
    Planted("the place before is not compared", ("I3", "I4", "I5", "I7"), ((Log, "accept", _accept_blindly),)),
    Planted(
        "a heartbeat commits what is not compared", ("I5",), ((Leader, "_begin_round", _heartbeat_with_all_commits),)
    ),
    Planted(
        "a write vouches for what replaced it",
        ("I6", "I7"),
        ((Log, "_truncate", _truncate_and_vouch), (Log, "saved", _saved_of_another)),
    ),
    Planted("acknowledged before it is on the disk", ("I7",), ((Follower, "_acknowledge", _acknowledge_at_once),)),
    Planted("pages that skip", ("I5", "I6"), ((Core, "applied_to", _applied_to_the_end),)),
    Planted("a read without a quorum", ("I14",), ((Leader, "read", _read_at_once),)),
    Planted(
        "a round without its echoes", ("I14",), ((Leader, "_maybe_answer_reads", _answer_without_echo),), rare=True
    ),
    Planted("a read before the first commit", ("I14",), ((Leader, "flush", _flush_before_first_commit),)),
    Planted(
        "an old snapshot over a newer log",
        ("I6", "I7", "I10"),
        ((Follower, "overtakes", _no), (Core, "begin_restore", _restore_always), (Core, "restored", _restored_anyhow)),
    ),
    Planted("a lost tail and still a vote", ("I4", "I5", "I7"), ((State, "withholds", _no),)),
    Planted(
        "two requests for a vote at the same time",
        ("I2",),
        ((Core, "_on_vote_request", _vote_before_it_is_saved), (Core, "saved", _vote_seen_when_saved)),
    ),
    Planted("a change without the joint configuration", ("I9",), ((membership, "_joint", _joint_at_once),)),
    Planted(
        "numbers larger than any honest one",
        ("AssertionError",),
        ((core, "CEILING", 2**64), (core, "is_absurd", _no)),
    ),
    Planted(
        "a change on top of one that is not committed",
        ("I4", "I5", "I7"),
        ((membership.Membership, "_present", _present_always),),
        rare=True,
    ),
    Planted("an old file of members is believed", ("I1", "I7", "I9"), ((Image, "configurations", _forgotten),)),
    Planted(
        "a joint configuration that nobody leaves",
        ("liveness",),
        ((membership.Membership, "advance", _advance_only_its_own),),
    ),
    Planted("newcomers vote before they have caught up", ("I9",), ((membership.Membership, "_has_caught_up", _yes),)),
    Planted("a removed leader stays", ("liveness",), ((Leader, "_must_retire", _no),)),
    Planted(
        "learners count",
        ("I1", "I7"),
        ((quorum, "quorum_value", _learners_counted), (leader, "quorum_value", _learners_counted)),
    ),
    Planted("a promoted learner refuses its vote", ("liveness",), ((core, "grants", _grants_as_voter),)),
    Planted(
        "one that leaves never campaigns", ("liveness",), ((State, "may_campaign", _only_those_with_a_say),), rare=True
    ),
    Planted("nobody tells those who were away", ("liveness",), ((Core, "_pulls", _pulls_only),)),
    Planted("a removed node is not answered", ("liveness",), ((Core, "_may_be_newer", _strangers_are_not_heard),)),
    Planted(
        "the term of what is cut away is 0", ("liveness",), ((Leader, "_make_append", _append_from_zero),), rare=True
    ),
    Planted("nobody campaigns", ("liveness",), ((Follower, "election_due", _wait_for_ever),)),
    Planted("what was sent once is never sent again", ("liveness",), ((Progress, "give_up_waiting", _no),)),
    Planted("a leader nobody answers leads on", ("liveness",), ((Leader, "_quorum_is_heard", _yes),)),
    Planted("a stuck disk leads on", ("liveness",), ((Leader, "_disk_is_stuck", _no),)),
    Planted(
        "a refilled node waits for a commit",
        ("liveness",),
        ((State, "withholds", _withholds_until_committed),),
    ),
    Planted(
        "terms without end",
        ("liveness", "stability"),
        ((Core, "_campaign_or_wait", _campaign_at_once), (core, "is_disruptive", _no)),
    ),
)
