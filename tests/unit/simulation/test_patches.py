"""The planted bugs: every patch still applies to the product as it is, and the applier is strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.planted import __main__ as planted
from tests.simulation.planted.__main__ import ROOT, Score, hunt, summary
from tests.simulation.planted.patches import Hunk, Patch, PatchFailed, all_patches, read

PATCHES = all_patches()


@pytest.mark.parametrize("patch", PATCHES, ids=[patch.name for patch in PATCHES])
def test_patch_applies_and_is_still_python(patch: Patch, tmp_path: Path) -> None:
    """A patch that no longer applies would leave a bug class without its proof."""
    for hunk in patch.hunks:
        (tmp_path / hunk.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / hunk.file).write_text((ROOT / hunk.file).read_text())
    patch.apply(tmp_path)
    for hunk in patch.hunks:
        changed = (tmp_path / hunk.file).read_text()
        assert changed != (ROOT / hunk.file).read_text()
        compile(changed, hunk.file, "exec")


def test_there_are_bugs_of_every_kind() -> None:
    """Votes, log, disk, reads, sessions, watches, snapshots and locks each have some; and every name that a patch
    expects is one that something reports."""
    items = {item.strip() for patch in PATCHES for item in patch.item.split(",")}
    assert len(PATCHES) >= 60
    assert items >= {"1", "2", "3", "5", "7", "10", "13", "14", "15", "16", "18", "19", "21", "22", "23", "25"}
    assert items >= {"29", "30", "34", "36", "45", "48", "49", "51", "52", "53", "54", "56", "57", "58", "59", "60"}
    assert items >= {"62", "R2", "R3", "R7", "R8"}
    reported = "\n".join(path.read_text() for path in (ROOT / "tests/simulation").rglob("*.py"))
    for name in {name for patch in PATCHES for name in patch.caught_by}:
        assert f'"{name}"' in reported or name in OTHER_ENDS, name


OTHER_ENDS = {"AssertionError", "CorruptRecord", "ExceptionGroup"}
"""What the product itself raises where its own asserts and checksums are faster than any checker."""


def score(name: str, invariant: str, *, seeds: int = 7, broken: str = "") -> Score:
    patch = Patch(name, "1", "x", ("I1", "I2"), ())
    return Score(patch, invariant, seeds, 1.25, "output", broken)


def test_a_row_says_who_caught_it_and_who_should_have() -> None:
    """A survivor must not look like the others."""
    assert score("bug", "I2").row().split() == ["bug", "1", "I1,", "I2", "I2", "7", "1.2"]
    assert score("bug", "I5").row().endswith("(another checker was faster)")
    assert score("bug", "").row().endswith("SURVIVED")
    assert score("bug", "", broken="no place").row().endswith("BROKEN: no place")
    line = summary([score("a", "I1", seeds=1), score("b", "I5", seeds=9), score("c", "", seeds=50)])
    assert line == "2 of 3 caught, 1 by the checker expected; seeds to capture: median 5, most 9"


@pytest.mark.parametrize(("invariant", "broken", "code"), [("I1", "", 0), ("", "", 1), ("", "no place", 1)])
def test_the_command_fails_when_a_bug_survives(
    invariant: str, broken: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that it can stand guard."""
    monkeypatch.setattr(planted, "hunt", lambda patch, *, seeds, roles: score(patch.name, invariant, broken=broken))
    assert planted.main(["vote_not_persisted", "--seeds", "1-3"]) == code
    assert "vote_not_persisted" in capsys.readouterr().out
    assert planted.main(["no_such_bug"]) == 2


def test_a_patch_without_a_place_is_a_broken_hunt() -> None:
    """And does not stop the hunts of the others."""
    lost = Patch("lost", "1", "x", ("I1",), (Hunk("journal/record.py", "not there\n", "\n"),))
    found = hunt(lost, seeds="1-1")
    assert not found.caught and found.broken and "0 times" in found.output


def test_a_planted_bug_is_caught() -> None:
    """The whole way once: copy, patch, run, report. The others are the business of the command."""
    patch = next(patch for patch in PATCHES if patch.name == "ack_before_sync")
    score = hunt(patch, seeds="4-6")
    assert score.caught and score.as_expected, score.output


def test_patch_that_has_no_place_is_refused(tmp_path: Path) -> None:
    """Silence would count as a bug that nobody caught."""
    (tmp_path / "bug.patch").write_text(
        "item: 1\nbreaks: x\ncaught by: I1, I2\n\n--- a/f.py\n+++ b/f.py\n@@ -1 +1 @@\n-old\n+new\n"
    )
    patch = read(tmp_path / "bug.patch")
    assert (patch.item, patch.breaks, patch.caught_by) == ("1", "x", ("I1", "I2"))
    (tmp_path / "f.py").write_text("old\nold\n")
    with pytest.raises(PatchFailed, match="2 times"):
        patch.apply(tmp_path)
    (tmp_path / "f.py").write_text("other\n")
    with pytest.raises(PatchFailed, match="0 times"):
        patch.apply(tmp_path)
    (tmp_path / "f.py").write_text("# head\nold\n")
    patch.apply(tmp_path)
    assert (tmp_path / "f.py").read_text() == "# head\nnew\n"


HEAD = "item: 1\nbreaks: x\ncaught by: I1\n\n"


@pytest.mark.parametrize(
    "text", ["item: 1\n\n--- a/f\n+++ b/f\n-x\n", HEAD, HEAD + "?"], ids=["head", "no change", "garbage"]
)
def test_malformed_patch_is_refused(text: str, tmp_path: Path) -> None:
    """With the name of its file."""
    (tmp_path / "bug.patch").write_text(text)
    with pytest.raises(PatchFailed, match=r"bug\.patch"):
        read(tmp_path / "bug.patch")
