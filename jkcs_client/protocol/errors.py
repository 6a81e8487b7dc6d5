"""Every error a user of JKCS can meet, and the codes they travel under.

Three kinds, which differ in what the caller may do: a `RetryableError` says that nothing happened; an
`AmbiguousError` says that it may have happened; a `DefiniteError` is the answer, and asking again gives the same.
Codes that ZooKeeper has keep its numbers.
"""

from __future__ import annotations

from typing import ClassVar

OK = 0


class JkcsError(Exception):
    """Base of all errors that JKCS raises on purpose."""

    code: ClassVar[int] = -1
    summary: ClassVar[str] = "JKCS error"

    def __init__(self, detail: str = "", *, path: str | None = None, node: str | None = None, index: int | None = None):
        self.detail = detail
        self.path = path
        """The key it is about, as the caller named it."""
        self.node = node
        """The server that answered, or was last talked to."""
        self.index = index
        """The log index at which the server found this."""
        self.operation: int | None = None
        """In a transaction: the place, from 0, of the operation that failed."""
        super().__init__(detail)

    def __str__(self) -> str:
        text = self.summary if not self.detail else f"{self.summary}: {self.detail}"
        if self.path is not None and self.path not in self.detail:
            text += f" [{self.path}]"
        where = []
        if self.operation is not None:
            where.append(f"operation {self.operation}")
        if self.node:
            where.append(f"node {self.node}")
        if self.index:
            where.append(f"index {self.index}")
        return f"{text} ({', '.join(where)})" if where else text


class RetryableError(JkcsError):
    """Nothing happened; the same call may succeed later."""

    summary = "try again"


class AmbiguousError(JkcsError):
    """It may have happened, or may still happen: read before you try again."""

    summary = "outcome unknown"


class DefiniteError(JkcsError):
    """The answer. Asking again in the same state gives the same."""


class NotConnected(RetryableError):
    code = -4
    summary = "no server could be reached"


class Busy(RetryableError):
    code = -301
    summary = "the server is overloaded"


class DiskFull(RetryableError):
    """The server has no room for its log: it takes no writes until there is some, and serves what it has."""

    code = -311
    summary = "the server's disk is full"


class NoLeader(RetryableError):
    code = -302
    summary = "the cluster has no leader at present"


class RequestTimeout(RetryableError):
    """The deadline passed before the request was sent, or it was a read."""

    code = -7
    summary = "no answer before the deadline"


class OutcomeUnknown(AmbiguousError):
    """A write was sent, and its answer did not come before the deadline or the end of the session."""

    code = -303
    summary = "the write was sent but not answered; it may have happened"


class LockTimeout(RetryableError):
    """The lock was not granted in time, and the caller stands in its queue no more."""

    code = -310
    summary = "the lock was not granted in time"


class BadArguments(DefiniteError):
    code = -8
    summary = "bad argument"


class BadPath(BadArguments):
    code = -304
    summary = "illegal path"


class TooLarge(BadArguments):
    code = -305
    summary = "too large"


class ProtocolError(DefiniteError):
    """The other side does not speak this protocol, or not this version of it."""

    code = -5
    summary = "protocol error"


class Unimplemented(DefiniteError):
    code = -6
    summary = "unknown operation"


class NoNode(DefiniteError):
    code = -101
    summary = "no such key"


class NoAuth(DefiniteError):
    """The key's ACL does not give this permission to any of the caller's identities."""

    code = -102
    summary = "not permitted"


class BadVersion(DefiniteError):
    code = -103
    summary = "the key has another version"


class NoChildrenForEphemerals(DefiniteError):
    code = -108
    summary = "ephemeral keys cannot have children"


class NodeExists(DefiniteError):
    code = -110
    summary = "the key exists already"


class NotEmpty(DefiniteError):
    code = -111
    summary = "the key has children"


class SessionExpired(DefiniteError):
    code = -112
    summary = "the session has expired"


class WrongPassword(DefiniteError):
    """The session exists but the password does not match."""

    code = -312
    summary = "wrong session password"


class InvalidAcl(DefiniteError):
    code = -114
    summary = "invalid ACL"


class AuthFailed(DefiniteError):
    """The scheme is not known, or its credentials make no sense."""

    code = -115
    summary = "authentication failed"


class QuotaExceeded(DefiniteError):
    code = -125
    summary = "the quota is used up"


class SessionMoved(DefiniteError):
    code = -118
    summary = "the session is now connected elsewhere"


class ClientClosed(DefiniteError):
    code = -306
    summary = "the client is closed"


class Compacted(DefiniteError):
    """The events asked for are older than the server's history: read the state anew, then watch from its index."""

    code = -307
    summary = "the history asked for is gone"


class Fenced(DefiniteError):
    """The lock whose guard this write carried is not held any more."""

    code = -308
    summary = "the guard of this write no longer holds"


class LockLost(DefiniteError):
    """The session or the lock's own key ended while the lock was held."""

    code = -309
    summary = "the lock was lost while it was held"


class ChangeRefused(DefiniteError):
    """What an administrator asked for does not fit the cluster as it is."""

    code = -320
    summary = "the change was refused"


class AdminDenied(DefiniteError):
    """This server takes ADMIN requests from its own machine only."""

    code = -321
    summary = "administration is not allowed from here"


def _by_code(base: type[JkcsError]) -> dict[int, type[JkcsError]]:
    found: dict[int, type[JkcsError]] = {}
    for cls in base.__subclasses__():
        if cls.code != -1:
            found[cls.code] = cls
        found.update(_by_code(cls))
    return found


BY_CODE: dict[int, type[JkcsError]] = _by_code(JkcsError)


def error_for(
    code: int, detail: str, *, path: str | None = None, node: str | None = None, index: int | None = None
) -> JkcsError:
    """The error that a server's code stands for; an unknown code becomes a ProtocolError that names it."""
    cls = BY_CODE.get(code)
    if cls is None:
        return ProtocolError(f"unknown error code {code}: {detail}", path=path, node=node, index=index)
    return cls(detail, path=path, node=node, index=index)
