"""`python -m tests.simulation`: run seeds, say what came of each, and how to play a failure again.

python -m tests.simulation --seed 7 --trace        one seed, every event as it happens
python -m tests.simulation --seeds 1-200 --jobs 2  a range, on two processes
python -m tests.simulation --seed 7 --shrink       the least of it that still fails
python -m tests.simulation --planted               the score against the planted bugs
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tests.simulation.plan import ALL_FAULTS, RARE_ROLES, ROLES, ZOOKEEPER_ROLES, Narrowing, numbers_in
from tests.simulation.report import Summary, describe, explain, replay
from tests.simulation.run import Outcome, run_seed
from tests.simulation.shrink import shrink

SEEDS_PER_PROCESS = 200
"""A worker process is replaced after so many: what Python keeps for itself must not add up."""


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when every promise was kept, and with `--require-all` nothing was left out."""
    options = _parse(arguments)
    if options.planted:
        from tests.simulation.planted.__main__ import main as score

        return score([])
    narrowing = _narrowing(options)
    summary = Summary()
    for outcome in _run_all(_seeds(options), narrowing, options):
        summary.add(outcome)
        if not options.json:
            print(describe(outcome), flush=True)
        if outcome.invariant:
            print(explain(outcome, narrowing), file=sys.stderr if options.json else sys.stdout, flush=True)
            if options.shrink:
                _shrink(outcome, narrowing)
            if options.until_failure:
                break
    return _conclude(summary, options)


def _conclude(summary: Summary, options: argparse.Namespace) -> int:
    missing = summary.missing() if options.require_all else []
    if options.json:
        print(summary.as_json())
    else:
        if summary.seeds > 1:
            print(summary.tables())
        print(summary.line())
    for complaint in missing:
        print(f"MISSING {complaint}", file=sys.stderr)
    return 1 if summary.failed or missing else 0


def _shrink(outcome: Outcome, narrowing: Narrowing) -> None:
    shrunk = shrink(outcome, narrowing, lambda line: print(line, flush=True))
    print(explain(shrunk.outcome, shrunk.narrowing))
    print(f"shrunk in {shrunk.runs} runs to: {replay(outcome.seed, shrunk.narrowing)}", flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, help="run one seed")
    parser.add_argument("--seeds", metavar="A-B", help="run all seeds from A to B")
    parser.add_argument("--jobs", type=int, default=1, help="processes to spread the seeds over")
    parser.add_argument("--trace", action="store_true", help="print every event as it happens")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--shrink", action="store_true", help="look for the least of a failing seed that still fails")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON, and nothing else")
    parser.add_argument(
        "--require-all", action="store_true", help="fail when a fault, crash point or rare state was never met"
    )
    parser.add_argument(
        "--check-linearizability", action="store_true", help="the full search in every seed, not in one of twenty"
    )
    parser.add_argument("--planted", action="store_true", help="the score against the planted bugs")
    less = parser.add_argument_group(
        "less of a seed", "What a shrunk failure leaves out. Everything else stays as it was."
    )
    less.add_argument(
        "--faults", type=_names(ALL_FAULTS), metavar="NAME,...", help=f"only these: {', '.join(ALL_FAULTS)}"
    )
    less.add_argument("--skip-events", type=_numbers, metavar="N,A-B,...", help="without these fault events")
    less.add_argument(
        "--roles",
        type=_names(ROLES + ZOOKEEPER_ROLES + RARE_ROLES),
        metavar="NAME,...",
        help="clients, one for each role named",
    )
    less.add_argument("--servers", type=int, choices=(1, 3, 5), help="so many servers")
    less.add_argument("--seconds", type=float, help="seconds of chaos")
    options = parser.parse_args(arguments)
    if options.trace and options.jobs > 1:
        parser.error("--trace needs --jobs 1")
    if options.seeds is not None:
        first, dash, last = options.seeds.partition("-")
        if not (dash and first.isdigit() and last.isdigit() and int(first) <= int(last)):
            parser.error(f"--seeds is A-B, not {options.seeds!r}")
    return options


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Names out of `known`, with commas; "none" for none of them."""

    def read(text: str) -> list[str]:
        names = [] if text == "none" else [name for name in text.split(",") if name]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {name!r}; there are: {', '.join(dict.fromkeys(known))}")
        return names

    return read


def _numbers(text: str) -> frozenset[int]:
    try:
        return numbers_in(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers and ranges like 1,4-9, not {text!r}") from None


def _narrowing(options: argparse.Namespace) -> Narrowing:
    return Narrowing(
        None if options.faults is None else frozenset(options.faults),
        options.skip_events or frozenset(),
        None if options.roles is None else tuple(options.roles),
        options.servers,
        options.seconds,
    )


def _seeds(options: argparse.Namespace) -> list[int]:
    if options.seeds is not None:
        first, _, last = options.seeds.partition("-")
        return list(range(int(first), int(last) + 1))
    return [1 if options.seed is None else options.seed]


def _run_all(seeds: Iterable[int], narrowing: Narrowing, options: argparse.Namespace) -> Iterator[Outcome]:
    search = True if options.check_linearizability else None
    if options.jobs <= 1:
        for seed in seeds:
            yield run_seed(seed, narrowing, search=search, echo=print if options.trace else None)
        return
    # Fresh processes: nothing of one run can reach another.
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=SEEDS_PER_PROCESS) as pool:
        yield from pool.imap(partial(run_seed, narrowing=narrowing, search=search), seeds)


if __name__ == "__main__":
    sys.exit(main())
