"""Sessions as their clients know them, against what the log does to them (S2-S5, M5).

A client must know that its session is lost before the cluster gives its keys and locks away. Paused and
crashed clients cannot know anything; fencing guards against the former. A session that nobody keeps alive must
end, or whatever its client held is held for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from tests.simulation.loop import Process
from tests.simulation.trace import Violation

BURST_SECONDS = 0.001
"""How long a resumed process may take to run the timers that came due."""
EXPIRY_SECONDS_MAX = 3.0
"""How much longer than its timeout a session may outlive its client when all is well: the leader looks around every
quarter of a second, the last ping may have been on its way, and there may be one election."""


@dataclass(slots=True)
class _Holder:
    process: Process
    is_lost: Callable[[], bool]
    """Whether the client has already told its callers that the session is lost or closed."""
    timeout: float
    died_at: float = inf
    """When the process was killed."""
    held_lock: bool = False
    """It was killed while it held a lock, for which others wait."""


@dataclass(frozen=True, slots=True)
class End:
    """How a session ended."""

    time: float
    """When the end was first applied anywhere."""
    index: int
    expired: bool


class SessionChecker:
    """Who believes in which session."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._holders: dict[int, _Holder] = {}
        self.ended: dict[int, End] = {}

    def on_session(self, session: int, process: Process, is_lost: Callable[[], bool], timeout: float = 0.0) -> None:
        """A client has got a session, which nobody else may have (S5)."""
        other = self._holders.get(session)
        if other is not None and other.process is not process:
            raise Violation("S5", f"session {session} of {other.process.name} was given to {process.name} too")
        self._holders[session] = _Holder(process, is_lost, timeout)

    def on_killed(self, process: Process, *, held_lock: bool = False) -> None:
        """A client's process is gone; nobody will keep its sessions alive."""
        for holder in self._holders.values():
            if holder.process is process:
                holder.died_at = min(holder.died_at, self._clock())
                holder.held_lock |= held_lock

    def check_same(self, before: int, now: int, who: str) -> None:
        """A client keeps its session until it is told that it is lost (S5)."""
        if now != before:
            raise Violation("S5", f"{who} had session {before} and goes on with {now} without a word")

    def on_session_ended(self, session: int, index: int, *, expired: bool) -> None:
        """The end of a session is applied for the first time."""
        self.ended[session] = End(self._clock(), index, expired)
        holder = self._holders.get(session)
        if holder is None or not expired:
            return
        process = holder.process
        stands_still = process.dead or process.paused or self._clock() - process.resumed_at < BURST_SECONDS
        if not stands_still and not holder.is_lost():
            raise Violation("S2", f"session {session} expired while its client {process.name} still believes in it")

    def check_ends(self, calm_since: float) -> None:
        """When all is over: no session of a dead client lasted longer than its timeout allows (S3), and with it no
        lock that it held (M5).

        Of the time before `calm_since` nothing is asked: without a leader nobody expires anything.
        """
        for session, holder in self._holders.items():
            if holder.died_at == inf:
                continue
            end = self.ended.get(session)
            lasted = (end.time if end is not None else self._clock()) - max(holder.died_at, calm_since)
            if lasted > holder.timeout + EXPIRY_SECONDS_MAX:
                who = f"session {session} of {holder.process.name}"
                raise Violation(
                    "M5" if holder.held_lock else "S3",
                    f"{who}, with {holder.timeout:g} s, outlived its client by {lasted:.1f} s",
                )

    def end_of(self, session: int) -> int | None:
        """The index at which a session ended, if it has."""
        end = self.ended.get(session)
        return None if end is None else end.index

    def is_live(self, session: int) -> bool:
        return session not in self.ended
