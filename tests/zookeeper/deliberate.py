"""What JKCS does differently from ZooKeeper on purpose, with the reason.

Each is a row of docs/reference/zookeeper-compatibility.md too. Called by `pair.py`, which asks before it reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.zookeeper.operations import Operation

OK, NO_WATCHER = 0, -121


@dataclass(frozen=True)
class Deliberate:
    """A difference that stays, and how to know it."""

    reason: str
    recognises: Callable[[tuple[Operation, ...], object, object], bool]
    """Of the step's operations, and what each side has where they differ."""


DELIBERATE = (
    Deliberate(
        "ZooKeeper tells data that is absent from data that is empty; JKCS has no absent data and answers with none.",
        lambda operations, real, ours: real is None and ours == b"",
    ),
    Deliberate(
        "ZooKeeper's checkWatches finds the watch of any session on the path; JKCS looks at the asking session's.",
        lambda operations, real, ours: (
            (real, ours) == (OK, NO_WATCHER) and any(each.kind == "checkWatches" for each in operations)
        ),
    ),
)
"""What is never drawn is told in `draw.py` and `pair.py`, where it is left out."""


def is_deliberate(operations: tuple[Operation, ...], real: object, ours: object) -> bool:
    return any(each.recognises(operations, real, ours) for each in DELIBERATE)
