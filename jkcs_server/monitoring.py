"""Everything one server tells of itself for monitoring: the answer to the ADMIN request `server_status`.

Only looks: at the replica and what hangs on it, never changing anything. Times are seconds before now, or from now on.
Called by `server.py`.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable
from typing import Any, Protocol

from journal.cluster import phase
from journal.replica import Replica

_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


class Space(Protocol):
    """What is looked at of the disk."""

    def names(self) -> list[str]: ...

    def size(self, name: str) -> int: ...

    def free_bytes(self) -> int: ...

    def total_bytes(self) -> int: ...


class Monitoring:
    """The looking glass over one server."""

    def __init__(
        self, replica: Replica, disk: Space, data_dir: str, election_timeout: float, now: Callable[[], float]
    ) -> None:
        self._replica = replica
        self._disk = disk
        self._data_dir = data_dir
        self._election_timeout = election_timeout
        self._now = now

    def report(self) -> dict[str, Any]:
        """See docs/reference/protocol.md for what each field means."""
        replica = self._replica
        core = replica.core
        return {
            "state": self._state(),
            "role": core.role.value,
            "leader": core.leader,
            "term": core.term,
            "vote": core.vote,
            "withheld_index": core.withheld,
            "diverged_index": core.divergence or 0,
            "able": core.able,
            "write_enabled": replica.leadership.serving and core.vitals().transferring_to is None,
            "preferred_leader": core.configuration.preferred,
            "configuration": self._configuration(),
            "journal": self._journal(),
            "disk": self.disk_space(),
            "election": self._election(),
            "queues": self._queues(),
            "followers": self._followers(),
            "memory": self._memory(),
        }

    def _state(self) -> str:
        if self._replica.failed is not None:
            return "failed"
        return "stopped" if self._replica.stopped else "running"

    def _configuration(self) -> dict[str, Any]:
        core = self._replica.core
        members = core.configuration
        return {
            "index": core.configuration_index,
            "phase": phase(members, committed=core.configuration_index <= core.commit),
            "joint": bool(members.outgoing),
            "voters": list(members.voters),
            "old_voters": list(members.outgoing),
            "target": list(members.target),
            "learners": list(members.learners),
            "observers": list(members.observers),
        }

    def _journal(self) -> dict[str, Any]:
        replica, core = self._replica, self._replica.core
        return {
            "min_index": replica.store.start.index + 1,
            "max_index": core.last_index,
            "flushed_index": core.durable,
            "commit_index": core.commit,
            "applied_index": replica.applied,
            "snapshot_index": replica.snapshots.newest,
            "bytes_since_snapshot": replica.snapshots.log_bytes,
        }

    def disk_space(self) -> dict[str, Any]:
        """How full the data directory's disk is, and with what."""
        disk = self._disk
        sizes: dict[str, int] = {}
        for name in disk.names():
            with contextlib.suppress(FileNotFoundError):  # another thread may just have removed it
                sizes[name] = disk.size(name)
        return {
            "path": self._data_dir,
            "total_bytes": disk.total_bytes(),
            "free_bytes": disk.free_bytes(),
            "log_bytes": sum(size for name, size in sizes.items() if name.startswith("log")),
            "snapshot_bytes": sum(size for name, size in sizes.items() if name.startswith("snap")),
            "used_bytes": sum(sizes.values()),
        }

    def _election(self) -> dict[str, Any]:
        vitals = self._replica.core.vitals()
        return {
            "timeout_s": self._election_timeout,
            "next_in_s": self._from_now(vitals.next_election_at),
            "last_heartbeat_s": self._ago(vitals.heard_at),
            "last_heartbeat_sent_s": self._ago(vitals.heartbeat_sent_at),
            "transferring_to": vitals.transferring_to,
        }

    def _queues(self) -> dict[str, Any]:
        commands, size = self._replica.queued
        return {
            "commands": commands,
            "command_bytes": size,
            "unsaved_entries": self._replica.core.last_index - self._replica.core.durable,
            "unapplied_entries": self._replica.core.commit - self._replica.applied,
            "uncommitted_bytes": self._replica.core.vitals().uncommitted_bytes,
        }

    def _followers(self) -> list[dict[str, Any]]:
        vitals = self._replica.core.vitals()
        return [
            {
                "node": peer.peer,
                "state": peer.state.value,
                "match_index": peer.match,
                "next_index": peer.next,
                "in_flight": peer.in_flight,
                "in_flight_from": peer.in_flight_from,
                "last_heartbeat_sent_s": self._ago(vitals.heartbeat_sent_at),
                "last_answer_s": self._ago(peer.heard_at),
            }
            for peer in self._replica.core.progress()
        ]

    def _memory(self) -> dict[str, Any]:
        return {
            "log_bytes": self._replica.core.vitals().log_memory_bytes,
            "process_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT,
        }

    def _ago(self, moment: float | None) -> float | None:
        return None if moment is None else round(max(0.0, self._now() - moment), 3)

    def _from_now(self, moment: float | None) -> float | None:
        return None if moment is None else round(max(0.0, moment - self._now()), 3)
