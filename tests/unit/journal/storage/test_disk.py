"""The real disk: locking, permissions, errors that name what is wrong."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from journal.errors import DiskFailed, DiskFull, StorageError
from journal.storage import disk as disk_module
from journal.storage.disk import OPEN_FILES_MAX, FileDisk

ROOT = Path(__file__).parents[4]


@pytest.fixture
def disk(tmp_path: Path):
    opened = FileDisk(tmp_path / "data")
    yield opened
    opened.close()


def test_what_is_written_is_read_back(disk: FileDisk) -> None:
    """Reserved space reads as zeros; a read at the end comes back short."""
    disk.create("a", 100)
    assert disk.size("a") == 100
    disk.write("a", 10, [b"one", b"", b"two"])
    disk.sync("a")
    assert disk.read("a", 8, 10) == b"\0\0onetwo\0\0"
    assert disk.read("a", 95, 50) == bytes(5)
    assert disk.read("a", 200, 5) == b""
    disk.write("a", 100, [b"more"])
    disk.sync("a")
    assert disk.size("a") == 104


def test_space_is_reserved_and_not_only_promised(disk: FileDisk) -> None:
    """R12: a full disk must be met when a segment is made, not in the middle of a save."""
    disk.create("a", 1 << 20)
    assert (disk.directory / "a").stat().st_blocks * 512 >= 1 << 20


def test_creating_a_file_again_empties_it(disk: FileDisk) -> None:
    """A leftover of an earlier attempt must not show through."""
    disk.create("a", 4)
    disk.write("a", 0, [b"old old old"])
    disk.create("a", 4)
    assert disk.read("a", 0, 99) == bytes(4)
    disk.write("a", 0, [b"new"])
    assert disk.read("a", 0, 99) == b"new\0"


def test_many_buffers_go_in_one_write(disk: FileDisk) -> None:
    """The kernel takes 1024 buffers at once; a batch may have more records."""
    disk.create("a", 0)
    disk.write("a", 0, [b"%d," % n for n in range(3000)])
    assert disk.read("a", 0, 1 << 20) == b"".join(b"%d," % n for n in range(3000))


def test_a_short_write_is_completed(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write less than it was given."""
    whole = os.pwritev
    monkeypatch.setattr(disk_module.os, "pwritev", lambda fd, buffers, at: whole(fd, [b"".join(buffers)[:4]], at))
    disk.create("a", 0)
    disk.write("a", 2, [b"abc", b"def", b"ghi"])
    assert disk.read("a", 0, 99) == b"\0\0abcdefghi"


def test_rename_replaces_and_writing_goes_on_under_the_new_name(disk: FileDisk) -> None:
    """A descriptor kept open must follow its file, and one to a file that is gone must not be written."""
    for name in ("old", "new"):
        disk.create(name, 0)
        disk.write(name, 0, [name.encode()])
    disk.rename("old", "new")
    disk.sync_names()
    disk.write("new", 3, [b"er"])
    assert disk.names() == ["new"]
    assert disk.read("new", 0, 99) == b"older"


def test_removed_files_are_gone(disk: FileDisk) -> None:
    """Reading one says so by name, for a reader on another thread; writing one is a failure of the disk."""
    disk.create("a", 0)
    disk.write("a", 0, [b"x"])
    disk.remove("a")
    with pytest.raises(FileNotFoundError):
        disk.read("a", 0, 1)
    with pytest.raises(DiskFailed, match="/a: cannot open: No such file"):
        disk.write("a", 0, [b"x"])


def test_few_files_stay_open(disk: FileDisk) -> None:
    """A log has many segments; descriptors are a limited good."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5 * OPEN_FILES_MAX):
        disk.create(str(number), 0)
        disk.write(str(number), 0, [b"x"])
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_FILES_MAX
    for number in range(5 * OPEN_FILES_MAX):
        assert disk.read(str(number), 0, 9) == b"x"


def test_a_file_in_use_is_not_closed_under_its_user(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers share the table: a number closed early may by then mean another file."""
    disk.create("slow", 0)
    disk.write("slow", 0, [b"x"])
    entered, leave = threading.Event(), threading.Event()
    synced: list[str] = []
    data_sync = os.fsync

    def slow_sync(fd: int) -> None:
        entered.set()
        leave.wait(10)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        data_sync(fd)

    monkeypatch.setattr(disk_module.os, "fsync", slow_sync)
    thread = threading.Thread(target=disk.sync, args=("slow",))
    thread.start()
    assert entered.wait(10)
    for number in range(2 * OPEN_FILES_MAX):
        disk.create(str(number), 0)
        disk.write(str(number), 0, [b"x"])
    leave.set()
    thread.join(10)
    assert synced == [str(disk.directory / "slow")]


