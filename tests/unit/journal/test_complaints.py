"""What is said about strangers, and how often."""

from __future__ import annotations

from journal.complaints import COMPLAINT_SECONDS, COMPLAINTS_MAX, Complaints


def test_a_complaint_is_news_once_a_minute() -> None:
    """A client that tries again each second would fill the log."""
    complaints = Complaints()
    assert complaints.is_news("h", "why", 100.0)
    assert not complaints.is_news("h", "why", 101.0)
    assert complaints.is_news("h", "another", 101.0) and complaints.is_news("g", "why", 101.0)
    assert complaints.is_news("h", "why", 101.0 + COMPLAINT_SECONDS)


def test_complaints_have_a_limit() -> None:
    """Whoever finds a new reason each time fills no log either."""
    complaints = Complaints()
    told = sum(complaints.is_news("h", str(number), 100.0) for number in range(2 * COMPLAINTS_MAX))
    assert told == COMPLAINTS_MAX
