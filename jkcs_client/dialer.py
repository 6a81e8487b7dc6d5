"""The way to a server: the seam at which the client gets its byte stream.

The default is TCP. The simulator brings its own dialer, and so does a node that hands out clients to its own
process. A dialer knows nothing of sessions; `session` bounds its time.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream, SocketAttribute

from jkcs_client.address import Address

Dialer = Callable[[Address], Awaitable[ByteStream]]
"""Open a connection. Raises OSError when there is none."""

CONNECT_TIMEOUT = 3.0
"""Seconds; a server that does not even accept must leave time to try the others."""


async def dial_tcp(address: Address) -> ByteStream:
    """A TCP connection without Nagle's delay. The name is resolved each time: addresses move."""
    try:
        with anyio.fail_after(CONNECT_TIMEOUT):
            stream = await anyio.connect_tcp(address.host, address.port)
    except TimeoutError:
        raise OSError(f"no connection within {CONNECT_TIMEOUT:g} s") from None
    except UnicodeError as error:
        raise OSError(f"{address.host!r} is no host name: {error}") from None
    # Event loops differ in whether they do this by themselves.
    raw_socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - it is no database query
    raw_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream
