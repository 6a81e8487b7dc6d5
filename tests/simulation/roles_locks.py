"""Clients that want a lock: those that keep to the rules, and those that go on after it is lost.

What happens inside a lock's block is written down with its token, by the rules of the product (a guard in the tree)
and by a resource outside that knows tokens. Called by the workload.
"""

from __future__ import annotations

import anyio

from jkcs_client.protocol.errors import ClientClosed, LockLost, LockTimeout, SessionExpired
from jkcs_client.recipes import Held, Lock
from tests.simulation.actors import Actor, Call, complain
from tests.simulation.checkers.locks import check_first_in_queue
from tests.simulation.trace import Violation

LOCKS = ("/locks/a", "/locks/b")
RECKLESS_LOCK = "/locks/c"
"""Used by holders that do not stop when they are told to, beside others that do."""
ALL_LOCKS = (*LOCKS, RECKLESS_LOCK)


def fenced_key(lock: str) -> str:
    """The key that is only written under a lock."""
    return "/fenced" + lock


class LockUser(Actor):
    """Takes locks, works inside, gives up waiting now and then."""

    def actions(self) -> list[Call]:
        return [self._lock]

    async def _lock(self) -> None:
        while not self._over:
            await self._pause(0.1)
            path = self._chance.choice((*LOCKS, *LOCKS, RECKLESS_LOCK))
            patience = self._chance.uniform(0.05, 2.0) if self._chance.random() < 0.2 else None
            with anyio.move_on_after(patience):
                await self._take(path)

    async def _take(self, path: str) -> None:
        try:
            async with Lock(self._client, path, timeout=self._chance.choice((0.5, 2.0, 5.0, None))) as held:
                await self._hold(path, held)
            if self._chance.random() < 0.3:
                await self._write_too_late(path, held)
        except (LockLost, LockTimeout, SessionExpired, ClientClosed) as error:
            self._load.note(self._who, f"{path}: {type(error).__name__}")
            if isinstance(error, LockTimeout):
                self._load.see("lock wait given up")
            elif isinstance(error, LockLost):
                self._load.see("lock lost")

    async def _hold(self, path: str, held: Held) -> None:
        places = [key.czxid for one, key in self._ghost.model.keys.items() if one.startswith(path + "/")]
        self._load.verify(check_first_in_queue, path, held.token, places)
        # A reckless holder may still be inside: only tokens count there.
        hold = self._load.verify(self._load.locks.enter, path, held.token, self._process)
        self._load.note(self._who, f"holds {path} with token {held.token}")
        fenced = self._client.fenced_by(held)
        try:
            if self._chance.random() < 0.15:
                # A block that asks the cluster nothing can only learn of its loss by being cancelled.
                await anyio.sleep(self._chance.uniform(0.5, 4.0))
            for _ in range(self._chance.randint(1, 4)):
                await self._pause(0.05)
                self._load.locks.write(path, held.token)
                value = b"%s:%d" % (self._load.value(self._who), held.token)
                await self._record(
                    f"fenced {path}",
                    value,
                    lambda: fenced.set(fenced_key(path), value),  # noqa: B023
                )
                if self._chance.random() < 0.3:
                    await self._attempt(lambda: self._client.create(fenced_key(path), b"", parents=True))
        finally:
            if hold is not None:
                self._load.locks.leave(hold)

    async def _write_too_late(self, path: str, held: Held) -> None:
        """A write under a lock that was given back: its guard must refuse it."""
        value = b"%s:%d" % (self._load.value(self._who), held.token)
        fenced = self._client.fenced_by(held)
        stat = await self._record(f"late {path}", value, lambda: fenced.set(fenced_key(path), value))
        # Where no server was within reach, the lock is given back in the background, and may still have been held.
        gone = [state.index for state in self._ghost.annals.histories.get(held.key, []) if state.value is None]
        if stat is not None and gone and gone[0] < stat.mzxid:
            self._load.verify(
                complain, Violation("M1", f"{self._who} wrote under token {held.token} after giving it back")
            )


class RecklessUser(LockUser):
    """Stands still while it holds a lock, and then writes without a look: only the tokens keep it harmless."""

    async def _lock(self) -> None:
        while not self._over:
            await self._pause(0.3)
            try:
                async with Lock(self._client, RECKLESS_LOCK, timeout=2.0) as held:
                    self._load.locks.write(RECKLESS_LOCK, held.token)
                    if self._chance.random() < 0.3:
                        # As a long garbage collection would: nobody in this process notices it.
                        self._load.freeze(self._process, self._chance.uniform(0.5, 4.0))
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(self._chance.uniform(0.01, 0.1))
                    self._load.locks.write(RECKLESS_LOCK, held.token)
            except (LockLost, LockTimeout, SessionExpired, ClientClosed) as error:
                self._load.note(self._who, f"{RECKLESS_LOCK}: {type(error).__name__}")
