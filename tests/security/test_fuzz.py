"""Any bytes, at each place where bytes of others become values: nothing is raised but what its callers expect, and
nothing is made room for that is not there.

The targets are those of `python -m tests.fuzz`, which runs for as long as one likes; here are a few hundred inputs of
each. What that found once is in `FOUND`, for ever.
"""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import main
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import SUBJECTS

ROOM = 8 << 20
"""Bytes that a target takes for its own server."""
ROOM_PER_BYTE = 20_000
"""A claim of three bytes is made room for up to the longest array that is allowed, 64 KiB; no claim is worth more."""
BYTES_MAX = 2000


@pytest.mark.parametrize("name", SUBJECTS)
def test_right_inputs_are_taken(name: str) -> None:
    """Or the mutations of them would all end at the first check."""
    for data in SUBJECTS[name].seeds:
        SUBJECTS[name].run(data)


@pytest.mark.parametrize("name", SUBJECTS)
@settings(max_examples=60)
@given(data=st.binary(max_size=200))
def test_any_bytes_do_no_harm(name: str, data: bytes) -> None:
    SUBJECTS[name].run(data)


@pytest.mark.parametrize("name", SUBJECTS)
def test_right_inputs_gone_wrong_do_no_harm(name: str) -> None:
    chance = random.Random(name)
    for _ in range(400):
        SUBJECTS[name].run(mutated(chance, SUBJECTS[name], BYTES_MAX))


@pytest.mark.parametrize("name", SUBJECTS)
def test_no_input_takes_more_room_than_its_length_is_worth(name: str) -> None:
    """A length is a claim; what is made room for on its word alone must be bounded (GHSA of many decoders)."""
    chance, subject = random.Random(f"{name} room"), SUBJECTS[name]
    inputs = [mutated(chance, subject, BYTES_MAX) for _ in range(40)]
    for claim in (b"\xdd\x7f\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\x7f\xff\xff\xff"):
        inputs += [seed[:cut] + claim + seed[cut:] for seed in subject.seeds[:5] for cut in (1, 2, 6, len(seed))]
    subject.run(inputs[0])
    tracemalloc.start()
    try:
        for data in inputs:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            subject.run(data)
            taken = tracemalloc.get_traced_memory()[1] - before
            assert taken < ROOM + ROOM_PER_BYTE * len(data), (name, taken, len(data), data[:40])
    finally:
        tracemalloc.stop()


def test_the_command_counts_what_it_ran(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert main(["--plain", "--seconds", "0", "--finds", f"{tmp_path}/finds", "peers"]) == 0
    assert "nothing found" in capsys.readouterr().out
