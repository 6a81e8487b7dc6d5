"""The named places at which a server can be ended: around each step that a crash could tear apart.

The product knows nothing of them. They are recognised from outside: by what is done to a file of the
simulated disk, by the type of a message, and by the few methods through which every other step goes. A
name that is armed ends the first server that reaches it. How often each name was reached, and how often a
server was ended there, is counted; a long run must come to all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from journal.raft.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    Proposal,
    PullReply,
    PullRequest,
    ReadReply,
    ReadRequest,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from journal.storage.metadata import MARK_NAME, META_NAME
from journal.storage.snapshots import is_temporary_name
from journal.storage.wal import TEMPORARY as LOG_TEMPORARY

if TYPE_CHECKING:
    from jkcs_server.server import Server

DISK_STEPS = (
    *("wal.write", "wal.sync", "wal.repair", "wal.repair.sync", "wal.remove", "wal.names"),
    *("segment.create", "segment.write", "segment.sync", "segment.rename", "segment.replace", "segment.names"),
    *("segment.remove", "meta.create", "meta.rename", "meta.names"),
    *("meta.a.write", "meta.a.sync", "meta.b.write", "meta.b.sync"),
    *("mark.create", "mark.poke", "mark.sync", "mark.names"),
    *("snap.create", "snap.header", "snap.chunk", "snap.sync", "snap.rename", "snap.names"),
    *("snap.remove", "snap.remove.names"),
    *("received.create", "received.header", "received.chunk", "received.sync", "received.rename"),
    *("leftover.remove", "names"),
)
"""What is done to files; in a job of a disk worker, or while the server starts."""
_SEND = (
    *("prevote.send", "prevote.reply.send", "vote.send", "vote.reply.send", "append.send", "append.reply.send"),
    *("heartbeat.send", "heartbeat.reply.send", "snap.send", "snap.reply.send", "transfer.send"),
    *("read.send", "read.reply.send", "propose.send"),
)
HOOKS = {
    "session.open.propose": "requests.open_session",
    "session.attach": "requests.arrivals._attach_now",
    "session.expire.propose": "replica.propose_now",
    "watch.send": "requests.hub.on_event",
    "read.start": "requests.on_read_start",
    "read.confirmed": "requests.on_read_done",
    "leadership": "requests.on_leadership",
    "writes.again": "requests._propose_all_again",
    "snap.take": "replica.snapshots.take",
    "snap.send.begin": "replica.snapshots.send_to",
    "snap.install": "replica.install",
    "snap.install.reset": "replica._reset_log",
    "snap.install.restore": "replica._on_reset",
    "log.cut": "replica.cut_log",
    "transfer.begin": "replica.hand_over",
    "session.move.propose": "requests.arrivals.move",
    "session.moved": "requests.arrivals.on_moved",
}
"""Name -> the method of a server, looked up anew at each call, that is the step."""
_OTHER = ("apply", "reply.client")
STEPS = (*DISK_STEPS, *_SEND, *HOOKS, *_OTHER)
NAMES = (*(f"{step}.{side}" for step in STEPS for side in ("before", "after")), "commit.advance", "start.recovered")
AROUND_SNAPSHOTS = tuple(
    name
    for name in NAMES
    if name.startswith(("snap.", "received.", "leftover.", "log.cut", "segment.re", "wal.re", "wal.names", "transfer."))
)
"""What happens while a server that is far behind is brought back."""
AROUND_MOVES = tuple(name for name in NAMES if name.startswith("session.move"))
"""What happens when a client of ZooKeeper's protocol comes back."""
FIRST_START = tuple(
    name for name in NAMES if name.startswith(("meta.create", "meta.rename", "meta.names", "mark.create", "mark.names"))
)
"""Reached once in the life of a machine, so they are armed before it begins."""


def _sides(steps: dict[type, str]) -> dict[type, tuple[str, str]]:
    return {kind: (f"{step}.before", f"{step}.after") for kind, step in steps.items()}


_PRE_SENDS = _sides({VoteRequest: "prevote.send", VoteReply: "prevote.reply.send"})
_SENDS = _sides(
    {
        VoteRequest: "vote.send",
        VoteReply: "vote.reply.send",
        Append: "append.send",
        AppendReply: "append.reply.send",
        Heartbeat: "heartbeat.send",
        HeartbeatReply: "heartbeat.reply.send",
        SnapshotChunk: "snap.send",
        SnapshotReply: "snap.reply.send",
        TimeoutNow: "transfer.send",
        ReadRequest: "read.send",
        ReadReply: "read.reply.send",
        Proposal: "propose.send",
        PullRequest: "pull.send",
        PullReply: "pull.reply.send",
    }
)


