"""What the demo tells: lines with the time, a figure that counts while the audience waits, claims at the end.

Knows nothing of clusters. With JSON wanted, the story goes to standard error and the claims to standard output.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import click

from jkcs_server.cli.render import show_json, show_table, wants_colour

ERASE_LINE = "\r\x1b[K"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the demo promised to show."""

    text: str
    figure: str
    """What was measured, for people."""
    measured: dict[str, Any]
    """The same for scripts."""
    held: bool


@dataclass(slots=True)
class Story:
    """One run of the demo, as told to its user."""

    as_json: bool = False
    claims: list[Claim] = field(default_factory=list)
    """In the order in which they were shown to hold or not."""
    _began: float = field(default_factory=time.monotonic)
    _counting: bool = False
    """The cursor stands behind a figure that the next line overwrites."""

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self._began

    @property
    def held(self) -> bool:
        """Whether there are claims and all of them held."""
        return bool(self.claims) and all(claim.held for claim in self.claims)

    def act(self, title: str) -> None:
        """A new part of the story begins."""
        self._line(self._styled(title, bold=True), before="\n")

    def say(self, text: str) -> None:
        """One line, with the time."""
        self._line(f"{self.seconds:6.1f} s  {text}")

    def count(self, text: str) -> None:
        """A figure that changes: shown on a terminal only, and overwritten by whatever comes next."""
        if self._to_terminal():
            click.echo(f"{ERASE_LINE}          {text}", nl=False, err=self.as_json)
            self._counting = True

    def claim(self, text: str, figure: str, held: bool, **measured: Any) -> None:
        """Something was shown, or was not."""
        rounded = {name: round(each, 4) if isinstance(each, float) else each for name, each in measured.items()}
        self.claims.append(Claim(text, figure, rounded, held))
        mark = self._styled("OK", fg="green") if held else self._styled("FAILED", fg="red", bold=True)
        self._line(f"{self.seconds:6.1f} s  {mark}: {text}: {figure}")

    def conclude(self, directory: str | None) -> None:
        """The table of claims. `directory` is where data and logs were kept, None when they were removed."""
        self._line("")
        if self.as_json:
            show_json(
                {
                    "held": self.held,
                    "seconds": round(self.seconds, 3),
                    "directory": directory,
                    "claims": [
                        {"claim": each.text, "held": each.held, "figure": each.figure, **each.measured}
                        for each in self.claims
                    ],
                }
            )
            return
        rows = [["OK" if each.held else "FAILED", each.text, each.figure] for each in self.claims]
        show_table(("result", "claim", "figure"), rows)
        broken = sum(not each.held for each in self.claims)
        verdict = "every claim held" if self.held else f"{broken} claim(s) did not hold"
        click.echo(f"{verdict}; {self.seconds:.0f} s")
        if directory is not None:
            click.echo(f"data and logs are in {directory}")

    def _line(self, text: str, before: str = "") -> None:
        erase = ERASE_LINE if self._counting else ""
        self._counting = False
        click.echo(f"{erase}{before}{text}", err=self.as_json)

    def _to_terminal(self) -> bool:
        return (sys.stderr if self.as_json else sys.stdout).isatty()

    def _styled(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if wants_colour() and not self.as_json else text
