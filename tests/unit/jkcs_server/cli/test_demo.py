"""The demo as a command: its verdict, and what it leaves behind. The play itself is shown by tests/integration."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jkcs_server.cli import demo as module
from jkcs_server.cli.demo import Demo
from jkcs_server.cli.processes import ProcessFailed
from jkcs_server.cli.story import Story


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the next demo."""
    made = tmp_path / "demo"
    monkeypatch.setattr(module.tempfile, "mkdtemp", lambda prefix: (made.mkdir(), str(made))[1])
    return made


def playing(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    async def run(self: Demo) -> None:
        self._story.claim("the only claim", "1 of 1", held)

    monkeypatch.setattr(Demo, "run", run)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(module.demo, arguments)


def test_success_leaves_nothing_behind_unless_it_is_to_be_kept(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo is run more than once."""
    playing(monkeypatch, held=True)
    result = run()
    assert (result.exit_code, directory.exists()) == (0, False)
    assert "every claim held" in result.output
    result = run("--keep")
    assert (result.exit_code, directory.exists()) == (0, True)
    assert f"data and logs are in {directory}" in result.output


def test_claim_that_did_not_hold_fails_the_demo_and_keeps_its_logs(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs are what is needed next."""
    playing(monkeypatch, held=False)
    result = run()
    assert (result.exit_code, directory.exists()) == (1, True)
    assert "1 claim(s) did not hold" in result.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_demo_removes_its_directory(
    number: signal.Signals, code: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who interrupts it does not want it."""

    async def run_until_interrupted(self: Demo) -> None:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    monkeypatch.setattr(Demo, "run", run_until_interrupted)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run().exit_code == code
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not directory.exists()


@pytest.mark.asyncio
async def test_act_that_breaks_off_is_a_claim_that_did_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """A demo must end with a verdict, whatever happens on the stage; later acts need the earlier ones."""

    class Broken:
        nodes: dict[str, Any] = {}  # noqa: RUF012 - never changed

        def start(self) -> None:
            raise ProcessFailed("n1 ended by itself: out of coffee")

    story = Story()
    await Demo(story, Broken()).run()  # type: ignore[arg-type]
    [claim] = story.claims
    assert (claim.text, claim.held) == ("Three servers elect a leader", False)
    assert claim.figure == "broke off: n1 ended by itself: out of coffee"
    assert not story.held
