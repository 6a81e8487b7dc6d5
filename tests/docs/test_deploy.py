"""The files of docs/deploy, and the settings shown on the pages, are taken by the real configuration."""

from __future__ import annotations

import re
import tomllib

from jkcs_server.cli.main import jkcs
from jkcs_server.config import load
from tests.docs.pages import ROOT, pages

DEPLOY = ROOT / "docs" / "deploy"


def test_the_sample_file_is_a_right_configuration() -> None:
    """It is what an operator starts from."""
    config = load(tomllib.loads((DEPLOY / "node.toml").read_text(encoding="utf-8")), {}, {})
    assert config.me == "n1" and len(config.peers) == 3
    config.check_exposure()


def test_every_settings_file_shown_on_a_page_is_right() -> None:
    """A page's file is copied as a whole."""
    shown = [block for page in pages() for block in page.blocks if block.language == "toml"]
    assert shown
    for block in shown:
        load(tomllib.loads(block.text), {}, {}).check_exposure()


def test_every_member_of_the_compose_file_is_configured_right() -> None:
    """Three members with the same peers, each with a name among them."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    variables = re.findall(r'^ +(JKCS_[A-Z_]+): "?([^\s"]+)"?$', text, re.MULTILINE)
    names = [value for name, value in variables if name == "JKCS_ME"]
    shared = {name: value for name, value in variables if name != "JKCS_ME"}
    assert names == re.findall(r"^  (n\d):$\n    <<", text, re.MULTILINE) == ["n1", "n2", "n3"]
    for name in names:
        config = load(None, {**shared, "JKCS_ME": name}, {})
        assert list(config.peers) == names
        config.check_exposure()


def test_the_unit_and_the_image_start_a_command_that_exists() -> None:
    """Their command lines are not run by any other test."""
    unit = (DEPLOY / "jkcs.service").read_text(encoding="utf-8")
    started = re.findall(r"^ExecStart=\S+/jkcs (\w+) (--[\w-]+) (\S+)$", unit, re.MULTILINE)
    assert started == [("serve", "--config", "/etc/jkcs/node.toml")]
    serve = jkcs.get_command(jkcs.make_context("jkcs", ["serve"], resilient_parsing=True), "serve")
    assert serve is not None and "--config" in {option for each in serve.params for option in each.opts}
    assert 'CMD ["serve"]' in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_holds_every_package() -> None:
    """A package added to the project must be added to the image."""
    copied = re.findall(r"^COPY (\w+) /src/\1$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    include = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(f"{name}*" for name in copied) == sorted(include)
