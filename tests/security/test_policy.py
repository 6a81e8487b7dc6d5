"""Every operation, of both protocols, against every kind of list and caller, alone and inside a transaction.

What is checked unevenly is where others were hurt: a check that one path makes and another one forgets
(CVE-2020-7955, CVE-2026-33343, CVE-2026-44283, CVE-2019-0201). The table is `policy.py`; an operation that is added
without a row there fails here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from jkcs_client.protocol import messages
from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.credentials import digest_id
from jkcs_client.protocol.errors import OK, BadArguments, NoAuth, Unimplemented
from jkcs_client.protocol.framing import pack
from jkcs_client.protocol.messages import LOCAL, PREFACE
from jkcs_server.serving.native import NativeConnection
from jkcs_server.serving.zookeeper_reads import READS
from jkcs_server.serving.zookeeper_writes import STEPS, WRITES
from jkcs_server.tree.acl import SUPER, Ids
from jkcs_server.tree.commands import OPEN
from tests.security.policy import ADMIN, ALL, NATIVE, READ, ZOOKEEPER, On, verdict
from tests.support import jute_client as jute
from tests.unit.jkcs_server.serving import test_native as native
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected

ME = digest_id("me:secret")
OTHER_LIST = [ALL, 0, *(1 << bit for bit in range(5)), *(ALL ^ 1 << bit for bit in range(5))]
"""Sets of permissions: all, none, each alone, and all but each."""


class Caller(NamedTuple):
    name: str
    share: int
    """Of what the lists grant, it gets what this mask leaves."""
    is_super: bool = False

    def granted(self, permissions: int) -> int:
        return ALL if self.is_super else permissions & self.share


CALLERS = [Caller("me", ALL), Caller("another", 0), Caller("nobody", 0), Caller("super", ALL, True)]


class Cell(NamedTuple):
    key: int
    parent: int
    exists: bool


def cells() -> Iterator[Cell]:
    """The parent's list is the opposite of the key's: a check of the wrong one of them is seen."""
    for permissions in OTHER_LIST:
        for exists in (True, False):
            yield Cell(permissions, ALL ^ permissions, exists)


# ZooKeeper's protocol.

NAMES = {
    getattr(zk, name.upper()): name
    for name in ZOOKEEPER
    if name not in ("multi", "auth", "ping", "sasl", "delete_container", "reconfig", "close_session")
}
CREATES = (zk.CREATE, zk.CREATE2, zk.CREATE_CONTAINER, zk.CREATE_TTL)


def test_every_operation_of_zookeepers_protocol_has_a_rule() -> None:
    """One that is added must say whom it serves (CVE-2026-33413, CVE-2025-58457)."""
    served = {*READS, *WRITES, *STEPS, *zk.OP_NAMES, zk.AUTH, zk.SASL, zk.DELETE_CONTAINER}
    ruled = {getattr(zk, name.upper()) for name in ZOOKEEPER}
    assert served == ruled


def test_every_native_operation_has_a_rule() -> None:
    assert set(messages.OP_NAMES.values()) <= set(NATIVE)


def list_of(permissions: int) -> tuple[tuple[int, str, str], ...]:
    return ((permissions, "digest", ME),)


def record(op: int, path: str) -> bytes:
    """A request for a key, as harmless as it can be."""
    if op == zk.CREATE_TTL:
        return jute.create_ttl(path, 1000)
    if op == zk.CREATE_CONTAINER:
        return jute.create(path, mode=zk.CONTAINER)
    if op in CREATES:
        return jute.create(path)
    if op in (zk.SET_WATCHES, zk.SET_WATCHES2):
        return jute.set_watches(0, *[[path]] * (3 if op == zk.SET_WATCHES else 5))
    records = {
        zk.DELETE: jute.delete(path),
        zk.CHECK: jute.check(path),
        zk.SET_DATA: jute.set_data(path, b"new"),
        zk.SET_ACL: jute.set_acl(path, list_of(ALL)),
        zk.GET_ACL: jute.text(path),
        zk.SYNC: jute.text(path),
        zk.GET_EPHEMERALS: jute.text(path),
        zk.GET_ALL_CHILDREN_NUMBER: jute.text(path),
        zk.WHO_AM_I: b"",
        zk.ADD_WATCH: jute.numbered(path, zk.WATCH_RECURSIVE),
        zk.CHECK_WATCHES: jute.numbered(path, zk.WATCHER_ANY),
        zk.REMOVE_WATCHES: jute.numbered(path, zk.WATCHER_ANY),
    }
    return records.get(op) or jute.read(path)


class House:
    """A server, somebody who may do everything, and the callers."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.desk.super_digest = digest_id("root:secret")
        self.callers = {caller.name: connected(self.desk)[1] for caller in CALLERS}
        for name, credentials in (("me", b"me:secret"), ("another", b"you:secret"), ("super", b"root:secret")):
            assert self.callers[name].call(zk.AUTH, jute.auth("digest", credentials), zk.AUTH_XID).error == OK
        self._rooms = 0

    def room(self, cell: Cell) -> str:
        """A key as the cell has it, under a parent of its own."""
        self._rooms += 1
        parent = f"/room{self._rooms}"
        root = self.callers["super"]
        assert root.call(zk.CREATE, jute.create(parent, entries=list_of(cell.parent))).error == OK
        if cell.exists:
            assert root.call(zk.CREATE, jute.create(f"{parent}/key", b"data", entries=list_of(cell.key))).error == OK
        return f"{parent}/key"

    def alone(self, client: Client, op: int, path: str) -> int:
        return client.call(op, record(op, path)).error

    def inside(self, client: Client, op: int, path: str) -> int:
        """Behind a harmless one, in a transaction or a multi of reads."""
        many, first = (zk.MULTI, zk.CHECK) if op in STEPS else (zk.MULTI_READ, zk.GET_CHILDREN)
        answer = client.call(many, jute.multi((first, record(first, "/")), (op, record(op, path))))
        assert answer.error == OK
        kind, value = answer.value[1]
        return value if kind == zk.ERROR else OK


