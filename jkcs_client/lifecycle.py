"""The client's states and the one table of its transitions.

A state says what a caller can expect, not what the sockets do. Knows nothing of time: `liveness` finds that
a session is lost, `session` says so here. The diagram in the documentation is drawn by `mermaid`.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class State(StrEnum):
    """What a caller can expect, and should do."""

    CONNECTING = "connecting"
    """No session yet: `connect` is under way."""
    CONNECTED = "connected"
    """The session lives and a server answers. Go on."""
    SUSPENDED = "suspended"
    """No server answers at present; the session may still live. Calls wait. Make no decision that needs the lock."""
    EXPIRED = "expired"
    """The session is lost: its ephemeral keys and locks are gone, or soon will be. Open a new client."""
    CLOSED = "closed"
    """The client was closed by its owner."""


class Trigger(Enum):
    """What moves a client from state to state."""

    ATTACHED = "a server accepted the session"
    DETACHED = "the connection broke or fell silent"
    EXPIRED = "the session timed out, or the server said so"
    CLOSED = "the client was closed"


TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.CONNECTING, Trigger.ATTACHED): State.CONNECTED,
    (State.CONNECTING, Trigger.CLOSED): State.CLOSED,
    (State.CONNECTED, Trigger.DETACHED): State.SUSPENDED,
    (State.CONNECTED, Trigger.EXPIRED): State.EXPIRED,
    (State.CONNECTED, Trigger.CLOSED): State.CLOSED,
    (State.SUSPENDED, Trigger.ATTACHED): State.CONNECTED,
    (State.SUSPENDED, Trigger.EXPIRED): State.EXPIRED,
    (State.SUSPENDED, Trigger.CLOSED): State.CLOSED,
    (State.EXPIRED, Trigger.CLOSED): State.CLOSED,
}
"""All there are. Nothing leads out of EXPIRED but closing: a session is never replaced behind the caller's back."""

ENDED = frozenset((State.EXPIRED, State.CLOSED))
"""No call can succeed any more."""


class Lifecycle:
    """Where one client is."""

    def __init__(self) -> None:
        self.state = State.CONNECTING

    @property
    def ended(self) -> bool:
        """No call can succeed any more."""
        return self.state in ENDED

    def on(self, trigger: Trigger) -> State:
        """Move. The trigger must have a row for the present state."""
        after = TRANSITIONS.get((self.state, trigger))
        assert after is not None, (self.state, trigger)
        self.state = after
        return after


def mermaid() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.CONNECTING.name}"]
    lines += [
        f"    {before.name} --> {after.name}: {trigger.value}" for (before, trigger), after in TRANSITIONS.items()
    ]
    lines.append(f"    {State.CLOSED.name} --> [*]")
    return "\n".join(lines) + "\n"
