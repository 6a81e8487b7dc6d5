"""What the user of the shell types, as text: commands, words, quotes and paths.

Pure functions; knows nothing of a client or a terminal. Called by the shell's other modules.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

SEPARATOR = ";"
COMMENT = "#"


class LineError(ValueError):
    """A line that cannot be taken apart; the text says why."""


def split_line(line: str) -> list[list[str]]:
    """The commands of a line, each as its words. A `;` outside quotes ends a command; a line may be a comment."""
    if line.lstrip().startswith(COMMENT):
        return []
    try:
        commands = [shlex.split(part) for part in _parts(line)]
    except ValueError as error:
        raise LineError(f"{error}".lower()) from None
    return [words for words in commands if words]


def _parts(line: str) -> list[str]:
    """The text between separators. Not left to shlex: it does not tell `';'` from `;`."""
    parts = [""]
    for char, plain in _characters(line):
        if char == SEPARATOR and plain:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _characters(text: str) -> Iterator[tuple[str, bool]]:
    """Each character, and whether it stands plain: not quoted, not escaped, no quote itself."""
    quote = ""
    escaped = False
    for char in text:
        plain = False
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            plain = True
        yield char, plain


def resolve(current: str, path: str) -> str:
    """An absolute path from one that may be relative, with `.` and `..` and doubled or last slashes taken out."""
    names: list[str] = []
    for name in (path if path.startswith("/") else f"{current}/{path}").split("/"):
        if name == "..":
            names[-1:] = []
        elif name not in ("", "."):
            names.append(name)
    return "/" + "/".join(names)


def join(parent: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def parent_of(path: str) -> str:
    """The path above; the root is its own parent."""
    return path.rpartition("/")[0] or "/"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Where the cursor is, at the end of what was typed so far."""

    command: str | None
    """The command whose argument is being typed; None while the command itself is."""
    word: str
    """What there is of the word, without its quotes."""
    typed_length: int
    """Characters of the line that make up the word, quotes included: what a completion replaces."""


def unfinished(text: str) -> Unfinished:
    """The word at the end of `text`, which may be inside an open quote."""
    part = _parts(text)[-1]
    word_at = max((at + 1 for at, (char, plain) in enumerate(_characters(part)) if plain and char.isspace()), default=0)
    before, typed = part[:word_at], part[word_at:]
    words = before.split()
    return Unfinished(words[0] if words else None, _unquoted(typed), len(typed))


def _unquoted(typed: str) -> str:
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(typed + closing)
        except ValueError:
            continue
        return words[0] if words else ""
    return typed


def quoted(word: str) -> str:
    """The word as it must be typed."""
    return shlex.quote(word)
