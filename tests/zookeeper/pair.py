"""Two servers that are asked the same: the real one says what is right.

A run is a list of steps below a root of its own, with fresh sessions, so that runs do not disturb each other
and can be repeated with fewer steps. Called by `differential.py` and by the test of it.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass

from tests.zookeeper.answers import Owner, Zxid
from tests.zookeeper.deliberate import deliberate
from tests.zookeeper.operations import Operation
from tests.zookeeper.session import Event, Reply, Seen, Session, SilentServer

SESSIONS = 4
FAILED = "JKCS failed"
WRONG_PASSWORD = b"this is not it.."


@dataclass(frozen=True)
class Step:
    """What one session does, without waiting between its requests."""

    session: int
    operations: tuple[Operation, ...] = ()
    connect: str = ""
    """Instead: "again" comes back over a new connection, "impostor" tries with a wrong password."""

    def __str__(self) -> str:
        what = self.connect or ", ".join(repr(operation) for operation in self.operations)
        return f"session {self.session}: {what}"


@dataclass(frozen=True)
class Difference:
    """The first thing that the two servers did not agree on."""

    step: Step
    where: str
    real: object
    ours: object

    def __str__(self) -> str:
        return f"after {self.step}\n  {self.where}\n  ZooKeeper: {self.real!r}\n  JKCS:      {self.ours!r}"


class World:
    """One server, and the sessions of a run at it."""

    def __init__(self, address: tuple[str, int], root: str) -> None:
        self._address = address
        self._root = root
        self.sessions: list[Session] = []
        self.owners: dict[int, tuple[int, int]] = {}
        """Which session of the run a number stands for: its place, and how many were there before it."""
        self._generations = [0] * SESSIONS

    def begin(self) -> list[object]:
        seen: list[object] = []
        for place in range(SESSIONS):
            self.sessions.append(Session(self._address))
            seen.append(self._connect(place))
        seen.append(self.sessions[0].exchange([Operation("create")], self._root))
        return seen

    def end(self) -> None:
        """Close the sessions, as far as their server still answers."""
        for session in self.sessions:
            if session.connected:
                with contextlib.suppress(SilentServer, OSError, ValueError):
                    session.exchange([Operation("closeSession")], self._root)
                session.disconnect()

    def take(self, step: Step) -> list[object]:
        """What the step's session sees, then what each session sees that its neighbour has caused."""
        session = self.sessions[step.session]
        seen: list[object] = []
        if step.connect == "again":
            seen.append(session.connect())
        elif step.connect == "impostor":
            # ZooKeeper hangs up on the session's own client before it looks at the password; JKCS does not.
            session.disconnect()
            impostor = Session(self._address)
            impostor.id = session.id
            seen.append(impostor.connect(password=WRONG_PASSWORD))
            impostor.disconnect()
        else:
            seen.append(session.exchange(step.operations, self._root))
        seen.extend(each.settle() for each in self.sessions)
        ends = any(operation.kind == "closeSession" for operation in step.operations)
        if ends:
            # The ephemerals of a session go in one transaction, and in whatever order.
            seen = [_events_sorted(each) if isinstance(each, list) else each for each in seen]
        if not session.connected:
            if ends:
                self.sessions[step.session] = Session(self._address)
                self._generations[step.session] += 1
            seen.append(self._connect(step.session))
        return seen

    def _connect(self, place: int) -> tuple[object, ...]:
        session = self.sessions[place]
        answer = session.connect()
        self.owners[session.id] = (place, self._generations[place])
        return answer


class Ranks:
    """Pairs of zxids, one of each server, whose orders must be the same."""

    def __init__(self) -> None:
        self._real: list[int] = []
        self._ours: list[int] = []

    def agree(self, real: int, ours: int) -> bool:
        at = bisect.bisect_left(self._real, real)
        if at < len(self._real) and self._real[at] == real:
            return self._ours[at] == ours
        if (at > 0 and self._ours[at - 1] >= ours) or (at < len(self._ours) and self._ours[at] <= ours):
            return False
        self._real.insert(at, real)
        self._ours.insert(at, ours)
        return True


