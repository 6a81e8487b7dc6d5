"""The shell's prompt: line editor, history, completion of commands and of paths.

The only module that knows the line editor; imported when the shell runs on a terminal. Called by `shell.py`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path

import anyio
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from jkcs_client import Client
from jkcs_client.protocol.errors import JkcsError
from jkcs_server.cli.shell_commands import COMMANDS, WITHOUT_PATH, Shell
from jkcs_server.cli.shell_lines import quoted, resolve, unfinished

COMPLETION_TIMEOUT = 1.0
COMPLETIONS_MAX = 1000
UNKEPT = "addauth"
"""The command whose lines are not kept on file."""
HISTORY_FILE = Path("jkcs") / "shell_history"


class ShellCompleter(Completer):
    """Completes the command, then keys below the one being typed, as this server has them now."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Part of the editor's interface; ours need the server, so there is only the asynchronous kind."""
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        place = unfinished(document.text_before_cursor)
        if place.command is None:
            for name in COMMANDS:
                if name.startswith(place.word):
                    yield Completion(name + " ", -place.typed_length, display=name)
        elif place.command not in WITHOUT_PATH and not place.word.startswith("-"):
            for typed, name in await self._paths(place.word):
                yield Completion(quoted(typed), -place.typed_length, display=name)

    async def _paths(self, word: str) -> list[tuple[str, str]]:
        """What the word may become, each with the name to show; none when the server does not answer at once."""
        above, _, begun = word.rpartition("/")
        parent = resolve(self._shell.current, f"{above}/" if word.startswith("/") or above else "")
        names = await names_below(self._shell.client, parent)
        start = word[: len(word) - len(begun)]
        return [(start + name, name) for name in names if name.startswith(begun)][:COMPLETIONS_MAX]


async def names_below(client: Client, path: str) -> list[str]:
    """The names of a key's children, or none: a completion is never worth an error or a wait."""
    with anyio.move_on_after(COMPLETION_TIMEOUT):
        try:
            return list(await client.children(path, read="local"))
        except JkcsError:
            return []
    return []


class Prompt:
    """Asks the user for lines."""

    def __init__(self, shell: Shell, place: str, environment: Mapping[str, str] = os.environ) -> None:
        """`place` stands before the path in the prompt: which cluster, and below which key."""
        self._shell = shell
        self._place = place
        self._session: PromptSession[str] = PromptSession(
            history=open_history(environment), completer=ShellCompleter(shell), complete_while_typing=False
        )

    async def line(self) -> str:
        """The next line. Raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""
        # Signals are the shell's, see there; the editor would take its handler away afterwards.
        return await self._session.prompt_async(self._text, handle_sigint=False)

    def _text(self) -> str:
        return prompt_text(self._place, self._shell.current)


def prompt_text(place: str, current: str) -> str:
    """`host:/chroot/path> `, with one slash between the chroot and the path, and none after the chroot."""
    return f"{place}> " if current == "/" and not place.endswith(":") else f"{place}{current}> "


def history_path(environment: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification wants a program's history."""
    state = environment.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / HISTORY_FILE


def open_history(environment: Mapping[str, str]) -> History:
    """The history on file, readable by its owner only: values may be secrets. In memory where that cannot be."""
    path = history_path(environment)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return ShellHistory(str(path))


class ShellHistory(FileHistory):
    """The history on file, without lines that say a password."""

    def store_string(self, string: str) -> None:
        if UNKEPT not in string:
            super().store_string(string)
