"""Clients that watch: everything below a key, with breaks after which they go on, and single keys.

Beside the watch the same session reads, and whatever it is shown must have been announced before. Called by the
workload.
"""

from __future__ import annotations

import anyio

from jkcs_client.protocol.errors import Compacted, NoNode, RetryableError
from tests.simulation.actors import GONE, Actor, Call
from tests.simulation.checkers.rights import identity
from tests.simulation.checkers.watches import WatchLog, check_nothing_missed, check_one_shot
from tests.simulation.roles_keys import REGISTERS

EVENT_SECONDS = 0.001
"""How long an event that was delivered may take to reach the task that waits for it."""
ONE_SHOT_SECONDS = 2.0


class WatchUser(Actor):
    """One recursive watch, and reads beside it."""

    TOPS: tuple[str, ...] = ("/reg", "/", "/eph", "/multi", "/dir-a")

    def actions(self) -> list[Call]:
        return [self._watch_all, self._read_beside]

    async def act(self) -> None:
        try:
            await super().act()
        finally:
            self._load.watch_logs.pop(self._process, None)

    async def _finish(self, scope: anyio.CancelScope) -> None:
        """Nothing that happened may be missing. A watch has no end of its own."""
        try:
            await self._check_seen(await self._sync(), "the end of the run", "W5")
        except GONE:
            pass
        scope.cancel()

    async def _watch_all(self) -> None:
        """Follow everything below a key, from the index of a read on, or from where the last watch ended."""
        top = self._chance.choice(self.TOPS)
        resume = 0
        while not self._over:
            try:
                since = self._at_the_edge() or resume or await self._sync()
                resume = await self._watch(top, since)
            except (Compacted, RetryableError) as error:
                if isinstance(error, Compacted):
                    self._load.see("watch compacted")
                self._load.watch_logs.pop(self._process, None)
                resume = 0
                await self._pause(0.1)
            except GONE:
                return

    def _at_the_edge(self) -> int:
        """Now and then: as one who was away for just as long as servers keep events, or a little longer."""
        events, kept = self._ghost.annals.events, self._load.history_events
        if len(events) < kept + 3 or self._chance.random() >= 0.3:
            return 0
        return events[-kept - self._chance.randint(-1, 2)].index - self._chance.randint(0, 1)

    async def _watch(self, top: str, since: int) -> int:
        """Watch for a while; returns the index from which another watch may go on."""
        events, history = self._ghost.annals.events, self._load.history_events
        ids = frozenset(identity(secret) for _, secret in self.credentials(self._who))
        log = WatchLog(self._who, top, since, events, history=history, ids=ids)
        async with self._client.watch(top, recursive=True, since=since) as told:
            self._load.watch_logs[self._process] = log
            async for event in told:
                self._load.verify(log.on_event, int(event.kind), event.path, event.index)
                if self._chance.random() < 0.02:
                    break
        self._load.watch_logs.pop(self._process, None)
        if self._chance.random() < 0.5:
            # Sometimes for longer than the history reaches back.
            await self._pause(self._chance.choice((0.2, 1.5)))
        return log.complete

    async def _read_beside(self) -> None:
        """Reads on the same session: what they show must have been announced before."""
        while not self._over:
            await self._pause(0.05)
            key = f"/reg/{self._chance.randrange(REGISTERS)}"
            if self._chance.random() < 0.1:
                await self._wait_once(key)
                continue
            local = self._chance.random() < 0.5
            at_least = self._seen if local else self._committed
            try:
                _, stat = await self._client.get(key, read="local" if local else "linearizable")
                index = stat.index
            except NoNode as error:
                index = error.index or 0
            except GONE:
                continue
            self._check_index(key, index, at_least=at_least)
            await self._check_seen(index, f"{key} was read", "W10")

    async def _check_seen(self, index: int, what: str, invariant: str) -> None:
        """State as of `index` was shown: the events up to there were taken in before it."""
        log = self._load.watch_logs.get(self._process)
        # The task that waits for the events may need a turn of the loop.
        await anyio.sleep(EVENT_SECONDS)
        if log is not None and self._load.watch_logs.get(self._process) is log:
            self._load.verify(log.check_seen_up_to, index, what, invariant)

    async def _wait_once(self, key: str) -> None:
        """A watch for a single event: it is the first one, and when there is none there was nothing to tell."""
        seen: list[tuple[int, str, int]] = []
        failed: list[Exception] = []

        async def wait(since: int) -> None:
            try:
                event = await self._client.changed(key, since=since)
                seen.append((int(event.kind), event.path, event.index))
            except (Compacted, *GONE) as error:
                failed.append(error)

        events = self._ghost.annals.events
        try:
            since = await self._sync()
            async with anyio.create_task_group() as group:
                group.start_soon(wait, since)
                with anyio.move_on_after(ONE_SHOT_SECONDS):
                    while not (seen or failed or self._over):
                        await anyio.sleep(0.05)
                if not (seen or failed):
                    await self._check_silence(key, since, seen, failed)
                group.cancel_scope.cancel()
        except GONE:
            return
        if seen:
            self._load.verify(check_one_shot, self._who, key, since, seen[0], events)

    async def _check_silence(
        self, key: str, since: int, seen: list[tuple[int, str, int]], failed: list[Exception]
    ) -> None:
        try:
            complete = await self._sync()
        except GONE:
            return
        await anyio.sleep(EVENT_SECONDS)
        if not (seen or failed):
            self._load.verify(check_nothing_missed, self._who, key, since, complete, self._ghost.annals.events)
