"""Mounts that nobody else sees, and that vanish with this process, even if it is killed.

Needs Linux and root. Called once by `__main__.py`, before there is any other thread: a namespace belongs to a thread
and is inherited by those it starts.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import threading

_CLONE_NEWNS = 0x00020000


def own_mounts() -> bool:
    """Give this process mounts of its own. False where that is not possible."""
    assert threading.active_count() == 1, threading.enumerate()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return False
    made = subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True)
    return made.returncode == 0 and _can_mount()


def _can_mount() -> bool:
    """Whether a memory file system can be mounted; tried, because a sandbox may forbid it to root as well."""
    with tempfile.TemporaryDirectory(prefix="jkcs-chaos-") as scratch:
        probe = ["mount", "-t", "tmpfs", "-o", "size=1m", "jkcs-chaos", scratch]
        if subprocess.run(probe, check=False, capture_output=True).returncode != 0:
            return False
        subprocess.run(["umount", scratch], check=False, capture_output=True)
        return True
