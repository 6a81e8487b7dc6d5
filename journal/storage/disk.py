"""The disk seam: one data directory of flat files, and the only code that touches one.

Knows nothing of what is in the files. Everything under `journal/storage` reaches its files through the
`Disk` protocol, so that tests and the simulator can bring a disk that forgets, tears and fails.

An error of a write or of a sync is never retried: the kernel marks the pages clean all the same, and a
second sync would report a success that did not happen (R6). It is raised as DiskFailed and the node stops.
The one exception is a disk that is full when something is reserved or written: nothing was promised yet, so
that is DiskFull, and the caller may wait for room (R12). A sync that meets a full disk has failed like any other.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from journal.errors import DiskFailed, DiskFull, StorageError

LOCK_NAME = "lock"
OPEN_FILES_MAX = 8
BUFFERS_MAX = 512
"""Buffers handed to one system call; the kernel's own limit is 1024."""

# macOS has no fdatasync; a full fsync promises more.
_data_sync = getattr(os, "fdatasync", os.fsync)


class Disk(Protocol):
    """Flat files in one directory. A change is durable only after the sync that belongs to it.

    Each name is written by one thread at a time; `read` may come from any thread at any moment.
    All raise DiskFailed when the disk does not do as it is told.
    """

    def names(self) -> list[str]:
        """All files, sorted."""

    def size(self, name: str) -> int: ...

    def read(self, name: str, offset: int, size: int) -> bytes:
        """What is there; less than `size` at the end of the file. Raises FileNotFoundError."""

    def create(self, name: str, size: int) -> None:
        """A file whose `size` bytes are reserved and read as zeros; one of that name is replaced.

        Raises DiskFull; then there is no file of that name.
        """

    def write(self, name: str, offset: int, buffers: Sequence[bytes]) -> None:
        """Write the buffers behind each other, all of them, to a file that exists.

        Raises DiskFull; then any part of them may have been written. Within reserved space it does not
        happen, but on a file system that copies on write.
        """

    def sync(self, name: str) -> None:
        """Everything written to the file so far is durable on return; its name may still be lost."""

    def poke(self, name: str, offset: int, data: bytes) -> None:
        """`write` of a few bytes within the file's size, without a system call where that is possible."""

    def rename(self, old: str, new: str) -> None:
        """Atomic; a file called `new` is replaced."""

    def remove(self, name: str) -> None: ...

    def sync_names(self) -> None:
        """Every create, rename and remove so far is durable on return."""

    def forget(self, name: str) -> None:
        """Let the next reads of a file come from the disk, not from memory, as far as that can be had."""

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int:
        """What the whole file system has."""

    def close(self) -> None: ...


