"""Our side of a copy: a cluster, through the native client.

It shows which keys are containers or have a TTL, and moves a sequence in one step, as ZooKeeper's protocol does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache

from jkcs_client import Acl as Entry
from jkcs_client import AmbiguousError, Client, JkcsError, NoAuth, NodeExists, NoNode, RetryableError
from jkcs_client.protocol.messages import Permission
from jkcs_client.values import MILLISECONDS, Stat
from jkcs_server.cli.zk_copy import Broken, NotCopied, StepRefused, whole
from jkcs_server.copying import CONTAINER, OPEN_ACL, Acl, Action, Seen, Step

IN_FLIGHT = 256
"""Requests at a time, out of those that the server takes from one connection."""
_LISTS_KEPT = 1024
"""Many keys have the same few ACLs."""


class ClusterSide:
    """See `zk_copy.Side`. The client is opened and closed by who made it."""

    mixed = True

    def __init__(self, client: Client, url: str, *, acls: bool) -> None:
        self.name = f"JKCS at {url}"
        self._client = client
        self._acls = acls
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def position(self) -> int:
        try:
            return await self._client.sync()
        except JkcsError as error:
            raise NotCopied(f"{self.name}: {error}") from None

    async def look(self, paths: Sequence[str]) -> list[Seen | None]:
        return await asyncio.gather(*map(self._look, paths))

    async def _look(self, path: str) -> Seen | None:
        client = self._client
        try:
            async with self._room:
                data, stat = await client.get(path)
                entries = (await client.get_acl(path))[0] if self._acls else None
                names = await client.children(path) if stat.num_children else []
        except NoNode:
            return None
        except NoAuth:
            raise NotCopied(f"{self.name} lets these credentials not read {path}") from None
        except JkcsError as error:
            raise NotCopied(f"{self.name}: {error}") from None
        return _seen(data, stat, names, None if entries is None else whole(path, _from_client(entries)))

    async def apply(self, batch: Sequence[Step]) -> None:
        try:
            if len(batch) == 1:
                await self._single(batch[0])
            else:
                await self._together(batch)
        except (RetryableError, AmbiguousError) as error:
            raise Broken(f"{self.name}: {error}") from None
        except JkcsError as error:
            raise _refused(batch[error.operation or 0], error) from None

    async def _single(self, step: Step) -> None:
        client = self._client
        if step.action is Action.CREATE:
            container, ttl = _lifetime(step)
            await client.create(step.path, step.data, acl=_for_client(step.acl), container=container, ttl=ttl)
        elif step.action is Action.SET:
            await client.set(step.path, step.data)
        elif step.action is Action.SET_ACL:
            await client.set_acl(step.path, _for_client(step.acl) or (Entry.open(),))
        else:
            assert step.action is Action.DELETE, step
            await client.delete(step.path)

    async def _together(self, batch: Sequence[Step]) -> None:
        async with self._client.transaction() as transaction:
            for step in batch:
                if step.action is Action.CREATE:
                    container, ttl = _lifetime(step)
                    acl = _for_client(step.acl)
                    transaction.create(step.path, step.data, acl=acl, container=container, ttl=ttl)
                elif step.action is Action.SET:
                    transaction.set(step.path, step.data)
                elif step.action is Action.SET_ACL:
                    transaction.set_acl(step.path, _for_client(step.acl) or (Entry.open(),))
                else:
                    assert step.action is Action.DELETE, step
                    transaction.delete(step.path)

    async def raise_sequence(self, path: str, wanted: Seen, found: Seen) -> None:
        try:
            await self._client.raise_sequence(path, wanted.creations)
        except (RetryableError, AmbiguousError) as error:
            raise Broken(f"{self.name}: {error}") from None
        except JkcsError as error:
            raise StepRefused(str(error)) from None


def _seen(data: bytes, stat: Stat, names: Sequence[str], acl: Acl | None) -> Seen:
    return Seen(
        data=data,
        children=tuple(names),
        acl=acl,
        owner=stat.ephemeral_owner,
        ttl_ms=CONTAINER if stat.container else round((stat.ttl or 0) * MILLISECONDS),
        # That of a new root is -1, as in ZooKeeper.
        creations=max(0, (stat.cversion + stat.num_children) // 2),
        changed_at=max(stat.mzxid, stat.pzxid),
    )


def _from_client(entries: Sequence[Entry]) -> Acl:
    return tuple([(int(entry.permissions), entry.scheme, entry.id) for entry in entries])


@lru_cache(_LISTS_KEPT)
def _for_client(acl: Acl | None) -> tuple[Entry, ...] | None:
    """None for the open list, which is what a key is given without one."""
    if acl is None or acl == OPEN_ACL:
        return None
    return tuple([Entry(scheme, who, Permission(permissions)) for permissions, scheme, who in acl])


def _lifetime(step: Step) -> tuple[bool, float | None]:
    """Whether a new key is a container, and its TTL in seconds."""
    if step.ttl_ms == CONTAINER:
        return True, None
    return False, step.ttl_ms / MILLISECONDS if step.ttl_ms else None


def _refused(step: Step, error: JkcsError) -> StepRefused:
    done = (step.action is Action.CREATE and isinstance(error, NodeExists)) or (
        step.action is Action.DELETE and isinstance(error, NoNode)
    )
    return StepRefused(str(error), done_already=done)
