"""The operations on keys, as the caller writes them: paths without the chroot, values as bytes, errors by name.

Every call has a deadline in seconds: `timeout`, or the client's default. Reads are linearizable unless
`read="local"` is asked for. Base of `client.Client` and of `fencing.FencedClient`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal

from jkcs_client import quotas
from jkcs_client.acl import Acl, from_wire
from jkcs_client.operations import COUNTER_MAX, Operation, Operations, check_size, shaped
from jkcs_client.paths import child_path
from jkcs_client.protocol.errors import (
    BadArguments,
    ClientClosed,
    DefiniteError,
    JkcsError,
    NoAuth,
    NodeExists,
    NoNode,
    NotEmpty,
    ProtocolError,
)
from jkcs_client.protocol.messages import (
    ANY_VERSION,
    CHILDREN,
    CHILDREN_PAGE,
    CHILDREN_PAGE_MAX,
    COUNT,
    DELETE,
    EPHEMERALS,
    EXISTS,
    GET,
    GET_ACL,
    LINEARIZABLE,
    LOCAL,
    MULTI,
    STATUS,
    SYNC,
    WatchMode,
)
from jkcs_client.quotas import Quota
from jkcs_client.requests import Request
from jkcs_client.session import Session
from jkcs_client.transaction import Transaction
from jkcs_client.values import Event, Stat
from jkcs_client.watching import Watcher

ReadLevel = Literal["linearizable", "local"]

_LEVELS = {"linearizable": LINEARIZABLE, "local": LOCAL}
_DELETE_ROUNDS_MAX = 16
"""How often a recursive delete starts over because others went on creating children."""


class Keys:
    """Reads and writes over one session, below one chroot."""

    def __init__(self, session: Session | None, chroot: str) -> None:
        self._opened: Session | None = session
        """None until there is one."""
        self._operations = Operations(chroot)

    @property
    def _session(self) -> Session:
        if self._opened is None:
            raise ClientClosed("it is not open yet: use `async with connect(...) as client`")
        return self._opened

    # Writes.

    async def create(
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
        timeout: float | None = None,
    ) -> str:
        """Create a key; its path is returned, which for `sequential` ends with a number.

        `ephemeral`: it goes when this session ends. `container`: when its last child has gone. `ttl`: when it has no
        children and its value was not set for so many seconds. A key is one of these at most; the last two go a
        little later than that. `parents`: missing ancestors are created too, in the same step, with the same `acl`:
        who may do what with the key, everybody everything unless given. Raises NodeExists, NoNode (no parent),
        NoChildrenForEphemerals, NoAuth, InvalidAcl, QuotaExceeded.
        """
        created, _ = await self.create_with_stat(
            path,
            value,
            ephemeral=ephemeral,
            sequential=sequential,
            parents=parents,
            container=container,
            ttl=ttl,
            acl=acl,
            timeout=timeout,
        )
        return created

    async def create_with_stat(
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
        timeout: float | None = None,
    ) -> tuple[str, Stat]:
        """`create` that also returns the new key's stat."""
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
        result, index = await self._write(operation, path, timeout)
        created, fields = shaped(result, 2)
        return self._operations.local(created), Stat.of(fields, index)

    async def set(self, path: str, value: bytes, version: int = ANY_VERSION, *, timeout: float | None = None) -> Stat:
        """Change a key's value, if it has this version (-1: any). Raises NoNode, NoAuth, BadVersion, QuotaExceeded."""
        result, index = await self._write(self._operations.set(path, value, version), path, timeout)
        return Stat.of(shaped(result, 1)[0], index)

    async def delete(
        self,
        path: str,
        version: int = ANY_VERSION,
        *,
        recursive: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Delete a key, if it has this version (-1: any). Raises NoNode, NoAuth, BadVersion, NotEmpty.

        `recursive`: first everything below it, children before parents, one by one: not one atomic step, and
        `timeout` is for each of them. What others create meanwhile is deleted too; if they never
        stop, NotEmpty is raised. It takes no version.
        """
        if not recursive:
            await self._write(self._operations.delete(path, version), path, timeout)
            return
        if version != ANY_VERSION:
            raise BadArguments("a recursive delete takes no version", path=path)
        await self.children(path, timeout=timeout)  # Only a key that was never there is an error.
        for rounds_left in reversed(range(_DELETE_ROUNDS_MAX)):
            try:
                await self._delete_below(path, timeout)
                await self.delete(path, timeout=timeout)
                return
            except NoNode:
                return
            except NotEmpty:
                if not rounds_left:
                    raise

    async def _delete_below(self, top: str, timeout: float | None) -> None:
        """Delete the descendants of `top`, deepest first; those that vanish meanwhile are as good as deleted."""
        found = [top]
        for path in found:
            try:
                found += [child_path(path, name) for name in await self.children(path, timeout=timeout)]
            except NoNode:
                continue
        for path in reversed(found[1:]):
            try:
                await self.delete(path, timeout=timeout)
            except NoNode:
                continue

    # Who may do what, and how much.

    async def get_acl(
        self, path: str, *, read: ReadLevel = "linearizable", timeout: float | None = None
    ) -> tuple[list[Acl], Stat]:
        """A key's access control list and stat. Hashes of passwords are there only for who has ADMIN on the key.
        Raises NoNode, NoAuth."""
        answer = await self._read(GET_ACL, path, read, timeout)
        entries, fields = shaped(answer.result, 2)
        return from_wire(entries), Stat.of(fields, answer.index)

    async def set_acl(
        self, path: str, acl: Iterable[Acl], version: int = ANY_VERSION, *, timeout: float | None = None
    ) -> Stat:
        """Give a key another access control list, if its present one has this version (-1: any; it is `aversion` in a
        stat). Other keys keep theirs, those below it too. Raises NoNode, NoAuth, BadVersion, InvalidAcl."""
        result, index = await self._write(self._operations.set_acl(path, acl, version), path, timeout)
        return Stat.of(shaped(result, 1)[0], index)

    async def set_quota(
        self,
        path: str,
        *,
        keys: int | None = None,
        bytes: int | None = None,
        hard: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Limit how many keys there may be at and below a key, and how many bytes of values; or, not `hard`, when the
        servers' log shall tell of it. In the place of the quota that the key had. It may be set before the key is."""
        full = self._operations.full(path)
        text = quotas.limits_text(keys, bytes, hard=hard)
        both = quotas.creation(full, text)
        # Somebody else may have left one of the two keys that a quota is made of.
        for operations in (both, quotas.change(full, text)):
            try:
                await self._commit_on(path, operations, timeout)
                return
            except (NodeExists, NoNode):
                continue
        await self._commit_on(path, both[:1], timeout)

    async def quota(self, path: str, *, read: ReadLevel = "linearizable", timeout: float | None = None) -> Quota | None:
        """A key's own quota and how much of it is used, or None when it has none."""
        full = self._operations.full(path)
        whole = Keys(self._session, "")
        try:
            limits, _ = await whole.get(quotas.limits_key(full), read=read, timeout=timeout)
        except NoNode:
            return None
        try:
            stats, _ = await whole.get(quotas.stats_key(full), read=read, timeout=timeout)
        except NoNode:
            stats = b""
        return quotas.quota_of(limits, stats)

    async def remove_quota(self, path: str, *, timeout: float | None = None) -> None:
        """Take a key's quota away. Raises NoNode when it has none."""
        full = self._operations.full(path)
        try:
            await self._commit_on(path, quotas.removal(full), timeout)
        except NoNode:
            await self._commit_on(path, quotas.removal(full)[:1], timeout)
        # What stood there for this quota alone goes too; nobody misses what stays.
        for place in quotas.places_above(full):
            try:
                await self._commit_on(path, [(DELETE, place, ANY_VERSION)], timeout)
            except (NotEmpty, NoNode, NoAuth):
                return

    async def _commit_on(self, path: str, operations: Sequence[Operation], timeout: float | None) -> None:
        """Do what is one thing to the caller, and about this key, with keys that are not below the chroot."""
        try:
            await self._commit(operations, timeout)
        except JkcsError as error:
            error.path, error.operation = path, None
            raise

    async def raise_sequence(self, path: str, number: int, *, timeout: float | None = None) -> Stat:
        """Let the next sequential child of a key have at least this number, as in a copy of another tree.

        Takes ADMIN on the key. A number that was reached already changes nothing. Raises NoNode, NoAuth.
        """
        result, index = await self._write(self._operations.raise_sequence(path, number), path, timeout)
        return Stat.of(shaped(result, 1)[0], index)

    # Reads.

    async def get(
        self, path: str, *, read: ReadLevel = "linearizable", timeout: float | None = None
    ) -> tuple[bytes, Stat]:
        """A key's value and stat. Raises NoNode, NoAuth."""
        answer = await self._read(GET, path, read, timeout)
        value, fields = shaped(answer.result, 2)
        if type(value) is not bytes:
            raise ProtocolError(f"a value is bytes, got {type(value).__name__}", path=path)
        return value, Stat.of(fields, answer.index)

    async def exists(self, path: str, *, read: ReadLevel = "linearizable", timeout: float | None = None) -> Stat | None:
        """A key's stat, or None when there is no such key."""
        answer = await self._read(EXISTS, path, read, timeout)
        fields = shaped(answer.result, 1)[0]
        return None if fields is None else Stat.of(fields, answer.index)

    async def children(self, path: str, *, read: ReadLevel = "linearizable", timeout: float | None = None) -> list[str]:
        """The names of a key's children, sorted. Raises NoNode, NoAuth."""
        answer = await self._read(CHILDREN, path, read, timeout)
        names: list[str] = shaped(answer.result, 2)[0]
        return names

    async def iterate_children(
        self, path: str, *, page: int = 1000, read: ReadLevel = "linearizable", timeout: float | None = None
    ) -> AsyncIterator[str]:
        """The names of a key's children, sorted, asked for page by page: for directories of any size.

        Children that are there from the beginning to the end come once; those that come or go meanwhile may be
        missing or not. `timeout` is for each page. Raises NoNode, NoAuth, also when the key goes meanwhile.
        """
        if type(page) is not int or not 1 <= page <= CHILDREN_PAGE_MAX:
            raise BadArguments(f"a page is 1 to {CHILDREN_PAGE_MAX} names, not {page!r}", path=path)
        names: list[str] = [""]
        while names:
            answer = await self._read(CHILDREN_PAGE, path, read, timeout, names[-1], page)
            names = shaped(answer.result, 2)[0]
            for name in names:
                yield name
            if len(names) < page:
                return

    async def count(self, path: str, *, read: ReadLevel = "linearizable", timeout: float | None = None) -> int:
        """How many keys there are below a key, however deep. Takes the server long where they are very many.
        Raises NoNode, NoAuth."""
        answer = await self._read(COUNT, path, read, timeout)
        number: int = shaped(answer.result, 1)[0]
        return number

    async def ephemerals(
        self, prefix: str = "/", *, read: ReadLevel = "linearizable", timeout: float | None = None
    ) -> list[str]:
        """The paths of this session's own ephemeral keys at and below a key, which need not exist, sorted."""
        answer = await self._read(EPHEMERALS, prefix, read, timeout)
        paths: list[str] = shaped(answer.result, 1)[0]
        return [self._operations.local(path) for path in paths]

    async def sync(self, *, timeout: float | None = None) -> int:
        """Wait until the connected server has everything that was committed before this call; how far that is.

        A local read after it is at least that fresh.
        """
        return (await self._session.call(SYNC, (), timeout)).index

    async def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """What the connected server says of itself and its cluster."""
        status: dict[str, Any] = shaped((await self._session.call(STATUS, (), timeout)).result, 1)[0]
        return status

    # Watches.

    async def changed(
        self, path: str, *, since: int | None = None, children: bool = False, timeout: float | None = None
    ) -> Event:
        """Wait for the next event of one key, whether it exists or not: created, changed or deleted.

        `since`: the next one after this index (`stat.index`), if need be from the server's history: between a
        read and this call nothing is missed. Without it, the next one from now on. `children`: instead, the next
        change of its list of children, or its deletion. `timeout` is for the registration; the waiting
        itself has no end of its own. Raises Compacted when the history does not reach back to `since`.
        """
        mode = WatchMode.ONCE_CHILDREN if children else WatchMode.ONCE
        async with self._watcher(path, mode, since, timeout) as events:
            return await anext(events)

    def watch(
        self, path: str, *, recursive: bool = False, since: int | None = None, timeout: float | None = None
    ) -> Watcher:
        """The events of a key and changes of its list of children, or, `recursive`, of all keys from it down.

        Without a gap and without a double, over reconnections too; from the index after `since` on, or from now
        on. Use it as `async for event in client.watch(path)`, or as `async with client.watch(path) as events`,
        inside of which it is registered before anything else happens. When events are gone that it should
        have shown it raises Compacted: read the state anew, and watch from its index.
        """
        mode = WatchMode.RECURSIVE if recursive else WatchMode.PERSISTENT
        return self._watcher(path, mode, since, timeout)

    def _watcher(self, path: str, mode: WatchMode, since: int | None, timeout: float | None) -> Watcher:
        if since is not None and (type(since) is not int or not 0 <= since <= COUNTER_MAX):
            raise BadArguments(f"since is a log index, not {since!r}", path=path)
        return Watcher(self._session, self._operations, path, mode, since or 0, timeout)

    # Transactions.

    def transaction(self, *, timeout: float | None = None) -> Transaction:
        """Several writes in one step, all or nothing: see `Transaction`."""
        return Transaction(self._operations, self._commit, timeout)

    # How it gets there. `fencing` replaces these two.

    async def _write(self, operation: Operation, path: str, timeout: float | None) -> tuple[list[Any], int]:
        """Send one write. Its result and index."""
        op, *arguments = operation
        answer = await self._call(op, tuple(arguments), path, timeout)
        return answer.result, answer.index

    async def _commit(self, operations: Sequence[Operation], timeout: float | None) -> tuple[list[list[Any]], int]:
        """Send operations as one transaction. Their results and index; the error of the one that failed."""
        check_size(operations)
        try:
            answer = await self._session.call(MULTI, (list(operations),), timeout)
        except DefiniteError as error:
            raise self._operations.placed(error, operations) from None
        results: list[list[Any]] = shaped(answer.result, 1)[0]
        if type(results) is not list or len(results) != len(operations):
            raise ProtocolError(f"{len(operations)} operations, {results!r:.100} for results")
        return results, answer.index

    async def _read(self, op: int, path: str, read: str, timeout: float | None, *more: Any) -> Request:
        level = _LEVELS.get(read)
        if level is None:
            raise BadArguments(f'read is "linearizable" or "local", not {read!r}', path=path)
        return await self._call(op, (self._operations.full(path), level, *more), path, timeout)

    async def _call(self, op: int, arguments: tuple[Any, ...], path: str, timeout: float | None) -> Request:
        try:
            return await self._session.call(op, arguments, timeout)
        except JkcsError as error:
            self._operations.localize(error, path, arguments[0])
            raise
