"""The snapshots of this server, listed and handed out in pieces to administrators.

Knows the journal's snapshots as files that are numbered by their index; what is in them is none of its business.
Called through `admin.py`; a piece is read on the worker that snapshots have to themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jkcs_client.protocol.errors import OK, BadArguments, Compacted
from journal.replica import Replica
from journal.values import SnapshotMeta

Done = Callable[[int, Any], None]
Read = Callable[[], bytes | None]
Submit = Callable[[Read, Callable[[bytes | None, BaseException | None], None]], None]
"""Runs a reading on another thread, and tells what came of it on this one."""


class SnapshotShelf:
    """Answers `list_snapshots` and `download_snapshot`."""

    def __init__(self, replica: Replica, submit: Submit, chunk_bytes: int) -> None:
        """`chunk_bytes` is the size of a piece."""
        self._replica = replica
        self._snapshots = replica.store.snapshots
        self._submit = submit
        self._chunk_bytes = chunk_bytes

    def list(self, arguments: Mapping[str, Any], done: Done) -> None:
        """Newest first."""
        done(OK, {"node": self._replica.me, "snapshots": [as_map(meta) for meta in self._snapshots.metas()]})

    def download(self, arguments: Mapping[str, Any], done: Done) -> None:
        """The piece of a snapshot's file at an offset; empty behind its end."""
        index, offset = arguments["index"], arguments["offset"]
        meta = next((meta for meta in self._snapshots.metas() if meta.position.index == index), None)
        if meta is None:
            done(Compacted.code, f"no snapshot {index} on {self._replica.me}")
        elif not 0 <= offset <= meta.size:
            done(BadArguments.code, f"offset {offset} of a snapshot of {meta.size} bytes")
        else:
            self._read(meta, offset, done)

    def _read(self, meta: SnapshotMeta, offset: int, done: Done) -> None:
        def job() -> bytes | None:
            try:
                return self._snapshots.read(meta, offset, self._chunk_bytes)
            except FileNotFoundError:
                return None

        def told(data: bytes | None, error: BaseException | None) -> None:
            if data is not None:
                done(OK, {**as_map(meta), "offset": offset, "data": data})
            else:
                why = "is not kept any more" if error is None else f"cannot be read: {error}"
                done(Compacted.code, f"snapshot {meta.position.index} {why}")

        self._submit(job, told)


def as_map(meta: SnapshotMeta) -> dict[str, Any]:
    """What is told of a snapshot."""
    position = meta.position
    return {
        "index": position.index,
        "term": position.term,
        "time_ms": position.stamp,
        "size": meta.size,
        "digest": meta.digest,
    }
