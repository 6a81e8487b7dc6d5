"""The clients' port: moves bytes between sockets and connections.

A plain `asyncio.Protocol`, on uvloop where it exists: no task is woken per request or answer. Which protocol
a client speaks is told by its first bytes, see `greeting`; TLS is spoken one layer below (`tls.py`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable
from typing import cast

from jkcs_server.serving.connection import Sink
from jkcs_server.serving.crowd import Crowd
from jkcs_server.serving.greeting import Undecided
from jkcs_server.serving.tls import ClientTls, Porch
from journal.addresses import show_address

logger = logging.getLogger("jkcs_server.listener")

_THIS_MACHINE = "127.0.0.1"
SLICE_BYTES = 2048
"""What a client sends is looked at in pieces of so many bytes, ..."""
BURST_BYTES = 1 << 20
"""... and when so much was written to it meanwhile, the others come first: small requests may have large answers."""

Accept = Callable[[Sink], Undecided | None]
"""Makes the connection behind a socket; None refuses it."""


class ClientProtocol(asyncio.Protocol):
    """One client's socket."""

    def __init__(self, accept: Accept, crowd: Crowd) -> None:
        self._accept = accept
        self._crowd = crowd
        self._counted = ""
        """The address under which the crowd counts it; empty where it is not counted."""
        self._connection: Undecided | None = None
        self._transport: asyncio.Transport
        self._held = b""
        """What was received and not looked at yet. While there is some, nothing more is read."""
        self._paused = False
        """By the connection."""
        self._written = 0
        """Bytes, since the client's turn began."""

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._enter():
            self._connection = self._accept(self)
            if self._connection is None:
                logger.warning("refused a client: too many connections")
                self._transport.close()
        else:
            logger.warning("refused a client: %d connections from its address", self._crowd.most)
            self._transport.close()

    def _enter(self) -> bool:
        """Whether there is room for one more of its address. Whoever comes through a proxy has this machine's."""
        if self.is_local():
            return True
        address = plain_address(self._transport.get_extra_info("peername")[0])
        if not self._crowd.enter(address):
            return False
        self._counted = address
        return True

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if connection is None or connection.closed:
            return
        if len(data) <= SLICE_BYTES and not self._held:
            connection.receive(data)
        elif self._held:
            self._held += data
        else:
            self._give(connection, data)

    def _give(self, connection: Undecided, data: bytes) -> None:
        """Hand on what was received, until it is another client's turn."""
        self._written = 0
        for at in range(0, len(data), SLICE_BYTES):
            if self._paused or self._written > BURST_BYTES:
                self._held = data[at:]
                self._transport.pause_reading()
                if not self._paused:
                    asyncio.get_running_loop().call_soon(self._go_on)
                return
            connection.receive(data[at : at + SLICE_BYTES])
            if connection.closed or self._transport.is_closing():
                return

    def _go_on(self) -> None:
        """It is this client's turn again."""
        connection, data = self._connection, self._held
        if self._paused or connection is None or connection.closed or self._transport.is_closing():
            return
        self._held = b""
        self._give(connection, data)
        if not self._held and not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._held = b""
        if self._counted:
            self._crowd.leave(self._counted)
            self._counted = ""
        if self._connection is not None:
            self._connection.lost()

    # The connection's side (connection.Sink).

    def write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)

    def unsent(self) -> int:
        # A client that is gone, which is told only after this turn, takes nothing of whatever is still made for it.
        return sys.maxsize if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def close(self) -> None:
        self._transport.close()

    def pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        if self._held:
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._transport.resume_reading()

    def is_local(self) -> bool:
        peer = self._transport.get_extra_info("peername")
        # No address: a socket of the file system, or a client in this very process.
        return not isinstance(peer, tuple) or is_loopback(peer[0])

    def address(self) -> str:
        peer = self._transport.get_extra_info("peername")
        return show_address((peer[0], peer[1])) if isinstance(peer, tuple) else ""

    def identities(self) -> tuple[tuple[str, str], ...]:
        peer = self._transport.get_extra_info("peername")
        ip = "ip", plain_address(peer[0]) if isinstance(peer, tuple) else _THIS_MACHINE
        subject = self._transport.get_extra_info("subject")
        return (ip,) if subject is None else (ip, ("x509", subject))


def plain_address(host: str) -> str:
    """An IP address as access control lists name it: without a zone, and as IPv4 where it is one.

    What is none stays what it is: who is known by another name is nobody that a list names.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_loopback(host: str) -> bool:
    """Whether this is an IP address that only its own machine has."""
    try:
        return ipaddress.ip_address(plain_address(host)).is_loopback
    except ValueError:
        return False


class Listener:
    """The bound port."""

    def __init__(self, accept: Accept, crowd: Crowd, tls: ClientTls | None = None) -> None:
        self._accept = accept
        self._crowd = crowd
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def start(self, address: tuple[str, int]) -> tuple[str, int]:
        """Bind and listen. Returns the address with its real port. Raises OSError naming the address."""
        loop = asyncio.get_running_loop()
        host, port = address
        try:
            self._server = await loop.create_server(
                self._client if self._tls is None else self._porch, host, port, reuse_address=True, backlog=1024
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"cannot listen for clients on {host}:{port}: {reason}") from error
        bound = self._server.sockets[0].getsockname()
        return host, bound[1]

    def _client(self) -> asyncio.Protocol:
        return ClientProtocol(self._accept, self._crowd)

    def _porch(self) -> asyncio.Protocol:
        assert self._tls is not None
        return Porch(self._client, self._tls)

    async def close(self) -> None:
        """Take no more clients. Open connections are the server's to close."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._tls is not None:
            self._tls.close()
