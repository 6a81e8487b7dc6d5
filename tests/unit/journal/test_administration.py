"""Requests of administrators on their way to the leader, between two nodes that are played by the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from journal.administration import BODY_BYTES_MAX, REQUESTS_MAX, Administration, Verdict
from journal.errors import Busy, ChangeRefused, NotLeader
from journal.values import Index, NodeId

PATIENCE = 3.0


class Timer:
    """A callback and when it is due."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A scheduler whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Timer:
        return self.call_at(self.now, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Timer:
        timer = Timer(when, lambda: callback(*args))
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer.when <= self.now]
        self.timers = [timer for timer in self.timers if timer.when > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.callback()


class FakeCluster:
    """One node's replica: it notes what it is told to do."""

    def __init__(self, me: str, leader: str | None) -> None:
        self.me = NodeId(me)
        self.leader = None if leader is None else NodeId(leader)
        self.sent: list[tuple[NodeId, int, bytes, bool]] = []
        self.done: list[Any] = []
        self.error: Exception | None = None

    def leads(self) -> bool:
        return self.leader == self.me

    def known_leader(self) -> NodeId | None:
        return self.leader

    def describe(self) -> dict[str, Any]:
        return {"leader": self.leader}

    def _do(self, *what: Any) -> Index:
        if self.error is not None:
            raise self.error
        self.done.append(what)
        return Index(7)

    def update_voters(self, old: Sequence[NodeId], new: Sequence[NodeId], addresses: Mapping[NodeId, str]) -> Index:
        return self._do("voters", list(old), list(new), dict(addresses))

    def convert_role(self, node: NodeId, role: str, address: str) -> Index:
        return self._do("role", node, role, address)

    def set_preferred_leader(self, node: NodeId | None) -> Index:
        return self._do("prefer", node)

    def transfer_leadership(self, node: NodeId | None) -> None:
        self._do("transfer", node)

    def take_snapshot(self) -> Index:
        return self._do("snapshot")

    def recover_snapshot(self, index: Index) -> Index:
        return self._do("recover", index)

    def send(self, to: NodeId, context: int, body: bytes, *, reply: bool) -> None:
        self.sent.append((to, context, body, reply))


class Pair:
    """A leader n1 and a follower n2, and what the follower's asker was told."""

    def __init__(self, leader: str | None = "n1") -> None:
        self.time = Clock()
        self.first, self.second = FakeCluster("n1", leader), FakeCluster("n2", leader)
        self.leader = Administration(self.first, self.time, PATIENCE)
        self.follower = Administration(self.second, self.time, PATIENCE)
        self.told: list[tuple[Verdict, Any]] = []

    def ask(self, name: str, at: Administration | None = None, **arguments: Any) -> None:
        (at or self.follower).ask(name, arguments, lambda verdict, result: self.told.append((verdict, result)))

    def deliver(self) -> None:
        """Everything that was sent arrives."""
        while self.first.sent or self.second.sent:
            for source, target in ((self.second, self.leader), (self.first, self.follower)):
                sent, source.sent = source.sent, []
                for _, context, body, reply in sent:
                    if reply:
                        target.on_reply(context, body)
                    else:
                        target.on_request(source.me, context, body)


@pytest.mark.parametrize(
    ("name", "arguments", "done", "answer"),
    [
        ("configuration", {}, [], {"leader": "n1"}),
        (
            "update_voters",
            {"old": ["n2", "n1"], "new": {"n3": "h:1", "n1": ""}},
            [("voters", ["n1", "n2"], ["n1", "n3"], {"n3": "h:1"})],
            {"index": 7},
        ),
        (
            "convert_role",
            {"node": "n3", "role": "observer", "address": "h:1"},
            [("role", "n3", "observer", "h:1")],
            {"index": 7},
        ),
        ("set_preferred_leader", {"node": None}, [("prefer", None)], {"index": 7}),
        ("transfer_leadership", {"node": "n2"}, [("transfer", "n2")], {"from": "n1"}),
        ("take_snapshot", {}, [("snapshot",)], {"index": 7}),
        ("recover_snapshot", {"index": 5}, [("recover", 5)], {"index": 7}),
    ],
)
def test_a_request_is_done_by_the_leader_whoever_is_asked(
    name: str, arguments: dict[str, Any], done: list[Any], answer: dict[str, Any]
) -> None:
    """With the same answer from both."""
    pair = Pair()
    pair.ask(name, pair.leader, **arguments)
    pair.ask(name, **arguments)
    pair.deliver()
    assert pair.told == [(Verdict.DONE, answer)] * 2
    assert pair.first.done == done * 2 and pair.second.done == []


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (NotLeader("not yet"), Verdict.NO_LEADER),
        (Busy("full"), Verdict.BUSY),
        (ChangeRefused("no"), Verdict.REFUSED),
        (ValueError("odd"), Verdict.REFUSED),
    ],
)
def test_a_refusal_comes_back_with_its_reason(error: Exception, verdict: Verdict) -> None:
    """The operator must be able to tell what may be tried again."""
    pair = Pair()
    pair.first.error = error
    pair.ask("take_snapshot")
    pair.deliver()
    assert pair.told == [(verdict, str(error))]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("reboot", {}),
        ("update_voters", {"old": "n1", "new": {"n1": ""}}),
        ("update_voters", {"old": [1], "new": {"n1": ""}}),
        ("update_voters", {"old": ["n1"], "new": {}}),
        ("update_voters", {"old": ["n1"], "new": {"n1": 5}}),
        ("convert_role", {"node": "n1", "role": "king", "address": ""}),
        ("convert_role", {"node": "", "role": "voter", "address": ""}),
        ("convert_role", {"node": "n1", "role": "voter", "address": None}),
        ("recover_snapshot", {"index": 0}),
        ("recover_snapshot", {"index": "5"}),
    ],
)
def test_what_makes_no_sense_changes_nothing(name: str, arguments: dict[str, Any]) -> None:
    """Whatever another node passes on is looked at again."""
    pair = Pair()
    pair.ask(name, **arguments)
    pair.deliver()
    assert [verdict for verdict, _ in pair.told] == [Verdict.MALFORMED]
    assert pair.first.done == []


