"""The commands of the shell: each reads or changes keys through a client and prints what came of it.

Knows nothing of prompts, history or scripts; a failure is raised to whoever called. Called by `shell.py`
and `shell_prompt.py` through `Shell.run`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import click

from jkcs_client import Acl, Client, Stat
from jkcs_client.protocol.errors import JkcsError, NoNode
from jkcs_client.protocol.messages import CHILDREN_PAGE_MAX
from jkcs_server.cli.render import show_json, show_table, value_json, value_shown
from jkcs_server.cli.shell_access import (
    addauth,
    count,
    ephemerals,
    getacl,
    getquota,
    rmquota,
    setacl,
    setquota,
    whoami,
)
from jkcs_server.cli.shell_lines import join, parent_of, resolve

STATS_AT_ONCE_MAX = 128
"""Requests under way when many keys are looked at: fast, and far from what a connection may leave unanswered."""
HELP = {"help_option_names": ["-h", "--help"]}
_EMPTY_IS_ROOT = ""


class Leave(Exception):
    """The user wants to go."""


@dataclasses.dataclass(slots=True)
class Shell:
    """One user's place in the tree, and how answers are to look."""

    client: Client
    as_json: bool = False
    current: str = "/"
    """Where relative paths begin. The key is there when it is set, and may be deleted later."""

    async def run(self, words: Sequence[str]) -> None:
        """Run one command. Raises click.ClickException for wrong usage, JkcsError for what the server says,
        Leave for the end."""
        command = find_command(words[0])
        try:
            context = command.make_context(words[0], list(words[1:]), obj=self)
        except click.exceptions.Exit:
            return  # its help was asked for, and printed
        with context:
            await command.invoke(context)

    def path(self, typed: str) -> str:
        """The absolute path of what the user typed."""
        return resolve(self.current, typed)

    async def existing(self, typed: str) -> tuple[str, Stat]:
        """A path and its stat. Raises NoNode."""
        path = self.path(typed)
        stat = await self.client.exists(path)
        if stat is None:
            raise NoNode(path=path)
        return path, stat


def find_command(name: str) -> click.Command:
    """The command of that name. Raises click.UsageError that names the nearest."""
    if name not in COMMANDS:
        raise click.UsageError(f"no command {name!r}; try help")
    return COMMANDS[name]


# --- looking ----------------------------------------------------------------------------------------------------


@click.command(context_settings=HELP)
@click.option("-l", "--long", is_flag=True, help="With version, size, children and time of the last change.")
@click.option("-R", "--recursive", is_flag=True, help="Everything below, as paths.")
@click.option("-n", "--limit", type=click.IntRange(1), help="The first so many, without asking for more.")
@click.argument("path", default=_EMPTY_IS_ROOT)
@click.pass_obj
async def ls(shell: Shell, path: str, long: bool, recursive: bool, limit: int | None) -> None:
    """List the keys below PATH."""
    top = shell.path(path)
    if recursive:
        paths = await _first(walk(shell.client, top), limit)
    elif limit is not None:
        page = min(limit, CHILDREN_PAGE_MAX)
        names = await _first(shell.client.iterate_children(top, page=page), limit)
        paths = [join(top, name) for name in names]
    else:
        paths = [join(top, name) for name in await shell.client.children(top)]
    shown = {each: each if recursive else each.rpartition("/")[2] for each in paths}
    if not long:
        _print_names(shell, list(shown.values()))
        return
    stats = await _stats(shell.client, paths)
    if shell.as_json:
        show_json([{"name": shown[each], **stat_document(stat)} for each, stat in stats.items()])
    elif stats:
        rows = [_long_row(shown[each], stat) for each, stat in stats.items()]
        show_table(("version", "size", "children", "modified", "kind", "name"), rows, right=("version", "size"))


async def _first(found: AsyncIterator[str], limit: int | None) -> list[str]:
    """The first so many, or all."""
    taken: list[str] = []
    async for each in found:
        taken.append(each)
        if len(taken) == limit:
            break
    return taken


def _print_names(shell: Shell, names: list[str]) -> None:
    if shell.as_json:
        show_json(names)
    else:
        for name in names:
            click.echo(name)


def _long_row(name: str, stat: Stat) -> list[str]:
    kind = "ephemeral" if stat.ephemeral_owner else "container" if stat.container else "ttl" if stat.ttl else "key"
    return [str(stat.version), str(stat.data_length), str(stat.num_children), _time(stat.mtime), kind, name]


