"""The audit log: who, what, and no more lines than are good for the disk."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from jkcs_server.serving.audit import LINES_PER_SECOND_MAX, Audit

ALICE = (("ip", "192.0.2.1"), ("digest", "alice:c2VjcmV0"), ("x509", "CN=alice,O=Example Inc"))


@pytest.fixture(autouse=True)
def shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jkcs_server.audit")


def client(ids: Any = ALICE, session: int = 5, address: str = "192.0.2.1:4711") -> Any:
    return SimpleNamespace(session=session, ids=ids, figures=SimpleNamespace(address=address))


def test_a_line_says_who_was_refused_what(caplog: pytest.LogCaptureFixture) -> None:
    """The hash of a password is not shown: it could be tried against words."""
    Audit(lambda: 0.0, enabled=True).refused(client(), "read", "/a/b")
    (line,) = caplog.messages
    assert line == (
        "session=0x5 user=digest:alice,'x509:CN=alice,O=Example Inc' ip=192.0.2.1:4711 operation=read znode=/a/b "
        "result=failure"
    )


def test_who_has_proved_nothing_is_named_by_his_address(caplog: pytest.LogCaptureFixture) -> None:
    Audit(lambda: 0.0, enabled=True).login_failed(client(ALICE[:1], 0), "digest")
    (line,) = caplog.messages
    assert line == "session=0x0 user=- ip=192.0.2.1:4711 operation=auth scheme=digest result=failure"


def test_a_scheme_that_is_none_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """It may be a password."""
    Audit(lambda: 0.0, enabled=True).login_failed(client(), "hunter2")
    assert "hunter2" not in caplog.text and "scheme=unknown" in caplog.text


@pytest.mark.parametrize("text", ["/a\nsession=0x1 user=root", "/a result=success", '/"', "/\u202e", "/\ud800"])
def test_no_text_of_a_stranger_makes_a_line_or_a_field(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Forged lines would be worse than none."""
    Audit(lambda: 0.0, enabled=True).rights_changed(client(((("digest", text + ":x")),)), text)
    (line,) = caplog.messages
    fields = line.split(" user=")[1]
    assert "\n" not in line and line.isascii() and fields.startswith(("'", '"'))
    assert line.endswith("result=invoked")


def test_a_long_name_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    Audit(lambda: 0.0, enabled=True).refused(client(), "write", "/" + "x" * 4000)
    assert len(caplog.messages[0]) < 500


def test_there_are_no_more_lines_than_so_many_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 10.0
    audit = Audit(lambda: now, enabled=True)
    for _ in range(LINES_PER_SECOND_MAX + 7):
        audit.refused(client(), "read", "/a")
    assert len(caplog.messages) == LINES_PER_SECOND_MAX
    now = 11.0
    audit.refused(client(), "read", "/a")
    assert "7 lines were left out" in caplog.messages[-2]
    assert len(caplog.messages) == LINES_PER_SECOND_MAX + 2


def test_it_can_be_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    Audit(lambda: 0.0, enabled=False).refused(client(), "read", "/a")
    assert not caplog.messages
