"""The arithmetic of gaps."""

from __future__ import annotations

import pytest

from tests.chaos.failover import longest_gap, spread


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([9.0, 9.9, 10.4, 10.5, 11.9], (1.4, 10.5)),
        ([9.0, 9.9, 10.9, 11.0, 11.5, 11.9], (1.0, 9.9)),
        ([9.0, 9.9], (2.1, 9.9)),
        ([], (2.0, 10.0)),
        ([1.0, 9.99, 10.1, 11.0, 12.0, 20.0], (1.0, 11.0)),
    ],
)
def test_the_gap_is_the_longest_time_without_a_write_around_the_fault(
    times: list[float], expected: tuple[float, float]
) -> None:
    """It begins with the last write before the fault, and one that does not end counts to the end."""
    assert longest_gap(times, 10.0, 12.0) == pytest.approx(expected)


def test_median_ninetieth_percentile_and_worst() -> None:
    values = [number / 10 for number in range(11, 0, -1)]
    assert spread(values) == pytest.approx({"median": 0.6, "p90": 1.0, "worst": 1.1})
    assert spread([]) == {}
