"""Ask a real ZooKeeper and a JKCS node the same, at random, and compare all that can be seen.

    python -m tests.zookeeper.differential --operations 10000 --seed 1

Replies, errors, stats, children and events are compared, events in their order among the replies of their
session; zxids by their order; times are not. Malformed requests (`frames.py`) come first, one by one. Ends with 0
when there was no difference but the deliberate ones (`deliberate.py`). A difference is shrunk to few steps and
printed, and more are looked for until `--differences` are found. `--against zookeeper` compares a real ZooKeeper
with another one: that is how the judge is judged.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.zookeeper.draw import draw_step
from tests.zookeeper.frames import CASES, differences
from tests.zookeeper.operations import Operation
from tests.zookeeper.pair import FAILED, Difference, Run, Step
from tests.zookeeper.servers import OURS, REAL, Jkcs, RealZooKeeper, Servers, real_zookeeper_missing

STEPS = 50
"""Of one run. Longer ones find more, and are slower to shrink."""
SHRINK_SECONDS = 60.0

Address = tuple[str, int]


class Judge:
    """Two servers, and runs of steps at them, each below a root of its own."""

    def __init__(self, real: Address, ours: Address, label: str = "r") -> None:
        self._addresses = real, ours
        self._roots = (f"/{label}{number}" for number in itertools.count())

    def new_run(self) -> Run:
        return Run(*self._addresses, next(self._roots))

    def first_difference(self, steps: Sequence[Step]) -> Difference | None:
        run = self.new_run()
        try:
            found = run.begin()
            for step in steps if found is None else ():
                if (found := run.take(step)) or run.parted:
                    break
            return found
        finally:
            run.end()

    def shrunk(self, steps: list[Step], found: Difference) -> tuple[list[Step], Difference]:
        """Steps without those that are not needed for a difference, and the difference they show."""
        if found.where == FAILED and self.first_difference([]) is not None:
            return steps, found  # the server is gone, whatever is asked of it
        deadline = time.monotonic() + SHRINK_SECONDS
        steps = steps[: next((n for n, step in enumerate(steps) if step is found.step), len(steps)) + 1]
        progress = True
        while progress:
            progress = False
            for smaller in itertools.chain(_without_steps(steps), _without_operations(steps)):
                if time.monotonic() > deadline:
                    return steps, found
                difference = self.first_difference(smaller)
                if difference is not None and _alike(difference, found):
                    steps, found, progress = smaller, difference, True
                    break
        return steps, found


def _alike(one: Difference, two: Difference) -> bool:
    """Whether fewer steps still show the same, and not something else that is wrong too."""
    return _kind(one) == _kind(two)


def _kind(difference: Difference) -> tuple[str, object, object]:
    """Where it shows, and the error codes if it is about those."""
    real, ours = difference.real, difference.ours
    return difference.where.rsplit(" > ", 1)[-1], getattr(real, "error", None), getattr(ours, "error", None)


def _without_steps(steps: list[Step]) -> Iterator[list[Step]]:
    size = len(steps) // 2
    while size:
        for at in range(0, len(steps), size):
            yield steps[:at] + steps[at + size :]
        size //= 2


def _without_operations(steps: list[Step]) -> Iterator[list[Step]]:
    for at, step in enumerate(steps):
        for place in range(len(step.operations)) if len(step.operations) > 1 else ():
            fewer = replace(step, operations=step.operations[:place] + step.operations[place + 1 :])
            yield [*steps[:at], fewer, *steps[at + 1 :]]
        for place, operation in enumerate(step.operations):
            for simpler in _simpler(operation):
                changed = (*step.operations[:place], simpler, *step.operations[place + 1 :])
                yield [*steps[:at], replace(step, operations=changed), *steps[at + 1 :]]


def _simpler(operation: Operation) -> Iterator[Operation]:
    for place in range(len(operation.parts)):
        yield replace(operation, parts=operation.parts[:place] + operation.parts[place + 1 :])
    for which, paths in enumerate(operation.paths):
        for place in range(len(paths)):
            fewer = (*operation.paths[:which], paths[:place] + paths[place + 1 :], *operation.paths[which + 1 :])
            yield replace(operation, paths=fewer)


def judge(
    real: Address, ours: Address, operations: int, seed: int, differences: int, say: Callable[[str], None]
) -> list[tuple[list[Step], Difference]]:
    """Run until so many operations were compared or so many differences were found; those, shrunk."""
    random = Random(seed)
    court = Judge(real, ours)
    found: list[tuple[list[Step], Difference]] = []
    seen: set[str] = set()
    done = 0
    told = time.monotonic()
    while done < operations and len(found) < differences:
        steps = [draw_step(random) for _ in range(STEPS)]
        difference = court.first_difference(steps)
        done += sum(len(step.operations) or 1 for step in steps)
        if difference is not None:
            few, difference = court.shrunk(steps, difference)
            signature = _signature(difference)
            if signature not in seen:
                seen.add(signature)
                found.append((few, difference))
                say(f"difference {len(found)}, after {done} operations:")
                say("\n".join(f"  {step}" for step in few))
                say(f"{difference}\n")
            if difference.where == FAILED and court.first_difference([]) is not None:
                say("the server is gone")
                break
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"{done} operations, {len(found)} differences")
    say(f"{done} operations compared, seed {seed}: {len(found)} differences")
    return found


def _signature(difference: Difference) -> str:
    """Two differences that look alike are told once."""
    kinds = ",".join(operation.kind for operation in difference.step.operations) or difference.step.connect
    return f"{kinds} {difference.where} {difference.real!r:.60} {difference.ours!r:.60}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=10_000, help="how many to compare at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--differences", type=int, default=1, help="stop after so many")
    parser.add_argument("--against", choices=(OURS, REAL), default=OURS, help="who is compared with ZooKeeper")
    options = parser.parse_args(arguments)
    if missing := real_zookeeper_missing():
        print(f"skipped: {missing}")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        other: Servers = Jkcs(home / "other") if options.against == OURS else RealZooKeeper(home / "other")
        with RealZooKeeper(home / "real") as real, other as ours:
            frames = differences(real.addresses[0], ours.addresses[0])
            print(
                "\n".join([*frames, f"{len(CASES)} malformed exchanges compared: {len(frames)} differences"]),
                flush=True,
            )
            found = judge(
                real.addresses[0],
                ours.addresses[0],
                options.operations,
                options.seed,
                options.differences,
                lambda line: print(line, flush=True),
            )
            if isinstance(ours, Jkcs) and any(difference.where == FAILED for _, difference in found):
                print(ours.last_words())
    return 1 if found or frames else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
