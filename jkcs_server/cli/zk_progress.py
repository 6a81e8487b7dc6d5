"""How far a copy is, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

LINE_SECONDS = 10.0


@contextmanager
def shown(what: str, *, quiet: bool) -> Iterator[Callable[[int, int, int], None]]:
    """Gives what is to be told keys visited, keys known of, and bytes of values. `quiet`: shows nothing."""
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        with _bar(what) as tell:
            yield tell
    else:
        yield _Lines(what)


def _nothing(visited: int, known: int, size: int) -> None:
    """Nobody looks."""


class _Lines:
    """For logs."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told_at = time.monotonic()

    def __call__(self, visited: int, known: int, size: int) -> None:
        now = time.monotonic()
        if now - self._told_at >= LINE_SECONDS:
            self._told_at = now
            click.echo(f"{self._what}: {visited} of {known} keys found so far, {size / 1e6:.1f} MB", err=True)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[size]:.1f} MB"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, size=0.0)

        def tell(visited: int, known: int, size: int) -> None:
            progress.update(task, completed=visited, total=known, size=size / 1e6)

        yield tell
