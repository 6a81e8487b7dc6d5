"""The results as rows of a table and as a document for scripts. Values in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jkcs_server.bench.cells import Cell, Unit
from jkcs_server.bench.figures import Figures, Mark, mark
from jkcs_server.bench.sitting import Result

COLUMNS = ("cell", "ops/s", "p50 ms", "p95", "p99", "worst", "server", "accept", "aim", "mark", "rate", "load %")
BESIDE_COLUMNS = ("cell", "cluster", *COLUMNS[1:], "ops x", "cost x")
RIGHT = tuple(column for column in BESIDE_COLUMNS if column not in ("cell", "cluster", "mark", "rate"))
FOOT = (
    "server: processor time of all servers together (us/op), or the cell's own unit. accept, aim: for it, and in\n"
    "parentheses for ops/s; mark and rate say how far it came. load %: of one processor, for the load generator.\n"
    "In fan-out an operation is one session told of a change, and the times are those until the last was told;\n"
    "in connect it is one session opened and ended, and the times are those until it was open."
)
BESIDE_FOOT = "ops x, cost x: how many times the operations, and how many times less cost, than the cluster beside it."
NONE = "-"


def rows(results: Sequence[Result], ours: str) -> list[list[str]]:
    """One row for each result; with several clusters, ours bears the comparison with the other."""
    beside = len({result.subject for result in results}) > 1
    return [_row(result, results, ours, beside) for result in results]


def _row(result: Result, results: Sequence[Result], ours: str, beside: bool) -> list[str]:
    cell, figures = result.cell, result.figures
    cost = cost_of(cell, figures)
    ours_here = result.subject == ours
    if result.failed:
        marks = ["FAILED", "FAILED"]
    elif result.skipped:
        marks = ["skipped", NONE]
    elif ours_here:
        marks = [each.value for each in marks_of(result)]
    else:
        marks = [NONE, NONE]
    row = [
        cell.name,
        number(figures.ops_per_second),
        number(figures.p50_ms),
        number(figures.p95_ms),
        number(figures.p99_ms),
        number(figures.worst_ms),
        NONE if cost is None else f"{number(cost)} {cell.unit.value}",
        _target(cell.accept, cell.accept_rate) if ours_here else "",
        _target(cell.aim, cell.aim_rate) if ours_here else "",
        *marks,
        number(figures.load_percent),
    ]
    if not beside:
        return row
    other = next((each for each in results if each.cell == cell and each.subject != ours), None) if ours_here else None
    ratios = [NONE, NONE] if ours_here else ["", ""]
    if other is not None:
        theirs = other.figures
        ratios = [
            _ratio(figures.ops_per_second, theirs.ops_per_second),
            _ratio(cost_of(cell, theirs), cost),
        ]
    return [row[0], result.subject, *row[1:], *ratios]


def remarks(results: Sequence[Result]) -> list[str]:
    """What has no column: of the memory cells, the servers together, the growth per key and the time to fill."""
    found = []
    for result in results:
        figures = result.figures
        if figures.megabytes_all is not None:
            found.append(
                f"{result.cell.name} {result.subject}: all servers {number(figures.megabytes_all)} MB, "
                f"{number(figures.bytes_per_key)} bytes more per key on each, "
                f"filled in {number(figures.load_seconds)} s"
            )
    return found


def marks_of(result: Result) -> tuple[Mark, Mark]:
    """How the cell's cost, and how its rate, compare with the targets."""
    cell, figures = result.cell, result.figures
    return (
        mark(cost_of(cell, figures), cell.accept, cell.aim, more_is_better=False),
        mark(figures.ops_per_second, cell.accept_rate, cell.aim_rate, more_is_better=True),
    )


def cost_of(cell: Cell, figures: Figures) -> float | None:
    """The figure that the cell's targets are about."""
    match cell.unit:
        case Unit.US_PER_OP:
            return figures.server_us_per_op
        case Unit.SECONDS:
            return figures.seconds
        case Unit.MEGABYTES:
            return figures.megabytes


def document(results: Sequence[Result], ours: str) -> list[dict[str, Any]]:
    """For scripts: medians, every round, targets and marks."""
    found = []
    for result in results:
        cell = result.cell
        entry: dict[str, Any] = {"cell": cell.name, "cluster": result.subject}
        entry |= {name: value for name, value in asdict(result.figures).items() if value is not None}
        if result.subject == ours:
            cost, rate = marks_of(result)
            entry["targets"] = {
                "unit": cell.unit.value,
                "accept": cell.accept,
                "aim": cell.aim,
                "accept_ops_per_second": cell.accept_rate,
                "aim_ops_per_second": cell.aim_rate,
            }
            entry["mark"], entry["rate_mark"] = cost.value, rate.value
        entry["rounds"] = [{k: v for k, v in asdict(each).items() if v is not None} for each in result.rounds]
        entry["errors"] = dict(result.errors)
        if result.skipped:
            entry["skipped"] = result.skipped
        found.append(entry)
    return found


def number(value: float | None) -> str:
    """Three digits that matter, thousands set apart: 12,345; 123; 12.3; 1.23; 0.12."""
    if value is None:
        return NONE
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _target(cost: float | None, rate: float | None) -> str:
    if cost is None:
        return NONE
    return f"{cost:g}" if rate is None else f"{cost:g} ({rate:,.0f})"


def _ratio(more: float | None, less: float | None) -> str:
    return NONE if not more or not less else f"{more / less:.2f}"
