"""Reads the patches of this folder and applies them. A unified diff is enough of a format for one bug.

A hunk finds its place by its lines, not by its line numbers, so it still applies when the file around it
has moved; its lines must stand there exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


class PatchFailed(Exception):
    """A patch is malformed, or the product has changed where it would apply."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """One change of one file: `before` becomes `after`."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Patch:
    """One planted bug."""

    name: str
    item: str
    """Its number in the reliability checklist."""
    breaks: str
    caught_by: tuple[str, ...]
    """The invariants one of which must be reported."""
    hunks: tuple[Hunk, ...]

    def apply(self, root: Path) -> None:
        """Change the files under `root`. Raises PatchFailed, naming the hunk that has no place."""
        for hunk in self.hunks:
            path = root / hunk.file
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            found = text.count(hunk.before)
            if found != 1:
                raise PatchFailed(f"{self.name}: the lines to change stand {found} times in {hunk.file}:\n{hunk.before}")
            path.write_text(text.replace(hunk.before, hunk.after), encoding="utf-8")


def all_patches() -> list[Patch]:
    """Every planted bug, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*.patch"))]


def read(path: Path) -> Patch:
    """Read one patch. Raises PatchFailed."""
    head, blank, body = path.read_text(encoding="utf-8").partition("\n\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    missing = {"item", "breaks", "caught by"} - set(fields)
    if missing or not blank:
        raise PatchFailed(f"{path.name}: its head lacks {', '.join(sorted(missing)) or 'an end'}")
    caught_by = tuple(name.strip() for name in fields["caught by"].split(","))
    return Patch(path.stem, fields["item"], fields["breaks"], caught_by, tuple(_hunks(path.name, body)))


def _hunks(name: str, body: str) -> list[Hunk]:
    hunks: list[Hunk] = []
    file = ""
    before: list[str] = []
    after: list[str] = []

    def finish() -> None:
        if before or after:
            hunks.append(Hunk(file, "".join(before), "".join(after)))
            before.clear()
            after.clear()

    for line in body.splitlines(keepends=True):
        if line.startswith("--- "):
            finish()
        elif line.startswith("+++ "):
            file = line[4:].strip().removeprefix("b/")
        elif line.startswith("@@"):
            finish()
        elif line[:1] in (" ", "-", "+") or line == "\n":
            if line[:1] != "+":
                before.append(line[1:] or "\n")
            if line[:1] != "-":
                after.append(line[1:] or "\n")
        else:
            raise PatchFailed(f"{name}: not a line of a unified diff: {line!r}")
    finish()
    if not hunks or not file:
        raise PatchFailed(f"{name}: no change in it")
    return hunks
