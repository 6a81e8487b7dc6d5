"""The replayed log, against servers and clients that tell the truth and against those that do not."""

from __future__ import annotations

import msgpack
import pytest

from jkcs_client.protocol.messages import CLOSE, CREATE, SET
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.commands import EXPIRE, OPEN
from jkcs_server.tree.machine import TreeMachine
from journal.record import make_entry
from journal.values import Entry, EntryKind
from tests.simulation.checkers.annals import KeyState, Listing
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.trace import Violation


class Silent:
    """Hooks that nobody listens to."""

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None: ...
    def on_opened(self, password: bytes, session_id: int, index: int) -> None: ...
    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None: ...

    def on_ended(self, session_id: int, index: int, expired: bool) -> None: ...


def entry(first: int, *commands: tuple[object, ...], term: int = 1) -> Entry:
    payload = b"".join(msgpack.packb(command) for command in commands)
    return make_entry(first, term, 1000 + first, EntryKind.COMMANDS, payload, 0, count=len(commands))


LOG = (
    entry(1, (OPEN, 0, 0, 0, b"p", 1000)),
    entry(2, (CREATE, 1, 1, 0, "/k", b"v1", 0), (CREATE, 1, 2, 0, "/e", b"v2", 1)),
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
    assert [(event.index, event.path) for event in ghost.annals.events] == [(2, "/k"), (3, "/e"), (4, "/k"), (6, "/e")]


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


def test_repeated_write_is_answered_as_the_first_time() -> None:
    """I16: the index too, which is what the client fences and watches with."""
    ghost, machine = replayed()
    again = entry(6, (SET, 1, 3, 2, "/k", b"v3", -1))
    ghost.on_first_apply(again)
    machine.apply(again)
    ghost.check_applied("a", again, machine)
    machine.sessions[1].replies[-1] = (0, 6, machine.sessions[1].replies[-1][2])
    with pytest.raises(Violation, match="I16"):
        ghost.check_applied("a", again, machine)


def test_serial_with_another_command_is_rejected() -> None:
    """S7: the answer to the one would be taken for the answer to the other."""
    ghost, _ = replayed()
    with pytest.raises(Violation, match="S7"):
        ghost.on_first_apply(entry(6, (SET, 1, 3, 2, "/k", b"other", -1)))


def test_falling_stamp_is_rejected() -> None:
    """I6: keys' times come from it."""
    ghost, _ = replayed()
    earlier = make_entry(6, 1, 900, EntryKind.NOOP, b"", 0, count=1)
    with pytest.raises(Violation, match="I6"):
        ghost.on_first_apply(earlier)


def test_snapshot_that_brings_an_ephemeral_back_is_rejected() -> None:
    """E3, and I10 for any other difference."""
    ghost, machine = replayed(entry(6, (SET, 1, 4, 3, "/k", b"v4", -1)))
    ghost.check_snapshot("a", machine)
    ghost.annals.histories["/e"].append(KeyState(6, None))
    with pytest.raises(Violation, match="E3"):
        ghost.check_snapshot("a", machine)


def test_snapshot_with_another_state_is_rejected() -> None:
    """I10: the digest of a snapshot is that of its index."""
    last = make_entry(6, 1, 2000, EntryKind.SNAPSHOT, b"", 0, count=1)
    ghost, machine = replayed(last)
    ghost.check_snapshot("a", machine)
    machine.tree.nodes["/k"].mtime += 1
    with pytest.raises(Violation, match="I10"):
        ghost.check_snapshot("a", machine)


def test_ephemeral_of_another_owner_is_rejected() -> None:
    """E4, and E2 for one that its own session would not take along."""
    opened = entry(6, (OPEN, 0, 0, 0, b"q", 1000))
    ghost, machine = replayed(opened)
    machine.tree.ephemerals.clear()
    with pytest.raises(Violation, match="E2"):
        ghost.check_snapshot("a", machine)
    machine.tree.nodes["/e"].owner = 6
    with pytest.raises(Violation, match="E4"):
        ghost.check_snapshot("a", machine)


def test_annals_know_every_index() -> None:
    """Keys and lists of children, at, between and before the changes."""
    ghost, _ = replayed(entry(6, (CREATE, 1, 4, 3, "/k/c", b"", 0)), entry(7, (EXPIRE, 1, 0, 0, 1)))
    annals = ghost.annals
    assert [annals.state_at("/k", index).value for index in (1, 2, 3, 4, 9)] == [None, b"v1", b"v1", b"v3", b"v3"]
    listings = [annals.listing_at("/", index) for index in (0, 2, 3, 7)]
    assert [listing.names for listing in listings if listing is not None] == [
        ("zookeeper",),
        ("k", "zookeeper"),
        ("e", "k", "zookeeper"),
        ("k", "zookeeper"),
    ]
    assert annals.listing_at("/k", 1) is None and annals.listing_at("/k", 6) == Listing(6, ("c",), 1, 6)
    names = [None if one is None else one.names for one in annals.listings_between("/k", 1, 9)]
    assert names == [None, (), (), ("c",)]


def test_answers_are_not_acknowledged_before_they_could_be_had() -> None:
    """I16: what is acknowledged is forgotten, and can then be told to nobody."""
    ghost, _ = replayed()
    with pytest.raises(Violation, match="I16: session 1 says with serial 5 that it has the answer of 4"):
        ghost.on_first_apply(entry(6, (SET, 1, 4, 3, "/k", b"v4", -1), (SET, 1, 5, 4, "/k", b"v5", -1)))
