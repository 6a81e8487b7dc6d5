"""The greeting of two nodes: who may talk to whom, and what each is told when they may not."""

from __future__ import annotations

import struct

import msgpack
import pytest

from journal.errors import PeerRefused
from journal.peers.handshake import (
    GREETING_BYTES_MAX,
    STRANGER,
    VERSION,
    Identity,
    Refusal,
    _checksum,
    acceptance,
    hello,
    judge_hello,
    judge_verdict,
    refusal,
    take_greeting,
)
from journal.values import Index, NodeId

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
ME = Identity("blue", N1, "", b"disk1", "h:1")
OTHER = Identity("blue", N2, "", b"disk2", "h:2")


def fields_of(data: bytes) -> list:
    taken = take_greeting(data)
    assert taken is not None and taken[1] == b""
    return taken[0]


def test_members_of_one_cluster_accept_each_other() -> None:
    """The plain case, both ways."""
    assert judge_hello(fields_of(hello(OTHER, N1)), ME) == OTHER
    assert judge_verdict(fields_of(acceptance(ME)), OTHER, N1) == b"disk1"


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (hello(Identity("red", N2), N1), "cluster 'red'"),
        (hello(OTHER, N3), "takes this node for 'n3'"),
        (hello(Identity("blue", N1), N1), "goes by this node's name"),
        (hello(Identity("blue", N2, "", b"x" * 65), N1), "malformed hello"),
        (acceptance(OTHER), "malformed hello"),
    ],
)
def test_a_hello_that_must_be_refused_says_why(greeting: bytes, reason: str) -> None:
    """A node that was moved, copied or misconfigured must not join the log of another cluster."""
    with pytest.raises(PeerRefused, match=reason):
        judge_hello(fields_of(greeting), ME)


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (acceptance(Identity("red", N2)), "found node 'n2' of cluster 'red'"),
        (acceptance(Identity("blue", N3)), "expected node 'n2'"),
        (hello(OTHER, N1), "malformed answer"),
    ],
)
def test_a_verdict_is_not_taken_on_trust(greeting: bytes, reason: str) -> None:
    """The dialer checks whom it reached: an address may have been given to another node."""
    with pytest.raises(PeerRefused, match=reason):
        judge_verdict(fields_of(greeting), ME, N2)


def test_a_refusal_says_why_in_a_code_and_in_words() -> None:
    """Some reasons end the refused node: it must not have to guess them from a sentence."""
    why = Refusal(STRANGER, "because", Index(7))
    told = judge_verdict(fields_of(refusal(OTHER, why)), ME, N2)
    assert told == Refusal(STRANGER, "node 'n2' of cluster 'blue' refused this node: because", Index(7))


def test_a_greeting_is_read_byte_by_byte_and_with_trailing_data() -> None:
    """TCP cuts where it likes."""
    greeting = hello(OTHER, N1)
    for end in range(len(greeting)):
        assert take_greeting(greeting[:end]) is None
    assert take_greeting(greeting + b"more") == (["blue", "n2", "n1", "", b"disk2", "h:2"], b"more")


def test_garbage_is_refused_at_its_first_wrong_byte() -> None:
    """A stranger must not be waited for once it is known for a stranger."""
    for garbage in (b"G", b"JKPX", b"\x00", b"GET / HTTP/1.1\r\n"):
        with pytest.raises(PeerRefused, match="not a JKCS peer"):
            take_greeting(garbage)


def test_another_version_is_refused_by_number() -> None:
    """The head of a greeting reads the same in all versions, so that both sides can name the difference."""
    greeting = bytearray(hello(OTHER, N1))
    struct.pack_into("<H", greeting, 4, VERSION + 1)
    with pytest.raises(PeerRefused, match=f"version {VERSION + 1} .* version {VERSION}"):
        take_greeting(bytes(greeting[:12]))


def test_every_flipped_bit_of_a_greeting_is_found() -> None:
    """A name that changed on the way would be another node's."""
    greeting = hello(OTHER, N1)
    for place in range(len(greeting)):
        damaged = bytearray(greeting)
        damaged[place] ^= 1 << (place % 8)
        try:
            assert take_greeting(bytes(damaged)) is None  # its length grew: it would be waited for in vain
        except PeerRefused:
            pass


def test_an_oversize_or_misshapen_greeting_is_refused() -> None:
    """Nothing is buffered for a stranger beyond one greeting."""
    with pytest.raises(PeerRefused, match="limit"):
        take_greeting(struct.pack("<4sHHI", b"JKPR", VERSION, GREETING_BYTES_MAX + 1, 0))
    for array, reason in ((b"\xc1", "msgpack"), (msgpack.packb("x"), "not an array")):
        with pytest.raises(PeerRefused, match=reason):
            take_greeting(struct.pack("<4sHHI", b"JKPR", VERSION, len(array), _checksum(array)) + array)


def test_names_that_cannot_travel_are_refused_at_the_start() -> None:
    """Better a clear message at the start than a peer that can never connect."""
    for identity in (Identity("", N1), Identity("c", NodeId("")), Identity("c" * 256, N1)):
        with pytest.raises(ValueError, match="1 to 255 bytes"):
            identity.check()


def test_a_hello_carries_what_a_node_lets_its_peers_know() -> None:
    """Where clients reach it: so that any member can tell about all of them."""
    me = Identity("blue", N2, "10.0.0.2:2181")
    assert judge_hello(fields_of(hello(me, N1)), ME).about == "10.0.0.2:2181"
    with pytest.raises(ValueError, match="at most"):
        Identity("blue", N2, "x" * 300).check()
