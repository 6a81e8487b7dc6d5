"""A signal between tasks of one event loop that can be waited for again and again.

Knows nothing of what it means. Used by `session` for its writer and by `watching` for its reader.
"""

from __future__ import annotations

import anyio


class Bell:
    """For one waiter, who looks whether there is anything to do, and waits only if there is not.

    No ring is lost as long as nothing is awaited between the look and `wait`.
    """

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the waiter, if there is one."""
        self._rung.set()

    async def wait(self) -> None:
        """Wait for the next ring; earlier ones do not count."""
        self._rung = anyio.Event()
        await self._rung.wait()
