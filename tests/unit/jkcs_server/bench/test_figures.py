"""Percentiles, medians and marks, against tables."""

from __future__ import annotations

import random

import pytest

from jkcs_server.bench.figures import Figures, Latencies, Mark, mark, medians, with_latencies


def test_percentiles_of_batches_equal_those_of_single_requests() -> None:
    """Latencies are kept in batches only because that is cheaper."""
    chance = random.Random(3)
    batches = [(chance.random(), chance.randrange(1, 9)) for _ in range(300)]
    latencies = Latencies()
    for seconds, count in batches:
        latencies.add(seconds, count)
    single = sorted(seconds for seconds, count in batches for _ in range(count))
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        place = max(0, -(-int(share * len(single) * 1000) // 1000) - 1)
        [found] = latencies.percentiles([share])
        assert abs(single.index(found) - place) <= 9


def test_percentiles_at_the_edges() -> None:
    """One request, and none."""
    latencies = Latencies()
    assert latencies.percentiles((0.5, 0.99)) == [0.0, 0.0]
    latencies.add(0.25, 1)
    assert latencies.percentiles((0.0, 0.5, 1.0)) == [0.25, 0.25, 0.25]
    latencies.add(0.5, 99)
    assert latencies.percentiles((0.01, 0.02, 0.5)) == [0.25, 0.5, 0.5]


def test_medians_are_taken_figure_by_figure() -> None:
    """A figure that some round lacks is not counted as zero."""
    rounds = [Figures(10, server_us_per_op=5), Figures(30, server_us_per_op=7), Figures(20)]
    assert medians(rounds) == Figures(20, server_us_per_op=6)
    assert medians([]) == Figures()


def test_the_worst_of_several_rounds_is_the_worst_of_all() -> None:
    """The median of the worst would not be anything that happened at worst."""
    assert medians([Figures(worst_ms=3), Figures(worst_ms=90), Figures(worst_ms=4)]).worst_ms == 90


def test_figures_get_their_latencies_in_milliseconds() -> None:
    """What was measured before stays."""
    latencies = Latencies()
    latencies.add(0.25, 99)
    latencies.add(0.5, 1)
    assert with_latencies(Figures(10), latencies) == Figures(10, 250, 250, 250, 500)


@pytest.mark.parametrize(
    ("value", "accept", "aim", "more", "expected"),
    [
        (60, 100, 60, False, Mark.AIM),
        (61, 100, 60, False, Mark.OK),
        (100, 100, 60, False, Mark.OK),
        (101, 100, 60, False, Mark.SHORT),
        (170, 100, 170, True, Mark.AIM),
        (100, 100, 170, True, Mark.OK),
        (99, 100, 170, True, Mark.SHORT),
        (99, 100, None, False, Mark.OK),
        (None, 100, 60, False, Mark.NONE),
        (5, None, None, False, Mark.NONE),
    ],
)
def test_marks(value: float | None, accept: float | None, aim: float | None, more: bool, expected: Mark) -> None:
    """A cell that falls short is shown as short."""
    assert mark(value, accept, aim, more_is_better=more) is expected
