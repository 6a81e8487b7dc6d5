"""What is fuzzed: the five places where bytes of strangers, peers and disks become values.

A target takes any bytes and returns. It raises for a defect alone: an error of another kind than those that are the
module's own, or a server that does not serve its other client any more. The first byte chooses the form of the rest,
so that a fuzzer need not find out by itself what a length and a checksum are. Used by `__main__` and by
`tests/security/test_fuzz.py`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgpack
from crc32c import crc32c

from jkcs_client.protocol import zookeeper as zk
from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import CREATE, EXISTS, FIRST_WRITE, GET, LOCAL, MULTI, OP_NAMES, PREFACE, SET, WATCH
from jkcs_server.serving.connection import Connection
from jkcs_server.serving.greeting import Undecided
from jkcs_server.serving.native import NativeConnection
from jkcs_server.serving.zookeeper import ZooKeeperConnection
from jkcs_server.tree import image as tree_image
from journal.errors import CorruptRecord, PeerRefused
from journal.limits import Limits
from journal.peers.codec import Decoder, encode
from journal.peers.handshake import hello, judge_hello, take_greeting
from tests.support import jute_client
from tests.unit.jkcs_server.serving import test_native
from tests.unit.jkcs_server.serving.zookeeper_desk import Client, Desk, connected
from tests.unit.jkcs_server.tree import test_image
from tests.unit.journal.peers import test_codec, test_handshake

Target = Callable[[bytes], None]

_ZK_OPS = sorted({*zk.OP_NAMES, zk.AUTH, zk.SASL, zk.DELETE_CONTAINER})
_NATIVE_OPS = sorted(OP_NAMES)
_LIMITS = Limits()


@dataclass(frozen=True)
class Subject:
    run: Target
    seeds: tuple[bytes, ...]
    """Inputs that are right, to begin with."""


def pieces_of(data: bytes) -> Iterator[bytes]:
    """The same bytes cut where they say: before each piece stands its length in a byte."""
    at = 0
    while at < len(data):
        size = data[at]
        yield data[at + 1 : at + 1 + size]
        at += 1 + size


def cut(*pieces: bytes) -> bytes:
    """What `pieces_of` takes apart again, more or less."""
    whole = b"".join(pieces)
    return b"".join(bytes([len(whole[at : at + 255])]) + whole[at : at + 255] for at in range(0, len(whole), 255))


# ZooKeeper's protocol.


class _Desk(Desk):
    """Gives passwords that no input contains."""

    def _entropy(self, count: int) -> bytes:
        return hashlib.sha256(super()._entropy(count)).digest()[:count]


def run_jute(data: bytes) -> None:
    """A client that sends bytes, or well-headed requests of any operation; one that watches beside it."""
    if not data:
        return
    desk, other = connected(_Desk())
    if data[0] % 3 == 0:
        client = Client(desk)
    else:
        client = connected(desk)[1]
    client.deaf = True
    for number, piece in enumerate(pieces_of(data[1:])):
        if client.closed:
            break
        if data[0] % 3 == 1 and piece:
            piece = jute_client.request(number, _ZK_OPS[piece[0] % len(_ZK_OPS)], piece[1:])
        client.send(piece)
        if number % 8 == 7:
            desk.apply()
    desk.apply()
    desk.confirm()
    desk.apply()
    answer = other.call(zk.EXISTS, jute_client.read("/"))
    assert answer.error == OK, answer


def _jute_seeds() -> tuple[bytes, ...]:
    records = (
        (zk.CREATE, jute_client.create("/a", b"1")),
        (zk.CREATE_TTL, jute_client.create_ttl("/t", 1000)),
        (zk.SET_DATA, jute_client.set_data("/a", b"2")),
        (zk.GET_DATA, jute_client.read("/a", True)),
        (zk.SET_ACL, jute_client.set_acl("/a", ((31, "digest", "me:x"), (1, "ip", "10.0.0.0/8")))),
        (zk.MULTI, jute_client.multi((zk.CHECK, jute_client.check("/")), (zk.DELETE, jute_client.delete("/a")))),
        (zk.MULTI_READ, jute_client.multi((zk.GET_CHILDREN, jute_client.read("/")))),
        (zk.AUTH, jute_client.auth("digest", b"me:secret")),
        (zk.SET_WATCHES2, jute_client.set_watches(0, ["/a"], ["/b"], ["/"], [], ["/c"])),
        (zk.ADD_WATCH, jute_client.numbered("/", 1)),
        (zk.REMOVE_WATCHES, jute_client.numbered("/", 3)),
        (zk.RECONFIG, jute_client.reconfig("server.1=h:1:2")),
        (zk.CLOSE_SESSION, b""),
    )
    whole = [jute_client.request(number, op, body) for number, (op, body) in enumerate(records)]
    headed = [bytes([len(body) + 1, _ZK_OPS.index(op)]) + body for op, body in records if len(body) < 250]
    return (
        b"\x03" + cut(jute_client.connect(), *whole),
        b"\x01" + b"".join(headed),
        *(b"\x01" + each for each in headed),
        *(b"\x02" + cut(each) for each in whole),
        b"\x00" + cut(jute_client.connect(session=1, password=bytes(15) + b"\1")),
    )


# The native protocol.


def run_native(data: bytes) -> None:
    """A client that sends bytes, or frames around anything."""
    if not data:
        return
    if data[0] % 3 == 0:
        desk = test_native.Desk()
        client = test_native.Client(desk)
    else:
        desk, client = test_native.connected()
    client.write = lambda _: None  # type: ignore[method-assign]  # what it is told is not looked at
    for number, piece in enumerate(pieces_of(data[1:])):
        if client.closed:
            break
        if data[0] % 3 == 1 and piece:
            op = _NATIVE_OPS[piece[0] % len(_NATIVE_OPS)]
            head = pack(op) + pack(max(client.connection.next_serial, 1) if op >= FIRST_WRITE else -1)
            piece = frame([b"\xdc" + struct.pack(">H", 2 + piece[1] % 8 if len(piece) > 1 else 2) + head + piece[2:]])
        client.connection.receive(piece)
        if number % 8 == 7 and not client.closed:
            desk.apply(client.connection)
    if client.connection.session or desk.connection is not None:
        desk.apply(client.connection)
    desk.confirm(client.connection)
    # A state that its own rules still hold for.
    assert desk.machine.tree.find("/") is not None


def _native_seeds() -> tuple[bytes, ...]:
    talk = [
        [CREATE, 1, 0, "/a", b"1", 0],
        [SET, 2, 1, "/a", b"2", -1],
        [GET, -1, "/a", LOCAL],
        [EXISTS, -2, "/a", 0],
        [WATCH, -3, 1, "/", 4, 0],
        [MULTI, 3, 2, [[CREATE, "/b", b"", 2, [[31, "world", "anyone"]], 0], [SET, "/a", b"", 5]]],
    ]
    packed = [pack(message) for message in talk]
    bodies = [
        bytes([_NATIVE_OPS.index(message[0]), len(message) - 2]) + b"".join(map(pack, message[2:])) for message in talk
    ]
    return (
        b"\x00" + cut(PREFACE, frame([pack([0, b"", 10_000, 0])]), frame(packed)),
        b"\x02" + cut(frame(packed)),
        b"\x01" + b"".join(bytes([len(body)]) + body for body in bodies),
        *(b"\x01" + bytes([len(body)]) + body for body in bodies),
    )


# A connection that has not said what it is.


class _Door:
    """Lets everybody in, as what he says he is."""

    def __init__(self) -> None:
        self.turn = 0
        self.desk = Desk()
        self.left = 0

    def native(self, sink: Any) -> Connection:
        return NativeConnection(self.desk, sink)  # type: ignore[arg-type,return-value]  # a desk for tests

    def zookeeper(self, sink: Any) -> Connection:
        return ZooKeeperConnection(self.desk, sink)  # type: ignore[arg-type,return-value]

    def four_letter_word(self, word: str) -> bytes | None:
        return word.encode("ascii") if word in ("ruok", "srvr") else None

    def went(self, undecided: Undecided) -> None:
        self.left += 1


def run_greeting(data: bytes) -> None:
    """The first bytes of a connection, in any pieces."""
    door = _Door()
    sink = test_native.Client(test_native.Desk())
    sink.write = lambda _: None  # type: ignore[method-assign]
    undecided = Undecided(door, sink)
    for piece in pieces_of(data):
        if sink.closed:
            break
        undecided.receive(piece)
        door.desk.apply()
    undecided.lost()
    assert door.left <= 1, door.left


_GREETING_SEEDS = (
    cut(PREFACE, frame([pack([0, b"", 10_000, 0])])),
    b"\x01J\x01K\x03CS\x01",
    cut(jute_client.connect()),
    b"\x02ru\x02ok",
    cut(b"srvr"),
    cut(b"GET / HTTP/1.1\r\n"),
)


# Peers.


def run_peers(data: bytes) -> None:
    """Bytes of a peer: as they are, in pieces, or as header and body of a frame that is whole; or as its greeting."""
    if not data:
        return
    form, rest = data[0] % 4, data[1:]
    with suppress(CorruptRecord, PeerRefused):
        if form == 0:
            taken = take_greeting(rest)
            if taken is not None:
                judge_hello(taken[0], test_handshake.ME)
            return
        decoder = Decoder(_LIMITS)
        if form == 1:
            decoder.feed(rest)
        elif form == 2:
            for piece in pieces_of(rest):
                decoder.feed(piece)
        else:
            size = rest[0] if rest else 0
            header, body = rest[1 : 1 + size], rest[1 + size :]
            decoder.feed(test_codec.frame(_with_checksum(header, body), body))


def _with_checksum(header: bytes, body: bytes) -> bytes:
    """A header whose last field is the checksum of its body, where it is one."""
    try:
        fields = msgpack.unpackb(header, strict_map_key=True, max_ext_len=0, max_array_len=1024)
    except Exception:  # whatever it is: then it is sent as it is
        return header
    if type(fields) is list and body and len(fields) > 1:
        fields[-1] = crc32c(body)
        with suppress(ValueError, TypeError, OverflowError):
            packed: bytes = msgpack.packb(fields)
            return packed
    return header


def _peers_seeds() -> tuple[bytes, ...]:
    frames = [b"".join(encode(message)) for message in test_codec.MESSAGES]
    seeds = [b"\x01" + each for each in frames]
    seeds.append(b"\x02" + cut(*frames))
    seeds.append(b"\x00" + hello(test_handshake.OTHER, test_handshake.N1))
    for each in frames:
        header = struct.unpack_from("<H", each)[0]
        if header < 256:
            seeds.append(b"\x03" + bytes([header]) + each[12:])
    return tuple(seeds)


# A snapshot's image.


def run_image(data: bytes) -> None:
    """The image as it comes, or records behind a right beginning."""
    if not data:
        return
    chunks = [data[1:]]
    if data[0] % 2:
        chunks = [test_image.packed(test_image.HEAD, test_image.SESSION, test_image.REPLY), data[1:]]
    with suppress(CorruptRecord):
        applied, sessions, tree = tree_image.decode(chunks)
        # What was believed can be written, and is then the same.
        again = b"".join(tree_image.encode(applied, list(sessions.values()), list(tree.nodes.values())))
        tree_image.decode([again])


def _image_seeds() -> tuple[bytes, ...]:
    keys = test_image.packed(test_image.ROOT, *test_image.SYSTEM_KEYS, test_image.KEY)
    return (b"\x00" + test_image.GOOD, b"\x01" + keys, *(b"\x00" + data for data, _ in test_image.BAD_IMAGES))


SUBJECTS: Mapping[str, Subject] = {
    "greeting": Subject(run_greeting, _GREETING_SEEDS),
    "image": Subject(run_image, _image_seeds()),
    "jute": Subject(run_jute, _jute_seeds()),
    "native": Subject(run_native, _native_seeds()),
    "peers": Subject(run_peers, _peers_seeds()),
}
