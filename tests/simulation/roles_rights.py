"""Clients with rights: owners who give keys lists and change them, and strangers who try what they may not.

All of them do the same with a few keys; what comes of it is judged by the list that the replayed log has for the index
of each answer, and by who the client has proved to be. Called by the workload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jkcs_client import Acl
from jkcs_client.protocol.errors import AmbiguousError, BadVersion, InvalidAcl, NoAuth, NoNode, RetryableError
from tests.simulation.actors import GONE, REFUSED, Actor, Call, WriteRecord, complain
from tests.simulation.checkers.rights import ADMIN as ADMINISTER
from tests.simulation.checkers.rights import (
    CREATE,
    DELETE,
    READ,
    WRITE,
    Ids,
    changed_since,
    check_access,
    check_list,
    identity,
)
from tests.simulation.roles_watches import WatchUser
from tests.simulation.trace import Violation

TOP = "/own"
KEYS = (f"{TOP}/a", f"{TOP}/b", f"{TOP}/c")
ALICE, BOB = "alice:a-7Qm3", "bob:b-9Xk1"
PEOPLE = (ALICE, BOB)


def _by(credentials: str, letters: str = "cdrwa") -> Acl:
    user, _, password = credentials.partition(":")
    return Acl.digest(user, password, letters)


# In each somebody may do everything, so that no key is locked for ever.
LISTS: tuple[tuple[Acl, ...], ...] = (
    (Acl.open(),),
    (Acl.creator(),),
    (_by(ALICE),),
    (_by(BOB),),
    (_by(ALICE), Acl.read_only()),
    (_by(ALICE), _by(BOB, "rw")),
    (_by(BOB), _by(ALICE, "ra"), Acl.parse("world:anyone:w")),
    (_by(BOB), Acl.parse("world:anyone:cd")),
)


class RightsUser(Actor):
    """Reads and changes keys and their lists, with whatever it has proved to be."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._annals = self._ghost.annals
        self._ids: Ids = frozenset(identity(secret) for _, secret in self.credentials(self._who))
        """Who it surely is to every server ..."""
        self._perhaps = self._ids
        """... and who it may be: an answer was lost."""
        self._aversions = dict.fromkeys(KEYS, -1)
        """How often each list had been changed when it was last read; -1: not known."""
        self._doings: dict[str, tuple[int, Callable[[str], Any]]] = {
            "get": (20, self._get),
            "acl": (8, self._get_list),
            "children": (5, self._list_children),
            "set": (20, self._set),
            "create": (8, self._create),
            "delete": (3, self._delete),
            "child": (8, self._create_child),
            "orphan": (8, self._delete_child),
            "relist": (12, self._set_list),
            "together": (6, self._set_both),
        }
        """By name: how often, and what."""

    def actions(self) -> list[Call]:
        return [self._use_rights]

    async def _use_rights(self) -> None:
        await self._attempt(lambda: self._client.create(TOP))
        while not self._over:
            await self._pause(0.1)
            names = list(self._doings)
            name = self._chance.choices(names, [self._doings[one][0] for one in names])[0]
            await self._doings[name][1](self._chance.choice(KEYS))

    # Reads.

    async def _get(self, key: str) -> None:
        local = self._chance.random() < 0.3
        at_least = self._seen if local else self._committed
        try:
            value, stat = await self._client.get(key, read="local" if local else "linearizable")
        except NoNode as error:
            self._check_read(key, error.index or 0, None, None, at_least=at_least)
        except NoAuth as error:
            self._check_index(key, error.index or 0, at_least=at_least)
            self._judge_read("get", READ, key, error.index or 0, refused=True)
        except GONE:
            return
        else:
            self._check_read(key, stat.index, value, stat.version, at_least=at_least)
            self._judge_read("get", READ, key, stat.index, refused=False)

    async def _list_children(self, key: str) -> None:
        try:
            if self._chance.random() < 0.5:
                await self._client.count(key)
            else:
                await self._client.children(key)
        except NoAuth as error:
            self._judge_read("children", READ, key, error.index or 0, refused=True)
        except (NoNode, *GONE):
            return

    async def _get_list(self, key: str) -> None:
        """Read and judge a list."""
        committed = self._committed
        try:
            entries, stat = await self._client.get_acl(key)
        except NoAuth as error:
            self._judge_read("get_acl", READ | ADMINISTER, key, error.index or 0, refused=True)
            return
        except (NoNode, *GONE):
            return
        self._check_index(key, stat.index, at_least=committed)
        self._judge_read("get_acl", READ | ADMINISTER, key, stat.index, refused=False)
        # Where it may be somebody or not, it may see hashes or not.
        if self._ids == self._perhaps:
            self._load.verify(check_list, self._annals, self._who, key, stat.index, entries, stat.aversion, self._ids)
        self._aversions[key] = stat.aversion

    def _judge_read(self, what: str, permission: int, key: str, index: int, *, refused: bool) -> None:
        if refused:
            self._load.see("read refused by a list")
        ids = self._ids if refused else self._perhaps
        self._load.verify(check_access, self._annals, f"{self._who}: {what}", permission, key, index, ids, refused)

    # Writes.

    async def _set(self, key: str) -> None:
        value = self._load.value(self._who)
        await self._write("set", WRITE, key, key, lambda: self._client.set(key, value), value)

    async def _create(self, key: str) -> None:
        value, acl = self._load.value(self._who), self._draw_list()
        await self._write("create", CREATE, TOP, key, lambda: self._client.create_with_stat(key, value, acl=acl), value)

    async def _delete(self, key: str) -> None:
        await self._write("delete", DELETE, TOP, key, lambda: self._client.delete(key))

    async def _create_child(self, key: str) -> None:
        value, child = self._load.value(self._who), f"{key}/x"
        await self._write("child", CREATE, key, child, lambda: self._client.create_with_stat(child, value), value)

    async def _delete_child(self, key: str) -> None:
        await self._write("orphan", DELETE, key, f"{key}/x", lambda: self._client.delete(f"{key}/x"))

    async def _set_list(self, key: str) -> None:
        """Change a list, mostly only if nobody else has meanwhile."""
        if self._chance.random() < 0.5:
            await self._get_list(key)
        wanted = self._aversions[key] if self._chance.random() < 0.9 else -1
        acl = self._draw_list()
        await self._write("set_acl", ADMINISTER, key, key, lambda: self._client.set_acl(key, acl, wanted))

    async def _set_both(self, key: str) -> None:
        """A list and a value in one step. The log judges what each of the two found."""
        value, acl = self._load.value(self._who), self._draw_list()

        async def commit() -> None:
            async with self._client.transaction() as transaction:
                transaction.set_acl(key, acl)
                transaction.set(key, value)

        await self._write("both", 0, key, key, commit, value)

    def _draw_list(self) -> tuple[Acl, ...]:
        return self._chance.choice(LISTS)

    async def _write(
        self, what: str, permission: int, at: str, key: str, call: Call, value: bytes | None = None
    ) -> None:
        """A write that takes a permission on `at`; 0: several."""
        record = WriteRecord(f"{self._who} {what} {key}", value or b"", self._session)
        if value is not None:
            self._load.writes.append(record)
        self._load.calls += 1
        committed = self._committed
        try:
            result = await call()
        except NoAuth as error:
            record.refused = True
            self._on_refused(record.what, permission, at, error.index or 0, committed)
        except InvalidAcl as error:
            record.refused = True
            if self._ids:
                self._load.verify(complain, Violation("A1", f"{record.what}: {error}, of {sorted(self._ids)}"))
        except (*REFUSED, *GONE) as error:
            record.refused = True
            if what == "set_acl" and isinstance(error, BadVersion):
                self._load.see("list changed in vain")
        except AmbiguousError:
            return
        else:
            stat = self._acknowledge(record, key, result)
            if stat is not None:
                self._judge_write(record.what, permission, at, stat.index, refused=False)

    def _on_refused(self, what: str, permission: int, at: str, index: int, committed: int) -> None:
        self._load.see("write refused by a list")
        if changed_since(self._annals, at, committed, index):
            self._load.see("list changed under a writer")
        if permission:
            self._judge_write(what, permission, at, index, refused=True)

    def _judge_write(self, what: str, permission: int, at: str, index: int, *, refused: bool) -> None:
        ids = self._ids if refused else self._perhaps
        self._load.verify(check_access, self._annals, what, permission, at, index, ids, refused, write=True)


