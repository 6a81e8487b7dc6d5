"""How results look: tables for people, aligned plain text for pipes, JSON for scripts.

The line library for coloured tables is imported only when standard output is a terminal that wants colour.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import click

GOOD = "green"
BAD = "bold red"
STYLES: Mapping[str, str] = {
    "leader": "bold green",
    "OK": GOOD,
    "FAILED": BAD,
    "unreachable": BAD,
    "candidate": "yellow",
}
"""Colours of cells by their text."""
PROSE_WIDTH = 24
"""A column with a wider cell than this holds prose."""


def wants_colour() -> bool:
    """Whether standard output is a terminal whose user did not set NO_COLOR (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table; the columns named in `right` are numbers."""
    if wants_colour():
        _show_rich(columns, rows, right)
    else:
        click.echo(plain_table(columns, rows, right=right))


def _show_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for at, column in enumerate(columns):
        widest = max(len(row[at]) for row in (columns, *rows))
        # Prose may be folded to fit the terminal. A number or an address cut in two is no use to anybody:
        # then rather a line too long, which the terminal wraps.
        least = widest if widest <= PROSE_WIDTH else PROSE_WIDTH
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold", min_width=least)
    for row in rows:
        # Text, not str: a key or an error may contain what the library would take for markup.
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console.print(table, crop=False)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Columns aligned with spaces, two between them, the heads in capitals; nothing after a line's last cell."""
    heads = [column.upper() for column in columns]
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(columns))]
    lines = []
    for row in (heads, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def show_json(value: Any) -> None:
    """Print one JSON document; indented for a terminal, on one line otherwise."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def duration_text(seconds: float) -> str:
    """`340 ms`, `1.2 s`, `12 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def value_text(value: bytes) -> str | None:
    """A value as text, or None when it is not printable UTF-8.

    Control characters other than tabs and line ends are not text here: a value could otherwise move the
    cursor of whoever looks at it, or worse.
    """
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in "\t\n\r" for char in text) else None


def value_shown(value: bytes) -> str:
    """A value for people: its text, or its bytes in hexadecimal after `0x`."""
    text = value_text(value)
    return text if text is not None else f"0x{value.hex()}"


def value_json(value: bytes) -> dict[str, str]:
    """A value for scripts: under `value` as text, or under `value_hex`."""
    text = value_text(value)
    return {"value": text} if text is not None else {"value_hex": value.hex()}
