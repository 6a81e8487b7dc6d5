"""A place in a queue: an ephemeral sequential key under a directory, and waiting until it is the first.

Each contender waits for the one right before it and for nobody else, so a release wakes one waiter and not the
herd. The key's name begins with a name that only this contender has, so that it can be found, and taken away,
when the answer to its creation never came. Stands on the client's public API. Used by `lock`.

Calls here have no deadline of their own: they wait for a server as long as the session lives, or until the
caller's cancel scope ends them. A write is therefore never in doubt here, but for one that is cancelled, and the
requests of one session are served in order: a listing shows whatever an earlier creation did.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

import anyio

from jkcs_client import (
    AmbiguousError,
    Client,
    Compacted,
    DefiniteError,
    EventKind,
    NoNode,
    RetryableError,
    SessionExpired,
    Stat,
    State,
)
from jkcs_client.values import Event

WITHDRAW_TIMEOUT = 1.0
"""Seconds that leaving the queue may hold up the caller; after that it goes on in the background."""
_RETRY_DELAY = 0.05
_RETRY_DELAY_MAX = 1.0

_ENDED = (State.EXPIRED, State.CLOSED)

T = TypeVar("T")


class Contender:
    """One stay in the queue under `directory`, which is created when it is missing."""

    def __init__(self, client: Client, directory: str, kind: str, value: bytes) -> None:
        self._client = client
        self._directory = directory
        self._prefix = f"{client.unique_name()}-{kind}-"
        self._value = value
        self._pattern = re.compile(rf"\A[0-9a-f]+-[0-9]+-{re.escape(kind)}-([0-9]+)\Z")
        self.key = ""
        """The contender's key, once it is known."""
        self.token = 0
        """The key's creation index: higher than that of everyone who stood before it."""

    async def enter(self) -> None:
        """Take the last place. Raises SessionExpired, and what a bad directory deserves."""
        self.key = ""
        self.key, stat = await _patiently(self._create)
        self.token = stat.czxid

    async def _create(self) -> tuple[str, Stat]:
        path = self._path(self._prefix)
        try:
            return await self._client.create_with_stat(
                path, self._value, ephemeral=True, sequential=True, parents=True, timeout=inf
            )
        except AmbiguousError as error:
            # Without a deadline only the session's end leaves it open, and that takes the key away.
            raise SessionExpired(error.detail, path=self._directory, node=error.node) from error

    async def wait_for_turn(self) -> bool:
        """Wait until nobody stands before this contender. False when its own key has gone meanwhile."""
        while True:
            places = await self._places()
            mine = [place for place, name in places if self._path(name) == self.key]
            if not mine:
                return False
            before = [name for place, name in places if place < mine[0]]
            if not before:
                return True
            # All that stand before were there when this key was created, so a deletion is later than that.
            await self._deleted(self._path(before[-1]))

    async def gone(self) -> None:
        """Wait until the contender's own key has been deleted. Raises when the session ends."""
        await self._deleted(self.key)

    async def withdraw(self) -> None:
        """Leave the queue, wherever `enter` may have been interrupted. Cannot be cancelled; takes a short time.

        Where no server can be reached in that time, it goes on in the background until it is done or the
        session has ended, and the key with it.
        """
        if self._client.state in _ENDED:
            return
        done = False
        try:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + WITHDRAW_TIMEOUT):
                await self._remove()
                done = True
        finally:
            # Also when the task was cancelled by other means than a scope, which a shield does not stop.
            if not done and self._client.state not in _ENDED:
                self._client.start_soon(self._remove)

    async def _remove(self) -> None:
        try:
            if self.key:
                await _patiently(self._delete, self.key)
                return
            for name in await _patiently(self._names):
                if name.startswith(self._prefix):
                    await _patiently(self._delete, self._path(name))
        except (AmbiguousError, DefiniteError):
            # The session has ended, and the key with it; or the directory is none, and there never was a key.
            return

    async def _delete(self, key: str) -> None:
        try:
            await self._client.delete(key, timeout=inf)
        except NoNode:
            return

    async def _names(self) -> list[str]:
        try:
            return await self._client.children(self._directory, timeout=inf)
        except NoNode:
            return []

    async def _places(self) -> list[tuple[int, str]]:
        """(sequence number, name) of all contenders of this kind, the first in the queue first."""
        matches = [(self._pattern.match(name), name) for name in await _patiently(self._names)]
        return sorted((int(match[1]), name) for match, name in matches if match)

    async def _deleted(self, key: str) -> None:
        """Wait until a key that existed after this contender's own was created has been deleted."""
        since = self.token
        while True:
            try:
                event = await _patiently(self._changed, key, since)
            except Compacted:
                stat = await _patiently(self._exists, key)
                if stat is None:
                    return
                since = stat.index
                continue
            if event.kind is EventKind.DELETED:
                return
            since = event.index

    async def _changed(self, key: str, since: int) -> Event:
        return await self._client.changed(key, since=since, timeout=inf)

    async def _exists(self, key: str) -> Stat | None:
        return await self._client.exists(key, timeout=inf)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}" if self._directory != "/" else f"/{name}"


async def _patiently(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Call until it is answered. For calls that may be repeated, and have no deadline."""
    delay = _RETRY_DELAY
    while True:
        try:
            return await function(*arguments)
        except RetryableError:
            await anyio.sleep(delay)
            delay = min(2 * delay, _RETRY_DELAY_MAX)
