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


class DiskFull(JournalError):
    """There is no room for more. Nothing was changed that a reader could see; it may be tried again (R12)."""


class LogCompacted(JournalError):
    """The entries asked for were already cut away behind a snapshot."""


class NotLeader(JournalError):
    """Only a leader can do this, and only one that has committed an entry of its own term."""


class ChangeRefused(JournalError):
    """A change of the configuration cannot be made: nothing has changed. The text says why."""


class Removed(JournalError):
    """This node does not belong to the cluster any more, or its disk is not the one the cluster knows."""


class Busy(JournalError):
    """A queue is full, or something else must end first. Nothing happened; try again later."""


class PeerRefused(JournalError):
    """The other side of a peer connection is not who it should be, or speaks another version."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        """Nothing is wrong: the next attempt may do."""


class Diverged(JournalError):
    """The state of this node differs from that of a quorum at the same index: it must be rebuilt from a peer."""


class JournalStopped(JournalError):
    """The journal is not running: not started, stopped, or failed. What was asked for did not happen."""


class Unavailable(JournalError):
    """No majority answered before the deadline. Nothing happened; try again later."""


class UpdateUncertain(JournalError):
    """No answer before the deadline: the update may have been applied, or may still be."""


class CommandRefused(JournalError):
    """The state machine refused the command, on every node alike, and is as it was."""

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(detail)


class IndexOverflow(JournalError):
    """This node has not got to that index yet: wait, try again, or ask another node."""


class IndexUnderflow(JournalError):
    """What it takes to tell the state at that index was already cut away."""


class EventsLost(JournalError):
    """The reader of events was too slow for its queue: some are lost. Look at the state anew."""


class TlsFailed(JournalError):
    """A connection could not be secured, or did not stay so. The text is fit for the other side's log, too."""


class CredentialsRefused(JournalError):
    """A certificate, a key or a file of authorities cannot be used. The text names the file and says why."""
