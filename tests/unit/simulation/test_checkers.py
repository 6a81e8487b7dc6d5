"""The checkers that watch servers, on hand-made bad histories which they must reject, and on good ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgpack
import pytest

from jkcs_client.protocol.messages import CLOSE, CREATE, SET
from jkcs_server.tree.commands import EXPIRE, OPEN
from jkcs_server.tree.machine import TreeMachine
from journal.raft.messages import Append, AppendReply, VoteReply, VoteRequest
from journal.record import make_entry
from journal.values import Entry, EntryKind, HardState, Index, NodeId, Term
from tests.simulation.checkers.durability import DurabilityChecker, DurableLog
from tests.simulation.checkers.ghost import GhostEvent, GhostTree
from tests.simulation.checkers.locks import LockBook, check_fenced_writes, check_no_orphans
from tests.simulation.checkers.raft import Committed, RaftChecker
from tests.simulation.checkers.sessions import SessionChecker
from tests.simulation.checkers.watches import WatchLog, check_one_shot
from tests.simulation.loop import Process
from tests.simulation.trace import Violation

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


@dataclass
class FakeCore:
    """A server as the Raft checker sees it: `terms[i]` is the term of index i + 1."""

    term: int = 0
    leads: bool = False
    commit: int = 0
    applied: int = 0
    terms: list[int] = field(default_factory=list)

    @property
    def last_index(self) -> int:
        return len(self.terms)

    def term_at(self, index: int) -> int | None:
        return self.terms[index - 1] if 0 < index <= len(self.terms) else 0 if index == 0 else None


def started(*nodes: NodeId) -> RaftChecker:
    checker = RaftChecker()
    for node in nodes:
        checker.on_start(node, FakeCore())
    return checker


# Raft.


def test_an_ordinary_election_and_commit_are_accepted() -> None:
    """A checker that objects to the paper's own story is of no use."""
    checker = started(A, B)
    checker.on_send(A, B, VoteRequest(Term(1), Index(0), Term(0)))
    checker.on_send(B, A, VoteReply(Term(1), True))
    leader = FakeCore(1, True, terms=[1])
    assert checker.on_step(A, leader) is None
    leader.commit = leader.applied = 1
    assert checker.on_step(A, leader) == Committed(1, 1)
    follower = FakeCore(1, False, 1, 1, [1])
    assert checker.on_step(B, follower) is None
    # The next term's leader has what was committed.
    assert checker.on_step(B, FakeCore(2, True, 1, 1, [1, 2])) is None


def test_two_leaders_of_one_term_are_rejected() -> None:
    """I1."""
    checker = started(A, B)
    checker.on_step(A, FakeCore(3, True))
    with pytest.raises(Violation, match="I1: a and b both lead term 3"):
        checker.on_step(B, FakeCore(3, True))


def test_second_vote_in_a_term_is_rejected() -> None:
    """I2, for two candidates."""
    checker = started(A)
    checker.on_send(A, B, VoteReply(Term(2), True))
    checker.on_send(A, B, VoteReply(Term(2), True))
    checker.on_send(A, C, VoteReply(Term(2), True, pre=True))
    with pytest.raises(Violation, match="I2"):
        checker.on_send(A, C, VoteReply(Term(2), True))


def test_vote_for_another_after_a_candidacy_is_rejected() -> None:
    """I2: who asks for votes has voted for itself."""
    checker = started(A)
    checker.on_send(A, B, VoteRequest(Term(2), Index(0), Term(0)))
    with pytest.raises(Violation, match="I2"):
        checker.on_send(A, C, VoteReply(Term(2), True))


def test_two_records_of_one_index_and_term_are_rejected() -> None:
    """I3."""
    checker = started(A)
    for payload in (b"x", b"x"):
        entry = make_entry(1, 1, 0, EntryKind.COMMANDS, payload, 0)
        checker.on_send(A, B, Append(Term(1), Index(0), Term(0), 0, Index(0), [entry]))
    with pytest.raises(Violation, match="I3"):
        entry = make_entry(1, 1, 0, EntryKind.COMMANDS, b"y", 0)
        checker.on_send(A, B, Append(Term(1), Index(0), Term(0), 0, Index(0), [entry]))


