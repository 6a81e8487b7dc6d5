"""What joins the connections to the replica, where it can be looked at alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jkcs_client.protocol.messages import WatchMode
from jkcs_server.serving.requests import Requests


class Client:
    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None: ...


def test_a_server_that_starts_from_a_snapshot_knows_no_event_before_it() -> None:
    """A watch that goes on from an earlier index must hear that events are missing, and not silence: the history
    is empty after a restart, which is not the same as that nothing has happened."""
    scheduler: Any = SimpleNamespace()
    requests = Requests(
        "n1", scheduler, bytes, history_events=100, timeout_ms_min=1, timeout_ms_max=9, connections_max=1
    )
    requests.machine.applied = 40  # as a snapshot leaves it
    replica: Any = SimpleNamespace(core=SimpleNamespace(idle=False))
    requests.bind(replica, dict, lambda error: None)
    assert not requests.hub.add(Client(), 1, "/k", WatchMode.RECURSIVE, 39)
    assert requests.hub.add(Client(), 1, "/k", WatchMode.RECURSIVE, 40)
