"""Scripts, pipes and conversations of the shell, and their exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jkcs_client.protocol.errors import NotConnected, SessionExpired
from jkcs_server.cli import shell as module
from jkcs_server.cli import shell_prompt
from jkcs_server.cli.shell_commands import Shell
from tests.unit.jkcs_server.cli.fake_client import FakeClient


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client that the shell gets, whatever the URL."""
    client = FakeClient().put("/a/b", b"x")
    monkeypatch.setattr(module, "connect", lambda url, request_timeout, auth: client)
    return client


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(module.shell, arguments, input=stdin)


def test_commands_of_several_flags_run_in_order(client: FakeClient) -> None:
    """One connection, one place in the tree."""
    result = run("-c", "cd /a", "-c", "ls; pwd")
    assert (result.exit_code, result.stdout) == (0, "b\n/a\n")


def test_script_ends_at_the_first_failure(client: FakeClient) -> None:
    """After `cd` has failed, `delete -r` must not run somewhere else."""
    result = run("-c", "cd /nowhere; delete -r /a", "-c", "delete -r /a")
    assert result.exit_code == 1
    assert result.stderr == "jkcs: no such key [/nowhere]\n"
    assert "/a" in client.values


def test_commands_are_read_from_a_pipe(client: FakeClient) -> None:
    """A file of commands is a way to load a tree."""
    result = run(stdin="# load\ncreate /c\n\nset /c 'two\twords'\nget /c")
    assert (result.exit_code, result.stdout) == (0, "/c\nversion 1\ntwo\twords\n")


def test_exit_ends_a_script_in_good_order(client: FakeClient) -> None:
    """What follows is not read."""
    result = run(stdin="pwd\nexit\npwd\n")
    assert (result.exit_code, result.stdout) == (0, "/\n")


@pytest.mark.parametrize("line", ["lss", "get", "ls 'x"])
def test_wrong_usage_has_its_exit_code(line: str, client: FakeClient) -> None:
    """One line, on standard error."""
    result = run("-c", line)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_no_server_has_its_exit_code(client: FakeClient) -> None:
    """A script may want to try again later, then and only then."""
    client.failures = [NotConnected("h:1: connection refused")]
    result = run("jkcs://h:1", "-c", "ls")
    assert result.exit_code == 3
    assert result.stderr == "jkcs: no server could be reached: h:1: connection refused\n"


def test_expired_session_ends_a_script(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ephemeral keys are gone: what the script did before may not be true any more."""

    async def expired(path: str) -> list[str]:
        raise SessionExpired

    monkeypatch.setattr(client, "children", expired)
    result = run("-c", "pwd; ls; pwd")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "/\n", "jkcs: the session has expired\n")


@pytest.mark.parametrize("url", ["http://h:1", "jkcs://h:x/a"])
def test_bad_url_is_wrong_usage(url: str) -> None:
    """It is the caller's mistake, not the server's."""
    result = run(url, "-c", "ls")
    assert result.exit_code == 2
    assert "URL" in result.stderr


@pytest.mark.asyncio
async def test_ctrl_c_ends_the_command_and_not_the_shell() -> None:
    """`watch` is ended in no other way."""
    with module.interrupts() as interruptible:
        began = asyncio.Event()

        async def watch() -> None:
            began.set()
            await asyncio.Event().wait()

        running = asyncio.ensure_future(interruptible(watch))
        await began.wait()
        os.kill(os.getpid(), signal.SIGINT)
        await running

        async def say() -> None:
            said.append("next")

        said: list[str] = []
        await interruptible(say)
        assert said == ["next"]


def prompting(monkeypatch: pytest.MonkeyPatch, lines: list[str | BaseException]) -> list[str]:
    """Have the prompt give these lines; the places it was asked at."""
    places: list[str] = []

    class FakePrompt:
        def __init__(self, shell: Shell, place: str) -> None:
            self._shell = shell
            self._place = place

        async def line(self) -> str:
            places.append(self._place + self._shell.current)
            line = lines.pop(0)
            if isinstance(line, BaseException):
                raise line
            return line

    monkeypatch.setattr(shell_prompt, "Prompt", FakePrompt)
    return places


@pytest.mark.asyncio
async def test_conversation_goes_on_after_failures(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error is no reason to lose one's place; Ctrl-C throws a line away, Ctrl-D leaves."""
    places = prompting(monkeypatch, ["cd /a", "get 'x", "nonsense", KeyboardInterrupt(), "get nowhere", EOFError()])
    assert await module.converse("jkcs://h:1,h:2/top", as_json=False, timeout=1) == 0
    assert places == ["h:1:/top/", *["h:1:/top/a"] * 5]
    assert len(capsys.readouterr().err.splitlines()) == 4


@pytest.mark.asyncio
async def test_conversation_survives_an_expired_session(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a laptop's sleep the user goes on where they were, and is told what is gone."""
    places = prompting(monkeypatch, ["cd /a", "ls", "ls", "exit"])
    ask: Callable[..., Awaitable[None]] = module._ask_and_run

    async def expire_once(shell: Shell, line: Callable[[], Awaitable[str]]) -> None:
        if not expired:
            expired.append(True)
            shell.client = ExpiringClient()  # type: ignore[assignment]
        await ask(shell, line)

    class ExpiringClient:
        async def exists(self, path: str) -> object:
            return await client.exists(path)

        async def children(self, path: str) -> list[str]:
            raise SessionExpired

    expired: list[bool] = []
    monkeypatch.setattr(module, "_ask_and_run", expire_once)
    assert await module.converse("jkcs://h:1", as_json=False, timeout=1) == 0
    assert places == ["h:1:/", "h:1:/a", "h:1:/a", "h:1:/a"]
    out, err = capsys.readouterr()
    assert out == "b\n"
    assert "a new session begins; ephemeral keys of the old one are gone" in err


def test_credentials_come_from_a_file_or_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Never from the command line, which everybody on the machine can read."""
    given = []

    def connected(url: str, request_timeout: float, auth: tuple[tuple[str, str], ...]) -> FakeClient:
        given.append(auth)
        return FakeClient()

    monkeypatch.setattr(module, "connect", connected)
    monkeypatch.setenv("JKCS_AUTH", "digest:a:b")
    file = tmp_path / "credentials"
    file.write_text("digest:me:pass:word\n\ndigest:you:x\n")
    assert run("-c", "pwd").exit_code == run("--auth", str(file), "-c", "pwd").exit_code == 0
    assert given == [(("digest", "a:b"),), (("digest", "me:pass:word"), ("digest", "you:x"))]
    file.write_text("hush\n")
    result = run("--auth", str(file), "-c", "pwd")
    assert result.exit_code == 2 and "line 1" in result.stderr and "hush" not in result.stderr
