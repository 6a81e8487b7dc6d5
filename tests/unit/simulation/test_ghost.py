"""The replayed log, against servers and clients that tell the truth and against those that do not."""

from __future__ import annotations

import msgpack
import pytest

from jkcs_client.protocol.messages import CLOSE, CREATE, SET
from jkcs_server.tree.commands import EXPIRE, OPEN
from jkcs_server.tree.machine import TreeMachine
from journal.record import make_entry
from journal.values import Entry, EntryKind
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.trace import Violation


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
