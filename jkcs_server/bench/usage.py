"""What processes use, as Linux tells it in /proc: processor time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class NoSuchProcess(Exception):
    """The process has ended, or this system has no /proc."""


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