@pytest.mark.parametrize("op", sorted(op for op, name in NAMES.items() if ZOOKEEPER[name].on is not On.NOBODY))
def test_the_verdict_is_that_of_the_table_alone_and_inside_a_multi(op: int) -> None:
    house = House()
    rule = ZOOKEEPER[NAMES[op]]
    ways = [house.alone]
    if op in STEPS or op in (zk.GET_DATA, zk.GET_CHILDREN):
        ways.append(house.inside)
    for cell in cells():
        for caller in CALLERS:
            expected = verdict(
                rule,
                caller.granted(cell.key),
                caller.granted(cell.parent),
                creates=op in CREATES,
                deletes=op == zk.DELETE,
                exists=cell.exists,
            )
            for way in ways:
                found = way(house.callers[caller.name], op, house.room(cell))
                assert found == expected, (zk.OP_NAMES[op], cell, caller.name, way.__name__)


@pytest.mark.parametrize("op", sorted(op for op, name in NAMES.items() if ZOOKEEPER[name].on is On.NOBODY))
def test_what_needs_no_permission_is_refused_to_nobody(op: int) -> None:
    """And tells the same to all: nothing in the answer comes from a list."""
    house = House()
    path = house.room(Cell(0, 0, True))
    answers = set()
    for caller in ("me", "another", "nobody"):
        client = house.callers[caller]
        client.call(zk.ADD_WATCH, jute.numbered(path, zk.WATCH_PERSISTENT))
        answer = client.call(op, jute.multi() if op == zk.MULTI_READ else record(op, path))
        assert answer.error == OK
        answers.add(repr(answer.value) if op != zk.WHO_AM_I else "")
    assert len(answers) == 1


@pytest.mark.parametrize("op", [zk.CREATE, zk.DELETE, zk.SET_DATA, zk.CHECK, zk.GET_DATA])
def test_a_parent_that_is_missing_is_told_before_any_permission(op: int) -> None:
    """There is no list to look at."""
    house = House()
    assert house.alone(house.callers["nobody"], op, "/none/key") == zk.NO_NODE


@pytest.mark.parametrize("op", [zk.MULTI, zk.MULTI_READ])
def test_there_is_no_multi_inside_a_multi(op: int) -> None:
    """Nesting is how checks were stepped around in etcd (CVE-2026-33343)."""
    house = House()
    path = house.room(Cell(0, 0, True))
    inner = jute.multi((zk.SET_DATA, record(zk.SET_DATA, path)))
    answer = house.callers["nobody"].call(zk.MULTI, jute.multi((op, inner)))
    assert answer.error == zk.MARSHALLING_ERROR
    assert house.callers["super"].call(zk.GET_DATA, jute.read(path)).value[0] == b"data"


def test_hashes_are_shown_to_administrators_alone() -> None:
    """CVE-2019-0201: whoever may read a key could try passwords against the hashes in its list."""
    house = House()
    for permissions, shown in ((READ, "me:x"), (ADMIN, ME), (READ | ADMIN, ME)):
        path = house.room(Cell(permissions, 0, True))
        entries, _ = house.callers["me"].call(zk.GET_ACL, jute.text(path)).value
        assert entries == [(permissions, "digest", shown)]
    assert house.callers["another"].call(zk.GET_ACL, jute.text(path)).error == NoAuth.code


def test_callers_see_their_own_names_without_hashes() -> None:
    for name, house in (("me", House()), ("super", House())):
        known = house.callers[name].call(zk.WHO_AM_I).value
        assert all(ME not in who and ":" not in who for _, who in known), known


# The native protocol. Its callers are known by their certificates.

CERTIFICATE = "CN=me"
_NATIVE_OPS = {name: op for op, name in messages.OP_NAMES.items()}


