"""The updates of one `Journal` that are on their way, from being asked for until they are applied.

Numbers them, makes requests of them, and decides for each whether it can be answered: by its results, by a word
of the leader, or because its fate can never be known. Knows nothing of the loop or of how a request travels; driven
by `desk.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from journal.errors import Busy, JournalError, UpdateUncertain
from journal.exactly_once import RESULTS_KEPT_MAX, Origin, Results, request
from journal.levels import Response
from journal.raft.messages import RECEIVED, STORED

UPDATES_MAX = RESULTS_KEPT_MAX
"""Updates on their way at once: as many as the other side remembers."""

GAP = "the node took a snapshot in which nothing is left of the update: it may have been applied"

_ACKNOWLEDGEMENTS = {Response.RECEIVE: RECEIVED, Response.PERSISTENCE: STORED, Response.ALL: STORED}

Tell = Callable[[int, Results, JournalError | None], None]
"""Called once: with the index of the first command and the results, both empty where the level of response does not
wait for them, or with an error."""


class Update:
    """One update on its way."""

    __slots__ = ("acknowledged", "commands", "context", "index", "response", "results", "serial", "size", "tell")

    def __init__(self, serial: int, commands: tuple[bytes, ...], size: int, response: Response, tell: Tell) -> None:
        self.serial = serial
        self.commands = commands
        self.size = size
        self.response = response
        self.tell: Tell | None = tell
        """None once it was answered, or when nobody waits any more."""
        self.context = 0
        """Under which the leader was last asked to acknowledge it; 0 never."""
        self.acknowledged = False
        self.index = 0
        self.results: Results | None = None
        """What came of it, kept while only the acknowledgement is missing."""

    @property
    def count(self) -> int:
        """How many indices it takes."""
        return len(self.commands) or 1

    @property
    def wanted(self) -> int:
        """What the leader is still asked to acknowledge: 0, RECEIVED or STORED."""
        return 0 if self.acknowledged or self.tell is None else _ACKNOWLEDGEMENTS.get(self.response, 0)


class Updates:
    """In the order in which they were asked for, which is the order in which they are applied."""

    def __init__(self, bytes_max: int, on_gone: Callable[[], None]) -> None:
        self.origin = 0
        """Under which they are proposed; 0 while none is open. Then nothing that was proposed can have an effect
        any more, but for what `restored` has answered as uncertain."""
        self._serial = 0
        """The last one given."""
        self._pending: dict[int, Update] = {}
        """By serial, ascending."""
        self._contexts: dict[int, list[Update]] = {}
        """What the leader was asked to acknowledge, by the context of the question."""
        self._context = 0
        self._bytes = 0
        self._bytes_max = bytes_max
        self._on_gone = on_gone

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, update: Update) -> bool:
        return self._pending.get(update.serial) is update

    def __iter__(self) -> Iterator[Update]:
        return iter(list(self._pending.values()))

    @property
    def oldest(self) -> int:
        """Serial of the update that has waited longest; 0 without one."""
        return next(iter(self._pending), 0)

    def add(self, commands: tuple[bytes, ...], response: Response, tell: Tell) -> Update:
        """Take in an update. Raises Busy when too much is on its way."""
        size = sum(map(len, commands))
        if len(self._pending) >= UPDATES_MAX or (self._pending and self._bytes + size > self._bytes_max):
            raise Busy(f"{len(self._pending)} updates of {self._bytes} bytes are on their way")
        self._serial += 1
        update = self._pending[self._serial] = Update(self._serial, commands, size, response, tell)
        self._bytes += size
        return update

    def request(self, update: Update) -> bytes:
        """What is to be proposed, now that an origin is open."""
        assert self.origin, update.serial
        return request(self.origin, update.serial, self.oldest - 1, update.commands)

    def new_context(self, updates: list[Update]) -> int:
        """The context under which the leader is asked to acknowledge `updates` together. What an earlier leader was
        asked counts no more: it may have lost what it had in memory."""
        self._context += 1
        for update in updates:
            self._leave_context(update)
            update.context = self._context
        self._contexts[self._context] = updates
        return self._context

    def abandon(self, update: Update) -> bool:
        """Nobody waits any more. True when it certainly has no effect.

        Otherwise its commands are no longer proposed, only its serial: what comes first in the log counts.
        """
        update.tell = None
        if update not in self:
            return False
        if not self.origin:
            self._gone(update)
            self._number_anew()
            return True
        if update.results is not None:
            self._gone(update)
        else:
            self._empty(update)
        return False

    def on_acknowledged(self, context: int) -> None:
        """The leader has what it was asked for."""
        for update in self._contexts.pop(context, ()):
            update.acknowledged = True
            if update.response is not Response.ALL:
                _answer(update, 0, ())
            elif update.results is not None:
                self._gone(update)
                _answer(update, update.index, update.results)

    def on_results(self, serial: int, index: int, results: Results) -> None:
        """A request of the present origin was applied, for the first time or before."""
        update = self._pending.get(serial)
        if update is None:
            return
        if update.results is None:
            update.index, update.results = index, results
        if update.response is Response.ALL and update.wanted:
            return
        self._gone(update)
        if update.response in (Response.REPLICATION, Response.ALL):
            _answer(update, update.index, update.results)
        else:
            _answer(update, 0, ())  # applied, which is more than was asked for

    def on_forgotten(self) -> None:
        """The origin is not known any more. What was applied under it has been answered; the rest never will be
        applied under it, and goes under a new one."""
        self.origin = 0
        for update in self:
            if update.results is not None:
                self._empty(update)  # it only waits for the word of a leader, and must not be applied again
        self._number_anew()

    def restored(self, origin: Origin | None) -> None:
        """The state was replaced by a later one, in which `origin` is what is left of ours."""
        if not self.origin:
            return
        if origin is None:
            self._doubt(list(self._pending.values()), GAP)
            self.on_forgotten()
            return
        for update in self:
            kept = origin.results_of(update.serial)
            if kept is not None:
                self.on_results(update.serial, *kept)
            elif update.serial <= origin.serial and update.results is None:
                self._doubt([update], GAP)

    def stop(self, why: JournalError) -> None:
        """Nothing more will be proposed, and nobody listens to what still happens."""
        if self.origin:
            self._doubt(list(self._pending.values()), f"{why}; the update may have been applied")
        for update in self:
            self._gone(update)
            _answer(update, 0, (), why)

    def _doubt(self, updates: list[Update], why: str) -> None:
        for update in updates:
            self._gone(update)
            if update.results is not None:
                _answer(update, update.index, update.results)  # applied, though a disk could not be asked
            else:
                _answer(update, 0, (), UpdateUncertain(why))

    def _number_anew(self) -> None:
        waiting = list(self._pending.values())
        self._pending.clear()
        self._serial = 0
        for update in waiting:
            self._serial += 1
            update.serial = self._serial
            self._pending[self._serial] = update

    def _empty(self, update: Update) -> None:
        """Propose no more than the serial of an update."""
        self._bytes -= update.size
        update.commands, update.size = (), 0

    def _gone(self, update: Update) -> None:
        del self._pending[update.serial]
        self._leave_context(update)
        self._bytes -= update.size
        self._on_gone()

    def _leave_context(self, update: Update) -> None:
        asked = self._contexts.get(update.context)
        if asked is not None:
            asked.remove(update)
            if not asked:
                del self._contexts[update.context]


def _answer(update: Update, index: int, results: Results, error: JournalError | None = None) -> None:
    tell, update.tell = update.tell, None
    if tell is not None:
        tell(index, results, error)
