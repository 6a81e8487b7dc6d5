"""`python -m tests.chaos`: real servers, real trouble, and proof that no promise was broken.

python -m tests.chaos --minutes 60                      the long run
python -m tests.chaos --seed 7 --servers 5 --seconds 90
python -m tests.chaos --nemesis kill,pause
python -m tests.chaos failover                          how long nobody can write when the leader is lost
python -m tests.chaos calm --minutes 10                 full load and no fault: there must be no election
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.calm import run_calm
from tests.chaos.failover import KINDS, measure_failover
from tests.chaos.failover import report as failover_report
from tests.chaos.mounts import own_mounts
from tests.chaos.nemeses import BY_NAME
from tests.chaos.run import Options, Summary, run

DEFAULT_FAULTS = {"kill": 50, "pause": 20, "partition": 20}


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when every promise was kept."""
    options = _parse(arguments)
    say = _sayer(options.json)
    if options.what == "failover":
        results = measure_failover([(kind, getattr(options, f"{kind}s")) for kind in KINDS], say)
        _show(options.json, [gaps.as_document() for gaps in results], failover_report(results))
        return 0
    if options.what == "calm":
        calm = run_calm(_seconds(options), say)
        _show(options.json, calm.as_document(), calm.report())
        return 1 if calm.elections else 0
    return _chaos(options, say)


def _chaos(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    directory = Path(tempfile.mkdtemp(prefix="jkcs-chaos-", dir=options.directory))
    say(f"seed {seed}, {options.servers} servers, in {directory}")
    what = Options(
        directory,
        seed,
        options.servers,
        _seconds(options),
        options.round_seconds,
        options.workers,
        tuple(options.nemesis),
        small_disks="full-disk" in options.nemesis and own_mounts(),
    )
    summary = run(what, say)
    if not summary.failure:
        shutil.rmtree(directory)
    _show(options.json, summary.as_document(), describe(summary))
    if summary.failure:
        narrowed = "" if len(options.nemesis) == len(BY_NAME) else f" --nemesis {','.join(options.nemesis)}"
        print(
            f"CHAOSFAIL seed={seed} again: python -m tests.chaos --seed {seed} --servers {options.servers}{narrowed}\n"
            f"data, logs and histories are in {directory}\n{summary.failure}",
            file=sys.stderr,
        )
    return 1 if summary.failure else 0


def describe(summary: Summary) -> str:
    """The summary for people."""
    found = summary.as_document()
    calls = found["operations"]
    struck = ", ".join(f"{name} {count}" for name, count in found["nemeses"].items())
    lines = [
        f"seed {summary.seed}: {'FAILED' if summary.failure else 'every promise was kept'}; {summary.servers} servers, "
        f"{summary.rounds} rounds in {summary.seconds:.0f} s",
        f"nemeses: {struck}",
        f"kills survived: {summary.kills}",
        f"operations: {calls['answered']} answered, {calls['ambiguous']} ambiguous, {calls['failed']} failed",
        f"{summary.grants} lock grants, {summary.ephemerals} ephemeral keys, {summary.events} watch events, "
        f"{summary.gaps} gaps told",
        *(f"a start refused: {words}" for words in summary.refusals),
        *(f"skipped {name}: {why}" for name, why in summary.skipped.items()),
    ]
    return "\n".join(lines)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("chaos", "failover", "calm"), default="chaos")
    parser.add_argument("--seed", type=int, help="decides what is done to whom; chosen and printed if left out")
    parser.add_argument("--servers", type=int, choices=(3, 5), default=3)
    parser.add_argument("--seconds", type=float, help="how long; every nemesis comes once in any case  [60]")
    parser.add_argument("--minutes", type=float, help="the same in minutes")
    parser.add_argument("--round-seconds", type=float, default=20.0, metavar="S", help="between two judgements  [20]")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="client processes  [2]")
    parser.add_argument(
        "--nemesis", type=_nemeses, default=list(BY_NAME), metavar="NAME,...", help=f"only these: {', '.join(BY_NAME)}"
    )
    parser.add_argument("--directory", type=Path, help="where to make the directory for data, logs and histories")
    parser.add_argument("--json", action="store_true", help="print one JSON document; the rest on standard error")
    for kind, count in DEFAULT_FAULTS.items():
        parser.add_argument(f"--{kind}s", type=int, default=count, metavar="N", help=f"failover: how many  [{count}]")
    return parser.parse_args(arguments)


def _nemeses(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in BY_NAME:
            raise argparse.ArgumentTypeError(f"no nemesis {name!r}; there are: {', '.join(BY_NAME)}")
    return names


def _seconds(options: argparse.Namespace) -> float:
    if options.minutes is not None:
        return float(options.minutes) * 60
    return 60.0 if options.seconds is None else float(options.seconds)


def _sayer(as_json: bool) -> Callable[[str], None]:
    out = sys.stderr if as_json else sys.stdout
    return lambda text: print(text, file=out, flush=True)


def _show(as_json: bool, document: Any, text: str) -> None:
    print(json.dumps(document, indent=2) if as_json else text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
