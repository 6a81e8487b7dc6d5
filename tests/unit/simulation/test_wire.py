"""Answers as they leave a server, against the log: each lie is rejected by the promise that it breaks."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client.protocol.errors import OK, NoNode
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import CHILDREN, EXISTS, GET, PREFACE, SET
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.checkers.wire import Conversation
from tests.simulation.trace import Violation
from tests.unit.simulation.test_answers import LOG

STAT_AT_4 = (2, 4, 2, 1002, 1004, 1, 0, 0, 2, 0, 0, 0)
STAT_AT_6 = (2, 4, 6, 1002, 1004, 1, 1, 0, 2, 1, 0, 0)
SET_AT_4 = (2, 4, 2, 1002, 1004, 1, 0, 0, 2, 0, 0, 0)


def talk(*requests: tuple[Any, ...]) -> Conversation:
    """A connection of session 1 on which these were asked."""
    ghost = GhostTree()
    for one in LOG[:-1]:
        ghost.on_first_apply(one)
    conversation = Conversation("c", ghost)
    conversation.on_sent(PREFACE + frame([pack((1, b"p", 1000, 0))]))
    conversation.on_written(frame([pack((OK, 1, b"p", 1000, 9, "n1", 1, 1, 6))]))
    data = frame([pack(request) for request in requests])
    # However the bytes are cut up.
    conversation.on_sent(data[:3])
    conversation.on_sent(data[3:])
    return conversation


REQUESTS = ((SET, 3, 2, "/k", b"v3", -1), (GET, -1, "/k"), (EXISTS, -2, "/k"), (CHILDREN, -3, "/k"), (GET, -4, "/no"))
TRUE = (
    (3, OK, 4, SET_AT_4),
    (-1, OK, 4, b"v3", STAT_AT_4),
    (-2, OK, 6, STAT_AT_6),
    (-3, OK, 6, ("c",), STAT_AT_6),
    (-4, NoNode.code, 9, "/no"),
)


def test_true_answers_are_accepted() -> None:
    """In one frame or in many, and events between them."""
    talk(*REQUESTS).on_written(frame([pack((0, 7, 2, 4, "/k")), *map(pack, TRUE)]))
    conversation = talk(*REQUESTS)
    for answer in TRUE:
        conversation.on_written(frame([pack(answer)]))


LIES = {
    "a value that was never there": (1, (-1, OK, 4, b"v1", STAT_AT_4), "I14"),
    "a value of another index": (1, (-1, OK, 3, b"v3", STAT_AT_4), "I14"),
    "a stat of another index": (2, (-2, OK, 6, STAT_AT_4), "I14"),
    "a key that is missing": (2, (-2, OK, 6, None), "I14"),
    "a child that is missing": (3, (-3, OK, 6, (), STAT_AT_6), "I14"),
    "a key that is there": (1, (-1, NoNode.code, 4, "/k"), "I14"),
    "a write at another index": (0, (3, OK, 5, SET_AT_4), "I16"),
    "another outcome": (0, (3, NoNode.code, 4, "/k"), "I16"),
    "another write's answer": (0, (2, OK, 4, SET_AT_4), "S6"),
    "an answer before its turn": (0, TRUE[1], "S6"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_rejected(name: str) -> None:
    """Whatever the client would make of it."""
    place, lie, invariant = LIES[name]
    conversation = talk(*REQUESTS)
    for answer in TRUE[:place]:
        conversation.on_written(frame([pack(answer)]))
    with pytest.raises(Violation, match=invariant):
        conversation.on_written(frame([pack(lie)]))


def test_a_write_that_is_not_in_the_log_is_not_acknowledged() -> None:
    """I12."""
    conversation = talk((SET, 7, 6, "/k", b"v9", -1))
    with pytest.raises(Violation, match="I12"):
        conversation.on_written(frame([pack((7, OK, 9, STAT_AT_4))]))
