"""Completion and history of the shell's prompt."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, InMemoryHistory

from jkcs_client.protocol.errors import NotConnected
from jkcs_server.cli.shell_commands import COMMANDS, Shell
from jkcs_server.cli.shell_prompt import ShellCompleter, history_path, open_history, prompt_text
from tests.unit.jkcs_server.cli.fake_client import FakeClient


async def completed(text: str, client: FakeClient, current: str = "/") -> list[str]:
    """What the line may become."""
    completer = ShellCompleter(Shell(client, current=current))  # type: ignore[arg-type]
    found = completer.get_completions_async(Document(text), CompleteEvent())
    return [text[: len(text) + each.start_position] + each.text async for each in found]


@pytest.fixture
def client() -> FakeClient:
    return FakeClient().put("/app/web").put("/app/worker").put("/app/two words").put("/zoo")


@pytest.mark.asyncio
async def test_first_word_becomes_a_command(client: FakeClient) -> None:
    """All of them, when nothing is typed."""
    assert await completed("", client) == [f"{name} " for name in COMMANDS]
    assert await completed("st", client) == ["stat "]
    assert await completed("ls /; st", client) == ["ls /; stat "]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "current", "expected"),
    [
        ("ls ", "/", ["ls app", "ls zoo"]),
        ("ls /a", "/zoo", ["ls /app"]),
        ("get /app/w", "/", ["get /app/web", "get /app/worker"]),
        ("get w", "/app", ["get web", "get worker"]),
        ("get ../z", "/app", ["get ../zoo"]),
        ("get /app/t", "/", ["get '/app/two words'"]),
        ("get '/app/two w", "/", ["get '/app/two words'"]),
        ("get /nowhere/x", "/", []),
        ("ls -", "/", []),
        ("pwd ", "/", []),
    ],
)
async def test_argument_becomes_a_path(text: str, current: str, expected: list[str], client: FakeClient) -> None:
    """Relative to where the user is, and quoted where it must be."""
    assert sorted(await completed(text, client, current)) == sorted(expected)


@pytest.mark.asyncio
async def test_no_completion_when_the_server_does_not_answer(client: FakeClient) -> None:
    """The editor must never fail because of a key press."""
    client.failures = [NotConnected("gone")]
    assert await completed("ls /a", client) == []


def test_history_lies_where_xdg_wants_it(tmp_path: Path) -> None:
    """A relative XDG_STATE_HOME is to be ignored, says the specification."""
    assert history_path({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "jkcs" / "shell_history"
    assert history_path({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/jkcs/shell_history"
    assert history_path({}) == Path.home() / ".local/state/jkcs/shell_history"


def test_history_is_the_owners_alone(tmp_path: Path) -> None:
    """Values are typed there."""
    history = open_history({"XDG_STATE_HOME": str(tmp_path)})
    assert isinstance(history, FileHistory)
    path = tmp_path / "jkcs" / "shell_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_history_stays_in_memory_where_no_file_can_be(tmp_path: Path) -> None:
    """A shell without a home must still be a shell."""
    (tmp_path / "jkcs").write_text("a file where the directory should be")
    assert isinstance(open_history({"XDG_STATE_HOME": str(tmp_path)}), InMemoryHistory)


def test_prompt_shows_where_the_user_is_in_the_whole_tree() -> None:
    """Two shells on one screen must not be taken for each other."""
    assert [prompt_text("h:1:", "/"), prompt_text("h:1:", "/a")] == ["h:1:/> ", "h:1:/a> "]
    assert [prompt_text("h:1:/top", "/"), prompt_text("h:1:/top", "/a")] == ["h:1:/top> ", "h:1:/top/a> "]


def test_passwords_are_not_kept_in_the_history(tmp_path: Path) -> None:
    """The file outlives the session, and is copied with the home directory."""
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    history = open_history(environment)
    for line in ("ls /", "addauth digest me:hush", "ls; addauth digest me:hush"):
        history.append_string(line)
    assert "ls /" in history_path(environment).read_text()
    assert "hush" not in history_path(environment).read_text()
    assert "addauth digest me:hush" in history.get_strings(), "but for as long as the shell runs"