def test_without_a_leader_the_answer_comes_at_once() -> None:
    """Nothing has happened, and waiting here would help nobody."""
    pair = Pair(leader=None)
    pair.ask("configuration")
    assert pair.told == [(Verdict.NO_LEADER, "n2 knows of no leader")]
    assert pair.second.sent == []


def test_a_node_that_does_not_lead_any_more_says_so() -> None:
    """It must not pass the request on: two nodes that take each other for the leader would do so for ever."""
    pair = Pair()
    pair.first.leader = None
    pair.ask("take_snapshot")
    pair.deliver()
    assert pair.told == [(Verdict.NO_LEADER, "n1 does not lead")]


def test_a_lost_answer_is_told_as_unknown_and_once_only() -> None:
    """The change may have been made; a late answer then finds nobody."""
    pair = Pair()
    pair.ask("take_snapshot")
    late = pair.second.sent.pop()
    pair.time.advance(PATIENCE + 0.1)
    assert [verdict for verdict, _ in pair.told] == [Verdict.UNKNOWN]
    pair.leader.on_request(NodeId("n2"), late[1], late[2])
    pair.deliver()
    assert len(pair.told) == 1 and pair.first.done == [("snapshot",)]


def test_an_answer_stops_the_clock() -> None:
    """One request, one answer."""
    pair = Pair()
    pair.ask("take_snapshot")
    pair.deliver()
    pair.time.advance(2 * PATIENCE)
    assert len(pair.told) == 1


def test_requests_that_wait_are_bounded() -> None:
    """A leader that does not answer must not fill the memory of the others."""
    pair = Pair()
    for _ in range(REQUESTS_MAX + 1):
        pair.ask("configuration")
    assert [verdict for verdict, _ in pair.told] == [Verdict.BUSY]
    pair.ask("update_voters", old=["x" * BODY_BYTES_MAX], new={"n1": ""})
    assert len(pair.told) == 2


def test_a_body_that_cannot_be_read_is_answered_or_told() -> None:
    """Both directions: damaged bytes must not stop a node."""
    pair = Pair()
    for body in (b"", b"\xc1", b"\x92\x01\x02", b"\x91\xa1x"):
        pair.leader.on_request(NodeId("n2"), 1, body)
    assert len(pair.first.sent) == 4
    pair.ask("configuration")
    context = pair.second.sent[-1][1]
    pair.follower.on_reply(context, b"\x93\x00")
    assert [verdict for verdict, _ in pair.told] == [Verdict.UNKNOWN]


def test_a_node_that_stops_answers_whoever_waits() -> None:
    """The clients of a stopping server learn that nobody knows."""
    pair = Pair()
    pair.ask("configuration")
    pair.follower.stop()
    pair.time.advance(2 * PATIENCE)
    assert pair.told == [(Verdict.UNKNOWN, "this node stops")]
