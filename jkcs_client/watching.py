"""The caller's end of a watch: an async iterator of events.

Joins a `Watch` of the rules to a session, and takes the chroot off. Made by `keys`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio.lowlevel

from jkcs_client.bell import Bell
from jkcs_client.operations import Operations
from jkcs_client.protocol.errors import OK, JkcsError, error_for
from jkcs_client.protocol.messages import EventKind, WatchMode
from jkcs_client.session import Session
from jkcs_client.values import Event
from jkcs_client.watches import Watch

BUFFER_EVENTS_MAX = 10_000
"""Events that may wait for a slow reader; beyond it the watch ends with Compacted, after those."""


class Watcher:
    """Events of one watch: `async for event in watcher`, for one reader.

    It is registered when it is entered with `async with`, or at the first event asked for. Ends only by an error:
    Compacted when events are gone that it should have shown, SessionExpired or ClientClosed with the client.
    Left early, it is forgotten by `close`, by the end of `async with`, or when nothing refers to it any more.
    """

    def __init__(
        self,
        session: Session,
        operations: Operations,
        path: str,
        mode: WatchMode,
        since: int,
        timeout: float | None,
        buffer_events: int = BUFFER_EVENTS_MAX,
    ) -> None:
        self._session = session
        self._operations = operations
        self._path = path
        self._timeout = timeout
        self._watch = Watch(operations.full(path), mode, since, buffer_events)
        # The session keeps the watch, and through it the bell, but never this object: it must be able to go.
        self._bell = Bell()
        self._watch.wake = self._bell.ring
        self._started = False
        self._closed = False

    async def __aenter__(self) -> Self:
        if not self._started:
            await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event; waits for it as long as it takes."""
        if not self._started:
            await self._start()
        watch = self._watch
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise StopAsyncIteration
            if watch.buffer:
                kind, full, index = watch.buffer.popleft()
                return Event(EventKind(kind), self._operations.local(full), index)
            if watch.code != OK:
                raise self._error()
            await self._bell.wait()

    def close(self) -> None:
        """Forget the watch. No event follows."""
        self._closed = True
        if self._started:
            self._session.forget(self._watch)

    def __del__(self) -> None:
        if self._started and not self._closed:
            self._session.forget_later(self._watch)

    async def _start(self) -> None:
        self._started = True
        try:
            await self._session.register(self._watch, self._bell, self._timeout)
        except JkcsError as error:
            error.path = self._path
            raise
        if self._watch.code != OK and not self._watch.buffer:
            raise self._error()

    def _error(self) -> JkcsError:
        watch = self._watch
        return error_for(watch.code, watch.detail, path=self._path)
