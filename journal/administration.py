"""What administrators ask of a cluster: done by the leader, whichever node was asked.

A node that does not lead sends the request on to the one that does, over the peers' network, and hands back what it
answers. Nothing is ever asked twice by itself: where no answer comes, the asker is told that it may have happened.
Changes that take long are only begun here; how far they are is in the answer to `configuration`.

Knows nothing of clients, and of clusters only what `Cluster` says. Called by the replica's owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

import msgpack

from journal.clock import Handle, Scheduler
from journal.errors import Busy, JournalError, NotLeader
from journal.values import Index, NodeId

REQUESTS_MAX = 64
"""Requests that wait for a leader's answer at the same time; more are refused as busy."""
BODY_BYTES_MAX = 64 * 1024
"""A request or an answer on its way between two nodes."""
ROLES = ("voter", "observer", "none")
"""What a node can be made; none takes it out of the cluster."""


class Verdict(IntEnum):
    """What became of a request; these numbers travel between nodes."""

    DONE = 0  # or begun; with a map
    NO_LEADER = 1  # nothing happened
    BUSY = 2  # nothing happened
    REFUSED = 3  # it does not fit the cluster as it is
    MALFORMED = 4
    UNKNOWN = 5  # no answer: it may have happened


Done = Callable[[Verdict, Any], None]
"""Takes the verdict, and a map when it is DONE, else why."""


class Cluster(Protocol):
    """What this needs of the replica. What changes something raises JournalError when it does not."""

    @property
    def me(self) -> NodeId: ...

    def leads(self) -> bool: ...

    def known_leader(self) -> NodeId | None: ...

    def describe(self) -> dict[str, Any]:
        """The answer to `configuration`; on the leader."""

    def update_voters(self, old: Sequence[NodeId], new: Sequence[NodeId], addresses: Mapping[NodeId, str]) -> Index:
        """The index of the first entry of the change; of the others' likewise."""

    def convert_role(self, node: NodeId, role: str, address: str) -> Index: ...

    def set_preferred_leader(self, node: NodeId | None) -> Index: ...

    def transfer_leadership(self, node: NodeId | None) -> None:
        """Begin to hand over."""

    def take_snapshot(self) -> Index:
        """The index at which every node takes it."""

    def recover_snapshot(self, index: Index) -> Index: ...

    def send(self, to: NodeId, context: int, body: bytes, *, reply: bool) -> None:
        """To another node's `Administration`; may get lost."""


class Malformed(Exception):
    """Arguments of the wrong kind."""


@dataclass(slots=True)
class _Waiting:
    done: Done
    timer: Handle


