"""What all tests share: the two event loops of the client's tests, and how Hypothesis draws."""

from __future__ import annotations

import os

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


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both event loops that the client supports."""
    backend: str = request.param
    return backend