def _one_of(who: str) -> tuple[tuple[str, str], ...]:
    """Two clients with successive numbers are two people."""
    return (("digest", PEOPLE[int(who[1:]) % len(PEOPLE)]),)


class Owner(RightsUser):
    """Has proved who it is before it does anything."""

    @classmethod
    def credentials(cls, who: str) -> tuple[tuple[str, str], ...]:
        return _one_of(who)


class Insider(WatchUser):
    """Watches what others may not see, as long as it may."""

    TOPS = (TOP, "/", KEYS[0])

    def actions(self) -> list[Call]:
        return [*super().actions(), self._move_about]

    async def _move_about(self) -> None:
        """What happens while it is on its way must be told when it has said again who it is."""
        while not self._over:
            await self._pause(0.3)
            self._load.move(self._process)

    @classmethod
    def credentials(cls, who: str) -> tuple[tuple[str, str], ...]:
        return _one_of(who)


class Stranger(RightsUser):
    """Is nobody, until it proves to be somebody in the middle of its session."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._doings["prove"] = (2, self._prove)

    async def _prove(self, key: str) -> None:
        secret = self._chance.choice(PEOPLE)
        self._perhaps |= {identity(secret)}
        try:
            await self._client.authenticate("digest", secret)
        except (RetryableError, AmbiguousError, *GONE):
            return
        self._ids |= {identity(secret)}
