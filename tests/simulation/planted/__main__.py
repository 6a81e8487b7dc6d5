"""`python -m tests.simulation.planted`: plant each bug in a copy of the product and count the seeds to its capture.

    python -m tests.simulation.planted                       all bugs
    python -m tests.simulation.planted vote_not_persisted    one of them
    python -m tests.simulation.planted --seeds 1-500 --jobs 2

The product itself is never touched. Exit code 1 when a bug survives all seeds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.simulation.planted.patches import Patch, all_patches

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("journal", "jkcs_client", "jkcs_server", "recipes", "tests/simulation", "tests/support")
SEEDS = "1-200"
_FAILED = re.compile(r"^SIMFAIL (\S+) seed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Score:
    """What became of one planted bug."""

    patch: Patch
    invariant: str
    """What the simulator reported; "" when the bug survived."""
    seeds: int
    """Seeds run until then."""
    output: str

    @property
    def caught(self) -> bool:
        return bool(self.invariant)

    @property
    def as_expected(self) -> bool:
        """Whether the checker that reported it is one of those that should."""
        return self.invariant in self.patch.caught_by


def main(arguments: list[str] | None = None) -> int:
    """Print the table; the exit code is 0 when every bug was caught."""
    options = _parse(arguments)
    patches = [patch for patch in all_patches() if not options.names or patch.name in options.names]
    unknown = sorted(set(options.names) - {patch.name for patch in patches})
    if unknown:
        print(f"no such bug: {', '.join(unknown)}")
        return 2
    print(f"{'bug':<34} {'item':<8} {'should be caught by':<22} {'caught by':<16} seeds")
    survivors = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for score in pool.map(partial(hunt, seeds=options.seeds), patches):
            survivors += not score.caught
            mark = "" if score.as_expected else "  (another checker was faster)" if score.caught else "  SURVIVED"
            patch = score.patch
            print(
                f"{patch.name:<34} {patch.item:<8} {', '.join(patch.caught_by):<22} "
                f"{score.invariant or '-':<16} {score.seeds}{mark}",
                flush=True,
            )
            if options.verbose:
                print(score.output)
    print(f"{len(patches) - survivors} of {len(patches)} caught")
    return 1 if survivors else 0


def hunt(patch: Patch, *, seeds: str = SEEDS) -> Score:
    """Plant a bug in a copy of the product and run seeds on it until one fails."""
    with tempfile.TemporaryDirectory(prefix="jkcs-planted-") as folder:
        copy = Path(folder)
        copy_product(copy)
        patch.apply(copy)
        # Run in the copy, whose packages then come before the installed ones.
        command = [sys.executable, "-m", "tests.simulation", "--seeds", seeds, "--until-failure"]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = _FAILED.search(done.stdout)
    first = int(seeds.partition("-")[0])
    if failed is not None:
        return Score(patch, failed[1], int(failed[2]) - first + 1, done.stdout)
    if done.returncode:
        raise RuntimeError(f"{patch.name}: the simulator itself failed\n{done.stdout}\n{done.stderr}")
    return Score(patch, "", int(seeds.partition("-")[2]) - first + 1, done.stdout)


def copy_product(to: Path) -> None:
    """Copy what a run needs."""
    for name in COPIED:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "tests" / "__init__.py").touch()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="only these bugs")
    parser.add_argument("--seeds", default=SEEDS, metavar="A-B", help="at most these, in order")
    parser.add_argument("--jobs", type=int, default=1, help="bugs hunted at the same time")
    parser.add_argument("--verbose", action="store_true", help="print the failing run of each")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
