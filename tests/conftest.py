"""What all tests share: the two event loops of the client's tests, how Hypothesis draws, and that Ctrl-C counts."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run, so that a red run is red again; no deadline, because a busy machine is
# no defect of ours. JKCS_HYPOTHESIS=explore looks for new examples, as many as fit a longer run.
settings.register_profile(
    "repeat", derandomize=True, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", deadline=None, print_blob=True, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("JKCS_HYPOTHESIS", "repeat"))

# A shell ignores SIGINT for what it starts in the background, and children inherit that: tests of what an interrupt
# does would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both event loops that the client supports."""
    backend: str = request.param
    return backend
