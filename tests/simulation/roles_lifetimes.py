"""Clients of keys that go by themselves, and of keys under a quota.

When a key may go, and when there is room, the replayed log judges by itself; here is looked at what a user would
complain of: that a key went before its time, or that a limit which only tells has refused. Called by the workload.
"""

from __future__ import annotations

from typing import Any

import anyio

from jkcs_client.protocol.errors import AmbiguousError, NoNode, QuotaExceeded
from tests.simulation.actors import GONE, REFUSED, Actor, Call, WriteRecord, complain
from tests.simulation.trace import Violation

TOP = "/life"
TTL_KEYS = (f"{TOP}/t-0", f"{TOP}/t-1")
CONTAINERS = (f"{TOP}/c-0", f"{TOP}/c-1")
TTLS = (0.3, 1.0, 2.0)
ROUNDING_SECONDS = 0.002
"""Stamps are whole milliseconds."""
HARD, INNER, SOFT = "/quota/hard", "/quota/hard/in", "/quota/soft"
NAMES = ("u", "v", "w", "deep/x/y")
SIZES = (0, 5, 40)


class LifetimeUser(Actor):
    """Keys with a ttl, which it keeps or lets go, and containers that it fills and empties."""

    def actions(self) -> list[Call]:
        return [self._share, self._keep, self._fill]

    async def _share(self) -> None:
        """Keys that others use too, now and then with a child that keeps them."""
        while not self._over:
            await self._pause(0.2)
            await self._use(self._chance.choice(TTL_KEYS), self._chance.choice(TTLS))

    async def _use(self, key: str, ttl: float) -> None:
        kind = self._chance.choices(("create", "set", "child", "orphan", "look"), (25, 35, 10, 15, 15))[0]
        if kind == "create":
            await self._put(key, lambda value: self._client.create_with_stat(key, value, parents=True, ttl=ttl))
        elif kind == "set":
            await self._put(key, lambda value: self._client.set(key, value))
        elif kind == "child":
            await self._attempt(lambda: self._client.create(f"{key}/x"))
        elif kind == "orphan":
            await self._attempt(lambda: self._client.delete(f"{key}/x"))
        else:
            await self._look(key)

    async def _keep(self) -> None:
        """Keys of its own, one after another."""
        while not self._over:
            await self._keep_one(self._chance.choice(TTLS))
            await self._pause(0.2)

    async def _keep_one(self, ttl: float) -> None:
        """A key that is set for a while, about as often as it must be."""
        path = f"{TOP}/s-"
        since = self._load.now()
        made = await self._put(
            path,
            lambda value: self._client.create_with_stat(path, value, sequential=True, parents=True, ttl=ttl),
        )
        for _ in range(self._chance.randint(1, 8)):
            await anyio.sleep(ttl * self._chance.uniform(0.2, 1.6))
            if made is None or self._over:
                return
            asked = self._load.now()
            try:
                if self._chance.random() < 0.3:
                    await self._client.get(made)
                else:
                    await self._client.set(made, self._load.value(self._who))
                    since = asked
            except NoNode:
                self._check_time(made, since + ttl)
                return
            except (*GONE, AmbiguousError):
                continue

    def _check_time(self, key: str, until: float) -> None:
        if self._load.clocks_agree and self._load.now() < until - ROUNDING_SECONDS:
            early = until - self._load.now()
            self._load.verify(complain, Violation("L2", f"{self._who}: {key} went {early:.3f} s before its time"))

    async def _fill(self) -> None:
        """Containers: made, and filled and emptied in turn, at times at once."""
        while not self._over:
            await self._pause(0.2)
            await self._use_container(self._chance.choice(CONTAINERS))

    async def _use_container(self, key: str) -> None:
        child = f"{key}/x"
        kind = self._chance.choices(("make", "fill", "empty", "again", "look"), (20, 25, 25, 20, 10))[0]
        if kind == "make":
            await self._put(key, lambda value: self._client.create_with_stat(key, value, parents=True, container=True))
        elif kind == "look":
            await self._look(key)
        if kind in ("empty", "again"):
            await self._attempt(lambda: self._client.delete(child))
        if kind == "again":
            # The leader looks once a second: about then.
            await anyio.sleep(self._chance.uniform(0.0, 1.3))
        if kind in ("fill", "again"):
            await self._attempt(lambda: self._client.create(child))

    async def _look(self, key: str) -> None:
        committed = self._committed
        try:
            value, stat = await self._client.get(key)
        except NoNode as error:
            self._check_read(key, error.index or 0, None, None, at_least=committed)
        except GONE:
            return
        else:
            self._check_read(key, stat.index, value, stat.version, at_least=committed)
            self._load.verify(self._answers.check_stat, self._who, key, stat.index, stat)

    async def _put(self, key: str, call: Any) -> str | None:
        """A create or set of a unique value; the path of what was created."""
        value = self._load.value(self._who)
        result = await self._record(f"lifetime {key}", value, lambda: call(value))
        if result is None:
            return None
        path, stat = result if isinstance(result, tuple) else (key, result)
        self._load.verify(self._answers.check_stat, self._who, path, stat.index, stat)
        return str(path)


