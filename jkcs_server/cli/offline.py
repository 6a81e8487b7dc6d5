"""What the commands share that work on the data directory of a stopped node.

The directory is locked for as long as one of them looks at it, so a node that runs on it is noticed, and none can be
started meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from jkcs_server.cli.exits import FAILED
from jkcs_server.cli.render import show_json
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.machine import TreeMachine
from journal.errors import JournalError
from journal.limits import MIB, Limits
from journal.storage.disk import FileDisk
from journal.storage.rescue import Findings, read_behind
from journal.storage.snapshots import SnapshotStore
from journal.values import START, Position

LIMITS = Limits(record_bytes_max=1024 * MIB)
"""For reading: a node may have been told to take larger records than the default. No such record is ever made here."""


@contextmanager
def opened(command: str, directory: Path, *, as_json: bool) -> Iterator[FileDisk]:
    """The directory, locked. What goes wrong inside is one line to the operator and exit code 1."""
    try:
        disk = FileDisk(directory)
        try:
            yield disk
        finally:
            disk.close()
    except JournalError as error:
        fail(command, error, as_json=as_json)


def fail(command: str, error: Exception, *, as_json: bool) -> NoReturn:
    """Say why nothing was done, and end."""
    if as_json:
        show_json({"done": False, "error": str(error)})
    else:
        click.echo(f"jkcs {command}: {error}", err=True)
    sys.exit(FAILED)


def describe(found: Findings) -> Iterator[str]:
    """What is in a directory, for people."""
    members = found.configuration
    yield f"node {found.identity.node} of cluster {found.identity.cluster}, members {', '.join(members.members)}"
    yield f"term {found.hard_state.term}; log up to index {found.last.index} of term {found.last.term}"
    if found.last.stamp:
        yield f"newest entry of {time_text(found.last.stamp)}"
    newest = found.snapshots[0].position.index if found.snapshots else None
    yield f"newest snapshot at index {newest}" if newest is not None else "no snapshot"
    for name in found.damaged:
        yield f"damaged: {name}"
    if found.refusal is not None:
        yield f"a node would not start on it: {found.refusal}"
    yield from lost_by_disk(found)


def lost_by_disk(found: Findings) -> Iterator[str]:
    """What the node may have acknowledged and its disk does not have; nothing in most cases."""
    if found.acknowledged > found.last.index:
        yield f"lost by this disk: acknowledged entries from index {found.last.index + 1} to {found.acknowledged}"


def as_document(found: Findings) -> dict[str, Any]:
    """The same for JSON."""
    members = found.configuration
    return {
        "node": found.identity.node,
        "cluster": found.identity.cluster,
        "members": list(members.members),
        "term": found.hard_state.term,
        "last_index": found.last.index,
        "last_term": found.last.term,
        "last_time_ms": found.last.stamp,
        "acknowledged_index": found.acknowledged,
        "snapshots": [meta.position.index for meta in found.snapshots],
        "damaged_snapshots": list(found.damaged),
        "refusal": found.refusal,
    }


def time_text(milliseconds: int) -> str:
    """A stamp as a date, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class _NoHooks:
    """Nobody watches the tree of a stopped node."""

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None:
        """Nobody is told."""

    def on_opened(self, password: bytes, session_id: int, index: int) -> None:
        """Nobody is told."""

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None:
        """Nobody is told."""

    def on_ended(self, session_id: int, index: int, expired: bool) -> None:
        """Nobody is told."""


def read_tree(disk: FileDisk, snapshots: SnapshotStore) -> tuple[TreeMachine, Position]:
    """The key tree as the newest snapshot and all of the log behind it make it, and where the log ends.

    Raises StorageError and CorruptRecord, also when a machine of another kind lives in the directory.
    """
    machine = TreeMachine(_NoHooks())
    position = START
    metas = snapshots.metas()
    if metas:
        position = metas[0].position
        machine.restore(tree_chunks(snapshots.chunks(metas[0])))
    for entry in read_behind(disk, LIMITS, position):
        check_machine(entry.machine)
        machine.apply(entry)
        position = Position(entry.last, entry.term, entry.crc, entry.stamp)
    return machine, position


def tree_chunks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The key tree's own part of a snapshot's chunks, which begin with the number of their machine."""
    for chunk in chunks:
        check_machine(chunk[0])
        yield chunk[1:]


def check_machine(number: int) -> None:
    """Raise JournalError for what is not the key tree's."""
    if number:
        raise JournalError(f"it holds state machine {number}, and only the key tree, machine 0, is known here")
