"""Numbers of sequential keys, and the names they make."""

from __future__ import annotations

import pytest

from jkcs_server.tree.node import Node
from jkcs_server.tree.sequences import next_path


@pytest.mark.parametrize(
    ("number", "int32", "path"),
    [
        (0, False, "/q/n-0000000000"),
        (41, True, "/q/n-0000000041"),
        (2**31 - 1, True, "/q/n-2147483647"),
        (2**31, True, "/q/n--2147483648"),
        (2**31, False, "/q/n-2147483648"),
        (2**32, True, "/q/n-0000000000"),
        (10**10, False, "/q/n-10000000000"),
    ],
)
def test_a_number_has_ten_digits_or_more(number: int, int32: bool, path: str) -> None:
    """As ZooKeeper writes it, which wraps around at 32 bits; ours goes on."""
    parent = Node(b"", 1, 1, 0)
    parent.sequence = number
    assert next_path((), "/q/n-", parent, int32) == (number, path)


def test_a_name_that_is_taken_is_left_out() -> None:
    """To fail would be to fail for ever, as ZooKeeper does: the number would be the same the next time."""
    parent = Node(b"", 1, 1, 0)
    parent.sequence = 3
    taken = {"/q/0000000003", "/q/0000000004"}
    assert next_path(taken, "/q/", parent, False) == (5, "/q/0000000005")
    assert next_path(taken, "/q/", parent, True) == (3, "/q/0000000003")


def test_a_parent_that_is_not_there_yet_begins_at_zero() -> None:
    assert next_path((), "/new/", None, False) == (0, "/new/0000000000")
