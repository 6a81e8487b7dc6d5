"""A disk that forgets what was not synced, and can fail, per simulated machine.

Every file has two images: what a reader sees now (cached) and what a power cut leaves for sure (durable).
What lies between is a list of writes and of changes to names; a crash keeps a random part of it, torn at
sectors. Implements `journal.storage.disk.Disk`; knows nothing of what is in the files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from journal.errors import DiskFailed, DiskFull
from tests.simulation.loop import Ended

SECTOR_BYTES = 512
CAPACITY_BYTES = 1 << 30
WRITE_BACK_RATE = 0.1
"""How often what nobody syncs has reached the disk by itself before the next such write."""


@dataclass(eq=False, slots=True)
class _File:
    """One file, independent of its name."""

    cached: bytearray
    durable: bytearray
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)
    """Writes since the last sync, oldest first. Invariant: durable + unsynced == cached."""
    size_durable: bool = False
    """Whether the reserved size would survive; without it a crash may leave the file empty."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A change of the directory: `name` now means `file` (None: nothing), and `old` nothing any more."""

    name: str
    file: _File | None
    old: str | None = None


OnDurable = Callable[[str, list[tuple[int, bytes]]], None]
OnOperation = Callable[[str, str], None]


class SimDisk:
    """The data directory of one simulated machine; it outlives the processes that use it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._name_changes: list[_Name] = []
        """Since the last `sync_names`, oldest first."""
        self.operations = 0
        """Changes and syncs so far; a crash point is a number in this count."""
        self.crash_at = -1
        """The change or sync before which the machine crashes; -1: none."""
        self.fail_next: DiskFailed | None = None
        """What the next write or sync raises."""
        self.full = False
        """There is no room: nothing can be reserved, and no file can grow. What is reserved can be written.
        Outlives the process and the power, like the files of whoever has filled the disk."""
        self.fail_sync = False
        """The next sync fails; some of what it should have made durable is, and the rest is lost."""
        self.fail_reads = 0
        """So many reads from here on fail."""
        self.on_before: OnOperation | None = None
        """Told of each change and sync before it happens, as (operation, file); may raise."""
        self.on_after: OnOperation | None = None
        """The same when it has happened."""
        self.on_durable: OnDurable | None = None
        """Told after each sync which writes of a file it made durable."""
        self.on_names: Callable[[], None] | None = None
        """Told after each sync of the names."""

    # What journal.storage.disk.Disk promises.

    def names(self) -> list[str]:
        return sorted(self._names)

    def size(self, name: str) -> int:
        return len(self._find(name).cached)

    def read(self, name: str, offset: int, size: int) -> bytes:
        if self.fail_reads:
            self.fail_reads -= 1
            raise DiskFailed(f"{name}: cannot read: input/output error")
        return bytes(self._find(name).cached[offset : offset + size])

    def create(self, name: str, size: int) -> None:
        self._change("create", name)
        if self.full and size:
            if self._names.pop(name, None) is not None:
                self._name_changes.append(_Name(name, None))
            raise DiskFull(f"{name}: cannot create: the disk is full")
        file = _File(bytearray(size), bytearray(size), size_durable=size == 0)
        self._names[name] = file
        self._name_changes.append(_Name(name, file))
        self._changed("create", name)

    def write(self, name: str, offset: int, buffers: Sequence[bytes]) -> None:
        self._write("write" if offset else "write0", name, offset, b"".join(buffers))

    def poke(self, name: str, offset: int, data: bytes) -> None:
        self._write("poke", name, offset, data)
        if self._chance.random() < WRITE_BACK_RATE:
            self.write_back(name)

    def sync(self, name: str) -> None:
        self._change("sync", name)
        self._maybe_fail(name)
        file = self._find(name)
        if self.fail_sync:
            self.fail_sync = False
            # As Linux does: the pages count as clean from here on, and no later sync brings them back (R6).
            self._tear(file)
            raise DiskFailed(f"{name}: cannot sync: input/output error")
        written, file.unsynced = file.unsynced, []
        for offset, data in written:
            _put(file.durable, offset, data)
        file.size_durable = True
        if self.on_durable is not None:
            self.on_durable(name, written)
        self._changed("sync", name)

    def rename(self, old: str, new: str) -> None:
        operation = "replace" if new in self._names else "rename"
        self._change(operation, old)
        file = self._find(old)
        del self._names[old]
        self._names[new] = file
        self._name_changes.append(_Name(new, file, old))
        self._changed(operation, old)

    def remove(self, name: str) -> None:
        self._change("remove", name)
        self._find(name)
        del self._names[name]
        self._name_changes.append(_Name(name, None))
        self._changed("remove", name)

    def sync_names(self) -> None:
        last = self._name_changes[-1] if self._name_changes else None
        about = "" if last is None else last.old or last.name
        self._change("names", about)
        self._maybe_fail("the directory")
        self._name_changes.clear()
        self._durable_names = dict(self._names)
        if self.on_names is not None:
            self.on_names()
        self._changed("names", about)

    def forget(self, name: str) -> None:
        """There is nothing between a reader and this disk."""

    def free_bytes(self) -> int:
        return 0 if self.full else CAPACITY_BYTES - sum(len(file.cached) for file in self._names.values())

    def total_bytes(self) -> int:
        return CAPACITY_BYTES

    def close(self) -> None:
        """Nothing is held open."""

    # What the simulator does to it.

    def lose_power(self, *, keep_names: bool = True) -> None:
        """Forget what was not synced, but for a random part of it; whoever comes next reads what is left.

        With `keep_names` False no change of a name survives that was not synced.
        """
        for change in self._surviving_changes() if keep_names else ():
            if change.old is not None and self._durable_names.get(change.old) is change.file:
                del self._durable_names[change.old]
            if change.file is None:
                self._durable_names.pop(change.name, None)
            else:
                self._durable_names[change.name] = change.file
        self._name_changes.clear()
        for name in sorted(self._durable_names):
            self._tear(self._durable_names[name])
        self._names = dict(self._durable_names)
        self._clear_faults()

    def keep_cache(self) -> None:
        """Only the process ended: the operating system still has everything that was written."""
        self._clear_faults()

    def calm(self) -> None:
        """No more faults."""
        self._clear_faults()
        self.fail_reads = 0
        self.full = False

    def look(self, name: str, offset: int, size: int) -> bytes:
        """`read` for those outside, whom no fault concerns."""
        return bytes(self._find(name).cached[offset : offset + size])

    def twin(self) -> SimDisk:
        """A copy, with the same chance before it, of which nobody is told and which has no faults."""
        chance = random.Random()
        chance.setstate(self._chance.getstate())
        twin = SimDisk(chance)
        copies: dict[_File, _File] = {}

        def copy(file: _File) -> _File:
            if file not in copies:
                copies[file] = _File(
                    bytearray(file.cached), bytearray(file.durable), list(file.unsynced), file.size_durable
                )
            return copies[file]

        twin._names = {name: copy(file) for name, file in self._names.items()}
        twin._durable_names = {name: copy(file) for name, file in self._durable_names.items()}
        twin._name_changes = [
            _Name(change.name, None if change.file is None else copy(change.file), change.old)
            for change in self._name_changes
        ]
        return twin

    def durable_image(self) -> FrozenDisk:
        """What a power cut would leave now, if it kept nothing that is not synced."""
        return FrozenDisk({name: bytes(file.durable) for name, file in self._durable_names.items()})

    def rot(self, name: str, chance: random.Random) -> bool:
        """Flip one bit of what is durable, where there is something. False when the file holds only zeros."""
        file = self._durable_names.get(name)
        end = 0 if file is None else len(file.durable.rstrip(b"\0"))
        if file is None or not end:
            return False
        at, bit = chance.randrange(end), 1 << chance.randrange(8)
        file.durable[at] ^= bit
        if file.cached is not file.durable and at < len(file.cached):
            file.cached[at] ^= bit
        return True

    def lose_tail(self, name: str, least: int, size: int) -> bool:
        """Lose up to `size` of the last bytes of a file, whoever promised to keep them; none of the first `least`.

        What was last written to other files is safe. False when there is nothing to lose.
        """
        file = self._durable_names.get(name)
        end = 0 if file is None else len(file.durable.rstrip(b"\0"))
        if file is None or end <= least:
            return False
        start = max(least, end - size)
        for image in (file.durable, file.cached):
            _put(image, start, bytes(min(end, len(image)) - start))
        return True

    def write_back(self, name: str) -> None:
        """What is only in the cache of a file reaches the disk by itself, as it does after some seconds."""
        file = self._names.get(name)
        if file is not None:
            for offset, data in file.unsynced:
                _put(file.durable, offset, data)
            file.unsynced.clear()
            file.size_durable = True

    # Inside.

    def _write(self, operation: str, name: str, offset: int, data: bytes) -> None:
        self._change(operation, name)
        self._maybe_fail(name)
        file = self._find(name)
        if len(file.cached) < offset + len(data):
            if self.full:
                raise DiskFull(f"{name}: cannot write: the disk is full")
            file.size_durable = False
        _put(file.cached, offset, data)
        file.unsynced.append((offset, data))
        self._changed(operation, name)

    def _find(self, name: str) -> _File:
        file = self._names.get(name)
        if file is None:
            raise FileNotFoundError(name)
        return file

    def _change(self, operation: str, name: str) -> None:
        if self.on_before is not None:
            self.on_before(operation, name)
        if self.operations == self.crash_at:
            self.crash_at = -1
            raise Ended
        self.operations += 1

    def _changed(self, operation: str, name: str) -> None:
        if self.on_after is not None:
            self.on_after(operation, name)

    def _maybe_fail(self, name: str) -> None:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise DiskFailed(f"{name}: {error}")

    def _clear_faults(self) -> None:
        self.crash_at = -1
        self.fail_next = None
        self.fail_sync = False

    def _surviving_changes(self) -> list[_Name]:
        """Most file systems keep a prefix of the changes to names; some keep any part of them."""
        changes = self._name_changes
        if self._chance.random() < 0.7:
            return changes[: self._chance.randint(0, len(changes))]
        return [change for change in changes if self._chance.random() < 0.5]

    def _tear(self, file: _File) -> None:
        """Keep, drop or tear each write that was not synced; sectors reach the disk whole, in any order."""
        chance = self._chance
        if not file.size_durable and chance.random() < 0.5:
            file.durable = bytearray()
            file.unsynced.clear()
        for offset, data in file.unsynced:
            fate = chance.random()
            if fate < 0.35:
                _put(file.durable, offset, data)
            elif fate < 0.7:
                for start, piece in _sectors(offset, data):
                    if chance.random() < 0.5:
                        _put(file.durable, start, piece)
        file.unsynced.clear()
        file.cached = bytearray(file.durable)
        file.size_durable = True


class FrozenDisk:
    """A copy of a data directory for checkers to read; the reading half of `journal.storage.disk.Disk`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return sorted(self._files)

    def size(self, name: str) -> int:
        return len(self._files[name])

    def read(self, name: str, offset: int, size: int) -> bytes:
        if name not in self._files:
            raise FileNotFoundError(name)
        return self._files[name][offset : offset + size]


def _put(image: bytearray, offset: int, data: bytes) -> None:
    """Write into an image; a gap behind its end reads as zeros."""
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    """The pieces of a write that a disk can lose one by one."""
    pieces = []
    at, end = offset, offset + len(data)
    while at < end:
        stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        pieces.append((at, data[at - offset : stop - offset]))
        at = stop
    return pieces
