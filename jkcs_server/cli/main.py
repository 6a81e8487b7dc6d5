"""The `jkcs` command: the group, and where its commands are found.

A command's module is imported when the command is called or its own help asked for, and not before: `jkcs
serve` starts without the shell's line editor or the demo's tables.
"""

from __future__ import annotations

import gettext
import importlib
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import click

from jkcs_server.cli.exits import FAILED

# name -> (module, attribute, one line of help): the list of commands must not import them.
COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "serve": ("jkcs_server.cli.serve", "serve", "Run one node of a cluster."),
    "dev": ("jkcs_server.cli.dev", "dev", "Run a cluster on this machine, for development."),
    "demo": ("jkcs_server.cli.demo", "demo", "Show that the cluster keeps its promises, on real processes."),
    "shell": ("jkcs_server.cli.shell", "shell", "Look at and change keys, interactively or from a script."),
    "status": ("jkcs_server.cli.status", "status", "Show every member of a cluster and how it is doing."),
    "admin": ("jkcs_server.cli.admin", "admin", "Change and watch a running cluster: members, roles, snapshots."),
    "backup": ("jkcs_server.cli.backup", "backup", "Write the state of a cluster into one verified file."),
    "restore": ("jkcs_server.cli.backup", "restore", "Begin a new cluster where a backup ends."),
    "recover": ("jkcs_server.cli.rescue", "recover", "Make a cluster out of a single survivor."),
    "rebuild": ("jkcs_server.cli.rescue", "rebuild", "Let a damaged node be refilled by its peers."),
    "zk": ("jkcs_server.cli.zk", "zk", "Copy and compare the tree of a live ZooKeeper."),
    "bench": ("jkcs_server.cli.bench", "bench", "Measure a cluster: operations, latency, CPU per operation."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports each on first use."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: what a newcomer needs comes with what belongs to it."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = self._lazy[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), (module, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(gettext.gettext("Commands")):
            formatter.write_dl([(name, entry[2]) for name, entry in self._lazy.items()])


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and end; the package's metadata is read only then."""
    if wanted and not ctx.resilient_parsing:
        click.echo(f"jkcs {metadata.version('jkcs')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server reachable.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version, help="Show it.")
def jkcs() -> None:
    """JKCS: locks, elections, discovery and configuration on a replicated journal.

    \b
    Try it:
      jkcs demo                             see it survive kill -9
      jkcs dev                              three nodes on this machine
      jkcs shell -c 'create -p /a/b hello'  a first key
    """


def main() -> None:
    """Entry point of the `jkcs` script and of `python -m jkcs_server.cli.main`."""
    try:
        jkcs(prog_name="jkcs")
    except BrokenPipeError:
        # The reader of our output went away, as in `jkcs status | head -1`.
        sys.stderr.close()
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
