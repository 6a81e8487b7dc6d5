"""Jute, ZooKeeper's encoding: bytes to value and back.

Everything is big-endian. A text or a buffer is its length in four bytes, then its bytes; a length of -1 is null, which
is read as empty. A vector is its count, then its elements. Readers take the body of one frame and a place in it, and
return the value and the place behind it; nothing is allocated beyond what the body holds. Raised is ProtocolError;
`struct.error` where a number is cut off, and UnicodeDecodeError: `FAULTS` are these three.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from jkcs_client.protocol.errors import ProtocolError

INT = struct.Struct(">i")
LONG = struct.Struct(">q")
REQUEST = struct.Struct(">ii")
"""Xid, operation."""
HEAD = struct.Struct(">iii")
"""The same with the length of its frame before it."""
REPLY = struct.Struct(">iiqi")
"""Length, xid, zxid, error. The length counts all but itself."""
CONNECT = struct.Struct(">iqiq")
"""Protocol version, last zxid seen, timeout, session id; a password and perhaps a flag follow."""
CONNECTED = struct.Struct(">iiq")
"""Protocol version, timeout, session id; a password and perhaps a flag follow."""
STAT = struct.Struct(">qqqqIIIqiiq")
"""czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, data length, number of children, pzxid.
The versions are signed; packed here modulo 2**32."""
MULTI_HEADER = struct.Struct(">i?i")
"""Operation, whether this is the end, error."""
MULTI_END = MULTI_HEADER.pack(-1, True, -1)
EVENT = struct.Struct(">iiqiiii")
"""A reply's head, then kind, state and the length of the path, which follows."""

Acl = tuple[int, str, str]
"""Permissions, scheme, id."""

FAULTS = (ProtocolError, struct.error, UnicodeDecodeError)

_ACL_BYTES_MIN = 12
_TEXT_BYTES_MIN = 4


def read_int(body: bytes, at: int) -> tuple[int, int]:
    return INT.unpack_from(body, at)[0], at + 4


def read_long(body: bytes, at: int) -> tuple[int, int]:
    return LONG.unpack_from(body, at)[0], at + 8


def read_bool(body: bytes, at: int) -> tuple[bool, int]:
    """As Java reads it: everything but zero is true."""
    if at >= len(body):
        raise ProtocolError("a record ends before its flag")
    return body[at] != 0, at + 1


def read_buffer(body: bytes, at: int) -> tuple[bytes, int]:
    length: int = INT.unpack_from(body, at)[0]
    at += 4
    end = at + length
    if length < 0:
        if length == -1:
            return b"", at
        raise ProtocolError(f"a buffer of {length} bytes")
    if end > len(body):
        raise ProtocolError(f"a buffer of {length} bytes where {len(body) - at} are left")
    return body[at:end], end


def read_text(body: bytes, at: int) -> tuple[str, int]:
    raw, at = read_buffer(body, at)
    return raw.decode(), at


def read_texts(body: bytes, at: int) -> tuple[list[str], int]:
    count, at = _read_count(body, at, _TEXT_BYTES_MIN)
    texts: list[str] = []
    for _ in range(count):
        text, at = read_text(body, at)
        texts.append(text)
    return texts, at


def read_acl(body: bytes, at: int) -> tuple[list[Acl], int]:
    count, at = _read_count(body, at, _ACL_BYTES_MIN)
    entries: list[Acl] = []
    for _ in range(count):
        permissions, at = read_int(body, at)
        scheme, at = read_text(body, at)
        name, at = read_text(body, at)
        entries.append((permissions, scheme, name))
    return entries, at


def read_multi_header(body: bytes, at: int) -> tuple[int, bool, int]:
    """Operation, whether this is the end, and the place behind."""
    operation, end, _ = MULTI_HEADER.unpack_from(body, at)
    return operation, end, at + MULTI_HEADER.size


def _read_count(body: bytes, at: int, bytes_min: int) -> tuple[int, int]:
    count, at = read_int(body, at)
    if count == -1:
        return 0, at
    if not 0 <= count * bytes_min <= len(body) - at:
        raise ProtocolError(f"a vector of {count} elements where {len(body) - at} bytes are left")
    return count, at


def buffer(value: bytes) -> bytes:
    return INT.pack(len(value)) + value


def text(value: str) -> bytes:
    raw = value.encode()
    return INT.pack(len(raw)) + raw


def texts(values: Iterable[str]) -> bytes:
    packed = [text(value) for value in values]
    return INT.pack(len(packed)) + b"".join(packed)


def acl(entries: Iterable[Acl]) -> bytes:
    packed = [INT.pack(permissions) + text(scheme) + text(name) for permissions, scheme, name in entries]
    return INT.pack(len(packed)) + b"".join(packed)


def framed(body: bytes) -> bytes:
    return INT.pack(len(body)) + body
