"""What every key held from which index on: the memory of the replayed log, for whoever asks about the past.

Filled by the ghost, command by command. Read by those who judge what clients were told. Decides nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from jkcs_client.protocol.messages import EventKind
from tests.support.model_tree import OPEN_ACL, AclEntries, ModelKey, ModelTree

_CREATED = int(EventKind.CREATED)
_DELETED = int(EventKind.DELETED)


@dataclass(frozen=True, slots=True)
class KeyState:
    """What a key held from `index` on."""

    index: int
    value: bytes | None
    """None: it does not exist."""
    version: int = 0
    czxid: int = 0
    mzxid: int = 0
    owner: int = 0
    acl: AclEntries = OPEN_ACL
    aversion: int = 0
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """The children of a key from `index` on."""

    index: int
    names: tuple[str, ...]
    """Sorted."""
    cversion: int
    pzxid: int


@dataclass(frozen=True, slots=True)
class GhostEvent:
    """One event of the tree, in log order."""

    index: int
    kind: int
    path: str
    acl: AclEntries = OPEN_ACL
    """The list that the key had then."""


T = TypeVar("T", KeyState, Listing)
_NEVER = KeyState(0, None)


class Annals:
    """The past of one run's tree."""

    def __init__(self) -> None:
        self.events: list[GhostEvent] = []
        """In log order; those of one command in the order in which they are told."""
        self.histories: dict[str, list[KeyState]] = {}
        self.listings: dict[str, list[Listing]] = {}
        self._names: dict[str, set[str]] = {}
        """The children of this moment."""
        beginning = ModelTree()
        for path, key in beginning.keys.items():
            names = beginning.children(path)
            self._names[path] = set(names)
            self.listings[path] = [Listing(0, tuple(names), key.cversion, key.pzxid)]
            self.histories[path] = [KeyState(0, key.data, acl=key.acl, aversion=key.aversion)]

    def begin(self, model: ModelTree) -> None:
        """The keys that are there at the beginning; a parent comes before its children."""
        for path, key in model.keys.items():
            self._names[path] = set()
            self.histories[path] = [_state(key.czxid, key)]
            if path != "/":
                self._names[path.rpartition("/")[0] or "/"].add(path.rpartition("/")[2])
        for path, key in model.keys.items():
            names = tuple(sorted(self._names[path]))
            self.listings[path] = [Listing(key.czxid, names, key.cversion, key.pzxid)]

    def take(self, index: int, model: ModelTree) -> None:
        """The model has applied the command at `index`."""
        for path in model.quiet:
            _put(self.histories.setdefault(path, []), _state(index, model.keys.get(path)))
        for (kind, path), acl in zip(model.events, model.lists, strict=True):
            self.events.append(GhostEvent(index, int(kind), path, acl))
            _put(self.histories.setdefault(path, []), _state(index, model.keys.get(path)))
            if kind in (_CREATED, _DELETED):
                self._on_child(index, int(kind), path, model)

    def state_at(self, path: str, index: int) -> KeyState:
        """What a key was as of `index`."""
        states = self.histories.get(path, [])
        place = bisect_right(states, index, key=lambda state: state.index)
        return states[place - 1] if place else _NEVER

    def listing_at(self, path: str, index: int) -> Listing | None:
        """The children of a key as of `index`; None when there was no such key."""
        if self.state_at(path, index).value is None:
            return None
        listings = self.listings[path]
        return listings[bisect_right(listings, index, key=lambda listing: listing.index) - 1]

    def listings_between(self, path: str, low: int, high: int) -> Iterator[Listing | None]:
        """All that the children of a key were from index `low` up to `high`."""
        yield self.listing_at(path, low)
        moments = {state.index for state in self.histories.get(path, []) if low < state.index <= high}
        moments |= {listing.index for listing in self.listings.get(path, []) if low < listing.index <= high}
        for index in sorted(moments):
            yield self.listing_at(path, index)

    def _on_child(self, index: int, kind: int, path: str, model: ModelTree) -> None:
        parent, _, name = path.rpartition("/")
        parent = parent or "/"
        if kind == _CREATED:
            self._names[parent].add(name)
            self._names[path] = set()
            _put(self.listings.setdefault(path, []), Listing(index, (), 0, index))
        else:
            self._names[parent].discard(name)
        above = model.keys.get(parent)
        if above is not None:
            names = tuple(sorted(self._names[parent]))
            _put(self.listings[parent], Listing(index, names, above.cversion, above.pzxid))


def _state(index: int, key: ModelKey | None) -> KeyState:
    if key is None:
        return KeyState(index, None)
    numbers = (key.version, key.czxid, key.mzxid, key.owner)
    return KeyState(index, key.data, *numbers, key.acl, key.aversion, key.ttl)


def _put(history: list[T], newest: T) -> None:
    """Add to a history; of several changes at one index only the last is ever seen."""
    if history and history[-1].index == newest.index:
        history[-1] = newest
    else:
        history.append(newest)
