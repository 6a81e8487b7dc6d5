"""The group of commands: what it lists, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from jkcs_server.cli.main import COMMANDS, jkcs

HEAVY = ("rich", "prompt_toolkit", "jkcs_server.cli.shell", "jkcs_server.cli.demo")


def imported_by(*arguments: str) -> set[str]:
    """The modules that a call of `jkcs` has imported by its end."""
    code = (
        "import json, sys\n"
        "from jkcs_server.cli.main import jkcs\n"
        f"jkcs({list(arguments)!r}, standalone_mode=False)\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_lists_every_command_without_importing_any() -> None:
    """The list must come at once, and must come even if one command is broken."""
    result = CliRunner().invoke(jkcs, ["--help"])
    assert result.exit_code == 0
    for name, (_, _, text) in COMMANDS.items():
        assert f"{name} " in result.output
        assert text in result.output
    modules = imported_by("--help")
    assert not modules & {module for module, _, _ in COMMANDS.values()}


def test_serve_starts_without_what_only_other_commands_need() -> None:
    """A node that starts again is a node that is missed: a second of imports counts."""
    assert not imported_by("serve", "--help") & set(HEAVY)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_exit_codes(name: str) -> None:
    """A script's author looks there first."""
    result = CliRunner().invoke(jkcs, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Exit codes:" in result.output


def test_unknown_command_is_wrong_usage() -> None:
    """Exit code 2, as for every wrong flag."""
    result = CliRunner().invoke(jkcs, ["stauts"])
    assert result.exit_code == 2
    assert "No such command 'stauts'" in result.output


def test_commands_are_found_by_the_group() -> None:
    """Completion of the user's own shell asks the group."""
    context = click.Context(jkcs)
    assert jkcs.list_commands(context) == list(COMMANDS)
    assert jkcs.get_command(context, "nothing") is None


def test_version_is_the_packages() -> None:
    """The first question of every bug report."""
    result = CliRunner().invoke(jkcs, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("jkcs ")
