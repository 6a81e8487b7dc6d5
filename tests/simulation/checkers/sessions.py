"""Sessions as their clients know them, against what the log does to them (S2).

A client must know that its session is lost before the cluster gives its keys and locks away. Paused and
crashed clients cannot know anything; fencing guards against the former.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.loop import Process
from tests.simulation.trace import Violation

BURST_SECONDS = 0.001
"""How long a resumed process may take to run the timers that came due."""


@dataclass(slots=True)
class _Holder:
    process: Process
    is_lost: Callable[[], bool]
    """Whether the client has already told its callers that the session is lost or closed."""


class SessionChecker:
    """Who believes in which session."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._holders: dict[int, _Holder] = {}
        self.ended: dict[int, float] = {}
        """Session -> when its end was first applied anywhere."""

    def on_session(self, session: int, process: Process, is_lost: Callable[[], bool]) -> None:
        """A client has got a session."""
        self._holders[session] = _Holder(process, is_lost)

    def on_session_ended(self, session: int, *, expired: bool) -> None:
        """The end of a session is applied for the first time."""
        self.ended[session] = self._clock()
        holder = self._holders.get(session)
        if holder is None or not expired:
            return
        process = holder.process
        stands_still = process.dead or process.paused or self._clock() - process.resumed_at < BURST_SECONDS
        if not stands_still and not holder.is_lost():
            raise Violation("S2", f"session {session} expired while its client {process.name} still believes in it")

    def is_live(self, session: int) -> bool:
        return session not in self.ended
