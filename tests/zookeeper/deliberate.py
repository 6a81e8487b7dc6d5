"""What JKCS does differently from ZooKeeper on purpose, with the reason.

Each is a row of docs/reference/zookeeper-compatibility.md too. Called by `pair.py`, which asks before it reports.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.zookeeper.operations import CREATES, Operation

OK, BAD_ARGUMENTS, NO_NODE, NO_AUTH, INVALID_ACL, NO_WATCHER, QUOTA_EXCEEDED = 0, -8, -101, -102, -114, -121, -125
ILLEGAL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]|//|/\.\.?(/|$)|/$|^[^~/]|^$")


@dataclass(frozen=True)
class Deliberate:
    """A difference that stays, and how to know it."""

    reason: str
    recognises: Callable[[tuple[Operation, ...], object, object], bool]
    """Of the step's operations, and what each side has where they differ."""
    parts: bool = False
    """From here on the two trees differ: there is nothing more to compare in this run."""


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
    Deliberate(
        "Of several faults of one create, an illegal path is told before a parent that is missing or closed, for JKCS"
        " looks at the path before it looks at the tree.",
        lambda operations, real, ours: (
            real in (NO_NODE, NO_AUTH) and ours == BAD_ARGUMENTS and _illegally(operations, CREATES)
        ),
    ),
    Deliberate(
        "Of several faults of one create, an invalid ACL is told before an illegal path.",
        lambda operations, real, ours: (real, ours) == (BAD_ARGUMENTS, INVALID_ACL) and _illegally(operations, CREATES),
    ),
    Deliberate(
        "A deletion of an illegal path finds no such key; ZooKeeper asks first whether its parent permits it.",
        lambda operations, real, ours: (real, ours) == (NO_AUTH, NO_NODE) and _illegally(operations, ("delete",)),
    ),
    Deliberate(
        "ZooKeeper writes a character beyond the first 65,536 as two halves, which is not UTF-8; no key is called so.",
        lambda operations, real, ours: isinstance(real, str) and "\\xed\\xa0" in real,
    ),
    Deliberate(
        "Within a multi, a quota counts what the operations before have done; ZooKeeper looks at each alone.",
        lambda operations, real, ours: _exceeds(ours) and not _exceeds(real),
        parts=True,
    ),
)
"""What is never drawn is told in `draw.py` and `pair.py`, where it is left out."""


def _exceeds(reply: object) -> bool:
    """Whether a multi failed because of a quota."""
    results = getattr(reply, "values", ())
    return any(isinstance(each, tuple) and each[:2] == ("error", QUOTA_EXCEEDED) for each in results)


def _illegally(operations: tuple[Operation, ...], kinds: tuple[str, ...]) -> bool:
    """One of them, or of their parts, is of these kinds and about a key that may not be called so."""
    each = (part for operation in operations for part in (operation, *operation.parts))
    return any(part.kind in kinds and ILLEGAL.search(part.path) for part in each)


def deliberate(operations: tuple[Operation, ...], real: object, ours: object) -> Deliberate | None:
    """Why these two may differ; None when they may not."""
    return next((each for each in DELIBERATE if each.recognises(operations, real, ours)), None)
