"""When a replica stops because it was removed, and when it must not.

Real core and store; what the others send is written by hand.
"""

from __future__ import annotations

from journal.errors import Removed
from journal.peers.handshake import STRANGER, Refusal
from journal.raft.messages import Append, Heartbeat, PullReply, PullRequest
from journal.record import encode_configuration, make_entry
from journal.values import Configuration, Entry, EntryKind, Index, Term
from tests.unit.journal.test_replica import A, B, C, World

WITH, WITHOUT = Configuration((A, B, C)), Configuration((B, C))


def history(*configurations: Configuration) -> list[Entry]:
    """A log of term 1: one change after another."""
    entries: list[Entry] = []
    crc = 0
    for configuration in configurations:
        payload = encode_configuration(configuration)
        entries.append(make_entry(Index(len(entries) + 1), Term(1), 1, EntryKind.CONFIGURATION, payload, crc))
        crc = entries[-1].crc
    return entries


def append(entries: list[Entry], first: int, last: int, commit: int) -> Append:
    """What the leader sends of the log."""
    crc = entries[first - 2].crc if first > 1 else 0
    term = Term(1 if first > 1 else 0)
    return Append(Term(1), Index(first - 1), term, crc, Index(commit), entries[first - 1 : last])


def settle(world: World) -> None:
    world.turn()
    while world.worker.jobs:
        world.worker.run()
        world.turn()


def removals(world: World) -> list[str]:
    assert all(isinstance(error, Removed) for error in world.owner.failures), world.owner.failures
    return [str(error) for error in world.owner.failures]


def test_a_node_stops_when_the_newest_configuration_is_without_it() -> None:
    """Else it would ask for votes for ever."""
    world = World()
    world.receive(B, append(history(WITHOUT), 1, 1, 1))
    settle(world)
    assert removals(world) == ["this node was removed from the cluster by the configuration at index 1"]


def test_a_restarted_node_is_not_stopped_by_an_old_configuration_in_its_log() -> None:
    """It was removed and taken in again. When it starts, its log is committed step by step once more; it would stop at
    the old configuration each time."""
    log = history(WITHOUT, WITH)
    world = World()
    world.receive(B, append(log, 1, 2, 0))
    settle(world)
    again = World(disk=world.disk)
    again.receive(B, Heartbeat(Term(1), Index(1), 1))
    settle(again)
    assert again.replica.applied == 1 and removals(again) == []
    again.receive(B, Heartbeat(Term(1), Index(2), 2))
    settle(again)
    assert again.replica.applied == 2 and removals(again) == []


def test_a_node_is_not_stopped_by_a_page_of_old_news() -> None:
    """The leader knows of more that is committed: the next page may take this node in again, as it does here."""
    log = history(WITHOUT, WITH)
    world = World()
    world.receive(B, append(log, 1, 1, 2))
    settle(world)
    assert world.replica.applied == 1 and removals(world) == []
    world.receive(B, append(log, 2, 2, 2))
    settle(world)
    assert world.replica.applied == 2 and removals(world) == []


def test_a_node_that_pulls_old_news_goes_on_until_there_are_no_more() -> None:
    """It was away when it was removed: what it pulls comes in pages too."""
    log = history(WITHOUT, WITHOUT)
    world = World()
    world.receive(B, Heartbeat(Term(1), Index(0), 1))
    settle(world)
    for _ in range(50):
        world.scheduler.advance(0.1)
        settle(world)
    asked = world.network.take(PullRequest)
    assert asked, "no leader is heard: it must ask around"
    source = asked[-1][0]
    term = world.replica.core.term
    page = PullReply(term, "", 0, False, Index(0), 0, Index(0), Term(0), 0, Index(2), log[:1])
    world.receive(source, page)
    settle(world)
    assert world.replica.applied == 1 and removals(world) == []
    (to, asked_next) = world.network.take(PullRequest)[-1]
    assert (to, asked_next.after) == (source, 1)
    rest = PullReply(term, "", 0, False, Index(0), 0, Index(1), Term(1), log[0].crc, Index(2), log[1:])
    world.receive(source, rest)
    settle(world)
    assert removals(world) == ["this node was removed from the cluster by the configuration at index 1"]


def test_a_removed_node_that_cannot_get_the_rest_is_told_by_whoever_refuses_it() -> None:
    """It knows that more is committed, but nobody speaks with it any more."""
    world = World()
    world.receive(B, append(history(WITHOUT), 1, 1, 9))
    settle(world)
    assert removals(world) == []
    world.replica.on_refused(C, Refusal(STRANGER, "node 'a' is not a member: those are b, c", Index(1)))
    assert removals(world) == [
        "refused by c: this node was removed from the cluster. node 'a' is not a member: those are b, c"
    ]