@pytest.mark.parametrize("terms", [[], [1], [1, 2]], ids=["empty log", "too short", "another term there"])
def test_leader_without_a_committed_entry_is_rejected(terms: list[int]) -> None:
    """I4."""
    checker = started(A, B)
    checker.on_step(A, FakeCore(1, True, 2, 2, [1, 1]))
    with pytest.raises(Violation, match="I4"):
        checker.on_step(B, FakeCore(3, True, terms=terms))


def test_leader_that_learns_late_of_its_election_is_accepted() -> None:
    """It holds what was committed before its term; what a later term did it cannot know."""
    checker = started(A, B)
    checker.on_step(A, FakeCore(1, True, 1, 1, [1]))
    checker.on_step(A, FakeCore(3, True, 2, 2, [1, 3]))
    checker.on_step(B, FakeCore(2, True, terms=[1]))


def test_different_entries_at_one_index_are_rejected() -> None:
    """I5, by the chained checksum, so everything before counts too."""
    checker = started(A, B)
    assert checker.on_apply(A, make_entry(1, 1, 0, EntryKind.COMMANDS, b"x", 0))
    assert not checker.on_apply(B, make_entry(1, 1, 0, EntryKind.COMMANDS, b"x", 0))
    with pytest.raises(Violation, match="I5"):
        checker.on_apply(C, make_entry(1, 1, 0, EntryKind.COMMANDS, b"y", 0))


@pytest.mark.parametrize(
    "after",
    [FakeCore(1, False, 2, 2, [1, 1]), FakeCore(2, False, 1, 1, [1, 1]), FakeCore(2, False, 2, 1, [1, 1])],
    ids=["term fell", "commit fell", "applied fell"],
)
def test_falling_numbers_are_rejected(after: FakeCore) -> None:
    """I6."""
    checker = started(A)
    checker.on_step(A, FakeCore(2, False, 2, 2, [1, 1]))
    with pytest.raises(Violation, match="I6"):
        checker.on_step(A, after)


def test_applied_beyond_commit_is_rejected() -> None:
    """I6: nothing may be applied that could still be taken back."""
    checker = started(A)
    with pytest.raises(Violation, match="I6"):
        checker.on_step(A, FakeCore(1, False, 1, 2, [1, 1]))


def test_term_forgotten_in_a_crash_is_rejected() -> None:
    """I6 across restarts; commit and applied may fall then, because they are not kept."""
    checker = started(A)
    checker.on_step(A, FakeCore(2, False, 1, 1, [1]))
    checker.on_send(A, B, VoteReply(Term(2), True))
    checker.on_start(A, FakeCore(2))
    with pytest.raises(Violation, match="I6"):
        checker.on_start(A, FakeCore(1))


def test_older_term_committed_by_counting_is_rejected() -> None:
    """I8, figure 8."""
    checker = started(A)
    checker.on_step(A, FakeCore(4, True, terms=[2, 2, 4]))
    with pytest.raises(Violation, match="I8"):
        checker.on_step(A, FakeCore(4, True, 2, 0, [2, 2, 4]))


def test_follower_that_commits_beyond_its_log_is_rejected() -> None:
    """I4 again: what is not there cannot be committed there."""
    checker = started(A)
    with pytest.raises(Violation, match="I4"):
        checker.on_step(A, FakeCore(1, False, 5, 0, [1]))


# Disks.


def disks(state: HardState | None = None) -> DurabilityChecker:
    return DurabilityChecker((A, B, C), lambda node: state or HardState())


def test_commit_on_a_quorum_of_disks_is_accepted() -> None:
    """Two of three is enough, and a snapshot counts as well as a record."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    checker.logs[B].snapshot = 4
    checker.on_commit(Committed(4, 1))
    checker.on_commit(Committed(2, 1))


@pytest.mark.parametrize("other", [None, (1, 3, 1), (1, 4, 2)], ids=["nothing", "too short", "another term"])
def test_commit_on_one_disk_is_rejected(other: tuple[int, int, int] | None) -> None:
    """I7."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    if other is not None:
        checker.logs[B].put(*other, 0)
    with pytest.raises(Violation, match="I7"):
        checker.on_commit(Committed(4, 1))


