"""What can be asked of a ZooKeeper, as plain values, and its bytes.

An operation is told without the names of a run: paths below the root of a run begin with `~`, and a zxid is
told as "that of my reply before the last". So the same operation can be sent to two servers, printed, and sent
again. The encoding is its own: a judge that shared ours would share its faults. Knows nothing of sockets. Called by
`differential.py` and its helpers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields

Acl = tuple[tuple[int, str, str], ...]
OPEN: Acl = ((31, "world", "anyone"),)
CODES = {
    "create": 1, "delete": 2, "exists": 3, "getData": 4, "setData": 5, "getACL": 6, "setACL": 7, "getChildren": 8,
    "sync": 9, "ping": 11, "getChildren2": 12, "check": 13, "multi": 14, "create2": 15, "reconfig": 16,
    "checkWatches": 17, "removeWatches": 18, "createContainer": 19, "deleteContainer": 20, "createTTL": 21,
    "multiRead": 22, "auth": 100, "setWatches": 101, "sasl": 102, "getEphemerals": 103, "getAllChildrenNumber": 104,
    "setWatches2": 105, "addWatch": 106, "whoAmI": 107, "closeSession": -11, "unknown": 4711,
}  # fmt: skip
CREATES = ("create", "create2", "createContainer", "createTTL")
BOX = "box"
"""Names that begin so are of containers: what is below them is never deleted, for nobody can foretell when an
emptied container goes."""

XID_EVENT, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8
_INT, _LONG, _HEAD = struct.Struct(">i"), struct.Struct(">q"), struct.Struct(">ii")


@dataclass(frozen=True)
class Operation:
    """One request. Fields that its kind does not have are left as they are."""

    kind: str
    path: str = "~"
    data: bytes | None = b""
    flags: int = 0
    version: int = -1
    acl: Acl | None = OPEN
    watch: bool = False
    ttl: int = 0
    mode: int = 0
    """Of addWatch: 0 persistent, 1 recursive; of checkWatches and removeWatches: 1 children, 2 data, 3 any."""
    ago: int = 0
    """Of setWatches: the zxid of this session's reply so many before the last; 0 is none at all."""
    paths: tuple[tuple[str, ...], ...] = ()
    """Of setWatches: data, exists, child, persistent, recursive."""
    parts: tuple[Operation, ...] = ()
    """Of multi and multiRead."""
    scheme: str = ""
    credential: str = ""

    def __repr__(self) -> str:
        shown = [repr(self.kind)]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                shown.append(f"{field.name}={value!r}")
        return f"Operation({', '.join(shown)})"

    @property
    def xid(self) -> int | None:
        """The fixed xid of its kind; None when it takes the next."""
        return {"auth": XID_AUTH, "setWatches": XID_SET_WATCHES, "setWatches2": XID_SET_WATCHES, "ping": XID_PING}.get(
            self.kind
        )


def request(operation: Operation, xid: int, root: str, zxids: list[int]) -> bytes:
    """The frame of a request; `zxids` are those that this session's replies carried so far."""
    body = _HEAD.pack(xid, CODES[operation.kind]) + _body(operation, root, zxids)
    return _INT.pack(len(body)) + body


def connect_request(timeout_ms: int, session: int, password: bytes, last_zxid: int, *, read_only: bool | None) -> bytes:
    body = struct.pack(">iqiq", 0, last_zxid, timeout_ms, session) + buffer(password)
    body += b"" if read_only is None else bytes([read_only])
    return _INT.pack(len(body)) + body


def buffer(value: bytes | None) -> bytes:
    return _INT.pack(-1) if value is None else _INT.pack(len(value)) + value


def placed(path: str, root: str) -> str:
    """The path as it is sent."""
    return root + path[1:] if path.startswith("~") else path.replace("/@", root)


def _body(operation: Operation, root: str, zxids: list[int]) -> bytes:
    path = buffer(placed(operation.path, root).encode())
    match operation.kind:
        case "create" | "create2" | "createContainer" | "createTTL":
            body = path + buffer(operation.data) + _acl(operation.acl) + _INT.pack(operation.flags)
            return body + _LONG.pack(operation.ttl) if operation.kind == "createTTL" else body
        case "delete" | "check":
            return path + _INT.pack(operation.version)
        case "setData":
            return path + buffer(operation.data) + _INT.pack(operation.version)
        case "setACL":
            return path + _acl(operation.acl) + _INT.pack(operation.version)
        case "exists" | "getData" | "getChildren" | "getChildren2":
            return path + bytes([operation.watch])
        case "getACL" | "sync" | "getEphemerals" | "getAllChildrenNumber" | "deleteContainer":
            return path
        case "addWatch" | "checkWatches" | "removeWatches":
            return path + _INT.pack(operation.mode)
        case "auth":
            return _INT.pack(0) + buffer(operation.scheme.encode()) + buffer(operation.credential.encode())
        case "setWatches" | "setWatches2":
            zxid = zxids[-operation.ago] if 0 < operation.ago <= len(zxids) else 0
            return _LONG.pack(zxid) + b"".join(
                _INT.pack(len(paths)) + b"".join(buffer(placed(each, root).encode()) for each in paths)
                for paths in operation.paths
            )
        case "multi" | "multiRead":
            parts = b"".join(_part(CODES[part.kind], _body(part, root, zxids)) for part in operation.parts)
            return parts + _part(-1, b"", done=True)
        case "sasl":
            return buffer(operation.credential.encode())
        case _:
            return b""


def _part(code: int, body: bytes, *, done: bool = False) -> bytes:
    return _INT.pack(code) + bytes([done]) + _INT.pack(-1) + body


def _acl(acl: Acl | None) -> bytes:
    if acl is None:
        return _INT.pack(-1)
    entries = (
        _INT.pack(permissions) + buffer(scheme.encode()) + buffer(who.encode()) for permissions, scheme, who in acl
    )
    return _INT.pack(len(acl)) + b"".join(entries)
