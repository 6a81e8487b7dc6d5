"""Each rule of the architecture is broken on purpose, in a few lines of text: a check that cannot fail is no check."""

from __future__ import annotations

import textwrap

import pytest

from tests.architecture import checks
from tests.architecture.source import Module, parse


def module(name: str, text: str = '"""Some noun."""\n', *, is_package: bool = False) -> Module:
    return parse(name, textwrap.dedent(text), is_package=is_package)


def test_a_module_without_a_floor_is_reported() -> None:
    """A new file must be placed before it can be checked at all."""
    assert checks.floors_complete([module("a.b")], {}) == ["a.b: has no floor in tests/architecture/floors.py"]


def test_a_floor_without_a_module_is_reported() -> None:
    """A renamed file must not leave its old rule behind."""
    assert checks.floors_complete([], {"a.b": 1}) == ["a.b: has a floor but does not exist"]


@pytest.mark.parametrize(
    "line",
    [
        "import a.up",
        "from a import up",
        "from a.up import Thing",
        "from . import up",
        "from .up import Thing",
        "def late():\n    from a.up import Thing",
    ],
)
def test_an_import_of_a_higher_floor_is_reported(line: str) -> None:
    """In whatever way it is written, and wherever it stands."""
    modules = [module("a", is_package=True), module("a.down", line), module("a.up")]
    found = checks.imports_go_down(modules, {"a": 0, "a.down": 1, "a.up": 2})
    assert len(found) == 1 and "floor 1 imports a.up of floor 2" in found[0]


def test_imports_down_and_sideways_are_allowed() -> None:
    modules = [module("a.one", "import a.two\nimport a.three"), module("a.two"), module("a.three")]
    assert checks.imports_go_down(modules, {"a.one": 1, "a.two": 1, "a.three": 0}) == []


def test_a_cycle_of_imports_is_reported_with_its_way() -> None:
    """Sideways imports are free only as long as they lead nowhere back."""
    modules = [module("a.x", "import a.y"), module("a.y", "import a.z"), module("a.z", "import a.x"), module("a.w")]
    assert checks.no_cycles(modules) == ["cycle: a.x -> a.y -> a.z -> a.x"]


def test_an_import_for_the_type_checker_is_an_arrow_but_closes_no_cycle() -> None:
    """A part may name the type of the whole; it may still not look up to a higher floor."""
    part = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.whole import Whole"
    modules = [module("a.whole", "import a.part"), module("a.part", part)]
    assert checks.no_cycles(modules) == []
    assert checks.imports_go_down(modules, {"a.whole": 2, "a.part": 1})


def test_a_diamond_of_imports_is_no_cycle() -> None:
    modules = [module("a.x", "import a.y\nimport a.z"), module("a.y", "import a.w"), module("a.z", "import a.w")]
    assert checks.no_cycles([*modules, module("a.w")]) == []


def test_an_arrow_that_is_not_drawn_is_reported() -> None:
    """The longest area that fits decides: `b.inner` has rights that `b` has not."""
    arrows = {"a": (), "b": (), "b.inner": ("a",)}
    modules = [module("a.x"), module("b.y", "import a.x"), module("b.inner.z", "import a.x")]
    assert checks.arrows_allowed(modules, arrows) == ["b/y.py:1: b may not import a.x"]


def test_a_module_outside_every_area_is_reported() -> None:
    found = checks.arrows_allowed([module("c.x", "import a.x"), module("a.x")], {"a": ()})
    assert found == ["c/x.py:1: c.x lies in no area of tests/architecture/floors.py"]


def test_an_arrow_between_strangers_is_reported_and_its_exception_is_not() -> None:
    """Raft, storage and peers share a package but know nothing of each other."""
    modules = [
        module("a.raft.core"),
        module("a.raft.messages"),
        module("a.peers", "import a.raft.core, a.raft.messages"),
    ]
    found = checks.strangers_apart(modules, {"a.peers": (("a.raft",), ("a.raft.messages",))})
    assert found == ["a/peers.py:1: a.peers knows nothing of a.raft.core"]


