"""The judge of one round: what the clients saw, and what every server holds when all is quiet.

Pure functions on records; each raises `Violation`. Linearizability, fencing and the rest reuse the checkers of the
simulator where those do not need its omniscience.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jkcs_client.protocol.messages import EventKind
from tests.chaos.history import (
    Added,
    Changed,
    Counted,
    Event,
    FencedWrite,
    Gap,
    History,
    LockHeld,
    Outcome,
    Owned,
    RegisterCall,
    Seen,
    Watched,
)
from tests.simulation.checkers.linearizability import FOREVER, Operation
from tests.simulation.checkers.locks import check_fenced_writes, check_no_orphans
from tests.simulation.checkers.models import check_registers
from tests.simulation.trace import Violation

SHOWN_MAX = 5
"""Of a long list of wrong things so many are named."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key at the end of a round."""

    value: bytes
    version: int
    created: int
    changed: int
    """The log indices of its creation and of the last change of its value."""


Tree = Mapping[str, Key]
"""Path, below the top of the round, to key."""


def check_round(history: History, trees: Mapping[str, Tree], read_at: tuple[float, float]) -> None:
    """Everything that can be said about one round. `trees` are by node; they were read in the time `read_at`."""
    check_same_trees(trees)
    tree = next(iter(trees.values()))
    check_registers_of(history.of(RegisterCall), tree, read_at)
    check_set(history.of(Added), tree)
    check_counter(history.of(Counted), tree)
    check_holds(history.of(LockHeld))
    check_fencing(history.of(FencedWrite))
    check_no_orphans("/lock", sorted(path for path in tree if path.startswith("/lock/")))
    check_ephemerals(history.of(Owned), history.of(Seen))
    check_watches(history)


def check_same_trees(trees: Mapping[str, Tree]) -> None:
    """Every node holds the same keys, with the same values and facts."""
    for one, other in pairwise(sorted(trees)):
        if trees[one] != trees[other]:
            paths = {*trees[one], *trees[other]}
            wrong = [path for path in sorted(paths) if trees[one].get(path) != trees[other].get(path)]
            named = ", ".join(f"{path}: {trees[one].get(path)} and {trees[other].get(path)}" for path in _few(wrong))
            raise Violation("DIVERGENCE", f"{one} and {other} differ in {len(wrong)} keys: {named}")


def check_registers_of(calls: Iterable[RegisterCall], tree: Tree, read_at: tuple[float, float]) -> None:
    """Each key by itself is linearizable, and its final state is a last read of it."""
    operations = [
        Operation(
            call.client,
            call.kind,
            call.key,
            call.argument,
            call.called,
            FOREVER if call.returned is None else call.returned,
            call.result,
        )
        for call in calls
    ]
    for path in sorted({operation.key for operation in operations}):
        found = tree.get(path)
        state = None if found is None else (found.value.decode(), found.version)
        operations.append(Operation("the judge", "get", path, None, *read_at, state))
    check_registers(operations)


def check_set(added: Iterable[Added], tree: Tree) -> None:
    """Every acknowledged child is there, each once, and no child that was never written or surely failed."""
    outcomes: dict[str, Outcome] = {}
    for each in added:
        if each.outcome is Outcome.REFUSED:
            raise Violation("SET", f"{each.name}, which nobody else writes, was refused: {each.detail}")
        outcomes[each.name] = each.outcome
    _compare("SET", "/set/", outcomes, tree)
    for name in outcomes:
        key = tree.get(f"/set/{name}")
        if key is not None and key.value != name.encode():
            raise Violation("SET", f"{name} has the value {key.value!r}")


def check_counter(counted: Iterable[Counted], tree: Tree) -> None:
    """The counter is the number of markers: each transaction happened whole, once, or not at all."""
    _compare("COUNTER", "/counter/by/", {each.marker: each.outcome for each in counted}, tree)
    markers = sum(path.startswith("/counter/by/") for path in tree)
    value = int(tree["/counter"].value)
    if value != markers or tree["/counter"].version != markers:
        version = tree["/counter"].version
        raise Violation("COUNTER", f"the counter says {value} in version {version}, there are {markers} markers")


def _compare(check: str, prefix: str, outcomes: Mapping[str, Outcome], tree: Tree) -> None:
    """What is below `prefix` against what was to be created there."""
    present = {path.removeprefix(prefix) for path in tree if path.startswith(prefix)}
    lost = [name for name, outcome in outcomes.items() if outcome is Outcome.ACKNOWLEDGED and name not in present]
    if lost:
        raise Violation(check, f"{len(lost)} acknowledged writes are lost: {', '.join(_few(lost))}")
    possible = (Outcome.ACKNOWLEDGED, Outcome.UNKNOWN)
    wrong = [name for name in sorted(present) if outcomes.get(name) not in possible]
    if wrong:
        raise Violation(
            check, f"{len(wrong)} writes are there that nobody made, or that failed: " + ", ".join(_few(wrong))
        )


