"""What processes use, as Linux tells it in /proc: processor time and memory; and what a stretch of time has cost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from jkcs_server.bench.figures import Figures


class NoSuchProcess(Exception):
    """The process has ended, or this system has no /proc."""


class Stretch:
    """What it cost to measure for a while: time, and processor time of the servers and of this process."""

    def __init__(self, pids: Sequence[int | None]) -> None:
        """It begins now. With None among the servers' `pids` their time is not known. Raises NoSuchProcess."""
        self._pids = [pid for pid in pids if pid is not None]
        self._known = len(self._pids) == len(pids)
        self._began, self._own, self._servers = time.perf_counter(), time.process_time(), cpu_seconds(self._pids)

    @property
    def seconds(self) -> float:
        """Until now."""
        return time.perf_counter() - self._began

    def figures(self, done: int) -> Figures:
        """For so many operations done in it, which ends now. Raises NoSuchProcess."""
        seconds, own = self.seconds, time.process_time() - self._own
        servers = cpu_seconds(self._pids) - self._servers
        per_op = 1e6 * servers / done if self._known and done else None
        return Figures(done / seconds, server_us_per_op=per_op, load_percent=100 * own / seconds)


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes together, all threads. Raises NoSuchProcess."""
    ticks = 0
    for pid in pids:
        text = _read(pid, "stat")
        # The name of the program stands in parentheses and may contain anything, also parentheses and spaces.
        fields = text[text.rindex(")") + 2 :].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """What of the process's memory is in RAM. Raises NoSuchProcess."""
    return int(_read(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise NoSuchProcess(f"cannot read /proc/{pid}/{name}: {error.strerror}") from None
