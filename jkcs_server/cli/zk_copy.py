"""How one tree becomes a copy of another: the walk over both, the steps taken, and the look that verifies it.

Joins the rules (`jkcs_server.copying`) to two sides, of which it does not know which is ZooKeeper. Called by `zk.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from jkcs_server.copying import (
    Acl,
    Action,
    Difference,
    Frontier,
    Kind,
    Seen,
    Step,
    Wishes,
    batches,
    changed_meanwhile,
    compare,
    deletions,
    extra_children,
    hides_hash,
    moved,
    steps_for,
)

T = TypeVar("T")

WINDOW_KEYS = 512
"""Keys that are looked at together."""
BATCHES_IN_FLIGHT = 8
TRIES = 5
"""A batch whose connection broke is sent so often."""
TRY_PAUSE_SECONDS = 1.0
TOLD_MAX = 1000
"""Of failures, and of differences in a JSON document, so many are listed."""

_KINDS = {
    Action.CREATE: Kind.MISSING,
    Action.SET: Kind.DATA,
    Action.SET_ACL: Kind.ACL,
    Action.DELETE: Kind.EXTRA,
}


class Side(Protocol):
    """A tree that is copied from or to. Raises NotCopied when it cannot be reached or refuses to be read."""

    name: str
    mixed: bool
    """Whether a batch may have all kinds of steps: new keys with a life of their own, and changes of ACLs, too."""

    async def position(self) -> int:
        """How far its order of changes is: what changes after this call has a higher number."""

    async def look(self, paths: Sequence[str]) -> list[Seen | None]:
        """The keys at these paths; None where there is none."""

    async def apply(self, batch: Sequence[Step]) -> None:
        """All steps or none. Raises StepRefused; Broken when they may or may not have been taken."""

    async def raise_sequence(self, path: str, wanted: Seen, found: Seen) -> None:
        """Let the key's next sequential child have the number that it has in `wanted`. Raises as `apply`."""


class NotCopied(Exception):
    """The copy cannot begin or go on; says why."""


class Unreachable(NotCopied):
    """Nobody answers."""


class StepRefused(Exception):
    """The side's answer to a batch."""

    def __init__(self, text: str, *, done_already: bool = False) -> None:
        super().__init__(text)
        self.done_already = done_already
        """What is to be created is there, or what is to be deleted is gone."""


class Broken(Exception):
    """The connection broke before the answer came."""


def whole(path: str, acl: Acl) -> Acl:
    """An ACL as a side shows it, which can be copied. Raises NotCopied."""
    if hides_hash(acl):
        raise NotCopied(
            f"the ACL of {path} hides its hash from these credentials: give some that have ADMIN on it,"
            " or copy without ACLs (--no-acls)"
        )
    return acl