def test_directory_and_files_are_private(disk: FileDisk) -> None:
    """They hold everybody's data."""
    disk.create("a", 1)
    assert disk.directory.stat().st_mode & 0o777 == 0o700
    assert (disk.directory / "a").stat().st_mode & 0o777 == 0o600


def test_a_second_process_is_told_who_has_the_directory(disk: FileDisk) -> None:
    """Two nodes on one log would destroy it."""
    code = (
        "import sys; from journal.storage.disk import FileDisk; from journal.errors import StorageError\n"
        "try: FileDisk(sys.argv[1])\n"
        "except StorageError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(disk.directory)]
    told = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert told.stdout.strip() == f"data directory {disk.directory} is in use by process {os.getpid()}", told.stderr


def test_a_second_opening_in_the_same_process_is_refused_and_closing_frees(tmp_path: Path) -> None:
    """An embedded node may be started twice by mistake; a stopped one may be started again."""
    first = FileDisk(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match="is in use by process"):
        FileDisk(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    first.close()
    FileDisk(tmp_path).close()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A wrong setting gets a clear answer."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: Not a directory"):
        FileDisk(tmp_path / "file")
    with pytest.raises(StorageError, match="Not a directory"):
        FileDisk(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    """A wrong owner gets a clear answer."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="Permission denied"):
            FileDisk(tmp_path / "data")
    finally:
        tmp_path.chmod(0o700)


def test_missing_parents_are_made(tmp_path: Path) -> None:
    """The first start of a node needs no preparation."""
    FileDisk(tmp_path / "a" / "b" / "c").close()
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_a_write_beyond_the_limit_fails_by_name(disk: FileDisk) -> None:
    """The world's refusal reaches the operator with the file and the reason."""
    disk.create("a", 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DiskFailed, match="/a: cannot write: File too large"):
            disk.write("a", 4096, [b"x"])
        with pytest.raises(DiskFailed, match="/b: cannot create: File too large"):
            disk.create("b", 8192)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_called_so(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R12: it is no failed disk; what could not be reserved leaves nothing behind."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    disk.create("b", 10)
    with monkeypatch.context() as patched:
        patched.setattr(disk_module.os, "posix_fallocate", full)
        patched.setattr(disk_module.os, "pwritev", full)
        with pytest.raises(DiskFull, match="/a: cannot create: the disk is full"):
            disk.create("a", 100)
        with pytest.raises(DiskFull, match="/b: cannot write: the disk is full"):
            disk.write("b", 0, [b"x"])
    assert disk.names() == ["b"]
    disk.write("b", 0, [b"x"])


def test_a_sync_that_meets_a_full_disk_has_failed_for_good(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: what was written before it may be gone, whatever the reason was."""

    def full(fd: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    disk.create("a", 1)
    monkeypatch.setattr(disk_module.os, "fsync", full)
    with pytest.raises(DiskFailed, match="/a: cannot sync: the disk is full"):
        disk.sync("a")


def test_a_directory_on_a_full_disk_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R12: a node that is started again must not need room to say that there is none."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    FileDisk(tmp_path).close()
    monkeypatch.setattr(disk_module.os, "pwrite", full)
    FileDisk(tmp_path).close()


def test_a_failed_sync_is_raised_and_not_tried_again(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: a second sync would succeed and mean nothing."""
    calls: list[int] = []

    def broken(fd: int) -> None:
        calls.append(fd)
        raise OSError(5, "Input/output error")

    disk.create("a", 1)
    monkeypatch.setattr(disk_module.os, "fsync", broken)
    with pytest.raises(DiskFailed, match="/a: cannot sync: Input/output error"):
        disk.sync("a")
    assert len(calls) == 1


def test_without_sync_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R15: whoever asks for no sync gets none."""

    def never(fd: int) -> None:
        raise AssertionError(fd)

    monkeypatch.setattr(disk_module.os, "fsync", never)
    monkeypatch.setattr(disk_module, "_data_sync", never)
    disk = FileDisk(tmp_path / "data", sync=False)
    disk.create("a", 1)
    disk.write("a", 0, [b"xy"])
    disk.sync("a")
    disk.sync_names()
    disk.close()


def test_names_are_flat(disk: FileDisk) -> None:
    """Nothing outside the directory can be named."""
    for name in ("../a", "a/b", "", ".", ".."):
        with pytest.raises(AssertionError):
            disk.read(name, 0, 1)


def test_free_space_is_told(disk: FileDisk) -> None:
    """The node turns read-only before the disk is full."""
    assert disk.free_bytes() > 0
