"""The rules of copying one key tree into another: what differs, what is done about it, in which steps.

Knows neither ZooKeeper nor JKCS, only what both say of a key (`Seen`), and does nothing itself. The walk goes from the
root down, some keys at a time; what is remembered of a tree is the paths still to visit. Called by `cli/zk_copy.py`.

A copy is finished by doing it again: what is there already is left alone, so a second run changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

Acl = tuple[tuple[int, str, str], ...]
"""Permissions, scheme and id of each entry, in their order."""

OPEN_ACL: Acl = ((31, "world", "anyone"),)
CONTAINER = -1
"""In the place of a TTL: the key goes when its last child does."""

BATCH_STEPS_MAX = 500
BATCH_BYTES_MAX = 512 << 10
"""Half of what a ZooKeeper takes as one request unless it is told otherwise."""
STEP_BYTES = 128
"""About what a step takes beside its path and value."""
SEQUENCE_STEPS_MAX = 1_000_000
"""A sequence that is further behind is not raised by creating and deleting keys, ZooKeeper's only way."""
SEQUENCE_NAME = "jkcs-copy-raises-the-sequence"
"""The child that is created and deleted for it."""

SYSTEM_KEY = "/zookeeper"
"""What is below it describes a cluster and belongs to it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A key as one side shows it."""

    data: bytes
    children: tuple[str, ...]
    """Names."""
    acl: Acl | None
    """None: this side does not say."""
    owner: int = 0
    """The session of an ephemeral key."""
    ttl_ms: int | None = 0
    """0: it stays; or `CONTAINER`. None: this side does not say."""
    creations: int = 0
    """How many children were ever created below it: the number of the next sequential one."""
    changed_at: int = 0
    """The position in its own side's order of the last change of its data or children."""


class Kind(Enum):
    """How a key of the target differs from the source's. The values are those of the JSON summary."""

    MISSING = "created"
    DATA = "changed"
    ACL = "acl_changed"
    SEQUENCE = "sequence_raised"
    EXTRA = "deleted"
    LIFETIME = "lifetime_differs"
    """Persistent, container or TTL: a key keeps that for its life, so nothing is done about it."""
    IN_THE_WAY = "in_the_way"
    """The target has an ephemeral key where the source has another. Nothing is done about it, or below it."""
    LIVE = "ephemeral_kept"
    """The target alone has an ephemeral key. It is its session's, and goes with that."""


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    path: str
    """On the target's side."""
    wanted: Seen | None
    """The source's key; None where it has none."""
    found: Seen | None = None
    """The target's."""


class Action(Enum):
    CREATE = "create"
    SET = "set"
    SET_ACL = "set_acl"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on the target."""

    action: Action
    path: str
    data: bytes = b""
    acl: Acl | None = None
    ttl_ms: int = 0

    @property
    def size(self) -> int:
        """In bytes, about."""
        entries = self.acl or ()
        return STEP_BYTES + len(self.path) + len(self.data) + sum(12 + len(who) + len(how) for _, how, who in entries)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants of a copy."""

    delete: bool = False
    """Delete what the source lacks."""
    sequences: bool = False
    """Let the numbers of sequential children go on where the source's are."""


# Paths.


def moved(path: str, root: str, into: str) -> str:
    """Where a key below `root` has its copy below `into`."""
    if path == root:
        return into
    rest = path[len(root) :] if root != "/" else path
    assert rest.startswith("/"), (path, root)
    return rest if into == "/" else into + rest


