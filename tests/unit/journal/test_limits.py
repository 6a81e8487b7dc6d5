"""Bounds that contradict each other are refused at the start, by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from journal.limits import MIB, Limits, Timing


def test_the_defaults_hold() -> None:
    Limits().check()
    Timing().check()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (replace(Limits(), segment_bytes=MIB), "record_bytes_max"),
        (replace(Limits(), peer_frame_bytes_max=MIB), "peer_frame_bytes_max"),
        (replace(Limits(), append_bytes_max=16 * MIB), "append_bytes_max"),
        (replace(Limits(), uncommitted_bytes_max=MIB), "uncommitted_bytes_max"),
        (replace(Limits(), snapshots_kept=1), "snapshots_kept"),
        (replace(Limits(), snapshot_entries=0), "snapshot_entries must be positive"),
        (replace(Limits(), apply_bytes_max=-1), "apply_bytes_max must be positive"),
    ],
)
def test_limits_that_cannot_work_together_are_named(limits: Limits, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        limits.check()


def test_an_election_timeout_of_exactly_three_heartbeats_is_enough() -> None:
    """Also where binary fractions see it otherwise: 3 * 0.1 is more than 0.3 to them."""
    for interval in (0.1, 0.05, 0.2, 0.7):
        Timing(interval, round(3 * interval, 6), 0.01).check()


@pytest.mark.parametrize(
    ("timing", "said"),
    [
        (Timing(0.1, 0.29, 0.02), "three heartbeat intervals"),
        (Timing(0.1, 0.6, 0.0), "reset_timeout"),
        (Timing(0.1, 0.6, 0.2), "reset_timeout"),
    ],
)
def test_durations_that_cannot_work_are_named(timing: Timing, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        timing.check()
