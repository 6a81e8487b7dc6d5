"""The seam to time: what a driver needs of an event loop, and nothing else.

An asyncio loop satisfies it as it is; the simulator brings a loop whose time is virtual. Rules never
see it: they are given `now` as an argument. `wall` is asked only by a leader that stamps an entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Handle(Protocol):
    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """The part of `asyncio.AbstractEventLoop` that the drivers use."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_soon(self, callback: Callable[..., Any], *args: Any) -> Handle: ...

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Handle: ...


def wall_milliseconds() -> int:
    """The wall clock, in milliseconds since 1970. May jump; whoever stamps with it must not let stamps go back."""
    return time.time_ns() // 1_000_000
