"""The waits between attempts."""

from __future__ import annotations

import pytest

from jkcs_client.backoff import STABLE, Backoff


def test_waits_double_up_to_the_cap() -> None:
    """An outage of an hour must not be a million attempts, nor its end be noticed an hour late."""
    backoff = Backoff(base=1.0, cap=5.0)
    assert [backoff.next_delay(1.0) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_chance_spreads_a_wait_over_half_its_length(chance: float, delay: float) -> None:
    """Clients that lost the same server must not come back in step, nor any of them at once."""
    assert Backoff(base=1.0, cap=5.0).next_delay(chance) == delay


def test_only_a_connection_that_lasted_makes_waits_short_again() -> None:
    """A server that accepts and then refuses must not be asked in a tight loop."""
    backoff = Backoff(base=1.0, cap=100.0)
    backoff.next_delay(1.0)
    backoff.on_connection_ended(STABLE / 2)
    assert backoff.next_delay(1.0) == 2.0
    backoff.on_connection_ended(STABLE)
    assert backoff.next_delay(1.0) == 1.0