def test_acknowledgement_before_the_disk_has_it_is_rejected() -> None:
    """R2; a refusal promises nothing."""
    checker = disks()
    checker.logs[B].put(1, 3, 1, 0)
    checker.on_send(B, A, AppendReply(Term(1), Index(3)))
    checker.on_send(B, A, AppendReply(Term(1), Index(0), refused=True, refused_previous=Index(9)))
    with pytest.raises(Violation, match="R2"):
        checker.on_send(B, A, AppendReply(Term(1), Index(4)))


@pytest.mark.parametrize(
    "state", [HardState(), HardState(Term(3)), HardState(Term(3), C)], ids=["old term", "no vote", "another vote"]
)
def test_vote_before_the_disk_has_it_is_rejected(state: HardState) -> None:
    """I2 on durable images."""
    with pytest.raises(Violation, match="I2"):
        disks(state).on_send(B, A, VoteReply(Term(3), True))
    with pytest.raises(Violation, match="I2"):
        disks(state).on_send(B, A, VoteRequest(Term(3), Index(0), Term(0)))
    disks(HardState(Term(3), A)).on_send(B, A, VoteReply(Term(3), True))
    disks(HardState(Term(4))).on_send(B, A, VoteReply(Term(3), True))


def test_committed_entry_lost_in_a_crash_is_rejected() -> None:
    """What was durable and committed must be found again; what was not committed may be cut."""
    checker = disks()
    checker.logs[A].put(1, 4, 1, 0)
    shorter = DurableLog()
    shorter.put(1, 3, 1, 0)
    checker.on_recovered(A, shorter, Committed(3, 1))
    checker.logs[A].put(4, 4, 1, 0)
    with pytest.raises(Violation, match="I7"):
        checker.on_recovered(A, shorter_copy(), Committed(4, 1))


def shorter_copy() -> DurableLog:
    log = DurableLog()
    log.put(1, 3, 1, 0)
    return log


def test_new_records_replace_old_ones() -> None:
    """A truncated tail must not count as durable."""
    log = DurableLog()
    log.put(1, 2, 1, 0)
    log.put(3, 6, 1, 0)
    log.put(3, 3, 2, 0)
    assert [log.term_at(index) for index in (1, 2, 3, 4)] == [1, 1, 2, None]


# The tree.


class Silent:
    """Hooks that nobody listens to."""

    def on_event(self, kind: int, path: str, index: int) -> None: ...
    def on_opened(self, password: bytes, session_id: int, index: int) -> None: ...
    def on_ended(self, session_id: int, index: int, expired: bool) -> None: ...


def entry(first: int, *commands: tuple[object, ...], term: int = 1) -> Entry:
    payload = b"".join(msgpack.packb(command) for command in commands)
    return make_entry(first, term, 1000 + first, EntryKind.COMMANDS, payload, 0, count=len(commands))


LOG = (
    entry(1, (OPEN, 0, 0, 0, b"p", 1000)),
    entry(2, (CREATE, 1, 1, 0, "/k", b"v1", 0), (CREATE, 1, 2, 1, "/e", b"v2", 1)),
    entry(4, (SET, 1, 3, 2, "/k", b"v3", -1)),
    entry(5, (SET, 1, 3, 2, "/k", b"v3", -1)),  # sent again: without effect
)


def replayed(*more: Entry) -> tuple[GhostTree, TreeMachine]:
    ghost, machine = GhostTree(), TreeMachine(Silent())
    for one in (*LOG, *more):
        machine.apply(one)
        ghost.on_first_apply(one)
        ghost.check_applied("a", one, machine)
    return ghost, machine


def test_equal_states_and_true_answers_are_accepted() -> None:
    """The product and the replay agree on an ordinary history."""
    ghost, machine = replayed(entry(6, (EXPIRE, 1, 0, 0, 1)))
    ghost.check_final("a", machine)
    ghost.check_read("r", "/k", 3, b"v1", 0)
    ghost.check_read("r", "/k", 5, b"v3", 1)
    ghost.check_read("r", "/e", 5, b"v2")
    ghost.check_read("r", "/e", 6, None)
    ghost.check_write("w", b"v3", acknowledged=True, refused=False, index=4)
    ghost.check_write("w", b"unsent", acknowledged=False, refused=True, index=None)
    assert [(event.index, event.path) for event in ghost.events] == [(2, "/k"), (3, "/e"), (4, "/k"), (6, "/e")]