class CrashPoints:
    """Which names one run has come to. `end` ends a server where it stands, and may raise `Ended`."""

    def __init__(self, end: Callable[[str, str], None]) -> None:
        self._end = end
        self.reached: Counter[str] = Counter()
        self.crashed: Counter[str] = Counter()
        self._armed: set[str] = set()

    def rarest(self) -> list[str]:
        """The half of the names reached so far that were reached least."""
        known = sorted((count, name) for name, count in self.reached.items() if name in NAMES)
        return [name for _, name in known[: len(known) // 2 + 1]]

    def arm(self, name: str) -> None:
        """End the first server that comes to `name`."""
        assert name in NAMES, name
        self._armed.add(name)

    def disarm(self) -> None:
        """Nobody is ended any more."""
        self._armed.clear()

    def reach(self, node: str, name: str) -> None:
        """A server has come to a place."""
        reached = self.reached
        reached[name] = reached.get(name, 0) + 1
        if name in self._armed:
            self._armed.discard(name)
            self.crashed[name] += 1
            self._end(node, name)

    def stand_around(self, node: str, server: Server) -> None:
        """Stand before and behind the methods of `HOOKS` of a server that has just been built."""
        for name, path in HOOKS.items():
            *way, method = path.split(".")
            owner: Any = server
            for part in way:
                owner = getattr(owner, part)
            setattr(owner, method, self._around(node, name, getattr(owner, method)))

    def _around(self, node: str, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        before, after = f"{name}.before", f"{name}.after"

        def around(*arguments: Any, **keywords: Any) -> Any:
            self.reach(node, before)
            result = method(*arguments, **keywords)
            self.reach(node, after)
            return result

        return around


def send_names(message: Message) -> tuple[str, str]:
    """The places before and behind the sending of a message."""
    kind = type(message)
    if kind is VoteRequest or kind is VoteReply:
        return (_PRE_SENDS if message.pre else _SENDS)[kind]  # type: ignore[union-attr]
    return _SENDS.get(kind) or (f"{kind.__name__}.before", f"{kind.__name__}.after")


class DiskSteps:
    """Names what is done to one machine's disk."""

    def __init__(self) -> None:
        self._slot = "a"
        """Of the metadata file, the slot that was written last."""

    def name(self, operation: str, file: str, *, starting: bool) -> str:
        """The step that an operation of `SimDisk` on a file is; `starting`: the server is still recovering."""
        if operation == "names":
            return self._names_step(file)
        if file == META_NAME:
            if operation.startswith("write"):
                self._slot = "a" if operation == "write0" else "b"
            return f"meta.{self._slot}.{'sync' if operation == 'sync' else 'write'}"
        if file.startswith(META_NAME):
            return "meta.rename" if operation in ("rename", "replace") else "meta.create"
        if file == MARK_NAME:
            return f"mark.{'create' if operation == 'write0' else operation}"
        if file == LOG_TEMPORARY:
            return f"segment.{'write' if operation == 'write0' else operation}"
        if file.startswith("log-"):
            repairs = {"write": "wal.repair", "sync": "wal.repair.sync"} if starting else {}
            return repairs.get(operation, f"wal.{operation}")
        return _snapshot_step(operation, file)

    @staticmethod
    def _names_step(file: str) -> str:
        """`file` is whose name was changed last."""
        if not file:
            return "names"
        if file == LOG_TEMPORARY:
            return "segment.names"
        if file == MARK_NAME:
            return "mark.names"
        if file.startswith(META_NAME):
            return "meta.names"
        if file.startswith("log-"):
            return "wal.names"
        return "snap.names" if is_temporary_name(file) else "snap.remove.names"


def _snapshot_step(operation: str, file: str) -> str:
    if operation == "remove":
        return "leftover.remove" if is_temporary_name(file) else "snap.remove"
    kind = "received" if file.endswith(".received") else "snap"
    return f"{kind}.{ {'write0': 'header', 'write': 'chunk', 'replace': 'rename'}.get(operation, operation) }"
