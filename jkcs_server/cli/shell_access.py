"""The shell's commands about who may do what, and how much: ACLs, identities, quotas, and what there is.

Like `shell_commands.py`, which puts them among the others.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from jkcs_client import Acl
from jkcs_client.protocol.errors import NoNode
from jkcs_server.cli.render import show_json

if TYPE_CHECKING:
    from jkcs_server.cli.shell_commands import Shell

_HELP = {"help_option_names": ["-h", "--help"]}
_HERE = ""


@click.command(context_settings=_HELP)
@click.argument("path", default=_HERE)
@click.pass_obj
async def getacl(shell: Shell, path: str) -> None:
    """Print who may do what with PATH, an entry a line: SCHEME:ID:PERMISSIONS.

    Permissions are c to create below it, d to delete there, r to read, w to write and a to administer. The hash of a
    password is x for those who may not administer.
    """
    where = shell.path(path)
    entries, stat = await shell.client.get_acl(where)
    if shell.as_json:
        show_json({"path": where, "acl": [str(entry) for entry in entries], "aversion": stat.aversion})
    else:
        for entry in entries:
            click.echo(str(entry))


@click.command(context_settings=_HELP)
@click.option("-v", "--version", type=int, default=-1, help="Only if the list has this version (aversion).")
@click.argument("path")
@click.argument("acl", nargs=-1, required=True)
@click.pass_obj
async def setacl(shell: Shell, path: str, acl: tuple[str, ...], version: int) -> None:
    """Say who may do what with PATH: world:anyone:r, ip:10.0.0.0/8:cdrwa, auth::cdrwa for yourself, ..."""
    where = shell.path(path)
    stat = await shell.client.set_acl(where, [Acl.parse(text) for text in acl], version=version)
    if shell.as_json:
        show_json({"path": where, **dataclasses.asdict(stat)})
    else:
        click.echo(f"aversion {stat.aversion}")


@click.command(context_settings=_HELP)
@click.argument("scheme")
@click.argument("credentials", default="")
@click.pass_obj
async def addauth(shell: Shell, scheme: str, credentials: str) -> None:
    """Be somebody more from now on: addauth digest USER:PASSWORD. Without CREDENTIALS they are asked for."""
    if not credentials:
        credentials = click.prompt("credentials", hide_input=True, err=True)
    await shell.client.authenticate(scheme, credentials)


@click.command(context_settings=_HELP)
@click.pass_obj
async def whoami(shell: Shell) -> None:
    """Print who this client is to the server."""
    found = await shell.client.identities()
    if shell.as_json:
        show_json([{"scheme": scheme, "id": name} for scheme, name in found])
    else:
        for scheme, name in found:
            click.echo(f"{scheme}:{name}")


@click.command(context_settings=_HELP)
@click.option("-k", "--keys", type=click.IntRange(0), help="So many keys, PATH itself counted.")
@click.option("-b", "--bytes", "size", type=click.IntRange(0), help="So many bytes of values.")
@click.option("--soft", is_flag=True, help="Not refused: the servers' log tells when it is passed.")
@click.argument("path")
@click.pass_obj
async def setquota(shell: Shell, path: str, keys: int | None, size: int | None, soft: bool) -> None:
    """Limit what there may be at and below PATH, in the place of the quota it had."""
    await shell.client.set_quota(shell.path(path), keys=keys, bytes=size, hard=not soft)


@click.command(context_settings=_HELP)
@click.argument("path", default=_HERE)
@click.pass_obj
async def getquota(shell: Shell, path: str) -> None:
    """Print the quota on PATH, and how much of it is used."""
    where = shell.path(path)
    quota = await shell.client.quota(where)
    if quota is None:
        raise NoNode("no quota", path=where)
    if shell.as_json:
        show_json({"path": where, **dataclasses.asdict(quota)})
        return
    for name, value in dataclasses.asdict(quota).items():
        if value is not None:
            click.echo(f"{name:<10}  {value}")


@click.command(context_settings=_HELP)
@click.argument("path")
@click.pass_obj
async def rmquota(shell: Shell, path: str) -> None:
    """Take the quota on PATH away."""
    await shell.client.remove_quota(shell.path(path))


@click.command(context_settings=_HELP)
@click.argument("path", default=_HERE)
@click.pass_obj
async def count(shell: Shell, path: str) -> None:
    """Print how many keys there are below PATH, however deep."""
    where = shell.path(path)
    found = await shell.client.count(where)
    if shell.as_json:
        show_json({"path": where, "count": found})
    else:
        click.echo(found)


@click.command(context_settings=_HELP)
@click.argument("path", default="/")
@click.pass_obj
async def ephemerals(shell: Shell, path: str) -> None:
    """List the ephemeral keys of this shell's session, at and below PATH."""
    found = await shell.client.ephemerals(shell.path(path))
    if shell.as_json:
        show_json(found)
    else:
        for each in found:
            click.echo(each)