class _Parted(Exception):
    """A deliberate difference after which the two servers have different trees."""


class Run:
    """The same steps at both servers, compared after each."""

    def __init__(self, real: tuple[str, int], ours: tuple[str, int], root: str) -> None:
        self._real, self._ours = World(real, root), World(ours, root)
        self._ranks = Ranks()
        self.parted = False
        """The trees differ, on purpose: the run is over."""

    def begin(self) -> Difference | None:
        step, real = Step(0, (), "begin"), self._real.begin()
        try:
            ours = self._ours.begin()
        except (SilentServer, OSError, ValueError) as error:
            return Difference(step, FAILED, real, f"{type(error).__name__}: {error}")
        return self._compare(step, real, ours)

    def end(self) -> None:
        self._real.end()
        self._ours.end()

    def take(self, step: Step) -> Difference | None:
        """None when both did the same. Raises SilentServer when the real one does not answer."""
        try:
            real = self._real.take(step)
        except (SilentServer, OSError, ValueError) as error:
            error.add_note(f"the real ZooKeeper failed at {step}")
            raise
        try:
            ours = self._ours.take(step)
        except (SilentServer, OSError, ValueError) as error:
            return Difference(step, FAILED, real, f"{type(error).__name__}: {error}")
        return self._compare(step, real, ours)

    def _compare(self, step: Step, real: object, ours: object) -> Difference | None:
        try:
            found = self._differ(real, ours, "seen", step)
        except _Parted:
            self.parted = True
            return None
        return None if found is None else Difference(step, *found)

    def _may(self, step: Step, real: object, ours: object) -> bool:
        """Whether they differ on purpose. Raises _Parted when that leaves nothing to compare."""
        reason = deliberate(step.operations, real, ours)
        if reason is not None and reason.parts:
            raise _Parted
        return reason is not None

    def _differ(self, real: object, ours: object, where: str, step: Step) -> tuple[str, object, object] | None:
        if isinstance(real, Zxid) and isinstance(ours, Zxid):
            return None if self._ranks.agree(real.number, ours.number) else (f"{where} has another rank", real, ours)
        if isinstance(real, Owner) and isinstance(ours, Owner):
            mine, theirs = self._ours.owners.get(ours.number), self._real.owners.get(real.number)
            same = mine == theirs if mine or theirs else real.number == ours.number
            return None if same else (where, theirs or real, mine or ours)
        if type(real) is not type(ours):
            return None if self._may(step, real, ours) else (where, real, ours)
        if isinstance(real, Reply):
            self._may(step, real, ours)
        if is_dataclass(real) and not isinstance(real, type):
            for field in fields(real):
                one, two = getattr(real, field.name), getattr(ours, field.name)
                if found := self._differ(one, two, f"{where} > {type(real).__name__}.{field.name}", step):
                    return found if isinstance(one, (list, tuple)) or is_dataclass(one) else (found[0], real, ours)
            return None
        if isinstance(real, (list, tuple)) and isinstance(ours, (list, tuple)):
            for place, (one, two) in enumerate(zip(real, ours, strict=False)):
                if found := self._differ(one, two, f"{where}[{place}]", step):
                    return found
            same = len(real) == len(ours) or self._may(step, real, ours)
            return None if same else (f"{where} is of another length", real, ours)
        return None if real == ours or self._may(step, real, ours) else (where, real, ours)


def _events_sorted(seen: Sequence[Seen]) -> list[Seen]:
    """With the events between two replies in order of their paths."""
    result: list[Seen] = []
    for are_events, group in itertools.groupby(seen, lambda each: isinstance(each, Event)):
        together = list(group)
        result.extend(sorted(together, key=repr) if are_events else together)
    return result