def test_reaching_past_a_facade_is_reported() -> None:
    """Values and façades may be imported from elsewhere; the inside of another package may not, but at the assembly."""
    modules = [
        module("b.face"),
        module("b.values"),
        module("b.inside"),
        module("a.x", "import b.face, b.values, b.inside"),
        module("a.top", "import b.inside"),
    ]
    floors = {"b.face": 2, "b.values": 0, "b.inside": 1, "a.x": 3, "a.top": 4}
    assert checks.facades_only(modules, floors, {"b": ("b.face",)}) == ["a/x.py:1: reaches into b for b.inside"]


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "import os.path",
        "from time import monotonic",
        "from random import Random",
        "import threading",
        "import socket",
        "import anyio.abc",
        "import uuid",
        "async def f(): ...",
        "class C:\n    async def f(self): ...",
        "x = hash('a')",
        "x = id(object())",
        "x = open('f')",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.utcnow()",
        "import datetime\nx = datetime.date.today()",
    ],
)
def test_time_chance_and_io_in_a_rule_are_reported(text: str) -> None:
    """A rule that asks the world cannot be replayed."""
    assert checks.pure_below([module("a.rule", text)], {"a.rule": 1}, 1)


def test_an_edge_may_touch_the_world_and_a_rule_may_use_its_arguments() -> None:
    edge = module("a.edge", "import os, time\nasync def f(): ...")
    rule = module("a.rule", "def f(now, id):\n    return now.now(), id.hash(), timeout(now)")
    assert checks.pure_below([edge, rule], {"a.edge": 2, "a.rule": 1}, 1) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from marshal import loads",
        "import yaml",
        "import shelve",
        "eval('1')",
        "exec('1')",
        "compile('1', '', 'exec')",
        "__import__('os')",
    ],
)
def test_code_from_data_is_reported_anywhere(text: str) -> None:
    """A peer or a file that can run code here owns the node."""
    assert checks.nothing_unsafe([module("a.edge", text)])


def test_a_compiled_pattern_is_not_code_from_data() -> None:
    assert checks.nothing_unsafe([module("a.x", "import re\nre.compile('a')\nmodel.eval()")]) == []


def test_print_is_reported_outside_the_command_line() -> None:
    """A library that prints spoils its host's output."""
    modules = [module("a.x", "print(1)"), module("a.cli.y", "print(1)")]
    assert checks.no_print(modules, ("a.cli",)) == ["a/x.py:1: calls print()"]


def test_a_module_of_501_lines_is_reported() -> None:
    assert checks.modules_small([module("a.x", "x = 1\n" * 500)]) == []
    assert checks.modules_small([module("a.x", "x = 1\n" * 501)]) == ["a/x.py: 501 lines, at most 500"]


def test_a_function_of_61_lines_is_reported_and_its_docstring_is_free() -> None:
    """Nobody shall save on a docstring to stay under the bound."""
    head = 'def f():\n    """One.\n\n    Two.\n    """\n'
    assert checks.functions_small([parse("a.x", head + "    x = 1\n" * 59)]) == []
    assert checks.functions_small([parse("a.x", head + "    x = 1\n" * 60)]) == ["a/x.py:1: f has 61 lines, at most 60"]
    method = "class C:\n    async def g(self):\n" + "        x = 1\n" * 60
    assert checks.functions_small([parse("a.x", method)]) == ["a/x.py:2: g has 61 lines, at most 60"]


def test_a_module_without_a_docstring_is_reported() -> None:
    assert checks.modules_introduced([module("a.x", "x = 1")]) == ["a/x.py:1: has no docstring"]


def test_a_file_that_nobody_imports_is_reported() -> None:
    """Unless it is an entry point, or loaded by a name in a string."""
    modules = [
        module("a", is_package=True),
        module("a.x", "import a.y\nLAZY = 'a.z:main'"),
        module("a.y"),
        module("a.z"),
    ]
    assert checks.no_dead_files(modules, ["a.x"]) == []
    assert checks.no_dead_files(modules, []) == ["a/x.py: nobody imports it"]
    assert checks.no_dead_files(modules, ["a.x", "a.gone"]) == ["a.gone: is called an entry point but does not exist"]


def test_a_module_that_names_only_itself_is_dead() -> None:
    assert checks.no_dead_files([module("a.x", "import a.x\nME = 'a.x'")], []) == ["a/x.py: nobody imports it"]


def test_a_unit_test_without_its_module_is_reported() -> None:
    """Whoever reads a module finds its tests without asking."""
    names = {"a", "a.b.c", "a.b"}
    fine = ["a/b/test_c.py", "a/b/test_c_at_the_edges.py", "a/test_b.py"]
    assert checks.tests_mirror([*fine, "a/test_c.py"], names) == ["tests/unit/a/test_c.py: there is no a.c"]
