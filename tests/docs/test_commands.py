"""Every command that the documentation shows exists, with every option it is given."""

from __future__ import annotations

import importlib.util
import re
import shlex

import click

from jkcs_server.cli.main import jkcs
from tests.docs.pages import ROOT, pages


def _targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):(?!=)", makefile, re.MULTILINE))


def _complaint(command: str) -> str | None:
    """What is wrong with a shown command, or None."""
    words = shlex.split(re.sub(r"[|&;>].*", "", command) if "'" not in command else command, comments=True)
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] == "sudo"):
        words = words[1:]
    if words[:1] == ["make"]:
        unknown = [word for word in words[1:] if "=" not in word and word not in _targets()]
        return f"make has no target {unknown[0]}" if unknown else None
    if words[:2] == ["python", "-m"]:
        return None if importlib.util.find_spec(words[2]) else f"no module {words[2]}"
    if words[:1] == ["jkcs"]:
        return _jkcs_complaint(words[1:])
    return None


def _jkcs_complaint(words: list[str]) -> str | None:
    context = click.Context(jkcs)
    command: click.Command = jkcs
    if words and not words[0].startswith("-"):
        found = jkcs.get_command(context, words[0])
        if found is None:
            return f"jkcs has no command {words[0]}"
        command, words = found, words[1:]
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            if found is None:
                return f"jkcs {command.name} has no command {words[0]}"
            command, words = found, words[1:]
    known = {"--help", "-h"} | {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in command.params for option in parameter.secondary_opts}
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in known:
            return f"jkcs {command.name} has no option {option}"
    return None


def test_every_command_shown_exists() -> None:
    """What a reader types from the page must be understood."""
    complaints = []
    for page in pages():
        for command in page.commands:
            why = _complaint(command)
            if why:
                complaints.append(f"{page.name}: `{command}`: {why}")
    assert not complaints, complaints


def test_every_jkcs_command_has_its_place_in_the_reference() -> None:
    """A new command is documented in the same change."""
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    context = click.Context(jkcs)
    missing = [name for name in jkcs.list_commands(context) if f"## `jkcs {name}`" not in text]
    assert not missing, missing


def _parameters(command: click.Command, context: click.Context) -> list[click.Parameter]:
    """Of a command, and of those below it."""
    found = list(command.params)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            found += _parameters(below, context)
    return found


def test_every_option_is_in_the_reference() -> None:
    """And no option of a command goes unmentioned in its section."""
    text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    context = click.Context(jkcs)
    missing = []
    for name in jkcs.list_commands(context):
        section = re.split(r"^## ", text.partition(f"## `jkcs {name}`")[2], maxsplit=1, flags=re.MULTILINE)[0]
        command = jkcs.get_command(context, name)
        assert command is not None, name
        for parameter in _parameters(command, context):
            hidden = isinstance(parameter, click.Option) and parameter.hidden
            if isinstance(parameter, click.Option) and not hidden and f"`{max(parameter.opts, key=len)}" not in section:
                missing.append(f"jkcs {name} {max(parameter.opts, key=len)}")
    assert not missing, missing


def test_a_wrong_command_is_noticed() -> None:
    """The check itself."""
    assert _complaint("make nothing") and _complaint("jkcs fly") and _complaint("python -m nowhere_to_be_found")
    assert _complaint("jkcs admin voters applaud") == "jkcs voters has no command applaud"
    assert _complaint("jkcs admin voters list --loud") == "jkcs list has no option --loud"
    assert _complaint("jkcs serve --warp 9") == "jkcs serve has no option --warp"
    assert _complaint("JKCS_ME=n1 jkcs serve --no-fsync") is None and _complaint("make demo") is None
