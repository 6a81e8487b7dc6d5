"""`jkcs serve`: where settings come from, and the one line that says why a node does not start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jkcs_server.cli import serve as module
from jkcs_server.config import NodeConfig
from journal.errors import DiskFailed

FLAGS = ("--me", "n1", "--peers", "n1=127.0.0.1:0", "--listen", "127.0.0.1:0")
Make = Callable[..., type]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A node that does nothing but say what is asked of it; how it behaves is told through its class."""
    told: list[str] = []

    class FakeNode:
        start_error: BaseException | None = None
        failure: BaseException | None = None
        starts = True

        def __init__(self, config: NodeConfig) -> None:
            told.append(f"{config.me} in {config.data_dir.name}" + ("" if config.fsync else " without fsync"))

        async def start(self) -> None:
            if FakeNode.start_error is not None:
                raise FakeNode.start_error
            if not FakeNode.starts:
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
                await asyncio.Event().wait()
            told.append("started")

        async def failed(self) -> None:
            if FakeNode.failure is not None:
                raise FakeNode.failure
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()

        async def stop(self) -> None:
            told.append("stopped")

    fake = types.ModuleType("jkcs_server.node")
    fake.__dict__.update(Node=FakeNode, new_event_loop=asyncio.new_event_loop, tune_collector=lambda: None)
    monkeypatch.setitem(sys.modules, "jkcs_server.node", fake)
    return told


def fake_node() -> type:
    found: type = sys.modules["jkcs_server.node"].__dict__["Node"]
    return found


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(module.serve, arguments)


def test_node_serves_until_sigterm_and_is_stopped(node: list[str], tmp_path: Path) -> None:
    """An orderly end hands leadership over; that is the node's `stop`."""
    result = run(*FLAGS, "--data-dir", str(tmp_path / "d"))
    assert result.exit_code == 0, result.output
    assert node == ["n1 in d", "started", "stopped"]


def test_settings_come_from_file_environment_and_flags(node: list[str], tmp_path: Path) -> None:
    """Each where it is best kept."""
    config = tmp_path / "jkcs.toml"
    config.write_text('me = "n2"\ndata_dir = "from-file"\n[peers]\nn1 = "127.0.0.1:0"\n')
    assert run("--config", str(config), "--me", "n1", env={"JKCS_DATA_DIR": "from-env"}).exit_code == 0
    assert run("--me", "n1", env={"JKCS_CONFIG": str(config)}).exit_code == 0
    assert [line for line in node if " in " in line] == ["n1 in from-env", "n1 in from-file"]


def test_failed_start_is_one_line_and_no_traceback(node: list[str], tmp_path: Path) -> None:
    """An operator reads the reason, not our code."""
    fake_node().start_error = OSError(98, "address 127.0.0.1:2181 is in use")
    result = run(*FLAGS, "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == ("jkcs serve: n1 cannot start: address 127.0.0.1:2181 is in use")
    assert "Traceback" not in result.stderr
    assert "stopped" not in node


def test_node_that_stops_by_itself_is_told_and_exits_with_failure(node: list[str], tmp_path: Path) -> None:
    """Whoever supervises the process must know that it did not end as told."""
    fake_node().failure = DiskFailed("sync of wal: Input/output error")
    result = run(*FLAGS, "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "jkcs serve: n1 stopped by itself: sync of wal: Input/output error" in result.stderr
    assert node[-1] == "stopped"


def test_sigterm_ends_a_start_that_takes_long(node: list[str], tmp_path: Path) -> None:
    """Recovery of a long journal must not keep a machine from shutting down."""
    fake_node().starts = False
    result = run(*FLAGS, "--data-dir", str(tmp_path))
    assert (result.exit_code, node[1:]) == (0, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"me = ", "is not TOML"),
        (b"me = '\xff'", "is not TOML"),
        (b"mee = 'n1'", "mee: is not a setting; did you mean me?"),
        (b"#" * (module.CONFIG_BYTES_MAX + 1), "is larger than"),
        (None, "no such file or directory"),
    ],
)
def test_bad_file_is_wrong_usage_and_is_named(
    content: bytes | None, message: str, node: list[str], tmp_path: Path
) -> None:
    """Nothing is started with half a configuration."""
    config = tmp_path / "jkcs.toml"
    if content is not None:
        config.write_bytes(content)
    result = run("--config", str(config), *FLAGS, "--data-dir", "d")
    assert result.exit_code == 2
    assert message in result.stderr
    assert str(config) in result.stderr
    assert node == []


def test_bad_flag_is_wrong_usage(node: list[str]) -> None:
    """The flag is named, and nothing is started."""
    result = run(*FLAGS, "--data-dir", "d", "--listen", "nowhere")
    assert result.exit_code == 2
    assert "listen: 'nowhere' is no address" in result.stderr
    assert "(from --listen)" in result.stderr
    assert node == []


def test_only_the_flag_takes_fsync_away(node: list[str], tmp_path: Path) -> None:
    """The node then says so loudly, whoever starts it."""
    run(*FLAGS, "--data-dir", str(tmp_path))
    run(*FLAGS, "--data-dir", str(tmp_path), "--no-fsync")
    assert ["without fsync" in line for line in node if " in " in line] == [False, True]
