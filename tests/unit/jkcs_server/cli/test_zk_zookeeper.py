"""ZooKeeper's side of a copy, as far as it needs no ZooKeeper."""

from __future__ import annotations

import pytest
from kazoo import exceptions

from jkcs_server.cli.zk_copy import StepRefused
from jkcs_server.cli.zk_zookeeper import ZooKeeperSide, _refused
from jkcs_server.copying import CONTAINER, SEQUENCE_STEPS_MAX, Action, Seen, Step


@pytest.mark.asyncio
async def test_a_sequence_too_far_behind_is_refused() -> None:
    """Each number is a key created and deleted: nobody waits for ten million of them by surprise."""
    side = ZooKeeperSide("127.0.0.1:1", [], acls=True, timeout=1.0)
    wanted, found = Seen(b"", (), None, creations=SEQUENCE_STEPS_MAX + 2), Seen(b"", (), None, creations=1)
    with pytest.raises(StepRefused, match="it is 1000001 behind, and ZooKeeper's is raised by 1000000 at most"):
        await side.raise_sequence("/a", wanted, found)


def test_a_zookeeper_that_takes_no_ttls_says_how_it_would() -> None:
    """It is off unless somebody turned it on, and kazoo knows but the name of the refusal."""
    refused = _refused(Step(Action.CREATE, "/a", ttl_ms=5000), exceptions.UnimplementedError())
    assert "zookeeper.extendedTypesEnabled" in str(refused) and not refused.done_already
    assert (
        str(_refused(Step(Action.CREATE, "/a", ttl_ms=CONTAINER), exceptions.UnimplementedError())) == "Unimplemented"
    )
