"""The key tree and its sessions once more, as stupidly as can be: what the real one is compared with.

Every operation works on a full copy of the state that becomes the state when nothing failed; children are
found by looking at all keys; nothing is cached, shared or fast. It shares with the product the numbers of
the protocol and nothing else. Used by property tests of the tree, and by the simulator to replay a history.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from jkcs_client.protocol import errors, messages
from jkcs_server.tree.commands import EXPIRE, IDENTIFIED, MOVE, MOVE_SERIALS, OPEN, REAP

Answer = tuple[int, Any]
"""Code, and the fields of the answer (a tuple) or the detail (a text)."""


class Failed(Exception):
    """An operation came to nothing."""

    def __init__(self, error: type[errors.JkcsError], detail: str) -> None:
        super().__init__(detail)
        self.code = error.code
        self.detail = detail


AclEntries = tuple[tuple[int, str, str], ...]
OPEN_ACL: AclEntries = ((31, "world", "anyone"),)
READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
SYSTEM = ("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota")


@dataclass
class ModelKey:
    """One key."""

    data: bytes
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    owner: int = 0
    version: int = 0
    cversion: int = 0
    next_number: int = 0
    acl: AclEntries = OPEN_ACL
    aversion: int = 0
    ttl: int = 0

    def skip_to(self, number: int) -> None:
        """The numbers before it count as children that came and went."""
        self.cversion += 2 * (number - self.next_number)
        self.next_number = number


@dataclass
class ModelSession:
    """One session."""

    password: bytes
    timeout_ms: int
    ids: Any = ()
    serial: int = 0
    replies: dict[int, Answer] = field(default_factory=dict)


class ModelTree:
    """Commands in, answers out. `events` are those of the last command: (kind, path), in order.

    Beside it, `lists` has the access control list that the key of each event had then, and `quiet` the paths of what
    changed without an event.
    """

    def __init__(self) -> None:
        self.keys = {path: ModelKey(b"", 0, 0, 0, 0, 0) for path in SYSTEM}
        self.keys["/"].cversion = -1
        self.keys["/zookeeper"].cversion = -2
        self.keys["/zookeeper/config"].aversion = -1
        self.keys["/zookeeper/config"].acl = ((READ, "world", "anyone"),)
        self.sessions: dict[int, ModelSession] = {}
        self.ids: Any = ()
        self.events: list[tuple[int, str]] = []
        self.lists: list[AclEntries] = []
        self.quiet: list[str] = []

    # Reading

    def get(self, path: str) -> tuple[bytes, tuple[int, ...]] | None:
        """Data and stat of a key, or None."""
        key = self.keys.get(path)
        return None if key is None else (key.data, self.stat(path))

    def stat(self, path: str) -> tuple[int, ...]:
        key = self.keys[path]
        of_data = (key.version, key.cversion, key.owner, len(key.data), len(self.children(path)))
        return (key.czxid, key.mzxid, key.pzxid, key.ctime, key.mtime, *of_data, key.aversion, key.ttl)

    def children(self, path: str) -> list[str]:
        """Sorted names."""
        return sorted(_split(other)[-1] for other in self.keys if other != "/" and _parent(other) == path)

    def owned_by(self, session: int) -> list[str]:
        """Sorted paths of a session's ephemeral keys."""
        return sorted(path for path, key in self.keys.items() if key.owner == session)

    # Commands

    def apply(self, index: int, stamp: int, command: Any, term: int | None = None) -> Answer | None:
        """Apply one command of the log. None: there is nobody to answer, and nothing was done for a client.

        `term` is that of the command's entry; without it every expiry is taken to be of the right term.
        """
        self._tell_nothing()
        op, session_id, serial, acked, *arguments = command
        if op == OPEN and session_id == 0:
            if any(session.password == arguments[0] for session in self.sessions.values()):
                return None
            self.sessions[index] = ModelSession(*arguments)
            return errors.OK, (index,)
        if op == REAP and session_id == 0:
            if term in (None, arguments[2]):
                self._reap(index, stamp, arguments[0], arguments[1])
            return None
        session = self.sessions.get(session_id)
        if op == EXPIRE and serial == 0:
            if session is not None and term in (None, arguments[0]):
                self._end(session_id, index)
            return None
        if op == MOVE and serial == 0:
            if session is not None:
                session.serial += MOVE_SERIALS
                session.replies.clear()
            return None
        if session is None:
            return errors.SessionExpired.code, f"session {session_id}"
        if serial <= session.serial:
            return session.replies.get(serial)
        if serial > session.serial + 1:
            return None
        if op == messages.CLOSE:
            self._end(session_id, index)
            return errors.OK, ()
        answer = self._write(index, stamp, session_id, op, arguments)
        self._count()
        session.serial = serial
        session.replies[serial] = answer
        oldest = serial - messages.REQUESTS_IN_FLIGHT_MAX
        for number in list(session.replies):
            if number <= oldest or (number <= acked and number != serial):
                del session.replies[number]
        return answer

    def _reap(self, index: int, stamp: int, path: str, czxid: int) -> None:
        key = self.keys.get(path)
        if key is None or key.czxid != czxid or self.children(path):
            return
        if (key.ttl == -1 and key.next_number) or (key.ttl > 0 and stamp - key.mtime >= key.ttl):
            self._remove(path, index)
            self._count()

    def _end(self, session_id: int, index: int) -> None:
        for path in self.owned_by(session_id):
            self._remove(path, index)
        self._count()
        del self.sessions[session_id]

    def _write(self, index: int, stamp: int, session_id: int, op: int, arguments: list[Any]) -> Answer:
        before = copy.deepcopy(self.keys)
        self.ids = self.sessions[session_id].ids
        if isinstance(op, int) and op >= IDENTIFIED:
            op, self.ids, arguments = op - IDENTIFIED, arguments[-1], arguments[:-1]
        try:
            if op == messages.MULTI:
                return errors.OK, (self._multi(index, stamp, session_id, arguments),)
            return errors.OK, self._step(index, stamp, session_id, op, arguments)
        except Failed as failure:
            self.keys = before
            self._tell_nothing()
            return failure.code, failure.detail

    def _multi(self, index: int, stamp: int, session_id: int, arguments: list[Any]) -> tuple[Any, ...]:
        if len(arguments) != 1 or not isinstance(arguments[0], list | tuple):
            raise Failed(errors.BadArguments, "a list of operations")
        results: list[Any] = []
        for place, step in enumerate(arguments[0]):
            try:
                if not isinstance(step, list | tuple) or not step:
                    raise Failed(errors.BadArguments, "no operation")
                results.append(self._step(index, stamp, session_id, step[0], list(step[1:])))
            except Failed as failure:
                failure.detail = f"{place}: {failure.detail}"
                raise
        return tuple(results)

    def _step(self, index: int, stamp: int, session_id: int, op: int, arguments: list[Any]) -> tuple[Any, ...]:
        shapes = {
            messages.CREATE: (str, bytes, int),
            messages.SET: (str, bytes, int),
            messages.DELETE: (str, int),
            messages.CHECK: (str, int),
            messages.GUARD: (str, int),
            messages.SET_ACL: (str, tuple, int),
            messages.SEQUENCE: (str, int),
        }
        if op not in shapes:
            raise Failed(errors.Unimplemented, f"operation {op}")
        acl: Any = OPEN_ACL
        ttl: Any = 0
        if op == messages.CREATE and len(arguments) == 5:
            *arguments, acl, ttl = arguments
        if op == messages.SET_ACL and len(arguments) == 3:
            acl = arguments[1] = arguments[1] if arguments[1] is not None else OPEN_ACL
        if tuple(type(argument) for argument in arguments) != shapes[op]:
            raise Failed(errors.BadArguments, "wrong arguments")
        path = arguments[0]
        if op == messages.CREATE:
            _check_lifetime(arguments[2], ttl)
            return self._create(index, stamp, session_id, path, arguments[1], arguments[2], acl or OPEN_ACL, ttl)
        if op == messages.SEQUENCE and not 0 <= arguments[1] <= 2**61:
            raise Failed(errors.BadArguments, "wrong arguments")
        _check_path(path)
        if op == messages.GUARD:
            if path not in self.keys or self.keys[path].czxid != arguments[1]:
                raise Failed(errors.Fenced, path)
            return ()
        if op == messages.DELETE:
            if path in SYSTEM:
                raise Failed(errors.BadPath if path == "/" else errors.BadArguments, path)
            if _parent(path) in self.keys:
                self._need(DELETE, _parent(path), path)
        if path not in self.keys:
            raise Failed(errors.NoNode, path)
        key = self.keys[path]
        if op != messages.DELETE:
            needed = {messages.SET: WRITE, messages.CHECK: READ, messages.SET_ACL: ADMIN, messages.SEQUENCE: ADMIN}
            self._need(needed[op], path, path)
        if op == messages.SEQUENCE:
            key.skip_to(max(key.next_number, arguments[1]))
            return (self.stat(path),)
        present = key.aversion if op == messages.SET_ACL else key.version
        if op != messages.SET and not _is_version(arguments[-1], present):
            raise Failed(errors.BadVersion, path)
        if op == messages.SET_ACL:
            key.acl, key.aversion = acl, key.aversion + 1
            self.quiet.append(path)
            return (self.stat(path),)
        if op == messages.DELETE:
            if self.children(path):
                raise Failed(errors.NotEmpty, path)
            self._remove(path, index)
            return ()
        if op == messages.SET:
            self._charge(path, 0, len(arguments[1]) - len(key.data))
            if not _is_version(arguments[-1], key.version):
                raise Failed(errors.BadVersion, path)
            key.data, key.mzxid, key.mtime, key.version = arguments[1], index, stamp, key.version + 1
            self._tell(messages.EventKind.CHANGED, path, key)
            self._count()
            return (self.stat(path),)
        return ()

    def _create(
        self, index: int, stamp: int, session_id: int, path: str, data: bytes, flags: int, acl: Any, ttl: int
    ) -> tuple[str, tuple[int, ...]]:
        sequential = bool(flags & messages.CreateFlag.SEQUENTIAL)
        _check_path(path + "0000000000" if sequential else path)
        parent = path[: path.rindex("/")] or "/"
        missing = [above for above in _above(parent) if above not in self.keys]
        if missing and not flags & messages.CreateFlag.PARENTS:
            raise Failed(errors.NoNode, parent)
        deepest = missing[0] if missing else None
        lowest = _parent(deepest) if deepest is not None else parent
        self._need(CREATE, lowest, path)
        int32 = bool(flags & messages.CreateFlag.INT32)
        if sequential and int32 and not missing:
            path, sequential = self._numbered(path, parent, True), False
        if path in self.keys and not sequential:
            raise Failed(errors.NodeExists, path)
        if self.keys[lowest].owner:
            raise Failed(errors.NoChildrenForEphemerals, lowest)
        for above in missing:
            self._add(above, b"", 0, index, stamp, acl)
            self._count()
        if sequential:
            path = self._numbered(path, parent, int32)
        self._charge(path, 1, len(data))
        ephemeral = bool(flags & messages.CreateFlag.EPHEMERAL)
        self._add(path, data, session_id if ephemeral else 0, index, stamp, acl)
        self.keys[path].ttl = -1 if flags & messages.CreateFlag.CONTAINER else ttl
        self._count()
        return path, self.stat(path)

    def _numbered(self, prefix: str, parent: str, int32: bool) -> str:
        number = self.keys[parent].next_number
        while True:
            shown = number
            while int32 and shown > 2**31 - 1:
                shown -= 2**32
            path = f"{prefix}{shown:010}"
            if int32 or path not in self.keys:
                # The creation itself counts one.
                self.keys[parent].skip_to(number)
                return path
            number += 1

    def configure(self, index: int, stamp: int, data: bytes) -> None:
        """A configuration was applied, and this is what its key says."""
        key = self.keys["/zookeeper/config"]
        key.data, key.mzxid, key.mtime, key.version = data, index, stamp, key.version + 1
        self._tell_nothing()
        self._tell(messages.EventKind.CHANGED, "/zookeeper/config", key)

    def _quotas(self) -> dict[str, dict[str, int]]:
        """What is said for each key with a quota."""
        quotas = {}
        for path in self._said():
            key = self.keys[path]
            top = path.removeprefix("/zookeeper/quota").removesuffix("/zookeeper_limits")
            if top and path == f"/zookeeper/quota{top}/zookeeper_limits":
                pairs = [pair.split("=") for pair in key.data.decode("latin-1").replace(";", ",").split(",")]
                quotas[top] = {
                    pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()
                }
        return quotas

    def _said(self) -> Iterable[str]:
        """Where quotas may stand."""
        return self.keys

    def _held(self, top: str) -> tuple[int, int]:
        held = [key for path, key in self.keys.items() if path == top or path.startswith(top + "/")]
        return (0, 0) if _is_system(top) else (len(held), sum(len(key.data) for key in held))

    def _charge(self, path: str, count: int, size: int) -> None:
        for top, said in self._quotas().items():
            if (path == top or path.startswith(top + "/")) and not _is_system(path):
                keys, held = self._held(top)
                if count and -1 < said.get("countHardLimit", -1) < keys + count:
                    raise Failed(errors.QuotaExceeded, path)
                if size and -1 < said.get("byteHardLimit", -1) < held + size:
                    raise Failed(errors.QuotaExceeded, path)

    def _count(self) -> None:
        """Make true what is said of how much there is."""
        for top in self._quotas():
            stats = self.keys.get(f"/zookeeper/quota{top}/zookeeper_stats")
            if stats is not None:
                stats.data = b"count=%d,bytes=%d" % self._held(top)
                self.quiet.append(f"/zookeeper/quota{top}/zookeeper_stats")

    def _need(self, permission: int, at: str, path: str) -> None:
        if ("super", "") in self.ids:
            return
        for permissions, scheme, name in self.keys[at].acl:
            # Addresses with a width are not looked at here: they have a test of their own.
            if permissions & permission and ((scheme, name) == ("world", "anyone") or (scheme, name) in self.ids):
                return
        raise Failed(errors.NoAuth, path)

    def _add(self, path: str, data: bytes, owner: int, index: int, stamp: int, acl: Any = OPEN_ACL) -> None:
        self.keys[path] = ModelKey(data, index, index, index, stamp, stamp, owner, acl=acl)
        self._children_changed(path, index)
        self.keys[_parent(path)].next_number += 1
        self._tell(messages.EventKind.CREATED, path, self.keys[path])

    def _remove(self, path: str, index: int) -> None:
        key = self.keys.pop(path)
        self._children_changed(path, index)
        self._tell(messages.EventKind.DELETED, path, key)

    def _tell(self, kind: int, path: str, key: ModelKey) -> None:
        self.events.append((kind, path))
        self.lists.append(key.acl)

    def _tell_nothing(self) -> None:
        self.events, self.lists, self.quiet = [], [], []

    def _children_changed(self, path: str, index: int) -> None:
        parent = self.keys[_parent(path)]
        parent.cversion += 1
        parent.pzxid = index


