"""What all connections of one server share, where no cluster is needed to see it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from jkcs_client.protocol.framing import pack
from jkcs_client.protocol.messages import WatchMode
from jkcs_server.serving.requests import NOTE_TURNS, Requests
from journal.clock import Scheduler
from journal.replica import Replica


class Watcher:
    """A connection that is told of nothing."""

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None:
        raise AssertionError((watch_id, kind, path, index))


def requests_on(replica: Any, applied: int) -> Requests:
    """The requests of a server whose tree came out of a snapshot at `applied`."""
    requests = Requests(
        "n1",
        cast("Scheduler", None),
        bytes,
        history_events=10,
        timeout_ms_min=1,
        timeout_ms_max=1,
        connections_max=1,
    )
    requests.machine.applied = applied
    requests.bind(cast("Replica", replica), dict, lambda error: None)
    return requests


def test_a_server_that_starts_from_a_snapshot_has_no_history_before_it() -> None:
    """A watch that follows on from an older index would miss events without a word: the answer must be COMPACTED."""
    requests = requests_on(SimpleNamespace(core=SimpleNamespace(idle=False)), applied=338)
    assert not requests.hub.add(Watcher(), 1, "/", WatchMode.RECURSIVE, 310)
    assert requests.hub.add(Watcher(), 1, "/", WatchMode.RECURSIVE, 338)


def test_a_session_is_not_kept_alive_by_rounds_that_never_end() -> None:
    """A node whose disk hangs begins its round again and again: a session that was heard of once must not be in
    all of them, or what a dead client held would never be free again."""
    requests = requests_on(SimpleNamespace(core=SimpleNamespace(idle=False)), applied=0)
    requests.touch(194)
    assert requests.on_read_start() == pack([194])
    requests.turn += NOTE_TURNS
    assert requests.on_read_start() == pack([194])
    requests.turn += 1
    assert requests.on_read_start() == b""
    requests.touch(194)
    assert requests.on_read_start() == pack([194])
