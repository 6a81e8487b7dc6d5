"""ZooKeeper's encoding, from bytes to values and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jkcs_client.protocol import jute
from jkcs_client.protocol.jute import FAULTS, INT

TEXT = st.text(st.characters(codec="utf-8"))
ACL = st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), TEXT, TEXT))


@pytest.mark.parametrize(
    ("read", "write", "values"),
    [
        (jute.read_buffer, jute.buffer, st.binary()),
        (jute.read_text, jute.text, TEXT),
        (jute.read_texts, jute.texts, st.lists(TEXT)),
        (jute.read_acl, jute.acl, ACL),
    ],
)
@given(data=st.data(), before=st.binary(max_size=9), behind=st.binary(max_size=9))
def test_what_was_written_is_read_wherever_it_stands(
    read: Callable[[bytes, int], Any],
    write: Callable[[Any], bytes],
    values: st.SearchStrategy[Any],
    data: st.DataObject,
    before: bytes,
    behind: bytes,
) -> None:
    value = data.draw(values)
    packed = write(value)
    assert read(before + packed + behind, len(before)) == (value, len(before) + len(packed))


READERS = [
    jute.read_int,
    jute.read_long,
    jute.read_bool,
    jute.read_buffer,
    jute.read_text,
    jute.read_texts,
    jute.read_acl,
    jute.read_multi_header,
]


@pytest.mark.parametrize("read", READERS)
@given(body=st.binary(max_size=64), at=st.integers(0, 70))
def test_readers_raise_nothing_but_their_faults_and_stay_inside(
    read: Callable[[bytes, int], Any], body: bytes, at: int
) -> None:
    """Fuzz: a place behind what is there, or cut off in the middle."""
    try:
        found = read(body, at)
    except FAULTS:
        return
    assert at < found[-1] <= len(body)


@pytest.mark.parametrize("read", [jute.read_texts, jute.read_acl])
@pytest.mark.parametrize("count", [2**31 - 1, 1_000_000, -2, 2])
def test_an_absurd_count_is_refused_before_anything_is_made_of_it(
    read: Callable[[bytes, int], Any], count: int
) -> None:
    with pytest.raises(FAULTS):
        read(INT.pack(count) + bytes(7), 0)


def test_null_is_read_as_empty() -> None:
    null = INT.pack(-1)
    assert jute.read_buffer(null, 0) == (b"", 4)
    assert jute.read_text(null, 0) == ("", 4)
    assert jute.read_texts(null, 0) == ([], 4)
    assert jute.read_acl(null, 0) == ([], 4)


def test_every_byte_but_zero_is_true() -> None:
    """As Java reads it."""
    assert [jute.read_bool(bytes([byte]), 0)[0] for byte in (0, 1, 2, 255)] == [False, True, True, True]
