"""A server for the tests of those who only ask: it accepts one connection after another and sends what it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jkcs_client.protocol.errors import OK
from jkcs_client.protocol.framing import frame, pack

HELLO = [OK, 0, b"", 0, 1, "n1", 1 << 20, 1024, 0]


@contextmanager
def answering(*pieces: bytes) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """Send the pieces one by one to each connection; its address, and what it was sent before that."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(1 << 16))
                    for piece in pieces:
                        connection.sendall(piece)
                    if pieces and pieces[-1] == b"":
                        connection.recv(1 << 16)  # says nothing more, and stays

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname(), received
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def framed(*messages: list[Any]) -> bytes:
    """One frame with these messages."""
    return frame([pack(message) for message in messages])


def status_of(node: str, role: str = "follower", **fields: Any) -> dict[str, Any]:
    """A STATUS map like a server's."""
    return {
        "node": node,
        "cluster": "jkcs",
        "version": "0.1.0",
        "pid": 1,
        "role": role,
        "leader": "n1",
        "term": 3,
        "uptime_s": 61.5,
        "last_index": 100,
        "commit_index": 100,
        "applied_index": 100,
        "snapshot_index": 0,
        "log_first_index": 1,
        "keys": 5,
        "sessions": 2,
        "connections": 2,
        "watches": 0,
        "members": [],
        **fields,
    }
