"""A transaction: operations gathered in an `async with` block and committed together, all or nothing.

Made by `keys`, which passes in how to commit. Knows operations, not how they travel.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from jkcs_client.acl import Acl
from jkcs_client.operations import Operation, Operations, shaped
from jkcs_client.protocol.messages import ANY_VERSION, CREATE, SET, SET_ACL
from jkcs_client.values import Stat

Commit = Callable[[Sequence[Operation], float | None], Awaitable[tuple[list[list[Any]], int]]]
"""Send operations; their results and the index. Raises the error of the one that failed."""

Result = str | Stat | None


class Transaction:
    """`async with client.transaction() as txn: txn.check(...); txn.set(...)`.

    Sent when the block ends without an exception, in one log entry; an empty one is not sent. When an
    operation fails nothing has happened, and its own error is raised, with the operation's place, from 0, in
    `error.operation`.
    """

    def __init__(self, operations: Operations, commit: Commit, timeout: float | None) -> None:
        self._operations = operations
        self._commit = commit
        self._timeout = timeout
        self._gathered: list[Operation] = []
        self._closed = False
        self.results: list[Result] = []
        """After the commit, one for each operation: a create's path, the stat of set and set_acl, None for others."""

    def create(
        self,
        path: str,
        value: bytes = b"",
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        parents: bool = False,
        container: bool = False,
        ttl: float | None = None,
        acl: Iterable[Acl] | None = None,
    ) -> None:
        """Like the client's `create`."""
        operation = self._operations.create(
            path,
            value,
            ephemeral=ephemeral,
            sequential=sequential,
            parents=parents,
            container=container,
            ttl=ttl,
            acl=acl,
        )
        self._add(operation)

    def set(self, path: str, value: bytes, version: int = ANY_VERSION) -> None:
        """Like the client's `set`."""
        self._add(self._operations.set(path, value, version))

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        """Like the client's `delete`, of a single key."""
        self._add(self._operations.delete(path, version))

    def check(self, path: str, version: int = ANY_VERSION) -> None:
        """Let the transaction fail unless the key exists, with this version (-1: any)."""
        self._add(self._operations.check(path, version))

    def set_acl(self, path: str, acl: Iterable[Acl], version: int = ANY_VERSION) -> None:
        """Like the client's `set_acl`."""
        self._add(self._operations.set_acl(path, acl, version))

    def _add(self, operation: Operation) -> None:
        if self._closed:
            raise RuntimeError("the transaction is over; begin a new one")
        self._gathered.append(operation)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        if error is None and self._gathered:
            results, index = await self._commit(self._gathered, self._timeout)
            self.results = [
                self._result(operation, fields, index)
                for operation, fields in zip(self._gathered, results, strict=True)
            ]

    def _result(self, operation: Operation, fields: list[Any], index: int) -> Result:
        if operation[0] == CREATE:
            path: str = shaped(fields, 2)[0]
            return self._operations.local(path)
        if operation[0] in (SET, SET_ACL):
            return Stat.of(shaped(fields, 1)[0], index)
        return None
