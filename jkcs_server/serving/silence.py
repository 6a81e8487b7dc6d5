"""Which sessions the cluster has not heard from: the leader's list of expiries to propose.

Only a leader that serves keeps it. A new leader knows nothing of what its predecessor heard, so every
session gets its full timeout anew from the moment this node began to serve (RELIABILITY 52). Time comes in
as an argument; what is due is proposed as a log entry by the caller, and ends the session when it is applied.

A session whose expiry was proposed is doomed: hearing from it no longer helps. Whoever brings such a touch
is told the expiry's index, must wait for it to be applied, and then finds the session gone; a touch is
therefore never confirmed for a session that then expires.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush


class Silence:
    """Deadlines of all sessions, on one leader in one term."""

    def __init__(self, timeouts: dict[int, float], now: float) -> None:
        """`timeouts`: seconds, by session id."""
        self._timeouts = timeouts
        self._deadlines = {session: now + timeout for session, timeout in timeouts.items()}
        self._heap = [(deadline, session) for session, deadline in self._deadlines.items()]
        heapify(self._heap)
        self._doomed: dict[int, int] = {}
        """Session -> index of its proposed expiry."""

    def opened(self, session: int, timeout: float, now: float) -> None:
        self._timeouts[session] = timeout
        self._deadlines[session] = now + timeout
        heappush(self._heap, (now + timeout, session))

    def ended(self, session: int) -> None:
        self._timeouts.pop(session, None)
        self._deadlines.pop(session, None)
        self._doomed.pop(session, None)

    def heard(self, session: int, now: float) -> int:
        """The session's node asks for it. Returns the index that must be applied before it may be told so."""
        doomed = self._doomed.get(session)
        if doomed is not None:
            return doomed
        if session in self._deadlines:
            # The heap keeps the old deadline; it is corrected when it comes up.
            self._deadlines[session] = now + self._timeouts[session]
        return 0

    def due(self, now: float) -> list[int]:
        """Sessions whose deadline has passed and whose expiry was not proposed yet, longest silent first."""
        found: list[int] = []
        heap, deadlines = self._heap, self._deadlines
        while heap and heap[0][0] <= now:
            _, session = heappop(heap)
            deadline = deadlines.get(session)
            if deadline is None or session in self._doomed:
                continue
            if deadline > now:
                heappush(heap, (deadline, session))
            else:
                found.append(session)
        return found

    def doom(self, session: int, index: int) -> None:
        """The expiry of a due session was proposed at `index`."""
        self._doomed[session] = index

    def retry(self, session: int, now: float) -> None:
        """The expiry of a due session could not be proposed: it stays due."""
        heappush(self._heap, (now, session))
