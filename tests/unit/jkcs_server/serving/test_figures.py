"""What is counted of a connection."""

from __future__ import annotations

import pytest

from jkcs_server.serving.figures import Figures, Totals


def test_one_request_at_a_time_is_timed() -> None:
    figures = Figures(10.0)
    figures.came(3, 11.0)
    figures.came(2, 11.5)
    assert not figures.is_due
    figures.answered += 1
    assert figures.is_due
    figures.left(12.0)
    assert not figures.is_due and figures.last_latency_ms == 1000.0
    figures.answered += 4
    figures.came(1, 13.0)
    figures.answered += 1
    figures.left(13.5)
    assert (figures.min_latency_ms, figures.avg_latency_ms, figures.max_latency_ms) == (500.0, 750.0, 1000.0)
    assert (figures.received, figures.sent, figures.samples, figures.established_at) == (6, 6, 2, 10.0)


def test_a_connection_that_has_sent_nothing_has_figures() -> None:
    """It is listed like any other, as ZooKeeper lists it."""
    figures = Figures(3.0)
    assert (figures.address, figures.established_at, figures.last_operation, figures.last_zxid) == ("", 3.0, "NA", -1)
    assert (figures.received, figures.sent, figures.samples, figures.is_due) == (0, 0, 0, False)


def test_events_are_sent_but_answer_nothing() -> None:
    figures = Figures(0.0)
    figures.came(1, 0.0)
    figures.notified += 5
    assert figures.sent == 5 and not figures.is_due


def test_a_reset_begins_anew() -> None:
    figures = Figures(0.0)
    figures.came(1, 0.0)
    figures.reset()
    figures.answered += 1
    assert not figures.is_due
    figures.came(1, 5.0)
    figures.answered += 1
    assert (figures.received, figures.samples, figures.max_latency_ms) == (1, 0, 0.0)


def test_totals_of_totals_are_those_of_all_connections() -> None:
    """Connections that are gone are kept as one sum: it must count like each of them would."""
    each = []
    for number, latency in enumerate((0.004, 0.001, 0.007), start=1):
        figures = Figures(0.0)
        figures.came(2, 0.0)
        figures.answered += 1
        figures.notified += number
        figures.left(latency)
        each.append(figures)
    each.append(Figures(0.0))
    together, gone, all_of_them = Totals(), Totals(), Totals()
    for figures in each:
        together.add(figures)
    for figures in each[:2]:
        gone.add(figures)
    for figures in each[2:]:
        all_of_them.add(figures)
    all_of_them.add_all(gone)
    for totals in (together, all_of_them):
        assert (totals.received, totals.sent, totals.samples) == (6, 9, 3)
        assert (totals.min_latency_ms, totals.avg_latency_ms, totals.max_latency_ms) == pytest.approx((1.0, 4.0, 7.0))
    all_of_them.add_all(Totals())
    assert all_of_them.min_latency_ms == pytest.approx(1.0), "nothing was measured is not the same as at once"
