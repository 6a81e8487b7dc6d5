"""What the clients saw, on its way from one process to another."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.history import Added, Counted, HistoryFile, Outcome, RegisterCall, Tally, read_history


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    """Results are compared with states of the models, which are tuples; JSON knows lists only."""
    records = [
        RegisterCall("w0", "set", "/k", (3, "v"), 1.25, 1.5, 4),
        RegisterCall("w0", "get", "/k", None, 1.25, 1.5, ("v", 4)),
        RegisterCall("w0", "create", "/k", "v", 1.25, None, None),
        Counted("m", Outcome.UNKNOWN),
        Tally("register", Outcome.ACKNOWLEDGED, 3),
    ]
    path = tmp_path / "history.jsonl"
    with path.open("w") as file:
        history = HistoryFile(file)
        for record in records:
            history.add(record)
    found = read_history([path])
    assert found.of(RegisterCall) == records[:3]
    assert found.of(Counted) == records[3:4]
    assert found.of(Tally) == records[4:]


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    """The history of a worker that was killed is still worth reading."""
    path = tmp_path / "history.jsonl"
    path.write_text('["Added","a","acknowledged",""]\n["Added","b","ackno')
    assert read_history([path]).of(Added) == [Added("a", Outcome.ACKNOWLEDGED, "")]
