"""A backup: one snapshot in one file that can be kept anywhere and verified on its own.

    magic 8s | version u32 | length u32 | fields (msgpack) | crc u32 | the snapshot's file, byte by byte
    fields: [cluster, node, taken at, in milliseconds since 1970]

Knows nothing of what the snapshot means, nor where its bytes come from. Called by the command line.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgpack
from crc32c import crc32c

from journal.errors import StorageError
from journal.limits import Limits
from journal.storage.snapshots import SnapshotStore, snapshot_name
from journal.values import Position, SnapshotMeta

MAGIC = b"JKCSBKUP"
VERSION = 1
FIELDS_BYTES_MAX = 4096

_HEADER = struct.Struct("<8sII")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backup comes from."""

    cluster: str
    node: str
    taken_ms: int


class BackupWriter:
    """A backup being made beside its name. Ends by `finish` or by `abort`."""

    def __init__(self, path: Path, origin: Origin, position: Position) -> None:
        """`position` is that of the snapshot whose bytes will follow. Raises StorageError when the file exists."""
        if path.exists():
            raise StorageError(f"{path} exists already")
        self._path = path
        self._aside = path.with_name(path.name + ".new")
        self._position = position
        fields = msgpack.packb([origin.cluster, origin.node, origin.taken_ms])
        header: bytes = _HEADER.pack(MAGIC, VERSION, len(fields)) + fields
        with _named(self._aside, "write"):
            self._file = os.fdopen(
                os.open(self._aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
            )
        self.add(header + _CRC.pack(crc32c(header)))

    def add(self, piece: bytes) -> None:
        """The next bytes of the snapshot's file."""
        with _named(self._aside, "write"):
            self._file.write(piece)

    def finish(self, limits: Limits) -> Backup:
        """Make it durable, verify every byte and give it its name. Raises StorageError, and then nothing is left."""
        try:
            with _named(self._aside, "write"):
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            backup = Backup(self._aside, limits)
            found = backup.meta.position
            if (found.index, found.term) != (self._position.index, self._position.term):
                raise StorageError(f"{self._aside}: holds the snapshot at {found.index} of term {found.term}")
            backup.close()
            with _named(self._path, "write"):
                self._aside.rename(self._path)
                directory = os.open(self._path.absolute().parent, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
        except BaseException:
            self.abort()
            raise
        return Backup(self._path, limits)

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._aside.unlink(missing_ok=True)


class Backup:
    """A backup that is there, verified to its last byte. To be closed."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Raises StorageError when the file cannot be read, is no backup, or is damaged."""
        self.path = path
        with _named(path, "read"):
            file = path.open("rb")
        try:
            with _named(path, "read"):
                self.origin, start = _read_header(path, file)
            view = _SnapshotFile(path, file, start)
            cluster = hashlib.blake2b(self.origin.cluster.encode(), digest_size=8).digest()
            self._snapshots = SnapshotStore(view, cluster, limits)
            metas = self._snapshots.metas()
            if not metas:
                raise StorageError(f"{path}: the snapshot in this backup is damaged or incomplete")
        except BaseException:
            file.close()
            raise
        self._file = file
        self.meta: SnapshotMeta = metas[0]

    def chunks(self) -> Iterator[bytes]:
        """What the machines gave, each chunk checked again. Raises CorruptRecord."""
        return self._snapshots.chunks(self.meta)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Backup:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _SnapshotFile:
    """The part of a backup that is a snapshot, as a disk that has this one file and is only read."""

    def __init__(self, path: Path, file: BinaryIO, start: int) -> None:
        self._file = file
        self._start = start
        self._end = path.stat().st_size
        self._name = self._find_name()

    def _find_name(self) -> str:
        """The name that the snapshot had: its header says where it ends, and its reader checks the one by the other."""
        head = self._pread(0, _HEADER.size)
        if len(head) == _HEADER.size:
            length = min(_HEADER.unpack(head)[2], 64 * 1024)
            with contextlib.suppress(ValueError, TypeError, IndexError, msgpack.UnpackException):
                fields: Any = msgpack.unpackb(self._pread(_HEADER.size, length))
                return snapshot_name(Position(fields[1], fields[2]))
        return snapshot_name(Position())

    def _pread(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, self._start + offset)

    def names(self) -> list[str]:
        return [self._name]

    def size(self, name: str) -> int:
        return self._end - self._start

    def read(self, name: str, offset: int, size: int) -> bytes:
        data = self._pread(offset, size)
        while len(data) < size:
            more = self._pread(offset + len(data), size - len(data))
            if not more:
                break
            data += more
        return data

    def create(self, name: str, size: int) -> None:
        _only_read()

    def write(self, name: str, offset: int, buffers: Sequence[bytes]) -> None:
        _only_read()

    def sync(self, name: str) -> None:
        _only_read()

    def poke(self, name: str, offset: int, data: bytes) -> None:
        _only_read()

    def rename(self, old: str, new: str) -> None:
        _only_read()

    def remove(self, name: str) -> None:
        _only_read()

    def sync_names(self) -> None:
        _only_read()

    def forget(self, name: str) -> None:
        """Every read comes from the file."""

    def free_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return self._end

    def close(self) -> None:
        """The file is the backup's to close."""


def _only_read() -> NoReturn:
    raise AssertionError("a backup is only read")


def _read_header(path: Path, file: BinaryIO) -> tuple[Origin, int]:
    """Where the backup comes from, and where its snapshot begins."""
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[: len(MAGIC)] != MAGIC:
        raise StorageError(f"{path} is not a backup")
    _, version, length = _HEADER.unpack(head)
    if length > FIELDS_BYTES_MAX:
        raise StorageError(f"{path}: the backup's header claims {length} bytes")
    rest = file.read(length + _CRC.size)
    fields = rest[:length]
    if len(rest) < length + _CRC.size or _CRC.unpack(rest[length:])[0] != crc32c(head + fields):
        raise StorageError(f"{path}: the backup's header does not match its checksum")
    if version != VERSION:
        raise StorageError(f"{path}: backup format version {version}, this program knows version {VERSION}")
    cluster, node, taken_ms = msgpack.unpackb(fields)
    return Origin(cluster, node, taken_ms), _HEADER.size + length + _CRC.size


@contextlib.contextmanager
def _named(path: Path, verb: str) -> Iterator[None]:
    """Turn the system's refusals into ones that name the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {verb} {path}: {(error.strerror or str(error)).lower()}") from error
