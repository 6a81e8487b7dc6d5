"""`python -m tests.simulation.planted`: plant each bug in a copy of the product and count the seeds to its capture.

    python -m tests.simulation.planted                       all bugs
    python -m tests.simulation.planted vote_not_persisted    one of them
    python -m tests.simulation.planted --seeds 1-500 --jobs 2

The product itself is never touched. Exit code 1 when a bug survives all seeds, or cannot be hunted at all.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from tests.simulation.planted.patches import Patch, PatchFailed, all_patches

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("journal", "jkcs_client", "jkcs_server", "recipes", "tests/simulation", "tests/support")
SEEDS = "1-2000"
COLUMNS = "{:<42} {:<8} {:<28} {:<16} {:>5} {:>7}{}"
_FAILED = re.compile(r"^SIMFAIL (\S+) seed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Score:
    """What became of one planted bug."""

    patch: Patch
    invariant: str
    """What the simulator reported; "" when the bug survived."""
    seeds: int
    """Seeds run until then."""
    seconds: float
    """On the clock of the wall, with whatever else ran beside it."""
    output: str
    broken: str = ""
    """Why the bug could not be hunted; "" when it was."""

    @property
    def caught(self) -> bool:
        return bool(self.invariant)

    @property
    def as_expected(self) -> bool:
        """Whether the checker that reported it is one of those that should."""
        return self.invariant in self.patch.caught_by

    def row(self) -> str:
        """One line of the table."""
        if self.broken:
            mark = f"  BROKEN: {self.broken}"
        elif not self.caught:
            mark = "  SURVIVED"
        else:
            mark = "" if self.as_expected else "  (another checker was faster)"
        patch = self.patch
        return COLUMNS.format(
            patch.name,
            patch.item,
            ", ".join(patch.caught_by),
            self.invariant or "-",
            self.seeds,
            f"{self.seconds:.1f}",
            mark,
        ).rstrip()


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit code is 0 when every bug was caught."""
    options = _parse(arguments)
    patches = [patch for patch in all_patches() if not options.names or patch.name in options.names]
    unknown = sorted(set(options.names) - {patch.name for patch in patches})
    if unknown:
        print(f"no such bug: {', '.join(unknown)}")
        return 2
    print(COLUMNS.format("bug", "item", "should be caught by", "caught by", "seeds", "seconds", ""))
    scores: list[Score] = []
    # A hunt is a process of its own, on a copy of its own; the threads only wait for them.
    with ThreadPoolExecutor(options.jobs) as pool:
        for score in pool.map(partial(hunt, seeds=options.seeds, roles=options.roles), patches):
            scores.append(score)
            print(score.row(), flush=True)
            if options.verbose:
                print(score.output)
    print(summary(scores))
    return 0 if all(score.caught for score in scores) else 1


def summary(scores: Iterable[Score]) -> str:
    """The last line: how many were caught, and how soon."""
    scores = list(scores)
    seeds = [score.seeds for score in scores if score.caught]
    text = f"{len(seeds)} of {len(scores)} caught"
    if not seeds:
        return text
    expected = sum(score.as_expected for score in scores)
    return f"{text}, {expected} by the checker expected; seeds to capture: median {median(seeds):g}, most {max(seeds)}"


def hunt(patch: Patch, *, seeds: str = SEEDS, roles: str = "") -> Score:
    """Plant a bug in a copy of the product and run seeds on it until one fails."""
    began = time.monotonic()
    first, _, last = seeds.partition("-")
    with tempfile.TemporaryDirectory(prefix="jkcs-planted-") as folder:
        copy = Path(folder)
        copy_product(copy)
        try:
            patch.apply(copy)
        except PatchFailed as error:
            return Score(patch, "", 0, time.monotonic() - began, str(error), "the patch does not apply")
        # Run in the copy, whose packages then come before the installed ones.
        command = [sys.executable, "-m", "tests.simulation", "--seeds", seeds, "--until-failure"]
        if roles:
            command += ["--roles", roles]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    failed = _FAILED.search(done.stdout)
    if failed is not None:
        return Score(patch, failed[1], int(failed[2]) - int(first) + 1, seconds, done.stdout)
    if done.returncode:
        output = f"{done.stdout}\n{done.stderr}"
        return Score(patch, "", 0, seconds, output, "the simulator itself failed")
    return Score(patch, "", int(last) - int(first) + 1, seconds, done.stdout)


def copy_product(to: Path) -> None:
    """Copy what a run needs."""
    for name in COPIED:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "tests" / "__init__.py").touch()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="only these bugs")
    parser.add_argument("--seeds", default=SEEDS, metavar="A-B", help="at most these, in order")
    parser.add_argument("--roles", default="", metavar="NAME,...", help="clients, one for each role, where few do it")
    parser.add_argument("--jobs", type=int, default=1, help="bugs hunted at the same time")
    parser.add_argument("--verbose", action="store_true", help="print the failing run of each")
    options = parser.parse_args(arguments)
    first, dash, last = options.seeds.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) <= int(last)):
        parser.error(f"--seeds is A-B, not {options.seeds!r}")
    return options


if __name__ == "__main__":
    sys.exit(main())
