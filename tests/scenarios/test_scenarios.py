"""Each story in `raft/` shows today what it showed when it was reviewed; see `runner.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.runner import run, stories


@pytest.mark.parametrize("path", stories(), ids=lambda path: path.stem)
def test_the_story_is_as_it_was_told(path: Path) -> None:
    """Every message, write and commit of a story is compared, so that no change of behaviour goes unseen."""
    told = path.read_text(encoding="utf-8")
    shown = run(told)
    if os.environ.get("JKCS_REWRITE"):
        path.write_text(shown, encoding="utf-8")
    else:
        assert shown == told


def test_there_are_stories() -> None:
    """A moved folder or an emptied file must not leave a test that compares nothing."""
    assert len(stories()) >= 40
    assert all("----" in path.read_text(encoding="utf-8") for path in stories())


def test_a_change_of_behaviour_is_seen() -> None:
    """The runner compares what happened, not only that it ended well."""
    story = "cluster 1\n----\nok\n\ncampaign n1\n----\nsomething else\n"
    assert run(story) != story
    assert run(run(story)) == run(story)
