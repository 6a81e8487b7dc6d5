"""Inputs for a target without a fuzzer's help: right ones, changed at random places."""

from __future__ import annotations

import random

from tests.fuzz.targets import Subject

TELLING = (
    *(b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"),
    *(b"\xdd\x7f\xff\xff\xff", b"\xdf\x0f\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xc1", b"/"),
)
"""Bytes that mean something to one of the readers: lengths, the heads of large arrays, a slash."""


def mutated(chance: random.Random, subject: Subject, bytes_max: int) -> bytes:
    """A seed with some of its bytes replaced, cut out or added; now and then any bytes at all."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(min(bytes_max, 300)))
    data = chance.choice(subject.seeds)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        start = chance.randint(0, len(data))
        dice = chance.random()
        if dice < 0.5:
            start, stop, fresh = min(start, len(data) - 1), start + 1, bytes([chance.randrange(256)])
        elif dice < 0.7:
            stop, fresh = start + chance.choice((0, 1, 4)), chance.choice(TELLING)
        elif dice < 0.8:
            stop, fresh = start + chance.randrange(1, 40), b""
        else:
            other = chance.choice(subject.seeds)
            at = chance.randrange(len(other) + 1)
            stop, fresh = start + chance.choice((0, 4, 16)), other[at : at + chance.randrange(1, 60)]
        data = data[: max(start, 0)] + fresh + data[stop:]
    return data[:bytes_max]