@pytest.mark.parametrize(
    ("path", "index", "value", "version"),
    [("/k", 5, b"v1", 0), ("/k", 3, b"v3", 1), ("/k", 1, b"v1", 0), ("/k", 5, b"v3", 0), ("/e", 5, None, None)],
    ids=["stale", "too new", "before it was", "wrong version", "missing"],
)
def test_read_that_is_not_true_at_its_index_is_rejected(
    path: str, index: int, value: bytes | None, version: int | None
) -> None:
    """I14."""
    ghost, _ = replayed()
    with pytest.raises(Violation, match="I14"):
        ghost.check_read("r", path, index, value, version)


def test_acknowledged_write_that_is_not_in_the_log_is_rejected() -> None:
    """I12."""
    with pytest.raises(Violation, match="I12"):
        replayed()[0].check_write("w", b"lost", acknowledged=True, refused=False, index=4)


def test_acknowledgement_with_a_wrong_index_is_rejected() -> None:
    """I12: the index is what watches and fencing stand on."""
    with pytest.raises(Violation, match="I12"):
        replayed()[0].check_write("w", b"v3", acknowledged=True, refused=False, index=5)


def test_refused_write_that_took_effect_is_rejected() -> None:
    """I12: "nothing happened" is a promise too."""
    with pytest.raises(Violation, match="I12"):
        replayed()[0].check_write("w", b"v3", acknowledged=False, refused=True, index=None)


def test_write_that_happened_twice_is_rejected() -> None:
    """I16."""
    ghost, _ = replayed(entry(6, (SET, 1, 4, 3, "/k", b"v3", -1)))
    with pytest.raises(Violation, match="I16"):
        ghost.check_write("w", b"v3", acknowledged=False, refused=False, index=None)


def test_diverging_state_is_rejected() -> None:
    """I5 and I12: one byte is enough."""
    ghost, machine = replayed()
    machine.tree.nodes["/k"].data = b"rot"
    with pytest.raises(Violation, match="I12"):
        ghost.check_final("a", machine)


def test_diverging_answer_is_rejected() -> None:
    """I5: the answer is kept and given again, so it is part of the state."""
    ghost, machine = replayed()
    last = entry(6, (SET, 1, 4, 3, "/k", b"v4", 7))
    ghost.on_first_apply(last)
    machine.apply(last)
    machine.sessions[1].replies[-1] = (0, 6, ())
    with pytest.raises(Violation, match="I5"):
        ghost.check_applied("a", last, machine)


def test_gap_in_the_applied_log_is_rejected() -> None:
    """I5: an entry left out changes everything behind it."""
    ghost, _ = replayed()
    with pytest.raises(Violation, match="I5"):
        ghost.on_first_apply(entry(7, (OPEN, 0, 0, 0, b"q", 1000)))


def test_ephemeral_that_outlives_its_session_is_rejected() -> None:
    """E1 and E2."""
    ghost, machine = replayed()
    machine.sessions.end(1)
    with pytest.raises(Violation, match="E1"):
        ghost.check_applied("a", entry(6), machine)


def test_server_that_lags_at_the_end_is_rejected() -> None:
    """Convergence is part of the promise."""
    ghost, machine = replayed()
    ghost.on_first_apply(entry(6, (CLOSE, 1, 4, 3)))
    with pytest.raises(Violation, match="LIVENESS"):
        ghost.check_final("a", machine)


# Sessions.


class Clock:
    """A clock that stands still until it is set."""

    now = 10.0

    def __call__(self) -> float:
        return self.now


def test_session_that_expires_under_a_believing_client_is_rejected() -> None:
    """S2: its client still hands out its locks."""
    checker = SessionChecker(Clock())
    checker.on_session(7, Process("c1"), lambda: False)
    with pytest.raises(Violation, match="S2"):
        checker.on_session_ended(7, expired=True)


def test_expiry_is_accepted_when_the_client_cannot_or_does_know() -> None:
    """A client that knows, was paused, or is dead; and one that closed its session by itself."""
    checker = SessionChecker(Clock())
    paused, dead, resumed, knowing = (Process(name) for name in ("c1", "c2", "c3", "c4"))
    paused.paused = dead.dead = True
    resumed.resumed_at = 10.0
    for number, process in enumerate((paused, dead, resumed, knowing)):
        checker.on_session(number, process, lambda number=number: number == 3)
        checker.on_session_ended(number, expired=True)
    checker.on_session(9, Process("c5"), lambda: False)
    checker.on_session_ended(9, expired=False)
    assert not checker.is_live(9) and checker.is_live(10)


