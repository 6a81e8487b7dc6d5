"""Changes of the configuration, as their leader makes them (Raft 6, thesis 4).

Any set of voters may become any other one in a single change: newcomers receive the log as learners until they
have caught up, then both halves decide together (joint consensus), then the new one alone. Each step is an entry
and begins when the one before it is committed; where it goes is in the configuration itself, so that the next
leader carries on. Changes without a say (observers, addresses, the preferred leader) are a single entry.

Owned by `leader.py`, which appends what this decides and tells it what happens. Knows nothing of messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from journal.errors import Busy, ChangeRefused, NotLeader
from journal.limits import VOTERS_MAX
from journal.raft.state import State
from journal.record import encode_configuration
from journal.values import Configuration, Index, NodeId

CONFIGURATION_BYTES_MAX = 8 * 1024
"""It must fit into the metadata of every node."""


@dataclass(slots=True)
class _Round:
    """One round of a learner's catching up (thesis 4.2.1)."""

    end: Index
    """Where our log ended when the round began."""
    begun_at: float


class Membership:
    """The changes of one leadership."""

    __slots__ = ("_append", "_first_index", "_rounds", "_state")

    def __init__(self, state: State, first_index: Index, append: Callable[[Configuration], Index]) -> None:
        self._state = state
        self._first_index = first_index
        """The leadership's first entry: before it is committed nothing may be changed (RELIABILITY 37)."""
        self._append = append
        self._rounds: dict[NodeId, _Round] = {}

    # What an administrator asks for. Each returns the index of the first entry of the change.

    def update_voters(self, old: Iterable[NodeId], new: Iterable[NodeId], addresses: Mapping[NodeId, str]) -> Index:
        """Make `new` the voters, where `old` are the voters now. Raises NotLeader, Busy or ChangeRefused.

        With `new` equal to `old` it gives up a change whose newcomers have not caught up yet.
        """
        present = self._present()
        voters = tuple(sorted(set(new)))
        if set(old) != set(present.voters):
            raise ChangeRefused(f"the voters are {_list(present.voters)}, not {_list(sorted(set(old)))}")
        if present.target and voters != present.voters:
            raise ChangeRefused(f"a change to {_list(present.target)} is under way; it may be given up, or waited for")
        observers = tuple(node for node in present.observers if node not in voters)
        return self._begin(present, voters, observers, addresses)

    def convert_role(self, node: NodeId, role: str, address: str) -> Index:
        """Make `node` a "voter", an "observer", or "none" at all. Raises NotLeader, Busy or ChangeRefused."""
        present = self._present()
        if present.changing:
            raise ChangeRefused("a change of voters is under way")
        voters, observers = set(present.voters) - {node}, set(present.observers) - {node}
        if role == "voter":
            voters.add(node)
        elif role == "observer":
            observers.add(node)
        elif role != "none":
            raise ChangeRefused(f"{role!r} is no role: voter, observer or none")
        elif node not in present.members:
            raise ChangeRefused(f"{node} is not a member")
        addresses = {node: address} if address else {}
        return self._begin(present, tuple(sorted(voters)), tuple(sorted(observers)), addresses)

    def prefer(self, node: NodeId | None) -> Index:
        """Let `node` lead whenever it can; None for whoever does. Raises NotLeader, Busy or ChangeRefused."""
        present = self._present()
        if node is not None and node not in present.voters:
            raise ChangeRefused(f"{node} is not a voter: those are {_list(present.voters)}")
        return self._propose(replace(present, preferred=node))

    # What happens.

    def advance(self, match_of: Callable[[NodeId], int]) -> None:
        """Take the next step of a change when its time has come: called when anything was committed or caught up.

        `match_of` says how far a node has the log on its disk. This node may be a newcomer itself, while it leads on
        its way out or as a last resort: its disk has to catch up like any other.
        """
        state = self._state
        present = state.configuration
        if state.configuration_index > state.commit or not state.changing or state.commit < self._first_index:
            return
        if present.outgoing:
            self._append(_left(present))
        elif self._have_caught_up(present.learners, match_of):
            self._rounds.clear()
            self._append(_joint(present))

    # Inside.

    def _present(self) -> Configuration:
        """The configuration, if it may be changed now; Busy when it may be in a moment."""
        state = self._state
        if state.commit < self._first_index:
            raise NotLeader("this leader has not committed an entry of its own term yet")
        if state.configuration_index > state.commit:
            raise Busy(f"the change at index {state.configuration_index} is not committed yet")
        if state.configuration.outgoing:
            raise ChangeRefused("a change of voters is under way, and too far to be given up")
        return state.configuration

    def _begin(
        self,
        present: Configuration,
        voters: tuple[NodeId, ...],
        observers: tuple[NodeId, ...],
        addresses: Mapping[NodeId, str],
    ) -> Index:
        if not 0 < len(voters) <= VOTERS_MAX:
            raise ChangeRefused(f"{len(voters)} voters: between 1 and {VOTERS_MAX} are possible")
        known = {**dict(present.addresses), **addresses}
        base = replace(
            present,
            learners=(),
            target=(),
            observers=observers,
            addresses=tuple(sorted(known.items())),
            preferred=present.preferred if present.preferred in voters else None,
        )
        if voters == present.voters:
            return self._propose(_trimmed(base))
        newcomers = tuple(node for node in voters if node not in present.voters)
        change = replace(base, learners=newcomers, target=voters)
        return self._propose(_trimmed(change if newcomers else _joint(change)))

    def _propose(self, configuration: Configuration) -> Index:
        _check(configuration, self._state.configuration)
        self._rounds.clear()
        return self._append(configuration)

    def _have_caught_up(self, newcomers: Iterable[NodeId], match_of: Callable[[NodeId], int]) -> bool:
        """Whether all have; each is looked at, so that all make their rounds at the same time."""
        behind = [node for node in newcomers if not self._has_caught_up(node, match_of(node))]
        return not behind

    def _has_caught_up(self, learner: NodeId, match: int) -> bool:
        """Whether the last round of catching up took no longer than an election may: then it will not be waited for."""
        state = self._state
        last = state.log.last_index
        this = self._rounds.get(learner)
        if this is None:
            this = self._rounds[learner] = _Round(last, state.now)
        if match < this.end:
            return False
        if state.now - this.begun_at <= state.timing.election_timeout:
            return True
        self._rounds[learner] = _Round(last, state.now)
        return match >= last


