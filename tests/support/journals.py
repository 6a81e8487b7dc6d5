"""A cluster of journals inside the test's own event loop: real files, sockets and threads, any free ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from journal import Journal, JournalConfig, Limits, StateMachine, Timing
from tests.support.cluster import DEFAULT_LIMITS, DEFAULT_TIMING, bound_socket


class Journals:
    """Members by number. A stopped one can be started again on its data, with a new machine."""

    def __init__(
        self,
        directory: Path,
        size: int,
        make: Callable[[], StateMachine],
        limits: Limits,
        timing: Timing,
        observers: tuple[str, ...],
    ) -> None:
        self.directory = directory
        self.make = make
        self.limits = limits
        self.timing = timing
        self.observers = observers
        self.members: dict[int, Journal] = {}
        self._sockets = [bound_socket() for _ in range(size)]
        self._ports = [sock.getsockname()[1] for sock in self._sockets]
        self.peers = ",".join(f"n{number}=127.0.0.1:{port}" for number, port in enumerate(self._ports))

    async def start(self, number: int) -> Journal:
        # The member closes its socket when it stops; the port is then bound anew.
        sock = self._sockets[number]
        if sock.fileno() < 0:
            sock = bound_socket(self._ports[number])
        name = f"n{number}"
        config = JournalConfig(
            self.directory / name,
            name,
            self.peers,
            limits=self.limits,
            timing=self.timing,
            observers=self.observers,
        )
        journal = Journal(config, self.make(), machine_factory=self.make, peer_socket=sock)
        await journal.start()
        self.members[number] = journal
        return journal

    async def stop(self, number: int) -> None:
        await self.members.pop(number).stop()

    async def leader(self) -> int:
        """Wait until one member leads and has applied all it has; returns its number."""
        found: list[int] = []

        def leads() -> bool:
            for number, journal in sorted(self.members.items()):
                status = journal.status()
                if status["role"] == "leader" and status["applied_index"] == status["last_index"] > 0:
                    found.append(number)
                    return True
            return False

        await until(leads, "one member leads")
        return found[0]

    async def close(self) -> None:
        for number in sorted(self.members):
            await self.stop(number)
        for sock in self._sockets:
            sock.close()


async def until(fact: Callable[[], bool], what: str) -> None:
    """Wait for a fact; fails by name when it does not come true."""
    try:
        async with asyncio.timeout(20):
            while not fact():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


@asynccontextmanager
async def running_journals(
    directory: Path,
    make: Callable[[], StateMachine],
    size: int = 3,
    limits: Limits = DEFAULT_LIMITS,
    timing: Timing = DEFAULT_TIMING,
    observers: tuple[str, ...] = (),
) -> AsyncIterator[Journals]:
    journals = Journals(directory, size, make, limits, timing, observers)
    try:
        for number in range(size):
            await journals.start(number)
        yield journals
    finally:
        await journals.close()
