"""The checker of permissions: hand-made answers, each wrong one rejected by the promise that it breaks."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client import Acl
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK, NoAuth
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import AUTH, CHILDREN, CREATE, GET, GET_ACL, MULTI, PREFACE, SET, SET_ACL
from jkcs_server.tree.commands import IDENTIFIED, OPEN
from journal.values import Entry
from tests.simulation.checkers.annals import KeyState
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.checkers.rights import (
    CREATE as MAKE,
)
from tests.simulation.checkers.rights import (
    READ,
    WRITE,
    allowed,
    changed_since,
    check_access,
    check_list,
    identity,
)
from tests.simulation.checkers.wire import Conversation
from tests.simulation.trace import Violation
from tests.unit.simulation.test_ghost import entry

ME = identity("me:secret")
MINE = ((31, *ME),)
READABLE = (*MINE, (1, "world", "anyone"))
NOBODY, SOMEBODY = frozenset[tuple[str, str]](), frozenset({ME})

LOG: tuple[Entry, ...] = (
    entry(1, (OPEN, 0, 0, 0, b"p", 1000, (("ip", "c1"),))),
    entry(2, (CREATE + IDENTIFIED, 1, 1, 0, "/k", b"v1", 0, MINE, 0, (ME,))),
    entry(3, (SET, 1, 2, 1, "/k", b"v2", -1)),  # refused
    entry(4, (SET_ACL + IDENTIFIED, 1, 3, 2, "/k", READABLE, 0, (ME,))),
    entry(5, (SET + IDENTIFIED, 1, 4, 3, "/k", b"v3", -1, (ME,))),
    entry(6, (MULTI + IDENTIFIED, 1, 5, 4, ((SET_ACL, "/k", None, 7),), (ME,))),  # of another aversion
)


@pytest.fixture
def ghost() -> GhostTree:
    ghost = GhostTree()
    for one in LOG:
        ghost.on_first_apply(one)
    return ghost


def test_a_name_is_made_as_in_zookeeper() -> None:
    """The checker makes its own; both must be who the lists mean."""
    assert identity("me:secret") == ("digest", digest_id("me:secret"))


def test_replayed_log_knows_lists_and_who_asked(ghost: GhostTree) -> None:
    """A write carries who asks, or its session says it; the list has a history of its own."""
    states = [ghost.annals.state_at("/k", index) for index in (2, 3, 4, 5, 6)]
    assert [state.value for state in states] == [b"v1", b"v1", b"v1", b"v3", b"v3"]
    assert [(state.acl, state.aversion) for state in states] == [(MINE, 0)] * 2 + [(READABLE, 1)] * 3
    assert ghost.ok_writes[b"v3"] == [5] and b"v2" not in ghost.ok_writes
    assert [event.acl for event in ghost.annals.events] == [MINE, READABLE]


def test_the_same_write_may_come_again_from_somebody() -> None:
    """What its client has proved meanwhile is no part of it."""
    ghost = GhostTree()
    for one in LOG:
        ghost.on_first_apply(one)
    ghost.on_first_apply(entry(7, (SET, 1, 4, 3, "/k", b"v3", -1)))
    with pytest.raises(Violation, match="S7"):
        ghost.on_first_apply(entry(8, (SET, 1, 4, 3, "/k", b"v4", -1)))


def test_lists_are_read_as_they_are_written() -> None:
    """Of several permissions one is enough; the world is everybody."""
    assert allowed(MINE, READ, SOMEBODY) and not allowed(MINE, READ, NOBODY)
    assert allowed(READABLE, READ | WRITE, NOBODY) and not allowed(READABLE, WRITE, NOBODY)
    assert not allowed(MINE, READ, frozenset({("digest", "me:other")}))


# What is asked, at which index, by whom, whether it was refused, whether it is a write; and whether that is right.
ANSWERS: dict[str, tuple[int, str, int, Any, bool, bool, bool]] = {
    "an owner's read": (READ, "/k", 3, SOMEBODY, False, False, True),
    "a stranger's read": (READ, "/k", 3, NOBODY, False, False, False),
    "a stranger's read, later": (READ, "/k", 4, NOBODY, False, False, True),
    "a stranger refused": (READ, "/k", 3, NOBODY, True, False, True),
    "a stranger refused too late": (READ, "/k", 4, NOBODY, True, False, False),
    "an owner refused": (WRITE, "/k", 3, SOMEBODY, True, True, False),
    "a write judged by what was before it": (WRITE, "/k", 3, NOBODY, True, True, True),
    "a stranger's write": (WRITE, "/k", 5, NOBODY, False, True, False),
    "a key that was not there yet": (WRITE, "/k", 1, NOBODY, False, True, True),
    "refused by a list that was not there": (WRITE, "/k", 1, NOBODY, True, True, False),
    "below the root": (MAKE, "/", 2, NOBODY, False, True, True),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_held_against_the_list_of_their_index(name: str, ghost: GhostTree) -> None:
    """A1, in both directions."""
    permission, path, index, ids, refused, write, right = ANSWERS[name]
    if right:
        check_access(ghost.annals, "c", permission, path, index, ids, refused, write=write)
    else:
        with pytest.raises(Violation, match="A1"):
            check_access(ghost.annals, "c", permission, path, index, ids, refused, write=write)


def test_a_list_that_was_read_is_that_of_its_index(ghost: GhostTree) -> None:
    """A2; and who may not change it sees no hash."""
    mine = [Acl.digest("me", "secret")]
    check_list(ghost.annals, "c", "/k", 3, mine, 0, SOMEBODY)
    hidden = [Acl("digest", "me:x", mine[0].permissions), Acl.read_only()]
    check_list(ghost.annals, "c", "/k", 4, hidden, 1, NOBODY)
    for index, entries, aversion, ids in (
        (4, mine, 1, SOMEBODY),
        (3, mine, 1, SOMEBODY),
        (4, [*mine, Acl.read_only()], 1, NOBODY),
        (1, mine, 0, SOMEBODY),
    ):
        with pytest.raises(Violation, match="A2"):
            check_list(ghost.annals, "c", "/k", index, entries, aversion, ids)
    assert changed_since(ghost.annals, "/k", 3, 4) and not changed_since(ghost.annals, "/k", 2, 3)
    assert not changed_since(ghost.annals, "/k", 1, 4), "another key"


def talk(ghost: GhostTree, *requests: tuple[Any, ...]) -> Conversation:
    conversation = Conversation("c", ghost)
    conversation.on_sent(PREFACE + frame([pack((1, b"p", 1000, 0))]))
    conversation.on_written(frame([pack((OK, 1, b"p", 1000, 6, "n1", 1, 1, 5))]))
    conversation.on_sent(frame([pack(request) for request in requests]))
    return conversation


STAT_AT_3 = (2, 2, 2, 1002, 1002, 0, 0, 0, 2, 0, 0, 0)
PROOF = (AUTH, -1, "digest", b"me:secret")
PROVEN = (-1, OK, 3)


@pytest.mark.parametrize(
    "answer",
    [(-2, OK, 3, b"v1", STAT_AT_3), (-3, OK, 3, (), STAT_AT_3), (-4, OK, 3, MINE, STAT_AT_3)],
    ids=["get", "children", "get_acl"],
)
def test_nobody_is_told_what_a_list_forbids(answer: tuple[Any, ...], ghost: GhostTree) -> None:
    """A1, on the wire, whichever client it was; to its owner the same is right."""
    asked = {-2: (GET, -2, "/k"), -3: (CHILDREN, -3, "/k"), -4: (GET_ACL, -4, "/k")}[answer[0]]
    with pytest.raises(Violation, match="A1"):
        talk(ghost, asked).on_written(frame([pack(answer)]))
    talk(ghost, PROOF, asked).on_written(frame([pack(PROVEN), pack(answer)]))
    refusal = (answer[0], NoAuth.code, 3, "/k")
    talk(ghost, asked).on_written(frame([pack(refusal)]))
    with pytest.raises(Violation, match="A1"):
        talk(ghost, PROOF, asked).on_written(frame([pack(PROVEN), pack(refusal)]))


def test_stat_with_another_aversion_or_ttl_is_rejected(ghost: GhostTree) -> None:
    """I14: both are compared with what the log has."""
    for place in (-1, -2):
        wrong = list(STAT_AT_3)
        wrong[place] = 1
        with pytest.raises(Violation, match="I14"):
            talk(ghost, PROOF, (GET, -2, "/k")).on_written(frame([pack(PROVEN), pack((-2, OK, 3, b"v1", wrong))]))


def test_states_without_a_list_are_open() -> None:
    """Most keys are given none."""
    assert allowed(KeyState(1, b"").acl, 31, NOBODY)
