"""The product's sources, read once and taken apart: what each module is called, contains and imports.

Knows no rule. The checks work on `Module` values, which may come from the tree on disk or, in the tests
of the checks themselves, from a few lines of text.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("journal", "jkcs_client", "jkcs_server", "recipes")


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is dotted and may name a module or something inside one."""

    target: str
    line: int
    type_only: bool = False
    """Under `if TYPE_CHECKING:`, so that nothing is imported when the program runs."""


@dataclass(frozen=True)
class Module:
    name: str
    """Dotted; a package's `__init__` bears the package's name."""
    path: str
    text: str
    tree: ast.Module
    is_package: bool

    @property
    def imports(self) -> tuple[Import, ...]:
        """All imports, wherever in the module they stand: a late import is a dependency all the same."""
        type_only = {
            id(node)
            for block in ast.walk(self.tree)
            if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
            for statement in block.body
            for node in ast.walk(statement)
        }
        found: list[Import] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                targets = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            found += [Import(target, node.lineno, id(node) in type_only) for target in targets]
        return tuple(found)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            assert node.module is not None, self.path
            return node.module
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        parts = package[: len(package) - node.level + 1]
        return ".".join([*parts, node.module] if node.module else parts)


def parse(name: str, text: str, *, is_package: bool = False) -> Module:
    """A module from its text."""
    suffix = "/__init__.py" if is_package else ".py"
    return Module(name, name.replace(".", "/") + suffix, text, ast.parse(text), is_package)


def resolve(target: str, names: frozenset[str] | set[str]) -> str | None:
    """The module in `names` that an imported name lies in, or None when it is not one of ours."""
    while target:
        if target in names:
            return target
        target = target.rpartition(".")[0]
    return None


@cache
def product() -> tuple[Module, ...]:
    """Every module of the distribution, sorted by name."""
    modules = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules.append(parse(name, path.read_text(encoding="utf-8"), is_package=is_package))
    return tuple(sorted(modules, key=lambda module: module.name))
