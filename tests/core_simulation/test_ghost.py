"""Each promise on a state made by hand: a small good history passes, one thing wrong is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from journal.limits import Limits, Timing
from journal.raft.core import Core, CoreConfig
from journal.raft.log import Log
from journal.raft.messages import AppendReply, SnapshotReply, VoteReply, VoteRequest
from journal.raft.ready import ReadGrant, Role
from journal.values import START, Configuration, Entry, HardState, Index, NodeId, SnapshotMeta, Term
from tests.core_simulation.ghost import Broken, Ghost, quorums_meet
from tests.core_simulation.image import Image, position_after
from tests.support.raft_cluster import chain, node_names

NAMES = node_names(5)
N1, N2, N3 = NAMES[:3]
THREE = Configuration(NAMES[:3])


class Stage:
    """Three nodes whose logs end where the test wants, watched by a ghost."""

    def __init__(self, *terms: int) -> None:
        self.ghost = Ghost(THREE)
        self.entries = chain(*terms)
        self.cores: dict[NodeId, Core] = {}
        for name in THREE.members:
            image = Image()
            self.ghost.add(name, image)
            if terms:
                image.hard_state = HardState(Term(terms[-1]))
                self.ghost.on_hard_state(name, image.hard_state)
            self.save(name, self.entries)
            self.start(name)

    def save(self, name: NodeId, entries: list[Entry]) -> None:
        image = self.ghost.seen[name].image
        if entries:
            self.ghost.on_entries(name, *image.append(list(entries)), entries)
            image.acknowledge()

    def start(self, name: NodeId) -> Core:
        image = self.ghost.seen[name].image
        applied = image.snapshot.position.index if image.snapshot else image.start.index
        core = Core(
            CoreConfig(name, Limits(), Timing()),
            THREE,
            image.hard_state,
            Log(image, image.start, image.start, image.entries, image.last, Limits()),
            applied=applied,
            now=0.0,
            chance=lambda: 0.5,
        )
        self.cores[name] = core
        self.ghost.on_start(name, core)
        return core

    def lead(self, name: NodeId, term: int) -> Core:
        """The node is made to lead, whatever the others think of it."""
        core = self.cores[name]
        core._state.term, core._state.role = Term(term), Role.LEADER
        self.ghost.on_hard_state(name, HardState(Term(term), name))
        self.ghost.observe(name, core)
        return core

    def commit(self, name: NodeId, index: int) -> None:
        self.cores[name]._state.commit = Index(index)
        self.ghost.observe(name, self.cores[name])


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(1, 1, 1)
    stage.lead(N1, 1)
    stage.commit(N1, 2)
    yield stage


def breaks(invariant: str, text: str) -> pytest.RaisesExc[Broken]:
    return pytest.raises(Broken, match=f"^{invariant}: .*{text}")


def test_a_good_history_passes(stage: Stage) -> None:
    """Otherwise the other tests would prove nothing."""
    ghost = stage.ghost
    stage.commit(N2, 2)
    core = stage.cores[N2]
    ghost.on_apply(N2, core, stage.entries[:2])
    ghost.on_send(N2, core, N1, AppendReply(Term(1), Index(3)))
    ghost.on_hard_state(N2, HardState(Term(2), N3))
    ghost.on_send(N2, core, N3, VoteReply(Term(2), True))
    ghost.on_ask(1)
    ghost.on_grant(N2, ReadGrant(1, Index(2)))
    assert ghost.commit == 2 and ghost.grants == 1


def test_two_leaders_of_one_term_break_i1(stage: Stage) -> None:
    with breaks("I1", "n1 and n2 lead term 1"):
        stage.lead(N2, 1)


def test_one_that_leads_the_same_term_again_after_a_crash_breaks_i1(stage: Stage) -> None:
    stage.start(N1)
    with breaks("I1", "n1 leads 1 twice"):
        stage.lead(N1, 1)


def test_two_votes_in_one_term_break_i2_also_across_a_crash(stage: Stage) -> None:
    stage.ghost.on_hard_state(N2, HardState(Term(2), N1))
    stage.ghost.seen[N2].image.hard_state = HardState(Term(2), N1)
    stage.start(N2)
    with breaks("I2", "n2 voted n1 and n3 in term 2"):
        stage.ghost.on_hard_state(N2, HardState(Term(2), N3))


def test_votes_that_are_not_on_the_disk_break_i2(stage: Stage) -> None:
    core = stage.cores[N2]
    with breaks("I2", "grants n3 a vote in term 2 that is not on its disk"):
        stage.ghost.on_send(N2, core, N3, VoteReply(Term(2), True))
    with breaks("I2", "asks for votes in term 2 without its own"):
        stage.ghost.on_send(N2, core, N3, VoteRequest(Term(2), Index(3), Term(1)))
    core._state.term, core._state.role = Term(5), Role.LEADER
    with breaks("I2", "leads term 5 without its own vote"):
        stage.ghost.observe(N2, core)


def test_logs_that_differ_at_one_index_and_term_break_i3(stage: Stage) -> None:
    """Also where only what is before the entry differs."""
    other = chain(1, 1, 1, count=1)
    other[2].crc ^= 1
    with breaks("I3", "two logs differ up to index 3, term 1"):
        stage.ghost.on_entries(N2, [], position_after(other[1]), other[2:])
    with breaks("I3", "two logs differ up to index 3, term 1"):
        stage.ghost.on_entries(N2, [], START, stage.entries[2:])


def test_a_leader_that_cuts_its_own_log_breaks_i3(stage: Stage) -> None:
    stage.cores[N1]._state.log.last_index = Index(2)
    with breaks("I3", "leader n1 cut its own log from 3 to 2"):
        stage.ghost.observe(N1, stage.cores[N1])


def test_a_later_leader_without_a_committed_entry_breaks_i4(stage: Stage) -> None:
    stage.ghost.seen[N3].image.lose_tail(2)
    stage.start(N3)
    with breaks("I4", "leader n3 of term 2 lacks committed index 2"):
        stage.lead(N3, 2)


def test_another_entry_at_a_committed_index_breaks_i4_and_i5(stage: Stage) -> None:
    ghost = stage.ghost
    image = ghost.seen[N3].image
    image.lose_tail(3)
    image.lost.clear()
    image.hard_state = HardState(Term(3))
    stage.save(N3, chain(2, 3))
    stage.start(N3)
    with breaks("I5", "n3 commits term 2 at 1, where term 1 was committed"):
        stage.commit(N3, 1)
    with breaks("I4", "leader n3 of term 4 lacks committed index 2"):
        stage.lead(N3, 4)


def test_a_commit_that_no_leader_made_breaks_i5(stage: Stage) -> None:
    with breaks("I5", "n2 commits index 3, which no leader has committed"):
        stage.commit(N2, 3)


def test_a_machine_out_of_order_or_different_breaks_i5(stage: Stage) -> None:
    ghost = stage.ghost
    stage.commit(N2, 2)
    with breaks("I5", "n2 applies 2 after 0"):
        ghost.on_apply(N2, stage.cores[N2], stage.entries[1:2])
    ghost.on_apply(N1, stage.cores[N1], stage.entries[:1])
    changed = chain(1)
    changed[0].record = b"something else"
    with breaks("I5", "the machine of n2 differs from another one at 1"):
        ghost.on_apply(N2, stage.cores[N2], changed)


@pytest.mark.parametrize("field", ("term", "commit", "applied"))
def test_what_goes_back_breaks_i6(stage: Stage, field: str) -> None:
    state = stage.cores[N1]._state
    state.applied = state.applying = Index(2)
    stage.ghost.observe(N1, stage.cores[N1])
    setattr(state, field, 0)
    with breaks("I6", "n1"):
        stage.ghost.observe(N1, stage.cores[N1])


def test_a_durable_term_that_falls_breaks_i6(stage: Stage) -> None:
    with breaks("I6", "the durable term of n2 fell from 1 to 0"):
        stage.ghost.on_hard_state(N2, HardState(Term(0)))
    stage.ghost.seen[N2].image.hard_state = HardState(Term(4))
    core = stage.cores[N2]
    with breaks("I6", "n2 starts in term 1, on its disk is 4"):
        stage.ghost.on_start(N2, core)


def test_applying_what_is_not_on_the_own_disk_breaks_i6(stage: Stage) -> None:
    stage.commit(N2, 2)
    stage.ghost.seen[N2].image.append(chain(7))
    with breaks("I6", "n2 applies 2"):
        stage.ghost.on_apply(N2, stage.cores[N2], stage.entries[:2])


def test_a_commit_that_is_not_durable_on_a_quorum_breaks_i7(stage: Stage) -> None:
    more = chain(1, after=position_after(stage.entries[-1]))
    log = stage.cores[N1]._state.log
    log._extend(more)
    stage.save(N1, more)
    with breaks("I7", "n1 commits index 4, durable on .'n1'. of"):
        stage.commit(N1, 4)


def test_a_promise_of_what_is_not_on_the_disk_breaks_i7(stage: Stage) -> None:
    with breaks("I7", "n2 acknowledges 4, its disk ends at 3"):
        stage.ghost.on_send(N2, stage.cores[N2], N1, AppendReply(Term(1), Index(4)))
    with breaks("I7", "n2 says it has snapshot 4, its disk ends at 3"):
        stage.ghost.on_send(N2, stage.cores[N2], N1, SnapshotReply(Term(1), Index(4), 1, True))


def test_removing_a_committed_entry_breaks_i7(stage: Stage) -> None:
    image = stage.ghost.seen[N3].image
    removed, previous = image.append(chain(2))
    with breaks("I7", "n3 removes committed index 1, term 1"):
        stage.ghost.on_entries(N3, removed, previous, chain(2))


def test_an_older_term_committed_by_counting_breaks_i8(stage: Stage) -> None:
    stage.lead(N2, 2)
    with breaks("I8", "n2 commits index 3 of term 1 by counting in term 2"):
        stage.commit(N2, 3)


def test_configurations_that_can_decide_apart_break_i9(stage: Stage) -> None:
    core = stage.cores[N1]
    core._state.configuration = Configuration(NAMES[2:5])
    with breaks("I9", "they can decide apart"):
        stage.ghost.observe(N1, core)


def test_a_newcomer_that_votes_before_it_has_the_log_breaks_i9(stage: Stage) -> None:
    stage.ghost.add(NAMES[3], Image())
    core = stage.lead(N1, 2)
    state = core._state
    state.configuration, state.configuration_index = (
        Configuration(NAMES[:3], learners=NAMES[3:4], target=NAMES[:4]),
        Index(2),
    )
    stage.ghost.observe(N1, core)
    state.configuration, state.configuration_index = Configuration(NAMES[:4], outgoing=NAMES[:3]), Index(3)
    with breaks("I9", "n4 gets a vote before it has the log up to 2"):
        stage.ghost.observe(N1, core)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (Configuration(NAMES[:3]), Configuration(NAMES[:3]), True),
        (Configuration(NAMES[:3]), Configuration(NAMES[:4]), True),
        (Configuration(NAMES[:2]), Configuration(NAMES[:4]), True),
        (Configuration(NAMES[:1]), Configuration(NAMES[:4]), False),
        (Configuration(NAMES[:3]), Configuration(NAMES[:5]), False),
        (Configuration(NAMES[:3]), Configuration(NAMES[:5], outgoing=NAMES[:3]), True),
        (Configuration(NAMES[:5], outgoing=NAMES[:3]), Configuration(NAMES[:5]), True),
        (Configuration(NAMES[:1]), Configuration(NAMES[1:2]), False),
        (Configuration(NAMES[:3]), Configuration(NAMES[:3], learners=NAMES[3:]), True),
    ],
)
def test_quorums_meet_or_do_not(one: Configuration, other: Configuration, meet: bool) -> None:
    """Thesis 4.1, 4.3: one node more or less is safe, two are not, and joint consensus always is."""
    assert quorums_meet(one, other) is quorums_meet(other, one) is meet


def test_a_snapshot_of_what_was_not_committed_or_of_another_state_breaks_i10(stage: Stage) -> None:
    ghost = stage.ghost
    ghost.on_apply(N1, stage.cores[N1], stage.entries[:2])
    good = SnapshotMeta(position_after(stage.entries[1]), THREE, 1, ghost.digests[Index(2)].to_bytes(4, "little"))
    ghost.on_snapshot(N1, good)
    with breaks("I10", "n1 has a snapshot at 3, term 1: nothing was committed there"):
        ghost.on_snapshot(N1, SnapshotMeta(position_after(stage.entries[2]), THREE, 1, good.digest))
    with breaks("I10", "is not the state of that index"):
        ghost.on_snapshot(N1, SnapshotMeta(good.position, THREE, 1, b"\1\0\0\0"))
    image = ghost.seen[N1].image
    image.snapshot = SnapshotMeta(good.position, THREE, 1, b"\1\0\0\0")
    with breaks("I10", "n1 starts from a snapshot at 2 that is not the state"):
        stage.start(N1)


def test_a_log_cut_beyond_its_snapshot_or_a_step_back_breaks_i10(stage: Stage) -> None:
    ghost = stage.ghost
    ghost.on_apply(N1, stage.cores[N1], stage.entries[:2])
    digest = ghost.digests[Index(2)].to_bytes(4, "little")
    image = ghost.seen[N1].image
    image.snapshot = SnapshotMeta(position_after(stage.entries[0]), THREE, 1, digest)
    image.cut(0, Index(2))
    with breaks("I10", "the log of n1 starts after 2, its snapshot is"):
        ghost.on_cut(N1, stage.cores[N1])
    image.snapshot = SnapshotMeta(position_after(stage.entries[1]), THREE, 1, digest)
    with breaks("I10", "n1 believes its log to start at"):
        ghost.on_cut(N1, stage.cores[N1])
    with breaks("I10", "n1 goes to a snapshot at 1: commit 2"):
        ghost.on_restored(N1, stage.cores[N1], SnapshotMeta(position_after(stage.entries[0]), THREE, 1, digest))


def test_a_read_behind_what_was_committed_when_it_was_asked_for_breaks_i14(stage: Stage) -> None:
    stage.ghost.on_ask(7)
    with breaks("I14", "n2 may read at 1, when it asked 2 was committed"):
        stage.ghost.on_grant(N2, ReadGrant(7, Index(1)))
