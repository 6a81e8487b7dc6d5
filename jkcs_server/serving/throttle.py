"""When a server stops reading from a client: too much of what it sent waits, as requests or as bytes.

Shared by the connections of all protocols. It is told of what came and of what is left to be answered; how much of the
bytes the answered requests were is not known, so they are forgotten when nothing waits any more.
"""

from __future__ import annotations

from jkcs_client.protocol.messages import FRAME_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX
from jkcs_server.serving.connection import Sink

HELD_BYTES_MAX = 2 * FRAME_BYTES_MAX
"""A client may have sent so much since the last time when none of its requests waited. One frame is within it."""


class Throttle:
    """One client's."""

    __slots__ = ("_held", "_sink", "holds", "paused")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._held = 0
        self.holds = False
        """It wants to be told of what `gave`: asked after each answer, most of which were never waited for."""
        self.paused = False
        """Nothing is read from the client."""

    def took(self, size: int, waiting: int, *, overloaded: bool) -> None:
        """So many bytes came, and now so many requests wait, at least one."""
        self._held += size
        self.holds = True
        if waiting > REQUESTS_IN_FLIGHT_MAX or overloaded or self._held > HELD_BYTES_MAX:
            self.pause()

    def gave(self, waiting: int) -> None:
        """Answers have left, and so many requests still wait."""
        if not waiting:
            self._held = 0
            self.holds = False
        if self.paused and self._held <= HELD_BYTES_MAX and waiting <= REQUESTS_IN_FLIGHT_MAX // 2:
            self.paused = False
            self._sink.resume()

    def pause(self) -> None:
        if not self.paused:
            self.paused = self.holds = True
            self._sink.pause()
