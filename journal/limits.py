"""Every bound of the journal in one place, with the relations between them checked at the start."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
MAY_BE_ZERO = ("scrub_bytes_per_second",)
"""Limits whose 0 means: not at all."""
VOTERS_MAX = 9
"""Voters in one cluster. More only make every write slower."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes unless the name says otherwise."""

    record_bytes_max: int = 8 * MIB
    """The payload of one entry. A command larger than this can never be proposed."""
    append_bytes_max: int = 1 * MIB
    """Entries in one append message; a single larger entry still travels alone."""
    appends_in_flight_max: int = 4
    """Append messages a peer may leave unanswered."""
    uncommitted_bytes_max: int = 64 * MIB
    """What a leader holds that is not committed; beyond it proposals are refused as busy."""
    apply_bytes_max: int = 4 * MIB
    """Committed entries handed to the machine in one pass."""
    log_memory_bytes_max: int = 16 * MIB
    """Applied entries that stay in memory for peers that are a little behind."""
    segment_bytes: int = 64 * MIB
    """A log segment is reserved at this size before it is written."""
    snapshot_entries: int = 200_000
    """A snapshot is due after this many indices since the last one ..."""
    snapshot_log_bytes: int = 256 * MIB
    """... or after this much log ..."""
    snapshot_seconds: int = 3600
    """... or after this time, when anything was applied since."""
    snapshots_kept: int = 2
    """Valid snapshots that are never deleted; the log is kept from the oldest of them on (R10)."""
    scrub_bytes_per_second: int = 1 * MIB
    """How fast cold segments and snapshots are read again for rot; 0 turns it off."""
    snapshot_chunk_bytes: int = 256 * 1024
    snapshot_chunks_in_flight_max: int = 4
    reads_waiting_max: int = 65_536
    """Linearizable reads a leader lets wait for its next heartbeat round; beyond it the newest are turned away."""
    peer_frame_bytes_max: int = 32 * MIB
    peer_queue_bytes_max: int = 64 * MIB
    """Bytes waiting to be sent to one peer; beyond it messages are dropped, as a network may."""
    proposals_bytes_max: int = 64 * MIB
    """Commands waiting on this node for a leader; beyond it clients are held back."""

    def check(self) -> None:
        """Raise ValueError naming the first relation that does not hold."""
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0 and not (name in MAY_BE_ZERO and getattr(self, name) == 0):
                raise ValueError(f"{name} must be positive")
        relations = (
            ("record_bytes_max * 2 <= segment_bytes", self.record_bytes_max * 2 <= self.segment_bytes),
            ("record_bytes_max * 2 <= peer_frame_bytes_max", self.record_bytes_max * 2 <= self.peer_frame_bytes_max),
            ("append_bytes_max <= record_bytes_max", self.append_bytes_max <= self.record_bytes_max),
            ("record_bytes_max <= uncommitted_bytes_max", self.record_bytes_max <= self.uncommitted_bytes_max),
            ("snapshots_kept >= 2", self.snapshots_kept >= 2),
        )
        for text, holds in relations:
            if not holds:
                raise ValueError(f"limits: {text} does not hold")


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations in seconds."""

    heartbeat_interval: float = 0.1
    election_timeout: float = 0.6
    """A follower that hears nothing waits this long, and up to twice as long, before it campaigns."""
    reset_timeout: float = 0.02
    """The same when the leader's connection was reset, or at the start when nobody leads.
    The pre-vote makes haste harmless."""

    def check(self) -> None:
        if not 0 < self.reset_timeout <= self.heartbeat_interval:
            raise ValueError("reset_timeout must be positive and at most heartbeat_interval")
        if round(self.election_timeout - 3 * self.heartbeat_interval, 9) < 0:  # 0.3 is three times 0.1 to everybody
            raise ValueError("election_timeout must be at least three heartbeat intervals")
