"""A view of a client whose every write carries the guard of a lock: refused once the lock has moved on.

The guard is checked by the cluster in the same log entry as the write, so no pause of this process, however
long, lets a late write through. Reads pass unchanged. Made by `Client.fenced_by`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from jkcs_client.keys import Keys
from jkcs_client.operations import Operation
from jkcs_client.protocol.errors import DefiniteError
from jkcs_client.session import Session


class Guard(Protocol):
    """What a recipe hands out to the holder of something."""

    @property
    def key(self) -> str:
        """The key whose existence proves it."""

    @property
    def token(self) -> int:
        """That key's creation index."""


class FencedClient(Keys):
    """Every write is refused with Fenced unless the guard holds at that very log index."""

    def __init__(self, session: Session, chroot: str, guard: Guard) -> None:
        super().__init__(session, chroot)
        self._guard = self._operations.guard(guard.key, guard.token)

    async def _write(self, operation: Operation, path: str, timeout: float | None) -> tuple[list[Any], int]:
        try:
            results, index = await self._commit([operation], timeout)
        except DefiniteError as error:
            # To the caller this was a single write.
            error.operation = None
            raise
        return results[0], index

    async def _commit(self, operations: Sequence[Operation], timeout: float | None) -> tuple[list[list[Any]], int]:
        try:
            results, index = await super()._commit([self._guard, *operations], timeout)
        except DefiniteError as error:
            if error.operation is not None:
                # The guard itself has no place among the caller's operations.
                error.operation = error.operation - 1 if error.operation else None
            raise
        return results[1:], index
