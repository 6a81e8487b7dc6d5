"""What clients are told, against the log: hand-made histories, each bad one rejected by the promise it breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jkcs_client.protocol.messages import CREATE, DELETE, SET
from jkcs_client.values import Stat
from jkcs_server.tree.commands import EXPIRE, OPEN
from journal.record import make_entry
from journal.values import Entry, EntryKind
from tests.simulation.checkers.answers import AnswerChecker
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.trace import Violation
from tests.unit.simulation.test_ghost import entry

LOG: tuple[Entry, ...] = (
    entry(1, (OPEN, 0, 0, 0, b"p", 1000)),
    entry(2, (CREATE, 1, 1, 0, "/k", b"v1", 0), (CREATE, 1, 2, 0, "/e", b"v2", 1)),
    entry(4, (SET, 1, 3, 2, "/k", b"v3", -1)),
    entry(5, (SET, 1, 3, 2, "/k", b"v3", -1)),  # sent again: without effect
    entry(6, (CREATE, 1, 4, 3, "/k/c", b"v4", 0)),
    entry(7, (DELETE, 1, 5, 4, "/k/c", -1)),
    entry(8, (SET, 1, 6, 5, "/k", b"v3", -1)),  # the same value a second time, under a serial of its own
    make_entry(9, 1, 1009, EntryKind.NOOP, b"", 0, count=1),
    entry(10, (EXPIRE, 1, 0, 0, 1)),
)


def stat(**changed: int) -> Stat:
    """The stat of /k as of index 6, and what is wrong with it."""
    fields = {
        "czxid": 2, "mzxid": 4, "pzxid": 6, "ctime": 1, "mtime": 1, "version": 1, "cversion": 1,
        "ephemeral_owner": 0, "data_length": 2, "num_children": 1, "index": 6,
    }  # fmt: skip
    return Stat(**{**fields, **changed})


Check = Callable[[AnswerChecker], None]

GOOD: dict[str, Check] = {
    "a value as it was": lambda c: c.check_read("r", "/k", 3, b"v1", 0),
    "a value between changes": lambda c: c.check_read("r", "/k", 5, b"v3", 1),
    "a key before its creation": lambda c: c.check_read("r", "/k", 1, None),
    "an ephemeral key before its session ended": lambda c: c.check_read("r", "/e", 9, b"v2"),
    "an ephemeral key after it": lambda c: c.check_read("r", "/e", 10, None),
    "a stat": lambda c: c.check_stat("r", "/k", 6, stat()),
    "no stat": lambda c: c.check_stat("r", "/nothing", 6, None),
    "children at some index": lambda c: c.check_children("r", "/k", ["c"], 3, 6),
    "children that went meanwhile": lambda c: c.check_children("r", "/k", [], 6, 7),
    "no parent": lambda c: c.check_children("r", "/nothing", None, 6, 7),
    "an index that is new enough": lambda c: c.check_index("r", 6, 6),
    "an acknowledged write": lambda c: c.check_write("w", b"v4", acknowledged=True, refused=False, index=6),
    "a refused write": lambda c: c.check_write("w", b"no", acknowledged=False, refused=True, index=None),
    "an open write that happened": lambda c: c.check_write("w", b"v4", acknowledged=False, refused=False, index=None),
    "an open write that did not": lambda c: c.check_write("w", b"no", acknowledged=False, refused=False, index=None),
    "a write in its time": lambda c: c.check_time("w", 6, 5, 6),
    "refused: no such key": lambda c: c.check_refusal("w", "NoNode", "/k/c", 7),
    "refused: it is there": lambda c: c.check_refusal("w", "NodeExists", "/k/c", 6),
    "refused: another version": lambda c: c.check_refusal("w", "BadVersion", "/k", 6, 0),
    "a write of a live session": lambda c: c.check_session("w", 9, None),
    "a write before its session's end": lambda c: c.check_session("w", 9, 10),
    "calls in order": lambda c: c.check_order("s", [("read", 3), ("write", 4), ("read", 4), ("read", 6), ("write", 8)]),
}

BAD: dict[str, tuple[str, Check]] = {
    "stale value": ("I14", lambda c: c.check_read("r", "/k", 5, b"v1", 0)),
    "value from the future": ("I14", lambda c: c.check_read("r", "/k", 3, b"v3", 1)),
    "value before the key": ("I14", lambda c: c.check_read("r", "/k", 1, b"v1", 0)),
    "another version": ("I14", lambda c: c.check_read("r", "/k", 5, b"v3", 0)),
    "key overlooked": ("I14", lambda c: c.check_read("r", "/e", 5, None)),
    "ephemeral key after its session": ("I14", lambda c: c.check_read("r", "/e", 10, b"v2")),
    "value that nobody wrote": ("I14", lambda c: c.check_read("r", "/k", 6, b"x", 1)),
    "stat of another creation": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(czxid=1))),
    "stat of another change": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(mzxid=5))),
    "stat with another length": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(data_length=3))),
    "stat with an owner": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(ephemeral_owner=1))),
    "stat with a lost child": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(num_children=0))),
    "stat with another cversion": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(cversion=2))),
    "stat with an old pzxid": ("I14", lambda c: c.check_stat("r", "/k", 6, stat(pzxid=2))),
    "stat of nothing": ("I14", lambda c: c.check_stat("r", "/nothing", 6, stat())),
    "no stat of something": ("I14", lambda c: c.check_stat("r", "/k", 6, None)),
    "children of the past": ("I14", lambda c: c.check_children("r", "/k", ["c"], 7, 9)),
    "children of the future": ("I14", lambda c: c.check_children("r", "/k", ["c"], 3, 5)),
    "children that never were": ("I14", lambda c: c.check_children("r", "/k", ["d"], 0, 9)),
    "parent overlooked": ("I14", lambda c: c.check_children("r", "/k", None, 2, 9)),
    "read from before what was committed": ("I14", lambda c: c.check_index("r", 5, 6)),
    "acknowledged write lost": (
        "I12", lambda c: c.check_write("w", b"lost", acknowledged=True, refused=False, index=4)),
    "acknowledged elsewhere": (
        "I12", lambda c: c.check_write("w", b"v4", acknowledged=True, refused=False, index=5)),
    "refused, and happened": (
        "I12", lambda c: c.check_write("w", b"v4", acknowledged=False, refused=True, index=None)),
    "happened twice": (
        "I16", lambda c: c.check_write("w", b"v3", acknowledged=True, refused=False, index=4)),
    "open, and happened twice": (
        "I16", lambda c: c.check_write("w", b"v3", acknowledged=False, refused=False, index=None)),
    "write before its call": ("I14", lambda c: c.check_time("w", 6, 6, 8)),
    "write acknowledged before its commit": ("I12", lambda c: c.check_time("w", 6, 3, 5)),
    "NoNode for a key that is there": ("I14", lambda c: c.check_refusal("w", "NoNode", "/k/c", 6)),
    "NodeExists for a key that is not": ("I14", lambda c: c.check_refusal("w", "NodeExists", "/k/c", 7)),
    "BadVersion for the right version": ("I14", lambda c: c.check_refusal("w", "BadVersion", "/k", 6, 1)),
    "BadVersion for any version": ("I14", lambda c: c.check_refusal("w", "BadVersion", "/k", 6, -1)),
    "BadVersion of nothing": ("I14", lambda c: c.check_refusal("w", "BadVersion", "/k/c", 7, 3)),
    "write after its session's end": ("S4", lambda c: c.check_session("w", 12, 10)),
    "read misses the write before it": ("S6", lambda c: c.check_order("s", [("write", 4), ("read", 3)])),
    "read sees the write after it": ("S6", lambda c: c.check_order("s", [("read", 4), ("write", 4)])),
    "writes in another order": ("S6", lambda c: c.check_order("s", [("write", 6), ("write", 4)])),
    "two writes at one index": ("S6", lambda c: c.check_order("s", [("write", 6), ("write", 6)])),
    "session goes back in time": ("S6", lambda c: c.check_order("s", [("read", 6), ("read", 5)])),
}  # fmt: skip


@pytest.fixture
def checker() -> AnswerChecker:
    ghost = GhostTree()
    for one in LOG:
        ghost.on_first_apply(one)
    return AnswerChecker(ghost)


@pytest.mark.parametrize("check", GOOD.values(), ids=GOOD)
def test_true_answer_is_accepted(check: Check, checker: AnswerChecker) -> None:
    """A checker that cries wolf is switched off."""
    check(checker)


@pytest.mark.parametrize(("invariant", "check"), BAD.values(), ids=BAD)
def test_false_answer_is_rejected(invariant: str, check: Check, checker: AnswerChecker) -> None:
    """A checker that cannot fail proves nothing."""
    with pytest.raises(Violation, match=f"{invariant}:"):
        check(checker)


def test_own_writes_are_not_overtaken_even_when_a_connection_breaks() -> None:
    """S6: what is asked again may come later, never before a write that was called earlier."""
    checker = AnswerChecker(GhostTree())
    checker.check_own_writes("c", [("read", 9), ("write", 5), ("read", 5), ("write", 8)])
    for wrong in ([("write", 5), ("read", 4)], [("write", 5), ("write", 4)], [("write", 5), ("write", 5)]):
        with pytest.raises(Violation, match="S6"):
            checker.check_own_writes("c", wrong)