class NativeDesk(native.Desk):
    """Several clients, each with a session that knows who it is."""

    def open_session(self, connection: NativeConnection, timeout_ms: int) -> None:
        self.connection = connection
        password = bytes([len(self.machine.sessions)]) * 16
        self.propose(pack((OPEN, 0, 0, 0, password, timeout_ms, connection.ids)))


class NativeClient(native.Client):
    def __init__(self, desk: NativeDesk, ids: Ids) -> None:
        self._ids = ids
        super().__init__(desk)
        self._serial = 0
        self.connection.receive(PREFACE)
        self.send([0, b"", 10_000, 0])
        desk.apply(self.connection)
        assert self.take()[0][0] == OK

    def identities(self) -> Ids:
        return self._ids

    def call(self, op: int, *arguments: Any) -> tuple[int, Any]:
        """Code, and what follows in the answer."""
        if op >= messages.FIRST_WRITE:
            self._serial += 1
            self.send([op, self._serial, self._serial - 1, *arguments])
        else:
            self.send([op, -1, *arguments])
        self.desk.apply(self.connection)
        self.desk.confirm(self.connection)
        answer = [each for each in self.take() if each[0]][-1]
        return answer[1], answer[3:]


class NativeHouse:
    def __init__(self) -> None:
        self.desk = NativeDesk()
        ids: dict[str, Ids] = {
            "me": (("ip", "192.0.2.1"), ("x509", CERTIFICATE)),
            "another": (("ip", "192.0.2.1"), ("x509", "CN=another")),
            "nobody": (("ip", "192.0.2.1"),),
            "super": (SUPER,),
        }
        self.callers = {name: NativeClient(self.desk, who) for name, who in ids.items()}
        self._rooms = 0

    def room(self, cell: Cell) -> str:
        self._rooms += 1
        parent, root = f"/room{self._rooms}", self.callers["super"]
        for path, permissions, wanted in (
            (parent, cell.parent, True),
            (f"{parent}/key", cell.key, cell.exists),
        ):
            if wanted:
                entries = [[permissions, "x509", CERTIFICATE]]
                assert root.call(messages.CREATE, path, b"data", 0, entries, 0)[0] == OK
        return f"{parent}/key"


def native_arguments(name: str, path: str) -> tuple[Any, ...]:
    return {
        "create": (path, b"", 0),
        "delete": (path, -1),
        "set": (path, b"new", -1),
        "set_acl": (path, None, -1),
        "sequence": (path, 5),
        "check": (path, -1),
        "children_page": (path, LOCAL, "", 10),
    }.get(name, (path, LOCAL))


NATIVE_CHECKED = sorted(name for name, rule in NATIVE.items() if rule.on is not On.NOBODY and name in _NATIVE_OPS)


@pytest.mark.parametrize("name", NATIVE_CHECKED)
def test_the_verdict_is_that_of_the_table_in_the_native_protocol_too(name: str) -> None:
    """Alone and as the second step of a transaction."""
    house, op, rule = NativeHouse(), _NATIVE_OPS[name], NATIVE[name]
    for cell in cells():
        for caller in CALLERS:
            client = house.callers[caller.name]
            path = house.room(cell)
            code, _ = client.call(op, *native_arguments(name, path))
            if code == Unimplemented.code:
                pytest.skip(f"{name} is not served")
            expected = verdict(
                rule,
                caller.granted(cell.key),
                caller.granted(cell.parent),
                creates=name == "create",
                deletes=name == "delete",
                exists=cell.exists,
            )
            assert code == expected, (name, cell, caller.name)
            if op >= messages.FIRST_WRITE:
                steps = [[messages.CHECK, "/", -1], [op, *native_arguments(name, house.room(cell))]]
                code, _ = client.call(messages.MULTI, steps)
                if code != Unimplemented.code:
                    assert code == expected, (name, cell, caller.name, "in a multi")


def test_a_native_multi_takes_no_multi() -> None:
    house = NativeHouse()
    path = house.room(Cell(0, 0, True))
    inner = [[messages.SET, path, b"new", -1]]
    code, _ = house.callers["nobody"].call(messages.MULTI, [[messages.MULTI, inner]])
    assert code == Unimplemented.code
    assert house.desk.machine.tree.nodes[path].data == b"data"


def test_identities_cannot_be_smuggled_in_with_a_write() -> None:
    """The marker of a command with identities is the server's own; a client that sets it has sent no operation."""
    house = NativeHouse()
    path = house.room(Cell(0, 0, True))
    for flag in (1 << 8, 1 << 9):
        code, _ = house.callers["nobody"].call(messages.SET | flag, path, b"new", -1, [list(SUPER)])
        assert code == Unimplemented.code
    code, _ = house.callers["nobody"].call(messages.SET, path, b"new", -1, [list(SUPER)])
    assert code == BadArguments.code
    assert house.desk.machine.tree.nodes[path].data == b"data"
