"""A JKCS cluster as the benchmark sees it: who leads, whose processor time can be known, what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_server.bench import clusters
from jkcs_server.bench.clusters import RunningJkcs, lines
from jkcs_server.bench.jute import JuteLine
from jkcs_server.bench.line import Wire
from jkcs_server.bench.native import NativeLine
from jkcs_server.bench.subject import Member, SubjectFailed
from jkcs_server.cli.probe import ProbeFailed

NEAR, FAR = ("127.0.0.1", 2181), ("10.0.0.7", 2181)


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[Any, Any]) -> RunningJkcs:
    monkeypatch.setattr(clusters, "ask_each", lambda addresses: {address: answers[address] for address in addresses})
    return RunningJkcs(list(answers))


def status(node: str, role: str = "follower") -> dict[str, Any]:
    return {"node": node, "role": role, "term": 3, "pid": 77}


def test_the_leader_is_found_and_processes_of_this_machine_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process id of another machine would name a stranger here."""
    subject = answering(monkeypatch, {NEAR: status("n1"), FAR: status("n2", "leader")})
    assert subject.members() == [Member(NEAR, False, 77), Member(FAR, True, None)]


def test_a_member_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one member down the figures would be those of another cluster."""
    subject = answering(monkeypatch, {NEAR: status("n1", "leader"), FAR: ProbeFailed("connection refused")})
    with pytest.raises(SubjectFailed, match=r"10\.0\.0\.7:2181 does not answer: connection refused"):
        subject.members()


def test_a_cluster_without_its_leader_named_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some cells go to the leader; its processor time belongs into every sum."""
    with pytest.raises(SubjectFailed, match="none of the servers named leads"):
        answering(monkeypatch, {NEAR: status("n1")}).members()


def test_hosts_of_this_machine_are_recognized() -> None:
    """By name or address, of both families."""
    assert all(clusters._is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(clusters._is_loopback(host) for host in ("10.0.0.7", "node-3.example", "0.0.0.0"))


def test_both_protocols_can_be_spoken() -> None:
    """On the same port, to the same servers."""
    assert isinstance(lines(Wire.NATIVE)(), NativeLine)
    assert isinstance(RunningJkcs([NEAR], wire=Wire.ZOOKEEPER).line(), JuteLine)
