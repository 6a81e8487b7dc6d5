"""The journal: a log of commands, replicated by Raft, on which state machines of any kind run in agreement.

    from journal import Journal, JournalConfig, StateMachine

The names below are imported when they are first used: most of this package's users need only a part of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from journal.addresses import ConfigError
    from journal.config import JournalConfig
    from journal.errors import (
        Busy,
        CommandRefused,
        EventsLost,
        IndexOverflow,
        IndexUnderflow,
        JournalError,
        JournalStopped,
        StorageError,
        Unavailable,
        UpdateUncertain,
    )
    from journal.events import (
        Event,
        EventStream,
        LeaderChanged,
        MachineEvent,
        RoleChanged,
        StateReplaced,
        VotersChanged,
    )
    from journal.journal import Journal
    from journal.levels import Consistency, Response
    from journal.limits import Limits, Timing
    from journal.statemachine import Moment, StateMachine

__all__ = [
    "Busy",
    "CommandRefused",
    "ConfigError",
    "Consistency",
    "Event",
    "EventStream",
    "EventsLost",
    "IndexOverflow",
    "IndexUnderflow",
    "Journal",
    "JournalConfig",
    "JournalError",
    "JournalStopped",
    "LeaderChanged",
    "Limits",
    "MachineEvent",
    "Moment",
    "Response",
    "RoleChanged",
    "StateMachine",
    "StateReplaced",
    "StorageError",
    "Timing",
    "Unavailable",
    "UpdateUncertain",
    "VotersChanged",
]

_HOMES = {
    "addresses": "ConfigError",
    "config": "JournalConfig",
    "errors": "Busy CommandRefused EventsLost IndexOverflow IndexUnderflow JournalError JournalStopped StorageError"
    " Unavailable UpdateUncertain",
    "events": "Event EventStream LeaderChanged MachineEvent RoleChanged StateReplaced VotersChanged",
    "journal": "Journal",
    "levels": "Consistency Response",
    "limits": "Limits Timing",
    "statemachine": "Moment StateMachine",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"journal.{home}"), name)
