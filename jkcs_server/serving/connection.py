"""What clients' connections and their server are to each other, whatever protocol a client speaks.

The shapes alone: implemented by `native` and `zookeeper` on one side, by `requests` and `listener` on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from jkcs_client.protocol.errors import JkcsError
from jkcs_server.serving.audit import Audit
from jkcs_server.serving.figures import Figures
from jkcs_server.serving.lane import Lane
from jkcs_server.serving.pages import Pages
from jkcs_server.serving.watches import WatchHub
from jkcs_server.tree.acl import Acl, Ids
from jkcs_server.tree.machine import TreeMachine
from jkcs_server.tree.sessions import Result


class Sink(Protocol):
    """The way out of a connection."""

    def write(self, data: bytes) -> None: ...

    def unsent(self) -> int:
        """Bytes the client has not taken yet."""

    def close(self) -> None:
        """Close once what was written has left."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None: ...

    def is_local(self) -> bool:
        """Whether the client is on this very machine."""

    def address(self) -> str:
        """HOST:PORT of the client; empty where it has none."""

    def identities(self) -> Ids:
        """Who the client is as far as its connection proves it: its address, a certificate."""


class Connection(Protocol):
    """One client, to its server; also the tree's `Owner` of its session, and a `Watcher` of the hub."""

    session: int
    """0 until it has one."""
    timeout_ms: int
    lane: Lane
    closed: bool
    greeted: bool
    """The client has said what it wants to be."""
    heard_turn: int
    """The desk's turn in which the client last sent anything."""
    moved_turn: int
    """The desk's turn in which a write was last answered, or came into an empty lane."""
    ids: Ids
    """Who the client is."""
    figures: Figures
    nonce: bytes
    """What the command was marked with that moved the session here."""

    def receive(self, data: bytes) -> None: ...

    def attached(self, session: int, password: bytes, timeout_ms: int, serial: int, *, fresh: bool) -> None:
        """The session is there and this connection owns it. `serial`: the last write it has applied."""

    def moved_again(self, serial: int) -> None:
        """The command that moved the session here was applied twice: the session's serial is another one now."""

    def denied(self, error: JkcsError) -> None:
        """There will be no session. Closes the connection."""

    def refuse(self, error: JkcsError) -> None:
        """Say why, as far as the protocol has words for it, and close."""

    def close(self) -> None:
        """Flush and close from this side."""

    def lost(self) -> None:
        """The client is gone."""

    def flush(self) -> None:
        """Write everything that has gathered."""

    def on_session_ended(self, index: int, *, expired: bool) -> None:
        """The session is over: what it left unanswered will never happen. Closes the connection."""

    def on_outcome(self, serial: int, code: int, index: int, result: Result) -> None: ...

    def on_watch(self, watch_id: int, kind: int, path: str, index: int) -> None: ...

    def may_see(self, acl: Acl) -> bool: ...


class Desk(Protocol):
    """What a connection needs of its server."""

    node: str
    machine: TreeMachine
    hub: WatchHub
    confirmed_round: int
    """Read rounds up to this one are confirmed, and everything they must see is applied."""
    turn: int
    super_digest: str | None
    """The identity that may do everything, under scheme digest; None when there is none."""
    pages: Pages
    audit: Audit

    @property
    def overloaded(self) -> bool:
        """Too many writes wait for a leader: clients should be held back."""

    @property
    def read_only(self) -> str | None:
        """Why this server takes no writes at present; None when it takes them."""

    def now(self) -> float:
        """Seconds, from anywhere: for durations."""

    def open_session(self, connection: Connection, timeout_ms: int) -> None: ...

    def attach(self, connection: Connection, session: int, password: bytes) -> None:
        """For clients that number their writes: what they left unanswered may be sent again."""

    def move(self, connection: Connection, session: int) -> None:
        """For clients that do not: whatever an earlier connection left in flight will never happen."""

    def join_round(self, connection: Connection) -> int:
        """The read round that a read of this moment belongs to."""

    def touch(self, session: int) -> None:
        """Tell the leader, with the next read round, that this session is alive."""

    def propose(self, command: bytes) -> None: ...

    def has_output(self, connection: Connection) -> None:
        """`flush` wants to be called at the end of this turn."""

    def gone(self, connection: Connection) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def administrate(self, name: str, arguments: dict[str, Any], local: bool, done: Callable[[int, Any], None]) -> None:
        """Do what an administrator asks. `done` is called once, now or later, with a code and a map or a detail."""
