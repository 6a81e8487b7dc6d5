"""An event loop in a thread of its own, for the main thread to hand work to.

The main thread starts and stops processes and waits (see `jkcs_server.cli.parent`: a child ends with the thread
that started it); meanwhile the proxies must move bytes and the writers must write. Knows nothing of either.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from jkcs_server.node import new_event_loop

T = TypeVar("T")
CALL_TIMEOUT = 60.0
"""Seconds; whatever is called must be done by then, or the harness itself is broken."""


class Background:
    """A running event loop; a context manager that ends it."""

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="background", daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def call(self, work: Coroutine[Any, Any, T], timeout: float = CALL_TIMEOUT) -> T:
        """Run a coroutine there and wait for its result, or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    async def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
