"""The demo's writers must count what was acknowledged, no more and no less."""

from __future__ import annotations

import asyncio

import pytest

from jkcs_client.protocol.errors import BadPath, NoLeader, OutcomeUnknown, SessionExpired
from jkcs_server.cli import demo_load as module
from jkcs_server.cli.demo_load import Load, count_lost
from tests.unit.jkcs_server.cli.fake_client import FakeClient

pytestmark = pytest.mark.asyncio


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client of all writers and readers; a create gives others their turn, as a real one does."""
    client = FakeClient()
    create = client.create

    async def yielding(path: str, value: bytes = b"", parents: bool = False) -> str:
        await asyncio.sleep(0)
        return await create(path, value, parents=parents)

    monkeypatch.setattr(client, "create", yielding)
    monkeypatch.setattr(module, "connect", lambda url: client)
    return client


async def test_every_acknowledged_write_is_remembered_with_its_value(client: FakeClient) -> None:
    """These are what the verdict is about."""
    load = Load("jkcs://h:1", writers=2)
    await load.start()
    await load.wait_for(20, timeout=10)
    await load.stop()
    written = {path: value for path, value in client.values.items() if path.count("/") == 3}
    assert load.acknowledged == written
    assert len(load.times) == len(written)
    assert load.unknown == 0


@pytest.mark.parametrize("error", [OutcomeUnknown(), SessionExpired()])
async def test_write_of_unknown_outcome_is_not_counted(error: Exception, client: FakeClient) -> None:
    """It was not acknowledged: whether it is there proves nothing. Its key is not used again."""
    load = Load("jkcs://h:1", writers=1)
    await load.start()
    await load.wait_for(3, timeout=10)
    client.failures = [error]  # type: ignore[list-item]
    await load.wait_for(len(load.acknowledged) + 3, timeout=10)
    await load.stop()
    assert load.unknown == 1
    missing = {f"/load/w0/{number:07d}" for number in range(len(load.acknowledged) + 1)} - set(load.acknowledged)
    assert len(missing) == 1


async def test_refused_write_is_tried_again(client: FakeClient) -> None:
    """Nothing happened, says a RetryableError; while nobody leads there are many."""
    load = Load("jkcs://h:1", writers=1)
    await load.start()
    client.failures = [NoLeader(), NoLeader()]
    await load.wait_for(3, timeout=10)
    await load.stop()
    assert set(load.acknowledged) == {f"/load/w0/{number:07d}" for number in range(len(load.acknowledged))}


async def test_error_that_must_not_happen_ends_the_load(client: FakeClient) -> None:
    """A writer that died silently would make the load look lighter than it was."""
    load = Load("jkcs://h:1", writers=1)
    await load.start()
    client.failures = [BadPath("what?")]
    with pytest.raises(BadPath):
        await load.wait_for(10**9, timeout=10)
    with pytest.raises(BadPath):
        await load.stop()


async def test_longest_gap_counts_from_the_start_and_to_the_end() -> None:
    """A load that stops being answered has a gap, though no acknowledgement ends it."""
    load = Load("jkcs://h:1")
    load.began, load.times, load.ended = 10.0, [10.5, 10.6], 10.7
    assert load.longest_gap == pytest.approx(0.5)
    load.ended = 12.6
    assert load.longest_gap == pytest.approx(2.0)


async def test_missing_and_changed_keys_are_lost(client: FakeClient) -> None:
    """A wrong value is a lost write, too."""
    expected = {f"/k/{number}": b"right" for number in range(300)}
    for path, value in expected.items():
        client.put(path, value)
    steps: list[int] = []
    assert await count_lost("jkcs://h:1", expected, "linearizable", steps.append) == 0
    assert steps == [100, 200, 300]
    del client.values["/k/7"]
    client.values["/k/8"] = b"wrong"
    client.reads.clear()
    assert await count_lost("jkcs://h:1", expected, "local") == 2
    assert {read for _, read in client.reads} == {"local"}
