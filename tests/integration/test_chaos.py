"""One minute of the chaos run, and proof that it would have noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import run as chaos
from tests.chaos.checks import Key
from tests.chaos.nemeses import BY_NAME

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 420
"""On a machine where everything takes seven times as long as it should."""
KILLS_MIN = 5
"""One by `kill`, three by `kill-all`, and one before the log is damaged."""


@pytest.mark.slow
def test_a_minute_of_trouble_breaks_no_promise(tmp_path: Path) -> None:
    """Real processes, files and sockets: every nemesis that is possible here, with clients at work all the time."""
    command = [sys.executable, "-m", "tests.chaos", "--json", "--seed", "11", "--seconds", "40"]
    command += ["--directory", str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_MAX)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(done.stdout)
    assert found["failure"] == ""
    assert set(found["nemeses"]) | set(found["skipped"]) == set(BY_NAME)
    assert set(found["skipped"]) <= {"full-disk"}
    assert found["kills_survived"] >= KILLS_MIN
    assert found["operations"]["answered"] > 500
    assert found["lock_grants"] and found["ephemerals"] and found["watch_events"]
    assert list(tmp_path.iterdir()) == [], "a good run leaves nothing behind"


@pytest.mark.slow
def test_a_lost_write_fails_the_run_and_everything_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are made to look as if all of them had forgotten one acknowledged write."""
    read_tree = chaos._read_tree
    forgotten: list[str] = []

    async def forgetful(url: str, top: str) -> dict[str, Key]:
        tree = await read_tree(url, top)
        if not forgotten:
            forgotten.append(min(path for path in tree if path.startswith("/set/")))
        del tree[forgotten[0]]
        return tree

    monkeypatch.setattr(chaos, "_read_tree", forgetful)
    options = chaos.Options(tmp_path, seed=3, seconds=0, round_seconds=1, workers=1, nemeses=("torn-frame",))
    summary = chaos.run(options, lambda text: None)
    assert summary.failure.startswith("SET: 1 acknowledged writes are lost: " + forgotten[0].removeprefix("/set/"))
    names = {path.name for path in tmp_path.iterdir()}
    assert {"n1", "n2", "n3", "n1.log", "n2.log", "n3.log", "chaos-00001-w0.jsonl"} <= names