class _OpenFile:
    """A descriptor that several threads may use; it is closed when nobody does."""

    __slots__ = ("fd", "grown", "retired", "size", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.grown = True
        """The size changed since the last sync, perhaps before we opened it."""
        self.users = 0
        self.retired = False
        """No longer in the table. Invariant: the descriptor is open while users > 0 or not retired."""


class FileDisk:
    """The real thing, locked against every other process for as long as it is open."""

    def __init__(self, directory: str | Path, *, sync: bool = True) -> None:
        """Open the directory, making it if it is missing.

        With `sync` False nothing is ever synced: a power cut may take what was acknowledged.
        Raises StorageError when the directory cannot be used or another process has it.
        """
        self.directory = Path(directory)
        self._sync = sync
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        """Files open for writing, least recently used first."""
        self._table = threading.Lock()
        """Guards `_files` and every `users` and `retired`."""
        self._maps: dict[str, mmap.mmap] = {}
        """Files that are poked. Each by one thread; a file that is replaced loses its map first."""
        try:
            with ExitStack() as undo:
                self._make_directory()
                self._directory_fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.callback(os.close, self._directory_fd)
                self._lock_fd = self._take_lock()
                undo.callback(os.close, self._lock_fd)
                self._make_private()
                self._forget_cache()
                undo.pop_all()
        except OSError as error:
            where = error.filename or self.directory
            raise StorageError(f"data directory {self.directory}: cannot use {where}: {error.strerror}") from error

    def names(self) -> list[str]:
        with os.scandir(self.directory) as found:
            return sorted(entry.name for entry in found if entry.is_file() and entry.name != LOCK_NAME)

    def size(self, name: str) -> int:
        return self._path(name).stat().st_size

    def read(self, name: str, offset: int, size: int) -> bytes:
        # A descriptor of its own: reads are rare, and a cached one could be closed under another thread.
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(fd, size, offset)
                while len(data) < size:
                    more = os.pread(fd, size - len(data), offset + len(data))
                    if not more:
                        break
                    data += more
                return data
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._failed(name, "read", error) from error

    def create(self, name: str, size: int) -> None:
        with self._table:
            self._retire(name)
        try:
            fd = os.open(self._path(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if size:
                    _reserve(fd, size)
            finally:
                os.close(fd)
        except OSError as error:
            if _is_full(error):
                # A part may have been reserved: give it back.
                self._path(name).unlink(missing_ok=True)
                raise self._full(name, "create") from error
            raise self._failed(name, "create", error) from error

    def write(self, name: str, offset: int, buffers: Sequence[bytes]) -> None:
        file = self._borrow(name)
        try:
            end = offset + _write_all(file.fd, offset, buffers)
            if end > file.size:
                file.size = end
                file.grown = True
        except OSError as error:
            file.grown = True
            if _is_full(error):
                raise self._full(name, "write") from error
            raise self._failed(name, "write", error) from error
        finally:
            self._give_back(file)

    def sync(self, name: str) -> None:
        if not self._sync:
            return
        file = self._borrow(name)
        try:
            if file.grown:
                os.fsync(file.fd)
                file.grown = False
            else:
                _data_sync(file.fd)
        except OSError as error:
            raise self._failed(name, "sync", error) from error
        finally:
            self._give_back(file)

    def poke(self, name: str, offset: int, data: bytes) -> None:
        mapped = self._maps.get(name)
        if mapped is None:
            try:
                fd = os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC)
                try:
                    mapped = self._maps[name] = mmap.mmap(fd, 0)
                finally:
                    os.close(fd)
            except (OSError, ValueError) as error:
                raise self._failed(name, "map", error) from error
        assert offset + len(data) <= len(mapped), (name, offset, len(data), len(mapped))
        mapped[offset : offset + len(data)] = data

    def rename(self, old: str, new: str) -> None:
        try:
            self._path(old).rename(self._path(new))
        except OSError as error:
            raise self._failed(old, f"rename to {new}", error) from error
        with self._table:
            self._retire(new)
            file = self._files.pop(old, None)
            if file is not None:
                self._files[new] = file

    def remove(self, name: str) -> None:
        with self._table:
            self._retire(name)
        try:
            self._path(name).unlink()
        except OSError as error:
            raise self._failed(name, "remove", error) from error

    def sync_names(self) -> None:
        if not self._sync:
            return
        try:
            os.fsync(self._directory_fd)
        except OSError as error:
            raise self._failed(".", "sync", error) from error

    def forget(self, name: str) -> None:
        if hasattr(os, "posix_fadvise"):
            with suppress(FileNotFoundError):
                _forget(self._path(name))

    def free_bytes(self) -> int:
        state = os.fstatvfs(self._directory_fd)
        return state.f_bavail * state.f_frsize

    def total_bytes(self) -> int:
        state = os.fstatvfs(self._directory_fd)
        return state.f_blocks * state.f_frsize

    def close(self) -> None:
        """Release the lock. The workers that use this disk must be closed first."""
        with self._table:
            for name in [*self._files, *self._maps]:
                self._retire(name)
        os.close(self._directory_fd)
        os.close(self._lock_fd)

    def _make_directory(self) -> None:
        missing = []
        path = self.directory.absolute()
        while not path.exists():
            missing.append(path)
            path = path.parent
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            # A directory whose name is lost in a power cut takes everything in it along.
            parent = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if self._sync:
                    os.fsync(parent)
            finally:
                os.close(parent)

    def _take_lock(self) -> int:
        fd = os.open(self._path(LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StorageError(f"data directory {self.directory} is in use by process {holder}") from None
        os.ftruncate(fd, 0)
        # For the message above, no more: a node must be able to start on a full disk.
        with suppress(OSError):
            os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        return fd

    def _make_private(self) -> None:
        """Files that were copied here may have other modes than those that are made here; they hold every value."""
        for name in [*self.names(), LOCK_NAME]:
            path = self._path(name)
            if path.stat().st_mode & 0o077:
                # Somebody else's files are his to change.
                with suppress(PermissionError):
                    path.chmod(0o600)

    def _forget_cache(self) -> None:
        # After a failed sync the page cache may hold what the disk does not (R6): read the disk itself.
        # Dirty pages stay, they are not lost; whoever believes them must sync them first.
        if hasattr(os, "posix_fadvise"):
            for name in self.names():
                _forget(self._path(name))

    def _borrow(self, name: str) -> _OpenFile:
        with self._table:
            file = self._files.get(name)
            if file is None:
                try:
                    file = _OpenFile(os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC))
                except OSError as error:
                    raise self._failed(name, "open", error) from error
                self._files[name] = file
                self._evict()
            else:
                self._files.move_to_end(name)
            file.users += 1
            return file

    def _give_back(self, file: _OpenFile) -> None:
        with self._table:
            file.users -= 1
            if file.retired and not file.users:
                os.close(file.fd)

    def _evict(self) -> None:
        for name in list(self._files)[:-1]:
            if len(self._files) <= OPEN_FILES_MAX:
                return
            if not self._files[name].users:
                self._retire(name)

    def _retire(self, name: str) -> None:
        """Take the file out of the table. The caller holds the table's lock."""
        mapped = self._maps.pop(name, None)
        if mapped is not None:
            mapped.close()
        file = self._files.pop(name, None)
        if file is not None:
            file.retired = True
            if not file.users:
                os.close(file.fd)

    def _path(self, name: str) -> Path:
        assert "/" not in name and name not in ("", ".", ".."), name
        return self.directory / name

    def _failed(self, name: str, verb: str, error: OSError | ValueError) -> DiskFailed:
        reason = str(error)
        if isinstance(error, OSError):
            reason = "the disk is full" if _is_full(error) else error.strerror or reason
        return DiskFailed(f"{self.directory / name}: cannot {verb}: {reason}")

    def _full(self, name: str, verb: str) -> DiskFull:
        return DiskFull(f"{self.directory / name}: cannot {verb}: the disk is full")


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _forget(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def _reserve(fd: int, size: int) -> None:
    """Give the file its blocks now: a write into them later cannot meet a full disk (R12)."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    block = bytes(1 << 20)
    for offset in range(0, size, len(block)):
        _write_all(fd, offset, [block[: size - offset]])


def _write_all(fd: int, offset: int, buffers: Sequence[bytes]) -> int:
    """Write everything; returns how many bytes that was."""
    if len(buffers) > BUFFERS_MAX:
        buffers = [b"".join(buffers)]
    total = sum(map(len, buffers))
    done = os.pwritev(fd, buffers, offset)
    if done < total:
        rest = memoryview(b"".join(buffers))
        while done < total:
            # A short write is no error yet; the next one names the reason if there is one.
            written = os.pwrite(fd, rest[done:], offset + done)
            if not written:
                raise OSError(errno.EIO, "write made no progress")
            done += written
    return total
