"""How many clients one address may have."""

from __future__ import annotations

from jkcs_server.serving.crowd import Crowd


def test_an_address_has_no_more_than_its_share() -> None:
    """One machine that opens connection after connection must not keep the others out."""
    crowd = Crowd(2)
    assert crowd.enter("192.0.2.1") and crowd.enter("192.0.2.1")
    assert not crowd.enter("192.0.2.1")
    assert crowd.enter("192.0.2.2")


def test_who_leaves_makes_room_and_who_was_refused_does_not_count() -> None:
    crowd = Crowd(1)
    assert crowd.enter("a")
    assert not crowd.enter("a")
    crowd.leave("a")
    assert crowd.enter("a") and not crowd.enter("a")


def test_zero_is_no_limit() -> None:
    crowd = Crowd(0)
    assert all(crowd.enter("a") for _ in range(100))
