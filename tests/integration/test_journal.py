"""A user's own machine on real members, files and sockets: what `Journal` promises, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from journal import (
    CommandRefused,
    EventStream,
    IndexOverflow,
    IndexUnderflow,
    Journal,
    JournalConfig,
    JournalStopped,
    LeaderChanged,
    Limits,
    MachineEvent,
    RoleChanged,
    StateReplaced,
    StorageError,
    Timing,
    Unavailable,
    UpdateUncertain,
)
from journal.levels import Consistency, Response
from tests.support.journals import Journals, running_journals, until
from tests.support.machines import Ledger

pytestmark = pytest.mark.asyncio

SMALL = Limits(
    record_bytes_max=64 * 1024,
    append_bytes_max=16 * 1024,
    segment_bytes=128 * 1024,
    log_memory_bytes_max=16 * 1024,
    snapshot_entries=200,
    snapshot_chunk_bytes=4 * 1024,
)
"""So small that a short test goes through segments and snapshots."""


def single(directory: Path, limits: Limits = SMALL) -> Journal:
    return Journal(JournalConfig(directory, "n0", "n0=127.0.0.1:0", limits=limits), Ledger())


def lines_of(journal: Journal) -> list[bytes]:
    machine = journal._machine
    assert isinstance(machine, Ledger)
    return machine.lines


def hold_disk(journal: Journal) -> threading.Event:
    """From now on this member's disk syncs nothing, until the event is set."""
    gate = threading.Event()
    disk = journal._disk
    assert disk is not None
    sync = type(disk).sync

    def held(name: str) -> None:
        assert gate.wait(30), "nobody let the disk go"
        sync(disk, name)

    disk.sync = held  # type: ignore[method-assign]
    return gate


async def stream_of(stream: EventStream, count: int) -> AsyncIterator[MachineEvent]:
    """The next events of the machine."""
    async for event in stream:
        if isinstance(event, MachineEvent):
            yield event
            count -= 1
            if not count:
                return


async def fill_until_cut(journal: Journal) -> int:
    """Update until the log has been cut behind a snapshot; returns how many commands that took.

    No faster than snapshots are taken: else the state, and the time to send it, would grow with the machine's speed.
    """
    count = 0
    while journal.status()["log_first_index"] <= 300:
        before = max(journal.status()["snapshot_indices"], default=0)
        for _ in range(3):
            await journal.update_many([b"x" * 300] * 100)
        count += 300
        await until(lambda: max(journal.status()["snapshot_indices"], default=0) > before, "a snapshot is taken")  # noqa: B023
    return count


async def other_than(journals: Journals, number: int) -> Journal:
    return journals.members[(number + 1) % 3]


