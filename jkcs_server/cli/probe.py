"""One question to one server: its STATUS, over the native protocol, on a connection without a session.

Blocking and without an event loop, so that it costs nothing where a script or another command only wants
to know whether a server is there. Called by `status.py` and `processes.py`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jkcs_client.protocol.errors import OK, JkcsError, ProtocolError, error_for
from jkcs_client.protocol.framing import FrameDecoder, frame, pack
from jkcs_client.protocol.messages import PREFACE, STATUS
from jkcs_client.tls import reason_of
from jkcs_server.config import Address

PROBES_AT_ONCE_MAX = 16
_RECEIVE_BYTES = 1 << 16
_REQUEST_ID = -1


class ProbeFailed(Exception):
    """The server could not be asked. The text is fit for a table: short and without the address."""


def ask_status(address: Address, *, timeout: float = 2.0, tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """The server's STATUS map. Raises ProbeFailed saying why there is none, after at most `timeout` seconds."""
    deadline = time.monotonic() + timeout
    try:
        with _connected(address, timeout, tls) as connection:
            connection.sendall(PREFACE + frame([pack([0, b"", 0, 0])]) + frame([pack([STATUS, _REQUEST_ID])]))
            return _read_status(connection, deadline)
    except TimeoutError:
        raise ProbeFailed(f"no answer within {timeout:g} s") from None
    except ssl.SSLError as error:
        raise ProbeFailed(f"TLS failed: {reason_of(error)}") from None
    except OSError as error:
        raise ProbeFailed((error.strerror or str(error)).lower()) from None
    except JkcsError as error:
        raise ProbeFailed(str(error)) from None


def _connected(address: Address, timeout: float, tls: ssl.SSLContext | None) -> socket.socket:
    connection = socket.create_connection(address, timeout=timeout)
    if tls is None:
        return connection
    try:
        return tls.wrap_socket(connection, server_hostname=address[0])
    except BaseException:
        connection.close()
        raise


def _read_status(connection: socket.socket, deadline: float) -> dict[str, Any]:
    decoder = FrameDecoder()
    greeted = False
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise ProtocolError("the connection was closed before an answer came")
        for message in decoder.feed(data):
            if not greeted:
                _check_hello(message)
                greeted = True
            elif message[:1] == [_REQUEST_ID]:
                return _status_of(message)


def _check_hello(message: list[Any]) -> None:
    match message:
        case [int(code), *_] if code == OK:
            return
        case [int(code), str(detail)] if code != OK:
            raise error_for(code, detail)
        case _:
            raise ProtocolError("the hello was answered with something else")


def _status_of(message: list[Any]) -> dict[str, Any]:
    match message:
        case [_, int(code), int(_), dict(status)] if code == OK:
            return status
        case [_, int(code), int(_), str(detail)] if code != OK:
            raise error_for(code, detail)
        case _:
            raise ProtocolError("STATUS was answered with something else")


def ask_each(
    addresses: Iterable[Address], *, timeout: float = 2.0, tls: ssl.SSLContext | None = None
) -> dict[Address, dict[str, Any] | ProbeFailed]:
    """What each server said, or why it did not; all are asked at the same time."""
    wanted = list(dict.fromkeys(addresses))
    answers: dict[Address, dict[str, Any] | ProbeFailed] = {}
    if not wanted:
        return answers
    with ThreadPoolExecutor(min(len(wanted), PROBES_AT_ONCE_MAX)) as pool:
        futures = [pool.submit(ask_status, address, timeout=timeout, tls=tls) for address in wanted]
    for address, future in zip(wanted, futures, strict=True):
        try:
            answers[address] = future.result()
        except ProbeFailed as failure:
            answers[address] = failure
    return answers


def leader_of(statuses: Iterable[dict[str, Any]]) -> str | None:
    """The name of the leader with the highest term that says so itself; None when nobody does."""
    leading = [(status["term"], status["node"]) for status in statuses if status.get("role") == "leader"]
    with contextlib.suppress(ValueError):
        return str(max(leading)[1])
    return None
