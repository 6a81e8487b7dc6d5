"""The README and the pages of docs/, taken apart: their fenced blocks, links and headings.

A fenced block is marked by its language. A ```python block is run by `test_snippets.py`, unless the line above the
fence is `<!-- not run: why -->`; it must then still be Python. In a ```console block the lines that begin with `$ `
are commands.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(
    r"^(?:[ ]*<!-- not run: (?P<why>.+?) -->\n)?(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int
    """Of its first line of text, from 1."""
    not_run: str | None
    """Why a Python block is not run; None when it is."""


@dataclass(frozen=True)
class Page:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def blocks(self) -> list[Block]:
        return [
            Block(
                match["language"],
                textwrap.dedent(match["text"]),
                self.text.count("\n", 0, match.start("text")) + 1,
                match["why"],
            )
            for match in _FENCE.finditer(self.text)
        ]

    @property
    def prose(self) -> str:
        """The text without its fenced blocks, in which brackets are not links."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """What GitHub makes of the headings."""
        return {anchor(heading) for heading in _HEADING.findall(self.prose)}

    @property
    def commands(self) -> list[str]:
        """The commands of the console blocks, continued lines joined."""
        return [
            line[2:].strip()
            for block in self.blocks
            if block.language == "console"
            for line in block.text.replace("\\\n", " ").splitlines()
            if line.startswith("$ ")
        ]


def anchor(heading: str) -> str:
    """A heading's anchor: lower case, spaces to hyphens, everything else but letters, digits, `-` and `_` gone."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def pages() -> list[Page]:
    """README, CHANGELOG and all of docs/, sorted."""
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths]