async def test_any_member_takes_updates_and_shows_those_of_the_others(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        members = list(journals.members.values())
        for number, journal in enumerate(members):
            await journal.update(b"%d" % number)
            for other in members:
                assert await other.query(b"last") == b"%d" % number


async def test_updates_are_applied_once_each_though_leaders_stop_under_them(tmp_path: Path) -> None:
    """Whatever was proposed twice because an answer was lost counts once; what was lost is proposed again."""
    async with running_journals(tmp_path, Ledger) as journals:
        for turn in range(3):
            leader = await journals.leader()
            from_member = await other_than(journals, leader)
            names = [b"%d-%d" % (turn, number) for number in range(300)]
            updates = [asyncio.create_task(from_member.update(name)) for name in names]
            await until(lambda: sum(update.done() for update in updates) > 20, "some are answered")  # noqa: B023
            await journals.stop(leader)
            indices = [int(answer or b"") for answer in await asyncio.gather(*updates)]
            assert indices == sorted(set(indices)), "in the order in which they were asked for"
            await from_member.query()
            assert [line for line in lines_of(from_member) if line.startswith(b"%d-" % turn)] == names
            await journals.start(leader)
        states = {await journal.query(b"all") for journal in journals.members.values()}
        assert len(states) == 1


@pytest.mark.parametrize("response", list(Response))
@pytest.mark.parametrize("leads", [True, False])
async def test_every_level_of_response_answers_and_the_update_comes_through(
    tmp_path: Path, response: Response, leads: bool
) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        leader = await journals.leader()
        journal = journals.members[leader] if leads else await other_than(journals, leader)
        for number in range(20):
            answer = await journal.update(b"%d" % number, response=response)
            assert (answer is not None) == (response in ("replication", "all"))
        await until(lambda: len(lines_of(journal)) == 20, "all are applied")
        assert lines_of(journal) == [b"%d" % number for number in range(20)]


async def test_each_level_waits_for_what_it_says_and_no_more(tmp_path: Path) -> None:
    """The disks are let go one after the other: the leader's memory, its disk, a majority's, a machine's answer."""
    patient = Timing(heartbeat_interval=0.1, election_timeout=10.0)
    async with running_journals(tmp_path, Ledger, timing=patient) as journals:
        leader = await journals.leader()
        order = [leader, (leader + 1) % 3, (leader + 2) % 3]
        journal = journals.members[order[1]]
        await journal.update(b"first")
        gates = {number: hold_disk(journals.members[number]) for number in order}
        try:
            calls = {level: asyncio.create_task(journal.update(level.encode(), response=level)) for level in Response}
            await until(calls[Response.RECEIVE].done, "the leader has it in memory")
            assert {level for level, call in calls.items() if call.done()} == {Response.ONE_WAY, Response.RECEIVE}
            gates[order[0]].set()
            await until(calls[Response.PERSISTENCE].done, "the leader has it on its disk")
            assert not calls[Response.REPLICATION].done() and not calls[Response.ALL].done()
            gates[order[1]].set()
            assert await calls[Response.REPLICATION] and await calls[Response.ALL]

            gates[order[0]] = hold_disk(journals.members[order[0]])
            gates[order[2]].set()
            last = asyncio.create_task(journal.update(b"all", response="all"))
            assert await journal.update(b"majority")
            assert not last.done(), "a majority has it, and the leader's disk has not"
            gates[order[0]].set()
            assert await last
        finally:
            for gate in gates.values():
                gate.set()


async def test_an_observer_updates_asks_and_listens_like_any_member(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger, size=4, observers=("n3",)) as journals:
        observer = journals.members[3]
        stream = observer.events()
        assert observer.status()["observers"] == ["n3"]
        for response in Response:
            await observer.update(b"tell " + response.encode(), response=response)
        index = await observer.applied_index()
        assert await journals.members[0].query(at=index) == await observer.query() == b"5"
        told = [event.data async for event in stream_of(stream, 5)]
        assert told == [response.encode() for response in Response]


async def test_many_commands_at_once_stand_next_to_each_other(tmp_path: Path) -> None:
    """Also when other members' updates come at the same time, and more of them than one record takes."""
    async with running_journals(tmp_path, Ledger, limits=SMALL) as journals:
        members = list(journals.members.values())
        batches = [[b"%d-%d-%d" % (who, batch, at) for at in range(7)] for who in range(3) for batch in range(30)]
        updates = [members[number % 3].update_many(batch) for number, batch in enumerate(batches)]
        for answers in await asyncio.gather(*updates):
            indices = [int(answer) for answer in answers if isinstance(answer, bytes)]
            assert indices == list(range(indices[0], indices[0] + 7))
        lines = (await members[0].query(b"all") or b"").split()
        assert sorted(lines[at : at + 7] for at in range(0, len(lines), 7)) == sorted(batches)


async def test_a_refused_command_raises_and_does_not_undo_its_neighbours(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        with pytest.raises(CommandRefused, match="no means no"):
            await journal.update(b"no")
        first, refused, last = await journal.update_many([b"a", b"no", b"b"])
        assert isinstance(refused, CommandRefused) and refused.detail == "no means no"
        assert int(last or b"") == int(first or b"") + 2  # type: ignore[arg-type]
        assert await journal.query(b"all") == b"a b"
        assert await journal.update_many([]) == []


async def test_an_exception_of_the_machine_stops_the_member_and_says_why(tmp_path: Path) -> None:
    """A machine that went on after it would drift apart from its replicas in silence."""
    async with single(tmp_path) as journal:
        await journal.update(b"a")
        with pytest.raises(UpdateUncertain):
            await journal.update(b"boom")
        with pytest.raises(RuntimeError, match="boom"):
            await journal.failed()
        with pytest.raises(JournalStopped, match="boom"):
            await journal.query()
        with pytest.raises(JournalStopped):
            journal.status()


async def test_state_and_origins_survive_a_restart(tmp_path: Path) -> None:
    """From a snapshot and the log behind it."""
    async with single(tmp_path) as journal:
        for number in range(500):
            await journal.update(b"%d" % number)
        assert journal.status()["snapshot_indices"]
    async with single(tmp_path) as journal:
        assert await journal.query() == b"500"
        await journal.update(b"more")
        assert await journal.query(b"last") == b"more"


async def test_a_member_that_was_away_for_long_is_brought_back_by_a_snapshot(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger, limits=SMALL) as journals:
        leader = await journals.leader()
        away = (leader + 1) % 3
        await journals.stop(away)
        count = await fill_until_cut(journals.members[leader])
        back = await journals.start(away)
        stream = back.events()
        assert await back.query() == b"%d" % count
        assert back.status()["snapshot_indices"]
        async for event in stream:
            if isinstance(event, StateReplaced):
                assert event.index > 0
                break


# Earlier states.


async def test_the_state_at_every_retained_index_can_be_asked_for(tmp_path: Path) -> None:
    """Exact to the command, from snapshots and log, while the live machine goes on undisturbed."""
    async with single(tmp_path) as journal:
        index_of = [int(await journal.update(b"%d" % number) or b"") for number in range(450)]
        live = journal._machine
        for number in (0, 1, 150, 249, 250, 301, 448, 449):
            index = index_of[number]
            try:
                assert await journal.query(b"last", at=index) == b"%d" % number
                assert await journal.query(b"0", at=index) == b"%d" % (number + 1)
            except IndexUnderflow:
                assert index < min(journal.status()["snapshot_indices"])
        assert journal._machine is live
        assert await journal.query(b"last") == b"449"


async def test_an_index_within_a_batch_shows_the_commands_up_to_it(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        first, *_ = await journal.update_many([b"a", b"b", b"c"])
        await journal.update(b"d")
        index = int(first or b"")  # type: ignore[arg-type]
        assert [await journal.query(b"all", at=index + number) for number in range(3)] == [b"a", b"a b", b"a b c"]


async def test_an_index_that_was_cut_away_is_an_underflow(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        await fill_until_cut(journal)
        with pytest.raises(IndexUnderflow):
            await journal.query(at=5)
        oldest = journal.status()["snapshot_indices"][0]
        assert int(await journal.query(at=oldest) or b"") > 0


async def test_an_index_ahead_is_waited_for_and_then_an_overflow(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        index = int(await journal.update(b"a") or b"")
        with pytest.raises(IndexOverflow):
            await journal.query(at=index + 1, deadline=0.05)
        asking = asyncio.create_task(journal.query(b"all", at=index + 1))
        await asyncio.sleep(0)
        await journal.update(b"b")
        assert await asking == b"a b"
        with pytest.raises(ValueError, match="negative"):
            await journal.query(at=-1)


async def test_questions_about_the_same_index_share_one_copy(tmp_path: Path) -> None:
    """Making one takes a snapshot and a replay: ten askers must not do it ten times."""
    made = []

    def make() -> Ledger:
        made.append(Ledger())
        return made[-1]

    async with running_journals(tmp_path, make, size=1) as journals:
        journal = journals.members[0]
        index = int(await journal.update(b"a") or b"")
        await journal.update(b"b")
        made.clear()
        answers = await asyncio.gather(*(journal.query(b"all", at=index) for _ in range(10)))
        assert answers == [b"a"] * 10
        assert len(made) == 1
        for at in range(index):
            await journal.query(at=at)
        assert sum(not copy.closed for copy in made) <= 4, "only the last few copies are kept"
        with pytest.raises(ValueError, match="no such question"):
            await journal.query(b"fault", at=index)
    assert all(copy.closed for copy in made)


async def test_a_copy_lives_on_another_thread_and_an_impatient_asker_leaves_it_alone(tmp_path: Path) -> None:
    release = threading.Event()

    class Slow(Ledger):
        def query(self, question: bytes) -> bytes | None:
            if question == b"slow":
                release.wait(20)
            return super().query(question)

    async with running_journals(tmp_path, Slow, size=1) as journals:
        journal = journals.members[0]
        index = int(await journal.update(b"a") or b"")
        await journal.update(b"b")
        try:
            with pytest.raises(Unavailable):
                await journal.query(b"slow", at=index, deadline=0.05)
            assert await journal.query(b"all") == b"a b", "the loop is free"
        finally:
            release.set()
        assert await journal.query(b"all", at=index) == b"a"


async def test_two_steps_read_what_was_answered_before_on_any_member(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        members = list(journals.members.values())
        for number in range(10):
            await members[number % 3].update(b"%d" % number)
            index = await members[(number + 1) % 3].applied_index()
            assert await members[(number + 2) % 3].query(b"last", at=index) == b"%d" % number


async def test_a_sequential_query_is_not_older_than_what_was_told(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        journal = journals.members[0]
        for number in range(50):
            await journal.update(b"%d" % number)
            assert await journal.query(b"last", consistency=Consistency.SEQUENTIAL) == b"%d" % number
            assert await journal.query(b"last", consistency="none") == b"%d" % number


async def test_an_exception_of_a_query_reaches_the_asker_alone(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        with pytest.raises(ValueError, match="no such question"):
            await journal.query(b"fault")
        assert await journal.update(b"a")


# Without a majority.


async def test_without_a_majority_calls_say_what_is_known(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        leader = await journals.leader()
        alone = await other_than(journals, leader)
        idle = journals.members[(leader + 2) % 3]
        await alone.update(b"a")
        await idle.query()
        await journals.stop(leader)
        number = next(number for number, journal in journals.members.items() if journal is idle)
        await journals.stop(number)
        with pytest.raises(UpdateUncertain):
            await alone.update(b"b", deadline=0.1)
        with pytest.raises(Unavailable):
            await alone.query(deadline=0.1)
        with pytest.raises(Unavailable):
            await alone.applied_index(deadline=0.1)
        assert await alone.query(b"all", consistency="sequential") == b"a"
        await journals.start(leader)
        await alone.update(b"c")
        assert await alone.query(b"all") in (b"a c", b"a b c")


async def test_an_update_that_was_never_proposed_is_known_not_to_have_happened(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        for number in (1, 2):
            await journals.stop(number)
        with pytest.raises(Unavailable):
            await journals.members[0].update(b"a", deadline=0.1)
        await journals.start(1)
        await journals.members[0].update(b"b")
        assert await journals.members[0].query(b"all") == b"b"


async def test_a_stopped_journal_answers_whoever_waits(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        for number in (1, 2):
            await journals.stop(number)
        journal = journals.members[0]
        calls = [
            asyncio.create_task(journal.update(b"a")),
            asyncio.create_task(journal.query()),
            asyncio.create_task(journal.query(at=100)),
        ]
        await asyncio.sleep(0)
        await journals.stop(0)
        for call in calls:
            with pytest.raises(JournalStopped):
                await call
        with pytest.raises(JournalStopped):
            await journal.update(b"late")


async def test_more_updates_than_may_be_on_their_way_wait_for_their_turn(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        await asyncio.gather(*(journal.update(b"%d" % number) for number in range(3000)))
        assert lines_of(journal) == [b"%d" % number for number in range(3000)]


async def test_what_cannot_be_proposed_is_refused_at_once(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        with pytest.raises(ValueError, match="record_bytes_max"):
            await journal.update(b"x" * SMALL.record_bytes_max)
        with pytest.raises(TypeError, match="must be bytes"):
            await journal.update("text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="twice"):
            await journal.update(b"x", response="twice")


async def test_other_members_than_the_directory_knows_are_refused(tmp_path: Path) -> None:
    async with single(tmp_path):
        pass
    config = JournalConfig(tmp_path, "n0", "n0=127.0.0.1:1,n1=127.0.0.1:2", limits=SMALL)
    with pytest.raises(StorageError, match="n0, n1"):
        await Journal(config, Ledger()).start()


# Events.


async def test_events_tell_of_the_leader_the_role_and_the_machine(tmp_path: Path) -> None:
    async with running_journals(tmp_path, Ledger) as journals:
        leader = await journals.leader()
        journal = await other_than(journals, leader)
        heard: list[object] = []
        journal.watch(heard.append)
        stream = journal.events()
        index = int(await journals.members[leader].update(b"tell all") or b"")
        assert await anext(stream) == MachineEvent(index, b"all")
        await journals.stop(leader)
        seen: list[object] = []
        async for event in stream:
            seen.append(event)
            if isinstance(event, LeaderChanged):
                break
        assert event.leader != f"n{leader}"
        assert all(isinstance(event, LeaderChanged | RoleChanged) for event in seen)
        await until(lambda: len(heard) > len(seen), "callbacks hear the same")
        assert heard[: len(seen) + 1] == [MachineEvent(index, b"all"), *seen]
        journal.unwatch(heard.append)


async def test_a_stream_ends_with_its_journal_and_one_that_was_dropped_costs_nothing(tmp_path: Path) -> None:
    async with single(tmp_path) as journal:
        for _ in range(2000):
            journal.events()
        stream = journal.events()
        await journal.update(b"tell a")
    assert MachineEvent in [type(event) async for event in stream]
