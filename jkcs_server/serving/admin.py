"""ADMIN requests: who may ask, what each takes, and where it is done.

Some are about this server, and are done here by what the server hands in; the others are about the cluster, and go to
its leader through `journal.administration`. Every request passes `ask`, and nothing is done before it has looked at
where the request comes from. Called by `requests.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from jkcs_client.protocol.errors import (
    OK,
    AdminDenied,
    BadArguments,
    Busy,
    ChangeRefused,
    JkcsError,
    NoLeader,
    OutcomeUnknown,
    Unimplemented,
)
from journal.administration import Verdict

logger = logging.getLogger("jkcs_server.admin")

Done = Callable[[int, Any], None]
"""Takes a code, and a map or the detail of an error."""
Handler = Callable[[Mapping[str, Any], Done], None]


class Scope(Enum):
    NODE = "this server answers"
    CLUSTER = "the leader answers"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that can be asked for."""

    scope: Scope
    arguments: Mapping[str, tuple[type, ...]]
    """Each with the types it may have. None of them may be missing."""
    changes: bool = False
    """It is written to the log of this process when it is asked for."""


_NAME = (str,)
_NAME_OR_NOBODY = (str, type(None))

COMMANDS: Mapping[str, Command] = {
    "server_status": Command(Scope.NODE, {}),
    "list_snapshots": Command(Scope.NODE, {}),
    "download_snapshot": Command(Scope.NODE, {"index": (int,), "offset": (int,)}),
    "configuration": Command(Scope.CLUSTER, {}),
    "update_voters": Command(Scope.CLUSTER, {"old": (list,), "new": (dict,)}, changes=True),
    "convert_role": Command(Scope.CLUSTER, {"node": _NAME, "role": _NAME, "address": _NAME}, changes=True),
    "set_preferred_leader": Command(Scope.CLUSTER, {"node": _NAME_OR_NOBODY}, changes=True),
    "transfer_leadership": Command(Scope.CLUSTER, {"node": _NAME_OR_NOBODY}, changes=True),
    "take_snapshot": Command(Scope.CLUSTER, {}, changes=True),
    "recover_snapshot": Command(Scope.CLUSTER, {"index": (int,)}, changes=True),
}


class Leader(Protocol):
    """The way to the leader: `journal.administration.Administration`."""

    def ask(self, name: str, arguments: Mapping[str, Any], done: Callable[[Verdict, Any], None]) -> None: ...


class AdminDesk:
    """Takes the ADMIN requests of one server's connections."""

    def __init__(self, leader: Leader, handlers: Mapping[str, Handler], *, from_anywhere: bool) -> None:
        """`handlers` has one for each command whose scope is NODE."""
        wanted = {name for name, command in COMMANDS.items() if command.scope is Scope.NODE}
        assert set(handlers) == wanted, (sorted(handlers), sorted(wanted))
        self._leader = leader
        self._handlers = handlers
        self._from_anywhere = from_anywhere

    def ask(self, name: str, arguments: Mapping[str, Any], local: bool, done: Done) -> None:
        """Check a request and see that it is done. `local`: it comes from this very machine."""
        try:
            if not (local or self._from_anywhere):
                raise AdminDenied("this server takes it from its own machine only (its setting admin_from)")
            command = _check(name, arguments)
            if command.changes:
                logger.info("an administrator asks for %s %s", name, dict(arguments))
            if command.scope is Scope.NODE:
                self._handlers[name](arguments, done)
            else:
                self._leader.ask(name, arguments, lambda verdict, result: _pass_on(verdict, result, done))
        except JkcsError as error:
            done(error.code, error.detail)


def _check(name: str, arguments: Mapping[str, Any]) -> Command:
    command = COMMANDS.get(name)
    if command is None:
        raise Unimplemented(f"ADMIN request {name!r:.40}")
    unknown = sorted(set(arguments) - set(command.arguments))
    if unknown:
        raise BadArguments(f"{name} takes no {unknown[0]!r:.40}")
    for key, types in command.arguments.items():
        if key not in arguments or type(arguments[key]) not in types:
            raise BadArguments(f"{name} takes {key}: {' or '.join(each.__name__ for each in types)}")
    return command


_ERRORS: Mapping[Verdict, type[JkcsError]] = {
    Verdict.NO_LEADER: NoLeader,
    Verdict.BUSY: Busy,
    Verdict.REFUSED: ChangeRefused,
    Verdict.MALFORMED: BadArguments,
    Verdict.UNKNOWN: OutcomeUnknown,
}


def _pass_on(verdict: Verdict, result: Any, done: Done) -> None:
    if verdict is Verdict.DONE:
        done(OK, result)
    else:
        done(_ERRORS[verdict].code, result if type(result) is str else "")
