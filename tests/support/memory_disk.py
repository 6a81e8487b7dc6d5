"""A disk in memory that forgets what was not synced, for tests of everything that stands on one.

Each file has the bytes that a reader sees and the bytes that a power cut leaves; between them lie the writes
since its last sync. The same holds for the names. `crash` is the power cut. The end of a process alone
loses nothing: open the same disk again. `stop_at` ends the process before the change of that number.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from journal.errors import DiskFull

SECTOR_BYTES = 512


class Stopped(BaseException):
    """The process ended here. Not an Exception, so that nothing on the way catches it."""


class _File:
    def __init__(self, size: int) -> None:
        self.cached = bytearray(size)
        self.durable = bytearray()
        self.writes: list[tuple[int, bytes]] = []
        """Since the last sync, oldest first."""

    def sync(self) -> None:
        self.durable = bytearray(self.cached)
        self.writes.clear()


class MemoryDisk:
    """Implements `journal.storage.disk.Disk`."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._renames: list[tuple[str | None, str | None, _File]] = []
        """Changes of names since the last `sync_names`: old name, new name, file."""
        self.changes = 0
        """Changes and syncs so far."""
        self.stop_at: int | None = None
        """The change before which `error` is raised."""
        self.error: BaseException = Stopped()
        self.full = False
        """There is no room: nothing can be reserved, and no file can grow. What is reserved can be written."""

    def names(self) -> list[str]:
        return sorted(self._names)

    def size(self, name: str) -> int:
        return len(self._file(name).cached)

    def read(self, name: str, offset: int, size: int) -> bytes:
        return bytes(self._file(name).cached[offset : offset + size])

    def create(self, name: str, size: int) -> None:
        self._change()
        if self.full and size:
            self._names.pop(name, None)
            raise DiskFull(f"{name}: cannot create: the disk is full")
        file = _File(size)
        self._names[name] = file
        self._renames.append((None, name, file))

    def write(self, name: str, offset: int, buffers: Sequence[bytes]) -> None:
        self._change()
        file, data = self._file(name), b"".join(buffers)
        if self.full and offset + len(data) > len(file.cached):
            raise DiskFull(f"{name}: cannot write: the disk is full")
        _put(file.cached, offset, data)
        file.writes.append((offset, data))

    def sync(self, name: str) -> None:
        self._change()
        self._file(name).sync()

    def poke(self, name: str, offset: int, data: bytes) -> None:
        self.write(name, offset, [data])

    def rename(self, old: str, new: str) -> None:
        self._change()
        file = self._file(old)
        del self._names[old]
        self._names[new] = file
        self._renames.append((old, new, file))

    def remove(self, name: str) -> None:
        self._change()
        self._renames.append((name, None, self._file(name)))
        del self._names[name]

    def sync_names(self) -> None:
        self._change()
        self._renames.clear()
        self._durable_names = dict(self._names)

    def forget(self, name: str) -> None:
        """There is nothing between a reader and this disk."""

    def free_bytes(self) -> int:
        return 0 if self.full else 1 << 40

    def total_bytes(self) -> int:
        return 1 << 41

    def close(self) -> None:
        """Nothing is open."""

    def crash(self, chance: random.Random | None = None) -> None:
        """Cut the power. Without `chance` everything not synced is lost; with it, sectors and names at random."""
        for old, new, file in self._renames:
            if chance is None or chance.random() < 0.5:
                continue
            if old is not None and self._durable_names.get(old) is file:
                del self._durable_names[old]
            if new is not None:
                self._durable_names[new] = file
        self._renames.clear()
        self._names = dict(self._durable_names)
        for file in self._names.values():
            for offset, data in file.writes:
                for start in range(offset - offset % SECTOR_BYTES, offset + len(data), SECTOR_BYTES):
                    if chance is not None and chance.random() < 0.5:
                        piece = data[max(0, start - offset) : start + SECTOR_BYTES - offset]
                        _put(file.durable, max(start, offset), piece)
            file.writes.clear()
            file.cached = bytearray(file.durable)
        self.stop_at = None

    def copy(self) -> MemoryDisk:
        """Another disk with the same content, all of it durable."""
        other = MemoryDisk()
        for name, file in self._names.items():
            other.put(name, bytes(file.cached))
        return other

    def put(self, name: str, content: bytes) -> None:
        """Replace a file, durably, as an accident or an operator might."""
        file = _File(0)
        file.cached += content
        file.sync()
        self._names[name] = self._durable_names[name] = file

    def delete(self, name: str) -> None:
        """Take a file away, durably, as an accident or an operator might."""
        del self._names[name], self._durable_names[name]

    def _change(self) -> None:
        if self.changes == self.stop_at:
            raise self.error
        self.changes += 1

    def _file(self, name: str) -> _File:
        try:
            return self._names[name]
        except KeyError:
            raise FileNotFoundError(name) from None


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
