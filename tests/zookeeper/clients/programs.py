"""Foreign programs: found, installed into a directory of their own, run, ended. Called by each client's judge."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

OUTPUT_SHOWN = 4_000
"""Of a program that failed, so many characters are shown."""


class Missing(Exception):
    """A program that this judge needs is not on this machine, and why."""


class Failed(Exception):
    """A client did not get what it is used to."""


def need(program: str, package: str) -> str:
    """The path of a program. Raises Missing, naming what would bring it."""
    found = shutil.which(program)
    if found is None:
        raise Missing(f"{program} is not in PATH ({package})")
    return found


def need_file(path: Path, package: str) -> Path:
    if not path.exists():
        raise Missing(f"there is no {path} ({package})")
    return path


def run(
    command: Sequence[str],
    *,
    given: str = "",
    where: Path | None = None,
    seconds: float = 120.0,
    environment: Mapping[str, str] | None = None,
    failing: bool = False,
) -> str:
    """What it prints, both streams together. Raises Failed when it does not end, or fails and is not `failing`."""
    try:
        done = subprocess.run(
            command,
            input=given,
            cwd=where,
            timeout=seconds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.stdout or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        raise Failed(f"{command[0]} did not end within {seconds:g} s:\n{text[-OUTPUT_SHOWN:]}") from None
    if done.returncode and not failing:
        raise Failed(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{done.stdout[-OUTPUT_SHOWN:]}")
    return done.stdout
