"""`python -m tests.core_simulation`: storms over the Raft core alone, many simulated hours of them.

python -m tests.core_simulation --seeds 1-1000 --jobs 2    a range, on two processes
python -m tests.core_simulation --seed 7 --trace           one seed, every event as it happens
python -m tests.core_simulation --seed 7 --faults crash,loss
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from tests.core_simulation.plan import Fault
from tests.core_simulation.run import Outcome, run_seed

TRACE_LINES_SHOWN = 60
CHUNK = 8


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when every promise was kept."""
    options = _parse(arguments)
    only = None if options.faults is None else frozenset(options.faults)
    seeds = range(options.seeds[0], options.seeds[1] + 1)
    score = Score()
    for outcome in _run_all(seeds, only, options.jobs, print if options.trace else None):
        score.add(outcome)
        if options.verbose or options.trace:
            print(describe(outcome), flush=True)
        if outcome.invariant:
            print(explain(outcome, only), flush=True)
            if options.until_failure:
                break
    print(score.describe())
    return 1 if score.failed else 0


class Score:
    """What a range of seeds came to."""

    def __init__(self) -> None:
        self.seeds = self.failed = self.elections = self.commits = self.grants = 0
        self.simulated = self.cpu = self.calm_longest = 0.0
        self.counts: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.failed += bool(outcome.invariant)
        self.elections += outcome.elections
        self.commits += outcome.commits
        self.grants += outcome.grants
        self.simulated += outcome.simulated_seconds
        self.cpu += outcome.cpu_seconds
        self.calm_longest = max(self.calm_longest, outcome.calm_seconds)
        self.counts += outcome.counts

    def describe(self) -> str:
        faults = {fault.value for fault in Fault}
        happened = [f"  {count:9} {what}" for what, count in sorted(self.counts.items())]
        return "\n".join(
            [
                f"{self.seeds} seeds, {self.failed} failed; {self.simulated / 3600:.2f} simulated hours in "
                f"{self.cpu:.0f} seconds of CPU: {self.simulated / max(self.cpu, 0.001):.0f} to one",
                f"{self.elections} leaders, {self.commits} entries committed, {self.grants} reads granted; "
                f"a healed quorum worked again within {self.calm_longest:.1f} seconds",
                *[line for line in happened if line[12:] in faults],
                *[line for line in happened if line[12:] not in faults],
            ]
        )


def describe(outcome: Outcome) -> str:
    """One line for one run."""
    return (
        f"seed {outcome.seed}: {outcome.invariant or 'ok'}; {outcome.plan.describe()}; {outcome.elections} leaders, "
        f"{outcome.commits} entries, {outcome.grants} reads, {outcome.simulated_seconds:.1f} s simulated in "
        f"{outcome.cpu_seconds:.2f} s, trace {outcome.fingerprint:08x}"
    )


def explain(outcome: Outcome, only: frozenset[Fault] | None = None) -> str:
    """What is needed to see a failure again, and the events that led to it: the seed is played once more."""
    narrowed = "" if only is None else " --faults " + ",".join(fault.name.lower() for fault in Fault if fault in only)
    lines: list[str] = []
    run_seed(outcome.seed, only, lines.append)
    return "\n".join(
        [
            *lines[-TRACE_LINES_SHOWN:],
            f"SIMFAIL {outcome.invariant} seed={outcome.seed} "
            f"replay: python -m tests.core_simulation --seed {outcome.seed}{narrowed}",
            outcome.detail,
        ]
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.core_simulation", description=__doc__.split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="run one seed")
    which.add_argument("--seeds", type=_range, metavar="A-B", help="run all seeds from A to B (default 1-100)")
    parser.add_argument("--jobs", type=int, default=1, help="processes to spread the seeds over")
    names = ", ".join(fault.name.lower() for fault in Fault)
    parser.add_argument("--faults", type=_faults, metavar="NAME,...", help=f"only these: {names}")
    parser.add_argument("--trace", action="store_true", help="print every event as it happens")
    parser.add_argument("--verbose", action="store_true", help="print a line for each seed")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    options = parser.parse_args(arguments)
    if options.trace and options.jobs > 1:
        parser.error("--trace needs --jobs 1")
    if options.seed is not None:
        options.seeds = (options.seed, options.seed)
    elif options.seeds is None:
        options.seeds = (1, 100)
    return options


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) <= int(last)):
        raise argparse.ArgumentTypeError(f"a range is A-B, not {text!r}")
    return int(first), int(last)


def _faults(text: str) -> list[Fault]:
    known = {fault.name.lower(): fault for fault in Fault}
    for name in text.split(","):
        if name not in known:
            raise argparse.ArgumentTypeError(f"no fault {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in text.split(",")]


def _run_all(
    seeds: range, only: frozenset[Fault] | None, jobs: int, echo: Callable[[str], None] | None
) -> Iterator[Outcome]:
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(seed, only, echo)
        return
    # Fresh processes: nothing of one run can reach another.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(run_seed, only=only), seeds, CHUNK)


if __name__ == "__main__":
    sys.exit(main())
