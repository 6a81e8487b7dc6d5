"""`jkcs dev`: what it says while its cluster changes. With real servers it is run by tests/integration."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from jkcs_server.cli import dev as module
from jkcs_server.cli.dev import _tell_changes, how_it_ended
from jkcs_server.cli.processes import LocalCluster, LocalNode, ProcessFailed
from tests.unit.jkcs_server.cli.answering import status_of


class Ended:
    """A process that has ended, or one that runs."""

    pid = 7

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code


def node(name: str, code: int | None, tmp_path: Path) -> LocalNode:
    log = tmp_path / f"{name}.log"
    log.write_text("serving\ndisk failed\n\n")
    return LocalNode(name, ("h", 1), ("h", 2), tmp_path / name, log, Ended(code))  # type: ignore[arg-type]


def test_end_of_a_node_is_told_by_signal_or_by_its_last_words(tmp_path: Path) -> None:
    """After kill -9 the last line of the log has nothing to do with the end."""
    assert how_it_ended(node("n1", -9, tmp_path)) == "was killed by SIGKILL"
    assert how_it_ended(node("n1", 1, tmp_path)) == "has ended with exit code 1: disk failed"


def test_changes_of_the_leader_and_ended_nodes_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for what happens, none for what stays."""
    monkeypatch.setattr(module, "LOOK_INTERVAL", 0)
    cluster = LocalCluster(tmp_path, 2)
    cluster.nodes = {name: node(name, None, tmp_path) for name in ("n1", "n2")}
    looks: list[Any] = [
        {"n1": status_of("n1", "leader")},
        {"n1": status_of("n1"), "n2": status_of("n2", "leader", term=4)},
        {"n1": status_of("n1"), "n2": status_of("n2", "leader", term=4)},
        {},
        {},
    ]

    def look() -> dict[str, Any]:
        if len(looks) == 2:
            cluster.nodes["n2"].process = Ended(-9)  # type: ignore[assignment]
        if len(looks) == 1:
            cluster.nodes["n1"].process = Ended(1)  # type: ignore[assignment]
        found: dict[str, Any] = looks.pop(0)
        return found

    monkeypatch.setattr(cluster, "statuses", look)
    with pytest.raises(ProcessFailed, match="all nodes have ended"):
        _tell_changes(cluster, "n1", threading.Event())
    assert capsys.readouterr().out.splitlines() == [
        "n2 leads in term 4",
        "n2 (pid 7) was killed by SIGKILL",
        "nobody leads",
        "n1 (pid 7) has ended with exit code 1: disk failed",
    ]
