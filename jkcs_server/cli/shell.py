"""`jkcs shell`: commands from flags, from a pipe or from a prompt, run one after the other.

Decides where lines come from, what Ctrl-C and failures mean in each case, and the exit code. What the
commands do is in `shell_commands.py`, how lines are read in `shell_lines.py`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import click

from jkcs_client import connect
from jkcs_client.address import parse
from jkcs_client.protocol.errors import BadArguments, JkcsError, NotConnected, SessionExpired
from jkcs_server.cli.credentials import Credentials, read_credentials
from jkcs_server.cli.exits import FAILED, INTERRUPTED, UNREACHABLE, USAGE
from jkcs_server.cli.shell_commands import Leave, Shell
from jkcs_server.cli.shell_lines import LineError, split_line
from jkcs_server.cli.status import DEFAULT_URL
from jkcs_server.cli.tls import given, with_tls

LINE_CHARACTERS_MAX = 4 << 20


@click.command()
@click.argument("url", envvar="JKCS_URL", default=DEFAULT_URL)
@click.option("-c", "--command", "lines", multiple=True, metavar="LINE", help="Run it and end; may be given again.")
@click.option("--json", "as_json", is_flag=True, help="Answers as JSON, one document each.")
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=10.0, help="Seconds per request.  [10]")
@click.option(
    "--auth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Credentials, a line digest:USER:PASSWORD each; or in JKCS_AUTH.",
)
@with_tls
def shell(url: str, lines: tuple[str, ...], as_json: bool, timeout: float, auth: Path | None) -> None:
    """Look at and change keys.

    URL names the servers, and perhaps the key below which everything happens:
    jkcs://HOST:PORT,HOST:PORT/KEY. Default is $JKCS_URL, else jkcs://127.0.0.1:2181.

    Without -c, commands are read from the terminal, or from standard input when that is none. A script
    ends at the first command that fails.

    \b
    Examples:
      jkcs shell
      jkcs shell -c 'create -p /services/web 10.0.0.7:80; ls /services'
      jkcs shell jkcs://10.0.0.1:2181/services -c 'tree'
      jkcs shell --json -c 'get /config/db' | jq -r .value
      jkcs shell < keys.txt

    Exit codes: 0 done, 1 a command failed, 2 wrong usage, 3 no server reachable.
    """
    try:
        parse(url)
    except BadArguments as error:
        raise click.BadParameter(error.detail, param_hint="URL") from None
    who = read_credentials(auth, "--auth", "JKCS_AUTH")
    if lines:
        work = run_script(url, _given(lines), as_json=as_json, timeout=timeout, auth=who)
    elif not sys.stdin.isatty():
        work = run_script(url, _piped(), as_json=as_json, timeout=timeout, auth=who)
    else:
        work = converse(url, as_json=as_json, timeout=timeout, auth=who)
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


async def _given(lines: Sequence[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line


async def _piped() -> AsyncIterator[str]:
    while line := await anyio.to_thread.run_sync(sys.stdin.readline, LINE_CHARACTERS_MAX, abandon_on_cancel=True):
        yield line


async def run_line(shell: Shell, line: str) -> None:
    """Run the commands of a line. The first failure is raised, and the rest is not run."""
    for words in split_line(line):
        await shell.run(words)


async def run_script(
    url: str, lines: AsyncIterator[str], *, as_json: bool, timeout: float, auth: Credentials = ()
) -> int:
    """Run lines until one fails; the exit code. Ctrl-C is left to the event loop: it ends everything."""
    try:
        async with connect(url, request_timeout=timeout, auth=auth, **given()) as client:
            shell = Shell(client, as_json)
            async for line in lines:
                await run_line(shell, line)
    except Leave:
        return 0
    except FAILURES as error:
        return complain(error)
    return 0


async def converse(url: str, *, as_json: bool, timeout: float, auth: Credentials = ()) -> int:
    """Ask for lines until the user leaves; the exit code."""
    from jkcs_server.cli.shell_prompt import Prompt

    place = place_of(url)
    current = "/"
    click.echo("help lists the commands, exit or Ctrl-D leaves", err=True)
    while True:
        try:
            async with connect(url, request_timeout=timeout, auth=auth, **given()) as client:
                shell = Shell(client, as_json, current)
                prompt = Prompt(shell, place)
                try:
                    await _ask_and_run(shell, prompt.line)
                finally:
                    current = shell.current
        except (Leave, EOFError):
            return 0
        except SessionExpired as error:
            complain(error)
            click.echo("a new session begins; ephemeral keys of the old one are gone", err=True)
        except FAILURES as error:
            return complain(error)


async def _ask_and_run(shell: Shell, ask: Callable[[], Awaitable[str]]) -> None:
    """Raises EOFError or Leave when the user leaves, SessionExpired when a new session is needed."""
    with interrupts() as interruptible:
        while True:
            try:
                line = await ask()
            except KeyboardInterrupt:
                continue  # Ctrl-C throws the line away
            try:
                await interruptible(partial(run_line, shell, line))
            except SessionExpired:
                raise
            except FAILURES as error:
                complain(error)


Interruptible = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


@contextmanager
def interrupts() -> Iterator[Interruptible]:
    """Within the block Ctrl-C ends the work given to the function it yields, and nothing else."""
    loop = asyncio.get_running_loop()
    running: list[anyio.CancelScope] = []

    def on_signal() -> None:
        for scope in running:
            scope.cancel()

    async def run(work: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            running.append(scope)
            try:
                await work()
            finally:
                running.remove(scope)

    loop.add_signal_handler(signal.SIGINT, on_signal)
    try:
        yield run
    finally:
        loop.remove_signal_handler(signal.SIGINT)


FAILURES = (JkcsError, ValueError, click.ClickException)
"""What a command or a connection may raise and the user must be told; LineError is a ValueError, and so is
what `connect` says of a bad URL."""


def complain(error: Exception) -> int:
    """One line on standard error; the exit code that goes with it."""
    if isinstance(error, click.ClickException):
        click.echo(f"jkcs: {error.format_message()}", err=True)
        return USAGE
    click.echo(f"jkcs: {error}", err=True)
    if isinstance(error, LineError):
        return USAGE
    return UNREACHABLE if isinstance(error, NotConnected) else FAILED


def place_of(url: str) -> str:
    """What the prompt says before the path: the first server, and the key below which the client lives."""
    target = parse(url)
    return f"{target.addresses[0]}:{target.chroot}"
