"""Who may administer, and what each request takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jkcs_client.protocol.errors import (
    OK,
    AdminDenied,
    BadArguments,
    Busy,
    ChangeRefused,
    NoLeader,
    OutcomeUnknown,
    Unimplemented,
)
from jkcs_server.serving.admin import COMMANDS, AdminDesk, Scope
from jkcs_server.serving.listener import is_loopback
from journal.administration import Verdict

SAMPLES: Mapping[type, Any] = {int: 1, str: "n1", list: ["n1"], dict: {"n1": ""}, type(None): None}


class Leader:
    """The way to the leader: it notes what is asked, and answers as the test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: tuple[Verdict, Any] = (Verdict.DONE, {})

    def ask(self, name: str, arguments: Mapping[str, Any], done: Callable[[Verdict, Any], None]) -> None:
        self.asked.append(name)
        done(*self.answer)


class Office:
    """A desk whose own handlers note that they were called."""

    def __init__(self, *, from_anywhere: bool = False) -> None:
        self.leader = Leader()
        self.handled: list[str] = []
        self.told: list[tuple[int, Any]] = []

        def handler(name: str) -> Callable[..., None]:
            def handle(arguments: Mapping[str, Any], done: Callable[[int, Any], None]) -> None:
                self.handled.append(name)
                done(OK, {})

            return handle

        handlers = {name: handler(name) for name, command in COMMANDS.items() if command.scope is Scope.NODE}
        self.desk = AdminDesk(self.leader, handlers, from_anywhere=from_anywhere)

    def ask(self, name: str, arguments: Mapping[str, Any], *, local: bool = True) -> tuple[int, Any]:
        self.desk.ask(name, arguments, local, lambda code, result: self.told.append((code, result)))
        return self.told.pop()


def arguments_of(name: str) -> dict[str, Any]:
    return {key: SAMPLES[types[0]] for key, types in COMMANDS[name].arguments.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_request_is_done_for_another_machine(name: str) -> None:
    """Every one that exists: the next one that is added is covered as well."""
    office = Office()
    code, _ = office.ask(name, arguments_of(name), local=False)
    assert code == AdminDenied.code
    assert office.handled == office.leader.asked == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_request_is_done_where_it_belongs(name: str) -> None:
    """From this machine, and from others where the operator has opened the door."""
    for office, local in ((Office(), True), (Office(from_anywhere=True), False)):
        assert office.ask(name, arguments_of(name), local=local) == (OK, {})
        here = COMMANDS[name].scope is Scope.NODE
        assert (office.handled, office.leader.asked) == (([name], []) if here else ([], [name]))


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_that_are_missing_wrong_or_unknown_are_named(name: str) -> None:
    """Before anybody acts on half of them."""
    office, good = Office(), arguments_of(name)
    wrong = [{**good, "colour": "red"}, {**good, 5: 5}]
    for key in good:
        wrong += [{each: value for each, value in good.items() if each != key}, {**good, key: 1.5}]
    for arguments in wrong:
        code, detail = office.ask(name, arguments)
        assert code == BadArguments.code and name in detail
    assert office.handled == office.leader.asked == []


def test_an_unknown_request_is_refused() -> None:
    """A newer client gets an answer that it can show."""
    assert Office().ask("reboot", {}) == (Unimplemented.code, "ADMIN request 'reboot'")


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (Verdict.NO_LEADER, NoLeader),
        (Verdict.BUSY, Busy),
        (Verdict.REFUSED, ChangeRefused),
        (Verdict.MALFORMED, BadArguments),
        (Verdict.UNKNOWN, OutcomeUnknown),
    ],
)
def test_each_verdict_of_the_leader_is_an_error_that_says_what_may_be_done(verdict: Verdict, error: Any) -> None:
    """Retryable, ambiguous or definite."""
    office = Office()
    office.leader.answer = (verdict, "because")
    assert office.ask("take_snapshot", {}) == (error.code, "because")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_is_told_from_other_addresses(host: str, here: bool) -> None:
    """The one thing that guards these requests."""
    assert is_loopback(host) is here


QUESTIONS = {"server_status", "list_snapshots", "download_snapshot", "configuration"}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_changes_the_cluster_is_written_down_when_it_is_asked_for(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever asks afterwards why the leader changed, or who removed a node, finds it; questions would bury it."""
    caplog.set_level(logging.INFO)
    Office().ask(name, arguments_of(name))
    asked = [record.getMessage() for record in caplog.records]
    assert asked == ([] if name in QUESTIONS else [f"an administrator asks for {name} {arguments_of(name)}"])


def test_what_is_refused_is_not_written_down(caplog: pytest.LogCaptureFixture) -> None:
    """Or any client could fill the log of the server."""
    caplog.set_level(logging.INFO)
    Office().ask("take_snapshot", {}, local=False)
    Office().ask("take_snapshot", {"colour": "red"})
    assert caplog.records == []
