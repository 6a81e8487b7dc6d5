"""ZooKeeper's side of a copy, through kazoo.

Imported where it is used: kazoo is an extra of the package. It has threads of its own; its calls are made here in a
worker thread, many requests at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from kazoo import exceptions
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.serialization import Create, long_struct
from kazoo.security import ACL, Id

from jkcs_server.cli.zk_copy import Broken, NotCopied, StepRefused, Unreachable, whole
from jkcs_server.cli.zk_tls import ZooKeeperTls
from jkcs_server.copying import CONTAINER, OPEN_ACL, SEQUENCE_STEPS_MAX, Acl, Action, Seen, Step, raising

COMPLAINT_CHARACTERS_MAX = 300

T = TypeVar("T")

_BROKEN = (exceptions.ConnectionLoss, exceptions.SessionExpiredError, exceptions.ConnectionClosedError)


class _CreateContainer(Create):  # type: ignore[misc]  # kazoo has no types
    type = 19


class _CreateTtl(Create):  # type: ignore[misc]  # kazoo has no types
    """Its flags are followed by the TTL, which the path's owner keeps here because the fields are fixed."""

    type = 21
    ttl_ms = 0

    def serialize(self) -> bytes:
        return bytes(super().serialize()) + bytes(long_struct.pack(self.ttl_ms))


