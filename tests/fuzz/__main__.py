"""`python -m tests.fuzz`: bytes that nobody would send, at what reads them.

python -m tests.fuzz --seconds 60 jute             for a minute; with atheris where it is installed
python -m tests.fuzz --input crash-1234 jute       one input again

Targets: greeting, image, jute, native, peers. With atheris (`pip install atheris`) inputs are led by what code they
reach; without it they are mutations of right ones, the same for the same --seed. The exit code is 0 when nothing was
found.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not at run time: atheris must be there before what it watches is imported.
    from tests.fuzz.targets import Subject

STATM = Path("/proc/self/statm")
MEMORY_BYTES_MAX = 1 << 30
"""What a target may take beyond what this process has when it begins."""
INPUT_BYTES_MAX = 4096
ROUND = 100
"""Inputs between two looks at the clock."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads bytes.")
    parser.add_argument("target", choices=("greeting", "image", "jute", "native", "peers"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--input", type=Path, help="run the target on this file alone")
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"), help="where inputs go that found something")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations, without atheris")
    parser.add_argument("--plain", action="store_true", help="without atheris, even where it is installed")
    options = parser.parse_args(arguments)
    if options.input is not None:
        from tests.fuzz.targets import SUBJECTS

        SUBJECTS[options.target].run(options.input.read_bytes())
        return 0
    options.finds.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is not None and not options.plain:
        return _with_atheris(options.target, options.seconds, options.finds)
    return _with_mutations(options.target, options.seconds, options.finds, options.seed)


@contextmanager
def _limited_memory() -> Iterator[None]:
    """An input that makes a target take more ends in a MemoryError, which is a find."""
    if not STATM.exists():
        yield
        return
    pages = int(STATM.read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES_MAX, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _with_atheris(name: str, seconds: int, finds: Path) -> int:
    """Ends the process: libFuzzer does, with 0 when nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["jkcs_client", "jkcs_server", "journal"]):
        from tests.fuzz.targets import SUBJECTS

    subject = SUBJECTS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(subject.seeds):
            Path(corpus, f"seed{number}").write_bytes(seed)
        settings = {
            "max_total_time": seconds,
            "max_len": INPUT_BYTES_MAX,
            "rss_limit_mb": (MEMORY_BYTES_MAX >> 20) + 512,
            "timeout": 10,
            "print_final_stats": 1,
            "artifact_prefix": f"{finds}/{name}-",
        }
        flags = [f"-{key}={value}" for key, value in settings.items()]
        atheris.Setup([sys.argv[0], *flags, corpus], subject.run)
        atheris.Fuzz()
    return 0


def _with_mutations(name: str, seconds: int, finds: Path, seed: int) -> int:
    from tests.fuzz.targets import SUBJECTS

    with _limited_memory():
        return _mutate(SUBJECTS[name], name, seconds, finds, seed)


def _mutate(subject: Subject, name: str, seconds: int, finds: Path, seed: int) -> int:
    from tests.fuzz.mutations import mutated

    chance = random.Random(seed)
    end = time.monotonic() + seconds
    executions = 0
    while time.monotonic() < end:
        for _ in range(ROUND):
            data = mutated(chance, subject, INPUT_BYTES_MAX)
            executions += 1
            try:
                subject.run(data)
            except Exception:
                path = finds / f"{name}-{seed}-{executions}"
                path.write_bytes(data)
                traceback.print_exc()
                print(f"{name}: a find after {executions} executions; the input is {path}")
                return 1
    print(f"{name}: {executions} executions in {seconds} s, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
