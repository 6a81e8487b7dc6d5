"""What JKCS does differently from ZooKeeper on purpose, with the reason.

Each is a row of docs/reference/zookeeper-compatibility.md too. Called by `pair.py`, which asks before it reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Deliberate:
    """A difference that stays, and how to know it."""

    reason: str
    recognises: Callable[[object, str, object, object], bool]
    """Of the step, the place of the difference, and both sides' values."""


DELIBERATE: tuple[Deliberate, ...] = ()


def is_deliberate(step: object, where: str, real: object, ours: object) -> bool:
    return any(each.recognises(step, where, real, ours) for each in DELIBERATE)