# Locks.


def test_one_holder_after_another_is_accepted() -> None:
    """And so is a second lock beside the first."""
    book = LockBook()
    first = book.enter("/l", 5, Process("c1"))
    book.enter("/other", 3, Process("c2"))
    book.leave(first)
    book.enter("/l", 6, Process("c2"))


def test_two_holders_at_once_are_rejected() -> None:
    """M3."""
    book = LockBook()
    book.enter("/l", 5, Process("c1"))
    with pytest.raises(Violation, match="M3"):
        book.enter("/l", 6, Process("c2"))


@pytest.mark.parametrize("token", [4, 5])
def test_token_that_does_not_grow_is_rejected(token: int) -> None:
    """M2."""
    book = LockBook()
    book.leave(book.enter("/l", 5, Process("c1")))
    with pytest.raises(Violation, match="M2"):
        book.enter("/l", token, Process("c2"))


@pytest.mark.parametrize("how", ["paused", "dead", "was paused"])
def test_holder_that_stood_still_may_be_overtaken(how: str) -> None:
    """Nobody can tell a process that does not run; its token keeps it harmless."""
    book = LockBook()
    process = Process("c1")
    book.enter("/l", 5, process)
    process.paused, process.dead = how == "paused", how == "dead"
    process.pauses += how == "was paused"
    book.enter("/l", 6, Process("c2"))
    assert book.write("db", 6)
    assert not book.write("db", 5)


def test_fenced_write_of_an_earlier_holder_is_rejected() -> None:
    """M1."""
    check_fenced_writes("/l", [3, 3, 8])
    with pytest.raises(Violation, match="M1"):
        check_fenced_writes("/l", [3, 8, 3])


def test_orphans_in_the_queue_are_rejected() -> None:
    """M6."""
    check_no_orphans("/l", [])
    with pytest.raises(Violation, match="M6"):
        check_no_orphans("/l", ["x-lock-0000000001"])


# Watches.

EVENTS = [GhostEvent(2, 1, "/k"), GhostEvent(3, 1, "/other"), GhostEvent(4, 3, "/k"), GhostEvent(4, 1, "/k/c")]


def test_events_in_order_are_accepted() -> None:
    """Foreign keys are passed over; two events of one index both come."""
    log = WatchLog("c", "/k", 0, EVENTS)
    for event in (EVENTS[0], EVENTS[2], EVENTS[3]):
        log.on_event(event.kind, event.path, event.index)
    log.check_seen_up_to(4, "a read")
    WatchLog("c", "/k", 4, EVENTS).check_seen_up_to(9, "a read")


@pytest.mark.parametrize(
    "told",
    [[EVENTS[2]], [EVENTS[0], EVENTS[0]], [EVENTS[0], EVENTS[3]], [EVENTS[1]], [GhostEvent(2, 2, "/k")]],
    ids=["gap", "double", "out of order", "foreign", "wrong kind"],
)
def test_wrong_events_are_rejected(told: list[GhostEvent]) -> None:
    """W: exactly the log's events, each once, in order."""
    log = WatchLog("c", "/k", 0, EVENTS)
    with pytest.raises(Violation, match="W:"):
        for event in told:
            log.on_event(event.kind, event.path, event.index)


def test_event_that_never_happened_is_rejected() -> None:
    """W, at the end of the log."""
    log = WatchLog("c", "/k", 4, EVENTS)
    with pytest.raises(Violation, match="W:"):
        log.on_event(3, "/k", 5)


def test_data_before_its_event_is_rejected() -> None:
    """W10."""
    log = WatchLog("c", "/k", 0, EVENTS)
    log.on_event(1, "/k", 2)
    log.check_seen_up_to(3, "a read")
    with pytest.raises(Violation, match="W10"):
        log.check_seen_up_to(4, "a read")


def test_one_shot_watch_must_report_the_first_event() -> None:
    """W11."""
    check_one_shot("c", "/k", 2, (3, "/k", 4), EVENTS)
    with pytest.raises(Violation, match="W11"):
        check_one_shot("c", "/k", 0, (3, "/k", 4), EVENTS)
    with pytest.raises(Violation, match="W11"):
        check_one_shot("c", "/k", 4, (3, "/k", 5), EVENTS)
