"""TLS between peers: both sides show a certificate of the cluster's authority, and it must name the node.

That a certificate is valid says only that the authority gave it out, perhaps to a client. So it must also be for
both sides of a connection (if it says what it is for: serverAuth *and* clientAuth), and must carry, as a subject
alternative name, exactly the name that the node has in the handshake: the URI `jkcs://CLUSTER/NODE`, or the DNS
name NODE when it has no URI of ours. No wildcards, no common name, and no question to any name service.
Called by `tcp.py` and `links.py`.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Self

from journal.credentials import CredentialFiles, Credentials, context_of
from journal.errors import PeerRefused, TlsFailed
from journal.peers.handshake import MAGIC, Refusal, refusal
from journal.tls import HANDSHAKE, NO_TLS, TlsProtocol
from journal.values import NodeId
from journal.x509 import CLIENT_AUTH, SERVER_AUTH, Certificate, read_certificate

if TYPE_CHECKING:
    from journal.peers.links import Accepted, Dialed

URI_PREFIX = "jkcs://"


class PeerTls:
    """The certificates of this node towards its peers."""

    def __init__(self, certificate: Path, key: Path, authorities: Path) -> None:
        """Raises CredentialsRefused when they cannot be used."""
        self._credentials = Credentials(CredentialFiles(certificate, key, authorities), _contexts)

    @classmethod
    def given(cls, certificate: Path | None, key: Path | None, authorities: Path | None) -> Self | None:
        """As the settings say: None when they name no files. Raises CredentialsRefused."""
        if certificate is None or key is None or authorities is None:
            return None
        return cls(certificate, key, authorities)

    def inward(self) -> ssl.SSLContext:
        """For a connection that is accepted now."""
        return self._credentials.at(asyncio.get_running_loop().time())[0]

    def outward(self) -> ssl.SSLContext:
        """For a connection that is dialed now."""
        return self._credentials.at(asyncio.get_running_loop().time())[1]

    def reload(self) -> None:
        """Read the files again now. Connections that stand are not touched."""
        self._credentials.reload()


def _contexts(files: CredentialFiles) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    sides = (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
    inward, outward = (
        context_of(files, side, verify=ssl.CERT_REQUIRED, oldest=ssl.TLSVersion.TLSv1_3) for side in sides
    )
    return inward, outward


def check_names(der: bytes | None, cluster: str, node: NodeId) -> None:
    """Raise PeerRefused unless this certificate, which is valid, is that of `node`."""
    try:
        if der is None:
            raise ValueError("there is none")
        certificate = read_certificate(der)
    except ValueError as error:
        raise PeerRefused(f"the certificate of node {node!r} cannot be read: {error}") from None
    if not (certificate.allows(SERVER_AUTH) and certificate.allows(CLIENT_AUTH)):
        raise PeerRefused(
            f"the certificate {certificate.subject!r} is no peer's: it is not for both serverAuth and clientAuth"
        )
    if not _is_of(certificate, cluster, node):
        found = ", ".join(repr(name) for name in (*certificate.uris, *certificate.dns_names)) or "nothing"
        raise PeerRefused(
            f"the certificate {certificate.subject!r} does not name node {node!r} of cluster {cluster!r}: "
            f"it must have the URI {URI_PREFIX}{cluster}/{node} or the DNS name {node}, and has {found[:256]}"
        )


def _is_of(certificate: Certificate, cluster: str, node: NodeId) -> bool:
    ours = [uri for uri in certificate.uris if uri.startswith(URI_PREFIX)]
    # A URI also says which cluster is meant; beside one, a DNS name would only weaken it.
    return f"{URI_PREFIX}{cluster}/{node}" in ours if ours else node in certificate.dns_names


class SecuredDial(TlsProtocol):
    """Around a connection that this node dialed."""

    inner: Dialed

    def __init__(self, link: Dialed, tls: PeerTls) -> None:
        super().__init__(link, server_side=False)
        self._tls = tls

    def context(self) -> ssl.SSLContext:
        return self._tls.outward()

    def on_begun(self) -> None:
        self.secure()
        self.inner.connection_made(self.transport)

    def on_secured(self) -> None:
        self.inner.secured(self.transport.channel.certificate())

    def on_failed(self, failure: TlsFailed) -> None:
        plain = str(failure) == NO_TLS
        why = "it does not speak TLS with its peers, and this node does" if plain else f"TLS failed: {failure}"
        self.inner.end_by_itself(why)


class SecuredAccept(TlsProtocol):
    """Around a connection that this node accepted."""

    inner: Accepted

    def __init__(self, link: Accepted, tls: PeerTls) -> None:
        super().__init__(link, server_side=True)
        self._tls = tls
        self._first = True

    def context(self) -> ssl.SSLContext:
        return self._tls.inward()

    def on_begun(self) -> None:
        self.secure()
        self.inner.connection_made(self.transport)

    def data_received(self, data: bytes) -> None:
        if self._first and data[:1] == MAGIC[:1]:
            # A node of ours without TLS: it is told so in words that it understands.
            why = Refusal("", "this node speaks TLS with its peers, and that came without")
            self.below.write(refusal(self.inner.network.identity, why))
            self.below.close()
            self.inner.end_by_itself("it is a peer without TLS, and this node speaks TLS")
        self._first = False
        super().data_received(data)

    def on_secured(self) -> None:
        self.inner.certificate = self.transport.channel.certificate()

    def on_failed(self, failure: TlsFailed) -> None:
        self.inner.end_by_itself(f"TLS failed: {failure}")


def came_with_tls(received: bytes) -> bool:
    """Whether this is how a connection with TLS begins, to a node that expects none."""
    return received[:1] == bytes((HANDSHAKE,))
