"""Our side of a copy, through the native client: for copies without ACLs.

It shows which keys are containers or have a TTL, as ZooKeeper's protocol does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jkcs_client import AmbiguousError, Client, JkcsError, NodeExists, NoNode, RetryableError
from jkcs_client.values import Stat
from jkcs_server.cli.zk_copy import Broken, NotCopied, StepRefused
from jkcs_server.copying import CONTAINER, OPEN_ACL, Acl, Action, Seen, Step, raising

IN_FLIGHT = 256
"""Requests at a time, out of those that the server takes from one connection."""


class ClusterSide:
    """See `zk_copy.Side`. The client is opened and closed by who made it."""

    def __init__(self, client: Client, url: str) -> None:
        self.name = f"JKCS at {url}"
        self._client = client
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def position(self) -> int:
        try:
            return await self._client.sync()
        except JkcsError as error:
            raise NotCopied(f"{self.name}: {error}") from None

    async def look(self, paths: Sequence[str]) -> list[Seen | None]:
        return await asyncio.gather(*map(self._look, paths))

    async def _look(self, path: str) -> Seen | None:
        try:
            async with self._room:
                data, stat = await self._client.get(path)
                names = await self._client.children(path) if stat.num_children else []
        except NoNode:
            return None
        except JkcsError as error:
            raise NotCopied(f"{self.name}: {error}") from None
        return _seen(data, stat, names, None)

    async def apply(self, batch: Sequence[Step]) -> None:
        for step in batch:
            if step.acl not in (None, OPEN_ACL) or step.ttl_ms:
                raise StepRefused("this client cannot give a key an ACL or a TTL")
        client = self._client
        try:
            if len(batch) == 1:
                await self._single(batch[0])
                return
            async with client.transaction() as transaction:
                for step in batch:
                    if step.action is Action.CREATE:
                        transaction.create(step.path, step.data)
                    elif step.action is Action.SET:
                        transaction.set(step.path, step.data)
                    else:
                        assert step.action is Action.DELETE, step
                        transaction.delete(step.path)
        except (RetryableError, AmbiguousError) as error:
            raise Broken(f"{self.name}: {error}") from None
        except JkcsError as error:
            raise _refused(batch[error.operation or 0], error) from None

    async def _single(self, step: Step) -> None:
        client = self._client
        if step.action is Action.CREATE:
            await client.create(step.path, step.data)
        elif step.action is Action.SET:
            await client.set(step.path, step.data)
        elif step.action is Action.DELETE:
            await client.delete(step.path)
        else:
            raise StepRefused("this client cannot change ACLs")

    async def raise_sequence(self, path: str, wanted: Seen, found: Seen) -> None:
        for batch in raising(path, wanted, found):
            await self.apply(batch)


def _seen(data: bytes, stat: Stat, names: Sequence[str], acl: Acl | None) -> Seen:
    return Seen(
        data=data,
        children=tuple(names),
        acl=acl,
        owner=stat.ephemeral_owner,
        ttl_ms=CONTAINER if stat.container else round((stat.ttl or 0) * 1000),
        creations=max(0, (stat.cversion + stat.num_children) // 2),
        changed_at=max(stat.mzxid, stat.pzxid),
    )


def _refused(step: Step, error: JkcsError) -> StepRefused:
    done = (step.action is Action.CREATE and isinstance(error, NodeExists)) or (
        step.action is Action.DELETE and isinstance(error, NoNode)
    )
    return StepRefused(str(error), done_already=done)