def _split(path: str) -> list[str]:
    return path.split("/")[1:]


def _parent(path: str) -> str:
    return "/" + "/".join(_split(path)[:-1])


def _above(path: str) -> list[str]:
    """A path and all above it, the root first."""
    names = [] if path == "/" else _split(path)
    return ["/" + "/".join(names[:count]) for count in range(len(names) + 1)]


def _is_system(path: str) -> bool:
    return path == "/zookeeper" or path.startswith("/zookeeper/")


def _is_version(given: int, present: int) -> bool:
    wrapped = present
    while wrapped > 2**31 - 1:
        wrapped -= 2**32
    return given in (messages.ANY_VERSION, present, wrapped)


def _check_lifetime(flags: int, ttl: Any) -> None:
    kinds = [flag for flag in (1, 8, 16) if flags & flag]
    legal = 0 < ttl < 2**40 if kinds == [16] and type(ttl) is int else ttl == 0 and type(ttl) is int
    if not 0 <= flags <= 63 or len(kinds) > 1 or not legal:
        raise Failed(errors.BadArguments, f"flags {flags}, ttl {ttl}")


def _check_path(path: str) -> None:
    names = path.split("/")
    legal = names[0] == "" and len(names) > 1
    if path != "/":
        legal = legal and all(name not in ("", ".", "..") for name in names[1:])
    for character in path:
        code = ord(character)
        if code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xF8FF or code >= 0xFFF0:
            legal = False
    if not legal:
        raise Failed(errors.BadPath, path)
