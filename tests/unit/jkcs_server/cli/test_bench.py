"""`jkcs bench` as its user meets it: its flags, its complaints, its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from jkcs_server.bench.cells import CELLS
from jkcs_server.bench.line import Wire
from jkcs_server.bench.subject import SubjectFailed
from jkcs_server.cli import bench as module
from jkcs_server.cli.bench import bench
from tests.unit.jkcs_server.bench.fake import FakeSubject, FakeTree

QUICK = ["--seconds", "0.2", "--warmup", "0", "--rounds", "1"]


def test_the_cells_can_be_listed() -> None:
    """Names are needed for --cells."""
    result = CliRunner().invoke(bench, ["--list"])
    assert result.exit_code == 0
    assert result.stdout.split() == [cell.name for cell in CELLS]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cells", "put-1x1"], "no cell matches 'put-1x1'"),
        (["--connect", "http://x"], "jkcs://host:port"),
        (["--connect", "jkcs://127.0.0.1:1", "--beside", "zookeeper"], "leave out --connect"),
        (["--seconds", "0"], "--seconds"),
        (["--rounds", "0"], "--rounds"),
        (["--beside", "consul"], "zookeeper"),
        (["--protocol", "http"], "zookeeper"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], complaint: str) -> None:
    """Exit code 2, and nothing is started."""
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_cluster_that_does_not_answer_ends_the_command() -> None:
    """Exit code 3, with the address and why."""
    result = CliRunner().invoke(bench, ["--connect", "jkcs://127.0.0.1:1", *QUICK])
    assert result.exit_code == 3
    assert "127.0.0.1:1 does not answer: connection refused" in result.stderr


def test_a_running_cluster_is_measured_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table on standard output, what goes on on standard error."""
    subject = FakeSubject(FakeTree())
    subject.ours = False
    monkeypatch.setattr(module, "RunningJkcs", lambda addresses, chroot, wire: subject)
    arguments = ["--connect", "jkcs://127.0.0.1:1", "--cells", "set-1x1,memory", *QUICK]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    head, row, skipped, *_ = result.stdout.splitlines()
    assert head.split()[:2] == ["CELL", "OPS/S"] and row.startswith("set-1x1")
    assert "skipped" in skipped and "memory jkcs: not measured" in result.stdout
    assert "round 1/1 set-1x1 jkcs" in result.stderr
    assert list(subject.tree.keys) == ["/"]
    result = CliRunner().invoke(bench, [*arguments, "--json"])
    document = json.loads(result.stdout)
    assert [entry["cell"] for entry in document["results"]] == ["set-1x1", "memory"]
    assert document["protocol"] == "native"


def test_the_protocol_can_be_zookeeper_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then both clusters get the same bytes."""
    subjects = {wire: FakeSubject(FakeTree(), wire=wire) for wire in Wire}
    monkeypatch.setattr(module, "OwnJkcs", lambda directory, wire: subjects[wire])
    result = CliRunner().invoke(
        bench, ["--protocol", "zookeeper", "--cells", "get-linearizable-64x1", "--json", *QUICK]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["protocol"] == "zookeeper"
    assert subjects[Wire.ZOOKEEPER].tree.opened and not subjects[Wire.NATIVE].tree.opened


def test_a_failed_cell_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script must not take its figures for good."""
    subject = FakeSubject(FakeTree())
    subject.tree.forgetful = True
    monkeypatch.setattr(module, "OwnJkcs", lambda directory, wire: subject)
    result = CliRunner().invoke(bench, ["--cells", "set-1x1", *QUICK])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout and "writes were acknowledged, the keys have seen 0" in result.stdout


def test_two_clusters_are_shown_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ratio, and only one set of targets."""
    ours, theirs = FakeSubject(FakeTree()), FakeSubject(FakeTree())
    theirs.name = "zookeeper"
    monkeypatch.setattr(module, "OwnJkcs", lambda directory, wire: ours)
    monkeypatch.setattr(module, "ZooKeeper", lambda directory: theirs)
    monkeypatch.setattr(module, "ZOOKEEPER_WARMUP_SECONDS", 0.0)
    result = CliRunner().invoke(bench, ["--beside", "zookeeper", "--cells", "get-1x1", *QUICK])
    assert result.exit_code == 0, result.output
    assert [line.split()[1] for line in result.stdout.splitlines()[1:3]] == ["jkcs", "zookeeper"]


def test_a_cluster_that_cannot_be_started_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, no traceback."""

    def fail(directory: Path, wire: Wire) -> FakeSubject:
        raise SubjectFailed("ZooKeeper is not installed")

    monkeypatch.setattr(module, "OwnJkcs", fail)
    result = CliRunner().invoke(bench, ["--cells", "set-1x1", *QUICK])
    assert result.exit_code == 3
    assert result.stderr == "jkcs bench: ZooKeeper is not installed\n"
