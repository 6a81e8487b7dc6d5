"""Whole copies between two trees in memory, which refuse and break when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from jkcs_server.cli import zk_copy
from jkcs_server.cli.zk_copy import Broken, Copy, NotCopied, Report, StepRefused
from jkcs_server.copying import OPEN_ACL, Action, Difference, Kind, Seen, Step, Wishes, raising

SECRET = ((31, "digest", "u:hash"),)


class Tree:
    """A side whose keys are a dictionary."""

    mixed = False

    def __init__(self, name: str = "tree", **keys: Seen) -> None:
        self.name = name
        self.keys = {"/": Seen(b"", (), OPEN_ACL)}
        self.order = 0
        self.batches: list[list[Step]] = []
        self.before_apply: Callable[[Sequence[Step]], None] = lambda batch: None
        self.after_look: Callable[[], None] = lambda: None

    def put(self, path: str, data: bytes = b"", **facts: object) -> Tree:
        """Set a key and whatever of its facts; its parents must be there."""
        self.order += 1
        parent, _, name = path.rpartition("/")
        parent = parent or "/"
        before = self.keys.get(path)
        if before is None and path != "/":
            above = self.keys[parent]
            names = (*above.children, name)
            self.keys[parent] = replace(above, children=names, creations=above.creations + 1, changed_at=self.order)
        seen = before or Seen(b"", (), OPEN_ACL)
        self.keys[path] = replace(seen, data=data, changed_at=self.order, **facts)  # type: ignore[arg-type]
        return self

    def remove(self, path: str) -> None:
        self.order += 1
        if self.keys[path].children:
            raise StepRefused("not empty")
        del self.keys[path]
        parent, _, name = path.rpartition("/")
        above = self.keys[parent or "/"]
        left = tuple(each for each in above.children if each != name)
        self.keys[parent or "/"] = replace(above, children=left, changed_at=self.order)

    def shown(self) -> dict[str, tuple[bytes, object, int]]:
        return {path: (seen.data, seen.acl, seen.ttl_ms) for path, seen in sorted(self.keys.items())}

    # zk_copy.Side

    async def position(self) -> int:
        return self.order

    async def look(self, paths: Sequence[str]) -> list[Seen | None]:
        found = [self.keys.get(path) for path in paths]
        self.after_look()
        return found

    async def apply(self, batch: Sequence[Step]) -> None:
        await asyncio.sleep(0)
        self.before_apply(batch)
        self.batches.append(list(batch))
        for step in batch:
            if step.action is Action.DELETE:
                self.remove(step.path)
            elif step.action is Action.CREATE and step.path in self.keys:
                raise StepRefused("exists", done_already=True)
            elif step.action is Action.CREATE:
                self.put(step.path, step.data, acl=step.acl, ttl_ms=step.ttl_ms)
            elif step.action is Action.SET:
                self.put(step.path, step.data)
            else:
                self.put(step.path, self.keys[step.path].data, acl=step.acl)

    async def raise_sequence(self, path: str, wanted: Seen, found: Seen) -> None:
        for batch in raising(path, wanted, found):
            await self.apply(batch)


def filled() -> Tree:
    source = Tree("source").put("/zookeeper").put("/zookeeper/quota").put("/app", b"root")
    source.put("/app/secret", b"s", acl=SECRET).put("/app/queue", ttl_ms=-1).put("/app/live", b"x", owner=9)
    for number in range(3 * zk_copy.WINDOW_KEYS):
        source.put(f"/app/queue/q-{number:05}", bytes([number % 256]))
    source.put("/app/locks")
    for number in range(700):
        source.put(f"/app/locks/l-{number}").remove(f"/app/locks/l-{number}")
    return source


def copy(source: Tree, target: Tree, wishes: Wishes = Wishes(), root: str = "/", into: str = "/") -> Copy:  # noqa: B008 - frozen
    return Copy(source, target, root, into, wishes, lambda visited, known, size: None)


def wanted_of(source: Tree) -> dict[str, tuple[bytes, object, int]]:
    return {
        path: facts
        for path, facts in source.shown().items()
        if not path.startswith("/zookeeper") and not source.keys[path].owner
    }


@pytest.mark.asyncio
async def test_everything_that_can_be_copied_is() -> None:
    """Values, ACLs, lifetimes and sequences; neither ephemerals nor /zookeeper."""
    source, target = filled(), Tree("target")
    work = copy(source, target, Wishes(sequences=True))
    report = await work.run()
    left = await work.verify(report, await source.position())
    assert target.shown() == wanted_of(source)
    assert (left.count, report.failed, report.ephemerals) == (0, 0, 1)
    assert report.counts == {Kind.MISSING: len(wanted_of(source)) - 1, Kind.SEQUENCE: 3}  # root, /app and /app/locks
    assert target.keys["/app/locks"].creations == source.keys["/app/locks"].creations == 700


@pytest.mark.asyncio
async def test_a_second_run_changes_nothing() -> None:
    source, target = filled(), Tree("target")
    for _ in range(2):
        target.batches.clear()
        work = copy(source, target, Wishes(delete=True, sequences=True))
        report = await work.run()
        await work.verify(report, 0)
    assert not target.batches and not report.counts


@pytest.mark.asyncio
async def test_a_run_that_was_cut_off_is_finished_by_the_next() -> None:
    """At any batch: the copy has no state but the target itself."""
    source = filled()
    for cut in range(5):
        target = Tree("target")

        def break_off(batch: Sequence[Step], at: int = cut, target: Tree = target) -> None:
            if len(target.batches) == at:
                raise RuntimeError("cut off")

        target.before_apply = break_off
        with pytest.raises(ExceptionGroup):
            await copy(source, target).run()
        target.before_apply = lambda batch: None
        await copy(source, target).run()
        assert target.shown() == wanted_of(source)


@pytest.mark.asyncio
async def test_what_the_target_alone_has_stays_unless_it_is_to_go() -> None:
    source = Tree("source").put("/app")
    target = (
        Tree("target")
        .put("/zookeeper")
        .put("/old")
        .put("/old/a")
        .put("/old/a/b")
        .put("/lived")
        .put("/lived/e", owner=4)
    )
    await copy(source, target).run()
    assert "/old/a/b" in target.keys
    report = await copy(source, target, Wishes(delete=True)).run()
    assert sorted(target.keys) == ["/", "/app", "/lived", "/lived/e", "/zookeeper"]
    assert report.counts == {Kind.EXTRA: 3, Kind.LIVE: 1}


@pytest.mark.asyncio
async def test_a_look_changes_nothing_and_tells_all() -> None:
    source = Tree("source").put("/same").put("/new").put("/value", b"1").put("/acl", acl=SECRET).put("/new/below")
    target = Tree("target").put("/same").put("/value", b"2").put("/acl").put("/extra")
    told: list[Difference] = []
    report = await copy(source, target, Wishes(delete=True)).difference(told.append)
    assert [(each.kind, each.path) for each in told] == [
        (Kind.EXTRA, "/extra"),
        (Kind.ACL, "/acl"),
        (Kind.MISSING, "/new"),
        (Kind.DATA, "/value"),
        (Kind.MISSING, "/new/below"),
    ]
    assert not target.batches and report.counts[Kind.MISSING] == 2


@pytest.mark.asyncio
async def test_a_copy_elsewhere_creates_what_is_above_it() -> None:
    source, target = Tree("source").put("/a", b"top").put("/a/b", b"x"), Tree("target")
    await copy(source, target, root="/a", into="/kept/of/a").run()
    assert {path: seen.data for path, seen in target.keys.items()} == {
        "/": b"",
        "/kept": b"",
        "/kept/of": b"",
        "/kept/of/a": b"top",
        "/kept/of/a/b": b"x",
    }


@pytest.mark.asyncio
async def test_nothing_to_copy_is_an_error_not_an_empty_copy() -> None:
    """With `delete`, an empty copy would be the end of the target."""
    with pytest.raises(NotCopied, match="source has no key /nowhere"):
        await copy(Tree("source"), Tree("target"), Wishes(delete=True), root="/nowhere", into="/nowhere").run()


@pytest.mark.asyncio
async def test_one_refusal_costs_one_key() -> None:
    """The others of its batch are taken one by one."""
    source, target = Tree("source"), Tree("target")
    for name in "abcd":
        source.put(f"/{name}")

    def refuse(batch: Sequence[Step]) -> None:
        if any(step.path == "/c" for step in batch):
            raise StepRefused("not permitted")

    target.before_apply = refuse
    work = copy(source, target)
    report = await work.run()
    left = await work.verify(report, await source.position())
    assert sorted(target.keys) == ["/", "/a", "/b", "/d"] and report.failures == [("/c", "not permitted")]
    assert (report.counts[Kind.MISSING], left.count, left.meanwhile) == (3, 1, 0)


@pytest.mark.asyncio
async def test_somebody_else_doing_the_same_is_no_failure() -> None:
    source, target = Tree("source").put("/a").put("/b"), Tree("target")

    def overtake(batch: Sequence[Step]) -> None:
        if "/a" not in target.keys:
            target.put("/a")

    target.before_apply = overtake
    work = copy(source, target)
    report = await work.run()
    assert report.failed == 0 and report.counts[Kind.MISSING] == 1 and sorted(target.keys) == ["/", "/a", "/b"]


@pytest.mark.asyncio
async def test_a_broken_connection_is_tried_again_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zk_copy, "TRY_PAUSE_SECONDS", 0.0)
    source, target = Tree("source").put("/a"), Tree("target")
    breaks = 3

    def snap(batch: Sequence[Step]) -> None:
        nonlocal breaks
        breaks -= 1
        if breaks >= 0:
            raise Broken("gone")

    target.before_apply = snap
    assert (await copy(source, target).run()).failed == 0 and "/a" in target.keys
    breaks = 1000
    report = await copy(source.put("/b"), target).run()
    assert report.failures == [("/b", "gone")] and breaks == 1000 - zk_copy.TRIES


@pytest.mark.asyncio
async def test_what_the_source_changed_meanwhile_is_told_apart() -> None:
    source, target = Tree("source").put("/a", b"1").put("/b", b"1"), Tree("target")
    since = await source.position()
    work = copy(source, target)
    report = await work.run()
    source.put("/a", b"2").put("/c")
    target.put("/b", b"somebody else's")
    left = await work.verify(report, since)
    assert (left.count, left.meanwhile) == (3, 2)


@pytest.mark.asyncio
async def test_a_sequence_that_is_not_raised_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no difference that the target would show, but the next sequential key would have a number twice."""
    source, target = Tree("source").put("/a", creations=10_000_000).put("/b", creations=7), Tree("target")

    async def refuse(path: str, wanted: Seen, found: Seen) -> None:
        if path == "/a":
            raise StepRefused("too far")

    monkeypatch.setattr(target, "raise_sequence", refuse)
    work = copy(source, target, Wishes(sequences=True))
    report = await work.run()
    await work.verify(report, 0)
    assert report.failures == [("/a", "its sequence was not raised: too far")]
    assert report.counts[Kind.SEQUENCE] == 1


@pytest.mark.asyncio
async def test_a_target_that_takes_all_together_gets_all_together() -> None:
    """Thousands of keys with a life of their own, and of new ACLs, are some journeys and not one each."""
    source, target = Tree("source").put("/app"), Tree("target").put("/app")
    for number in range(300):
        source.put(f"/app/new-{number}", ttl_ms=-1).put(f"/app/old-{number}", acl=SECRET)
        target.put(f"/app/old-{number}")
    target.mixed = True
    await copy(source, target).run()
    assert target.shown() == source.shown()
    assert len(target.batches) < 2 * 600 / zk_copy.WINDOW_KEYS * 2


def test_a_report_is_counted_and_bounded() -> None:
    report = Report()
    for number in range(zk_copy.TOLD_MAX + 5):
        report.fail(f"/{number}", "why")
    document = report.as_document()
    assert document["failed"] == zk_copy.TOLD_MAX + 5 and len(document["failures"]) == zk_copy.TOLD_MAX
    assert document["created"] == document["deleted"] == 0