def _joint(present: Configuration) -> Configuration:
    return _trimmed(replace(present, voters=present.target, outgoing=present.voters, learners=(), target=()))


def _left(present: Configuration) -> Configuration:
    return _trimmed(replace(present, outgoing=()))


def _trimmed(configuration: Configuration) -> Configuration:
    """Without what is known of nodes that are no members."""
    members = configuration.members
    preferred = configuration.preferred if configuration.preferred in configuration.voters else None
    addresses = tuple(pair for pair in configuration.addresses if pair[0] in members)
    return replace(configuration, addresses=addresses, preferred=preferred)


def _check(configuration: Configuration, present: Configuration) -> None:
    """Raise ChangeRefused for what cannot work."""
    try:
        configuration.check()
    except ValueError as error:
        raise ChangeRefused(str(error)) from error
    if configuration == present:
        raise ChangeRefused("that is how it is already: nothing to change")
    size = len(encode_configuration(configuration))
    if size > CONFIGURATION_BYTES_MAX:
        raise ChangeRefused(f"a configuration of {size} bytes, limit {CONFIGURATION_BYTES_MAX}")
    owners: dict[str, NodeId] = {}
    for node, address in configuration.addresses:
        if address in owners:
            raise ChangeRefused(f"{owners[address]} and {node} share the address {address}")
        owners[address] = node
    missing = set(configuration.members) - {node for node, _ in configuration.addresses}
    unknown = sorted(missing - set(present.members))
    if present.addresses and unknown:
        raise ChangeRefused(f"no address is given for {_list(unknown)}")


def _list(nodes: Iterable[NodeId]) -> str:
    return ", ".join(nodes) or "none"
