"""`jkcs backup` and `jkcs restore`: the whole key tree into one verified file, and from there into a new cluster."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from jkcs_client.address import TLS_SCHEME
from jkcs_client.protocol.framing import pack
from jkcs_server.cli.admin_client import run
from jkcs_server.cli.admin_snapshots import back_up
from jkcs_server.cli.offline import LIMITS, fail, lost_by_disk, opened, read_tree, time_text, tree_chunks
from jkcs_server.cli.render import show_json
from jkcs_server.cli.tls import with_tls
from jkcs_server.config import ConfigError, NodeConfig, show_address
from jkcs_server.server import first_configuration
from jkcs_server.tree import image
from jkcs_server.tree.commands import EXPIRE
from journal.addresses import URL_PREFIX
from journal.clock import wall_milliseconds
from journal.errors import JournalError, StorageError
from journal.machine import combined_digest
from journal.storage import rescue
from journal.storage.backup import Backup, BackupWriter, Origin
from journal.storage.disk import LOCK_NAME, FileDisk
from journal.storage.rescue import INDEX_JUMP, INDEX_JUMP_MAX
from journal.storage.snapshots import SnapshotStore, snapshot_name
from journal.storage.store import INCARNATION_BYTES, Identity
from journal.values import NodeId, Position, Term

PIECE_BYTES = 1 << 20
EXPIRIES_PER_ENTRY = 1000


@click.command()
@click.option("--from", "source", required=True, metavar="URL|DATA_DIR", help="A running cluster, or a stopped node.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3600), default=10.0, show_default=True, help="Seconds per request."
)
@click.option(
    "--patience", type=click.FloatRange(0.1), default=600.0, show_default=True, help="Seconds to wait for a snapshot."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@with_tls
def backup(source: str, file: Path, timeout: float, patience: float, as_json: bool) -> None:
    """Write the state of a cluster into FILE, and verify it.

    From a jkcs:// URL the cluster takes a snapshot now, and the one member that answers sends it; the cluster goes on
    meanwhile. From the directory of a stopped node everything in its log is taken in, too: writes at its very end
    may be ones that were never acknowledged.

    \b
    Examples:
      jkcs backup --from jkcs://10.0.0.1:2181 jkcs-monday.backup
      jkcs backup --from /var/lib/jkcs last-resort.backup

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server reachable.
    """
    if file.exists():
        fail("backup", StorageError(f"{file} exists already"), as_json=as_json)
    if source.startswith((URL_PREFIX, TLS_SCHEME)):
        made = run(source, timeout, as_json, lambda client: back_up(client, file, patience=patience, quiet=as_json))
        tell_backup(made, as_json=as_json)
        return
    directory = Path(source)
    if not directory.is_dir():
        raise click.BadParameter(f"{source} is neither a jkcs:// URL nor a directory", param_hint="--from")
    with opened("backup", directory, as_json=as_json) as disk:
        made = _copy_stopped(disk, file)
    tell_backup(made, as_json=as_json)


def tell_backup(made: Backup, *, as_json: bool) -> None:
    """What a backup is of."""
    with made:
        if as_json:
            show_json({"done": True, "file": str(made.path), **backup_document(made)})
        else:
            for line in describe_backup(made):
                click.echo(line)


def backup_document(made: Backup) -> dict[str, Any]:
    origin, position = made.origin, made.meta.position
    return {
        "cluster": origin.cluster,
        "node": origin.node,
        "taken_ms": origin.taken_ms,
        "index": position.index,
        "term": position.term,
        "size": made.meta.size,
        "digest": made.meta.digest.hex(),
    }


def describe_backup(made: Backup) -> Iterator[str]:
    origin, position = made.origin, made.meta.position
    yield f"{made.path}: cluster {origin.cluster}, from node {origin.node}, taken {time_text(origin.taken_ms)}"
    yield f"everything up to index {position.index}; {made.meta.size} bytes, verified"


def _copy_stopped(disk: FileDisk, file: Path) -> Backup:
    """A snapshot of all that a stopped node has, made in a directory of its own beside the file."""
    found = rescue.inspect(disk, LIMITS)
    if found.refusal is not None:
        raise StorageError(f"a node would not start on it: {found.refusal}")
    for line in lost_by_disk(found):
        click.echo(f"jkcs backup: {line}", err=True)
    cluster = found.identity.cluster
    machine, position = read_tree(disk, SnapshotStore(disk, rescue.cluster_digest(cluster), LIMITS))
    origin = Origin(cluster, found.identity.node, wall_milliseconds())
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{file.name}-", dir=file.absolute().parent))
    except OSError as error:
        raise StorageError(f"cannot write {file}: {(error.strerror or str(error)).lower()}") from error
    try:
        with contextlib.closing(FileDisk(scratch, sync=False)) as aside:
            store = SnapshotStore(aside, rescue.cluster_digest(cluster), LIMITS)
            writer = store.begin(position, found.configuration, combined_digest({0: machine}))
            for chunk in machine.snapshot():
                writer.add(b"\0" + chunk)
            meta = writer.finish()
            return copy_snapshot(aside, meta.size, file, origin, position)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def copy_snapshot(disk: FileDisk, size: int, file: Path, origin: Origin, position: Position) -> Backup:
    """The snapshot at `position` as a backup in `file`."""
    writer = BackupWriter(file, origin, position)
    try:
        for offset in range(0, size, PIECE_BYTES):
            writer.add(disk.read(snapshot_name(position), offset, PIECE_BYTES))
    except BaseException:
        writer.abort()
        raise
    return writer.finish(LIMITS)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("data_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--me", required=True, metavar="NAME", help="The node that will run on DATA_DIR.")
@click.option("--peers", required=True, metavar="MEMBERS", help="All members of the new cluster, as for jkcs serve.")
@click.option("--cluster", metavar="NAME", help="Name of the new cluster.  [that of the backup]")
@click.option(
    "--jump",
    type=click.IntRange(1, INDEX_JUMP_MAX),
    default=INDEX_JUMP,
    show_default=True,
    help="Indices left out, more than the old cluster used since the backup. The same for all members.",
)
@click.option("--dry-run", is_flag=True, help="Verify the file, say what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def restore(
    file: Path, data_dir: Path, me: str, peers: str, cluster: str | None, jump: int, dry_run: bool, as_json: bool
) -> None:
    """Make DATA_DIR, empty or missing, a member of a new cluster that begins where the backup FILE ends.

    The keys are those of the backup; its sessions, and with them all ephemeral keys, end at once. Writes
    acknowledged after the backup are lost, but their indices are never used again, so that fencing tokens go on
    growing.

    Restore the same file with the same options for every member, or at least for a majority of them, before any is
    started. The others may begin with empty directories.

    \b
    Examples:
      jkcs restore monday.backup ./data --me n1 --peers n1=127.0.0.1:2182
      jkcs restore monday.backup /var/lib/jkcs --me n1 --peers n1=10.0.0.1:2182,n2=10.0.0.2:2182,n3=10.0.0.3:2182

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    try:
        with Backup(file, LIMITS) as kept:
            config = _check_settings(data_dir, me, peers, cluster or kept.origin.cluster)
            commands = _expiries(kept)
            if not as_json:
                for line in (*describe_backup(kept), *_restoration(kept, config, commands, jump)):
                    click.echo(line)
            if dry_run:
                _check_empty(data_dir)
            else:
                _restore_into(config, kept, commands, jump)
            document = {"done": not dry_run, "backup": backup_document(kept), "node": me, "cluster": config.cluster}
    except JournalError as error:
        fail("restore", error, as_json=as_json)
    if as_json:
        show_json({**document, "members": list(config.peers), "sessions_ended": sum(count for _, count in commands)})
    elif dry_run:
        click.echo("nothing was changed")
    else:
        members = ",".join(f"{name}={show_address(address)}" for name, address in config.peers.items())
        where = f"--cluster {config.cluster} --data-dir {data_dir}"
        click.echo(f"done; start it with: jkcs serve --me {me} --peers {members} {where}")


