"""The decision table of recovery."""

from __future__ import annotations

from itertools import product

import pytest

from journal.storage.recovery import TABLE, Decision, Facts, decide

EVERY = [Facts(*values) for values in product((False, True), repeat=6)]


def test_every_combination_of_facts_matches_exactly_one_row() -> None:
    """Two rows for one case would hide a contradiction, none a crash at the worst moment."""
    for facts in EVERY:
        assert sum(row.matches(facts) for row in TABLE) == 1, facts


def test_every_row_is_reached() -> None:
    """A row that no case reaches is a rule that nobody keeps."""
    for row in TABLE:
        assert any(row.matches(facts) for facts in EVERY), row


def test_what_was_acknowledged_is_never_cut_away_in_silence() -> None:
    """R4, R5: it is either refused or withheld."""
    for facts in EVERY:
        if facts.acknowledged:
            assert decide(facts) in (Decision.CORRUPT, Decision.WITHHELD), facts


def test_only_the_last_batch_of_the_last_segment_is_ever_torn() -> None:
    """R3: torn is what the power cut while it was written, and nothing is written after that."""
    for facts in EVERY:
        if decide(facts) is Decision.TORN_TAIL:
            assert facts.last_segment and facts.missing_sector and not facts.later_batch and not facts.out_of_place


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        (Facts(True, True, False, False, True, False), Decision.END_OF_LOG),
        (Facts(False, True, False, False, True, False), Decision.END_OF_LOG),
        (Facts(True, True, False, False, True, True), Decision.WITHHELD),
        (Facts(False, True, False, False, True, True), Decision.CORRUPT),
        (Facts(False, False, False, False, True, False), Decision.CORRUPT),
        (Facts(True, False, True, False, True, False), Decision.CORRUPT),
        (Facts(True, False, False, True, True, False), Decision.CORRUPT),
        (Facts(True, False, False, False, False, True), Decision.WITHHELD),
        (Facts(True, False, False, False, True, False), Decision.TORN_TAIL),
        (Facts(True, False, False, False, False, False), Decision.CORRUPT),
    ],
)
def test_decisions(facts: Facts, decision: Decision) -> None:
    """One case for each row, so that a changed row is a changed test."""
    assert decide(facts) is decision
