"""What clients were told, against the replayed log at the index that the answer carries (I12, I14, I16, S4, S6).

The check in order of the index: each write must be in the log where it is said to be and after everything that was
acknowledged before it was called; each read must equal the model at its index, which may not lie before what it had
to see. Knows nothing of servers; reads the ghost and changes nothing.
"""

from __future__ import annotations

from jkcs_client.values import Stat
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.trace import Violation

REFUSALS = ("NoNode", "NodeExists", "BadVersion")


class AnswerChecker:
    """All answers of one run."""

    def __init__(self, ghost: GhostTree) -> None:
        self._ghost = ghost
        self._annals = ghost.annals

    # Reads.

    def check_read(self, what: str, path: str, index: int, value: bytes | None, version: int | None = None) -> None:
        """A read that says it is true as of `index` must be (I14)."""
        state = self._annals.state_at(path, index)
        if state.value != value or (version is not None and value is not None and state.version != version):
            raise Violation(
                "I14", f"{what}: {path} read as {value!r} version {version} at index {index}, but was {state}"
            )

    def check_stat(self, what: str, path: str, index: int, stat: Stat | None) -> None:
        """So must every number of a stat; None says that there is no such key (I14)."""
        state = self._annals.state_at(path, index)
        listing = self._annals.listing_at(path, index)
        if stat is None or state.value is None or listing is None:
            if stat is not None or state.value is not None:
                raise Violation("I14", f"{what}: {path} had {stat} at index {index}, but was {state}")
            return
        lifetime = -1 if stat.container else round((stat.ttl or 0) * 1000)
        seen = (stat.czxid, stat.mzxid, stat.version, stat.ephemeral_owner, stat.data_length, stat.aversion, lifetime)
        true = (state.czxid, state.mzxid, state.version, state.owner, len(state.value), state.aversion, state.ttl)
        seen_below = (stat.cversion, stat.pzxid, stat.num_children)
        true_below = (listing.cversion, listing.pzxid, len(listing.names))
        if seen != true or seen_below != true_below:
            raise Violation("I14", f"{what}: {path} had {stat}, but was {state} with {listing}")

    def check_children(self, what: str, path: str, names: list[str] | None, low: int, high: int) -> None:
        """A listing carries no index: some index from `low` (newest at the call) to `high` must explain it (I14)."""
        seen = None if names is None else tuple(names)
        for listing in self._annals.listings_between(path, low, high):
            if (listing is None and seen is None) or (listing is not None and listing.names == seen):
                return
        raise Violation("I14", f"{what}: {path} had the children {seen}, and at no index from {low} to {high} it had")

    def check_index(self, what: str, index: int, at_least: int) -> None:
        """An answer may not show a state before what it had to see (I14)."""
        if index < at_least:
            raise Violation("I14", f"{what} as of {index}, but had to see {at_least}")

    # Writes.

    def check_write(
        self,
        what: str,
        value: bytes,
        *,
        acknowledged: bool,
        refused: bool,
        index: int | None,
        latest: int | None = None,
    ) -> None:
        """An acknowledged write is in the log once, a refused one never, one without an answer at most once, and not
        behind `latest`."""
        found = self._ghost.ok_writes.get(value, [])
        if acknowledged and not found:
            raise Violation("I12", f"{what} was acknowledged, and is not in the log")
        if refused and found:
            raise Violation("I12", f"{what} was refused, and took effect at {found}")
        if len(found) > 1:
            raise Violation("I16", f"{what} was applied {len(found)} times, at {found}")
        if acknowledged and index is not None and found != [index]:
            raise Violation("I12", f"{what} was acknowledged at index {index}, and happened at {found}")
        if latest is not None and found and found[0] > latest:
            raise Violation("S6", f"{what} was given up by {latest}, and happened at {found}")

    def check_pipelined(self, what: str, values: list[bytes]) -> None:
        """Writes that nothing can refuse, sent one behind the other: all happen in that order, or the first ones do
        (S6)."""
        found = [self._ghost.ok_writes.get(value, []) for value in values]
        there = [indices[0] for indices in found if indices]
        if not all(found[: len(there)]) or there != sorted(set(there)):
            raise Violation("S6", f"{what} sent writes that happened at {found}")

    def check_numbers(self, what: str, names: list[tuple[int, str]]) -> None:
        """Sequential keys under one parent, by the index at which each was made: their names rise."""
        told = [name for _, name in sorted(names)]
        if told != sorted(set(told)):
            raise Violation("S6", f"{what} were created in this order: {told}")

    def check_time(self, what: str, index: int, committed_at_call: int, committed_at_return: int) -> None:
        """A write happens between its call and its answer: behind all that was acknowledged before it (I14),
        and not before it is committed (I12)."""
        if index <= committed_at_call:
            raise Violation("I14", f"{what} happened at {index}, when {committed_at_call} was committed at its call")
        if index > committed_at_return:
            raise Violation("I12", f"{what} was acknowledged at {index}, with {committed_at_return} committed")

    def check_refusal(self, what: str, why: str, path: str, index: int, wanted: int = -1) -> None:
        """What a write was refused for must be true at its index (I14)."""
        assert why in REFUSALS, why
        state = self._annals.state_at(path, index)
        exists = state.value is not None
        fits = {
            "NoNode": not exists,
            "NodeExists": exists,
            "BadVersion": exists and wanted not in (-1, state.version),
        }[why]
        if not fits:
            raise Violation("I14", f"{what} was refused for {why} at index {index}, but {path} was {state}")

    def check_session(self, what: str, index: int, ended_at: int | None) -> None:
        """No write of a session succeeds behind its end (S4)."""
        if ended_at is not None and index >= ended_at:
            raise Violation("S4", f"{what} succeeded at {index}, but its session had ended at {ended_at}")

    # Several calls of one session.

    def check_order(self, what: str, indices: list[tuple[str, int]]) -> None:
        """Calls of one session that were made one after another are carried out in that order (S6).

        `indices`: ("read" or "write", index) in the order of the calls. A read shows every write that was called
        before it, and none that was called after it.
        """
        newest = 0
        for kind, index in indices:
            # A read may show the state that the call before it left; a write makes a new one.
            if index < newest or (kind == "write" and index == newest):
                raise Violation("S6", f"{what}: calls of one session were carried out as {indices}")
            newest = index

    def check_own_writes(self, what: str, indices: list[tuple[str, int]]) -> None:
        """The same where the connection broke in between: a read that was called before a write may then show it,
        but every call still comes behind the writes that were called before it (S6)."""
        newest = 0
        for kind, index in indices:
            if index < newest or (kind == "write" and index == newest):
                raise Violation("S6", f"{what}: own writes were overtaken: {indices}")
            if kind == "write":
                newest = index
