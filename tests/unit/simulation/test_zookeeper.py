"""What a client of ZooKeeper's protocol is told, against the log: a lie is rejected by the promise it breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jkcs_client.protocol import zookeeper as zk
from tests.simulation.checkers.answers import AnswerChecker
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.checkers.wire_zookeeper import ZooKeeperConversation
from tests.simulation.checkers.zookeeper import SessionLog
from tests.simulation.trace import Violation
from tests.support import jute_client as jute
from tests.unit.simulation.test_answers import LOG

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
K_AT_2 = (b"v1", jute.Stat(2, 2, 1, 1, 0, 0, 0, 0, 2, 0, 2))
K_AT_4 = (b"v3", jute.Stat(2, 4, 1, 1, 1, 0, 0, 0, 2, 0, 2))
K_AT_6 = (["c"], jute.Stat(2, 4, 1, 1, 1, 1, 0, 0, 2, 1, 6))


def replayed(entries: int = len(LOG)) -> GhostTree:
    ghost = GhostTree()
    for one in LOG[:entries]:
        ghost.on_first_apply(one)
    return ghost


class Told(SessionLog):
    """A session of which is said in short what it was told."""

    def answer(
        self, op: int, path: str, zxid: int, value: object = None, argument: object = None, error: int = 0
    ) -> None:
        self.on_answer(op, path, argument, jute.Answer(1, zxid, error, value))

    def missing(self, op: int, path: str, zxid: int, argument: object = None) -> None:
        self.answer(op, path, zxid, argument=argument, error=zk.NO_NODE)

    def watch_k(self) -> None:
        """From index 2 on."""
        self.answer(zk.GET_DATA, "/k", 2, K_AT_2, True)


def watches_again(log: Told, *missed: tuple[int, str]) -> None:
    """On a new connection, which comes when /k has changed and has a child."""
    log.watch_k()
    log.set_again()
    for kind, path in missed:
        log.on_event(kind, path, zk.NO_ZXID)
    log.answer(zk.SET_WATCHES2, "", 6, argument=2)


def told_of_all_below(log: Told) -> None:
    log.answer(zk.ADD_WATCH, "/k", 4, argument=zk.WATCH_RECURSIVE)
    log.answer(zk.ADD_WATCH, "/k", 5, argument=zk.WATCH_PERSISTENT)
    log.on_event(CREATED, "/k/c", 6)
    log.on_event(CHILDREN, "/k", 6)
    log.on_event(DELETED, "/k/c", 7)
    log.on_event(CHILDREN, "/k", 7)
    log.on_event(CHANGED, "/k", 8)
    log.answer(zk.PING, "", 9)


def told_once(log: Told) -> None:
    log.watch_k()
    log.on_event(CHANGED, "/k", 4)
    log.answer(zk.GET_DATA, "/k", 5, K_AT_4, False)
    log.answer(zk.PING, "", 9)


def told_of_its_creation(log: Told) -> None:
    log.missing(zk.EXISTS, "/k/c", 4, True)
    log.on_event(CREATED, "/k/c", 6)
    log.missing(zk.GET_DATA, "/k/c", 7)
    log.missing(zk.GET_DATA, "/k/c", 8, True)


GOOD: dict[str, Callable[[Told], None]] = {
    "one event of one watch": told_once,
    "a key that comes": told_of_its_creation,
    "a persistent watch and a recursive one": told_of_all_below,
    "what was missed": lambda log: watches_again(log, (CHANGED, "/k")),
    "the children": lambda log: log.answer(zk.GET_CHILDREN2, "/k", 6, K_AT_6, False),
    "a watch that is taken back": lambda log: (
        log.watch_k(),
        log.answer(zk.REMOVE_WATCHES, "/k", 3, argument=zk.WATCHER_DATA),
        log.answer(zk.CHECK_WATCHES, "/k", 3, argument=zk.WATCHER_ANY, error=zk.NO_WATCHER),
        log.answer(zk.PING, "", 9),
    ),
    "ephemeral keys": lambda log: log.answer(zk.GET_EPHEMERALS, "/", 9, ["/e"], 1),
    "a session that is over": lambda log: log.on_ended(1),
}

BAD: dict[str, tuple[Callable[[Told], None], str]] = {
    "a value of another zxid": (lambda log: log.answer(zk.GET_DATA, "/k", 4, K_AT_2), "I14"),
    "a key that is missing": (lambda log: log.missing(zk.EXISTS, "/k", 4), "I14"),
    "children of another zxid": (lambda log: log.answer(zk.GET_CHILDREN2, "/k", 7, K_AT_6), "I14"),
    "a zxid that goes back": (lambda log: (log.missing(zk.EXISTS, "/no", 5), log.missing(zk.EXISTS, "/no", 4)), "I14"),
    "a zxid that nobody has": (lambda log: log.missing(zk.EXISTS, "/no", 11), "I12"),
    "a deletion that did not happen": (lambda log: log.answer(zk.DELETE, "/k/c", 8), "I12"),
    "an answer before the event": (lambda log: (log.watch_k(), log.answer(zk.PING, "", 4)), "W10"),
    "an event behind its answer": (
        lambda log: (log.missing(zk.EXISTS, "/no", 4), log.on_event(CHANGED, "/k", 4)),
        "W2",
    ),
    "an event that nobody waits for": (lambda log: log.on_event(CHANGED, "/k", 4), "W12"),
    "an event a second time": (
        lambda log: (log.watch_k(), log.on_event(CHANGED, "/k", 4), log.on_event(CHANGED, "/k", 4)),
        "W12",
    ),
    "an event of another zxid": (lambda log: (log.watch_k(), log.on_event(CHANGED, "/k", 3)), "W12"),
    "an event of another kind": (lambda log: (log.watch_k(), log.on_event(DELETED, "/k", 4)), "W7"),
    "an event that is passed over": (
        lambda log: (
            log.answer(zk.ADD_WATCH, "/k", 5, argument=zk.WATCH_RECURSIVE),
            log.on_event(DELETED, "/k/c", 7),
        ),
        "W7",
    ),
    "nothing of what was missed": (watches_again, "W6"),
    "more than was missed": (lambda log: watches_again(log, (CHANGED, "/k"), (CHILDREN, "/k")), "W6"),
    "a made-up event unasked": (lambda log: log.on_event(CHANGED, "/k", zk.NO_ZXID), "W12"),
    "a watch that is not there": (lambda log: log.answer(zk.CHECK_WATCHES, "/k", 3, argument=zk.WATCHER_DATA), "W1"),
    "an ephemeral key that is missing": (lambda log: log.answer(zk.GET_EPHEMERALS, "/", 9, [], 1), "E4"),
}


@pytest.mark.parametrize("name", GOOD)
def test_truth_is_accepted(name: str) -> None:
    """Or runs would fail without a reason."""
    ghost = replayed()
    GOOD[name](Told("c", ghost, AnswerChecker(ghost)))


@pytest.mark.parametrize("name", BAD)
def test_lie_is_rejected(name: str) -> None:
    """Each by the promise that it breaks."""
    ghost = replayed()
    tell, invariant = BAD[name]
    with pytest.raises(Violation) as caught:
        tell(Told("c", ghost, AnswerChecker(ghost)))
    assert caught.value.invariant == invariant, caught.value


def test_end_of_a_session_that_lives_is_rejected() -> None:
    """A client that believes it gives its locks up for nothing, or makes its keys a second time."""
    ghost = replayed(len(LOG) - 1)
    with pytest.raises(Violation, match="S2"):
        SessionLog("c", ghost, AnswerChecker(ghost)).on_ended(1)


def talk(*answers: bytes) -> None:
    """Session 1 sends a set and a read, and is answered."""
    conversation = ZooKeeperConversation("c", replayed())
    sent = jute.connect() + jute.request(1, zk.SET_DATA, jute.set_data("/k", b"v3")) + jute.request(2, zk.SYNC)
    conversation.on_sent(sent[:3])
    conversation.on_sent(sent[3:])
    hello = jute.framed(jute.CONNECTED.pack(0, 1000, 1) + jute.buffer(bytes(16)))
    conversation.on_written(hello + b"".join(answers))


def head(xid: int, zxid: int, error: int = 0) -> bytes:
    return jute.framed(jute.REQUEST.pack(xid, zxid >> 32) + jute.INT.pack(zxid & 0xFFFFFFFF) + jute.INT.pack(error))


def test_answers_on_the_wire_are_compared_with_the_log() -> None:
    """Whether or not the client lives to take them in."""
    talk(head(1, 4), head(2, 5))
    lies = {
        (head(2, 5),): "S6",
        (head(1, 4), head(2, 3)): "S6",
        (head(1, 5),): "I12",
        (head(1, 4, zk.BAD_VERSION),): "I16",
    }
    for answers, invariant in lies.items():
        with pytest.raises(Violation, match=invariant):
            talk(*answers)
