"""`python -m tests.simulation`: run seeds, say what came of each, and how to play a failure again.

python -m tests.simulation --seed 7 --trace        one seed, every event as it happens
python -m tests.simulation --seeds 1-200 --jobs 2  a range, on two processes
python -m tests.simulation --seed 7 --faults crash,power
python -m tests.simulation --planted               the score against the planted bugs
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tests.simulation.plan import ALL_FAULTS, Narrowing
from tests.simulation.run import Outcome, run_seed

TRACE_LINES_SHOWN = 40


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when every promise was kept."""
    options = _parse(arguments)
    if options.planted:
        from tests.simulation.planted.__main__ import main as score

        return score([])
    seeds = _seeds(options)
    faults = None if options.faults is None else frozenset(options.faults)
    failed = 0
    simulated = cpu = 0.0
    for outcome in _run_all(seeds, faults, options.jobs, print if options.trace else None):
        print(describe(outcome), flush=True)
        simulated += outcome.simulated_seconds
        cpu += outcome.cpu_seconds
        if outcome.invariant:
            failed += 1
            print(explain(outcome, faults), flush=True)
            if options.until_failure:
                break
    print(
        f"{len(seeds)} seeds, {failed} failed; {simulated:.0f} simulated seconds in {cpu:.0f} seconds of CPU: "
        f"{simulated / max(cpu, 0.001):.0f} to one"
    )
    return 1 if failed else 0


def describe(outcome: Outcome) -> str:
    """One line for one run."""
    return (
        f"seed {outcome.seed}: {outcome.invariant or 'ok'}; {outcome.plan.describe()}; {outcome.calls} calls, "
        f"{outcome.commits} commits, {outcome.grants} grants, {outcome.simulated_seconds:.1f} s simulated in "
        f"{outcome.cpu_seconds:.2f} s, trace {outcome.fingerprint:08x}"
    )


def explain(outcome: Outcome, faults: frozenset[str] | None = None) -> str:
    """What is needed to understand a failure and to see it again."""
    narrowed = "" if faults is None else f" --faults {','.join(sorted(faults))}"
    return "\n".join(
        [
            f"SIMFAIL {outcome.invariant} seed={outcome.seed} "
            f"replay: python -m tests.simulation --seed {outcome.seed}{narrowed}",
            *outcome.lines[-TRACE_LINES_SHOWN:],
            outcome.detail,
        ]
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, help="run one seed")
    parser.add_argument("--seeds", metavar="A-B", help="run all seeds from A to B")
    parser.add_argument("--jobs", type=int, default=1, help="processes to spread the seeds over")
    parser.add_argument("--faults", type=_fault_names, metavar="NAME,...", help=f"only these: {', '.join(ALL_FAULTS)}")
    parser.add_argument("--trace", action="store_true", help="print every event as it happens")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--planted", action="store_true", help="the score against the planted bugs")
    options = parser.parse_args(arguments)
    if options.trace and options.jobs > 1:
        parser.error("--trace needs --jobs 1")
    if options.seeds is not None:
        first, dash, last = options.seeds.partition("-")
        if not (dash and first.isdigit() and last.isdigit() and int(first) <= int(last)):
            parser.error(f"--seeds is A-B, not {options.seeds!r}")
    return options


def _fault_names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in ALL_FAULTS:
            raise argparse.ArgumentTypeError(f"no fault {name!r}; there are: {', '.join(ALL_FAULTS)}")
    return names


def _seeds(options: argparse.Namespace) -> list[int]:
    if options.seeds is not None:
        first, _, last = options.seeds.partition("-")
        return list(range(int(first), int(last) + 1))
    return [1 if options.seed is None else options.seed]


def _run_all(
    seeds: Iterable[int], faults: frozenset[str] | None, jobs: int, echo: Callable[[str], None] | None
) -> Iterator[Outcome]:
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(seed, Narrowing(faults), echo=echo)
        return
    # Fresh processes: nothing of one run can reach another.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(partial(run_seed, narrowing=Narrowing(faults)), seeds)


if __name__ == "__main__":
    sys.exit(main())
