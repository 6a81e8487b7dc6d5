"""Writes as the protocol wants them, and answers as the caller wants them: arguments checked, the chroot on or off.

Pure: no session and no I/O here. Used by `keys`, `transaction` and `fencing`. The server has the last word
on every argument; what is checked here could not be sent, or would cost a journey to be refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    SET,
    VALUE_BYTES_MAX,
    CreateFlag,
)

COUNTER_MAX = (1 << 63) - 1
_OVERHEAD_BYTES = 64
"""No operation takes more on the wire, beside its path and value."""

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

    def create(self, path: str, value: bytes, *, ephemeral: bool, sequential: bool, parents: bool) -> Operation:
        """Raises BadPath, BadArguments, TooLarge; so do the others, as their arguments allow."""
        flags = CreateFlag(0)
        if ephemeral:
            flags |= CreateFlag.EPHEMERAL
        if sequential:
            flags |= CreateFlag.SEQUENTIAL
        if parents:
            flags |= CreateFlag.PARENTS
        full = full_path(self.chroot, path, sequential=sequential)
        return CREATE, full, checked_value(value, path), int(flags)

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


def check_size(operations: Sequence[Operation]) -> None:
    """Raise TooLarge for a transaction that no server would take."""
    if len(operations) > MULTI_OPS_MAX:
        raise TooLarge(f"transaction of {len(operations)} operations, limit {MULTI_OPS_MAX}")
    values = sum(len(field) for operation in operations for field in operation[2:] if type(field) is bytes)
    if values > MULTI_BYTES_MAX:
        raise TooLarge(f"transaction with {values} bytes of values, limit {MULTI_BYTES_MAX}")
    size = values + sum(len(operation[1].encode()) + _OVERHEAD_BYTES for operation in operations)
    if size > MESSAGE_BYTES_MAX:
        raise TooLarge(f"transaction of about {size} bytes, limit {MESSAGE_BYTES_MAX}")


def shaped(result: Any, size: int) -> list[Any]:
    """An answer's fields. Raises ProtocolError unless there are as many as are due."""
    if type(result) is not list or len(result) != size:
        raise ProtocolError(f"an answer of {size} fields was due, got {result!r:.100}")
    return result
