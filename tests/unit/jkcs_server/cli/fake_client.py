"""A client whose cluster is a dictionary: what the shell and the demo need of one, without servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jkcs_client import Event, Stat
from jkcs_client.protocol.errors import BadVersion, JkcsError, NodeExists, NoNode, NotEmpty


class FakeClient:
    """Keys and values in a dictionary; failures and events on demand."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {"/": b""}
        self.versions: dict[str, int] = {"/": 0}
        self.events: list[Event] = []
        self.failures: list[JkcsError] = []
        """Raised by the next calls, one each."""
        self.reads: list[tuple[str, str]] = []
        """What was read, and how."""

    def put(self, path: str, value: bytes = b"") -> FakeClient:
        """A key and all keys above it."""
        names = path.strip("/").split("/")
        for count in range(1, len(names) + 1):
            self.values.setdefault("/" + "/".join(names[:count]), b"")
            self.versions.setdefault("/" + "/".join(names[:count]), 0)
        self.values[path] = value
        return self

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def _check(self, path: str, version: int = -1) -> None:
        self._fail()
        if path not in self.values:
            raise NoNode(path=path)
        if version not in (-1, self.versions[path]):
            raise BadVersion(path=path)

    def _names(self, path: str) -> list[str]:
        start = path.rstrip("/") + "/"
        below = [key[len(start) :] for key in self.values if key.startswith(start)]
        return sorted(name for name in below if name and "/" not in name)

    def _stat(self, path: str) -> Stat:
        owner = 0xABC if path.endswith("-e") else 0
        counts = len(self.values[path]), len(self._names(path))
        return Stat(1, 2, 3, 1000.0, 2000.0, self.versions[path], 0, owner, *counts, 9)

    async def get(self, path: str, *, read: str = "linearizable") -> tuple[bytes, Stat]:
        self._check(path)
        self.reads.append((path, read))
        return self.values[path], self._stat(path)

    async def exists(self, path: str) -> Stat | None:
        self._fail()
        return self._stat(path) if path in self.values else None

    async def children(self, path: str, *, read: str = "linearizable") -> list[str]:
        self._check(path)
        return self._names(path)

    async def create(self, path: str, value: bytes = b"", **flags: Any) -> str:
        self._fail()
        if flags.get("sequential"):
            path += f"{len(self.values):010d}"
        if path in self.values:
            raise NodeExists(path=path)
        if (path.rpartition("/")[0] or "/") not in self.values and not flags.get("parents"):
            raise NoNode(path=path)
        self.put(path, value)
        return path

    async def set(self, path: str, value: bytes, version: int = -1) -> Stat:
        self._check(path, version)
        self.values[path] = value
        self.versions[path] += 1
        return self._stat(path)

    async def delete(self, path: str, version: int = -1, recursive: bool = False) -> None:
        self._check(path, version)
        if self._names(path) and not recursive:
            raise NotEmpty(path=path)
        for key in [key for key in self.values if key == path or key.startswith(path + "/")]:
            del self.values[key]

    @asynccontextmanager
    async def watch(self, path: str, recursive: bool = False) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            for event in self.events:
                yield event

        yield events()

    async def __aenter__(self) -> FakeClient:
        self._fail()
        return self

    async def __aexit__(self, *_: object) -> None:
        pass
