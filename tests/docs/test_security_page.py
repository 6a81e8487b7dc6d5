"""The page on security names a test for each class of holes: they must be there, or the page promises nothing."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "explanation" / "security.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _classes() -> list[list[str]]:
    """The rows of the table of classes, as cells."""
    table = (
        PAGE.read_text(encoding="utf-8").partition("| Class | Here | Test |\n|---|---|---|\n")[2].partition("\n\n")[0]
    )
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_every_test_that_the_page_names_is_there() -> None:
    """Renamed, it would be a promise that nobody keeps."""
    missing = []
    named = _NAMED.findall(PAGE.read_text(encoding="utf-8"))
    assert len(named) > 50
    for path, name in named:
        file = ROOT / path
        if not file.is_file() or f"def {name}(" not in file.read_text(encoding="utf-8"):
            missing.append(f"{path}::{name}")
    assert not missing, missing


def test_every_class_names_a_test() -> None:
    rows = _classes()
    assert len(rows) > 30
    assert [row[0] for row in rows if len(row) != 3 or not _NAMED.search(row[2])] == []
