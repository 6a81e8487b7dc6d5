"""The porch of the clients' port: TLS and plain connections come in by the same door.

The first byte tells which it is. A plain connection is handed on as it is and costs nothing more; one with TLS stays
below this module, and whoever serves the client sees a transport like any other, and the name in its certificate.
Clients that are still in the porch have a deadline and a limit of their own. Called by `listener.py`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from jkcs_client.protocol.errors import ProtocolError
from jkcs_client.protocol.framing import frame, pack
from jkcs_client.protocol.messages import MAGIC
from journal.clock import wall_milliseconds
from journal.complaints import Complaints
from journal.credentials import CredentialFiles, Credentials, context_of
from journal.errors import TlsFailed
from journal.tls import HANDSHAKE, TlsProtocol
from journal.x509 import read_certificate

logger = logging.getLogger("jkcs_server.tls")

HANDSHAKE_SECONDS = 10.0
"""From connecting to the end of the handshake, or to the first byte of a plain connection."""
HANDSHAKES_MAX = 2000
"""Clients in the porch; one more is closed at once."""

_VERIFY = {"none": ssl.CERT_NONE, "want": ssl.CERT_OPTIONAL, "need": ssl.CERT_REQUIRED}
"""Whether clients show a certificate: not asked, checked if they do, or required."""


class ClientTls:
    """What all connections of the clients' port share: its certificates, its rules, and who is in the porch."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        client_ca: Path | None = None,
        client_auth: str = "none",
        only: bool = False,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        handshakes_max: int = HANDSHAKES_MAX,
        wall: Callable[[], int] = wall_milliseconds,
    ) -> None:
        """`only`: plain connections are refused. Raises CredentialsRefused when the files cannot be used."""
        verify = _VERIFY[client_auth]
        self.only = only
        self.handshake_seconds = handshake_seconds
        self._handshakes_max = handshakes_max
        self._wall = wall
        self._waiting: set[Porch] = set()
        self._complaints = Complaints()
        # Authorities that nobody is measured by are not loaded: they would be named to clients all the same.
        files = CredentialFiles(certificate, key, client_ca if verify != ssl.CERT_NONE else None)
        self._credentials = Credentials(
            files,
            lambda files: context_of(files, ssl.PROTOCOL_TLS_SERVER, verify=verify, oldest=ssl.TLSVersion.TLSv1_2),
        )

    def context(self) -> ssl.SSLContext:
        """For a connection of this moment."""
        return self._credentials.at(asyncio.get_running_loop().time())

    def subject_of(self, der: bytes) -> str:
        """Whose certificate it is, which was verified. Raises TlsFailed when it has expired since."""
        try:
            certificate = read_certificate(der)
        except ValueError as error:
            raise TlsFailed(f"its certificate cannot be read: {error}") from None
        # TLS 1.2 lets a client come back to an earlier handshake for two hours, and verifies nothing anew.
        if certificate.not_after.timestamp() * 1000 < self._wall():
            raise TlsFailed("its certificate has expired")
        return certificate.subject

    def reload(self) -> None:
        """Read the files again now. Connections that stand are not touched."""
        self._credentials.reload()

    def enter(self, porch: Porch) -> bool:
        """Whether there is room for one more."""
        if len(self._waiting) >= self._handshakes_max:
            return False
        self._waiting.add(porch)
        return True

    def leave(self, porch: Porch) -> None:
        self._waiting.discard(porch)

    def complain(self, remote: str, reason: str) -> None:
        if self._complaints.is_news(remote, reason, asyncio.get_running_loop().time()):
            logger.warning("turned away a client from %s: %s", remote, reason)

    def close(self) -> None:
        """End what is still in the porch. Clients that have come in are the server's to close."""
        for porch in list(self._waiting):
            porch.below.abort()


class Porch(TlsProtocol):
    """One client's socket, until it is known what it speaks; and after that, if it is TLS."""

    def __init__(self, make: Callable[[], asyncio.Protocol], tls: ClientTls) -> None:
        super().__init__(asyncio.Protocol(), server_side=True)
        self._make = make
        self._tls = tls
        self._undecided = True
        self._patience: asyncio.TimerHandle | None = None

    def context(self) -> ssl.SSLContext:
        return self._tls.context()

    def on_begun(self) -> None:
        if not self._tls.enter(self):
            self._turn_away("too many clients that have not introduced themselves yet")
            return
        loop = asyncio.get_running_loop()
        seconds = self._tls.handshake_seconds
        self._patience = loop.call_later(seconds, self._turn_away, f"it was not done after {seconds:g} s")

    def data_received(self, data: bytes) -> None:
        if self._undecided:
            self._undecided = False
            if data[0] != HANDSHAKE:
                self._hand_on(data)
                return
            self.secure()
        super().data_received(data)

    def _hand_on(self, data: bytes) -> None:
        """A plain connection: from now on somebody else's."""
        self._left()
        if self._tls.only:
            if data[:1] == MAGIC[:1]:  # one of ours, which understands a word
                error = ProtocolError("this server requires TLS: use a jkcss:// URL")
                self.below.write(frame([pack((error.code, error.detail))]))
            self._turn_away("it came without TLS, which is required here (tls_only)")
            return
        client = self._make()
        self.below.set_protocol(client)
        client.connection_made(self.below)
        client.data_received(data)

    def on_secured(self) -> None:
        self._left()
        certificate = self.transport.channel.certificate()
        try:
            if certificate is not None:
                self.transport.subject = self._tls.subject_of(certificate)
        except TlsFailed as failure:
            self.fail(failure)
            return
        self.inner = self._make()
        self.inner.connection_made(self.transport)

    def on_failed(self, failure: TlsFailed) -> None:
        self._tls.complain(self._remote(), f"TLS failed: {failure}")

    def connection_lost(self, error: Exception | None) -> None:
        self._left()
        super().connection_lost(error)

    def _left(self) -> None:
        self._tls.leave(self)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _turn_away(self, reason: str) -> None:
        self._tls.complain(self._remote(), reason)
        self.below.close()

    def _remote(self) -> str:
        peer = self.below.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else "?"
