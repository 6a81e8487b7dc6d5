"""The rules of docs/ARCHITECTURE.md as functions from modules to complaints.

Each returns one line per violation, naming file and line; nothing means that the rule holds. What the rules
are applied to stands in `floors.py`; that each of them can fail is shown in `test_checks.py`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.architecture.source import Module, resolve

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

IMPURE_MODULES = frozenset(
    {"anyio", "asyncio", "concurrent", "multiprocessing", "os", "random", "secrets", "select", "selectors", "signal"}
    | {"socket", "ssl", "subprocess", "tempfile", "threading", "time", "trio", "uuid", "uvloop"}
)
"""What the floors of values and rules must not import: time, chance and I/O come in as arguments."""

IMPURE_CALLS = frozenset({"hash", "id", "open", "input"})
"""Built-ins that differ from process to process, or touch the world."""

UNSAFE_MODULES = frozenset({"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "yaml", "imp"})
UNSAFE_CALLS = frozenset({"eval", "exec", "compile", "__import__"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def floors_complete(modules: Iterable[Module], floors: Mapping[str, int]) -> list[str]:
    """Every module has a floor, and every floor a module."""
    names = {module.name for module in modules}
    missing = [f"{name}: has no floor in tests/architecture/floors.py" for name in sorted(names - set(floors))]
    stale = [f"{name}: has a floor but does not exist" for name in sorted(set(floors) - names)]
    return missing + stale


def imports_go_down(modules: Sequence[Module], floors: Mapping[str, int]) -> list[str]:
    """No module imports one of a higher floor of its own package; for other packages see `facades_only`."""
    complaints = []
    for module, target, line in _own_imports(modules):
        if module.name.partition(".")[0] != target.partition(".")[0]:
            continue
        here, there = floors.get(module.name), floors.get(target)
        if here is not None and there is not None and there > here:
            complaints.append(f"{module.path}:{line}: floor {here} imports {target} of floor {there}")
    return complaints


def no_cycles(modules: Sequence[Module]) -> list[str]:
    """No chain of imports leads back to where it began. Names each cycle once.

    An import for the type checker alone is no link of a chain: a part may name the type of the whole it belongs to.
    """
    arrows: dict[str, list[str]] = {module.name: [] for module in modules}
    for module, target, _ in _own_imports(modules, at_run_time=True):
        if target not in arrows[module.name]:
            arrows[module.name].append(target)
    done: set[str] = set()
    path: list[str] = []
    complaints = []

    def walk(name: str) -> None:
        path.append(name)
        for target in sorted(arrows[name]):
            if target in path:
                complaints.append("cycle: " + " -> ".join([*path[path.index(target) :], target]))
            elif target not in done:
                walk(target)
        path.pop()
        done.add(name)

    for name in sorted(arrows):
        if name not in done:
            walk(name)
    return complaints


def arrows_allowed(modules: Sequence[Module], arrows: Mapping[str, Sequence[str]]) -> list[str]:
    """A module imports only from the areas that its own area may see.

    `arrows` maps an area (a dotted prefix; the longest that fits a module is its area) to the prefixes it may import.
    """
    complaints = []
    for module, target, line in _own_imports(modules):
        area = _area(module.name, arrows)
        if area is None:
            complaints.append(f"{module.path}:{line}: {module.name} lies in no area of tests/architecture/floors.py")
            continue
        if not any(_within(target, allowed) for allowed in (area, *arrows[area])):
            complaints.append(f"{module.path}:{line}: {area} may not import {target}")
    return complaints


def strangers_apart(
    modules: Sequence[Module], strangers: Mapping[str, tuple[Sequence[str], Sequence[str]]]
) -> list[str]:
    """Areas of one package that know nothing of each other: area -> (forbidden prefixes, exceptions)."""
    complaints = []
    for module, target, line in _own_imports(modules):
        for area, (forbidden, exceptions) in strangers.items():
            if not _within(module.name, area) or any(_within(target, allowed) for allowed in exceptions):
                continue
            if any(_within(target, prefix) for prefix in forbidden):
                complaints.append(f"{module.path}:{line}: {area} knows nothing of {target}")
    return complaints


def facades_only(
    modules: Sequence[Module], floors: Mapping[str, int], facades: Mapping[str, Sequence[str]]
) -> list[str]:
    """Below floor 4 another package is reached through its values (floor 0) or its façade."""
    complaints = []
    for module, target, line in _own_imports(modules):
        here, there = module.name.partition(".")[0], target.partition(".")[0]
        if here == there or floors.get(module.name, 4) == 4 or floors.get(target) == 0:
            continue
        if target not in facades.get(there, ()):
            complaints.append(f"{module.path}:{line}: reaches into {there} for {target}")
    return complaints


def pure_below(modules: Iterable[Module], floors: Mapping[str, int], floor: int) -> list[str]:
    """Values and rules: no clock, no chance, no I/O, no coroutine, nothing that differs between processes."""
    complaints = []
    for module in modules:
        if floors.get(module.name, floor + 1) > floor:
            continue
        for imported in module.imports:
            if imported.target.partition(".")[0] in IMPURE_MODULES:
                complaints.append(f"{module.path}:{imported.line}: a rule may not import {imported.target}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                complaints.append(f"{module.path}:{node.lineno}: a rule may not be async")
            elif isinstance(node, ast.Call):
                name = _call_name(node)
                if name in IMPURE_CALLS or (name.endswith((".now", ".utcnow", ".today")) and "date" in name):
                    complaints.append(f"{module.path}:{node.lineno}: a rule may not call {name}()")
    return complaints


def nothing_unsafe(modules: Iterable[Module]) -> list[str]:
    """No pickle and its like, no eval and its like, anywhere."""
    complaints = []
    for module in modules:
        for imported in module.imports:
            if imported.target.partition(".")[0] in UNSAFE_MODULES:
                complaints.append(f"{module.path}:{imported.line}: imports {imported.target}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and _call_name(node) in UNSAFE_CALLS:
                complaints.append(f"{module.path}:{node.lineno}: calls {_call_name(node)}()")
    return complaints


def no_print(modules: Iterable[Module], allowed: Sequence[str]) -> list[str]:
    """Only the command line writes to standard output."""
    return [
        f"{module.path}:{node.lineno}: calls print()"
        for module in modules
        if not any(_within(module.name, prefix) for prefix in allowed)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _call_name(node) == "print"
    ]


def modules_small(modules: Iterable[Module]) -> list[str]:
    complaints = []
    for module in modules:
        lines = len(module.text.splitlines())
        if lines > MODULE_LINES_MAX:
            complaints.append(f"{module.path}: {lines} lines, at most {MODULE_LINES_MAX}")
    return complaints


def functions_small(modules: Iterable[Module]) -> list[str]:
    """The docstring does not count: nobody shall save on it."""
    complaints = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                lines = _lines_without_docstring(node)
                if lines > FUNCTION_LINES_MAX:
                    complaints.append(
                        f"{module.path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
                    )
    return complaints


def modules_introduced(modules: Iterable[Module]) -> list[str]:
    """Every module opens by saying what it is for."""
    return [f"{module.path}:1: has no docstring" for module in modules if not ast.get_docstring(module.tree)]


def no_dead_files(modules: Sequence[Module], entry_points: Iterable[str]) -> list[str]:
    """Every module is imported by another, or named by one in a string, as lazily loaded commands are."""
    names = {module.name for module in modules}
    alive = set(entry_points) | {target for _, target, _ in _own_imports(modules)}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = re.fullmatch(r"([a-z_0-9.]+)(:[a-z_0-9]+)?", node.value)
                if named and named[1] != module.name:
                    alive.add(named[1])
    dead = [module for module in modules if not module.is_package and module.name not in alive]
    stale = [f"{name}: is called an entry point but does not exist" for name in sorted(set(entry_points) - names)]
    return [f"{module.path}: nobody imports it" for module in dead] + stale


def tests_mirror(tests: Iterable[str], exists: Mapping[str, bool] | frozenset[str] | set[str]) -> list[str]:
    """`tests/unit/a/b/test_c.py` tests `a/b/c.py` (or the package `a/b/c`), or one side of it: `test_c_side.py`.

    `tests` are paths below tests/unit; `exists` holds module names.
    """
    complaints = []
    for test in tests:
        folder, _, file = test.rpartition("/")
        package = folder.replace("/", ".")
        words = file.removeprefix("test_").removesuffix(".py").split("_")
        candidates = [".".join(filter(None, (package, "_".join(words[:n])))) for n in range(len(words), 0, -1)]
        if not any(candidate in exists for candidate in candidates):
            complaints.append(f"tests/unit/{test}: there is no {candidates[0]}")
    return complaints


def _own_imports(modules: Sequence[Module], *, at_run_time: bool = False) -> Iterator[tuple[Module, str, int]]:
    """(module, imported module of ours, line), without a package's `__init__` standing for its submodules."""
    names = frozenset(module.name for module in modules)
    for module in modules:
        for imported in module.imports:
            target = resolve(imported.target, names)
            if target is not None and target != module.name and not (at_run_time and imported.type_only):
                yield module, target, imported.line


def _area(name: str, areas: Iterable[str]) -> str | None:
    return max((area for area in areas if _within(name, area)), key=len, default=None)


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _call_name(node: ast.Call) -> str:
    """`f` for `f()`, `a.b.f` for `a.b.f()`, nothing for a call of something computed."""
    parts: list[str] = []
    function: ast.expr = node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return ""
    return ".".join([function.id, *reversed(parts)])


def _lines_without_docstring(node: Function) -> int:
    assert node.end_lineno is not None, node.name
    first = node.body[0]
    docstring = 0
    if ast.get_docstring(node) is not None:
        assert first.end_lineno is not None, node.name
        docstring = first.end_lineno - first.lineno + 1
    return node.end_lineno - node.lineno + 1 - docstring
