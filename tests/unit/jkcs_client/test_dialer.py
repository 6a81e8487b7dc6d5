"""The way to a server over real sockets."""

from __future__ import annotations

import socket

import anyio
import pytest
from anyio.abc import SocketAttribute

from jkcs_client.address import Address
from jkcs_client.dialer import dial_tcp

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Real sockets need real time."""
    backend: str = request.param
    return backend


async def test_a_connection_has_no_delay() -> None:
    """Nagle's algorithm would add forty milliseconds to a request that follows another."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
        async with await dial_tcp(Address("127.0.0.1", port)) as stream:
            raw = stream.extra(SocketAttribute.raw_socket)
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_nobody_there_is_an_os_error() -> None:
    """The one kind that the session expects."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError):
            await dial_tcp(Address("127.0.0.1", unused.getsockname()[1]))


async def test_an_impossible_name_is_an_os_error() -> None:
    """A label of more than 63 characters cannot even be looked up."""
    with pytest.raises(OSError):
        await dial_tcp(Address("a" * 64 + ".invalid", 1))
