"""The planted bugs: every patch still applies to the product as it is, and the applier is strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.planted.__main__ import ROOT, hunt
from tests.simulation.planted.patches import Patch, PatchFailed, all_patches, read

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
    """Votes, log, disk, reads, sessions, watches, snapshots and locks each have some."""
    items = {item.strip() for patch in PATCHES for item in patch.item.split(",")}
    assert len(PATCHES) >= 10
    assert items >= {"1", "13", "14", "19", "25", "34", "49", "52", "56", "59", "62", "R2", "R7"}


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
