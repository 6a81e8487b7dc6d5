"""Who was refused what, and who changed who may do what: a log of its own, `jkcs_server.audit`, for those on guard.

One line for each, in the words of ZooKeeper's audit log: session, user, ip, operation, znode, result. No credentials
and no values: of a digest only the name. Called by the connections; writes a bounded number of lines, however many
there would be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from jkcs_server.serving.figures import Figures
from jkcs_server.tree.acl import Ids

logger = logging.getLogger("jkcs_server.audit")

LINES_PER_SECOND_MAX = 100
"""Beyond it lines are counted and left out: who is refused a million times must not fill the disk."""
_SCHEMES = ("digest", "ip", "sasl", "session", "world", "x509")
_SHOWN_MAX = 200
"""Characters of a name or a path."""


class Client(Protocol):
    """Of whom a line tells."""

    session: int
    ids: Ids
    figures: Figures


class Audit:
    """The audit log of one server."""

    def __init__(self, now: Callable[[], float], *, enabled: bool) -> None:
        """`now` gives seconds, from anywhere."""
        self._now = now
        self._enabled = enabled
        self._second = float("-inf")
        self._lines = 0
        """Since `_second`."""
        self._left_out = 0

    def refused(self, client: Client, operation: str, path: str) -> None:
        """A list of permissions forbids a "read" or a "write"."""
        self._tell(client, operation, path, "failure")

    def rights_changed(self, client: Client, path: str) -> None:
        """A change of a list is on its way; a line of `refused` follows if it is forbidden."""
        self._tell(client, "set_acl", path, "invoked")

    def login_failed(self, client: Client, scheme: str) -> None:
        """Credentials that prove nothing, or a password that is not the session's."""
        # Who puts a password where the scheme should be must not find it in a log.
        self._tell(client, "auth", scheme if scheme in _SCHEMES else "unknown", "failure", where="scheme")

    def _tell(self, client: Client, operation: str, what: str, result: str, *, where: str = "znode") -> None:
        if not self._enabled or not self._has_room():
            return
        users = ",".join(_plain(_named(scheme, name)) for scheme, name in client.ids if scheme != "ip")
        logger.info(
            "session=0x%x user=%s ip=%s operation=%s %s=%s result=%s",
            client.session,
            users or "-",
            client.figures.address or "-",
            operation,
            where,
            _plain(what),
            result,
        )

    def _has_room(self) -> bool:
        now = self._now()
        if now - self._second >= 1.0:
            if self._left_out:
                logger.warning("%d lines were left out: more than %d a second", self._left_out, LINES_PER_SECOND_MAX)
            self._second, self._lines, self._left_out = now, 0, 0
        if self._lines >= LINES_PER_SECOND_MAX:
            self._left_out += 1
            return False
        self._lines += 1
        return True


def _named(scheme: str, name: str) -> str:
    return f"{scheme}:{name.partition(':')[0] if scheme == 'digest' else name}"


def _plain(text: str) -> str:
    """Text of a stranger, so that it can neither end a line nor look like another field."""
    shown = text[:_SHOWN_MAX]
    return shown if shown.isprintable() and not set(shown) & set(' ="') else ascii(shown)
