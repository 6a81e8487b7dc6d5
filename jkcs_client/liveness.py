"""How long the client may believe in its session, when it pings, and when a connection has been silent too long.

Plain arithmetic on times that are passed in; seconds of one monotonic clock. The rule that matters: the
server lets a session live for its timeout from when it heard of it, which is never before the client sent
the ping. So the client counts from the sending of the last ping that was acknowledged, and gives up a tenth
of the timeout earlier, for clocks that run at different speeds: it knows that its session is lost before
the server may give its locks to somebody else.

A server that owes an answer and says nothing is asked for a sign of life, and given up when none comes either: it may
be paused or cut off, while the others go on. A server that only waits for its disk answers the ping.
"""

from __future__ import annotations

from math import inf

BELIEF = 0.9
"""The part of the session timeout during which an acknowledged ping proves that the session lives."""
INTERVALS = 3
"""Pings in one session timeout; a connection that answers nothing for as long as one interval is given up, ..."""
SILENCE_MAX = 1.2
"""... or for so many seconds, if that is shorter. No shorter than an election takes with the default settings: then the
cluster, not this server, is what everybody waits for."""
SESSIONLESS_TIMEOUT = 10.0
"""Stands for the session timeout where there is no session, to find silent connections."""


class Liveness:
    """The clock of one client."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        """The session timeout: as asked for, then as the server has set it. 0: there is no session."""
        self.acknowledged_at = inf
        """When the last acknowledged ping was sent; inf before there is a session. Never moves back."""
        self._pinged_at = -inf
        self._waiting_since = inf
        """Since when the server owes an answer and has sent nothing; inf when it owes none."""

    @property
    def interval(self) -> float:
        """Seconds between pings."""
        return (self.timeout or SESSIONLESS_TIMEOUT) / INTERVALS

    @property
    def patience(self) -> float:
        """Seconds of tolerated silence."""
        return min(self.interval, SILENCE_MAX)

    @property
    def lost_at(self) -> float:
        """From this moment on the session counts as lost."""
        return self.acknowledged_at + BELIEF * self.timeout

    def on_opened(self, asked_at: float, timeout: float) -> None:
        """A session was created, some time after it was asked for."""
        self.timeout = timeout
        if timeout:
            self.acknowledged_at = asked_at

    def on_attached(self) -> None:
        """There is a connection: what an earlier one owed is void, and a ping is due."""
        self._pinged_at = -inf
        self._waiting_since = inf

    def on_sent(self, now: float) -> None:
        """A request was sent that will be answered."""
        if self._waiting_since == inf:
            self._waiting_since = now

    def on_pinged(self, now: float) -> None:
        """A ping was queued; the next is due an interval later."""
        self._pinged_at = now

    def on_received(self, now: float, unanswered: int) -> None:
        """Something came; so many requests are still to be answered."""
        self._waiting_since = now if unanswered else inf

    def on_acknowledged(self, sent_at: float) -> None:
        """The ping that was sent then was answered."""
        if self.timeout:
            self.acknowledged_at = max(self.acknowledged_at, sent_at)

    @property
    def ping_at(self) -> float:
        """When the next ping is due: an interval after the last one, or halfway to giving the connection up."""
        regular = self._pinged_at + self.interval
        if self._pinged_at < self._waiting_since:
            return min(regular, self._waiting_since + self.patience / 2)
        return regular

    @property
    def silent_at(self) -> float:
        """When the connection is given up, unless something comes."""
        return self._waiting_since + self.patience
