"""The state machine that a user brings: what it must offer, and what it is told with each command.

All replicas of it are given the same commands in the same order and must reach the same state: no clock, no
chance and no order of a set may show in it. Knows nothing of replication; driven by `exactly_once.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

EVENT_BYTES_MAX = 64 * 1024
"""One event of a machine."""
EVENTS_PER_COMMAND_MAX = 1024


class Moment:
    """Where in the log a command stands. One object for all commands: read it during `apply`, do not keep it."""

    __slots__ = ("events", "index", "term", "time")

    def __init__(self) -> None:
        self.index = 0
        """The command's own index; never given to another command."""
        self.term = 0
        """The term of the leader that appended the command."""
        self.time = 0.0
        """Seconds since 1970, as the leader's clock had it: equal on every node, and never going back."""
        self.events: list[bytes] = []
        """What the command has emitted so far."""

    def emit(self, event: bytes) -> None:
        """Tell whoever listens on this node, when the command is done; nobody if it is refused."""
        if type(event) is not bytes or len(event) > EVENT_BYTES_MAX:
            raise ValueError(f"an event is bytes, at most {EVENT_BYTES_MAX} of them, not {event[:80]!r}")
        if len(self.events) >= EVENTS_PER_COMMAND_MAX:
            raise ValueError(f"a command may emit at most {EVENTS_PER_COMMAND_MAX} events")
        self.events.append(event)


class StateMachine(ABC):
    """Derive from it and pass an instance to `Journal`. All methods are called from one thread at a time."""

    lazy_snapshot = False
    """Whether `snapshot` may be asked for its later chunks while commands are applied in between. Its chunks must
    not show them. Otherwise all chunks are taken at once, and the loop stands still so long."""

    @abstractmethod
    def apply(self, command: bytes, at: Moment) -> bytes | None:
        """Change the state by one command; what is returned is the answer to the update.

        May refuse, by `CommandRefused`, before it has changed anything. Any other exception stops the node,
        because a machine that swallowed it would drift apart from its replicas in silence.
        """

    @abstractmethod
    def query(self, question: bytes) -> bytes | None:
        """Answer from the state without changing it. What it raises reaches whoever asked, and nobody else."""

    @abstractmethod
    def snapshot(self) -> Iterable[bytes]:
        """The whole state, in chunks of any size."""

    @abstractmethod
    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by what `snapshot` gave once, in the same chunks."""

    def digest(self) -> int:
        """A fingerprint of the whole state in 64 bits, equal where the state is; asked for after every entry.

        Members compare it at the same index. A machine that keeps none leaves it at 0: then only what its commands
        have answered and emitted is compared.
        """
        return 0

    def close(self) -> None:  # noqa: B027 - most machines have nothing to let go of
        """The node stops, or a copy made for a question about the past is no longer needed."""