def check_holds(holds: Iterable[LockHeld]) -> None:
    """Tokens rise from holder to holder, and nobody enters while another one rightly believes to be inside."""
    ordered = sorted(holds, key=lambda hold: hold.entered)
    for before, after in pairwise(ordered):
        if after.token <= before.token:
            raise Violation("M2", f"{after.client} got token {after.token} after {before.client} with {before.token}")
        if after.entered <= before.believed:
            raise Violation(
                "M3",
                f"{after.client} entered with token {after.token} at {after.entered:.6f}; {before.client} believed "
                f"in {before.token} until {before.believed:.6f}",
            )


def check_fencing(writes: Iterable[FencedWrite]) -> None:
    """In the order of the log no guarded write carries a lower token than the one before it (M1)."""
    check_fenced_writes("/lock", [write.token for write in sorted(writes, key=lambda write: write.index)])


def check_ephemerals(owned: Iterable[Owned], seen: Iterable[Seen]) -> None:
    """A key is there for as long as its owner's session surely lives, is never another's, and never comes back."""
    looks: dict[str, list[Seen]] = {}
    for look in seen:
        looks.setdefault(look.path, []).append(look)
    for key in owned:
        gone_since = FOREVER
        for look in sorted(looks.get(key.path, ()), key=lambda look: look.called):
            if look.owner not in (None, key.session):
                raise Violation("E4", f"{key.path} belongs to session {look.owner}, not to {key.session}")
            lives = key.created <= look.called and look.returned <= key.believed
            if lives and look.owner is None:
                raise Violation("E1", f"{key.path} was gone at {look.returned:.6f} while session {key.session} lived")
            if look.owner is not None and look.called > gone_since:
                raise Violation("E3", f"{key.path} came back after it was gone")
            if look.owner is None and key.created <= look.called:
                gone_since = min(gone_since, look.returned)


def check_watches(history: History) -> None:
    """Each watch showed every change once and in order, or said where not."""
    for watch in history.of(Watched):
        name = watch.watcher
        _check_watch(
            watch,
            [event for event in history.of(Event) if event.watcher == name],
            [change for change in history.of(Changed) if change.watcher == name],
            [gap for gap in history.of(Gap) if gap.watcher == name],
        )


def _check_watch(watch: Watched, events: Sequence[Event], changes: Sequence[Changed], gaps: Sequence[Gap]) -> None:
    name = watch.watcher
    for before, after in pairwise(events):
        if after.index <= before.index:
            raise Violation("W", f"{name} was told of {after} after {before}")
    if events and events[0].index <= watch.since:
        raise Violation("W", f"{name} watches from {watch.since} on and was told of {events[0]}")
    delivered = {(event.kind, event.path, event.index) for event in events}
    possible = {(change.kind, change.path) for change in changes if change.outcome is not Outcome.FAILED}
    for event in events:
        if (event.kind, event.path) not in possible:
            raise Violation("W", f"{name} was told of {event}, which nobody did")
    for change in changes:
        if change.outcome is Outcome.ACKNOWLEDGED and change.index and change.index > watch.since:
            excused = any(gap.after < change.index <= gap.until for gap in gaps)
            if not excused and (change.kind, change.path, change.index) not in delivered:
                raise Violation("W", f"{name} was never told of {change}")
    _check_deletions(name, events, changes, bool(gaps))
    if not watch.complete:
        raise Violation("W", f"{name} did not come to the end: the last events never arrived")


def _check_deletions(name: str, events: Sequence[Event], changes: Sequence[Changed], gaps: bool) -> None:
    """An acknowledged deletion has an event; its index is not known to the one who deleted."""
    told = Counter(event.path for event in events if event.kind == EventKind.DELETED)
    for path, count in sorted(told.items()):
        if count > 1:
            raise Violation("W", f"{name} was told {count} times that {path} was deleted; it never came back")
    for change in changes:
        deleted = change.kind == EventKind.DELETED and change.outcome is Outcome.ACKNOWLEDGED
        if deleted and not gaps and change.path not in told:
            raise Violation("W", f"{name} was never told that {change.path} was deleted")


def _few(names: Sequence[str]) -> list[str]:
    return [*names[:SHOWN_MAX], *(("...",) if len(names) > SHOWN_MAX else ())]
