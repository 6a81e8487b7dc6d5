"""The demo's end of a contender: what it hears, and what it says when it hears nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jkcs_server.cli.demo_worker import Contender
from jkcs_server.cli.processes import ProcessFailed


def contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Contender:
    """A contender whose process is a shell script."""
    stand_in = tmp_path / "stand_in"
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    return Contender("jkcs://h:1", "/locks/x", "alice", 2.0)


def test_reports_are_heard_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that nobody waits for is passed over."""
    alice = contender(
        tmp_path,
        monkeypatch,
        """echo '{"event": "waiting"}'; echo '{"event": "held", "token": 7}'; exec sleep 60""",
    )
    try:
        assert alice.wait_for("held", 10)["token"] == 7
        with pytest.raises(ProcessFailed, match=r"alice did not report 'held' within 0.05 s"):
            alice.wait_for("held", 0.05)
    finally:
        alice.kill()


def test_end_without_a_report_is_told_with_the_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's audience sees why, not a timeout."""
    alice = contender(tmp_path, monkeypatch, "echo 'first' >&2; echo 'no server could be reached' >&2; exit 1")
    with pytest.raises(ProcessFailed, match="alice ended before it reported 'held': no server could be reached"):
        alice.wait_for("held", 10)
    alice.end()


def test_process_that_does_not_end_when_told_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo ends, whatever its contenders do."""
    monkeypatch.setattr("jkcs_server.cli.demo_worker.END_TIMEOUT", 0.05)
    script = """trap '' TERM; echo '{"event": "waiting"}'; while :; do sleep 0.05; done"""
    alice = contender(tmp_path, monkeypatch, script)
    alice.wait_for("waiting", 10)
    alice.end()
    assert alice.exit_code == -9
