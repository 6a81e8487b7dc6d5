"""A lock: one holder in the whole cluster, first come first served, with a fencing token for each grant.

The holder's block is cancelled as soon as the lock is lost, and `LockLost` comes out of it. Between the loss and
the cancellation there is always a moment, and a process may be paused for any time in it: what must never
happen twice belongs behind the token (`Held.token`, `Client.fenced_by`). Stands on `contenders` and on the
client's public API.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import anyio

from jkcs_client import BadArguments, Client, JkcsError, LockLost, LockTimeout, State
from recipes.contenders import Contender

_ENDED = (State.EXPIRED, State.CLOSED)


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that was granted."""

    path: str
    """The lock's path."""
    key: str
    """The holder's own key under it: the lock is held as long as this key exists."""
    token: int
    """The creation index of `key`. Grows with every grant of the lock, for ever."""


class Lock:
    """`async with Lock(client, "/locks/db", timeout=5) as held: ...`

    `timeout`: seconds to wait for the grant, None for as long as it takes; then LockTimeout is raised, and nothing is
    left in the queue. `name`: the value of the contender's key, for people who look. Raises LockLost at the
    end of the block when the lock was lost inside it, even if the block swallowed its cancellation. Not
    reentrant; may be used again after it was released.
    """

    def __init__(self, client: Client, path: str, *, timeout: float | None = None, name: str = "") -> None:
        if timeout is not None and not timeout > 0:
            raise BadArguments(f"timeout is positive, or None to wait for ever, not {timeout}", path=path)
        self._client = client
        self._path = path
        self._timeout = timeout
        self._value = name.encode()
        self._grant: _Grant | None = None
        self._busy = False
        """Between the beginning of the acquisition and the end of the release."""

    async def __aenter__(self) -> Held:
        if self._busy:
            raise RuntimeError(f"this Lock on {self._path} is in use; a second holder needs a Lock of its own")
        self._busy = True
        contender = Contender(self._client, self._path, "lock", self._value)
        try:
            await self._acquire(contender)
            grant = _Grant(contender)
            self._client.start_soon(grant.watch)
        except BaseException:
            try:
                await contender.withdraw()
            finally:
                self._busy = False
            raise
        # Nothing is awaited from here on, so nothing can come between the grant and its scope.
        self._grant = grant
        grant.scope.__enter__()
        return Held(self._path, contender.key, contender.token)

    async def _acquire(self, contender: Contender) -> None:
        with anyio.move_on_after(self._timeout):
            while True:
                await contender.enter()
                if await contender.wait_for_turn():
                    return
        raise LockTimeout(f"waited {self._timeout:g} s", path=self._path)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        grant = self._grant
        assert grant is not None
        self._grant = None
        swallowed = False
        try:
            swallowed = bool(grant.scope.__exit__(kind, error, traceback))
        finally:
            # The clock is asked once more: a block that never awaited could not be cancelled.
            lost = grant.finish(self._client.state)
            try:
                await grant.contender.withdraw()
            finally:
                self._busy = False
            cancelled = isinstance(error, anyio.get_cancelled_exc_class()) and not swallowed
            if lost and not cancelled:
                raise LockLost(lost, path=self._path)
        return swallowed


class _Grant:
    """The time during which the lock is held."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.scope = anyio.CancelScope()
        """Around the holder's block."""
        self._watching = anyio.CancelScope()
        self._lost = ""
        """Why the lock was lost; "" while it was not."""

    async def watch(self) -> None:
        """Cancel the holder's block when the key or the session is gone. Ends with `finish`."""
        with self._watching:
            try:
                await self.contender.gone()
                self._lost = "its key was deleted"
            except JkcsError as error:
                self._lost = str(error)
            self.scope.cancel()

    def finish(self, state: State) -> str:
        """The block has ended. Why the lock was lost meanwhile, or ""."""
        self._watching.cancel()
        if not self._lost and state in _ENDED:
            self._lost = f"the client is {state.value}"
        return self._lost
