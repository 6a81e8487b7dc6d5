"""The table of cells, and how some of them are chosen."""

from __future__ import annotations

import pytest

from jkcs_server.bench.cells import CELLS, Task, choose


def test_cells_are_chosen_by_name_and_pattern_in_the_order_of_the_table() -> None:
    """However the user lists them."""
    assert [cell.name for cell in choose(["restart", "set-*x1"])] == ["set-1x1", "set-64x1", "restart"]
    assert choose(["*"]) == list(CELLS)


def test_what_takes_long_is_measured_only_by_name() -> None:
    """A million keys in three servers are not what a first try should need."""
    assert [cell.name for cell in CELLS if cell not in choose([])] == ["memory-1m"]
    assert [cell.name for cell in choose(["memory*"])] == ["memory", "memory-1m"]


def test_a_name_that_matches_nothing_is_refused_with_the_names_there_are() -> None:
    """A slip must not pass as an empty table."""
    with pytest.raises(ValueError, match=r"no cell matches 'put-\*'; there are set-1x1, .*memory"):
        choose(["set-*", "put-*"])


def test_names_and_targets_are_sound() -> None:
    """A name says its load, and an aim is never easier than what must be."""
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    for cell in CELLS:
        assert cell.aim is None or (cell.accept is not None and cell.aim < cell.accept)
        assert (cell.accept_rate or 0) <= (cell.aim_rate or 0)
        assert (cell.kind is not None) == (cell.task is Task.LOAD)
        if cell.kind is not None:
            assert cell.accept is not None
            assert cell.name.endswith(f"-{cell.connections}x{cell.window}")
            assert cell.connections * cell.window <= 1024