def child_of(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"


def is_system(path: str) -> bool:
    return path == SYSTEM_KEY or path.startswith(SYSTEM_KEY + "/")


# What differs.


def compare(path: str, wanted: Seen, found: Seen | None, wishes: Wishes) -> Iterator[Difference]:
    """How one key differs, its children's names left aside. `wanted` is not ephemeral."""
    assert not wanted.owner, path
    if found is None:
        yield Difference(Kind.MISSING, path, wanted)
        return
    if found.owner:
        yield Difference(Kind.IN_THE_WAY, path, wanted, found)
        return
    if wanted.data != found.data:
        yield Difference(Kind.DATA, path, wanted, found)
    if wanted.acl is not None and found.acl is not None and wanted.acl != found.acl:
        yield Difference(Kind.ACL, path, wanted, found)
    if None not in (wanted.ttl_ms, found.ttl_ms) and wanted.ttl_ms != found.ttl_ms:
        yield Difference(Kind.LIFETIME, path, wanted, found)
    if wishes.sequences and found.creations < wanted.creations:
        yield Difference(Kind.SEQUENCE, path, wanted, found)


def extra_children(path: str, wanted: Seen, found: Seen | None) -> list[str]:
    """The paths of the target's children that the source has not, sorted. `path` is the target's."""
    if found is None:
        return []
    names = sorted(set(found.children) - set(wanted.children))
    return [extra for extra in (child_of(path, name) for name in names) if not is_system(extra)]


def deletions(subtree: Sequence[tuple[str, int]]) -> list[Difference]:
    """What goes of a subtree that the source lacks: (path, owner) of each key, parents first; deepest first.

    Ephemeral keys belong to somebody who is there, so they stay, and what is above them.
    """
    found: list[Difference] = []
    kept: set[str] = set()
    for path, owner in reversed(subtree):
        parent = path[: path.rfind("/")]
        if owner:
            found.append(Difference(Kind.LIVE, path, None))
            kept.add(parent)
        elif path in kept:
            kept.add(parent)
        else:
            found.append(Difference(Kind.EXTRA, path, None))
    return found


# What is done about it.


def steps_for(difference: Difference) -> Iterator[Step]:
    """The steps that take one difference away; none for what a copy leaves alone, and for sequences."""
    path, wanted = difference.path, difference.wanted
    if difference.kind is Kind.EXTRA:
        yield Step(Action.DELETE, path)
    elif difference.kind is Kind.MISSING:
        assert wanted is not None, path
        yield Step(Action.CREATE, path, wanted.data, wanted.acl, wanted.ttl_ms or 0)
    elif difference.kind is Kind.DATA:
        assert wanted is not None, path
        yield Step(Action.SET, path, wanted.data)
    elif difference.kind is Kind.ACL:
        assert wanted is not None and wanted.acl is not None, path
        yield Step(Action.SET_ACL, path, acl=wanted.acl)


def batches(steps: Iterable[Step], *, mixed: bool) -> Iterator[list[Step]]:
    """The steps in their order, in batches that any server takes as one transaction.

    Unless `mixed`, a key with a life of its own and a change of ACL are no part of a transaction and come alone.
    """
    batch: list[Step] = []
    size = 0
    for step in steps:
        alone = not mixed and (step.action is Action.SET_ACL or step.ttl_ms != 0)
        if batch and (alone or len(batch) == BATCH_STEPS_MAX or size + step.size > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(step)
        size += step.size
        if alone:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def raising(path: str, wanted: Seen, found: Seen) -> Iterator[list[Step]]:
    """Batches that create and delete a child as often as the target's sequence is behind.

    That is the only way there is with ZooKeeper. Each batch leaves the list of children as it was.
    """
    missing = wanted.creations - found.creations
    assert 0 < missing <= SEQUENCE_STEPS_MAX, (path, missing)
    child = child_of(path, SEQUENCE_NAME)
    pair = [Step(Action.CREATE, child), Step(Action.DELETE, child)]
    at_once = min(BATCH_STEPS_MAX // 2, BATCH_BYTES_MAX // (2 * pair[0].size))
    while missing:
        pairs = min(missing, at_once)
        yield pair * pairs
        missing -= pairs


def hides_hash(acl: Acl) -> bool:
    """Whether this is what those are shown who may not change it: a copy would lock everybody out."""
    return any(scheme == "digest" and who.endswith(":x") for _, scheme, who in acl)


class Frontier:
    """The keys still to visit, parents before their children."""

    def __init__(self, root: str) -> None:
        self._paths = [root]
        self._next = 0
        self.found = 1
        """How many keys are known of so far."""

    def __bool__(self) -> bool:
        return self._next < len(self._paths)

    def take(self, count: int) -> Sequence[str]:
        """The next keys. None of them is below another, as a key's children come only after it was visited."""
        taken = self._paths[self._next : self._next + count]
        self._next += len(taken)
        if self._next > len(self._paths) // 2:
            del self._paths[: self._next]
            self._next = 0
        return taken

    def add(self, path: str, names: Iterable[str]) -> None:
        """A key was visited and has these children."""
        children = [child for child in (child_of(path, name) for name in sorted(names)) if not is_system(child)]
        self._paths += children
        self.found += len(children)


def changed_meanwhile(difference: Difference, since: int) -> bool:
    """Whether the source itself moved on after the copy began, which explains a difference that is left."""
    return difference.wanted is not None and difference.wanted.changed_at > since
