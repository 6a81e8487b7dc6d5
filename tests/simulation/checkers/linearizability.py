"""Whether a history of calls and answers could have happened one call at a time.

The algorithm of Wing and Gong with Lowe's cache: try every call that began before the first answer in
the list; lift it out when the model allows it; when an answer is reached whose call is still in the list,
take the last choice back. Knows nothing of servers: it judges what clients saw.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.trace import Violation

FOREVER = float("inf")
STEPS_MAX = 2_000_000

State = Hashable
Step = Callable[[State, "Operation"], tuple[bool, State]]


@dataclass(slots=True)
class Operation:
    """One call of one client. Without an answer it may have happened at any time after the call, or never."""

    client: str
    kind: str
    key: str
    argument: Any
    called: float
    returned: float = FOREVER
    result: Any = None
    number: int = field(default=-1)
    """Its place in the order of calls; given by the search."""

    @property
    def answered(self) -> bool:
        return self.returned != FOREVER

    def __str__(self) -> str:
        answer = f"-> {self.result!r} at {self.returned:.6f}" if self.answered else "-> never answered"
        return f"{self.client} {self.kind} {self.key} {self.argument!r} called {self.called:.6f} {answer}"


def check_linearizable(operations: Iterable[Operation], initial: State, step: Step) -> None:
    """Raise Violation, naming where it gets stuck, when no order of the operations explains all answers."""
    history = _History(list(operations))
    state = initial
    placed = 0
    seen: set[tuple[int, State]] = set()
    choices: list[tuple[int, State]] = []
    at = history.first
    answers_left = sum(operation.answered for operation in history.operations)
    deepest = 0
    for _ in range(STEPS_MAX):
        if not answers_left:
            return
        number = history.calls[at]
        if number is not None:
            operation = history.operations[number]
            allowed, after = step(state, operation)
            bit = 1 << number
            if allowed and (placed | bit, after) not in seen:
                seen.add((placed | bit, after))
                choices.append((at, state))
                state, placed = after, placed | bit
                answers_left -= operation.answered
                deepest = max(deepest, len(choices))
                history.lift(at)
                at = history.first
            else:
                at = history.after[at]
        else:
            if not choices:
                raise Violation("LINEARIZABILITY", history.complaint(at, deepest))
            at, state = choices.pop()
            operation = history.operations[history.number_at(at)]
            placed &= ~(1 << operation.number)
            answers_left += operation.answered
            history.put_back(at)
            at = history.after[at]
    raise Violation("LINEARIZABILITY", f"undecided after {STEPS_MAX} steps over {len(history.operations)} operations")


class _History:
    """Calls and answers in order of time, as a doubly linked list in arrays. Place 0 is before the first."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = sorted(operations, key=lambda operation: operation.called)
        events: list[tuple[float, int, int]] = []
        for number, operation in enumerate(self.operations):
            operation.number = number
            events.append((operation.called, 0, number))
            if operation.answered:
                events.append((operation.returned, 1, number))
        # Of a call and an answer at one instant the call comes first: they overlap, and nothing is proven.
        events.sort()
        self.calls: list[int | None] = [None]
        """Which operation is called at a place; None at an answer."""
        self._number: list[int] = [-1]
        self._answer_of: dict[int, int] = {}
        for place, (_, is_answer, number) in enumerate(events, start=1):
            self.calls.append(None if is_answer else number)
            self._number.append(number)
            if is_answer:
                self._answer_of[number] = place
        places = len(events) + 1
        self.after = [*range(1, places), 0]
        self._before = [places - 1, *range(places - 1)]

    @property
    def first(self) -> int:
        return self.after[0]

    def number_at(self, place: int) -> int:
        return self._number[place]

    def lift(self, place: int) -> None:
        """Take a call and its answer out of the list."""
        self._unlink(place)
        answer = self._answer_of.get(self._number[place])
        if answer is not None:
            self._unlink(answer)

    def put_back(self, place: int) -> None:
        """Undo the last `lift`."""
        answer = self._answer_of.get(self._number[place])
        if answer is not None:
            self._relink(answer)
        self._relink(place)

    def complaint(self, place: int, deepest: int) -> str:
        stuck = self.operations[self._number[place]]
        near = [str(one) for one in self.operations if one.called <= stuck.returned and one.returned >= stuck.called]
        return f"no order explains the answer of: {stuck}; {deepest} placed at most; it overlaps\n  " + "\n  ".join(
            near
        )

    def _unlink(self, place: int) -> None:
        self.after[self._before[place]] = self.after[place]
        self._before[self.after[place]] = self._before[place]

    def _relink(self, place: int) -> None:
        self.after[self._before[place]] = place
        self._before[self.after[place]] = place
