"""One client's connection as the load generator needs it: bytes in, bytes out, answers checked and counted.

The seam between the closed loop (`driver.py`) and a wire protocol (`native.py`, `jute.py`). Lines cost little
per request, because they run on the same processors as the servers they load.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Protocol

from jkcs_server.bench.work import Seen, Work

REASONS_MAX = 20
"""Different complaints that a line remembers; the count of all errors goes on."""


class Wire(Enum):
    """The protocols that JKCS speaks with its clients."""

    NATIVE = "native"
    ZOOKEEPER = "zookeeper"


class LoadFailed(Exception):
    """The load cannot go on: the server does not speak the protocol, or an answer is not for its request."""


class Line(Protocol):
    """One connection, without I/O."""

    errors: Counter[str]
    """Answers that were not what they should be, by what was wrong with them."""
    seen: Seen
    """Of all reads since the line was made."""
    answered: int
    """Requests of the present work, right or wrong."""
    written: int
    """Writes of the present work that were acknowledged as done."""
    notified: int
    """Times that a watch of this line has told of the change it was left for."""

    def hello(self) -> bytes:
        """What to send first."""

    def greeted(self, data: bytes) -> bool:
        """Take in what the server says to the hello; whether it is complete. Raises LoadFailed."""

    def begin(self, work: Work) -> None:
        """The next requests are about `work`. Only when all earlier ones are answered."""

    def requests(self, count: int) -> bytes:
        """The next `count` requests of the work."""

    def answers(self, data: bytes) -> int:
        """Take in and check what the server sent; how many answers that was. Raises LoadFailed."""

    def goodbye(self) -> bytes:
        """Ends the session."""

    def parted(self, data: bytes) -> bool:
        """Take in what the server says to the goodbye; whether it has ended the session. Raises LoadFailed."""


def complain(errors: Counter[str], reason: str) -> None:
    """Count a wrong answer under its reason; when there are too many reasons, under a common one."""
    errors[reason if reason in errors or len(errors) < REASONS_MAX else "other errors"] += 1
