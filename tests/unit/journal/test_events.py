"""A reader of events gets every one in order, or is told that it does not."""

from __future__ import annotations

import asyncio

import pytest

from journal.errors import EventsLost
from journal.events import EVENTS_QUEUED_MAX, EventStream, MachineEvent

pytestmark = pytest.mark.asyncio


async def test_events_are_read_in_the_order_in_which_they_happened() -> None:
    stream = EventStream()
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    stream.push(MachineEvent(1, b"a"))
    stream.push(MachineEvent(2, b"b"))
    assert [await reading, await anext(stream)] == [MachineEvent(1, b"a"), MachineEvent(2, b"b")]


async def test_a_closed_stream_ends_behind_what_waits_in_it() -> None:
    stream = EventStream()
    stream.push(MachineEvent(1, b"a"))
    stream.close()
    stream.push(MachineEvent(2, b"late"))
    assert [event async for event in stream] == [MachineEvent(1, b"a")]


async def test_a_reader_that_waits_is_woken_by_the_end() -> None:
    stream = EventStream()
    reading = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    stream.close()
    assert await reading is None


async def test_a_reader_that_is_too_slow_is_told_so() -> None:
    """Silence would leave it with a wrong picture for ever."""
    stream = EventStream()
    for index in range(EVENTS_QUEUED_MAX + 1):
        stream.push(MachineEvent(index, b""))
    with pytest.raises(EventsLost):
        await anext(stream)
    assert stream.closed