@dataclass(slots=True)
class Report:
    """What a walk has come across."""

    visited: int = 0
    data_bytes: int = 0
    """Of the values visited."""
    ephemerals: int = 0
    """Keys of the source that end with a session, and so are not copied."""
    vanished: int = 0
    """Keys of the source that were gone before they were read."""
    counts: dict[Kind, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Paths, and why they are not as they should be; not more than are told."""
    failed: int = 0
    seconds: float = 0.0

    def note(self, difference: Difference) -> None:
        self.counts[difference.kind] = self.counts.get(difference.kind, 0) + 1

    def retract(self, kind: Kind) -> None:
        """A difference that was noted stays, or somebody else took it away."""
        self.counts[kind] = max(0, self.counts.get(kind, 0) - 1)

    def fail(self, path: str, why: str) -> None:
        self.failed += 1
        if len(self.failures) < TOLD_MAX:
            self.failures.append((path, why))

    def as_document(self) -> dict[str, Any]:
        return {
            "visited": self.visited,
            "data_bytes": self.data_bytes,
            "ephemerals_skipped": self.ephemerals,
            "vanished_meanwhile": self.vanished,
            **{kind.value: self.counts.get(kind, 0) for kind in Kind},
            "failed": self.failed,
            "failures": [{"path": path, "error": why} for path, why in self.failures],
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True)
class Left:
    """What differs after a copy."""

    differences: list[Difference] = field(default_factory=list)
    """Not more than are told."""
    count: int = 0
    meanwhile: int = 0
    """Those of them that came because the source went on changing."""


Visit = Callable[[list[Difference]], Awaitable[None]]
OnProgress = Callable[[int, int, int], None]
"""Told keys visited, keys known of, and bytes."""


class Copy:
    """The way from one side to the other."""

    def __init__(
        self, source: Side, target: Side, root: str, into: str, wishes: Wishes, on_progress: OnProgress
    ) -> None:
        self._source = source
        self._target = target
        self._root = root
        self._into = into
        self._wishes = wishes
        self._on_progress = on_progress

    async def difference(self, tell: Callable[[Difference], None]) -> Report:
        """Only look. `tell` is called with each difference."""
        report = Report()

        async def visit(differences: list[Difference]) -> None:
            for difference in differences:
                report.note(difference)
                tell(difference)

        await self._walk(self._wishes, report, visit)
        return report

    async def run(self) -> Report:
        """Make the target a copy, but for sequences."""
        report = Report()

        async def visit(differences: list[Difference]) -> None:
            for difference in differences:
                report.note(difference)
            await self._take(differences, report)

        await self._make_way(report)
        await self._walk(replace(self._wishes, sequences=False), report, visit)
        return report

    async def verify(self, report: Report, since: int) -> Left:
        """Look at everything again, raise sequences, and say what is left; `since`: the source's position before."""
        left = Left()
        looked = Report()

        async def visit(differences: list[Difference]) -> None:
            await self._raise([each for each in differences if each.kind is Kind.SEQUENCE], report)
            for difference in differences:
                if difference.kind not in (Kind.SEQUENCE, Kind.LIFETIME, Kind.IN_THE_WAY, Kind.LIVE):
                    # Those were told already, and nothing can be done.
                    left.count += 1
                    left.meanwhile += changed_meanwhile(difference, since)
                    if len(left.differences) < TOLD_MAX:
                        left.differences.append(difference)

        await self._walk(self._wishes, looked, visit)
        left.meanwhile += looked.vanished
        return left

    # The walk.

    async def _walk(self, wishes: Wishes, report: Report, visit: Visit) -> None:
        began = time.monotonic()
        frontier = Frontier(self._root)
        while frontier:
            paths = frontier.take(WINDOW_KEYS)
            copies = [moved(path, self._root, self._into) for path in paths]
            wanted, found = await self._look(paths, copies)
            if paths[0] == self._root and wanted[0] is None:
                raise NotCopied(f"{self._source.name} has no key {self._root}")
            differences: list[Difference] = []
            for path, copy, mine, other in zip(paths, copies, wanted, found, strict=True):
                report.visited += 1
                if mine is None:
                    report.vanished += 1
                elif mine.owner:
                    report.ephemerals += 1
                else:
                    report.data_bytes += len(mine.data)
                    differences += compare(copy, mine, other, wishes)
                    if other is not None and other.owner:
                        continue
                    if wishes.delete:
                        differences += await self._extras(extra_children(copy, mine, other))
                    frontier.add(path, mine.children)
            await visit(differences)
            self._on_progress(report.visited, frontier.found, report.data_bytes)
        report.seconds += time.monotonic() - began

    async def _look(self, paths: Sequence[str], copies: Sequence[str]) -> tuple[list[Seen | None], list[Seen | None]]:
        wanted, found = await asyncio.gather(self._source.look(paths), self._target.look(copies))
        return wanted, found

    async def _extras(self, tops: Sequence[str]) -> list[Difference]:
        """Everything at and below keys that the source lacks."""
        found: list[Difference] = []
        for top in tops:
            subtree: list[tuple[str, int]] = []
            frontier = Frontier(top)
            while frontier:
                paths = frontier.take(WINDOW_KEYS)
                for path, seen in zip(paths, await self._target.look(paths), strict=True):
                    if seen is not None:
                        subtree.append((path, seen.owner))
                        frontier.add(path, seen.children)
            found += deletions(subtree)
        return found

    # What is done.

    async def _make_way(self, report: Report) -> None:
        """Create what is missing above the copy's root: open and empty, as the source has nothing to say of it."""
        at = ""
        for name in self._into.split("/")[1:-1]:
            at += f"/{name}"
            if (await self._target.look([at]))[0] is None:
                await self._send([Step(Action.CREATE, at)], report)

    async def _take(self, differences: Iterable[Difference], report: Report) -> None:
        """Take the differences away.

        Values come before ACLs, which may forbid to change them; deletions go one after the other, because a key
        must be empty before it goes.
        """
        steps = [step for difference in differences for step in steps_for(difference)]
        firsts = [step for step in steps if step.action in (Action.CREATE, Action.SET)]
        mixed = self._target.mixed
        for part in (firsts, [step for step in steps if step.action is Action.SET_ACL]):
            await _some_at_a_time(partial(self._send, report=report), batches(part, mixed=mixed))
        for batch in batches((step for step in steps if step.action is Action.DELETE), mixed=mixed):
            await self._send(batch, report)

    async def _send(self, batch: list[Step], report: Report) -> None:
        """Take the steps together; when that is refused, one by one, so that each failure has its name."""
        try:
            await self._persist(self._target.apply, batch)
        except (StepRefused, Broken) as error:
            if len(batch) > 1:
                for step in batch:
                    await self._send([step], report)
            else:
                report.retract(_KINDS[batch[0].action])
                if not (isinstance(error, StepRefused) and error.done_already):
                    report.fail(batch[0].path, str(error))

    async def _persist(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do it again while the connection breaks: each step leaves the same behind, however often it is taken."""
        for tries_left in reversed(range(TRIES)):
            try:
                await work(*arguments)
                return
            except Broken:
                if not tries_left:
                    raise
                await asyncio.sleep(TRY_PAUSE_SECONDS)

    async def _raise(self, differences: Iterable[Difference], report: Report) -> None:
        await _some_at_a_time(partial(self._raise_one, report=report), differences)

    async def _raise_one(self, difference: Difference, report: Report) -> None:
        path, wanted, found = difference.path, difference.wanted, difference.found
        assert wanted is not None and found is not None, difference
        try:
            await self._target.raise_sequence(path, wanted, found)
            report.note(difference)
        except (StepRefused, Broken) as error:
            # Sent again without a look it might be raised too far; the next run looks.
            report.fail(path, f"its sequence was not raised: {error}")


async def _some_at_a_time(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Do it for each of them, for so many together as a server likes."""
    limiter = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def release_after(item: T) -> None:
        try:
            await work(item)
        finally:
            limiter.release()

    async with asyncio.TaskGroup() as tasks:
        for item in items:
            await limiter.acquire()
            tasks.create_task(release_after(item))