class _LastWarning(logging.Handler):
    """Keeps what kazoo complained of last: its errors do not say why a connection failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        # One without arguments says that something failed, not why.
        if record.args:
            self.text = record.getMessage()[:COMPLAINT_CHARACTERS_MAX]


class ZooKeeperSide:
    """See `zk_copy.Side`. `hosts` as kazoo takes them: HOST:PORT,HOST:PORT/chroot."""

    mixed = False

    def __init__(
        self,
        hosts: str,
        credentials: Sequence[tuple[str, str]],
        *,
        acls: bool,
        timeout: float,
        tls: ZooKeeperTls = ZooKeeperTls(),  # noqa: B008 - frozen
    ) -> None:
        self.name = f"ZooKeeper at {hosts}"
        self._acls = acls
        self._timeout = timeout
        # What kazoo would log about its attempts is in the errors raised here.
        self._said = _LastWarning()
        quiet = logging.Logger("kazoo", logging.WARNING)
        quiet.addHandler(self._said)
        auth = list(credentials) or None
        self._client = KazooClient(hosts, timeout=timeout, auth_data=auth, logger=quiet, **tls.for_kazoo())

    async def __aenter__(self) -> Self:
        await self._in_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stop)

    async def position(self) -> int:
        return await self._in_thread(self._position)

    async def look(self, paths: Sequence[str]) -> list[Seen | None]:
        return await self._in_thread(self._look, paths)

    async def apply(self, batch: Sequence[Step]) -> None:
        await asyncio.to_thread(self._apply, batch)

    async def raise_sequence(self, path: str, wanted: Seen, found: Seen) -> None:
        behind = wanted.creations - found.creations
        if behind > SEQUENCE_STEPS_MAX:
            raise StepRefused(f"it is {behind} behind, and ZooKeeper's is raised by {SEQUENCE_STEPS_MAX} at most")
        for batch in raising(path, wanted, found):
            await self.apply(batch)

    # In a thread.

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """Raises NotCopied for whatever kazoo raises."""
        try:
            return await asyncio.to_thread(work, *arguments)
        except KazooTimeoutError as error:
            why = f" ({self._said.text})" if self._said.text else ""
            raise Unreachable(f"{self.name} does not answer: {error}{why}") from None
        except exceptions.KazooException as error:
            raise NotCopied(f"{self.name}: {_text(error)}") from None

    def _start(self) -> None:
        try:
            self._client.start(self._timeout)
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        self._client.stop()
        self._client.close()

    def _position(self) -> int:
        self._client.retry(self._client.exists, "/")
        return int(self._client.last_zxid)

    def _look(self, paths: Sequence[str]) -> list[Seen | None]:
        """Sends all requests at once, those of keys with children a second time; a lost connection is tried again."""
        return self._client.retry(self._look_once, paths)  # type: ignore[no-any-return]  # kazoo has no types

    def _look_once(self, paths: Sequence[str]) -> list[Seen | None]:
        client = self._client
        values = [client.get_async(path) for path in paths]
        acls = [client.get_acls_async(path) for path in paths] if self._acls else []
        found = [self._answer(path, asked) for path, asked in zip(paths, values, strict=True)]
        lists = [
            client.get_children_async(path) if each is not None and each[1].numChildren else None
            for path, each in zip(paths, found, strict=True)
        ]
        seen: list[Seen | None] = []
        for at, (path, each) in enumerate(zip(paths, found, strict=True)):
            asked = lists[at]
            names = self._answer(path, asked) if asked is not None else []
            entries = self._answer(path, acls[at]) if acls else None
            if each is None or names is None or (acls and entries is None):
                seen.append(None)
            else:
                data, stat = each
                seen.append(_seen(data, stat, names, None if entries is None else whole(path, _acl(entries[0]))))
        return seen

    def _answer(self, path: str, asked: Any) -> Any:
        """What an asynchronous call brings; None when there is no such key."""
        try:
            return asked.get(timeout=self._timeout)
        except exceptions.NoNodeError:
            return None
        except exceptions.NoAuthError:
            raise NotCopied(f"{self.name} lets these credentials not read {path}") from None

    def _apply(self, batch: Sequence[Step]) -> None:
        try:
            if len(batch) == 1:
                self._single(batch[0]).get(timeout=self._timeout)
                return
            transaction = self._client.transaction()
            for step in batch:
                if step.action is Action.CREATE:
                    transaction.create(step.path, step.data, _entries(step.acl))
                elif step.action is Action.SET:
                    transaction.set_data(step.path, step.data)
                else:
                    assert step.action is Action.DELETE, step
                    transaction.delete(step.path)
            results = transaction.commit_async().get(timeout=self._timeout)
        except _BROKEN as error:
            raise Broken(f"{self.name}: {_text(error)}") from None
        except KazooTimeoutError:
            raise Broken(f"{self.name} does not answer within {self._timeout:g} s") from None
        except exceptions.KazooException as error:
            raise _refused(batch[0], error) from None
        for step, result in zip(batch, results, strict=False):
            if isinstance(result, exceptions.KazooException) and not isinstance(result, exceptions.RolledBackError):
                raise _refused(step, result)

    def _single(self, step: Step) -> Any:
        client = self._client
        if step.action is Action.SET:
            return client.set_async(step.path, step.data)
        if step.action is Action.DELETE:
            return client.delete_async(step.path)
        if step.action is Action.SET_ACL:
            return client.set_acls_async(step.path, _entries(step.acl))
        if not step.ttl_ms:
            return client.create_async(step.path, step.data, _entries(step.acl))
        flags, kind = (4, _CreateContainer) if step.ttl_ms == CONTAINER else (5, _CreateTtl)
        request = kind(client.chroot + step.path, step.data, _entries(step.acl), flags)
        request.ttl_ms = step.ttl_ms
        asked = client.handler.async_result()
        client._call(request, asked)
        return asked


def _seen(data: bytes, stat: Any, names: Sequence[str], acl: Acl | None) -> Seen:
    return Seen(
        data=data,
        children=tuple(names),
        acl=acl,
        owner=stat.ephemeralOwner,
        # No client is shown which keys are containers or have a TTL.
        ttl_ms=None,
        # A stat shows creations and deletions together.
        creations=max(0, (stat.cversion + stat.numChildren) // 2),
        changed_at=max(stat.mzxid, stat.pzxid),
    )


def _acl(entries: Sequence[Any]) -> Acl:
    return tuple((entry.perms, entry.id.scheme, entry.id.id) for entry in entries)


def _entries(acl: Acl | None) -> list[Any]:
    return [ACL(permissions, Id(scheme, who)) for permissions, scheme, who in acl or OPEN_ACL]


def _refused(step: Step, error: Exception) -> StepRefused:
    kind = exceptions.NodeExistsError if step.action is Action.CREATE else exceptions.NoNodeError
    done = isinstance(error, kind) and step.action in (Action.CREATE, Action.DELETE)
    if step.ttl_ms > 0 and isinstance(error, exceptions.UnimplementedError):
        return StepRefused("this ZooKeeper takes no TTLs (its zookeeper.extendedTypesEnabled is not set)")
    return StepRefused(_text(error), done_already=done)


def _text(error: Exception) -> str:
    """kazoo's errors often say nothing but their name."""
    name = type(error).__name__.removesuffix("Error")
    return f"{name}: {error}" if str(error) and str(error) != "None" else name