class QuotaUser(Actor):
    """Fills what is limited, and moves the limits: hard ones, one inside another, and one that only tells."""

    def actions(self) -> list[Call]:
        return [self._use_quotas]

    async def _use_quotas(self) -> None:
        while not self._over:
            await self._pause(0.12)
            top = self._chance.choice((HARD, INNER, SOFT))
            await self._use(top, f"{top}/{self._chance.choice(NAMES)}")

    async def _use(self, top: str, path: str) -> None:
        kind = self._chance.choices(
            ("limit", "unlimit", "look", "create", "set", "delete", "multi"), (8, 2, 8, 40, 20, 20, 10)
        )[0]
        if kind == "limit":
            await self._limit(top)
        elif kind == "unlimit":
            await self._attempt(lambda: self._client.remove_quota(top))
        elif kind == "look":
            await self._look(top)
        elif kind == "create":
            await self._spend(path, lambda value: self._client.create_with_stat(path, value, parents=True))
        elif kind == "set":
            await self._spend(path, lambda value: self._client.set(path, value))
        elif kind == "delete":
            # What is above a deep one goes later, when it is met without children.
            gone = path if self._chance.random() < 0.5 else f"{top}/{path[len(top) + 1 :].partition('/')[0]}"
            await self._attempt(lambda: self._client.delete(gone))
        else:
            await self._spend(path, lambda value: self._spend_twice(top, value))

    async def _limit(self, top: str) -> None:
        keys = self._chance.choice((None, 2, 4, 6))
        size = self._chance.choice((None, 30, 80)) if keys is not None else 60
        await self._attempt(lambda: self._client.set_quota(top, keys=keys, bytes=size, hard=top != SOFT))

    async def _look(self, top: str) -> None:
        quota = await self._attempt(lambda: self._client.quota(top))
        if quota is not None and quota.soft_keys is not None and quota.keys_used > quota.soft_keys:
            self._load.see("soft quota passed")

    async def _spend_twice(self, top: str, value: bytes) -> None:
        """The second may be refused for the room that the first takes."""
        async with self._client.transaction() as transaction:
            transaction.create(f"{top}/u", value)
            transaction.create(f"{top}/v", value[:1])

    async def _spend(self, path: str, call: Any) -> None:
        value = self._load.value(self._who, self._chance.choice(SIZES))
        record = WriteRecord(f"{self._who} under quota {path}", value, self._session)
        self._load.writes.append(record)
        self._load.calls += 1
        try:
            result = await call(value)
        except QuotaExceeded:
            record.refused = True
            self._load.see("quota refused")
            if path.startswith(SOFT):
                self._load.verify(complain, Violation("Q3", f"{record.what} was refused, and only hard limits may"))
        except (*REFUSED, *GONE):
            record.refused = True
        except AmbiguousError:
            return
        else:
            self._acknowledge(record, path, result)
