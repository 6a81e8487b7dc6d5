"""The recipes' tests run in virtual time, on both event loops."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_time.backend(request.param)
