"""Lines of the shell, taken apart."""

from __future__ import annotations

import pytest

from jkcs_server.cli.shell_lines import LineError, join, parent_of, resolve, split_line, unfinished


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("", []),
        ("   ", []),
        ("# a comment; really", []),
        ("ls /a", [["ls", "/a"]]),
        ("ls;pwd ; ;cd /a;", [["ls"], ["pwd"], ["cd", "/a"]]),
        ("set /a 'x; y'", [["set", "/a", "x; y"]]),
        ("set /a ';'", [["set", "/a", ";"]]),
        (r"set /a \;", [["set", "/a", ";"]]),
        (r"""set /a "a\";b" """, [["set", "/a", 'a";b']]),
        (r"set /a 'a\'; pwd", [["set", "/a", "a\\"], ["pwd"]]),
        ("set /a ''", [["set", "/a", ""]]),
        ("set /a b#c", [["set", "/a", "b#c"]]),
    ],
)
def test_line_is_split_into_commands_and_words(line: str, commands: list[list[str]]) -> None:
    """A value may hold anything when it is quoted, the separator too."""
    assert split_line(line) == commands


def test_open_quote_is_an_error() -> None:
    """Guessing where a value ends would write a wrong one."""
    with pytest.raises(LineError, match="no closing quotation"):
        split_line("set /a 'x")


@pytest.mark.parametrize(
    ("current", "path", "resolved"),
    [
        ("/", "", "/"),
        ("/a", "", "/a"),
        ("/a", "b", "/a/b"),
        ("/a", "/b", "/b"),
        ("/a/b", "..", "/a"),
        ("/a/b", "../../..", "/"),
        ("/a", "./b//c/", "/a/b/c"),
        ("/", "a/./b/../c", "/a/c"),
    ],
)
def test_path_is_resolved(current: str, path: str, resolved: str) -> None:
    """As in a file system, because that is what fingers know."""
    assert resolve(current, path) == resolved


def test_join_and_parent_are_inverse() -> None:
    """The root has no name of its own to join with."""
    assert [join("/", "a"), join("/a", "b")] == ["/a", "/a/b"]
    assert [parent_of("/a/b"), parent_of("/a"), parent_of("/")] == ["/a", "/", "/"]


@pytest.mark.parametrize(
    ("text", "command", "word", "typed_length"),
    [
        ("", None, "", 0),
        ("l", None, "l", 1),
        ("ls ", "ls", "", 0),
        ("ls /a/b", "ls", "/a/b", 4),
        ("pwd; get /a", "get", "/a", 2),
        ("get '/a b", "get", "/a b", 5),
        ("get '/a;b", "get", "/a;b", 5),
        (r"get /a\ b", "get", "/a b", 5),
        ("set /a '", "set", "", 1),
        ("get -", "get", "-", 1),
    ],
)
def test_word_under_the_cursor(text: str, command: str | None, word: str, typed_length: int) -> None:
    """A completion replaces exactly what was typed of the word, quotes included."""
    found = unfinished(text)
    assert (found.command, found.word, found.typed_length) == (command, word, typed_length)
