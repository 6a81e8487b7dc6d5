"""What the commands of `jkcs admin` share: the way to the cluster, errors as exit codes, waiting for what takes long.

Each command is a client like any other, without a session.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import click

from jkcs_client import Client, JkcsError, NotConnected, connect
from jkcs_server.cli.exits import FAILED, INTERRUPTED, UNREACHABLE
from jkcs_server.cli.render import show_json
from jkcs_server.cli.status import DEFAULT_URL
from jkcs_server.cli.tls import given, with_tls

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
POLL_SECONDS = 0.2


class NotDone(Exception):
    """What was waited for did not come true; says why."""


def with_options(command: F) -> F:
    """The options that every command has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option(
            "--timeout", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds per request."
        ),
        click.option("--url", envvar="JKCS_URL", default=DEFAULT_URL, show_default=True, help="A member, or several."),
        with_tls,
    ):
        command = option(command)
    return command


def with_waiting(command: F) -> F:
    """The options of commands that begin something long."""
    for option in (
        click.option(
            "--patience", type=click.FloatRange(0.1), default=600.0, show_default=True, help="Seconds to wait for it."
        ),
        click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it is done."),
    ):
        command = option(command)
    return command


def run(url: str, timeout: float, as_json: bool, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do `work` as a client of the cluster; its failures end the command with a line and an exit code."""

    async def live() -> T:
        async with connect(url, session_timeout=0, request_timeout=timeout, **given()) as client:
            return await work(client)

    try:
        return asyncio.run(live())
    except NotConnected as error:
        fail(error, UNREACHABLE, as_json=as_json)
    except (JkcsError, NotDone) as error:
        fail(error, FAILED, as_json=as_json)
    except KeyboardInterrupt:
        # What was begun goes on without us.
        sys.exit(INTERRUPTED)


def fail(error: Exception, code: int, *, as_json: bool) -> NoReturn:
    """Say why, and end."""
    if as_json:
        show_json({"done": False, "error": str(error)})
    else:
        click.echo(f"jkcs admin: {error}", err=True)
    sys.exit(code)


async def wait_until(look: Callable[[], Awaitable[tuple[bool, str]]], *, patience: float, quiet: bool = False) -> None:
    """Ask again and again until it is done; each news is a line on standard error. Raises NotDone."""
    deadline = time.monotonic() + patience
    told = ""
    while True:
        try:
            done, text = await look()
        except JkcsError as error:
            # An election, perhaps our own doing: the next look may find a leader again.
            done, text = False, f"no answer: {error}"
        if text != told and not quiet:
            click.echo(text, err=True)
        told = text
        if done:
            return
        if time.monotonic() > deadline:
            raise NotDone(f"not done within {patience:g} s: {text}; it goes on by itself")
        await asyncio.sleep(POLL_SECONDS)


def progress_text(configuration: dict[str, Any]) -> str:
    """One line about a change of members."""
    phase = configuration["phase"]
    if phase != "catching up":
        return str(phase)
    newcomers = [member for member in configuration["members"] if member["role"] == "learner"]
    return f"{phase}: " + ", ".join(f"{each['node']} {_caught_up(each, configuration)}" for each in newcomers)


def _caught_up(member: dict[str, Any], configuration: dict[str, Any]) -> str:
    match, last = member["match_index"] or 0, configuration["last_index"]
    percent = 100 * match // last if last else 100
    return f"{percent} % ({last - match} entries behind)"
