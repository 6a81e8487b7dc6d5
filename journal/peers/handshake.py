"""How two nodes make sure of each other before the first message: the bytes and the verdict, no socket.

Each side speaks once, the one that dialed first:

    magic "JKPR" | version u16 | length u16 | crc u32 | msgpack array           (little-endian)

    hello     [cluster, my name, the name I expect of you, what I let my peers know, my incarnation, my peer address]
    verdict   [accepted, cluster, my name, detail when refused, my incarnation, code when refused, index]

The first twelve bytes have this form in every version, so that an old and a new node can still tell
each other why they part. `crc` is CRC-32C over version, length and array. Called by `tcp.py`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack
from crc32c import crc32c

from journal.errors import PeerRefused
from journal.values import Index, NodeId

MAGIC = b"JKPR"
VERSION = 3
GREETING_BYTES_MAX = 4096
"""The array of a greeting: a few names and a sentence."""
NAME_BYTES_MAX = 255
INCARNATION_BYTES_MAX = 64

_PREFIX = struct.Struct("<4sHHI")
_COVERED = struct.Struct("<HH")


AGAIN = "again"
"""Not yet: ask again soon."""
STRANGER = "stranger"
"""Not a member, as of the configuration at `index`."""
WIPED = "wiped"
"""Not the node that once went by this name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one node does not speak with another."""

    code: str
    detail: str
    index: Index = Index(0)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node says it is."""

    cluster: str
    node: NodeId
    about: str = ""
    """What it lets its peers know of itself; means nothing here."""
    incarnation: bytes = b""
    """Of its data directory."""
    address: str = ""
    """Where it listens for its peers, `host:port`; empty when that is not known to itself."""

    def check(self) -> None:
        """Raise ValueError for names that cannot travel in a greeting."""
        for what, name in (("cluster", self.cluster), ("node", self.node)):
            if not 0 < len(name.encode()) <= NAME_BYTES_MAX:
                raise ValueError(f"the name of the {what} must have 1 to {NAME_BYTES_MAX} bytes: {name!r}")
        for text in (self.about, self.address):
            if len(text.encode()) > NAME_BYTES_MAX:
                raise ValueError(f"what a node lets its peers know has at most {NAME_BYTES_MAX} bytes: {text!r}")


def hello(me: Identity, expected: NodeId) -> bytes:
    return _greeting([me.cluster, me.node, expected, me.about, me.incarnation, me.address])


def acceptance(me: Identity) -> bytes:
    return _greeting([True, me.cluster, me.node, "", me.incarnation, "", 0])


def refusal(me: Identity, why: Refusal) -> bytes:
    return _greeting([False, me.cluster, me.node, why.detail[:512], me.incarnation, why.code, why.index])


def take_greeting(received: bytes) -> tuple[list[Any], bytes] | None:
    """The array of the greeting that `received` begins with, and what follows it; None while it is incomplete.

    Raises PeerRefused as soon as it is certain that no greeting of this version will come of it.
    """
    if received[: len(MAGIC)] != MAGIC[: len(received)]:
        raise PeerRefused(f"this is not a JKCS peer: it began with {received[:16]!r}")
    if len(received) < _PREFIX.size:
        return None
    _, version, length, crc = _PREFIX.unpack_from(received)
    if version != VERSION:
        raise PeerRefused(f"the peer speaks version {version} of the peer protocol, this node version {VERSION}")
    if length > GREETING_BYTES_MAX:
        raise PeerRefused(f"greeting of {length} bytes, limit {GREETING_BYTES_MAX}")
    end = _PREFIX.size + length
    if len(received) < end:
        return None
    array = received[_PREFIX.size : end]
    if _checksum(array) != crc:
        raise PeerRefused("greeting does not match its checksum")
    return _unpack(array), received[end:]


def judge_hello(fields: list[Any], me: Identity) -> Identity:
    """The node that says hello; whether it is a member is for others to say. Raises PeerRefused with the reason,
    which may be told to it."""
    if not _has_types(fields, (str, str, str, str, bytes, str)) or len(fields[4]) > INCARNATION_BYTES_MAX:
        raise PeerRefused("malformed hello")
    cluster, node, expected, about, incarnation, address = fields
    if cluster != me.cluster:
        raise PeerRefused(f"node {node!r} belongs to cluster {cluster!r}, this node to {me.cluster!r}")
    if expected != me.node:
        raise PeerRefused(f"node {node!r} takes this node for {expected!r}, but it is {me.node!r}")
    if node == me.node:
        raise PeerRefused(f"another node goes by this node's name, {node!r}")
    identity = Identity(cluster, NodeId(node), about, incarnation, address)
    try:
        identity.check()
    except ValueError as error:
        raise PeerRefused(str(error)) from error
    return identity


def judge_verdict(fields: list[Any], me: Identity, expected: NodeId) -> bytes | Refusal:
    """The incarnation of the node `expected`, which has accepted this one; or why it has not.

    Raises PeerRefused when it is another node, or not to be understood.
    """
    if not _has_types(fields, (bool, str, str, str, bytes, str, int)) or fields[6] < 0:
        raise PeerRefused("malformed answer to hello")
    accepted, cluster, node, detail, incarnation, code, index = fields
    if not accepted:
        return Refusal(code, f"node {node!r} of cluster {cluster!r} refused this node: {detail}", Index(index))
    if cluster != me.cluster or node != expected:
        raise PeerRefused(
            f"expected node {expected!r} of cluster {me.cluster!r}, found node {node!r} of cluster {cluster!r}"
        )
    return bytes(incarnation)


def _greeting(fields: list[object]) -> bytes:
    array: bytes = msgpack.packb(fields, use_bin_type=True)
    assert len(array) <= GREETING_BYTES_MAX, len(array)
    return _PREFIX.pack(MAGIC, VERSION, len(array), _checksum(array)) + array


def _checksum(array: bytes) -> int:
    return crc32c(array, crc32c(_COVERED.pack(VERSION, len(array))))


def _unpack(array: bytes) -> list[Any]:
    try:
        fields = msgpack.unpackb(array, use_list=True, raw=False, max_array_len=16, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise PeerRefused(f"greeting is not valid msgpack: {type(error).__name__}") from error
    if type(fields) is not list:
        raise PeerRefused("greeting is not an array")
    return fields


def _has_types(fields: list[Any], types: tuple[type, ...]) -> bool:
    return len(fields) == len(types) and all(type(f) is t for f, t in zip(fields, types, strict=True))
