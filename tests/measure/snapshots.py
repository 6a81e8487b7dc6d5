"""What a snapshot costs the loop that applies the log: `python -m tests.measure.snapshots [--keys 100000]`.

Prints, in milliseconds of one core: the pause when a snapshot begins, the longest and the median piece of work between
two chunks, and the whole; in microseconds: a write before and during it, the latter on keys that the snapshot
still holds. The values are of 100 bytes. On a busy machine the lowest of several runs counts.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from statistics import median
from time import process_time

import msgpack

from jkcs_client.protocol.messages import CREATE, SET
from jkcs_server.tree.acl import Acl
from jkcs_server.tree.commands import OPEN
from jkcs_server.tree.machine import TreeMachine
from journal.record import make_entry
from journal.values import EntryKind

BATCH = 64
DIRECTORIES = 200
WRITES = 20_000
VALUE = bytes(100)


class Nobody:
    """Hooks that tell nobody."""

    def on_event(self, kind: int, path: str, index: int, acl: Acl | None, parent_acl: Acl | None) -> None: ...

    def on_opened(self, password: bytes, session_id: int, index: int) -> None: ...

    def on_moved(self, session_id: int, nonce: bytes, index: int) -> None: ...

    def on_ended(self, session_id: int, index: int, expired: bool) -> None: ...


class Feed:
    """A machine, and commands for it in entries of `BATCH`, as a busy leader makes them."""

    def __init__(self) -> None:
        self.machine = TreeMachine(Nobody())
        self._serial = 0
        self._apply([(OPEN, 0, 0, 0, b"p" * 16, 10_000)])

    def write(self, count: int, make: Callable[[int], tuple[object, ...]]) -> float:
        """Apply `count` writes; returns the seconds it took."""
        seconds = 0.0
        for start in range(0, count, BATCH):
            commands: list[tuple[object, ...]] = []
            for number in range(start, min(count, start + BATCH)):
                self._serial += 1
                op, *arguments = make(number)
                commands.append((op, 1, self._serial, self._serial - 1, *arguments))
            seconds += self._apply(commands)
        return seconds

    def _apply(self, commands: list[tuple[object, ...]]) -> float:
        payload = b"".join(map(msgpack.packb, commands))
        first = self.machine.applied + 1
        entry = make_entry(first, 1, 1_700_000_000_000 + first, EntryKind.COMMANDS, payload, 0, count=len(commands))
        began = process_time()
        self.machine.apply(entry)
        return process_time() - began


def path(number: int) -> str:
    return f"/d{number % DIRECTORIES}/key-{number:07d}"


def set_key(keys: int) -> Callable[[int], tuple[object, ...]]:
    """Sets that go through all keys in an order that is not the snapshot's."""
    return lambda number: (SET, path(number * 7919 % keys), VALUE, -1)


def timed(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


def measure(keys: int) -> None:
    gc.disable()  # as in a server, nearly: there it is told to look rarely
    feed = Feed()
    feed.write(DIRECTORIES, lambda number: (CREATE, f"/d{number}", b"", 0))
    create = feed.write(keys, lambda number: (CREATE, path(number), VALUE, 0))
    machine = feed.machine
    for _ in range(3):
        began = process_time()
        chunks = machine.snapshot()
        pause = process_time() - began
        slices, size = [], 0
        while True:
            began = process_time()
            chunk = next(chunks, None)
            slices.append(process_time() - began)
            if chunk is None:
                break
            size += len(chunk)
        print(
            f"{keys} keys, {size / 1e6:.1f} MB: pause {pause * 1e3:.1f} ms, slices {len(slices)}, "
            f"median {median(slices) * 1e3:.2f} ms, longest {max(slices) * 1e3:.2f} ms, all {sum(slices) * 1e3:.0f} ms"
        )
    writes = min(WRITES, keys)
    before = feed.write(writes, set_key(keys))
    held = machine.snapshot()
    next(held)
    during = feed.write(writes, set_key(keys))
    held.close()
    image = list(machine.snapshot())
    feed.write(writes, lambda number: (SET, path(number), b"changed", -1))
    back = timed(lambda: machine.recover(image, machine.applied + 1, 0))
    print(
        f"create {create / keys * 1e6:.2f} us, set {before / writes * 1e6:.2f} us, "
        f"during a snapshot {during / writes * 1e6:.2f} us; going back {back * 1e3:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.snapshots", description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000, help="keys in the tree (default: %(default)s)")
    measure(parser.parse_args().keys)


if __name__ == "__main__":
    main()
