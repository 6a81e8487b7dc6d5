"""Real clients, each used as its users use it, against JKCS or against the real ZooKeeper.

    python -m tests.zookeeper.clients                      all of them
    python -m tests.zookeeper.clients zkcli curator        those
    python -m tests.zookeeper.clients --judged zookeeper   are the judges right?

A client whose programs are not on this machine is skipped, with a line that says what would bring them. Ends
with 0 when none failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.zookeeper.clients import curator, nodejs, patroni, zkcli
from tests.zookeeper.clients.programs import Failed, Missing
from tests.zookeeper.servers import OURS, REAL, Jkcs, RealZooKeeper, Servers, real_zookeeper_missing

JUDGES = {"zkcli": zkcli, "nodejs": nodejs, "curator": curator, "patroni": patroni}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(JUDGES)}; all of them by default")
    parser.add_argument("--judged", choices=(OURS, REAL), default=OURS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.clients if name not in JUDGES]:
        parser.error(f"unknown: {', '.join(unknown)}")
    if options.judged == REAL and (missing := real_zookeeper_missing()):
        parser.error(missing)
    verdicts = [_verdict(name, options.judged) for name in options.clients or JUDGES]
    return 0 if all(verdicts) else 1


def _verdict(name: str, judged: str) -> bool:
    """Whether this client did not fail; told in one line."""
    judge, began = JUDGES[name], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jkcs-judge-") as path:
        directory = Path(path)
        servers: Servers = (
            Jkcs(directory / "servers", judge.SERVERS)
            if judged == OURS
            else RealZooKeeper(directory / "servers", judge.SERVERS, check_interval_ms=1_000)
        )
        try:
            with servers:
                checked = judge.judge(servers, directory)
        except Missing as missing:
            _tell(f"{name}: skipped: {missing}")
            return True
        except Exception as failure:  # one judge's trouble is no reason to leave the others unheard
            if not isinstance(failure, Failed):
                traceback.print_exc()
            _tell(f"{name}: FAILED after {time.monotonic() - began:.1f} s: {failure}")
            return False
    _tell(f"{name}: passed in {time.monotonic() - began:.1f} s: {checked}")
    return True


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