class Administration:
    """One node's way to the leader. All methods are called on the scheduler's thread."""

    def __init__(self, cluster: Cluster, scheduler: Scheduler, patience: float) -> None:
        """`patience`: seconds to wait for the leader's answer."""
        self._cluster = cluster
        self._scheduler = scheduler
        self._patience = patience
        self._context = 0
        self._waiting: dict[int, _Waiting] = {}
        """Requests at the leader, by context. At most REQUESTS_MAX."""

    def ask(self, name: str, arguments: Mapping[str, Any], done: Done) -> None:
        """Do it here if this node leads, else ask the leader. `done` is called once, now or later."""
        cluster = self._cluster
        if cluster.leads():
            done(*self._perform(name, arguments))
            return
        leader = cluster.known_leader()
        if leader is None:
            done(Verdict.NO_LEADER, f"{cluster.me} knows of no leader")
            return
        if len(self._waiting) >= REQUESTS_MAX:
            done(Verdict.BUSY, f"{REQUESTS_MAX} requests wait for {leader} already")
            return
        body = msgpack.packb([name, dict(arguments)])
        if len(body) > BODY_BYTES_MAX:
            done(Verdict.MALFORMED, f"a request of {len(body)} bytes, limit {BODY_BYTES_MAX}")
            return
        self._context += 1
        context = self._context
        timer = self._scheduler.call_at(self._scheduler.time() + self._patience, lambda: self._give_up(context, leader))
        self._waiting[context] = _Waiting(done, timer)
        cluster.send(leader, context, body, reply=False)

    def on_request(self, sender: NodeId, context: int, body: bytes) -> None:
        """Another node asks this one, which it takes for the leader."""
        verdict, result = self._answer(body)
        reply = msgpack.packb([int(verdict), result])
        if len(reply) > BODY_BYTES_MAX:
            reply = msgpack.packb([int(Verdict.UNKNOWN), f"an answer of {len(reply)} bytes, limit {BODY_BYTES_MAX}"])
        self._cluster.send(sender, context, reply, reply=True)

    def on_reply(self, context: int, body: bytes) -> None:
        """What the leader said. One that comes too late finds nobody."""
        waiting = self._waiting.pop(context, None)
        if waiting is None:
            return
        waiting.timer.cancel()
        try:
            number, result = msgpack.unpackb(body)
            verdict = Verdict(number)
        except (ValueError, TypeError, msgpack.UnpackException):
            verdict, result = Verdict.UNKNOWN, "the leader's answer cannot be read"
        waiting.done(verdict, result)

    def stop(self) -> None:
        """Nobody will answer any more."""
        for context in list(self._waiting):
            waiting = self._waiting.pop(context)
            waiting.timer.cancel()
            waiting.done(Verdict.UNKNOWN, "this node stops")

    def _give_up(self, context: int, leader: NodeId) -> None:
        waiting = self._waiting.pop(context, None)
        if waiting is not None:
            waiting.done(Verdict.UNKNOWN, f"no answer from the leader {leader} within {self._patience:g} s")

    def _answer(self, body: bytes) -> tuple[Verdict, Any]:
        if not self._cluster.leads():
            return Verdict.NO_LEADER, f"{self._cluster.me} does not lead"
        try:
            name, arguments = msgpack.unpackb(body, max_array_len=1024, max_map_len=1024)
            if type(name) is not str or type(arguments) is not dict:
                raise ValueError
        except (ValueError, TypeError, msgpack.UnpackException):
            return Verdict.MALFORMED, "the request cannot be read"
        return self._perform(name, arguments)

    # On the leader.

    def _perform(self, name: str, arguments: Mapping[str, Any]) -> tuple[Verdict, Any]:
        action = _ACTIONS.get(name)
        if action is None:
            return Verdict.MALFORMED, f"unknown request {name!r:.40}"
        try:
            return Verdict.DONE, action(self._cluster, arguments)
        except Malformed as error:
            return Verdict.MALFORMED, str(error)
        except NotLeader as error:
            return Verdict.NO_LEADER, str(error)
        except Busy as error:
            return Verdict.BUSY, str(error)
        except (JournalError, ValueError) as error:
            return Verdict.REFUSED, str(error)


def _node(arguments: Mapping[str, Any], key: str = "node") -> NodeId:
    name = arguments.get(key)
    if type(name) is not str or not name:
        raise Malformed(f"{key} must be the name of a node, not {name!r:.40}")
    return NodeId(name)


def _node_or_nobody(arguments: Mapping[str, Any]) -> NodeId | None:
    return None if arguments.get("node") is None else _node(arguments)


def _index(arguments: Mapping[str, Any]) -> Index:
    index = arguments.get("index")
    if type(index) is not int or index < 1:
        raise Malformed(f"index must be that of a snapshot, not {index!r:.40}")
    return Index(index)


def _configuration(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return cluster.describe()


def _update_voters(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    old, new = arguments.get("old"), arguments.get("new")
    if type(old) is not list or any(type(name) is not str for name in old):
        raise Malformed("old must be a list of the present voters' names")
    if type(new) is not dict or not new or any(type(part) is not str for pair in new.items() for part in pair):
        raise Malformed("new must be a map from the names of the new voters to their addresses, which may be empty")
    voters = [NodeId(name) for name in sorted(new)]
    addresses = {node: new[node] for node in voters if new[node]}
    return {"index": cluster.update_voters([NodeId(name) for name in sorted(old)], voters, addresses)}


def _convert_role(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    role, address = arguments.get("role"), arguments.get("address")
    if role not in ROLES:
        raise Malformed(f"role must be one of {', '.join(ROLES)}, not {role!r:.40}")
    if type(address) is not str:
        raise Malformed(f"address must be HOST:PORT or empty, not {address!r:.40}")
    return {"index": cluster.convert_role(_node(arguments), role, address)}


def _set_preferred_leader(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": cluster.set_preferred_leader(_node_or_nobody(arguments))}


def _transfer_leadership(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    cluster.transfer_leadership(_node_or_nobody(arguments))
    return {"from": cluster.me}


def _take_snapshot(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": cluster.take_snapshot()}


def _recover_snapshot(cluster: Cluster, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": cluster.recover_snapshot(_index(arguments))}


_ACTIONS: Mapping[str, Callable[[Cluster, Mapping[str, Any]], dict[str, Any]]] = {
    "configuration": _configuration,
    "update_voters": _update_voters,
    "convert_role": _convert_role,
    "set_preferred_leader": _set_preferred_leader,
    "transfer_leadership": _transfer_leadership,
    "take_snapshot": _take_snapshot,
    "recover_snapshot": _recover_snapshot,
}
