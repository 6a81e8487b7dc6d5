"""State machines of the kind that users bring, for tests of the journal under them."""

from __future__ import annotations

from collections.abc import Iterable

from journal import CommandRefused, Moment, StateMachine


class Ledger(StateMachine):
    """Keeps every command in order. `no` is refused, `tell ...` is told as an event, `boom` breaks the machine."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.closed = False

    def apply(self, command: bytes, at: Moment) -> bytes | None:
        if command == b"no":
            raise CommandRefused("no means no")
        if command == b"boom":
            raise RuntimeError("boom")
        if command.startswith(b"tell "):
            at.emit(command[5:])
        self.lines.append(command)
        return b"%d" % at.index

    def query(self, question: bytes) -> bytes | None:
        if question == b"last":
            return self.lines[-1] if self.lines else None
        if question == b"all":
            return b" ".join(self.lines)
        if question == b"fault":
            raise ValueError("no such question")
        return b"%d" % len(self.lines)

    def snapshot(self) -> Iterable[bytes]:
        yield from list(self.lines)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.lines = list(chunks)

    def close(self) -> None:
        self.closed = True
