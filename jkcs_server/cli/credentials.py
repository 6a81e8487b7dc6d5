"""Credentials from a file or from the environment; never from the command line, which everybody can read.

Called by the commands that are clients of a cluster or of a ZooKeeper.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

TEXT_CHARACTERS_MAX = 1 << 16

Credentials = tuple[tuple[str, str], ...]
"""Schemes and secrets. Never shown: not even in an error."""


def read_credentials(file: Path | None, option: str, variable: str) -> Credentials:
    """Lines SCHEME:SECRET, as digest:USER:PASSWORD, from the file if there is one, else from the variable.

    Raises click.BadParameter.
    """
    text = os.environ.get(variable, "") if file is None else file.read_text(encoding="utf-8")
    if len(text) > TEXT_CHARACTERS_MAX:
        raise click.BadParameter(f"more than {TEXT_CHARACTERS_MAX} bytes", param_hint=option)
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        scheme, colon, secret = line.strip().partition(":")
        if not colon or not secret:
            # The line itself is not shown: it may be a password.
            raise click.BadParameter(f"line {number} is not digest:USER:PASSWORD", param_hint=option)
        found.append((scheme, secret))
    return tuple(found)
