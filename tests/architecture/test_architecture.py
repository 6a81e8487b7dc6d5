"""The product keeps the architecture of docs/ARCHITECTURE.md: one test per rule, its complaints in the failure."""

from __future__ import annotations

import tomllib

import pytest

from tests.architecture import checks
from tests.architecture.floors import ARROWS, ENTRY_POINTS, FACADES, FLOORS, PACKAGE_TESTS, PRINTERS, STRANGERS
from tests.architecture.source import PACKAGES, ROOT, product

RULES_FLOOR = 1


def holds(complaints: list[str]) -> None:
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


def test_every_module_stands_on_a_floor() -> None:
    """A module without a floor would escape every check below."""
    holds(checks.floors_complete(product(), FLOORS))


def test_imports_go_down() -> None:
    """Values know no rules, rules no edges, edges no drivers."""
    holds(checks.imports_go_down(product(), FLOORS))


def test_imports_have_no_cycle() -> None:
    """Two modules that need each other are one module, or three."""
    holds(checks.no_cycles(product()))


def test_packages_import_along_the_arrows() -> None:
    """recipes -> jkcs_client -> jkcs_client.protocol <- jkcs_server -> journal, and no other way."""
    holds(checks.arrows_allowed(product(), ARROWS))


def test_another_package_is_entered_through_its_facade() -> None:
    """Or its values; only the assembly reaches inside."""
    holds(checks.facades_only(product(), FLOORS, FACADES))


def test_raft_storage_and_peers_know_nothing_of_each_other() -> None:
    """The replica alone joins them; each can be tested, and replaced, alone."""
    holds(checks.strangers_apart(product(), STRANGERS))


def test_values_and_rules_ask_nothing_of_the_world() -> None:
    """What decides must be replayable from a seed: time, chance and I/O come in as arguments."""
    holds(checks.pure_below(product(), FLOORS, RULES_FLOOR))


def test_no_code_is_made_from_data() -> None:
    """No pickle, no eval: a peer or a file must never run code here."""
    holds(checks.nothing_unsafe(product()))


def test_only_the_command_line_prints() -> None:
    """JKCS lives inside other people's processes."""
    holds(checks.no_print(product(), PRINTERS))


def test_modules_stay_small() -> None:
    holds(checks.modules_small(product()))


def test_functions_stay_small() -> None:
    holds(checks.functions_small(product()))


def test_every_module_says_what_it_is_for() -> None:
    holds(checks.modules_introduced(product()))


def test_no_file_is_dead() -> None:
    """What nobody imports is either unfinished or forgotten."""
    holds(checks.no_dead_files(product(), ENTRY_POINTS))


def test_unit_tests_mirror_the_sources() -> None:
    """Whoever reads a module finds its tests without asking. Tests of the simulator's and the chaos run's parts
    stand in one folder each."""
    unit = ROOT / "tests" / "unit"
    tests = {path.relative_to(unit).as_posix() for path in unit.rglob("test_*.py")}
    harnesses = {
        f"{folder}.{path.stem}"
        for folder in ("simulation", "chaos")
        for path in (ROOT / "tests" / folder).rglob("*.py")
    }
    names = {module.name for module in product()} | harnesses
    holds([f"tests/unit/{test} is in PACKAGE_TESTS but does not exist" for test in sorted(set(PACKAGE_TESTS) - tests)])
    holds(checks.tests_mirror(sorted(tests - set(PACKAGE_TESTS)), names))


def test_every_test_folder_is_a_package() -> None:
    """Otherwise two tests of the same name hide each other."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    holds(
        [
            f"{folder.relative_to(ROOT)}: no __init__.py"
            for folder in sorted(folders)
            if not (folder / "__init__.py").exists()
        ]
    )


def test_every_package_is_typed_and_shipped() -> None:
    """Without py.typed a type checker sees nothing of our annotations; without `include` nobody gets the package."""
    holds([f"{package}/py.typed is missing" for package in PACKAGES if not (ROOT / package / "py.typed").exists()])
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert sorted(settings["setuptools"]["packages"]["find"]["include"]) == sorted(f"{name}*" for name in PACKAGES)
    assert settings["setuptools"]["package-data"]["*"] == ["py.typed"]
    assert sorted(settings["mypy"]["packages"]) == sorted(PACKAGES)
