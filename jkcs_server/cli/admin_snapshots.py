"""`jkcs admin snapshots`: list, take, download and recover; and the backup of a running cluster."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import click

from jkcs_client import Client
from jkcs_server.cli.admin_client import NotDone, run, wait_until, with_options, with_waiting
from jkcs_server.cli.offline import LIMITS, time_text
from jkcs_server.cli.render import show_json, show_table
from journal.clock import wall_milliseconds
from journal.errors import JournalError
from journal.storage.backup import Backup, BackupWriter, Origin
from journal.values import Index, Position, Term

COLUMNS = ("index", "term", "time", "bytes", "digest")
PROGRESS_SECONDS = 1.0
ASK_AGAIN_SECONDS = 15.0


@click.group()
def snapshots() -> None:
    """List, take, download snapshots, or bring the cluster back to one."""


@snapshots.command("list")
@with_options
def list_snapshots(url: str, timeout: float, as_json: bool) -> None:
    """List the snapshots of the server that answers, newest first."""
    found = run(url, timeout, as_json, lambda client: client.admin.snapshots())
    if as_json:
        show_json([{**each, "digest": each["digest"].hex()} for each in found])
        return
    rows = [
        [
            str(each["index"]),
            str(each["term"]),
            time_text(each["time_ms"]),
            str(each["size"]),
            each["digest"].hex()[:16],
        ]
        for each in found
    ]
    show_table(COLUMNS, rows, right=("index", "term", "bytes"))


@snapshots.command()
@with_waiting
@with_options
def take(url: str, timeout: float, as_json: bool, wait: bool, patience: float) -> None:
    """Let every node take a snapshot, all at the same index."""

    async def work(client: Client) -> dict[str, Any]:
        if not wait:
            return {"done": False, "index": await client.admin.take_snapshot()}
        taken = await take_and_wait(client, patience=patience, quiet=as_json)
        return {"done": True, "index": taken["index"], "size": taken["size"]}

    result = run(url, timeout, as_json, work)
    if as_json:
        show_json(result)
    elif result["done"]:
        click.echo(f"snapshot {result['index']}: {result['size']} bytes")
    else:
        click.echo(f"asked for at index {result['index']}")


@snapshots.command()
@click.argument("index", type=click.IntRange(1))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@with_options
def download(index: int, file: Path, url: str, timeout: float, as_json: bool) -> None:
    """Write the snapshot at INDEX into FILE, as a backup that `jkcs restore` takes."""

    async def work(client: Client) -> Backup:
        found = [each for each in await client.admin.snapshots() if each["index"] == index]
        if not found:
            raise NotDone(f"the server has no snapshot {index}; `jkcs admin snapshots list` shows what it has")
        return await fetch(client, found[0], file, quiet=as_json)

    made = run(url, timeout, as_json, work)
    with made:
        if as_json:
            show_json({"done": True, "file": str(file), "index": index, "size": made.meta.size})
        else:
            click.echo(f"{file}: snapshot {index}, {made.meta.size} bytes, verified")


@snapshots.command()
@click.argument("index", type=click.IntRange(1))
@click.option("--yes", is_flag=True, required=True, help="Confirms that everything written since is undone.")
@with_options
def recover(index: int, yes: bool, url: str, timeout: float, as_json: bool) -> None:
    """Bring the state of the cluster back to the snapshot at INDEX, as a new entry of the log."""
    if not yes:
        raise click.UsageError("--yes is missing: it confirms that everything written since is undone")
    at = run(url, timeout, as_json, lambda client: client.admin.recover_snapshot(index))
    if as_json:
        show_json({"done": True, "snapshot": index, "index": at})
    else:
        click.echo(f"the state of snapshot {index} is in force from index {at} on")


async def take_and_wait(client: Client, *, patience: float, quiet: bool) -> dict[str, Any]:
    """A snapshot taken from now on that the connected server has. Raises NotDone."""
    wanted = await client.admin.take_snapshot()
    asked_at = time.monotonic()
    found: dict[str, Any] = {}

    async def look() -> tuple[bool, str]:
        nonlocal wanted, asked_at
        newest = (await client.admin.snapshots())[:1]
        if newest and newest[0]["index"] >= wanted:
            found.update(newest[0])
            return True, f"snapshot {newest[0]['index']} is there"
        if time.monotonic() - asked_at > ASK_AGAIN_SECONDS:
            # A node that was still writing another one has skipped it.
            wanted, asked_at = await client.admin.take_snapshot(), time.monotonic()
        return False, f"snapshot {wanted} is being taken"

    await wait_until(look, patience=patience, quiet=quiet)
    return found


async def fetch(client: Client, snapshot: dict[str, Any], file: Path, *, quiet: bool) -> Backup:
    """Download a snapshot into a verified backup. Raises NotDone."""
    status = await client.status()
    position = Position(Index(snapshot["index"]), Term(snapshot["term"]))
    origin = Origin(status["cluster"], status["node"], wall_milliseconds())
    try:
        with contextlib.ExitStack() as undo:
            writer = BackupWriter(file, origin, position)
            undo.callback(writer.abort)
            had, told = 0, time.monotonic()
            async for piece in client.admin.download_snapshot(snapshot["index"]):
                writer.add(piece)
                had += len(piece)
                if not quiet and time.monotonic() - told > PROGRESS_SECONDS:
                    told = time.monotonic()
                    click.echo(f"{100 * had // snapshot['size']} % of {snapshot['size']} bytes", err=True)
            undo.pop_all()
        return writer.finish(LIMITS)
    except JournalError as error:
        raise NotDone(str(error)) from error


async def back_up(client: Client, file: Path, *, patience: float, quiet: bool) -> Backup:
    """The state of a running cluster, as of now or later, in a verified file. Raises NotDone."""
    return await fetch(client, await take_and_wait(client, patience=patience, quiet=quiet), file, quiet=quiet)
