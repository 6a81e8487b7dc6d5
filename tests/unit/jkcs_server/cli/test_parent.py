"""Children that do not outlive their parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CHILD = "import os, signal; from jkcs_server.cli.parent import end_with_parent; end_with_parent({parent}); "
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}.format(parent=os.getpid())], stdout=sys.stdout)
print("parent", flush=True)
child.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
def test_child_ends_when_its_parent_is_killed() -> None:
    """A killed demo must not leave servers behind. The pipe ends when the last process that holds it does."""
    child = CHILD + "print('child', flush=True); signal.pause()"
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(child=child)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert sorted(parent.stdout.readline() for _ in range(2)) == ["child\n", "parent\n"]
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
def test_child_whose_parent_ended_before_it_asked_ends_itself() -> None:
    """Between fork and the child's request the parent may be killed; the signal would never come."""
    other = os.getppid()  # not the parent of the process below
    code = CHILD.format(parent=other) + "print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-9, b"")
