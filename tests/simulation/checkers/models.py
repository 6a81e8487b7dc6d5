"""What one key, and one directory, would do if calls came one at a time: the models of the linearizability search.

A register is a single key. A directory is a key with its children: creations and deletions there also touch the
parent, so they cannot be judged key by key. Pure; called by the workload when a run is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.simulation.checkers.linearizability import Operation, State, check_linearizable
from tests.simulation.trace import Violation

ABSENT = None
"""The state of a key that does not exist. Of a register: (value, version). Of a directory: (children, number of the
next sequential child, for which every creation counts), where children are (name, value, version), sorted."""
OPERATIONS_MAX = 2_000
"""Of one register or directory; more would not be decided in useful time."""

Children = tuple[tuple[str, bytes, int], ...]


def check_registers(operations: Iterable[Operation]) -> None:
    """Check every key of a history of register operations by itself, which is enough (locality)."""
    _check_parts(operations, register_step)


def check_full(registers: Iterable[Operation], directories: Iterable[Operation]) -> None:
    """The whole search over a run's history: each register and each directory by itself."""
    check_registers(registers)
    _check_parts(directories, directory_step)


def _check_parts(operations: Iterable[Operation], step: Any) -> None:
    parts: dict[str, list[Operation]] = {}
    for operation in operations:
        parts.setdefault(operation.key, []).append(operation)
    for key in sorted(parts):
        if len(parts[key]) > OPERATIONS_MAX:
            raise Violation("LINEARIZABILITY", f"undecided: {len(parts[key])} operations on {key}")
        check_linearizable(parts[key], ABSENT, step)


# A register.


def register_step(state: State, operation: Operation) -> tuple[bool, State]:
    """The model of one key: create, set with or without a version, delete, get."""
    after, expected = _apply(state, operation.kind, operation.argument)
    return not operation.answered or operation.result == expected, after


def _apply(state: Any, kind: str, argument: Any) -> tuple[Any, Any]:
    """The state after an operation and its answer."""
    if kind == "get":
        return state, state
    if kind == "create":
        return ((argument, 0), "created") if state is ABSENT else (state, "NodeExists")
    if state is ABSENT:
        return state, "NoNode"
    _, version = state
    if kind == "set":
        wanted, data = argument
        if wanted not in (-1, version):
            return state, "BadVersion"
        return (data, version + 1), version + 1
    assert kind == "delete", kind
    if argument not in (-1, version):
        return state, "BadVersion"
    return ABSENT, "deleted"


# A directory.


def directory_step(state: State, operation: Operation) -> tuple[bool, State]:
    """The model of a key and its children.

    kind        argument               answer
    make        -                      created, NodeExists
    remove      -                      deleted, NoNode, NotEmpty
    children    -                      the names, sorted; None without the parent
    get         name                   (value, version), or None
    create      (name, value)          created, NoNode (of the parent), NodeExists
    sequential  (prefix, value)        the name, NoNode
    set         (name, version, value) the new version, NoNode, BadVersion
    delete      (name, version)        deleted, NoNode, BadVersion
    multi       ((kind, argument)...)  the answers, or ("failed", place, why)
    """
    after, expected = _apply_in(state, operation.kind, operation.argument)
    return not operation.answered or operation.result == expected, after


def _apply_in(state: Any, kind: str, argument: Any) -> tuple[Any, Any]:
    if kind == "multi":
        return _apply_all(state, argument)
    if kind == "make":
        return (state, "NodeExists") if state is not ABSENT else (((), 0), "created")
    if kind == "get":
        return state, None if state is ABSENT else _entry(state[0], argument)
    if kind == "children":
        return state, None if state is ABSENT else tuple(name for name, _, _ in state[0])
    if state is ABSENT:
        return state, "NoNode"
    children, number = state
    if kind == "remove":
        return (state, "NotEmpty") if children else (ABSENT, "deleted")
    if kind == "sequential":
        prefix, value = argument
        while _entry(children, f"{prefix}{number:010}") is not None:
            number += 1
        name = f"{prefix}{number:010}"
        return (_with(children, name, (value, 0)), number + 1), name
    return _apply_to_child(state, kind, argument)


def _apply_to_child(state: Any, kind: str, argument: Any) -> tuple[Any, Any]:
    """create, set and delete below a parent that exists."""
    children, number = state
    name = argument[0]
    found = _entry(children, name)
    if kind == "create":
        if found is not None:
            return state, "NodeExists"
        return (_with(children, name, (argument[1], 0)), number + 1), "created"
    if found is None:
        return state, "NoNode"
    if argument[1] not in (-1, found[1]):
        return state, "BadVersion"
    if kind == "set":
        version = found[1] + 1
        return (_with(children, name, (argument[2], version)), number), version
    assert kind == "delete", kind
    return (_with(children, name, None), number), "deleted"


def _apply_all(state: Any, steps: Any) -> tuple[Any, Any]:
    """All of a transaction, or nothing of it."""
    before, answers = state, []
    for place, (kind, argument) in enumerate(steps):
        state, answer = _apply_in(state, kind, argument)
        if answer in ("NoNode", "NodeExists", "BadVersion", "NotEmpty"):
            return before, ("failed", place, answer)
        answers.append(answer)
    return state, tuple(answers)


def _entry(children: Children, name: str) -> tuple[bytes, int] | None:
    for other, value, version in children:
        if other == name:
            return value, version
    return None


def _with(children: Children, name: str, entry: tuple[bytes, int] | None) -> Children:
    """The children with one of them set, or gone."""
    others = [child for child in children if child[0] != name]
    if entry is not None:
        others.append((name, *entry))
    return tuple(sorted(others))
