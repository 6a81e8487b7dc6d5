"""A process that wants a lock: one contender of the demo, and the demo's end of it.

The child (`python -m jkcs_server.cli.demo_worker URL PATH NAME TIMEOUT PARENT_PID`) takes the lock, says so,
and holds it until it is killed or told to end. What it says is JSON, one object a line, on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from jkcs_server.cli.parent import end_with_parent
from jkcs_server.cli.processes import ProcessFailed

MODULE = "jkcs_server.cli.demo_worker"
REPORTS_MAX = 100
END_TIMEOUT = 5.0


class Contender:
    """The demo's end: start, listen, kill. Blocking; to be started in the main thread (see `parent.py`)."""

    def __init__(self, url: str, path: str, name: str, session_timeout: float) -> None:
        self.name = name
        command = [sys.executable, "-m", MODULE, url, path, name, str(session_timeout), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._reports: queue.Queue[dict[str, Any] | None] = queue.Queue(REPORTS_MAX)
        threading.Thread(target=self._listen, name=f"listen-{name}", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._reports.put(json.loads(line))
        self._reports.put(None)

    def wait_for(self, event: str, timeout: float) -> dict[str, Any]:
        """The report of that event. Raises ProcessFailed when the process ends or is silent instead."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                report = self._reports.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ProcessFailed(f"{self.name} did not report {event!r} within {timeout:g} s") from None
            if report is None:
                raise ProcessFailed(f"{self.name} ended before it reported {event!r}: {self._last_words()}")
            if report["event"] == event:
                return report

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def kill(self) -> None:
        """`kill -9`, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Have it release the lock and end; kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()


def report(event: str, **details: Any) -> None:
    """One line to the demo."""
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


async def contend(url: str, path: str, name: str, session_timeout: float) -> None:
    """Take the lock and hold it."""
    from jkcs_client import connect
    from jkcs_client.recipes import Lock

    async with connect(url, session_timeout=session_timeout) as client:
        report("waiting")
        async with Lock(client, path, name=name) as held:
            report("held", token=held.token)
            await asyncio.Event().wait()


def main(arguments: list[str]) -> None:
    """The child's life."""
    url, path, name, session_timeout, parent_pid = arguments
    end_with_parent(int(parent_pid))

    async def until_told() -> None:
        task = asyncio.ensure_future(contend(url, path, name, float(session_timeout)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()

    asyncio.run(until_told())


if __name__ == "__main__":
    main(sys.argv[1:])
