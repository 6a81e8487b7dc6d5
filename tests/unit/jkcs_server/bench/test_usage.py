"""Processor time and memory as /proc tells them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jkcs_server.bench.usage import NoSuchProcess, Stretch, cpu_seconds, resident_bytes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")


def test_processor_time_is_that_of_the_process() -> None:
    """Compared with what the process itself is told by the kernel."""
    before = cpu_seconds([os.getpid()])
    times = os.times()
    after = cpu_seconds([os.getpid()])
    assert before - 0.05 <= times.user + times.system <= after + 0.05
    assert cpu_seconds([]) == 0


def test_memory_grows_with_what_is_used() -> None:
    """In bytes, not in pages."""
    before = resident_bytes(os.getpid())
    held = bytearray(os.urandom(1 << 16) * 512)
    assert resident_bytes(os.getpid()) - before > len(held) // 2


def test_a_process_that_is_gone_is_named() -> None:
    """A server that died during a cell fails the cell with a reason."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(NoSuchProcess, match=str(child.pid)):
        cpu_seconds([child.pid])
    with pytest.raises(NoSuchProcess, match=str(child.pid)):
        resident_bytes(child.pid)


def test_a_stretch_has_its_rate_and_its_cost() -> None:
    """Without every server's process its cost is unknown, not smaller."""
    whole, part = Stretch([os.getpid()]), Stretch([os.getpid(), None])
    while whole.seconds < 0.05:
        pass
    figures = whole.figures(100)
    assert figures.ops_per_second is not None and 0 < figures.ops_per_second <= 2000
    assert figures.server_us_per_op is not None and figures.load_percent is not None and figures.load_percent > 0
    assert part.figures(100).server_us_per_op is None
    assert whole.figures(0).server_us_per_op is None
