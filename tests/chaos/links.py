"""A TCP proxy that can be cut, slowed, torn and reset: one direction between two nodes, or the way of clients to one.

A node sends to a peer only on the connection it has dialed, so a link from `a` to `b` carries what `a` says to `b`
and, but for the handshake, nothing back: to cut it is to cut one direction. A cut link loses nothing and ends
nothing; like a network that drops packets under TCP it is silent, and what was on its way comes when it heals.
Knows nothing of what the bytes mean. Runs in one event loop; driven by `cluster.py`.
"""

from __future__ import annotations

import asyncio

Address = tuple[str, int]
HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


class Link:
    """One listening port, and the connections that came to it, each joined to one of its own to `target`."""

    def __init__(self, name: str, target: Address) -> None:
        self.name = name
        self._target = target
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        """Clear while the link is cut."""
        self._open.set()
        self._delay = 0.0
        """Seconds that every chunk waits before it goes on."""
        self._tear_after: int | None = None
        """Of the next chunk only so many bytes go on; then its connection is reset."""
        self._pairs: set[_Pair] = set()
        self.torn = 0
        """How many frames were cut in their midst."""

    async def start(self) -> Address:
        """Listen on a port that the system chooses and this object keeps: nobody can take it meanwhile."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return HOST, port

    async def close(self) -> None:
        """Reset everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.reset()

    # What can be done to it.

    def cut(self) -> None:
        """Hold back every byte, and whatever connects, until `heal`."""
        self._open.clear()

    def slow(self, delay: float) -> None:
        """Let every chunk wait so many seconds."""
        self._delay = delay

    def tear(self, after: int) -> None:
        """Let `after` bytes of the next chunk through, or all but one if it is shorter, and reset its connection."""
        assert after >= 0, after
        self._tear_after = after

    def reset(self) -> None:
        """Reset the connections that there are."""
        for pair in list(self._pairs):
            pair.abort()

    def heal(self) -> None:
        """Everything is well again."""
        self._delay = 0.0
        self._tear_after = None
        if not self._open.is_set():
            # Through a real cut nobody would have connected, and a greeting must not arrive after its sender left.
            for pair in [each for each in self._pairs if not each.joined]:
                pair.abort()
        self._open.set()

    # How bytes pass.

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(writer)
        self._pairs.add(pair)
        try:
            await self._open.wait()
            if pair.over:
                return
            # The target may be dead: then the one that came is reset, as it would have been by the kernel.
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            pair.join(far_writer)
            if pair.over:
                return
            back = asyncio.ensure_future(self._pump(far_reader, writer, pair))
            try:
                await self._pump(reader, far_writer, pair)
            finally:
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
        except OSError:
            pass
        finally:
            pair.abort()
            self._pairs.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
        """Move bytes until either side ends; then both end at once, because nobody half-closes here."""
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._open.wait()
                if self._delay:
                    await asyncio.sleep(self._delay)
                    await self._open.wait()
                if pair.over or writer.is_closing():
                    return
                if self._tear_after is not None:
                    await self._tear(data, writer)
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            pair.abort()

    async def _tear(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        assert self._tear_after is not None
        part = data[: min(self._tear_after, len(data) - 1)]
        self._tear_after = None
        self.torn += 1
        if part:
            writer.write(part)
            await writer.drain()


class _Pair:
    """The two connections that belong together; they end together."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self._writers = [near]
        self.over = False

    @property
    def joined(self) -> bool:
        return len(self._writers) == 2

    def join(self, far: asyncio.StreamWriter) -> None:
        self._writers.append(far)
        if self.over:
            far.transport.abort()

    def abort(self) -> None:
        self.over = True
        for writer in self._writers:
            writer.transport.abort()