def _check_settings(data_dir: Path, me: str, peers: str, cluster: str) -> NodeConfig:
    try:
        config = NodeConfig(data_dir, me, peers, cluster=cluster)
        config.check()
    except ConfigError as error:
        raise click.BadParameter(error.why, param_hint=f"--{error.field.replace('_', '-')}") from None
    return config


def _check_empty(data_dir: Path) -> None:
    """Raise StorageError for what `rescue.restore` would refuse, without making the directory."""
    found = [path.name for path in data_dir.iterdir() if path.name != LOCK_NAME] if data_dir.is_dir() else []
    if found:
        raise StorageError(f"the data directory is not empty: it has {min(found)}")


def _restoration(kept: Backup, config: NodeConfig, commands: list[tuple[bytes, int]], jump: int) -> Iterator[str]:
    index = kept.meta.position.index
    yield f"lost: whatever was acknowledged behind index {index}"
    yield f"sessions that end: {sum(count for _, count in commands)}"
    yield f"the new cluster: {config.cluster} of {', '.join(config.peers)}; indices go on behind {index + jump}"


def _expiries(kept: Backup) -> list[tuple[bytes, int]]:
    """Commands that end every session of the backup, in entries of the term that comes behind it."""
    _, sessions, _ = image.decode(tree_chunks(kept.chunks()))
    term: Term = rescue.restored_term(kept.meta.position)
    ends = [pack((EXPIRE, session.id, 0, 0, term)) for session in sessions.values()]
    starts = range(0, len(ends), EXPIRIES_PER_ENTRY)
    batches = [ends[start : start + EXPIRIES_PER_ENTRY] for start in starts]
    return [(b"".join(batch), len(batch)) for batch in batches]


def _restore_into(config: NodeConfig, kept: Backup, commands: list[tuple[bytes, int]], jump: int) -> None:
    configuration = first_configuration(config)
    identity = Identity(config.cluster, NodeId(config.me))
    incarnation = secrets.token_bytes(INCARNATION_BYTES)
    with contextlib.closing(FileDisk(config.data_dir)) as disk:
        rescue.restore(
            disk,
            LIMITS,
            identity,
            incarnation,
            configuration,
            kept.meta.position,
            kept.chunks(),
            commands,
            jump,
            kept.meta.state_digest,
        )
