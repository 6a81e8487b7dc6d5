"""`jkcs zk` before anything is connected: paths, credentials and what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jkcs_server.cli.zk import zk

NOBODY = "127.0.0.1:1"


def run(*words: str, auth: str = "") -> Result:
    return CliRunner(env={"ZOOKEEPER_AUTH": auth}).invoke(zk, [*words, "--url", f"jkcs://{NOBODY}"])


@pytest.mark.parametrize("path", ["app", "/app/", "//app", "/zookeeper", "/zookeeper/quota"])
def test_a_root_must_be_a_key_that_can_be_copied(path: str) -> None:
    for option in ("--root", "--into"):
        result = run("import", NOBODY, option, path)
        assert result.exit_code == 2 and option in result.output and path in result.output


def test_a_url_or_a_file_that_cannot_be_used_is_wrong_usage(tmp_path: Path) -> None:
    """Said before anything is connected, rather than after a wait for a ZooKeeper, and of the side that it is about."""
    file = tmp_path / "pem"
    file.write_text("no certificate")
    for words, told in (
        (["--url", "zk://h"], "--url"),
        (["--ca", str(file)], f"Invalid value for TLS: ca: cannot use {file}"),
        (["--zookeeper-ca", str(file)], f"Invalid value for TLS to ZooKeeper: ca: cannot use {file}"),
        (["--zookeeper-key", str(file)], "Invalid value for TLS to ZooKeeper: key: there is no certificate"),
    ):
        result = CliRunner().invoke(zk, ["diff", NOBODY, *words])
        assert result.exit_code == 2 and told in " ".join(result.output.split()), result.output


def test_credentials_are_never_shown(tmp_path: Path) -> None:
    """Not even a line that makes no sense: it may be a password where a scheme was forgotten."""
    file = tmp_path / "auth"
    file.write_text("digest:u:p\n\nhunter2\n")
    for result in (run("diff", NOBODY, "--zookeeper-auth", str(file)), run("diff", NOBODY, auth="\n\nhunter2")):
        assert result.exit_code == 2 and "line 3 is not digest:USER:PASSWORD" in result.output
        assert "hunter2" not in result.output
    result = run("diff", NOBODY, "--auth", str(file))
    assert result.exit_code == 2 and "for --auth: line 3" in result.output


def test_without_kazoo_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: most users never come from ZooKeeper."""
    monkeypatch.delitem(sys.modules, "jkcs_server.cli.zk_zookeeper", raising=False)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    result = run("import", NOBODY)
    assert result.exit_code == 2 and "pip install 'jkcs[zookeeper]'" in result.output