async def _stats(client: Client, paths: Sequence[str]) -> dict[str, Stat]:
    """The stats of the keys that are still there, in the order of `paths`."""
    found: dict[str, Stat | None] = dict.fromkeys(paths)
    errors: list[JkcsError] = []

    async def look(path: str) -> None:
        try:
            found[path] = await client.exists(path)
        except JkcsError as error:  # kept, so that it is not raised inside an ExceptionGroup
            errors.append(error)

    for start in range(0, len(paths), STATS_AT_ONCE_MAX):
        async with anyio.create_task_group() as group:
            for path in paths[start : start + STATS_AT_ONCE_MAX]:
                group.start_soon(look, path)
        if errors:
            raise errors[0]
    return {path: stat for path, stat in found.items() if stat is not None}


async def walk(client: Client, top: str) -> AsyncIterator[str]:
    """All paths below `top`, parents first, in order. A key that is deleted meanwhile may be missing."""
    waiting = [join(top, name) for name in reversed(await client.children(top))]
    while waiting:
        path = waiting.pop()
        yield path
        waiting += [join(path, name) for name in reversed(await children_if_there(client, path))]


async def children_if_there(client: Client, path: str) -> list[str]:
    """The names below a key; none if it was deleted meanwhile."""
    try:
        return list(await client.children(path))
    except NoNode:
        return []


@click.command(context_settings=HELP)
@click.argument("path", default=_EMPTY_IS_ROOT)
@click.pass_obj
async def tree(shell: Shell, path: str) -> None:
    """Draw everything below PATH."""
    top = shell.path(path)
    names = list(await shell.client.children(top))
    if shell.as_json:
        show_json(await _tree_document(shell.client, top, names))
        return
    click.echo(top)
    branch, last, pipe = ("├── ", "└── ", "│   ") if _draws_lines() else ("|-- ", "`-- ", "|   ")
    # A list of what is still to draw, not recursion: a tree may be deeper than Python's stack.
    waiting = [(join(top, name), "", name == names[-1]) for name in reversed(names)]
    while waiting:
        here, indent, is_last = waiting.pop()
        click.echo(f"{indent}{last if is_last else branch}{here.rpartition('/')[2]}")
        below = await children_if_there(shell.client, here)
        inner = indent + ("    " if is_last else pipe)
        waiting += [(join(here, name), inner, name == below[-1]) for name in reversed(below)]


def _draws_lines() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


async def _tree_document(client: Client, top: str, names: Sequence[str]) -> dict[str, Any]:
    root: dict[str, Any] = {"path": top, "children": []}
    waiting = [(root, join(top, name)) for name in reversed(names)]
    while waiting:
        parent, here = waiting.pop()
        node: dict[str, Any] = {"path": here, "children": []}
        parent["children"].append(node)
        waiting += [(node, join(here, name)) for name in reversed(await children_if_there(client, here))]
    return root


@click.command(context_settings=HELP)
@click.argument("path", default=_EMPTY_IS_ROOT)
@click.pass_obj
async def cd(shell: Shell, path: str) -> None:
    """Make PATH the start of relative paths; without PATH, the root."""
    shell.current, _ = await shell.existing(path or "/")


@click.command(context_settings=HELP)
@click.pass_obj
async def pwd(shell: Shell) -> None:
    """Print where relative paths begin."""
    if shell.as_json:
        show_json(shell.current)
    else:
        click.echo(shell.current)


@click.command(context_settings=HELP)
@click.argument("path")
@click.pass_obj
async def get(shell: Shell, path: str) -> None:
    """Print the value of PATH: as text, or in hexadecimal after 0x when it is not printable UTF-8."""
    where = shell.path(path)
    value, stat = await shell.client.get(where)
    if shell.as_json:
        show_json({"path": where, **value_json(value), "stat": stat_document(stat)})
    else:
        click.echo(value_shown(value))


@click.command(context_settings=HELP)
@click.argument("path", default=_EMPTY_IS_ROOT)
@click.pass_obj
async def stat(shell: Shell, path: str) -> None:
    """Print what is known of PATH besides its value."""
    where, found = await shell.existing(path)
    document = stat_document(found)
    if shell.as_json:
        show_json({"path": where, **document})
        return
    width = max(map(len, document))
    for name, value in document.items():
        if name in ("ctime", "mtime"):
            value = f"{value}  {_time(value)}"
        elif name == "ephemeral_owner" and value:
            value = f"{value:#x}"
        click.echo(f"{name:<{width}}  {value}")


def stat_document(stat: Stat) -> dict[str, Any]:
    """A stat's fields by name."""
    return dataclasses.asdict(stat)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@click.command(context_settings=HELP)
@click.option("-r", "--recursive", is_flag=True, help="Everything below PATH, too.")
@click.argument("path", default=_EMPTY_IS_ROOT)
@click.pass_obj
async def watch(shell: Shell, path: str, recursive: bool) -> None:
    """Print what happens to PATH and to the list of its children, one event a line, until Ctrl-C.

    PATH need not exist yet.
    """
    where = shell.path(path)
    async with shell.client.watch(where, recursive=recursive) as events:
        click.echo(f"watching {where}; Ctrl-C ends it", err=True)
        async for event in events:
            kind = event.kind.name.lower()
            if shell.as_json:
                show_json({"kind": kind, "path": event.path, "index": event.index})
            else:
                click.echo(f"{kind:<8}  {event.path}  at {event.index}")


