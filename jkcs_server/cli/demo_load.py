"""The demo's writers, and the proof that what was acknowledged to them is there.

Every write has a key and a value of its own, so that a lost one and a wrong one can both be seen. Called by
`demo.py`, in its event loop.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal

from jkcs_client import Client, connect
from jkcs_client.protocol.errors import AmbiguousError, NoNode, RetryableError, SessionExpired

WRITERS = 8
READERS = 64
TOP = "/load"
PAUSE_AFTER_REFUSAL = 0.005
Read = Literal["linearizable", "local"]


class Load:
    """Writers that write until they are stopped, and remember every acknowledgement."""

    def __init__(self, url: str, writers: int = WRITERS) -> None:
        self._url = url
        self._writers = writers
        self.acknowledged: dict[str, bytes] = {}
        """Every write that was answered with success: these must never be lost."""
        self.times: list[float] = []
        """When each acknowledgement came; in order, because one clock and one loop made them."""
        self.unknown = 0
        """Writes whose outcome the client could not know: they may be there or not."""
        self.longest_wait = 0.0
        """Seconds from the first attempt at one write to its acknowledgement, at most."""
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.began = time.monotonic()
        self.ended = self.began

    async def start(self) -> None:
        """Make the writers' places in the tree and let them begin."""
        async with connect(self._url) as client:
            for number in range(self._writers):
                await client.create(f"{TOP}/w{number}", parents=True)
        self.began = time.monotonic()
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(self._writers)]

    async def stop(self) -> None:
        """Let each writer end the write it is at. Raises what ended a writer before its time."""
        self._stopping = True
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.ended = time.monotonic()
        for result in results:
            if result is not None:
                raise result

    def cancel(self) -> None:
        """End at once; what is under way is given up."""
        for task in self._tasks:
            task.cancel()

    @property
    def longest_gap(self) -> float:
        """Seconds without any acknowledgement, at most, between the start and the end."""
        times = [self.began, *self.times, self.ended]
        return max(after - before for before, after in pairwise(times))

    async def wait_for(self, count: int, timeout: float) -> None:
        """Wait until that many writes are acknowledged. Raises TimeoutError, or what ended a writer."""
        deadline = time.monotonic() + timeout
        while len(self.acknowledged) < count:
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.acknowledged)} of {count} writes acknowledged within {timeout:g} s")
            await asyncio.sleep(0.02)

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._stopping:
            try:
                async with connect(self._url) as client:
                    while not self._stopping:
                        await self._write_one(client, f"{TOP}/w{writer}/{number:07d}")
                        number += 1
            except SessionExpired:
                self.unknown += 1  # the write under way; the next one gets a key and a session of its own
                number += 1
            except RetryableError:  # no session could be opened; in a session `_write_one` tries again itself
                await asyncio.sleep(PAUSE_AFTER_REFUSAL)

    async def _write_one(self, client: Client, path: str) -> None:
        value = f"{path} {secrets.token_hex(16)}".encode()
        began = time.monotonic()
        while True:
            try:
                await client.create(path, value)
            except AmbiguousError:
                self.unknown += 1
                return
            except RetryableError:
                if self._stopping:
                    return
                await asyncio.sleep(PAUSE_AFTER_REFUSAL)
                continue
            now = time.monotonic()
            self.acknowledged[path] = value
            self.times.append(now)
            self.longest_wait = max(self.longest_wait, now - began)
            return


async def count_lost(
    url: str, expected: Mapping[str, bytes], read: Read, progress: Callable[[int], None] = lambda done: None
) -> int:
    """Read every key and count those that are missing or have another value."""
    lost = 0
    done = 0
    left = iter(expected.items())

    async def reader(client: Client) -> None:
        nonlocal lost, done
        for path, value in left:
            try:
                found, _ = await client.get(path, read=read)
            except NoNode:
                found = None
            lost += found != value
            done += 1
            if done % 100 == 0:
                progress(done)

    async with connect(url) as client:
        await asyncio.gather(*(reader(client) for _ in range(READERS)))
    return lost
