"""Errors are counted by reason, and the reasons are limited."""

from __future__ import annotations

from collections import Counter

from jkcs_server.bench.line import REASONS_MAX, complain


def test_errors_beyond_the_known_reasons_are_counted_together() -> None:
    """A server may give each of a million answers a reason of its own."""
    errors: Counter[str] = Counter()
    for number in range(1000):
        complain(errors, f"reason {number}")
        complain(errors, "reason 0")
    assert errors.total() == 2000 and len(errors) <= REASONS_MAX + 1
    assert errors["reason 0"] == 1001