# --- changing ---------------------------------------------------------------------------------------------------


@click.command(context_settings=HELP)
@click.option("-e", "--ephemeral", is_flag=True, help="Gone when this shell's session ends.")
@click.option("-s", "--sequential", is_flag=True, help="A number that only grows is added to the name.")
@click.option("-p", "--parents", is_flag=True, help="Create what is missing above it, too.")
@click.option("--container", is_flag=True, help="Gone when its last child has gone.")
@click.option("--ttl", type=click.FloatRange(0.001), metavar="SECONDS", help="Gone when not set for so long.")
@click.option("--acl", multiple=True, metavar="ACL", help="SCHEME:ID:PERMISSIONS; may be given again. See setacl.")
@click.argument("path")
@click.argument("value", default="")
@click.pass_obj
async def create(shell: Shell, /, path: str, value: str, acl: tuple[str, ...], **kind: Any) -> None:
    """Create PATH with VALUE, and print its path. After -- a VALUE may begin with a dash."""
    # A sequential key's name may be empty: "create -s /queue/" makes /queue/0000000001.
    where = shell.path(path) + ("/" if kind["sequential"] and path.endswith("/") and shell.path(path) != "/" else "")
    entries = [Acl.parse(text) for text in acl] or None
    created = await shell.client.create(where, value.encode(), acl=entries, **kind)
    _print_path(shell, created)


def _print_path(shell: Shell, path: str) -> None:
    if shell.as_json:
        show_json({"path": path})
    else:
        click.echo(path)


@click.command(context_settings=HELP)
@click.option("-v", "--version", type=int, default=-1, help="Only if the key has this version.")
@click.argument("path")
@click.argument("value")
@click.pass_obj
async def set_value(shell: Shell, path: str, value: str, version: int) -> None:
    """Give PATH another VALUE, and print its new version. After -- a VALUE may begin with a dash."""
    where = shell.path(path)
    stat = await shell.client.set(where, value.encode(), version=version)
    if shell.as_json:
        show_json({"path": where, **stat_document(stat)})
    else:
        click.echo(f"version {stat.version}")


@click.command(context_settings=HELP)
@click.option("-r", "--recursive", is_flag=True, help="Everything below, too; not in one step.")
@click.option("-v", "--version", type=int, default=-1, help="Only if the key has this version.")
@click.argument("paths", nargs=-1, required=True)
@click.pass_obj
async def delete(shell: Shell, paths: tuple[str, ...], recursive: bool, version: int) -> None:
    """Delete PATHS."""
    for path in paths:
        where = shell.path(path)
        if where == "/":
            raise click.UsageError("the root cannot be deleted; name the keys below it")
        await shell.client.delete(where, version=version, recursive=recursive)
        if shell.current == where or shell.current.startswith(where + "/"):
            shell.current = parent_of(where)


# --- the shell itself -------------------------------------------------------------------------------------------


@click.command("help", context_settings=HELP)
@click.argument("name", default="")
@click.pass_obj
async def show_help(shell: Shell, name: str) -> None:
    """Print what the commands do, or all about one."""
    if name:
        command = find_command(name)
        with click.Context(command, info_name=name) as context:
            click.echo(command.get_help(context))
        return
    width = max(map(len, COMMANDS))
    for each, command in COMMANDS.items():
        click.echo(f"{each:<{width}}  {command.get_short_help_str(limit=100)}")
    click.echo("COMMAND --help tells more. Words may be quoted; a ; separates commands.")


@click.command("exit", context_settings=HELP)
@click.pass_obj
async def leave(shell: Shell) -> None:
    """Leave the shell."""
    raise Leave


COMMANDS: Mapping[str, click.Command] = {
    "ls": ls,
    "tree": tree,
    "cd": cd,
    "pwd": pwd,
    "get": get,
    "stat": stat,
    "watch": watch,
    "create": create,
    "set": set_value,
    "delete": delete,
    "getacl": getacl,
    "setacl": setacl,
    "addauth": addauth,
    "whoami": whoami,
    "getquota": getquota,
    "setquota": setquota,
    "rmquota": rmquota,
    "count": count,
    "ephemerals": ephemerals,
    "help": show_help,
    "exit": leave,
}
"""In the order in which `help` shows them."""
WITHOUT_PATH = frozenset({"pwd", "addauth", "whoami", "help", "exit"})
"""Commands whose arguments are not completed to paths."""
