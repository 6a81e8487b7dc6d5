"""What a core tells of itself for monitoring, beside what its driver needs: a value, taken at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from journal.values import NodeId


@dataclass(frozen=True, slots=True)
class Vitals:
    """Times are those of the clock that the core is told the time by."""

    next_election_at: float | None
    """When an election may begin if nobody is heard until then; None on a leader and without a vote."""
    heard_at: float | None
    """When the leader was last heard; None where nobody leads, and on the leader itself."""
    heartbeat_sent_at: float | None
    """The leader's last round of heartbeats; None on others."""
    uncommitted_bytes: int
    """Payloads that a leader has appended and not committed."""
    transferring_to: NodeId | None
    """Whom the leader is handing over to: it takes no proposals meanwhile."""
    log_memory_bytes: int
    """Records held in memory."""
