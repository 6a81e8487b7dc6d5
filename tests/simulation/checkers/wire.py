"""Every answer that leaves a server, against the replayed log (I12, I14, I16, S6, A1).

Reads along on the wire, so nothing depends on which client asked or on what it remembers: each answer to a write is
the outcome that the log gave it, each read is true at the index it names, and a connection's requests are answered in
the order in which they came, each once. Changes nothing; knows the protocol and the ghost.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from jkcs_client.protocol import errors
from jkcs_client.protocol.framing import FrameDecoder
from jkcs_client.protocol.messages import (
    ADMIN,
    AUTH,
    CHILDREN,
    CHILDREN_PAGE,
    COUNT,
    EXISTS,
    FIRST_WRITE,
    GET,
    GET_ACL,
    PREFACE,
)
from tests.simulation.checkers.ghost import GhostTree
from tests.simulation.checkers.rights import ADMIN as ADMINISTER
from tests.simulation.checkers.rights import READ, Ids, check_access, identity
from tests.simulation.trace import Violation

_PERMISSIONS = {GET: READ, CHILDREN: READ, CHILDREN_PAGE: READ, COUNT: READ, GET_ACL: READ | ADMINISTER}
"""What takes which of a key's permissions; any of them."""


class Conversation:
    """One connection, from the first byte to the last."""

    def __init__(self, who: str, ghost: GhostTree) -> None:
        self._who = who
        self._ghost = ghost
        self._annals = ghost.annals
        self._preface = len(PREFACE)
        """Bytes of it that are still to come."""
        self._up, self._down = FrameDecoder(), FrameDecoder()
        self._greeted = self._answered_hello = False
        self._session = 0
        self._asked: deque[tuple[list[Any], Ids]] = deque()
        """Requests without an answer, in the order in which they were sent, and who the client was as it sent them."""
        self._ids: Ids = frozenset()
        """What the client has said of itself up to now."""

    def on_sent(self, data: bytes) -> None:
        """The client writes."""
        skipped = min(self._preface, len(data))
        self._preface -= skipped
        for message in self._up.feed(data[skipped:]):
            if not self._greeted:
                self._greeted = True
            elif message[0] != ADMIN:
                if message[0] == AUTH:
                    self._ids |= {identity(message[3].decode())}
                self._asked.append((message, self._ids))

    def on_written(self, data: bytes) -> None:
        """The server writes. Raises Violation."""
        for message in self._down.feed(data):
            if not self._answered_hello:
                self._answered_hello = True
                self._session = message[1] if message[0] == errors.OK else 0
            elif message[0]:
                self._on_answer(message)

    def _on_answer(self, answer: list[Any]) -> None:
        number, code, index, *fields = answer
        if not self._asked or self._asked[0][0][1] != number:
            if all(request[1] != number for request, _ in self._asked) and number < 0:
                return  # of an administrator
            due = self._asked[0][0][1] if self._asked else None
            raise Violation("S6", f"{self._who} was answered request {number} where {due} was due")
        request, ids = self._asked.popleft()
        if request[0] >= FIRST_WRITE:
            self._on_outcome(number, code, index, fields)
            return
        if request[0] in _PERMISSIONS:
            self._check_rights(request, code, index, ids)
        if request[0] in (GET, EXISTS, CHILDREN):
            self._on_read(request, code, index, fields)

    def _on_outcome(self, serial: int, code: int, index: int, fields: list[Any]) -> None:
        """A write's answer is what the log says of it."""
        what = f"{self._who}: write {serial} of session {self._session}"
        known = self._ghost.outcome(self._session, serial)
        if known is None:
            if code == errors.OK and not self._ghost.is_closed(self._session):
                raise Violation("I12", f"{what} was acknowledged at {index}, and is not in the log")
            return
        first, text, (wanted, result) = known
        if text.startswith("0 "):
            return  # it was refused before it came to the log, which keeps its place only
        told = fields[0] if code != errors.OK and fields else plain(fields)
        if code == errors.SessionExpired.code:
            return
        if (code, index) != (wanted, first) or (code == errors.OK and told != plain(result)):
            raise Violation("I16", f"{what} was answered {(code, index, told)}, the log says {(wanted, first, result)}")

    def _check_rights(self, request: list[Any], code: int, index: int, ids: Ids) -> None:
        """A read's answer is for somebody who may have it at its index, and only others are refused."""
        op, _, path, *_ = request
        if code in (errors.OK, errors.NoAuth.code):
            refused = code != errors.OK
            # What it proves while it waits may help it already.
            who = ids if refused else self._ids
            check_access(self._annals, f"{self._who}: op {op}", _PERMISSIONS[op], path, index, who, refused)

    def _on_read(self, request: list[Any], code: int, index: int, fields: list[Any]) -> None:
        """A read's answer is the state at its index."""
        op, _, path, *_ = request
        state = self._annals.state_at(path, index) if type(path) is str else None
        if state is None or code not in (errors.OK, errors.NoNode.code):
            return
        what = f"{self._who}: {path} at index {index}"
        missing = code != errors.OK or fields == [None]
        if missing or state.value is None:
            if not missing or state.value is not None:
                raise Violation("I14", f"{what} was answered {(code, *fields)}, but was {state}")
            return
        listing = self._annals.listing_at(path, index)
        assert listing is not None, path
        czxid, mzxid, pzxid, _, _, version, cversion, owner, length, count, *rare = fields[-1]
        if path != "/" and (czxid, mzxid, version, owner, length, *rare) != (
            *(state.czxid, state.mzxid, state.version, state.owner, len(state.value), state.aversion, state.ttl),
        ):
            raise Violation("I14", f"{what} had {fields[-1]}, but was {state}")
        if (pzxid, cversion, count) != (listing.pzxid, listing.cversion, len(listing.names)):
            raise Violation("I14", f"{what} had {fields[-1]}, but was {listing}")
        if op == GET and fields[0] != state.value:
            raise Violation("I14", f"{what} was {fields[0]!r}, but was {state}")
        if op == CHILDREN and tuple(fields[0]) != listing.names:
            raise Violation("I14", f"{what} had the children {fields[0]}, but had {listing}")


def plain(value: Any) -> Any:
    """Lists and tuples alike."""
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value
