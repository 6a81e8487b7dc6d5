"""TLS between a transport and a protocol: the same for the clients' port and the peers', on any event loop.

`Channel` is TLS without I/O: bytes from the network in, bytes for the network and plain ones out. `TlsProtocol` sits
on a transport, and what it carries sees `TlsTransport`, another one. The loop's own TLS is not used: one port must
take TLS and plain connections alike, and uvloop and asyncio must do the same. Knows nothing of certificates' names
(`peers/tls.py`, `x509.py`) nor of files (`credentials.py`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, cast

from journal.errors import TlsFailed

HANDSHAKE_BYTES_MAX = 256 * 1024
"""What the other side may send before the handshake is done: some chains of certificates are long, none is this."""
LINGER_SECONDS = 1.0
"""How long a failed connection is kept so that the other side can read why; what it still says is thrown away."""
HANDSHAKE, ALERT = 0x16, 0x15
"""The first byte of a TLS connection, and of one that is refused at once."""
NO_TLS = "the other side does not speak TLS"

_READ_BYTES = 256 * 1024


class Channel:
    """One end of a TLS connection. After each call, `outgoing` is to be sent."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        """Never more than one record that is incomplete: all that is complete is read at once."""
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self.established = False
        """The handshake is done, and the other side's certificate verified as far as one was asked for."""
        self.ended = False
        """The other side has said that it is done."""
        self._before = 0
        """Bytes received before the handshake was done."""

    def begin(self) -> None:
        """Say hello: for the side that dialed."""
        self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """What `data` brings for the user. Raises TlsFailed; then too, `outgoing` tells the other side why."""
        if not self.established:
            if not self._before and data and data[0] not in (HANDSHAKE, ALERT):
                raise TlsFailed(NO_TLS)
            self._before += len(data)
        self._incoming.write(data)
        if not self.established:
            self._shake_hands()
            if not self.established:
                if self._before > HANDSHAKE_BYTES_MAX:
                    raise TlsFailed(f"more than {HANDSHAKE_BYTES_MAX} bytes before the end of the handshake")
                return b""
        return self._read()

    def send(self, data: bytes) -> None:
        """Encrypt. Only when established."""
        assert self.established, len(data)
        left = memoryview(data)
        while left:
            try:
                left = left[self._object.write(left) :]
            except ssl.SSLError as error:
                raise TlsFailed(reason_of(error)) from error

    def close(self) -> None:
        """Tell the other side that nothing more comes."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it wants the other side's farewell, for which nobody waits; or the handshake was not done

    def outgoing(self) -> bytes:
        return self._outgoing.read()

    def certificate(self) -> bytes | None:
        """The other side's verified certificate in DER form, if it gave one."""
        return self._object.getpeercert(binary_form=True)

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise TlsFailed(reason_of(error)) from error
        self.established = True

    def _read(self) -> bytes:
        pieces = []
        tls = self._object
        try:
            # Asking once more than there is costs an exception, so it is not done where it can be seen.
            while self._incoming.pending or tls.pending():
                piece = tls.read(_READ_BYTES)
                if not piece:
                    self.ended = True
                    break
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass  # the rest of a record is still to come
        except ssl.SSLZeroReturnError:
            self.ended = True  # said so where this side had said so before
        except ssl.SSLError as error:
            raise TlsFailed(reason_of(error)) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def reason_of(error: ssl.SSLError) -> str:
    """The failure in words, without the numbers and the source file that OpenSSL adds."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if error.reason:
        return error.reason.replace("_", " ").lower().replace("tlsv1 alert", "alert").replace("tlsv13 alert", "alert")
    return str(error)


class TlsTransport(asyncio.Transport):
    """A transport whose bytes are encrypted before the one below gets them."""

    def __init__(self, below: asyncio.Transport, channel: Channel) -> None:
        super().__init__()
        self._below = below
        self.channel = channel
        self.subject: str | None = None
        """Who the other side is by its certificate; set by whoever wants it known. Asked for as "subject"."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "subject":
            return self.subject
        return self._below.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._below.is_closing():
            return
        for piece in list_of_data:
            self.channel.send(cast("bytes", piece))
        self._below.write(self.channel.outgoing())

    def get_write_buffer_size(self) -> int:
        return self._below.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def close(self) -> None:
        if not self._below.is_closing():
            self.channel.close()
            if farewell := self.channel.outgoing():
                self._below.write(farewell)
        self._below.close()

    def abort(self) -> None:
        self._below.abort()

    def pause_reading(self) -> None:
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()


class TlsProtocol(asyncio.Protocol):
    """What a transport carries when TLS is spoken on it, and around the protocol that is meant.

    A subclass says when TLS begins (`secure`) and when `inner` hears of its connection: it must have, by the time that
    `on_secured` returns.
    """

    def __init__(self, inner: asyncio.Protocol, *, server_side: bool) -> None:
        self.inner = inner
        self._server_side = server_side
        self.below: asyncio.Transport
        """The plain transport."""
        self._transport: TlsTransport | None = None
        self._failure: TlsFailed | None = None
        self._lingering: asyncio.TimerHandle | None = None

    # For subclasses.

    @property
    def transport(self) -> TlsTransport:
        """What `inner` writes to, since `secure`."""
        assert self._transport is not None
        return self._transport

    def secure(self) -> None:
        """From now on TLS is spoken."""
        channel = Channel(self.context(), server_side=self._server_side)
        self._transport = TlsTransport(self.below, channel)
        if not self._server_side:
            channel.begin()
            self.below.write(channel.outgoing())

    def context(self) -> ssl.SSLContext:
        """The certificates of this moment."""
        raise NotImplementedError

    def on_begun(self) -> None:
        """A connection stands; nothing was said yet."""

    def on_secured(self) -> None:
        """The handshake is done."""

    def on_failed(self, failure: TlsFailed) -> None:
        """It has failed, in the handshake or later. `inner` hears of it when the connection has ended."""

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.below = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it
        self.on_begun()

    def data_received(self, data: bytes) -> None:
        if self._failure is not None or self.below.is_closing():
            return
        channel = self.transport.channel
        new = not channel.established
        try:
            plain = channel.receive(data)
        except TlsFailed as failure:
            self.fail(failure)
            return
        if answer := channel.outgoing():
            self.below.write(answer)
        if new and channel.established:
            self.on_secured()
        if plain and self._failure is None:
            self.inner.data_received(plain)
        if channel.ended and not self.below.is_closing():
            self._end()

    def eof_received(self) -> bool:
        if self._failure is None and self._transport is not None and self._transport.channel.established:
            self._end()
        return False

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self.inner.connection_lost(self._failure or error)

    def fail(self, failure: TlsFailed) -> None:
        """End a connection that cannot go on, and let the other side know why."""
        self._failure = failure
        self.on_failed(failure)
        if self.below.is_closing():
            return
        channel = self.transport.channel
        if alert := channel.outgoing():
            self.below.write(alert)
        if channel.established or not self.below.can_write_eof():
            self.below.close()
            return
        # To close while unread data comes in would reset the connection, and take our last words with it.
        self.below.write_eof()
        self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.below.abort)

    def _end(self) -> None:
        """The other side is done. Half-closed connections are of no use to anybody here."""
        if not self.inner.eof_received():
            self.transport.close()
