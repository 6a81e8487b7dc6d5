"""The options for TLS that the commands share: from flags and environment to what they connect with."""

from __future__ import annotations

from pathlib import Path

import click
from click.testing import CliRunner

from jkcs_server.cli.tls import context_to, given, with_tls
from tests.support.certificates import Authority


@click.command()
@click.argument("url")
@with_tls
def command(url: str) -> None:
    """Says what it would connect with."""
    click.echo(f"{sorted(given().items())} {context_to(url) is not None}")


def test_options_win_over_the_environment(tmp_path: Path) -> None:
    """As everywhere else."""
    ca, other = (Authority().write(tmp_path / name) for name in ("ca.pem", "other.pem"))
    run = CliRunner().invoke
    assert run(command, ["jkcs://h:1"]).output == "[] False\n"
    assert run(command, ["jkcss://h:1"]).output == "[] True\n"
    assert run(command, ["jkcs://h:1", "--ca", str(ca)]).output == f"[('ca', '{ca}')] True\n"
    env = {"JKCS_CA": str(other)}
    assert run(command, ["jkcs://h:1"], env=env).output == f"[('ca', '{other}')] True\n"
    assert run(command, ["jkcs://h:1", "--ca", str(ca)], env=env).output == f"[('ca', '{ca}')] True\n"


def test_a_file_that_cannot_be_used_is_wrong_usage(tmp_path: Path) -> None:
    """Before anything is connected."""
    result = CliRunner().invoke(command, ["jkcs://h:1", "--ca", str(tmp_path / "gone")])
    assert result.exit_code == 2 and "gone: no such file" in result.output


def test_outside_a_command_nothing_is_given() -> None:
    """Other programs use the same functions."""
    assert given() == {} and context_to("jkcs://h:1") is None
