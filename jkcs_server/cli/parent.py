"""The tie between a process and the one that started it: a child that does not outlive its parent.

Called first thing by processes that `processes.py` starts; they ask for it themselves, because code that
runs between fork and exec in a parent with threads may deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends, even by `kill -9`. Linux only; elsewhere nothing.

    The kernel means the thread that started this process: the parent starts its children from its main thread.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        return  # a sandbox may forbid it; the parent's own clean-up is then all there is
    if os.getppid() != parent_pid:
        # 1. the parent ended, 2. then we asked to be told about that: the signal will never come.
        os.kill(os.getpid(), signal.SIGKILL)
