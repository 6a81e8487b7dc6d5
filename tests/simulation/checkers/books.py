"""What a tree keeps beside its keys: who goes by itself, and how much there is (L1, L2, Q1, Q2).

Lists of containers and of keys with a ttl, and the counters of quotas, follow from the keys; they are found anew here
and compared. What hard limits promise is looked at in the replayed states, by adding up what there is. Uses no rule of
the product. Called by the ghost, and by the run for what must have gone when all is well.
"""

from __future__ import annotations

from collections.abc import Iterable

from jkcs_server.tree.keytree import KeyTree
from tests.simulation.trace import Violation
from tests.support.model_tree import ModelTree

CONTAINER = -1
_ROOT, _LIMITS, _STATS = "/zookeeper/quota", "/zookeeper_limits", "/zookeeper_stats"
_HARD = ("countHardLimit", "byteHardLimit")

Held = tuple[int, int]
"""Keys, and bytes of their data."""
Place = tuple[Held, Held]
"""How much there is, and how much there may be (-1: as one likes)."""


class QuotaChecker:
    """No command takes what is below a key beyond its hard limits (Q1)."""

    def look(self, model: ModelTree) -> dict[str, Place]:
        """Everything about the quotas of this moment."""
        return {top: (held_below(model, top), _hard(said)) for top, said in model._quotas().items()}

    def check(self, index: int, before: dict[str, Place], model: ModelTree) -> None:
        """The command at `index` was replayed. Whoever lowers a limit below what there is may do so."""
        if not before:
            return
        for top, (held, limits) in self.look(model).items():
            if top not in before or before[top][1] != limits:
                continue
            for was, now, limit in zip(before[top][0], held, limits, strict=True):
                if limit > -1 and now > max(limit, was):
                    raise Violation("Q1", f"at {index} there came to be {held} keys and bytes at {top}, limit {limits}")


def check_books(node: str, tree: KeyTree) -> None:
    """A server's lists and counters are what its keys make of them (L1, Q2)."""
    containers = sorted(path for path, key in tree.nodes.items() if key.ttl == CONTAINER)
    mortals = sorted(path for path, key in tree.nodes.items() if key.ttl > 0)
    listed = (sorted(tree.containers), sorted(tree.ttls))
    if listed != (containers, mortals):
        raise Violation("L1", f"{node} has the containers and keys with a ttl {containers}, {mortals}, not {listed}")
    for path in tree.nodes:
        if path.startswith(_ROOT) and path.endswith(_LIMITS) and path != _ROOT + _LIMITS:
            _check_counter(node, tree, path[len(_ROOT) : -len(_LIMITS)])


def _check_counter(node: str, tree: KeyTree, top: str) -> None:
    held = _add_up((path, key.data) for path, key in tree.nodes.items() if _is_below(path, top))
    quota = tree.quotas.get(top)
    if quota is None or (quota.count, quota.bytes) != held:
        counted = "nothing" if quota is None else (quota.count, quota.bytes)
        raise Violation("Q2", f"{node} counts {counted} for keys and bytes at {top}, and there are {held}")
    stats = tree.nodes.get(f"{_ROOT}{top}{_STATS}")
    if stats is not None and stats.data != b"count=%d,bytes=%d" % held:
        raise Violation("Q2", f"{node} says {stats.data!r} of {top}, and there are {held}")


def overdue(model: ModelTree, wall_ms: int) -> list[str]:
    """Keys that should go by themselves, for a leader whose clock shows this."""
    return [path for path, key in model.keys.items() if _should_go(model, path, key.ttl, wall_ms)]


def _should_go(model: ModelTree, path: str, ttl: int, wall_ms: int) -> bool:
    if not ttl:
        return False
    key = model.keys[path]
    lived = key.next_number > 0 if ttl == CONTAINER else wall_ms - key.mtime >= ttl
    return lived and not any(other.startswith(path + "/") for other in model.keys)


def held_below(model: ModelTree, top: str) -> Held:
    """Keys and bytes at and below a key of the replayed state."""
    return _add_up((path, key.data) for path, key in model.keys.items() if _is_below(path, top))


def _is_below(path: str, top: str) -> bool:
    return (path == top or path.startswith(top + "/")) and not (path + "/").startswith("/zookeeper/")


def _add_up(keys: Iterable[tuple[str, bytes]]) -> Held:
    sizes = [len(data) for _, data in keys]
    return len(sizes), sum(sizes)


def _hard(said: dict[str, int]) -> Held:
    count, size = (said.get(name, -1) for name in _HARD)
    return count, size
