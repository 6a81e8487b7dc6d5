"""Names of those who say a password: as ZooKeeper makes them."""

from __future__ import annotations

import pytest

from jkcs_client.protocol.credentials import digest_id, is_digest_id


def test_digest_is_that_of_zookeeper() -> None:
    """The example of ZooKeeper's own documentation of the super user."""
    assert digest_id("super:test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="


@pytest.mark.parametrize(
    "name", ["", "user", "user:", ":aGFzaA==", "user:password", "user:pass:word", "user:" + 28 * "="]
)
def test_what_is_no_digest_is_told_from_one(name: str) -> None:
    """A password given where its digest belongs must be refused, and not become a name that nobody can prove."""
    assert not is_digest_id(name)
    assert is_digest_id(digest_id("user:password"))
