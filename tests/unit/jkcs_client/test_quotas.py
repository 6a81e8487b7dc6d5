"""Quotas: ZooKeeper's texts in, values out, and back."""

from __future__ import annotations

from typing import Any

import pytest

from jkcs_client import quotas
from jkcs_client.protocol.errors import BadArguments
from jkcs_client.quotas import Quota


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"count=-1,bytes=-1;byteHardLimit=7;countHardLimit=3", (3, 7, None, None)),
        (b"count=2,bytes=-1", (None, None, 2, None)),
        (b"count=2,bytes=5;byteHardLimit=-1;countHardLimit=9", (9, None, 2, 5)),
        (b"", (None, None, None, None)),
        (b"count=x,bytes", (None, None, None, None)),
    ],
)
def test_limits_are_read_as_zookeeper_writes_them(text: bytes, found: tuple[int | None, ...]) -> None:
    """The old text without hard limits, too; what cannot be read limits nothing, as on the servers."""
    quota = quotas.quota_of(text, b"count=4,bytes=6")
    assert (quota.keys, quota.bytes, quota.soft_keys, quota.soft_bytes) == found
    assert (quota.keys_used, quota.bytes_used) == (4, 6)


@pytest.mark.parametrize("keys", [None, 0, 3])
@pytest.mark.parametrize("size", [None, 0, 10**12])
@pytest.mark.parametrize("hard", [True, False])
def test_what_is_written_is_read_again(keys: int | None, size: int | None, hard: bool) -> None:
    if keys is None and size is None:
        with pytest.raises(BadArguments):
            quotas.limits_text(keys, size, hard=hard)
        return
    quota = quotas.quota_of(quotas.limits_text(keys, size, hard=hard), b"")
    both = (keys, size)
    limits = (*both, None, None) if hard else (None, None, *both)
    assert quota == Quota(*limits, keys_used=0, bytes_used=0)


@pytest.mark.parametrize("value", [-1, 1.5, "3", True])
def test_a_limit_is_a_number_from_zero_on(value: Any) -> None:
    with pytest.raises(BadArguments):
        quotas.limits_text(value, None, hard=True)


def test_the_root_has_no_quota() -> None:
    """The servers would keep none there, in silence."""
    with pytest.raises(BadArguments):
        quotas.limits_key("/")
    assert quotas.limits_key("/a/b") == "/zookeeper/quota/a/b/zookeeper_limits"
    assert quotas.places_above("/a/b") == ["/zookeeper/quota/a/b", "/zookeeper/quota/a"]
