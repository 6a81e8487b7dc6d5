"""The snapshots of one data directory: written aside, verified, and only then given their names.

    header: magic 8s | version u32 | length u32 | fields (msgpack) | crc u32
    chunk:  length u32 | crc u32 | bytes            (at least one byte)
    end:    eight zero bytes
    footer: chunks u32 | bytes in them u64 | BLAKE2b-256 of everything before the footer | crc u32

The same bytes lie on every node that has the snapshot and travel between them. So one that was received in
part goes on from there whoever sends the rest, after a restart too: its name says which one it is (the start of
its digest), and the checksums of its chunks how much of it is right. Knows nothing of what the
chunks mean nor of the log; that the log is cut only behind a snapshot is seen to by `store.py`. Everything
that writes runs on the background worker's thread; `metas` and `read` may be called from any.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator

import msgpack
from crc32c import crc32c

from journal.errors import CorruptRecord, StorageError
from journal.limits import Limits
from journal.storage.disk import Disk
from journal.values import Configuration, Index, Position, SnapshotMeta, Term

VERSION = 2
MAGIC = b"JKCSSNAP"
HEADER_FIELDS_BYTES_MAX = 64 * 1024
READ_BYTES = 1 << 20
CHUNK_BYTES_MAX_MIN = 1 << 20
"""So large a machine may make its chunks, however small the records may be."""

_HEADER = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_CHUNK = struct.Struct("<II")
_FOOTER = struct.Struct("<IQ32s")
_END = bytes(_CHUNK.size)
FOOTER_BYTES = _FOOTER.size + _CRC.size
_RECEIVED = ".received"
_NAME = re.compile(r"snap-\d{20}-\d{20}")


def snapshot_name(position: Position) -> str:
    return f"snap-{position.index:020d}-{position.term:020d}"


def is_snapshot_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_temporary_name(name: str) -> bool:
    return is_snapshot_name(name.partition(".")[0]) and name.endswith((".new", _RECEIVED))


def received_name(meta: SnapshotMeta) -> str:
    """The file of a snapshot that is being received."""
    return f"{snapshot_name(meta.position)}.{meta.digest[:8].hex()}{_RECEIVED}"


class SnapshotStore:
    """Finds, reads, makes and removes snapshots."""

    def __init__(self, disk: Disk, cluster: bytes, limits: Limits) -> None:
        """Read the headers and footers of all snapshots, and the whole of the newest good one.

        Changes nothing on the disk; `repair` must follow. Raises StorageError for a snapshot of another
        cluster or version.
        """
        self._disk = disk
        self._cluster = cluster
        self._chunk_bytes_max = max(2 * limits.record_bytes_max, CHUNK_BYTES_MAX_MIN)
        self._metas: tuple[SnapshotMeta, ...] = ()
        """Newest first; header and footer are good. Replaced, not changed."""
        self._verified: set[str] = set()
        """Names of those whose every byte was checked since this store was opened."""
        self.damaged: list[str] = []
        """Files that are no snapshots any more. They stay until newer good ones push them out."""
        found = []
        for name in disk.names():
            if is_snapshot_name(name):
                try:
                    found.append(self._describe(name))
                except CorruptRecord:
                    self.damaged.append(name)
        found.sort(key=lambda meta: (meta.position.index, meta.position.term), reverse=True)
        self._metas = tuple(found)
        while self._metas and not self._is_good(self._metas[0]):
            self._drop(self._metas[0])

    def repair(self) -> None:
        """Remove what was being written when the process ended. Comes back after a crash, and is removed again.

        What was being received is kept, but for what is older than the newest snapshot.
        """
        newest = snapshot_name(self._metas[0].position) if self._metas else ""
        for name in self._disk.names():
            if is_temporary_name(name) and not (name.endswith(_RECEIVED) and name.partition(".")[0] > newest):
                self._disk.remove(name)

    def metas(self) -> list[SnapshotMeta]:
        """The good snapshots, newest first."""
        return list(self._metas)

    def begin(self, position: Position, configuration: Configuration, state_digest: int = 0) -> SnapshotWriter:
        """A new snapshot at `position`, written aside."""
        header = self._header(position, configuration, state_digest)
        return SnapshotWriter(self, self._disk, self._chunk_bytes_max, position, configuration, state_digest, header)

    def receive(self, meta: SnapshotMeta) -> SnapshotReceiver:
        """A snapshot that comes from a peer, written aside, or the rest of one. Touches no file yet."""
        return SnapshotReceiver(self, self._disk, meta)

    def read(self, meta: SnapshotMeta, offset: int, size: int) -> bytes:
        """Raw bytes of the file, for sending. Raises FileNotFoundError when the snapshot was pruned."""
        return self._disk.read(snapshot_name(meta.position), offset, size)

    def chunks(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """What the machine gave, chunk by chunk, each checked before it is handed out; the whole at the end.

        Raises CorruptRecord.
        """
        return self._walk(snapshot_name(meta.position), meta)

    def chunks_from_disk(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """`chunks`, read from the disk itself and not from what memory still holds of it. Raises FileNotFoundError."""
        self._disk.forget(snapshot_name(meta.position))
        return self._walk(snapshot_name(meta.position), meta)

    def distrust(self, meta: SnapshotMeta) -> None:
        """It has rotted: it no longer counts among the good ones. The last one stays, for want of a better."""
        if meta in self._metas and len(self._metas) > 1:
            self._verified.discard(snapshot_name(meta.position))
            self._drop(meta)

    def look_again(self, meta: SnapshotMeta) -> CorruptRecord | None:
        """Read every byte from the disk itself; what has rotted is distrusted. Raises FileNotFoundError."""
        try:
            for _ in self.chunks_from_disk(meta):
                pass
        except CorruptRecord as error:
            self.distrust(meta)
            return error
        return None

    def prune(self, keep: int) -> SnapshotMeta | None:
        """Remove all but the `keep` newest that are good to the last byte (R10). Returns the oldest kept."""
        assert keep > 0, keep
        number = 0
        while number < min(keep, len(self._metas)):
            if self._is_good(self._metas[number]):
                number += 1
            else:
                self._drop(self._metas[number])
        kept, old = self._metas[:keep], self._metas[keep:]
        self._metas = kept
        names = [snapshot_name(meta.position) for meta in old]
        if len(kept) == keep:
            names += [name for name in self.damaged if name < snapshot_name(kept[-1].position)]
            self.damaged = [name for name in self.damaged if name not in names]
        for name in names:
            self._verified.discard(name)
            self._disk.remove(name)
        if names:
            self._disk.sync_names()
        return kept[-1] if kept else None

    def read_checked(self, meta: SnapshotMeta, offset: int, size: int) -> bytes:
        """`read`, after the whole snapshot was verified once since this store was opened. Raises CorruptRecord too."""
        name = snapshot_name(meta.position)
        if name not in self._verified:
            for _ in self._walk(name, meta):
                pass
            self._verified.add(name)
        return self.read(meta, offset, size)

    def take_up(self, meta: SnapshotMeta) -> int:
        """How much of a snapshot earlier attempts to receive it have left, as whole chunks. For the receiver below.

        Makes its file when there is none. What is left of other snapshots is removed: only one is received.
        """
        file = received_name(meta)
        names = self._disk.names()
        for name in names:
            if is_temporary_name(name) and name.endswith(_RECEIVED) and name != file:
                self._disk.remove(name)
        if file not in names:
            self._disk.create(file, 0)
            return 0
        return min(self._sound_bytes(file), meta.size)

    def adopt(self, file: str, expected: SnapshotMeta) -> None:
        """Verify the complete file `file` and give it its name; durable on return. For the two classes below.

        Raises CorruptRecord when the bytes on the disk are not the snapshot that they should be.
        """
        if self._describe(file) != expected:
            raise CorruptRecord(f"{file}: not the snapshot at {expected.position.index} that it should be")
        for _ in self._walk(file, expected):
            pass
        name = snapshot_name(expected.position)
        self._disk.rename(file, name)
        self._disk.sync_names()
        self._verified.add(name)
        if name in self.damaged:
            self.damaged.remove(name)
        others = [other for other in self._metas if snapshot_name(other.position) != name]
        self._metas = tuple(sorted([*others, expected], key=lambda meta: snapshot_name(meta.position), reverse=True))

    def _is_good(self, meta: SnapshotMeta) -> bool:
        name = snapshot_name(meta.position)
        if name not in self._verified:
            try:
                for _ in self._walk(name, meta):
                    pass
            except CorruptRecord:
                return False
            self._verified.add(name)
        return True

    def _drop(self, meta: SnapshotMeta) -> None:
        self._metas = tuple(other for other in self._metas if other != meta)
        self.damaged.append(snapshot_name(meta.position))

    def _header(self, position: Position, configuration: Configuration, state_digest: int) -> bytes:
        fields = msgpack.packb(
            [
                self._cluster,
                position.index,
                position.term,
                position.crc,
                position.stamp,
                configuration.fields,
                state_digest,
            ]
        )
        assert len(fields) <= HEADER_FIELDS_BYTES_MAX, len(fields)
        header: bytes = _HEADER.pack(MAGIC, VERSION, len(fields)) + fields
        return header + _CRC.pack(crc32c(header))

    def _describe(self, name: str) -> SnapshotMeta:
        """Header and footer. Raises CorruptRecord, or StorageError for what is good but not for us."""
        size = self._disk.size(name)
        position, configuration, state_digest, _ = self._read_header(name)
        footer = self._disk.read(name, max(0, size - FOOTER_BYTES), FOOTER_BYTES)
        if len(footer) < FOOTER_BYTES or _CRC.unpack_from(footer, _FOOTER.size)[0] != crc32c(footer[: _FOOTER.size]):
            raise CorruptRecord(f"{name}: the snapshot's footer does not match its checksum")
        _, _, digest = _FOOTER.unpack_from(footer)
        base = name.partition(".")[0]
        if base != snapshot_name(position):
            raise CorruptRecord(f"{name}: holds the snapshot at {position.index}")
        return SnapshotMeta(position, configuration, size, digest, state_digest)

    def _read_header(self, name: str) -> tuple[Position, Configuration, int, bytes]:
        start = self._disk.read(name, 0, _HEADER.size)
        if len(start) < _HEADER.size or start[:8] != MAGIC:
            raise CorruptRecord(f"{name}: not a snapshot, or its header is damaged")
        _, version, length = _HEADER.unpack_from(start)
        if length > HEADER_FIELDS_BYTES_MAX:
            raise CorruptRecord(f"{name}: the snapshot's header claims {length} bytes")
        header = self._disk.read(name, 0, _HEADER.size + length + _CRC.size)
        covered = header[: -_CRC.size]
        if len(covered) < _HEADER.size + length or crc32c(covered) != _CRC.unpack(header[-_CRC.size :])[0]:
            raise CorruptRecord(f"{name}: the snapshot's header does not match its checksum")
        if version != VERSION:
            raise StorageError(f"{name}: snapshot format version {version}, this program knows version {VERSION}")
        owner, index, term, crc, stamp, members, state_digest = msgpack.unpackb(covered[_HEADER.size :])
        if owner != self._cluster:
            raise StorageError(f"{name}: belongs to another cluster")
        configuration = Configuration.from_fields(members)
        return Position(Index(index), Term(term), crc, stamp), configuration, state_digest, header

    def _sound_bytes(self, file: str) -> int:
        """Where the last whole chunk of an incomplete file ends. A power failure may have left anything behind it."""
        try:
            at = len(self._read_header(file)[3])
        except (CorruptRecord, StorageError):
            return 0
        while True:
            head = self._disk.read(file, at, _CHUNK.size)
            if len(head) < _CHUNK.size or head == _END:
                return at
            length, crc = _CHUNK.unpack(head)
            if length > self._chunk_bytes_max:
                return at
            chunk = self._disk.read(file, at + _CHUNK.size, length)
            if len(chunk) < length or crc32c(chunk) != crc:
                return at
            at += _CHUNK.size + length

    def _walk(self, name: str, meta: SnapshotMeta) -> Iterator[bytes]:
        """The checked chunks of a file. Raises CorruptRecord, at the latest behind the last one."""
        header = self._read_header(name)[3]
        whole = hashlib.blake2b(header, digest_size=32)
        body_end = meta.size - FOOTER_BYTES
        at, count, total = len(header), 0, 0
        window, base = b"", at
        while True:
            if at + _CHUNK.size > base + len(window):
                window, base = self._disk.read(name, at, min(READ_BYTES, max(0, body_end - at))), at
            if at + _CHUNK.size > base + len(window):
                raise CorruptRecord(f"{name}: the snapshot ends at byte {at} without its end mark")
            head = window[at - base : at - base + _CHUNK.size]
            length, crc = _CHUNK.unpack(head)
            whole.update(head)
            at += _CHUNK.size
            if head == _END:
                break
            if not length or length > body_end - at:
                raise CorruptRecord(f"{name}: chunk at byte {at} claims {length} bytes")
            if at + length > base + len(window):
                window, base = self._disk.read(name, at, max(length, min(READ_BYTES, body_end - at))), at
            chunk = window[at - base : at - base + length]
            if len(chunk) < length or crc32c(chunk) != crc:
                raise CorruptRecord(f"{name}: chunk at byte {at} does not match its checksum")
            whole.update(chunk)
            at += length
            count += 1
            total += length
            yield chunk
        if self._disk.read(name, at, FOOTER_BYTES + 1) != _footer(count, total, whole.digest()):
            raise CorruptRecord(f"{name}: the snapshot does not match its footer")
        if at != body_end or whole.digest() != meta.digest:
            raise CorruptRecord(f"{name}: the snapshot does not match its digest")


class SnapshotWriter:
    """A snapshot being made. Ends by `finish` or by `abort`; every method blocks."""

    def __init__(
        self,
        store: SnapshotStore,
        disk: Disk,
        chunk_bytes_max: int,
        position: Position,
        configuration: Configuration,
        state_digest: int,
        header: bytes,
    ) -> None:
        self._store = store
        self._disk = disk
        self._chunk_bytes_max = chunk_bytes_max
        self._position = position
        self._configuration = configuration
        self._state_digest = state_digest
        self._file = snapshot_name(position) + ".new"
        self._whole = hashlib.blake2b(digest_size=32)
        self._count = 0
        self._total = 0
        self._offset = 0
        disk.create(self._file, 0)
        self._write(header)

    def add(self, chunk: bytes) -> None:
        """One chunk, kept apart from the others. An empty one says nothing and is not kept."""
        assert len(chunk) <= self._chunk_bytes_max, len(chunk)
        if chunk:
            self._write(_CHUNK.pack(len(chunk), crc32c(chunk)), chunk)
            self._count += 1
            self._total += len(chunk)

    def finish(self) -> SnapshotMeta:
        """Make it durable, read it back, verify it and give it its name."""
        self._write(_END)
        digest = self._whole.digest()
        self._disk.write(self._file, self._offset, [_footer(self._count, self._total, digest)])
        self._disk.sync(self._file)
        size = self._offset + FOOTER_BYTES
        meta = SnapshotMeta(self._position, self._configuration, size, digest, self._state_digest)
        self._store.adopt(self._file, meta)
        return meta

    def abort(self) -> None:
        self._disk.remove(self._file)

    def _write(self, *buffers: bytes) -> None:
        for buffer in buffers:
            self._whole.update(buffer)
        self._disk.write(self._file, self._offset, buffers)
        self._offset += sum(map(len, buffers))


class SnapshotReceiver:
    """A snapshot arriving from a peer. Ends by `finish` or by `abort`, or is left lying to be taken up; every method
    blocks."""

    def __init__(self, store: SnapshotStore, disk: Disk, meta: SnapshotMeta) -> None:
        self._store = store
        self._disk = disk
        self._meta = meta
        self._file = received_name(meta)
        self._opened = False
        self._made = False
        """The file is there, and ours to remove."""
        self.offset = 0
        """Bytes here, in order. Invariant: offset <= the snapshot's size."""

    def open(self) -> None:
        """Begin where an earlier attempt has ended, unless begun already."""
        if not self._opened:
            self._opened = self._made = True
            self.offset = self._store.take_up(self._meta)

    def write(self, offset: int, data: bytes) -> None:
        """The next piece. One that does not start at `offset` came twice, or after a loss, and is left out.

        Raises CorruptRecord for more bytes than the snapshot has.
        """
        self.open()
        if offset != self.offset or not self._made:
            return
        if offset + len(data) > self._meta.size:
            raise CorruptRecord(f"snapshot {self._meta.position.index} is longer than its {self._meta.size} bytes")
        self._disk.write(self._file, offset, [data])
        self.offset += len(data)

    def finish(self) -> SnapshotMeta:
        """Make it durable, verify every byte and give it its name. What is not right is removed.

        Raises CorruptRecord when it is incomplete or not what was announced.
        """
        if self.offset != self._meta.size:
            self.abort()
            raise CorruptRecord(f"snapshot {self._meta.position.index}: {self.offset} of {self._meta.size} bytes")
        self._disk.sync(self._file)
        try:
            self._store.adopt(self._file, self._meta)
        except (CorruptRecord, StorageError):
            self.abort()
            raise
        self._made = False  # the file has its name now, and is not ours to remove
        return self._meta

    def abort(self) -> None:
        if self._made:
            self._made = False
            self._disk.remove(self._file)


def _footer(count: int, total: int, digest: bytes) -> bytes:
    fields = _FOOTER.pack(count, total, digest)
    return fields + _CRC.pack(crc32c(fields))
