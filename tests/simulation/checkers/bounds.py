"""What no server may outgrow or outstay, looked at while the servers run (I15, S1, OFFICE).

Knows where a server keeps what grows, and which limit the product names for it. Changes nothing. Called by the
observer every so many steps of a server.
"""

from __future__ import annotations

from collections.abc import Iterator

from jkcs_client.protocol.messages import REQUESTS_IN_FLIGHT_MAX
from jkcs_server.server import Server
from jkcs_server.serving.endpoint import Endpoint
from jkcs_server.tree.sessions import REPLIES_KEPT_MAX
from journal.limits import Limits, Timing
from journal.values import NodeId
from tests.simulation.trace import Violation

STEPS_BETWEEN = 32
"""Steps of one server from one look to the next."""

Bound = tuple[str, int, int]
"""What it is, how large it is, how large it may be."""


def check_bounds(node: NodeId, bounds: Iterator[Bound]) -> None:
    """I15: nothing grows beyond the limit that was named for it."""
    for what, size, limit in bounds:
        if size > limit:
            raise Violation("I15", f"{node}: {what} is {size}, and may be {limit}")


def bounds_of(server: Server, limits: Limits) -> Iterator[Bound]:
    """Everything in one server that could grow."""
    leader = server.replica.core._leader
    if leader is not None:
        reads = leader._reads
        yield "reads that wait for a round", len(reads.waiting) + len(reads.in_round), limits.reads_waiting_max
        for progress in leader._in_order:
            yield f"appends on their way to {progress.peer}", len(progress.in_flight), limits.appends_in_flight_max
        # One entry is let in as long as there is room, and carries what one record holds.
        yield "bytes not committed", leader._uncommitted_bytes, limits.uncommitted_bytes_max
    for session in server.machine.sessions.values():
        yield f"replies kept for session {session.id}", len(session.replies), REPLIES_KEPT_MAX
    hub = server.requests.hub
    if hub._history.maxlen is not None:
        yield "events in the history", len(hub._history), hub._history.maxlen
    for connection in server.requests.connections:
        # Reading is stopped at the limit; what had come by then is still taken in.
        yield f"requests of session {connection.session}", len(connection.lane), 2 * REQUESTS_IN_FLIGHT_MAX


def check_owners(node: NodeId, server: Server) -> None:
    """S1: of a server's connections, the one that has a session is the one that hears of its writes, and no other."""
    owners = server.machine.owners
    for connection in server.requests.connections:
        session = connection.session
        if session and session in server.machine.sessions and owners.get(session) is not connection:
            raise Violation("S1", f"{node}: session {session} is served on a connection that does not own it")
    for session, owner in owners.items():
        if isinstance(owner, Endpoint) and (owner.closed or owner.session != session):
            raise Violation("S1", f"{node}: session {session} is owned by a connection that is closed, or another's")


class Stall:
    """OFFICE: a leader whose own disk has stood still for too long with entries to write is no leader any more (R13).

    One for each process; told now and then how things are.
    """

    def __init__(self) -> None:
        self._durable = -1
        self._since: float | None = None
        """When entries were first seen waiting for it; None while none do."""

    def look(self, node: NodeId, leads: bool, durable: int, last: int, timing: Timing, now: float) -> None:
        if not leads or durable != self._durable or durable >= last:
            self._durable, self._since = durable, None
        elif self._since is None:
            # What waits may have come just now, long after the last look: an idle leader takes few steps.
            self._since = now
        # The leader notes once per heartbeat how far the disk should get, and looks once per heartbeat.
        elif now - self._since > 2 * timing.election_timeout + 4 * timing.heartbeat_interval:
            raise Violation(
                "OFFICE", f"{node} still leads, and its disk has been at {durable} of {last} since {self._since:.3f}"
            )


def check_office(node: NodeId, heard_at: list[float], voters: int, timing: Timing, now: float) -> None:
    """OFFICE: a leader that a quorum has not answered for an election timeout is no leader any more.

    `heard_at`: when each of its peers was last heard, as of the time since which the process runs. The leader looks
    at it with each heartbeat, so it may be two of them late.
    """
    needed = voters // 2  # besides itself
    if needed and now - sorted(heard_at, reverse=True)[needed - 1] > (
        timing.election_timeout + 2 * timing.heartbeat_interval
    ):
        raise Violation(
            "OFFICE", f"{node} still leads, and last heard its peers at {sorted(heard_at)}; it is {now:.3f}"
        )
