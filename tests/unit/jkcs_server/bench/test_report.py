"""The table and the document: figures where they are known, marks that hide nothing."""

from __future__ import annotations

from collections import Counter

from jkcs_server.bench import report
from jkcs_server.bench.cells import CELLS
from jkcs_server.bench.figures import Figures
from jkcs_server.bench.sitting import Result

CELL = {cell.name: cell for cell in CELLS}
FAST = Figures(70_000, 10.04, 20.5, 140, 200, 24.56, 33.3)
SLOW = Figures(20_000, 45, 90, 145, 150, 89)


def test_a_row_has_the_figures_the_targets_and_both_marks() -> None:
    """Cost and rate are judged apart: on a busy machine they disagree."""
    result = Result(CELL["set-16x64"], "jkcs", [FAST])
    assert report.rows([result], "jkcs") == [
        [
            "set-16x64",
            "70,000",
            "10.0",
            "20.5",
            "140",
            "200",
            "24.6 us/op",
            "40 (40,000)",
            "25 (60,000)",
            "aim",
            "aim",
            "33.3",
        ]
    ]
    assert len(report.COLUMNS) == 12


def test_ours_bears_the_comparison_with_the_cluster_beside_it() -> None:
    """Ratios above one are to our credit, for rate and cost alike."""
    ours, theirs = Result(CELL["set-16x64"], "jkcs", [FAST]), Result(CELL["set-16x64"], "zookeeper", [SLOW])
    first, second = report.rows([ours, theirs], "jkcs")
    assert len(first) == len(second) == len(report.BESIDE_COLUMNS)
    assert first[:2] == ["set-16x64", "jkcs"] and first[-2:] == ["3.50", "3.62"]
    assert second[:2] == ["set-16x64", "zookeeper"] and second[-2:] == ["", ""]
    assert second[8:12] == ["", "", "-", "-"]  # our targets are not theirs


def test_other_units_and_unknown_figures_are_shown_as_what_they_are() -> None:
    """Seconds, megabytes, and a dash where nothing is known."""
    restart = Result(CELL["restart"], "jkcs", [Figures(seconds=1.5)])
    memory = Result(CELL["memory"], "jkcs", [Figures(megabytes=119.6)])
    far = Result(CELL["get-64x1"], "jkcs", [Figures(1000, 1, 2, 3)])
    rows = report.rows([restart, memory, far], "jkcs")
    assert rows[0][6:11] == ["1.50 s", "2", "1", "ok", "-"]
    assert rows[1][6:11] == ["120 MB", "200", "120", "aim", "-"]
    assert rows[2][6:11] == ["-", "40 (28,000)", "28 (41,000)", "-", "short"]


def test_failed_and_skipped_cells_say_so() -> None:
    """A figure with errors behind it must not look like a good one."""
    failed = Result(CELL["set-16x64"], "jkcs", [FAST], Counter({"NoNode": 3}))
    skipped = Result(CELL["restart"], "jkcs", skipped="why")
    rows = report.rows([failed, skipped], "jkcs")
    assert rows[0][9:11] == ["FAILED", "FAILED"] and rows[1][9:11] == ["skipped", "-"]
    first, second = report.document([failed, skipped], "jkcs")
    assert first["errors"] == {"NoNode": 3} and second["skipped"] == "why"


def test_the_document_has_every_round_and_the_targets() -> None:
    """A script can judge for itself."""
    [entry] = report.document([Result(CELL["set-16x64"], "jkcs", [FAST, SLOW])], "jkcs")
    assert entry["ops_per_second"] == 45_000 and entry["mark"] == "short" and entry["rate_mark"] == "ok"
    assert entry["rounds"][1] == {
        "ops_per_second": 20_000, "p50_ms": 45, "p95_ms": 90, "p99_ms": 145, "worst_ms": 150, "server_us_per_op": 89
    }  # fmt: skip
    assert entry["targets"]["accept"] == 40
    [theirs] = report.document([Result(CELL["set-16x64"], "zookeeper", [SLOW])], "jkcs")
    assert "mark" not in theirs


def test_numbers_keep_three_digits_that_matter() -> None:
    """No more is known of them."""
    values = (None, 0.1234, 9.994, 12.34, 123.4, 12345.6)
    assert [report.number(value) for value in values] == ["-", "0.12", "9.99", "12.3", "123", "12,346"]


def test_what_has_no_column_is_said_below_the_table() -> None:
    """A server's memory means little without what it was before, and without the other servers."""
    figures = Figures(megabytes=97.5, megabytes_all=290, bytes_per_key=512.4, load_seconds=2.5)
    results = [Result(CELL["memory"], "jkcs", [figures]), Result(CELL["set-16x64"], "jkcs", [FAST])]
    assert report.remarks(results) == [
        "memory jkcs: all servers 290 MB, 512 bytes more per key on each, filled in 2.50 s"
    ]
