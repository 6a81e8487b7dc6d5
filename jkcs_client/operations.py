"""Writes as the protocol wants them, and answers as the caller wants them: arguments checked, the chroot on or off.

Pure: no session and no I/O here. Used by `keys`, `transaction` and `fencing`. The server has the last word
on every argument; what is checked here could not be sent, or would cost a journey to be refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jkcs_client.acl import Acl, to_wire
from jkcs_client.connection import MESSAGE_BYTES_MAX
from jkcs_client.paths import full_path, local_path
from jkcs_client.protocol.errors import BadArguments, JkcsError, ProtocolError, TooLarge, error_for
from jkcs_client.protocol.messages import (
    ANY_VERSION,
    CHECK,
    CREATE,
    DELETE,
    GUARD,
    MULTI_BYTES_MAX,
    MULTI_OPS_MAX,
    SEQUENCE,
    SET,
    SET_ACL,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
    CreateFlag,
)
from jkcs_client.values import MILLISECONDS

COUNTER_MAX = (1 << 63) - 1
_OVERHEAD_BYTES = 64
"""No operation takes more on the wire, beside its path, value and list."""
_ENTRY_BYTES = 8
"""Nor does an entry of a list, beside its names."""

# Plain integers: members of an enum take their time to combine.
_EPHEMERAL = int(CreateFlag.EPHEMERAL)
_SEQUENTIAL = int(CreateFlag.SEQUENTIAL)
_PARENTS = int(CreateFlag.PARENTS)
_CONTAINER = int(CreateFlag.CONTAINER)
_TTL = int(CreateFlag.TTL)

Operation = tuple[Any, ...]
"""(op, path as the server names it, *arguments), as in a MULTI."""


class Operations:
    """Makes operations below one chroot ("" for none)."""

    def __init__(self, chroot: str) -> None:
        self.chroot = chroot

    def full(self, path: str) -> str:
        """The server's name of a key. Raises BadPath, TooLarge."""
        return full_path(self.chroot, path)

    def local(self, full: str) -> str:
        """The caller's name of a key."""
        return local_path(self.chroot, full)

    def create(
        self,
        path: str,
        value: bytes,
        *,
        ephemeral: bool = False,
        sequential: bool = False,
        parents: bool = False,
        container: bool = False,
        ttl: float | None = None,
        acl: Iterable[Acl] | None = None,
    ) -> Operation:
        """Raises BadPath, BadArguments, TooLarge; so do the others, as their arguments allow."""
        flags = (
            (_EPHEMERAL if ephemeral else 0)
            | (_SEQUENTIAL if sequential else 0)
            | (_PARENTS if parents else 0)
            | (_CONTAINER if container else 0)
            | (_TTL if ttl is not None else 0)
        )
        full = full_path(self.chroot, path, sequential=sequential)
        operation = CREATE, full, checked_value(value, path), flags
        if acl is None and ttl is None:
            return operation
        return (*operation, None if acl is None else to_wire(acl), 0 if ttl is None else checked_ttl(ttl))

    def set(self, path: str, value: bytes, version: int) -> Operation:
        """Change a value."""
        return SET, self.full(path), checked_value(value, path), checked_version(version)

    def delete(self, path: str, version: int) -> Operation:
        """Delete one key."""
        return DELETE, self.full(path), checked_version(version)

    def check(self, path: str, version: int) -> Operation:
        """Fail unless the key is there."""
        return CHECK, self.full(path), checked_version(version)

    def guard(self, path: str, token: int) -> Operation:
        """Fail unless the key is there and was created at this index."""
        return GUARD, self.full(path), token

    def set_acl(self, path: str, acl: Iterable[Acl], version: int) -> Operation:
        """Give a key another access control list."""
        return SET_ACL, self.full(path), to_wire(acl), checked_version(version)

    def raise_sequence(self, path: str, number: int) -> Operation:
        """Let the number of sequential children go on from there."""
        if type(number) is not int or not 0 <= number <= COUNTER_MAX:
            raise BadArguments(f"a number of sequential children is an integer from 0 on, not {number!r}", path=path)
        return SEQUENCE, self.full(path), number

    def localize(self, error: JkcsError, path: str, full: str) -> None:
        """Let an error speak of the key as the caller named it."""
        error.path = path
        if error.detail == full:
            error.detail = ""
        elif self.chroot:
            error.detail = error.detail.replace(f"{self.chroot}/", "/")

    def placed(self, error: JkcsError, operations: Sequence[Operation]) -> JkcsError:
        """A transaction's error "N: detail" as that of its Nth operation; any other error as it is."""
        place, colon, detail = error.detail.partition(": ")
        if not (colon and place.isascii() and place.isdigit() and int(place) < len(operations)):
            return error
        full = operations[int(place)][1]
        named = error_for(error.code, detail, node=error.node, index=error.index)
        named.operation = int(place)
        self.localize(named, self.local(full), full)
        return named


def checked_value(value: bytes, path: str) -> bytes:
    """Raise BadArguments or TooLarge."""
    if type(value) is not bytes:
        raise BadArguments(f"a value is bytes, not {type(value).__name__}", path=path)
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"value of {len(value)} bytes, limit {VALUE_BYTES_MAX}", path=path)
    return value


def checked_version(version: int) -> int:
    """Raise BadArguments."""
    if type(version) is not int or not ANY_VERSION <= version <= COUNTER_MAX:
        raise BadArguments(f"a version is an integer from {ANY_VERSION} on, not {version!r}")
    return version


def checked_ttl(ttl: float) -> int:
    """In milliseconds. Raises BadArguments."""
    if type(ttl) not in (int, float) or not 1 <= (milliseconds := ttl * MILLISECONDS) <= TTL_MS_MAX:
        raise BadArguments(f"a ttl is 0.001 to {TTL_MS_MAX // MILLISECONDS} seconds, not {ttl!r}")
    return round(milliseconds)


def check_size(operations: Sequence[Operation]) -> None:
    """Raise TooLarge for a transaction that no server would take."""
    if len(operations) > MULTI_OPS_MAX:
        raise TooLarge(f"transaction of {len(operations)} operations, limit {MULTI_OPS_MAX}")
    values = sum(len(field) for operation in operations for field in operation[2:] if type(field) is bytes)
    if values > MULTI_BYTES_MAX:
        raise TooLarge(f"transaction with {values} bytes of values, limit {MULTI_BYTES_MAX}")
    size = values + sum(len(operation[1].encode()) + _OVERHEAD_BYTES for operation in operations)
    lists = (field for operation in operations for field in operation[2:] if type(field) is list)
    size += sum(len(scheme) + len(name) + _ENTRY_BYTES for entries in lists for _, scheme, name in entries)
    if size > MESSAGE_BYTES_MAX:
        raise TooLarge(f"transaction of about {size} bytes, limit {MESSAGE_BYTES_MAX}")


def shaped(result: Any, size: int) -> list[Any]:
    """An answer's fields. Raises ProtocolError unless there are as many as are due."""
    if type(result) is not list or len(result) != size:
        raise ProtocolError(f"an answer of {size} fields was due, got {result!r:.100}")
    return result
