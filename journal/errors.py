"""What can go wrong with a journal. One base, one level of subclasses."""

from __future__ import annotations


class JournalError(Exception):
    """Base of all that the journal raises on purpose."""


class CorruptRecord(JournalError):
    """Bytes do not match their checksum, or claim an impossible shape."""


class StorageError(JournalError):
    """The data directory cannot be used: foreign, unreadable, damaged beyond what may be repaired."""


class DiskFailed(JournalError):
    """A write or sync failed. The node must stop: what is on the disk is no longer known (R6)."""


class LogCompacted(JournalError):
    """The entries asked for were already cut away behind a snapshot."""


class NotLeader(JournalError):
    """Only a leader can do this, and only one that has committed an entry of its own term."""


class ChangeRefused(JournalError):
    """A change of the configuration cannot be made: nothing has changed. The text says why."""


class Removed(JournalError):
    """This node does not belong to the cluster any more, or its disk is not the one the cluster knows."""


class Busy(JournalError):
    """A queue is full. Nothing happened; try again later."""


class PeerRefused(JournalError):
    """The other side of a peer connection is not who it should be, or speaks another version."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        """Nothing is wrong: the next attempt may do."""


class Diverged(JournalError):
    """The state of this node differs from that of a quorum at the same index: it must be rebuilt from a peer."""
